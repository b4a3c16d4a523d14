"""Gradients of torch.linalg, and gradients of gradients, against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def on_numpy() -> Any:
    """Rules are made of functions that are tested on every device elsewhere."""
    before = lazytorch.get_default_device()
    lazytorch.set_default_device("numpy")
    yield
    lazytorch.set_default_device(before)


def random(*shape: int, seed: int = 0, complex_: bool = False) -> np.ndarray:
    generator = np.random.default_rng(seed + sum(shape))
    array = generator.standard_normal(shape)
    return array + 1j * generator.standard_normal(shape) if complex_ else array


def hermitian(m: Any, x: Any) -> Any:
    """A well-conditioned positive definite matrix made of any other."""
    return x @ x.mH + 2 * m.eye(x.shape[-1], dtype=x.dtype)


def squares(x: Any) -> Any:
    """What does not depend on the phases of vectors."""
    return x.abs() ** 2


def _eig(m: Any, a: Any) -> Any:
    # Eigenvalues have no order of their own.
    values = m.linalg.eig(a)[0]
    keys = values.detach().numpy()
    return m.gather(values, -1, m.tensor(np.argsort(keys.real + 0.1 * keys.imag)))


def _product(m: Any, a: Any) -> Any:
    U, _, Vh = m.linalg.svd(a, False)
    return U @ Vh


SQUARE: dict[str, Callable[..., Any]] = {
    "inv": lambda m, a: m.linalg.inv(a),
    "det": lambda m, a: m.linalg.det(a),
    "slogdet": lambda m, a: m.linalg.slogdet(a),
    "logdet": lambda m, a: m.logdet(hermitian(m, a)),
    "solve": lambda m, a, b: m.linalg.solve(a, b),
    "solve from the right": lambda m, a, b: m.linalg.solve(a, b.mT, left=False),
    "solve a vector": lambda m, a, b: m.linalg.solve(a, b[..., 0]),
    "solve_triangular": lambda m, a, b: m.linalg.solve_triangular(a, b, upper=True),
    "unitriangular": lambda m, a, b: m.linalg.solve_triangular(
        a, b.mT, upper=False, left=False, unitriangular=True
    ),
    "cholesky": lambda m, a: m.linalg.cholesky(hermitian(m, a)),
    "cholesky, upper": lambda m, a: m.linalg.cholesky(hermitian(m, a), upper=True),
    "cholesky_solve": lambda m, a, b: m.cholesky_solve(b, a),
    "cholesky_inverse": lambda m, a: m.cholesky_inverse(m.linalg.cholesky(hermitian(m, a))),
    "from the upper factor": lambda m, a: m.cholesky_inverse(
        m.linalg.cholesky(hermitian(m, a), upper=True), upper=True
    ),
    "lu": lambda m, a: m.linalg.lu(a)[1:],
    "lu_factor": lambda m, a: m.linalg.lu_factor(a)[0],
    "lu_solve": lambda m, a, b: m.linalg.lu_solve(*m.linalg.lu_factor(a), b),
    "lu_solve, adjoint": lambda m, a, b: m.linalg.lu_solve(
        *m.linalg.lu_factor(a), b, adjoint=True
    ),
    "qr": lambda m, a: m.linalg.qr(a),
    "eigh": lambda m, a: (
        m.linalg.eigh(hermitian(m, a))[0], squares(m.linalg.eigh(hermitian(m, a))[1])
    ),
    "eigvalsh": lambda m, a: m.linalg.eigvalsh(hermitian(m, a)),
    "eigh of one triangle": lambda m, a: squares(m.linalg.eigh(a + 3 * a.mH)[1]),
    "eigenvalues": _eig,
    "eigenvectors": lambda m, a: squares(m.linalg.eig(a)[1]).sum(-1) ** 2,
    "svd": lambda m, a: (
        squares(m.linalg.svd(a).U), m.linalg.svd(a).S, squares(m.linalg.svd(a).Vh)
    ),
    "svd product": _product,
    "matrix_exp": lambda m, a: m.linalg.matrix_exp(a / 2),
    "pinv": lambda m, a: m.linalg.pinv(a),
    "nuclear norm": lambda m, a: m.linalg.matrix_norm(a, "nuc"),
    "cond": lambda m, a: m.linalg.cond(a),
    "matrix_power": lambda m, a: m.linalg.matrix_power(a, -2),
}  # fmt: skip
OTHERS: dict[str, Callable[..., Any]] = {
    "lu": lambda m, a: m.linalg.lu(a)[1:],
    "qr": lambda m, a: m.linalg.qr(a),
    "svd": lambda m, a: (
        squares(m.linalg.svd(a, False).U), m.linalg.svd(a).S, squares(m.linalg.svd(a, False).Vh)
    ),
    "svd product": _product,
    "pinv": lambda m, a: m.linalg.pinv(a),
    "lstsq": lambda m, a: m.linalg.lstsq(a, m.ones_like(a)[..., :2], driver="gelsd").solution,
    "singular values": lambda m, a: m.linalg.svdvals(a),
}  # fmt: skip


def _close(ours: Any, theirs: Any, bound: float, what: str) -> None:
    a, b = ours.detach().resolve_conj().numpy(), theirs.detach().resolve_conj().numpy()
    assert a.shape == b.shape and a.dtype == b.dtype, what
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=bound, atol=bound * scale, err_msg=what)


def _weighted(m: Any, outs: Any, seed: int) -> Any:
    total = 0
    for number, out in enumerate([outs] if hasattr(outs, "shape") else outs):
        weights = m.tensor(random(*out.shape, seed=seed + number))
        total = total + (weights * (out.real if out.is_complex() else out)).sum()
        if out.is_complex():
            total = total + (weights.flip(-1) * out.imag).sum() if out.ndim else total + out.imag
    return total


def _derivatives(m: Any, function: Any, arrays: Any, second: bool) -> Any:
    sources = [m.tensor(array).requires_grad_() for array in arrays]
    outs = function(m, *sources)
    loss = _weighted(m, outs, 50)
    first = m.autograd.grad(loss, sources, create_graph=second)
    if not second:
        return loss, first, ()
    again = m.autograd.grad(_weighted(m, first, 90), sources, allow_unused=True)
    return loss, first, again


def compare(name: str, function: Any, arrays: Any, second: bool = True) -> None:
    ours = _derivatives(lazytorch, function, arrays, second)
    theirs = _derivatives(torch, function, arrays, second)
    _close(ours[0], theirs[0], 1e-9, name)
    for order, (found, expected) in enumerate(zip(ours[1:], theirs[1:]), 1):
        for number, (one, other) in enumerate(zip(found, expected)):
            if other is not None:
                _close(one, other, 1e-6 * 10**order, f"{name}: order {order}, source {number}")


# Real matrices are complex ones to most rules; these ask which they have.
REAL = ("slogdet", "eigenvalues", "eigenvectors", "eigh", "svd", "svd product")


@pytest.mark.parametrize(
    "name, complex_", [*((name, True) for name in SQUARE), *((name, False) for name in REAL)]
)
def test_square_matrices(name: str, complex_: bool) -> None:
    function = SQUARE[name]
    takes = function.__code__.co_argcount - 1
    arrays = [random(2, 3, 3, complex_=complex_, seed=4), random(2, 3, 2, complex_=complex_)]
    compare(name, function, arrays[:takes])


@pytest.mark.parametrize("shape, complex_", [((4, 2), True), ((2, 3, 4), False)])
@pytest.mark.parametrize("name", OTHERS)
def test_wide_and_tall_matrices(name: str, complex_: bool, shape: Any) -> None:
    compare(name, OTHERS[name], [random(*shape, complex_=complex_)])


def test_products_of_reflections() -> None:
    for complex_ in (False, True):
        arrays = [random(4, 3, complex_=complex_), random(2, complex_=complex_)]
        compare("householder_product", lambda m, a, t: m.linalg.householder_product(a, t), arrays)
        arrays = [random(4, 3, complex_=complex_), random(3, complex_=complex_), random(4, 2) + 0j]
        if not complex_:
            arrays[2] = arrays[2].real
        compare("ormqr", lambda m, a, t, b: m.ormqr(a, t, b, True, True), arrays, second=False)
        arrays[2] = arrays[2].T.copy()
        compare("ormqr", lambda m, a, t, b: m.ormqr(a, t, b, False, False), arrays, second=False)


def test_determinants_of_singular_matrices() -> None:
    """The adjugate also of matrices of rank n - 1 and n - 2, where nothing can be inverted."""
    full = random(3, 3)
    for rank in (2, 1):
        singular = full[:, :rank] @ full[:rank]
        a = lazytorch.tensor(singular, requires_grad=True)
        lazytorch.linalg.det(a).backward()
        minors = np.empty((3, 3))
        for i, j in np.ndindex(3, 3):
            rest = np.delete(np.delete(singular, i, 0), j, 1)
            minors[i, j] = (-1) ** (i + j) * np.linalg.det(rest)
        np.testing.assert_allclose(a.grad.numpy(), minors, atol=1e-12)


def test_least_squares_residuals() -> None:
    arrays = [random(5, 3), random(5, 2)]
    compare("lstsq", lambda m, a, b: m.linalg.lstsq(a, b, driver="gelsd")[:2], arrays, second=False)


def test_what_was_written_since_is_noticed() -> None:
    a = lazytorch.tensor(random(3, 3), requires_grad=True)
    scaled = a * 1
    found = lazytorch.linalg.eigh(scaled)
    scaled.mul_(2)  # the gradient needs the results only
    found.eigenvalues.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.eye(3), atol=1e-12)
    found = lazytorch.linalg.eigh(a * 1)
    with lazytorch.no_grad():
        found.eigenvectors.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.eigenvectors.sum().backward()


def test_few_pairs_of_a_large_matrix() -> None:
    matrix = random(9, 9) @ random(9, 9).T + np.eye(9)
    for largest in (True, False):
        a = lazytorch.tensor(matrix, requires_grad=True)
        values, vectors = lazytorch.lobpcg(a, k=2, largest=largest, tol=1e-12)
        (values.sum() + (vectors**4).sum()).backward()
        b = torch.tensor(matrix, requires_grad=True)
        values, vectors = torch.linalg.eigh(b)
        pick = slice(-2, None) if largest else slice(2)
        (values[pick].sum() + (vectors[:, pick] ** 4).sum()).backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-5)
