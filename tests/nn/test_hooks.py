"""Hooks of modules: when they run, what they may replace, how they are removed."""

from __future__ import annotations

import pytest

import lazytorch as torch
from lazytorch import nn


def test_forward_hooks_replace_and_keep_order() -> None:
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    layer.register_forward_hook(lambda m, args, out: out * 10)
    first = layer.register_forward_hook(lambda m, args, out: out + 1, prepend=True)
    assert layer(torch.tensor(1.0)).item() == 30
    first.remove()
    assert layer(torch.tensor(1.0)).item() == 20


def test_hooks_with_kwargs_and_always_call() -> None:
    """What the hooks see, also when forward or another hook raises, is what PyTorch's see."""

    def seen_by_hooks(library) -> list:
        class Add(library.nn.Module):
            def forward(self, x, amount=0):
                if amount < 0:
                    raise ValueError("negative")
                return x + amount

        def note(module, args, kwargs, out) -> None:
            seen.append((kwargs, None if out is None else out.item()))

        def refuse(module, args, out) -> None:
            raise KeyError("refused")

        layer, seen = Add(), []
        layer.register_forward_pre_hook(
            lambda m, args, kwargs: (args, {"amount": kwargs["amount"] * 2}), with_kwargs=True
        )
        layer.register_forward_hook(note, with_kwargs=True, always_call=True)
        seen.append(layer(library.tensor(1.0), amount=2).item())
        with pytest.raises(ValueError, match="negative"):
            layer(library.tensor(1.0), amount=-1)
        layer.register_forward_hook(refuse)
        layer.register_forward_hook(note, with_kwargs=True, always_call=True)
        with pytest.raises(KeyError, match="refused"):
            layer(library.tensor(1.0), amount=3)
        layer.register_forward_hook(refuse, always_call=True)
        with pytest.warns(UserWarning, match="silenced"), pytest.raises(KeyError):
            layer(library.tensor(1.0), amount=3)
        return seen

    reference = pytest.importorskip("torch")
    assert seen_by_hooks(torch) == seen_by_hooks(reference)


@pytest.mark.parametrize("input_needs_gradient", [False, True])
def test_full_backward_hooks(input_needs_gradient: bool) -> None:
    layer, seen = nn.Linear(2, 2, bias=False), []
    with torch.no_grad():
        layer.weight.fill_(1.0)

    def hook(module, grad_input, grad_output):
        incoming = None if grad_input[0] is None else grad_input[0].tolist()
        seen.append((incoming, grad_output[0].tolist()))
        return (grad_input[0] * 10,) if input_needs_gradient else None

    layer.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 3,))
    handle = layer.register_full_backward_hook(hook)
    x = torch.ones(1, 2, requires_grad=input_needs_gradient)
    layer(x).sum().backward()
    assert seen == [([[6.0, 6.0]] if input_needs_gradient else None, [[3.0, 3.0]])]
    assert layer.weight.grad.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    if input_needs_gradient:
        assert x.grad.tolist() == [[60.0, 60.0]]
    handle.remove()
    layer(x).sum().backward()
    assert len(seen) == 1


def test_old_backward_hook_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="register_full_backward_hook"):
        nn.ReLU().register_backward_hook(print)
