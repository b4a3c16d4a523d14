"""Moving and casting a module: ``to``, ``half``, ``float``, ``cuda`` and their kin.

Knows how a conversion reaches every tensor of the tree while the Parameter objects stay the
same (an optimizer holds them). It must not know layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import lazytorch as torch
from lazytorch import __future__, dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.nn.parameter import Parameter, is_lazy
from lazytorch.tensor.tensor import Tensor

Self = TypeVar("Self", bound="ConversionMethods")


class ConversionMethods:
    """The part of Module that converts its tensors."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if recurse:
            for module in self.children():  # type: ignore[attr-defined]
                module._apply(fn)
        replaces = (
            __future__.get_overwrite_module_params_on_conversion()
            and not __future__.get_swap_module_params_on_conversion()
        )
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            if replaces and not is_lazy(parameter):
                self._parameters[name] = _converted(parameter, fn)
                continue
            with no_grad():
                parameter.data = fn(parameter.data if is_lazy(parameter) else parameter)
                if parameter.grad is not None:
                    parameter.grad.data = fn(parameter.grad)
        for name, buffer in self._buffers.items():
            if is_lazy(buffer):
                buffer.data = fn(buffer.data)
            elif buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device and cast floating-point tensors, in place: ``to(device)``,
        ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``. A ``memory_format`` is taken and
        changes nothing: kernels pack the parameters that they read.

        >>> nn.Linear(2, 1).to(torch.float64).weight.dtype
        torch.float64
        """
        device, dtype, non_blocking = _parse_to(args, kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, "
                f"but got desired dtype={dtype}"
            )

        def convert(tensor: Tensor) -> Tensor:
            castable = tensor.is_floating_point() or tensor.is_complex()
            options: dict[str, Any] = {"non_blocking": non_blocking}
            if device is not None:
                options["device"] = device
            if dtype is not None and castable:
                options["dtype"] = dtype
            return tensor.to(**options)

        return self._apply(convert)

    def type(self: Self, dst_type: Any) -> Self:
        """Cast every parameter and buffer, integer buffers too."""
        return self._apply(lambda tensor: tensor.type(dst_type))

    def _cast_floating(self: Self, dtype: dtypes.DType) -> Self:
        return self._apply(
            lambda tensor: tensor.to(dtype=dtype) if tensor.is_floating_point() else tensor
        )

    def float(self: Self) -> Self:
        """Cast floating-point tensors to float32."""
        return self._cast_floating(dtypes.float32)

    def double(self: Self) -> Self:
        """Cast floating-point tensors to float64."""
        return self._cast_floating(dtypes.float64)

    def half(self: Self) -> Self:
        """Cast floating-point tensors to float16."""
        return self._cast_floating(dtypes.float16)

    def bfloat16(self: Self) -> Self:
        """Cast floating-point tensors to bfloat16."""
        return self._cast_floating(dtypes.bfloat16)

    def cpu(self: Self) -> Self:
        """Move to the ``cpu`` device."""
        return self._apply(lambda tensor: tensor.to(device="cpu"))

    def cuda(self: Self, device: Any = None) -> Self:
        """Move to the first OpenCL GPU, or to ``device``."""
        target = _numbered("cuda", device)
        return self._apply(lambda tensor: tensor.to(device=target))

    def xpu(self: Self, device: Any = None) -> Self:
        """Move to the first OpenCL GPU, or to ``device``."""
        target = _numbered("xpu", device)
        return self._apply(lambda tensor: tensor.to(device=target))

    def to_empty(self: Self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without keeping the values."""
        return self._apply(lambda tensor: torch.empty_like(tensor, device=device), recurse=recurse)

    def share_memory(self: Self) -> Self:
        """Refused: tensors of lazytorch are not shared between processes."""
        raise NotImplementedError(
            "share_memory() is not supported; pass state_dict() values as NumPy arrays instead"
        )


def _converted(parameter: Any, fn: Callable[[Tensor], Tensor]) -> Parameter:
    """A new parameter with the converted value and gradient of another."""
    with no_grad():
        new: Any = Parameter(fn(parameter), parameter.requires_grad)
        if parameter.grad is not None:
            gradient = fn(parameter.grad)
            new.grad = gradient.requires_grad_(parameter.grad.requires_grad)
    return new  # type: ignore[no-any-return]


def _numbered(kind: str, device: Any) -> Any:
    if device is None:
        return kind
    return f"{kind}:{device}" if isinstance(device, int) else device


def _parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, bool]:
    """(device, dtype, non_blocking) of a ``to`` call."""
    options = dict(kwargs)
    positional = list(args)
    device = options.pop("device", None)
    dtype = options.pop("dtype", None)
    other = options.pop("tensor", None)
    if positional and isinstance(positional[0], Tensor):
        other = positional.pop(0)
    elif positional and isinstance(positional[0], dtypes.DType):
        dtype = positional.pop(0)
    elif positional:
        device = positional.pop(0)
        if positional and (positional[0] is None or isinstance(positional[0], dtypes.DType)):
            dtype = positional.pop(0)
    if other is not None:
        device, dtype = other.device, other.dtype
    non_blocking = positional.pop(0) if positional else options.pop("non_blocking", False)
    options.pop("memory_format", None)
    options.pop("copy", None)
    if positional or options:
        unknown = ", ".join([*map(repr, positional), *options])
        raise TypeError(f"to() received an invalid combination of arguments: {unknown}")
    return device, dtype, bool(non_blocking)
