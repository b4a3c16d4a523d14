"""What a function that is mapped over a batch may do, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch

torch = pytest.importorskip("torch")
LIBRARIES = pytest.mark.parametrize("t", [lazytorch, torch], ids=["lazytorch", "torch"])


def _ones(t: Any) -> Any:
    return t.ones(3, 4)


# Writes -----------------------------------------------------------------------------------------


@LIBRARIES
def test_writes_into_an_argument_reach_the_batch(t: Any) -> None:
    x = t.arange(6.0).reshape(3, 2)

    def write(a: Any, b: Any) -> Any:
        a[0] = b.sum()
        a.mul_(2)
        return a.view(-1)[1] + 0

    assert t.vmap(write, in_dims=(1, 0))(x, t.ones(2, 3)).tolist() == [4, 6]
    assert x.tolist() == [[6, 6], [4, 6], [8, 10]]


@LIBRARIES
def test_writes_through_views(t: Any) -> None:
    def write(a: Any) -> Any:
        made = a.new_zeros(2, 2)
        made.diagonal().copy_(a)
        row = made[0]
        row += 1
        made.t()[0].mul_(a[1])
        return made

    found = t.vmap(write)(t.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert found.tolist() == [[[4, 1], [0, 2]], [[16, 1], [0, 4]]]


@LIBRARIES
def test_written_arguments_keep_their_gradients(t: Any) -> None:
    leaf = t.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x = leaf * 1
    t.vmap(lambda a: a.mul_(a[0].clone()))(x)
    x.sum().backward()
    assert x.tolist() == [[1, 2], [9, 12]] and leaf.grad.tolist() == [[4, 1], [10, 3]]


@LIBRARIES
def test_one_tensor_given_twice_is_written_once(t: Any) -> None:
    x = t.ones(2, 2)
    found = t.vmap(lambda a, b: a.add_(1) + b)(x, x)
    assert x.tolist() == [[2, 2]] * 2 and found.tolist() == [[4, 4]] * 2


@LIBRARIES
def test_values_that_examples_share_are_not_written(t: Any) -> None:
    shared = t.zeros(4)
    for write in (
        lambda a: shared.copy_(a),
        lambda a: t.zeros(4).copy_(a),
        lambda a: t.nn.functional.batch_norm(
            a.view(2, 2), shared[:2], shared[2:], training=True, momentum=0.5
        ),
    ):
        with pytest.raises(RuntimeError):
            t.vmap(write)(_ones(t))
    assert shared.tolist() == [0, 0, 0, 0]
    # What does not depend on the example may be.
    t.vmap(lambda a: shared.add_(1) * a)(_ones(t))
    assert shared.tolist() == [1, 1, 1, 1]


def test_a_write_that_would_mix_two_batches_is_refused() -> None:
    x, y = lazytorch.ones(2, 3), lazytorch.ones(4, 3)
    nested = lazytorch.vmap(lambda a: lazytorch.vmap(lambda b: b.add_(a))(y))
    with pytest.raises(RuntimeError, match="not being vmapped over"):
        nested(x)
    inside = lazytorch.vmap(lambda a: lazytorch.vmap(lambda b: (a + b).mul_(b))(y))
    assert inside(x).tolist() == [[[2, 2, 2]] * 4] * 2


# Random numbers ---------------------------------------------------------------------------------


@LIBRARIES
def test_randomness(t: Any) -> None:
    def noisy(a: Any) -> Any:
        return a * 0 + t.rand(4), t.nn.functional.dropout(a, 0.5)

    with pytest.raises(RuntimeError, match="randomness error mode"):
        t.vmap(noisy)(_ones(t))
    for draws in t.vmap(noisy, randomness="same")(_ones(t).expand(8, 3, 4)[0]):
        assert (draws == draws[0]).all()
    t.manual_seed(3)
    drawn, kept = t.vmap(noisy, randomness="different")(t.ones(64, 4))
    assert len({tuple(row) for row in drawn.tolist()}) == 64
    assert 1 < len({tuple(row) for row in kept.tolist()}) <= 16
    with pytest.raises(RuntimeError, match="Only allowed values for randomness"):
        t.vmap(noisy, randomness="sometimes")


@LIBRARIES
def test_randomness_of_each_of_two_batches(t: Any) -> None:
    inner = t.vmap(lambda b: b + t.rand(()), randomness="same")
    drawn = t.vmap(lambda a: inner(a), randomness="different")(t.zeros(5, 3))
    assert (drawn == drawn[:, :1]).all() and len(set(drawn[:, 0].tolist())) == 5


def test_draws_are_those_of_one_draw() -> None:
    t = lazytorch
    t.manual_seed(1)
    wanted = t.rand(3, 4)
    t.manual_seed(1)
    assert (t.vmap(lambda a: t.rand(4), randomness="different")(_ones(t)) == wanted).all()
    t.manual_seed(1)
    dropout = t.nn.Dropout(0.5)
    other = t.vmap(t.func.grad(lambda a: dropout(a).sum()), randomness="different")(_ones(t))
    t.manual_seed(1)
    assert (other == dropout(_ones(t))).all()
    with pytest.raises(RuntimeError, match="randomness error mode"):
        t.vmap(lambda a: t.vmap(lambda b: b + t.rand(1), randomness="same")(a))(_ones(t))


# Functions of the user --------------------------------------------------------------------------


@LIBRARIES
def test_a_function_with_a_rule_of_its_own(t: Any) -> None:
    class Sine(t.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(x: Any, scale: Any) -> Any:
            return t.tensor(np.sin(x.detach().cpu().numpy())) * scale

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, scale = ctx.saved_tensors
            return g * t.cos(x) * scale, None

        @staticmethod
        def vmap(info: Any, in_dims: Any, x: Any, scale: Any) -> Any:
            assert info.batch_size == 3 and in_dims == (0, None)
            return Sine.apply(x, scale).movedim(0, -1), -1

    x = t.tensor(np.linspace(0, 1, 12).reshape(3, 4), requires_grad=True)
    scale = t.tensor(2.0)
    found = t.vmap(lambda row: Sine.apply(row * row, scale).sum())(x)
    assert ((2 * t.sin(x * x)).sum(1) - found).abs().max().item() < 1e-6
    (gradient,) = t.autograd.grad(found.sum(), x)
    assert (gradient - 4 * x * t.cos(x * x)).abs().max().item() < 1e-6


def test_a_function_without_one() -> None:
    t = lazytorch

    class Square(t.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 3 * g * ctx.saved_tensors[0]

    x = t.arange(6.0).reshape(3, 2).requires_grad_()
    t.vmap(lambda row: Square.apply(row) * row[0])(x).sum().backward()
    found = t.vmap(t.func.grad(lambda row: Square.apply(row).sum()))(x.detach())
    assert found.tolist() == (3 * x).tolist()
    wanted = [(3 * a * r[0]).tolist() for r in x.detach() for a in [r]]
    extra = (x.detach() ** 2).sum(1)
    assert x.grad.tolist() == [[w[0] + e, w[1]] for w, e in zip(wanted, extra.tolist())]


# Refused ----------------------------------------------------------------------------------------

# Class and a part of the message that both libraries have.
REFUSED: dict[str, tuple[type, str, Callable[[Any, Any], Any]]] = {
    "item": (RuntimeError, r"calling .item\(\)", lambda t, x: t.vmap(lambda a: a[0].item())(x)),
    "float": (RuntimeError, r"calling .item\(\)", lambda t, x: t.vmap(lambda a: float(a[0]))(x)),
    "range": (RuntimeError, r"calling .item\(\)", lambda t, x: t.vmap(lambda a: t.arange(a[0]))(x)),
    "list": (RuntimeError, "", lambda t, x: t.vmap(lambda a: a.tolist())(x)),
    "array": (RuntimeError, "", lambda t, x: t.vmap(lambda a: a.numpy())(x)),
    "branch": (
        RuntimeError, "data-dependent control flow",
        lambda t, x: t.vmap(lambda a: a if a.sum() > 0 else -a)(x),
    ),
    "nonzero": (RuntimeError, "dynamic shape", lambda t, x: t.vmap(t.nonzero)(x)),
    "unique": (RuntimeError, "dynamic shape", lambda t, x: t.vmap(t.unique)(x)),
    "mask": (RuntimeError, "dynamic shape", lambda t, x: t.vmap(lambda a: a[a > 0])(x)),
    "select": (
        RuntimeError, "masked_select", lambda t, x: t.vmap(lambda a: a.masked_select(a > 0))(x)
    ),
    "bincount": (RuntimeError, "", lambda t, x: t.vmap(t.bincount)(t.tensor([[0, 1], [2, 2]]))),
    "backward": (
        RuntimeError, "inside a functorch transform",
        lambda t, x: t.vmap(lambda a: a.sum().backward())(x.clone().requires_grad_()),
    ),
    "requires grad": (
        RuntimeError, "requires_grad_", lambda t, x: t.vmap(lambda a: a.requires_grad_())(x)
    ),
    "in place": (
        RuntimeError, "not being vmapped over",
        lambda t, x: t.vmap(lambda a: t.zeros(4).copy_(a))(x),
    ),
    "out": (RuntimeError, "", lambda t, x: t.vmap(lambda a: t.add(a, 1, out=t.zeros(4)))(x)),
    "sizes": (ValueError, r"got sizes \[3, 2\]", lambda t, x: t.vmap(t.add)(x, x[:2])),
    "structure": (
        ValueError, "not compatible with the structure", lambda t, x: t.vmap(t.add, (0,))(x, x)
    ),
    "in_dims": (ValueError, "int or a", lambda t, x: t.vmap(t.add, "a")(x, x)),
    "in_dim": (ValueError, "Got in_dim=1.5", lambda t, x: t.vmap(t.add, (0, 1.5))(x, x)),
    "nothing mapped": (
        ValueError, "at least one Tensor", lambda t, x: t.vmap(t.add, (None, None))(x, x)
    ),
    "no such dimension": (ValueError, "-2 <= in_dim < 2", lambda t, x: t.vmap(t.sin, 2)(x)),
    "a number": (ValueError, "of type <class 'int'>", lambda t, x: t.vmap(t.add)(x, 2)),
    "no dimensions": (ValueError, "dimensionality 0", lambda t, x: t.vmap(t.sin)(x[0, 0])),
    "no arguments": (ValueError, "got no inputs", lambda t, x: t.vmap(lambda: x)()),
    "returns a number": (
        ValueError, "must only return Tensors, got type <class 'float'>",
        lambda t, x: t.vmap(lambda a: 1.0)(x),
    ),
    "out_dims None": (
        ValueError, "when out_dim is None", lambda t, x: t.vmap(t.sin, out_dims=None)(x)
    ),
    "out_dims": (ValueError, "out_dims", lambda t, x: t.vmap(t.sin, out_dims="s")(x)),
    "out_dims structure": (
        ValueError, "structure of `outputs`", lambda t, x: t.vmap(t.sin, out_dims=(0, 0))(x)
    ),
    "out_dim": (IndexError, "out of range", lambda t, x: t.vmap(t.sin, out_dims=2)(x)),
    "chunks": (ValueError, "greater than 0", lambda t, x: t.vmap(t.sin, chunk_size=0)(x)),
    "index": (
        (IndexError, RuntimeError), "out of",
        lambda t, x: t.vmap(lambda a, i: a[i])(x, t.tensor([[0], [1], [9]])),
    ),
}  # fmt: skip


@LIBRARIES
@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.filterwarnings("ignore")
def test_refused(name: str, t: Any) -> None:
    error, message, call = REFUSED[name]
    with pytest.raises(error, match=message):
        call(t, _ones(t))
    # Nothing of the failed call is left behind.
    assert t.vmap(t.sum)(_ones(t)).tolist() == [4, 4, 4]


def test_a_value_that_escapes_is_refused_where_it_is_looked_at() -> None:
    kept: list[Any] = []
    lazytorch.vmap(lambda a: (kept.append(a), a)[1])(_ones(lazytorch))
    with pytest.raises(RuntimeError, match="escaped from inside a function being vmapped"):
        (kept[0] + 1).tolist()


def test_an_example_prints_its_batch() -> None:
    texts: list[str] = []
    lazytorch.vmap(lambda a: (texts.append(repr(a * 2)), a)[1])(lazytorch.ones(2, 1))
    assert texts == [
        "BatchedTensor(lvl=1, bdim=0, value=\n    tensor([[2.],\n            [2.]])\n)"
    ]


@LIBRARIES
def test_looking_behind_an_example(t: Any) -> None:
    seen: list[Any] = []

    def look(a: Any, b: Any) -> Any:
        seen.append(t.func.debug_unwrap(a * b).tolist())
        return a * b

    t.vmap(t.vmap(look), (0, None))(t.ones(2, 1), t.tensor([3.0]))
    assert seen == [[[3], [3]]]


@LIBRARIES
def test_batch_norm_that_keeps_nothing(t: Any) -> None:
    net = t.func.replace_all_batch_norm_modules_(t.nn.Sequential(t.nn.BatchNorm1d(2)))
    found = t.vmap(net)(t.tensor(np.arange(12, dtype=np.float32).reshape(2, 3, 2)))
    assert (found[0] - found[1]).abs().max().item() < 1e-5


@LIBRARIES
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_masks_of_each_example(t: Any) -> None:
    mask = t.tensor([[True, False, True], [False, True, False]])
    found = t.vmap(lambda m: t.zeros(3).masked_scatter(m, t.tensor([5.0, 6.0])))(mask)
    assert found.tolist() == [[5, 0, 6], [0, 5, 0]]
    x = t.arange(6.0).reshape(2, 3)
    assert t.vmap(lambda a, m: a.masked_fill(m, 9))(x, mask).tolist() == [[9, 1, 9], [3, 9, 5]]


# Cost -------------------------------------------------------------------------------------------


def _kernels(size: int) -> tuple[int, int]:
    t = lazytorch
    w = t.ones(8, 8)

    def loss(w: Any, x: Any) -> Any:
        return (t.tanh(x @ w) * x).sum()

    x = t.tensor(np.ones((size, 8), np.float32))
    before = t.stats()
    t.vmap(t.func.grad(loss), in_dims=(None, 0))(w, x).sum(0).tolist()
    after = t.stats()
    return tuple(after[key] - before[key] for key in ("nodes_recorded", "kernels_launched"))


def test_kernels_and_nodes_do_not_grow_with_the_batch() -> None:
    assert _kernels(4) == _kernels(64)


def test_compiled() -> None:
    t = lazytorch
    w = t.arange(4.0)
    inputs = [_ones(t) * scale for scale in (1.0, 2.0, 3.0, 4.0)]
    wanted = [((x * w).cos() * w).tolist() for x in inputs]
    compiled = t.compile(t.vmap(t.func.grad(lambda a: (a * w).sin().sum())))
    recorded = []
    for x, values in zip(inputs, wanted):
        before = t.stats()["nodes_recorded"]
        np.testing.assert_allclose(compiled(x).numpy(), values, rtol=1e-5)
        recorded.append(t.stats()["nodes_recorded"] - before)
    assert recorded[0] > 0 and recorded[-1] == 0


def test_at_once() -> None:
    from lazytorch.tensor import recorder

    recorder.set_eager(True)
    try:
        found = lazytorch.vmap(lambda a: (a * 2).sum() + a)(_ones(lazytorch))
    finally:
        recorder.set_eager(False)
    assert found.tolist() == [[9] * 4] * 3
