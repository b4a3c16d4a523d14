"""Exponents, neighbours, steps, quantiles, integrals and differences: against NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid

import lazytorch as torch

INF, NAN = math.inf, math.nan
_generator = np.random.default_rng(11)
NUMBERS = np.array([0.0, -0.0, 1, -1, 3, 0.75, -0.1, 1e30, INF, -INF, NAN, 2.0**-100, 1023])


# Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mantissa_and_exponent(each_device, dtype):
    array = NUMBERS.astype(dtype)
    finite = np.isfinite(array)
    mantissa, exponent = torch.frexp(torch.tensor(array))
    wanted_mantissa, wanted_exponent = np.frexp(array)
    np.testing.assert_array_equal(mantissa.cpu().numpy(), wanted_mantissa)
    np.testing.assert_array_equal(exponent.cpu().numpy(), np.where(finite, wanted_exponent, 0))
    assert exponent.dtype is torch.int32
    back = torch.ldexp(mantissa, exponent).cpu().numpy()
    np.testing.assert_array_equal(back[finite], array[finite])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours(each_device, dtype):
    array = NUMBERS.astype(dtype)
    found = torch.nextafter(torch.tensor(array[:, None]), torch.tensor(array)).cpu().numpy()
    expected = np.nextafter(array[:, None], array)
    # Drivers may take subnormal numbers for zero.
    plain = ~(np.abs(expected) < np.finfo(dtype).tiny) | (expected == 0)
    np.testing.assert_array_equal(found[plain], expected[plain])


def test_subnormal_numbers():
    tiny = np.array([1e-40, -3e-45, 1e-38], np.float32)
    mantissa, exponent = torch.frexp(torch.tensor(tiny, device="numpy"))
    np.testing.assert_array_equal(np.ldexp(mantissa.cpu().numpy(), exponent.cpu().numpy()), tiny)


def test_heaviside():
    x = torch.tensor([-1.0, 0.0, 2.0, NAN])
    assert torch.heaviside(x, torch.tensor([0.5])).tolist() == [0, 0.5, 1, 0]
    assert x.clone().heaviside_(torch.tensor([7.0])).tolist() == [0, 7, 1, 0]
    with pytest.raises(RuntimeError, match="different dtypes"):
        torch.heaviside(x, torch.tensor([1]))
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        torch.heaviside(x, 2.0)
    with pytest.raises(RuntimeError, match="derivative"):
        torch.heaviside(x.requires_grad_(), torch.tensor([1.0])).sum().backward()


def test_thresholds_and_positions_of_integers():
    small = torch.tensor([1, 7, 9], dtype=torch.uint8)
    assert torch.threshold(small, 6.5, 8.5).tolist() == [8, 7, 9]
    assert torch.threshold(small, 6.5, 8.5).dtype is torch.uint8
    assert torch.unravel_index(small, (2, 5))[0].dtype is torch.int64


def test_refusals_of_numbers():
    whole = torch.tensor([1, 2])
    with pytest.raises(RuntimeError, match="only supports floating-point"):
        torch.frexp(whole)
    with pytest.raises(NotImplementedError, match="\"nextafter_cpu\" not implemented for 'Long'"):
        torch.nextafter(whole, whole)
    with pytest.raises(NotImplementedError, match="\"gcd_cpu\" not implemented for 'Float'"):
        torch.gcd(torch.ones(2), torch.ones(2))
    with pytest.raises(RuntimeError, match="can't be cast"):
        whole.ldexp_(whole)
    with pytest.raises(TypeError, match="integer dtype"):
        torch.unravel_index(torch.ones(2), (2, 2))
    with pytest.raises(ValueError, match="negative"):
        torch.unravel_index(whole, (2, -1))


def test_unravelled_positions(each_device):
    flat = np.arange(24).reshape(4, 6)
    found = torch.unravel_index(torch.tensor(flat), (2, 3, 4))
    for ours, expected in zip(found, np.unravel_index(flat, (2, 3, 4))):
        np.testing.assert_array_equal(ours.cpu().numpy(), expected)


# Composites of vectors ------------------------------------------------------------------------


def test_distances_that_count():
    x = torch.tensor([[0.0, 1.0], [2.0, 1.0]], requires_grad=True)
    counted = torch.cdist(x, torch.tensor([[0.0, 5.0], [2.0, 1.0]]), 0.0)
    assert counted.tolist() == [[1, 1], [2, 0]]
    counted.sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0]]


def test_refusals_of_composites():
    x = torch.ones(3, 2)
    for call, message in (
        (lambda: torch.cdist(x[0], x), "at least 2D"),
        (lambda: torch.cdist(x, torch.ones(3, 3)), "same number of columns"),
        (lambda: torch.cdist(x, x, -1), "non-negative p"),
        (lambda: torch.cdist(x.long(), x), "floating-point dtypes, X1 got: Long"),
        (lambda: torch.renorm(x[0], 2, 0, 1.0), "at least 2 dimensions"),
        (lambda: torch.renorm(x, -1, 0, 1.0), "non-positive-norm"),
        (lambda: torch.renorm(x, 2, 0, -1.0), "maxnorm to be >= 0"),
        (lambda: torch.combinations(x), "1D vector"),
        (lambda: torch.combinations(x[0], -1), "non-negative number"),
        (lambda: torch.vander(x), "one-dimensional"),
        (lambda: torch.vander(x[0], -1), "must be non-negative"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()
    assert torch.combinations(x[0], 0).shape == (0,)
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        torch.gcd(torch.tensor([4]), 2)
    with pytest.raises(NotImplementedError, match="logaddexp2_cpu"):
        torch.logaddexp2(torch.tensor([1]), torch.tensor([2]))


# Quantiles ------------------------------------------------------------------------------------


def test_quantiles_on_every_device(each_device):
    array = _generator.standard_normal((5, 7))
    x = torch.tensor(array)
    points = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    for method in ("linear", "lower", "higher", "midpoint", "nearest"):
        found = torch.quantile(x, torch.tensor(points), dim=1, interpolation=method)
        expected = np.quantile(array, points, axis=1, method=method)
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-12)
    holes = np.where(array > 1, NAN, array)
    found = torch.nanquantile(torch.tensor(holes), 0.3, dim=0, keepdim=True)
    np.testing.assert_allclose(found.cpu().numpy(), np.nanquantile(holes, 0.3, 0, keepdims=True))
    assert torch.quantile(torch.tensor(holes), 0.3).isnan().item()
    odd = torch.nanmedian(torch.tensor([[3.0, NAN, 1.0, 2.0], [NAN] * 4]), 1)
    np.testing.assert_array_equal(odd.values.cpu().numpy(), [2, NAN])
    assert odd.indices.tolist()[0] == 3


def test_refusals_of_quantiles():
    x = torch.ones(3)
    for arguments, message in (
        ((x, torch.ones(1).double()), "same dtype"),
        ((torch.ones(3).long(), 0.5), "float or double"),
        ((x, 2.0), "in the range"), ((x, torch.tensor([0.5, 2.0])), "in the range"),
        ((x, torch.ones(1, 1)), "scalar or 1D"), ((torch.ones(0), 0.5), "non-empty"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=message):
            torch.quantile(*arguments)
    with pytest.raises(RuntimeError, match="interpolation"):
        torch.quantile(x, 0.5, interpolation="cubic")
    with pytest.raises(IndexError, match="non-zero size"):
        torch.median(torch.ones(0, 2), 0)
    with pytest.raises(NotImplementedError, match="Bool"):
        torch.median(x.bool())
    assert torch.median(torch.ones(0)).isnan().item()


# Integrals and differences --------------------------------------------------------------------


def test_integrals_on_every_device(each_device):
    y = _generator.standard_normal((3, 6))
    x = np.cumsum(_generator.random(6) + 0.1)
    a, b = torch.tensor(y), torch.tensor(x)
    for ours, expected in (
        (torch.trapezoid(a, b), trapezoid(y, x)),
        (torch.trapz(a, dx=0.5), trapezoid(y, dx=0.5)),
        (torch.trapezoid(a.T, dim=0), trapezoid(y, axis=1)),
        (torch.gradient(a)[1], np.gradient(y)[1]),
        (
            torch.gradient(a, spacing=(b,), dim=1, edge_order=2)[0],
            np.gradient(y, x, axis=1, edge_order=2),
        ),
        (torch.gradient(a, spacing=2.0, dim=0)[0], np.gradient(y, 2.0, axis=0)),
    ):  # fmt: skip
        np.testing.assert_allclose(ours.cpu().numpy(), expected, rtol=1e-12, atol=1e-13)


def test_refusals_of_integrals():
    x = torch.ones(3)
    with pytest.raises(RuntimeError, match="bool input for `y`"):
        torch.trapezoid(x.bool())
    with pytest.raises(RuntimeError, match="one `x` value for each sample"):
        torch.trapezoid(x, torch.ones(2))
    with pytest.raises(IndexError, match="no dimensions"):
        torch.trapezoid(torch.tensor(1.0))
    with pytest.raises(TypeError, match="not both"):
        torch.cumulative_trapezoid(x, x, dx=2)
    for options, message in (
        ({"edge_order": 3}, "edge_order=1 and"), ({"spacing": [0.1]}, "list of length"),
        ({"dim": (1, 1)}, "multiple times"), ({"edge_order": 2}, "at least edge_order"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=message):
            torch.gradient(torch.ones(2, 2), **options)
    assert torch.trapezoid(torch.ones(2, 0)).tolist() == [0, 0]
