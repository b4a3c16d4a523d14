"""Hooks on saved tensors, places on the tape, and the entries themselves."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
import lazytorch.nn.functional as F
from lazytorch.autograd import Function, graph


def leaf(*values: float) -> Any:
    return torch.tensor(list(values), requires_grad=True)


def through_numpy() -> Any:
    """Hooks that keep saved tensors as NumPy arrays."""
    return graph.saved_tensors_hooks(
        lambda tensor: (tensor.detach().cpu().numpy().copy(), tensor.device),
        lambda packed: torch.from_numpy(packed[0]).to(packed[1]),
    )


PROGRAMS = {
    "source": lambda x: x * x,
    "result": lambda x: x.exp(),
    "several results": lambda x: x.reshape(2, 2).sort()[0],
    "beside": lambda x: F.layer_norm(x, (4,)),
    "statistics": lambda x: F.cross_entropy(x.reshape(2, 2), torch.tensor([0, 1])),
    "max pool": lambda x: F.max_pool1d(x.reshape(1, 1, 4), 2),
    "embedding": lambda x: F.embedding(torch.tensor([1, 1]), x.reshape(2, 2)),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.reshape(1, 2, 2)] * 3),
    "product": lambda x: x.reshape(2, 2) @ x.reshape(2, 2),
    "in place": lambda x: (x * 2).mul_(x).exp_(),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_of_packed_tensors(name: str, each_device: str) -> None:
    x = leaf(0.5, -1.0, 2.0, 0.25)
    weights = torch.arange(1.0, 5.0)

    def first_and_second(program: Any) -> list[Any]:
        out = program(x)
        loss = (out * weights[: out.numel()].reshape(out.shape)).sum()
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        if not first.requires_grad:
            return [first.tolist()]
        (second,) = torch.autograd.grad((first * weights).sum(), x, allow_unused=True)
        return [first.tolist(), second if second is None else second.tolist()]

    expected = first_and_second(PROGRAMS[name])
    with through_numpy():
        found = first_and_second(PROGRAMS[name])
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-5) if a is not None else None


def test_hooks_see_what_is_saved_and_nothing_else_keeps_it(each_device: str) -> None:
    x = leaf(1.0, 2.0)
    seen: list[Any] = []
    kept: list[Any] = []

    def pack(tensor: Any) -> int:
        seen.append((tensor.shape, tensor.requires_grad, torch.is_grad_enabled()))
        kept.append(tensor.detach().clone())
        return len(kept) - 1

    with graph.saved_tensors_hooks(pack, lambda place: kept[place]):
        middle = x * 2
        reference = weakref.ref(middle)
        y = (middle * middle).sum()
    assert seen == [((2,), True, False)] * 2
    del middle
    gc.collect()
    assert reference() is None
    y.backward()
    assert x.grad.tolist() == [8, 16]


def test_the_innermost_hooks_apply() -> None:
    called: list[str] = []

    def hooks(name: str) -> Any:
        return graph.saved_tensors_hooks(lambda t: called.append(name) or t, lambda t: t)

    with hooks("outer"):
        with hooks("inner"):
            leaf(1.0).exp()
        leaf(1.0).exp()
    leaf(1.0).exp()
    assert called == ["inner", "outer"]


def test_hooks_on_what_a_function_saves(each_device: str) -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x, None)
            return x * x

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            x, nothing = ctx.saved_tensors
            assert nothing is None
            return 2 * x * gradient

    x = leaf(3.0)
    with through_numpy():
        y = Square.apply(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert (first.item(), second.item()) == (6, 2)


def test_saved_on_the_cpu_and_written_to_meanwhile(each_device: str) -> None:
    x = leaf(1.0, 2.0)
    with graph.save_on_cpu(pin_memory=True):
        y = (x * 1).exp()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), np.exp([1, 2]), rtol=1e-6)
    x.grad = None
    with graph.allow_mutation_on_saved_tensors():
        y = x * 1
        z = y.sin()
        y.mul_(5)
        z.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), np.cos([1, 2]), rtol=1e-6)


def test_increment_version_is_noticed() -> None:
    x = leaf(1.0)
    y = x.exp()
    graph.increment_version(y)
    with pytest.raises(RuntimeError, match="is at version 1; expected version 0"):
        y.sum().backward()
    pair = [torch.ones(1), torch.ones(1)]
    graph.increment_version(pair)
    assert [one._version for one in pair] == [1, 1]


def test_places_on_the_tape_stand_for_tensors(each_device: str) -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    edge = graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0
    z = (y * y).sum()
    (at_y,) = torch.autograd.grad(z, edge, retain_graph=True)
    (at_x,) = torch.autograd.grad(z, graph.get_gradient_edge(x), retain_graph=True)
    assert (at_y.tolist(), at_x.tolist()) == ([6, 12], [18, 36])
    del y
    torch.autograd.backward(edge, torch.ones(2))
    assert x.grad.tolist() == [3, 3]


def test_one_hook_for_several_tensors(each_device: str) -> None:
    a, b = leaf(1.0), leaf(1.0)
    seen: list[Any] = []

    def note(gradients: Any) -> None:
        many = gradients if isinstance(gradients, list) else [gradients]
        seen.append([g if g is None else g.tolist() for g in many])

    handle = graph.register_multi_grad_hook((a, b), note)
    (a * 2).sum().backward()
    (a * 2 + b).sum().backward()
    torch.autograd.grad((a * 2 + b).sum(), b)
    assert seen == [[[2], None], [[2], [1]], [None, [1]]]
    handle.remove()
    with graph.register_multi_grad_hook((a, b), note, mode="any"):
        (a * 2 + b).sum().backward()
    (a * 2 + b).sum().backward()
    assert len(seen) == 4


def test_what_an_entry_tells() -> None:
    x = leaf(2.0)
    y = x * 3
    entry = y.grad_fn
    assert isinstance(entry, graph.Node) and entry.requires_grad
    entry.metadata["note"] = 1
    assert y.grad_fn.metadata == {"note": 1}
    assert (x * x).grad_fn._saved_self is x
    assert x.exp().grad_fn._saved_result.tolist() == x.exp().tolist()
    seen: list[Any] = []
    x_end = entry.next_functions[0][0]
    x_end.register_prehook(lambda got: seen.append(("before", x.grad)))
    x_end.register_hook(lambda made, got: seen.append(("after", x.grad.item())))
    y.sum().backward()
    assert seen == [("before", None), ("after", 3)]


def test_an_exception_on_the_way_leaves_gradients_and_tape_alone(each_device: str) -> None:
    x, w = leaf(1.0), leaf(2.0)
    y = x * w
    handle = y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (y + w).sum().backward(retain_graph=True)
    assert x.grad is None and w.grad is None and torch.is_grad_enabled()
    handle.remove()
    (y + w).sum().backward()
    assert (x.grad.item(), w.grad.item()) == (2, 2)
