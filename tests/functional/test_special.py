"""torch.special: values against SciPy on every device, edges and gradients against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

import lazytorch as torch
from lazytorch import engine
from lazytorch.tensor.storage import node_of

INF, NAN = math.inf, math.nan
X = np.linspace(-6, 6, 41)
POSITIVE = np.linspace(0.1, 9, 41)
INSIDE = np.linspace(-0.95, 0.95, 41)
EDGES = np.array(
    [0.0, -0.0, INF, -INF, NAN, -1, -2, -0.5, -2.5, 0.5, 1, 2, 1e-300, 1e300, -1e300, 30, -30, 700]
)

ONE = {
    "airy_ai": lambda x: special.airy(x)[0], "bessel_j0": special.j0, "bessel_j1": special.j1,
    "bessel_y0": special.y0, "bessel_y1": special.y1, "digamma": special.digamma,
    "entr": special.entr, "erfcx": special.erfcx, "erfinv": special.erfinv, "i0": special.i0,
    "i0e": special.i0e, "i1": special.i1, "i1e": special.i1e, "log_ndtr": special.log_ndtr,
    "modified_bessel_i0": special.i0, "modified_bessel_i1": special.i1,
    "modified_bessel_k0": special.k0, "modified_bessel_k1": special.k1, "ndtr": special.ndtr,
    "ndtri": special.ndtri, "psi": special.digamma, "scaled_modified_bessel_k0": special.k0e,
    "scaled_modified_bessel_k1": special.k1e,
    "spherical_bessel_j0": lambda x: special.spherical_jn(0, x),
}  # fmt: skip
POLYNOMIALS = {
    "chebyshev_polynomial_t": special.eval_chebyt, "chebyshev_polynomial_u": special.eval_chebyu,
    "shifted_chebyshev_polynomial_t": special.eval_sh_chebyt,
    "shifted_chebyshev_polynomial_u": special.eval_sh_chebyu,
    "hermite_polynomial_h": special.eval_hermite, "hermite_polynomial_he": special.eval_hermitenorm,
    "laguerre_polynomial_l": special.eval_laguerre, "legendre_polynomial_p": special.eval_legendre,
}  # fmt: skip


def test_functions_of_one_number(each_device):
    x = torch.tensor(X)
    results = {name: getattr(torch.special, name)(x) for name in ONE}
    engine.realize([node_of(result) for result in results.values()])
    for name, result in results.items():
        with np.errstate(all="ignore"):
            expected = ONE[name](X)
        np.testing.assert_allclose(result.cpu().numpy(), expected, 1e-12, 1e-14, err_msg=name)


def test_functions_of_two_numbers(each_device):
    x, y = torch.tensor(POSITIVE), torch.tensor(POSITIVE[:, None] + 0.25)
    first, second = np.broadcast_arrays(POSITIVE, POSITIVE[:, None] + 0.25)
    pairs = [
        (torch.igamma(x, y), special.gammainc(first, second)),
        (torch.special.gammaincc(x, y), special.gammaincc(first, second)),
        (torch.special.zeta(x + 1, y), special.zeta(first + 1, second)),
        (torch.special.xlog1py(x, y), special.xlog1py(first, second)),
        (torch.special.xlog1py(0, y * 0 - 1), 0 * second[:, :1]),
        (torch.polygamma(2, x), special.polygamma(2, POSITIVE)),
        (torch.special.multigammaln(x + 2, 3), special.multigammaln(POSITIVE + 2, 3)),
    ]
    for number, (ours, expected) in enumerate(pairs):
        np.testing.assert_allclose(ours.cpu().numpy(), expected, 1e-11, 1e-13, err_msg=str(number))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name):
    degrees = np.array([[0], [1], [2], [3], [7], [12]])
    function = getattr(torch.special, name)
    for x in (INSIDE, X):
        found = function(torch.tensor(x), torch.tensor(degrees)).numpy()
        np.testing.assert_allclose(found, POLYNOMIALS[name](degrees, x), rtol=1e-9, atol=1e-9)
    assert function(torch.tensor([0.5]), -1).item() == 0
    assert function(torch.tensor([0.5]), 2.9).item() == function(torch.tensor([0.5]), 2).item()


def test_chebyshev_polynomials_of_the_third_and_fourth_kind():
    angle = np.arccos(INSIDE)
    x, half = torch.tensor(INSIDE), torch.tensor((INSIDE + 1) / 2)
    for n in (0, 1, 2, 5, 9, 20):
        third = np.cos((n + 0.5) * angle) / np.cos(angle / 2)
        fourth = np.sin((n + 0.5) * angle) / np.sin(angle / 2)
        for kind, expected in (("v", third), ("w", fourth)):
            plain = getattr(torch.special, f"chebyshev_polynomial_{kind}")(x, n)
            shifted = getattr(torch.special, f"shifted_chebyshev_polynomial_{kind}")(half, n)
            np.testing.assert_allclose(plain.numpy(), expected, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(shifted.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_layouts_and_sizes(each_device):
    x = torch.tensor(POSITIVE[:12]).reshape(3, 4)
    array = POSITIVE[:12].reshape(3, 4)
    for ours, expected in ((x.T, array.T), (x[:, ::2], array[:, ::2]), (x[1, 1], array[1, 1])):
        found = torch.special.i1e(ours + 0).cpu().numpy()
        np.testing.assert_allclose(found, special.i1e(expected), rtol=1e-12)
        found = torch.special.zeta(2.0, ours).cpu().numpy()
        np.testing.assert_allclose(found, special.zeta(2.0, expected), rtol=1e-12)
    assert torch.igamma(torch.ones(0, 3), torch.ones(3)).shape == (0, 3)
    assert torch.special.ndtri(torch.ones(2, 0, dtype=torch.int64)).dtype is torch.float32
    assert torch.digamma(torch.tensor(1.0)).item() == pytest.approx(-0.5772157)


def test_types():
    for dtype in (torch.int64, torch.uint8, torch.bool):
        assert torch.special.bessel_j0(torch.ones(2, dtype=dtype)).dtype is torch.float32
        assert torch.special.hermite_polynomial_h(torch.ones(2, dtype=dtype), 2).dtype is (
            torch.float32
        )
    for dtype in (torch.float16, torch.bfloat16):
        half = torch.ones(2, dtype=dtype)
        assert torch.special.i0e(half).dtype is dtype
        assert torch.special.i0e(half)[0].item() == pytest.approx(0.46576, rel=1e-2)
        assert torch.igamma(half, half).dtype is dtype
        for name in ("airy_ai", "ndtri", "erfcx", "modified_bessel_k0"):
            with pytest.raises(NotImplementedError, match=f'"{name}_cpu" not implemented for'):
                getattr(torch.special, name)(half)
    with pytest.raises(NotImplementedError, match="'ComplexFloat'"):
        torch.special.i1(torch.ones(2) * 1j)


def test_in_place_forms_and_out():
    x = torch.tensor([1.5, 2.5])
    expected = torch.polygamma(1, x)
    assert torch.equal(x.polygamma(1), expected)
    out = torch.empty(2)
    assert torch.special.i1(x, out=out) is out
    np.testing.assert_allclose(out.numpy(), special.i1([1.5, 2.5]), rtol=1e-6)
    for name, args in (("polygamma", (1,)), ("mvlgamma", (2,)), ("igamma", (x.clone(),))):
        changed = x.clone()
        returned = getattr(changed, name + "_")(*args)
        assert returned is changed
        assert torch.equal(changed, getattr(x, name)(*args))
    whole = torch.tensor([1, 2])
    with pytest.raises(RuntimeError, match="can't be cast"):
        whole.igamma_(x)
    assert whole.tolist() == [1, 2]


def test_errors():
    x = torch.ones(2)
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        torch.special.airy_ai(2.0)
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        torch.igamma(x, 2.0)
    with pytest.raises(NotImplementedError, match="\"igamma_cpu\" not implemented for 'Long'"):
        torch.igamma(torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(TypeError, match="one of them must be a Tensor"):
        torch.special.zeta(2, 3)
    with pytest.raises(RuntimeError, match="negative n"):
        torch.polygamma(-1, x)
    with pytest.raises(TypeError, match="must be int, not float"):
        torch.polygamma(1.0, x)
    with pytest.raises(RuntimeError, match="greater than or equal to 1"):
        torch.mvlgamma(x, 0)
    with pytest.raises(RuntimeError, match="may not be a boolean"):
        torch.mvlgamma(x.bool(), 1)
    with pytest.raises(AttributeError):
        _ = torch.special.nonsense


def test_missing_gradients_are_named():
    x = torch.tensor([1.5], requires_grad=True)
    with pytest.raises(NotImplementedError, match="igamma: input"):
        torch.igamma(x, torch.ones(1)).backward()
    with pytest.raises(NotImplementedError, match="'zeta' is not implemented"):
        torch.special.zeta(x, torch.ones(1)).backward()
    assert not torch.special.bessel_j0(x).requires_grad
    assert not torch.special.legendre_polynomial_p(x, 3).requires_grad


# Against PyTorch ------------------------------------------------------------------------------


def _same(ours, theirs, what):
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=what
    )


@pytest.mark.parametrize("name", sorted(set(ONE) - {"airy_ai", "bessel_j0", "bessel_j1"}))
def test_edges_as_in_pytorch(name):
    peer = pytest.importorskip("torch")
    x = torch.tensor(EDGES)
    _same(getattr(torch.special, name)(x), getattr(peer.special, name)(peer.tensor(EDGES)), name)


def test_edges_of_two_numbers_as_in_pytorch():
    peer = pytest.importorskip("torch")
    a, b = (np.ascontiguousarray(array) for array in np.meshgrid(EDGES, EDGES))
    for name in ("gammainc", "gammaincc", "xlog1py", "xlogy"):
        ours = getattr(torch.special, name)(torch.tensor(a), torch.tensor(b))
        _same(ours, getattr(peer.special, name)(peer.tensor(a), peer.tensor(b)), name)
    degrees = np.array([[-1.0], [0], [1], [2], [5], [9], [10], [2.7], [NAN]])
    points = np.array([0.0, 1, -1, 0.5, 2, -2, INF, -INF, 0.25])
    for name in (name for name in torch.special.__all__ if "polynomial" in name):
        ours = getattr(torch.special, name)(torch.tensor(points), torch.tensor(degrees))
        theirs = getattr(peer.special, name)(peer.tensor(points), peer.tensor(degrees))
        _same(ours, theirs, name)


GRADIENTS = {
    "digamma": POSITIVE, "entr": POSITIVE, "erfcx": X, "erfinv": INSIDE, "i0": X, "i0e": X,
    "i1": X, "i1e": X, "log_ndtr": X, "ndtr": X, "ndtri": (INSIDE + 1) / 2, "gammaln": POSITIVE,
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_as_in_pytorch(name):
    peer = pytest.importorskip("torch")
    results = []
    for module in (torch, peer):
        x = module.tensor(GRADIENTS[name], requires_grad=True)
        value = getattr(module.special, name)(x)
        (slope,) = module.autograd.grad(value.sum(), x, create_graph=True)
        (bend,) = module.autograd.grad(slope.sum(), x)
        results.append((value, slope, bend))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-7, atol=1e-9
        )
    if name != "ndtr":  # ndtr is a composite of other steps here
        assert results[0][0].grad_fn.name() == results[1][0].grad_fn.name()


def test_gradients_of_two_arguments_as_in_pytorch():
    peer = pytest.importorskip("torch")

    def functions(t, x, y):
        return [
            t.igamma(x.detach(), y), t.igammac(x.detach(), y), t.special.zeta(2.5, y),
            t.special.zeta(x.detach() + 1, y), t.special.xlog1py(x, y), t.special.xlog1py(x, 2.0),
            t.special.xlog1py(2, y), t.mvlgamma(x + 3, 3), t.polygamma(0, x), t.polygamma(2, y),
        ]  # fmt: skip

    gradients = []
    for module in (torch, peer):
        x = module.tensor(POSITIVE, requires_grad=True)
        y = module.tensor(POSITIVE[::-1] + 0.5, requires_grad=True)
        values = functions(module, x, y)
        gradients.append([module.autograd.grad(v.sum(), (x, y), allow_unused=True) for v in values])
    for number, (ours, theirs) in enumerate(zip(*gradients)):
        for a, b in zip(ours, theirs):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, err_msg=str(number))
