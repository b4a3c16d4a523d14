"""torch.autograd.Variable: what tensors with gradients were called before they were tensors."""

from __future__ import annotations

from typing import Any

from lazytorch.tensor.tensor import Tensor


class _AnyTensor(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_AnyTensor):
    """Making one gives a tensor of the same memory, off the tape; every tensor is an instance.

    >>> Variable(torch.ones(2), requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
        tensor = data.detach()
        return tensor.requires_grad_() if requires_grad else tensor
