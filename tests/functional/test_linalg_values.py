"""torch.linalg without PyTorch: factors multiply to their matrix, results equal NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.runtime import available_devices

L = torch.linalg
_generator = np.random.default_rng(3)
DTYPES = ("float32", "float64", "complex64", "complex128")


# The factors come from the host, so drivers are asked about one real and one complex dtype only.
PLACES = [
    (place, dtype) for place in available_devices() for dtype in DTYPES
    if place == "numpy" or dtype in ("float32", "complex128")
]  # fmt: skip


@pytest.fixture(params=PLACES, ids=lambda pair: "-".join(pair))
def dtype(request: pytest.FixtureRequest) -> Any:
    """A dtype, on each device."""
    before = torch.get_default_device()
    torch.set_default_device(request.param[0])
    yield request.param[1]
    torch.set_default_device(before)


def matrices(*shape: int, dtype: str = "float64") -> np.ndarray:
    array = _generator.standard_normal(shape)
    if dtype.startswith("complex"):
        array = array + 1j * _generator.standard_normal(shape)
    return array.astype(dtype)


def adjoint(array: np.ndarray) -> np.ndarray:
    return np.conj(array.swapaxes(-2, -1))


def positive(*batch: int, size: int = 4, dtype: str = "float64") -> np.ndarray:
    a = matrices(*batch, size, size, dtype=dtype)
    return (a @ adjoint(a) + 2 * np.eye(size)).astype(dtype)


def array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def close(found: Any, expected: Any, what: str = "") -> None:
    value = array(found) if isinstance(found, torch.Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    assert value.shape == expected.shape, what
    coarse = value.dtype in (np.float32, np.complex64)
    bound = 2e-4 if coarse else 1e-9
    np.testing.assert_allclose(value, expected, rtol=bound, atol=bound, err_msg=what)


def test_factors_multiply_to_their_matrix(dtype: str) -> None:
    for shape in ((4, 4), (2, 3, 5), (2, 5, 3)):
        a = matrices(*shape, dtype=dtype)
        x = torch.tensor(a)
        for full in (True, False):
            u, s, vh = map(array, L.svd(x, full_matrices=full))
            short = s.shape[-1]
            close((u[..., :short] * s[..., None, :]) @ vh[..., :short, :], a)
            assert s.dtype == np.empty(0, dtype).real.dtype
        close(L.svdvals(x), np.linalg.svd(a, compute_uv=False))
        p, low, high = map(array, L.lu(x))
        close(p @ low @ high, a)
        packed, pivots = L.lu_factor(x)
        close(torch.lu_unpack(packed, pivots).L, low)
        close(torch.lu_unpack(packed, pivots).P, p)
        for mode in ("reduced", "complete"):
            q, r = map(array, L.qr(x, mode))
            close(q @ r, a)
            close(
                adjoint(q) @ q,
                np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], *[q.shape[-1]] * 2)),
            )
        if shape[-2] >= shape[-1]:
            reflections, tau = torch.geqrf(x)
            close(L.householder_product(reflections, tau), array(L.qr(x).Q))
            other = matrices(*shape[:-2], shape[-2], 2, dtype=dtype)
            full = array(L.qr(x, "complete").Q)
            close(torch.ormqr(reflections, tau, torch.tensor(other)), full @ other)
            turned = torch.ormqr(reflections, tau, torch.tensor(adjoint(other)), False, True)
            close(turned, adjoint(other) @ adjoint(full))


def test_square_matrices(dtype: str) -> None:
    a, b = matrices(2, 4, 4, dtype=dtype), matrices(2, 4, 3, dtype=dtype)
    x, y = torch.tensor(a), torch.tensor(b)
    close(L.inv(x), np.linalg.inv(a))
    close(L.det(x), np.linalg.det(a))
    close(L.solve(x, y), np.linalg.solve(a, b))
    close(L.solve(x, torch.tensor(adjoint(b)), left=False), adjoint(np.linalg.solve(adjoint(a), b)))
    sign, size = L.slogdet(x)
    close(sign * torch.exp(size), np.linalg.det(a))
    packed, pivots = L.lu_factor(x)
    close(L.lu_solve(packed, pivots, y), np.linalg.solve(a, b))
    close(L.lu_solve(packed, pivots, y, adjoint=True), np.linalg.solve(adjoint(a), b))
    values, vectors = map(array, L.eig(x))
    close(a @ vectors, vectors * values[..., None, :])
    close(np.sort(array(L.eigvals(x))), np.sort(values))
    close(L.matrix_power(x, -2), np.linalg.matrix_power(a, -2))
    close(L.pinv(torch.tensor(b)), np.linalg.pinv(b))
    from scipy.linalg import expm

    close(L.matrix_exp(x), np.stack([expm(one) for one in a]))
    for upper in (True, False):
        triangle = np.triu(a) if upper else np.tril(a)
        close(L.solve_triangular(x, y, upper=upper), np.linalg.solve(triangle, b))


def test_hermitian_matrices(dtype: str) -> None:
    a, b = positive(2, dtype=dtype), matrices(2, 4, 3, dtype=dtype)
    x, y = torch.tensor(a), torch.tensor(b)
    values, vectors = map(array, L.eigh(x))
    close((vectors * values[..., None, :]) @ adjoint(vectors), a)
    close(L.eigvalsh(x, "U"), np.linalg.eigvalsh(a))
    for upper in (False, True):
        factor = L.cholesky(x, upper=upper)
        lower = adjoint(array(factor)) if upper else array(factor)
        close(lower @ adjoint(lower), a)
        close(torch.cholesky_inverse(factor, upper), np.linalg.inv(a))
        close(torch.cholesky_solve(y, factor, upper), np.linalg.solve(a, b))
    # An indefinite one, so that blocks of two appear.
    indefinite = a - 6 * np.eye(4, dtype=dtype) + 9 * np.eye(4, dtype=dtype)[::-1]
    packed, pivots = L.ldl_factor(torch.tensor(indefinite), hermitian=True)
    assert (array(pivots) < 0).any()
    close(L.ldl_solve(packed, pivots, y, hermitian=True), np.linalg.solve(indefinite, b))


def test_norms_and_ranks(each_device: str) -> None:
    a = matrices(3, 4, 5)
    x = torch.tensor(a)
    for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        close(L.matrix_norm(x, ord), np.linalg.norm(a, ord, (-2, -1)), str(ord))
        close(L.norm(x, ord, dim=(2, 0)), np.linalg.norm(a, ord, (2, 0)), str(ord))
        close(L.cond(x[..., :4], ord), np.linalg.cond(a[..., :4], ord), str(ord))
    close(torch.norm(x[0], "nuc"), np.linalg.norm(a[0], "nuc"))
    low = a[:, :, :2] @ a[:, :2, :]
    assert L.matrix_rank(torch.tensor(low)).tolist() == [2, 2, 2]
    assert L.matrix_rank(x, atol=1e6).tolist() == [0, 0, 0]
    assert L.cond(torch.ones(2, 2), 1).item() == float("inf")


def test_least_squares(each_device: str) -> None:
    for shape in ((5, 3), (3, 5), (2, 5, 3)):
        a, b = matrices(*shape), matrices(*shape[:-1], 2)
        expected = np.linalg.pinv(a) @ b
        for driver in ("gels", "gelsy", "gelsd", "gelss"):
            found = L.lstsq(torch.tensor(a), torch.tensor(b), driver=driver)
            close(found.solution, expected, driver)
    residuals = (np.abs(a @ expected - b) ** 2).sum(-2)
    close(found.residuals, residuals)
    assert found.rank.tolist() == [3, 3]
    close(found.singular_values, np.linalg.svd(a, compute_uv=False))


def test_tensors_as_matrices() -> None:
    a, b = matrices(4, 6, 8, 3), matrices(4, 6)
    close(L.tensorinv(torch.tensor(a)), np.linalg.tensorinv(a))
    close(L.tensorsolve(torch.tensor(a), torch.tensor(b)), np.linalg.tensorsolve(a, b))
    chain = [matrices(2, 7), matrices(7, 3), matrices(3, 5), matrices(5)]
    close(L.multi_dot([torch.tensor(one) for one in chain]), np.linalg.multi_dot(chain))
    x = matrices(5)
    close(L.vander(torch.tensor(x), 3), np.vander(x, 3, increasing=True))


def test_low_rank_and_few_pairs() -> None:
    torch.manual_seed(0)
    a = matrices(9, 3) @ matrices(3, 7)
    u, s, v = map(array, torch.svd_lowrank(torch.tensor(a), 4))
    close((u * s) @ v.T, a)
    u, s, v = map(array, torch.pca_lowrank(torch.tensor(a), 3))
    close((u * s) @ v.T, a - a.mean(0))
    matrix = positive(size=12)
    values, vectors = torch.lobpcg(torch.tensor(matrix), k=2, tol=1e-8)
    expected = np.linalg.eigvalsh(matrix)[::-1][:2]
    np.testing.assert_allclose(array(values), expected, rtol=1e-6)
    np.testing.assert_allclose(matrix @ array(vectors), array(vectors * values), atol=1e-3)


def test_views_and_empty_matrices() -> None:
    a = matrices(6, 8)
    x = torch.tensor(a)[::2, 1:4].T
    close(L.inv(x), np.linalg.inv(a[::2, 1:4].T))
    close(torch.det(x), np.linalg.det(a[::2, 1:4].T))
    nothing, none = torch.zeros(0, 0), torch.zeros(0, 3, 3)
    assert L.det(nothing).item() == 1 and L.det(none).shape == (0,)
    for function in (L.inv, L.cholesky, L.matrix_exp, L.pinv):
        assert function(nothing).shape == (0, 0) and function(none).shape == (0, 3, 3)
    for function in (L.eigh, L.svd, L.qr, L.eig, L.slogdet, L.lu_factor, L.ldl_factor):
        assert all(part.shape[0] == 0 for part in function(none))
    assert L.solve(torch.eye(3), torch.zeros(3, 0)).numpy().shape == (3, 0)
    assert L.solve_triangular(torch.eye(3), torch.zeros(3, 0) + 1, upper=True).numpy().size == 0


def test_vectors_broadcasting_and_out() -> None:
    a, b = matrices(3, 4, 4), matrices(4)
    x, y = torch.tensor(a), torch.tensor(b)
    close(L.solve(x, y), np.stack([np.linalg.solve(one, b) for one in a]))
    close(
        L.solve(x[0], torch.tensor(matrices(3, 4, 2)) * 0 + 1),
        np.linalg.solve(a[:1], np.ones((3, 4, 2))),
    )
    target = torch.empty(3, 4, 4, dtype=torch.float64)
    assert L.inv(x, out=target) is target
    close(target, np.linalg.inv(a))
    sign, size = torch.empty(3).double(), torch.empty(3).double()
    assert L.slogdet(x, out=(sign, size)).sign is sign
    close(size, np.linalg.slogdet(a)[1])


def test_information_instead_of_errors() -> None:
    singular = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    inverse, info = L.inv_ex(singular)
    assert info.tolist() == [0, 2] and info.dtype is torch.int32
    assert not torch.isfinite(inverse[1]).all()
    assert L.solve_ex(singular, torch.ones(2)).info.tolist() == [0, 2]
    assert L.lu_factor_ex(singular).info.tolist() == [0, 2]
    assert L.cholesky_ex(-torch.eye(2)).info.item() == 1
    assert L.det(singular).tolist() == [1, 0]
    assert L.slogdet(singular).logabsdet.tolist() == [0, float("-inf")]


def test_names_and_printed_form() -> None:
    assert len(L.__all__) == 42 and all(hasattr(L, name) for name in L.__all__)
    text = repr(L.slogdet(torch.eye(2)))
    assert text == "torch.return_types.linalg_slogdet(\nsign=tensor(1.),\nlogabsdet=tensor(0.))"
    x = torch.eye(2, requires_grad=True)
    assert type(L.svd(x).S.grad_fn).__name__ == "LinalgSvdBackward0"
    assert type(torch.det(x).grad_fn).__name__ == "LinalgDetBackward0"
