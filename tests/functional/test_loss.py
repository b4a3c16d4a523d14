"""Losses against PyTorch: every argument, gradients of the first two orders."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random, same_refusal, strided

torch = pytest.importorskip("torch")
TF = torch.nn.functional
REDUCTIONS = ["none", "mean", "sum"]


def both(name: str, **arguments: Any) -> tuple[Any, Any]:
    """The two libraries' function with keyword arguments bound; arrays become tensors."""

    def bound(functions: Any, module: Any) -> Any:
        made = {
            key: module.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in arguments.items()
        }
        return lambda *tensors: getattr(functions, name)(*tensors, **made)

    return bound(F, lazytorch), bound(TF, torch)


def classes(*shape: int, count: int = 5, ignored: int | None = None) -> np.ndarray:
    target = np.random.default_rng(3).integers(0, count, shape)
    if ignored is not None and target.size:
        target.reshape(-1)[::3] = ignored
    return target


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 5), (3, 5, 2), (2, 5, 3, 2), (5,)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(
    reduction: str, shape: tuple[int, ...], weighted: bool, smoothing: float
) -> None:
    target = classes(*shape[:1], *shape[2:], ignored=1) if len(shape) > 1 else np.array(2)
    weight = {"weight": np.abs(random(5, seed=5))} if weighted else {}
    compare(
        *both(
            "cross_entropy",
            reduction=reduction,
            label_smoothing=smoothing,
            ignore_index=1,
            **weight,
        ),
        random(*shape), target,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(reduction: str, smoothing: float) -> None:
    target = np.abs(random(4, 5, seed=2))
    weight = np.abs(random(5, seed=5))
    compare(
        *both("cross_entropy", reduction=reduction, label_smoothing=smoothing, weight=weight),
        random(4, 5), target,
    )  # fmt: skip
    compare(*both("cross_entropy"), random(4, 5, 3), np.abs(random(4, 5, 3, seed=1)))


def test_cross_entropy_ignoring_all_is_nan() -> None:
    compare(*both("cross_entropy"), random(3, 5), np.full(3, -100), gradient=False)


def test_cross_entropy_keeps_small_losses() -> None:
    logits = np.array([[100.0, 0.0, -100.0], [1000.0, -1000.0, 0.0]])
    compare(*both("cross_entropy", reduction="none"), logits, np.array([0, 1]))


def test_cross_entropy_of_non_contiguous_and_broadcast_logits() -> None:
    compare(*both("cross_entropy"), strided(4, 5), classes(4))
    wide = np.broadcast_to(random(1, 5), (4, 5))
    ours = F.cross_entropy(lazytorch.tensor(wide[:1]).expand(4, 5), lazytorch.tensor(classes(4)))
    theirs = TF.cross_entropy(torch.tensor(wide[:1]).expand(4, 5), torch.tensor(classes(4)))
    np.testing.assert_allclose(ours.item(), theirs.item())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 3, 2), (5,)])
@pytest.mark.parametrize("weighted", [False, True])
def test_nll(reduction: str, shape: tuple[int, ...], weighted: bool) -> None:
    target = classes(*shape[:1], *shape[2:], ignored=1) if len(shape) > 1 else np.array(2)
    weight = {"weight": np.abs(random(5, seed=5))} if weighted else {}
    compare(
        *both("nll_loss", reduction=reduction, ignore_index=1, **weight), random(*shape), target
    )


ELEMENTWISE: list[tuple[str, dict[str, Any]]] = [
    ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.4}),
    ("smooth_l1_loss", {"beta": 0}), ("huber_loss", {"delta": 0.7}),
    ("binary_cross_entropy_with_logits", {}), ("poisson_nll_loss", {}),
    ("poisson_nll_loss", {"full": True}),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "arguments"), ELEMENTWISE)
def test_elementwise(name: str, arguments: dict[str, Any], reduction: str) -> None:
    # PyTorch has no second derivative of these by the target.
    compare(
        *both(name, reduction=reduction, **arguments),
        random(3, 4), np.abs(random(3, 4, seed=9)) + 2,
        second=name in ("mse_loss", "l1_loss"),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), ELEMENTWISE)
