"""What torch.linalg refuses, with PyTorch's classes of exceptions, and when it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import linalg as L

SINGULAR = [[1.0, 2.0], [2.0, 4.0]]


def test_errors_about_values_come_at_once() -> None:
    singular = lazytorch.tensor(SINGULAR)
    batch = lazytorch.stack([lazytorch.eye(2), singular])
    with pytest.raises(L.LinAlgError, match=r"linalg.inv: The diagonal element 2 is zero"):
        L.inv(singular)
    with pytest.raises(L.LinAlgError, match=r"linalg.inv: \(Batch element 1\): The diagonal"):
        L.inv(batch)
    with pytest.raises(L.LinAlgError, match=r"solve: The solver failed because"):
        L.solve(singular, lazytorch.ones(2))
    with pytest.raises(L.LinAlgError, match="leading minor of order 1 is not positive-definite"):
        L.cholesky(-lazytorch.eye(2))
    with pytest.raises(L.LinAlgError, match=r"linalg\.inv_ex"):
        L.inv_ex(singular, check_errors=True)
    with pytest.raises(L.LinAlgError, match="non-finite"):
        L.svd(lazytorch.full((2, 2), float("nan")))
    with pytest.raises(RuntimeError, match=r"U\[2,2\] is zero"):
        L.lu_factor(singular)
    assert issubclass(L.LinAlgError, RuntimeError)
    with pytest.raises(RuntimeError, match="should not contain infs or NaNs"):
        L.eig(lazytorch.full((2, 2), float("inf")))


def _square(name: str) -> Callable[[Any], Any]:
    return lambda torch: getattr(torch.linalg, name)(torch.ones(3, 4))


def _vector(name: str) -> Callable[[Any], Any]:
    return lambda torch: getattr(torch.linalg, name)(torch.ones(3))


def _integer(name: str) -> Callable[[Any], Any]:
    return lambda torch: getattr(torch.linalg, name)(torch.ones(3, 3, dtype=torch.int64))


def _half(name: str) -> Callable[[Any], Any]:
    return lambda torch: getattr(torch.linalg, name)(torch.ones(3, 3, dtype=torch.float16))


SQUARE = ("inv", "det", "slogdet", "cholesky", "eig", "eigh", "ldl_factor", "matrix_exp", "inv_ex",
          "cholesky_ex")  # fmt: skip
MATRIX = (*SQUARE, "svd", "qr", "lu_factor", "lu", "pinv", "cond", "matrix_rank", "matrix_norm")


def _backward(torch: Any, mode: str) -> None:
    torch.linalg.qr(torch.ones(4, 3, requires_grad=True), mode).R.sum().backward()


REFUSALS: list[Callable[[Any], Any]] = [
    *map(_square, SQUARE), *map(_vector, MATRIX), *map(_integer, MATRIX),
    *(_half(name) for name in MATRIX if name not in ("matrix_exp", "matrix_norm")),
    lambda torch: torch.linalg.solve(torch.eye(3), torch.ones(2, 4)),
    lambda torch: torch.linalg.solve(torch.eye(3), torch.eye(3).double()),
    lambda torch: torch.linalg.solve(torch.eye(3), torch.ones(())),
    lambda torch: torch.linalg.solve(torch.eye(3), torch.ones(3), left=False),
    lambda torch: torch.linalg.solve_triangular(torch.ones(3, 4), torch.eye(3), upper=True),
    lambda torch: torch.linalg.solve_triangular(torch.eye(3), torch.ones(3), upper=True),
    lambda torch: torch.linalg.solve_triangular(torch.eye(3), torch.ones(4, 2), upper=True),
    lambda torch: torch.linalg.solve(torch.eye(3), torch.ones(4, 2), left=False),
    lambda torch: torch.linalg.lstsq(torch.eye(3), torch.ones(4, 2)),
    lambda torch: torch.linalg.lstsq(torch.eye(3), torch.ones(3, 1), driver="x"),
    lambda torch: torch.linalg.lstsq(torch.ones(3), torch.ones(3)),
    lambda torch: torch.linalg.lstsq(torch.eye(3), torch.eye(3).double()),
    lambda torch: torch.linalg.qr(torch.eye(3), mode="x"),
    lambda torch: torch.linalg.eigh(torch.eye(3), UPLO="X"),
    lambda torch: torch.linalg.lu(torch.eye(3), pivot=False),
    lambda torch: torch.linalg.lu_solve(torch.eye(3), torch.ones(3), torch.eye(3)),
    lambda torch: torch.linalg.lu_solve(torch.eye(3), torch.ones(2).int(), torch.eye(3)),
    lambda torch: torch.linalg.lu_solve(torch.eye(3), torch.ones(3).int(), torch.eye(3).double()),
    lambda torch: torch.linalg.ldl_solve(torch.eye(3), torch.ones(3), torch.eye(3)),
    lambda torch: torch.linalg.ldl_solve(torch.eye(3), torch.ones(3).int(), torch.ones(2, 4)),
    lambda torch: torch.linalg.householder_product(torch.ones(3, 4), torch.ones(3)),
    lambda torch: torch.linalg.householder_product(torch.ones(4, 3), torch.ones(3).double()),
    lambda torch: torch.linalg.householder_product(torch.ones(4, 3), torch.ones(4)),
    lambda torch: torch.ormqr(torch.ones(3, 3), torch.ones(3), torch.ones(2, 3)),
    lambda torch: torch.linalg.matrix_power(torch.ones(3, 4), 2),
    lambda torch: torch.linalg.matrix_power(torch.zeros(3, 3), -1),
    lambda torch: torch.linalg.cond(torch.eye(3), "x"),
    lambda torch: torch.linalg.cond(torch.eye(3), 3),
    lambda torch: torch.linalg.cond(torch.ones(3, 4), 1),
    lambda torch: torch.linalg.matrix_norm(torch.eye(3), 3),
    lambda torch: torch.linalg.matrix_norm(torch.eye(3), dim=(0, 0)),
    lambda torch: torch.linalg.matrix_norm(torch.eye(3), dim=(0,)),
    lambda torch: torch.linalg.norm(torch.ones(2, 2, 2), 2),
    lambda torch: torch.linalg.norm(torch.ones(3), "nuc"),
    lambda torch: torch.linalg.norm(torch.eye(3), "nuc", dim=0),
    lambda torch: torch.linalg.tensorinv(torch.ones(2, 3, 4), ind=2),
    lambda torch: torch.linalg.tensorinv(torch.eye(3), ind=0),
    lambda torch: torch.linalg.tensorsolve(torch.ones(2, 3, 4), torch.ones(2, 3)),
    lambda torch: torch.linalg.multi_dot([torch.eye(3)]),
    lambda torch: torch.linalg.multi_dot([torch.eye(3), torch.ones(4, 3)]),
    lambda torch: torch.linalg.multi_dot([torch.eye(3), torch.ones(1, 1, 1), torch.eye(3)]),
    lambda torch: torch.linalg.multi_dot([torch.eye(3), torch.eye(3).double()]),
    lambda torch: torch.linalg.vander(torch.ones(3), N=0),
    lambda torch: torch.linalg.vecdot(torch.ones(3), torch.ones(3).double()),
    lambda torch: torch.linalg.cross(torch.ones(3), torch.ones(4)),
    lambda torch: torch.linalg.svd(torch.eye(3), driver="gesvd"),
    lambda torch: torch.cholesky(-torch.eye(3)),
    lambda torch: torch.cholesky_solve(torch.eye(3), torch.ones(3, 4)),
    lambda torch: torch.cholesky_solve(torch.ones(4, 3), torch.eye(3)),
    lambda torch: torch.cholesky_inverse(torch.zeros(3, 3)),
    lambda torch: torch.triangular_solve(torch.eye(3), torch.ones(3, 4)),
    lambda torch: torch.triangular_solve(torch.ones(4, 3), torch.eye(3)),
    lambda torch: torch.logdet(torch.ones(3, 4)),
    lambda torch: torch.lu_unpack(torch.eye(3), torch.ones(3)),
    lambda torch: torch.lu_unpack(torch.eye(3), torch.tensor([7, 1, 1]).int()),
    lambda torch: torch.geqrf(torch.ones(3)),
    lambda torch: torch.svd(torch.ones(3)),
    lambda torch: torch.pca_lowrank(torch.ones(3, 4), q=9),
    lambda torch: torch.lobpcg(torch.ones(3, 4)),
    lambda torch: torch.lobpcg(torch.eye(3), k=2),
    lambda torch: torch.norm(torch.eye(3), "x"),
    *(lambda torch, mode=mode: _backward(torch, mode) for mode in ("complete", "r")),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSALS)))
def test_the_same_is_refused(number: int) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as expected:
        REFUSALS[number](torch)
    known = expected.type.__module__ == "builtins"
    with pytest.raises(expected.type if known else L.LinAlgError) as raised:
        REFUSALS[number](lazytorch)
    ours, theirs = str(raised.value), str(expected.value)
    # The facts: which function, and the numbers that were given.
    assert ours.split(":")[0].split("(")[0] == theirs.split(":")[0].split("(")[0], (ours, theirs)
    assert [c for c in ours if c.isdigit()] == [c for c in theirs if c.isdigit()], (ours, theirs)


def test_gradients_that_depend_on_phases_are_refused() -> None:
    generator = np.random.default_rng(0)
    array = generator.standard_normal((3, 3)) + 1j * generator.standard_normal((3, 3))
    for function, pick in ((L.eig, 1), (L.svd, 0)):
        a = lazytorch.tensor(array, requires_grad=True)
        vectors = function(a)[pick]
        with pytest.raises(RuntimeError, match="ill-defined"):
            vectors.real.sum().backward()
