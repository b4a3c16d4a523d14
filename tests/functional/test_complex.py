"""Complex tensors: values against NumPy on every device, views, and gradients against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from tests.programs import compute

_generator = np.random.default_rng(3)
A = _generator.standard_normal((4, 3)) + 1j * _generator.standard_normal((4, 3))
B = _generator.standard_normal((4, 3)) + 1j * _generator.standard_normal((4, 3))
R = _generator.standard_normal((4, 3))


_NUMPY = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh",
    "acosh": "arccosh", "atanh": "arctanh",
}  # fmt: skip
UNARY = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "sinh",
    "cosh", "tanh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "square", "reciprocal",
    "abs", "angle", "conj", "isnan", "isfinite", "isinf",
)  # fmt: skip


def test_functions_of_one_number(each_device):
    x = torch.tensor(A)
    results = {name: getattr(torch, name)(x) for name in UNARY}
    compute(*results.values())
    for name, result in results.items():
        expected = getattr(np, _NUMPY.get(name, name))(A)
        np.testing.assert_allclose(result.cpu().numpy(), expected, 1e-12, 1e-14, err_msg=name)


def test_layouts(each_device):
    x = torch.tensor(A)
    pairs = [(x.T, A.T), (x[::2, 1:], A[::2, 1:]), (x[1, 1], A[1, 1]), (x[:0], A[:0]),
             (x[:, :1].expand(4, 5), A[:, :1].repeat(5, 1))]  # fmt: skip
    for ours, array in pairs:
        result = ours * 2j + ours.conj()
        np.testing.assert_allclose(result.cpu().numpy(), array * 2j + array.conj())


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_arithmetic_reductions_and_products(each_device, dtype):
    a, b = A.astype(dtype), B.astype(dtype)
    x, y, r = torch.tensor(a), torch.tensor(b), torch.tensor(R, dtype=torch.float32)
    tolerance = 1e-5 if dtype == "complex64" else 1e-6
    pairs = [
        (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (x * r, a * R),
        (2j * x, 2j * a), (x**2, a**2), (x**-3, a**-3.0), (x**0.5, a**0.5), (x**y, a**b),
        (x.sum(0), a.sum(0)), (x.mean(), a.mean()), (x.prod(1), a.prod(1)),
        (x.cumsum(0), a.cumsum(0)), (x.cumprod(1), a.cumprod(1)),
        (x.var(0, correction=0), a.var(0)), (torch.where(r > 0, x, y), np.where(R > 0, a, b)),
        (x @ y.T, a @ b.T), (x @ y[0], a @ b[0]), (torch.vdot(x[0], y[0]), np.vdot(a[0], b[0])),
        (torch.cat([x, y], 1), np.hstack([a, b])), (x[[0, 2, 0]], a[[0, 2, 0]]),
        (x == y, a == b), (x.norm(), np.linalg.norm(a)),
    ]  # fmt: skip
    compute(*(ours for ours, _ in pairs))
    for number, (ours, expected) in enumerate(pairs):
        found = ours.cpu().numpy()
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=number)


def test_magnitudes_neither_overflow_nor_vanish(each_device):
    z = torch.tensor(np.array([3e200 + 4e200j, 3e-200 + 4e-200j, 0j, complex(float("inf"), 1)]))
    np.testing.assert_allclose(z.abs().cpu().numpy(), [5e200, 5e-200, 0, np.inf], rtol=1e-14)
    one = torch.ones(4, dtype=torch.complex128)
    np.testing.assert_allclose((one / z).cpu().numpy()[:2], 1 / z.cpu().numpy()[:2], rtol=1e-14)


def test_parts_share_memory(each_device):
    z = torch.zeros(2, 3, dtype=torch.complex64)
    z.real[0] = 2.0
    z.imag = torch.tensor([1.0, 2.0, 3.0])
    torch.view_as_real(z[:, 1])[1, 0] = 7.0
    assert z.tolist() == [[2 + 1j, 2 + 2j, 2 + 3j], [1j, 7 + 2j, 3j]]
    pairs = torch.zeros(3, 2)
    torch.view_as_complex(pairs)[1:] = 2 + 3j
    assert pairs.tolist() == [[0, 0], [2, 3], [2, 3]]
    assert torch.view_as_complex(pairs)._is_view()


def test_memory_shared_with_numpy():
    array = np.zeros(2, np.complex64)
    z = torch.from_numpy(array)
    z.real.fill_(3.0)
    assert array.tolist() == [3, 3]
    array[0] = 1j
    assert z.imag.tolist() == [1, 0]


def test_types():
    assert (torch.tensor([1.0]) * 1j).dtype is torch.complex64
    assert (torch.tensor([1.0], dtype=torch.float64) * 1j).dtype is torch.complex128
    assert (torch.tensor([1]) + torch.tensor(1j)).dtype is torch.complex64
    assert torch.result_type(torch.tensor([1j]), torch.tensor([1.0]).double()) is torch.complex128
    assert torch.complex64.is_complex and torch.complex64.to_real() is torch.float32
    assert torch.tensor([1 + 2j]).to(torch.float32).item() == 1.0
    assert torch.tensor([1.5]).to(torch.complex128).item() == 1.5
    assert torch.tensor([0j, 1j]).bool().tolist() == [False, True]


def test_printed_form():
    z = torch.tensor([1 + 2j, -3.5 - 10.25j])
    assert repr(z) == "tensor([ 1.0000+2.0000j, -3.5000-10.2500j])"
    assert repr(z.to(torch.complex128)[0]) == "tensor(1.+2.j, dtype=torch.complex128)"


def test_errors():
    z = torch.tensor([1j])
    with pytest.raises(RuntimeError, match="non-complex"):
        torch.imag(torch.ones(2))
    with pytest.raises(RuntimeError, match="last dimension of size 2"):
        torch.view_as_complex(torch.ones(3))
    with pytest.raises(RuntimeError, match="only supported for complex"):
        torch.view_as_real(torch.ones(3))
    with pytest.raises(RuntimeError, match="Expected object of scalar type Float"):
        torch.complex(torch.ones(1), torch.ones(1).double())
    with pytest.raises(NotImplementedError, match="complex32"):
        torch.complex(torch.ones(1).half(), torch.ones(1).half())
    with pytest.raises(NotImplementedError, match="'ComplexDouble'"):
        torch.floor(z.to(torch.complex128))
    with pytest.raises(RuntimeError, match="sgn"):
        torch.sign(z)
    with pytest.raises(NotImplementedError, match="not implemented for 'ComplexFloat'"):
        torch.lt(z, z)


GRADIENTS: dict[str, Callable[..., Any]] = {
    "mul": lambda t, x, y, r: x * y,
    "div": lambda t, x, y, r: x / y,
    "mixed": lambda t, x, y, r: x * r + r,
    "pow": lambda t, x, y, r: x**y + 2**x + x**r + x**3,
    "abs": lambda t, x, y, r: x.abs() * x.angle(),
    "sgn": lambda t, x, y, r: x.sgn() + x.reciprocal(),
    "exp": lambda t, x, y, r: x.exp() + x.log() + x.sqrt(),
    "trigonometry": lambda t, x, y, r: x.sin() * x.cos() + x.tan() * x.tanh(),
    "inverse": lambda t, x, y, r: x.asin() + x.acos() + x.atan() + x.asinh() + x.atanh(),
    "reductions": lambda t, x, y, r: x.sum(0) + x.mean(0) + x.prod(0),
    "scans": lambda t, x, y, r: x.cumsum(0) * x.cumprod(1),
    "matmul": lambda t, x, y, r: x @ y.T,
    "einsum": lambda t, x, y, r: t.einsum("ij,kj->ik", x, y),
    "parts": lambda t, x, y, r: x.real * x.imag + t.view_as_real(y)[..., 0],
    "joined": lambda t, x, y, r: t.complex(r, r * r) * t.polar(r * r, r),
    "pairs": lambda t, x, y, r: t.view_as_complex(r.repeat(1, 2).reshape(4, 3, 2)) * x,
    "conj": lambda t, x, y, r: x.conj() * t.vdot(x[0], y[1]),
    "moments": lambda t, x, y, r: x.var(0) + y.std(0) + x.norm(),
    "written": lambda t, x, y, r: t.where(r > 0, x, y).index_fill(0, t.tensor([1]), 2j),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_follow_pytorch(name):
    peer = pytest.importorskip("torch")
    function = GRADIENTS[name]
    ours = [torch.tensor(array, requires_grad=True) for array in (A, B, R)]
    theirs = [peer.tensor(array, requires_grad=True) for array in (A, B, R)]
    result, expected = function(torch, *ours), function(peer, *theirs)
    weights = _generator.standard_normal(tuple(expected.shape))
    if expected.is_complex():
        weights = weights * (1 + 0.5j)
    expected.backward(peer.tensor(weights))
    result.backward(torch.tensor(weights))
    compute(result, *(mine.grad for mine in ours))
    np.testing.assert_allclose(result.detach().numpy(), expected.detach().resolve_conj().numpy())
    for mine, other in zip(ours, theirs):
        if other.grad is None:
            assert mine.grad is None or not mine.grad.numpy().any()
        else:
            np.testing.assert_allclose(
                mine.grad.numpy(), other.grad.resolve_conj().numpy(), rtol=1e-9, atol=1e-12
            )


def test_gradient_of_gradient():
    x = torch.tensor(A[0], requires_grad=True)
    (slope,) = torch.autograd.grad((x * x * x).abs().sum(), x, create_graph=True)
    slope.abs().sum().backward()
    # d|z^3| = 3 |z| z (as dL/dx + i dL/dy), whose magnitude is 3 |z|^2 with gradient 6 z.
    np.testing.assert_allclose(x.grad.numpy(), 6 * A[0], rtol=1e-9)