def test_second_derivative_by_the_input(name: str, arguments: dict[str, Any]) -> None:
    target = random(3, 4, seed=9)
    ours, theirs = both(name, **arguments)
    compare(
        lambda x: ours(x, lazytorch.from_numpy(target)),
        lambda x: theirs(x, torch.from_numpy(target)),
        random(3, 4),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weighted_regression(reduction: str) -> None:
    weight = np.abs(random(3, 4, seed=5))
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        compare(
            *both(name, reduction=reduction, weight=weight), random(3, 4), random(3, 4, seed=9),
            second=False,
        )  # fmt: skip


def test_broadcast_targets_warn_and_broadcast() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare(*both("mse_loss"), random(3, 4), random(4, seed=9), second=False)
    with pytest.warns(UserWarning, match="target size"):
        F.mse_loss(lazytorch.ones(3, 4), lazytorch.ones(4))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary(reduction: str) -> None:
    probability = 1 / (1 + np.exp(-random(3, 4)))
    probability[0, 0], probability[0, 1] = 0.0, 1.0
    target = np.random.default_rng(1).random((3, 4))
    weight = np.abs(random(3, 4, seed=5))
    ours, theirs = both("binary_cross_entropy", reduction=reduction, weight=weight)
    compare(
        lambda x: ours(x, lazytorch.from_numpy(target)),
        lambda x: theirs(x, torch.from_numpy(target)),
        probability, second=False,
    )  # fmt: skip
    compare(
        *both(
            "binary_cross_entropy_with_logits", reduction=reduction, weight=weight,
            pos_weight=np.abs(random(4)),
        ),
        random(3, 4, scale=40), target, second=False,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div(reduction: str, log_target: bool) -> None:
    target = random(3, 4) if log_target else np.abs(random(3, 4))
    compare(
        *both("kl_div", reduction=reduction, log_target=log_target), random(3, 4, seed=1), target,
        second=False,
    )  # fmt: skip


@pytest.mark.parametrize("full", [False, True])
def test_gaussian_nll(full: bool) -> None:
    variance = np.abs(random(3, 4, seed=2))
    compare(
        *both("gaussian_nll_loss", full=full), random(3, 4), random(3, 4, seed=1), variance,
        second=False,
    )  # fmt: skip
    compare(
        *both("gaussian_nll_loss"), random(3, 4), random(3, 4, seed=1), variance[:, :1].copy(),
        second=False,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_margins(reduction: str) -> None:
    sign = np.where(random(3) > 0, 1.0, -1.0)
    a, b, c = random(3, 4), random(3, 4, seed=1), random(3, 4, seed=2)
    ours, theirs = both("cosine_embedding_loss", reduction=reduction, margin=0.1)
    compare(
        lambda *x: ours(*x, lazytorch.from_numpy(sign)),
        lambda *x: theirs(*x, torch.from_numpy(sign)), a, b,
    )  # fmt: skip
    ours, theirs = both("margin_ranking_loss", reduction=reduction, margin=0.1)
    compare(
        lambda *x: ours(*x, lazytorch.from_numpy(sign)),
        lambda *x: theirs(*x, torch.from_numpy(sign)), a[:, 0].copy(), b[:, 0].copy(),
    )  # fmt: skip
    ours, theirs = both("soft_margin_loss", reduction=reduction)
    compare(
        lambda x: ours(x, lazytorch.from_numpy(sign)),
        lambda x: theirs(x, torch.from_numpy(sign)), a[:, 0].copy(),
    )  # fmt: skip
    ours, theirs = both("hinge_embedding_loss", reduction=reduction)
    compare(
        lambda x: ours(x, lazytorch.from_numpy(sign)),
        lambda x: theirs(x, torch.from_numpy(sign)), a[:, 0].copy(),
    )  # fmt: skip
    for swap in (False, True):
        compare(*both("triplet_margin_loss", reduction=reduction, swap=swap, p=2), a, b, c)
    compare(*both("triplet_margin_with_distance_loss", reduction=reduction), a, b, c)
    zero_one = (random(3, 4, seed=5) > 0).astype(np.float64)
    ours, theirs = both("multilabel_soft_margin_loss", reduction=reduction)
    compare(
        lambda x: ours(x, lazytorch.from_numpy(zero_one)),
        lambda x: theirs(x, torch.from_numpy(zero_one)), a,
    )  # fmt: skip
    for p in (1, 2):
        compare(
            *both("multi_margin_loss", reduction=reduction, p=p, weight=np.abs(random(4))),
            a, classes(3, count=4), second=False,
        )  # fmt: skip
    labels = np.array([[1, 3, -1, 0], [0, 1, 2, 3], [-1, 0, 1, 2]])
    compare(*both("multilabel_margin_loss", reduction=reduction), a, labels, second=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ctc(reduction: str) -> None:
    steps, batch, count = 7, 3, 5
    logits = random(steps, batch, count)
    targets = np.array([[1, 2, 2], [3, 4, 1], [2, 1, 1]])
    lengths, wanted = (7, 6, 5), (3, 2, 1)

    def run(functions: Any, module: Any) -> Any:
        return lambda x: functions.ctc_loss(
            functions.log_softmax(x, 2), module.from_numpy(targets), lengths, wanted,
            reduction=reduction,
        )  # fmt: skip

    compare(run(F, lazytorch), run(TF, torch), logits, second=False, tolerance=1e-7)


def test_ctc_impossible_target() -> None:
    def run(functions: Any, module: Any) -> Any:
        return lambda x: functions.ctc_loss(
            functions.log_softmax(x, 2), module.tensor([[1, 1]]), (2,), (2,), zero_infinity=True
        )

    compare(run(F, lazytorch), run(TF, torch), random(2, 1, 3), second=False)


@pytest.mark.filterwarnings("ignore:size_average")
def test_old_reduction_arguments() -> None:
    for old in ({"size_average": False}, {"reduce": False}, {"reduce": True}):
        compare(*both("mse_loss", **old), random(3), random(3, seed=1), second=False)


def test_training_with_lazy_targets() -> None:
    # The target is the result of an operation that nobody has computed yet.
    compare(
        lambda x: F.cross_entropy(x, lazytorch.tensor([0, 1, 2]) + 1),
        lambda x: TF.cross_entropy(x, torch.tensor([0, 1, 2]) + 1),
        random(3, 5),
    )


# Linear cross entropy ---------------------------------------------------------------------------


_CLASSES = np.array([0.5, 1.0, 2.0, 1.5])


@pytest.mark.parametrize("reduction", ("none", "mean", "sum"))
@pytest.mark.parametrize("size", (None, 2, 5))
def test_linear_cross_entropy(each_device: str, reduction: str, size: int | None) -> None:
    target = np.array([0, 3, -1, 2, 1])

    def run(functions: Any, module: Any) -> Any:
        options = size and module.nn.LinearCrossEntropyOptions(
            batch_chunk_size=size, chunking_method=None, allow_retain_graph=True
        )
        places, classes = module.tensor(target), module.tensor(_CLASSES)
        return lambda *tensors: functions.linear_cross_entropy(
            tensors[0].to(places.device), tensors[1].to(places.device), places,
            linear_bias=tensors[2].to(places.device), weight=classes, reduction=reduction,
            ignore_index=-1, options=options,
        ).cpu()  # fmt: skip

    arrays = (random(5, 3), random(4, 3), random(4))
    compare(run(F, lazytorch), run(TF, torch), *arrays, second=size is None)


def test_linear_cross_entropy_of_rows_maps_and_shares() -> None:
    def run(functions: Any, target: Any, module: Any, **options: Any) -> Any:
        return lambda x, w: functions.linear_cross_entropy(
            x, w, module.tensor(target), **options
        )

    one = np.array(2)
    compare(run(F, one, lazytorch), run(TF, one, torch), random(3), random(4, 3))
    many = np.array([[1, 0, 3], [2, 2, 0]])
    compare(run(F, many, lazytorch), run(TF, many, torch), random(2, 3), random(4, 3, 3))
    share = np.full((2, 4), 0.25)
    smooth = {"label_smoothing": 0.1}
    compare(
        run(F, share, lazytorch, **smooth), run(TF, share, torch, **smooth), random(2, 3),
        random(4, 3),
    )  # fmt: skip


def test_chunks_have_second_gradients() -> None:
    options = lazytorch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, chunking_method=None)
    target = np.array([0, 3, 1])
    compare(
        lambda x, w: F.linear_cross_entropy(x, w, lazytorch.tensor(target), options=options),
        lambda x, w: TF.linear_cross_entropy(x, w, torch.tensor(target)),
        random(3, 2), random(4, 2),
    )  # fmt: skip


def test_linear_cross_entropy_refuses() -> None:
    for call in (
        lambda m, f: f(m.ones(1, 1, 2), m.ones(3, 2), m.tensor([0])),
        lambda m, f: f(m.ones(1, 2), m.ones(2), m.tensor([0])),
        lambda m, f: f(m.ones(1, 2), m.ones(3, 3), m.tensor([0])),
        lambda m, f: f(m.ones(1, 2), m.ones(3, 2), m.tensor([0]), linear_bias=m.ones(2)),
        lambda m, f: f(m.ones(2), m.ones(3, 1, 2), m.tensor([0])),
        lambda m, f: f(m.ones(1, 2), m.ones(3, 2), m.ones(1, 3), ignore_index=1),
        lambda m, f: m.nn.LinearCrossEntropyOptions(acc_policy="exact"),
        lambda m, f: m.nn.LinearCrossEntropyOptions(chunking_method="rows:2"),
        lambda m, f: m.nn.LinearCrossEntropyOptions(batch_chunk_size=0),
    ):
        same_refusal(
            lambda m, call=call: call(m, m.nn.functional.linear_cross_entropy),
            lambda m, call=call: call(m, m.nn.functional.linear_cross_entropy),
        )


def test_options_that_do_not_apply_warn() -> None:
    options = lazytorch.nn.LinearCrossEntropyOptions()
    with pytest.warns(UserWarning, match="options ignored"):
        F.linear_cross_entropy(
            lazytorch.ones(1, 2), lazytorch.ones(3, 2), lazytorch.tensor([0]),
            label_smoothing=0.1, options=options,
        )  # fmt: skip
    # As many rows as make the logits half of the input: 8 classes a feature, so 64 / 8 / 2.
    assert (options.rows(64, 2, 16), options.rows(64, 16, 4)) == (4, 32)


# CTC on the host ----------------------------------------------------------------------------------


def test_ctc_of_long_inputs(each_device: str) -> None:
    # One step a time step must not become one kernel a time step.
    steps, batch, classes = 60, 4, 7
    logs = np.log(np.random.default_rng(3).dirichlet(np.ones(classes), (steps, batch)))
    targets = np.random.default_rng(4).integers(1, classes, 30)
    lengths, wanted = np.array([60, 50, 0, 7]), np.array([12, 0, 5, 13])

    def run(functions: Any, module: Any) -> Any:
        labels = module.tensor(targets)
        return lambda x: functions.ctc_loss(
            x.to(labels.device), labels, module.tensor(lengths), module.tensor(wanted),
            reduction="none", zero_infinity=True,
        ).cpu()  # fmt: skip

    compare(run(F, lazytorch), run(TF, torch), logs, second=False, tolerance=1e-7)


def test_ctc_refuses() -> None:
    for call in (
        lambda m, f: f(m.zeros(3, 1, 4), m.tensor([[1, 2]]), (4,), (2,)),
        lambda m, f: f(m.zeros(3, 1, 4), m.tensor([[1, 2]]), (3,), (3,)),
        lambda m, f: f(m.zeros(3, 1, 4), m.tensor([[1, 2]]), (3,), (2,), blank=4),
        lambda m, f: f(m.zeros(3, 1, 4, dtype=m.float16), m.tensor([[1, 2]]), (3,), (2,)),
    ):
        same_refusal(
            lambda m, call=call: call(m, m.nn.functional.ctc_loss),
            lambda m, call=call: call(m, m.nn.functional.ctc_loss),
        )
    with pytest.raises(RuntimeError, match=r"classes in \[0, 4\)"):
        F.ctc_loss(lazytorch.zeros(3, 1, 4), lazytorch.tensor([[1, 4]]), (3,), (2,))
