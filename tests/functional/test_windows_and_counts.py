"""Window functions, histograms, Poisson counts and torch's own forms of losses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import windows

import lazytorch as torch
from lazytorch.nn import functional as F

# name: (options here, arguments of SciPy's function)
WINDOWS = {
    "bartlett": ({}, ()), "blackman": ({}, ()), "cosine": ({}, ()), "hamming": ({}, ()),
    "hann": ({}, ()), "nuttall": ({}, ()), "kaiser": ({"beta": 7.5}, (7.5,)),
    "gaussian": ({"std": 1.7}, (1.7,)), "exponential": ({"tau": 2.5}, (None, 2.5)),
    "general_cosine": ({"a": [0.5, 0.3, 0.2]}, ([0.5, 0.3, 0.2],)),
    "general_hamming": ({"alpha": 0.7}, (0.7,)),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name):
    options, arguments = WINDOWS[name]
    ours, theirs = getattr(torch.signal.windows, name), getattr(windows, name)
    for length in (0, 1, 2, 5, 8):
        for symmetric in (True, False):
            found = ours(length, sym=symmetric, dtype=torch.float64, **options).numpy()
            expected = theirs(length, *arguments, sym=symmetric)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert ours(3, **options).dtype is torch.float32
    assert ours(3, requires_grad=True, **options).requires_grad
    with pytest.raises(ValueError, match="non-negative window length, got M=-1"):
        ours(-1, **options)
    with pytest.raises(ValueError, match=r"expects float32 or float64 dtypes, got: torch\.int64"):
        ours(3, dtype=torch.int64, **options)
    with pytest.raises(ValueError, match="strided tensors only"):
        ours(3, layout="torch.sparse_coo", **options)


def test_periodic_windows_of_the_core(each_device):
    for name in ("bartlett", "blackman", "hamming", "hann"):
        ours = getattr(torch, f"{name}_window")
        for length in (0, 1, 6, 7):
            for periodic in (True, False):
                found = ours(length, periodic).cpu().numpy()
                expected = getattr(windows, name)(length, sym=not periodic)
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
        assert ours(4, dtype=torch.float16).dtype is torch.float16
        with pytest.raises(RuntimeError, match="non-negative window_length"):
            ours(-1)
        with pytest.raises(RuntimeError, match="expects floating point"):
            ours(4, dtype=torch.int64)
        with pytest.raises(TypeError, match="must be int, not float"):
            ours(4.5)
    found = torch.kaiser_window(6, False, 3.0).cpu().numpy()
    np.testing.assert_allclose(found, windows.kaiser(6, 3.0), rtol=1e-6)


def test_refusals_of_windows():
    made = torch.signal.windows
    for call, kind in (
        (lambda: made.exponential(3, tau=-1), ValueError),
        (lambda: made.exponential(3, center=1.0), ValueError),
        (lambda: made.gaussian(3, std=-1), ValueError),
        (lambda: made.kaiser(3, beta=-1), ValueError),
        (lambda: made.general_cosine(3, a=None), TypeError),
        (lambda: made.general_cosine(3, a=[]), ValueError),
    ):
        with pytest.raises(kind):
            call()


# Histograms -----------------------------------------------------------------------------------


def test_histograms(each_device):
    generator = np.random.default_rng(5)
    x, w = generator.standard_normal((6, 9)), generator.random((6, 9))
    edges = np.array([-2.0, -0.5, 0.0, 0.1, 3.0])
    a, b = torch.tensor(x), torch.tensor(w)
    for ours, expected in (
        (torch.histogram(a, 5), np.histogram(x, 5)),
        (torch.histogram(a.T, 4, range=(-1.0, 1.0)), np.histogram(x, 4, (-1, 1))),
        (a.histogram(5, weight=b, density=True), np.histogram(x, 5, weights=w, density=True)),
        (torch.histogram(a, torch.tensor(edges)), np.histogram(x, edges)),
    ):
        np.testing.assert_allclose(ours.hist.cpu().numpy(), expected[0], rtol=1e-12)
        np.testing.assert_allclose(ours.bin_edges.cpu().numpy(), expected[1], rtol=1e-12)
    points = generator.standard_normal((20, 3))
    found = torch.histogramdd(torch.tensor(points), [2, 3, 4], density=True)
    counts, lines = np.histogramdd(points, [2, 3, 4], density=True)
    np.testing.assert_allclose(found.hist.cpu().numpy(), counts, rtol=1e-12)
    for ours, expected in zip(found.bin_edges, lines):
        np.testing.assert_allclose(ours.cpu().numpy(), expected, rtol=1e-12)
    assert torch.histogram(torch.ones(0), 2).bin_edges.tolist() == [0, 0.5, 1]
    assert torch.histogram(torch.ones(3), 2).bin_edges.tolist() == [0.5, 1, 1.5]


def test_refusals_of_histograms():
    x = torch.tensor([1.0, 2.0, 3.0])
    for call, message in (
        (lambda: torch.histogram(x, 0), "bins must be > 0"),
        (lambda: torch.histogram(x, 2, range=(1.0, 0.0)), "min should not exceed max"),
        (lambda: torch.histogram(x, 2, weight=torch.ones(2)), "same shape as the input"),
        (lambda: torch.histogram(x * float("nan"), 2), "is not finite"),
        (lambda: torch.histogram(x, torch.ones(2, 2)), "one dimension"),
        (lambda: torch.histogram(x, torch.ones(2).double()), "same dtype"),
        (lambda: torch.histogramdd(torch.ones(5, 6), [1] * 5), "innermost dimension"),
        (lambda: torch.histogramdd(torch.ones(2, 2), 2, range=(0.0, 1.0)), "4 elements"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()
    with pytest.raises(NotImplementedError, match="'Long'"):
        torch.histogram(torch.tensor([1, 2]), 2)


# Counts and losses ----------------------------------------------------------------------------


def test_poisson_counts(each_device):
    rates = torch.tensor([0.0, 0.3, 4.0, 50.0]).reshape(4, 1).expand(4, 4000)
    torch.manual_seed(3)
    drawn = torch.poisson(rates)
    counts = drawn.cpu().numpy()
    assert (counts == np.floor(counts)).all() and (counts >= 0).all()
    np.testing.assert_allclose(counts.mean(1), [0, 0.3, 4, 50], rtol=0.1)
    np.testing.assert_allclose(counts.var(1), [0, 0.3, 4, 50], rtol=0.15)
    torch.manual_seed(3)
    assert torch.equal(torch.poisson(rates), drawn)
    torch.manual_seed(3)
    assert (torch.poisson(torch.tensor(rates.cpu().numpy(), device="cpu")).numpy() == counts).all()
    x = torch.ones(2, requires_grad=True)
    torch.poisson(x).sum().backward()
    assert x.grad.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="expected rate to be non-negative"):
        torch.poisson(torch.tensor([-1.0]))
    with pytest.raises(NotImplementedError, match="'Long'"):
        torch.poisson(torch.tensor([1]))


def test_core_forms_of_losses():
    x, y, z = (torch.rand(3, 4) for _ in range(3))
    sign = torch.tensor([1.0, -1.0, 1.0])
    for number, name in enumerate(("none", "mean", "sum")):
        for ours, expected in (
            (torch.hinge_embedding_loss(x, sign.reshape(3, 1), 1.0, number),
             F.hinge_embedding_loss(x, sign.reshape(3, 1), reduction=name)),
            (torch.margin_ranking_loss(x, y, x.sign(), 0.1, number),
             F.margin_ranking_loss(x, y, x.sign(), 0.1, reduction=name)),
            (torch.cosine_embedding_loss(x, y, sign, 0.2, number),
             F.cosine_embedding_loss(x, y, sign, 0.2, reduction=name)),
            (torch.triplet_margin_loss(x, y, z, reduction=number),
             F.triplet_margin_loss(x, y, z, reduction=name)),
            (torch.poisson_nll_loss(x, y, True, False, 1e-8, number),
             F.poisson_nll_loss(x, y, reduction=name)),
            (torch.binary_cross_entropy_with_logits(x, y, None, z[0], number),
             F.binary_cross_entropy_with_logits(x, y, pos_weight=z[0], reduction=name)),
        ):  # fmt: skip
            assert torch.equal(ours, expected)
    total = torch.kl_div(x.log(), y, 2).item()
    assert torch.kl_div(x.log(), y).item() == pytest.approx(total / 12, rel=1e-5)
    assert torch.kl_div(x.log(), y.log(), 2, log_target=True).item() == pytest.approx(total, 1e-5)
    with pytest.raises(ValueError, match="reduction"):
        torch.kl_div(x, y, 3)
    with pytest.raises(TypeError, match="must be int"):
        torch.kl_div(x, y, "mean")


def test_core_forms_of_activations_and_pools():
    x = torch.tensor([-1.0, 2.0])
    assert torch.rrelu(x, 0.2, 0.4).tolist() == pytest.approx([-0.3, 2.0])
    assert torch.threshold_(x, 0.0, 0.5) is x
    assert x.tolist() == [0.5, 2.0]
    changed = torch.rrelu_(torch.tensor([-1.0, 2.0]), 0.2, 0.4, True).tolist()
    assert -0.4 <= changed[0] <= -0.2 and changed[1] == 2
    line = torch.rand(2, 3, 6)
    values, places = torch.adaptive_max_pool1d(line, 2)
    assert torch.equal(line.gather(-1, places), values)
    assert torch.equal(torch.adaptive_avg_pool1d(line, 2), F.adaptive_avg_pool1d(line, 2))
