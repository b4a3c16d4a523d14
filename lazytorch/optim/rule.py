"""The words of an update rule: what a rule is given, and what it gives back.

A rule is a function from the old values of one parameter, its gradient and its state to the new
ones. The optimizer reads and writes; the rule only computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.tensor.tensor import Tensor

# A parameter group: its parameters and options.
Group = dict[str, Any]
# What an optimizer keeps for one parameter.
State = dict[str, Any]
# Entries of a state whose values the host knows, such as the number of steps.
Entries = dict[str, float]
# The numbers of one step by name: they become arguments of kernels, never part of one.
Numbers = dict[str, Any]
# Such a number as a 0-d tensor in the dtype a parameter computes in.
Number = Callable[[str], Tensor]
# The new value of a parameter, and of tensors in its state by their names.
NewValues = tuple[Tensor, dict[str, Tensor]]


def decayed_gradient(gradient: Tensor, value: Tensor, group: Group, number: Number) -> Tensor:
    """The gradient of the loss with ``weight_decay / 2 · |value|²`` added."""
    if group["weight_decay"] == 0:
        return gradient
    return gradient + value * number("weight_decay")


def decayed(value: Tensor, gradient: Tensor, group: Group, number: Number) -> tuple[Tensor, Tensor]:
    """Value and gradient after weight decay.

    It shrinks the value by the number ``shrink`` where the group has ``decoupled_weight_decay``
    (Loshchilov and Hutter 2019), else it adds to the gradient.
    """
    if group["weight_decay"] != 0 and group["decoupled_weight_decay"]:
        return value * number("shrink"), gradient
    return value, decayed_gradient(gradient, value, group, number)
