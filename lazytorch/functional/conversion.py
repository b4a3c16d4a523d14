"""Tensors in another dtype or on another device, and questions about their kind."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes, engine
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.dtypes import DType
from lazytorch.tensor.apply import cast, reinterpret_view, to_device_node
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.device import as_device, device
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor, fresh

# Conversion -----------------------------------------------------------------------------------


_MOVED = Rule(
    "ToCopyBackward0", (lambda g, attrs, f: f.converted(g, attrs[0], dtype_of(g)),)
)


def converted(input: Tensor, place: device, dtype: DType) -> Tensor:
    """The tensor on a device, in a dtype: itself when it already is."""
    if input._device is not place:
        if node_of(input).device == place.runtime:
            # Two names of one device: only the name changes, but as in PyTorch it is a copy.
            moved = fresh(node_of(input), place)
        else:
            moved = fresh(to_device_node(input, place), place)
        input = attach(moved, _MOVED, (input,), (input._device,))
    return cast(input, dtype)


functions.converted = converted


@public(function=False)
def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor in another dtype, on another device, or like another tensor.

    ``to(dtype)``, ``to(device, dtype=None)``, ``to(other)``; ``copy=True`` always copies.
    """
    place, dtype = self._device, dtype_of(self)
    copy = kwargs.pop("copy", False)
    kwargs.pop("non_blocking", None)
    memory_format = kwargs.pop("memory_format", None)
    for argument in args:
        if isinstance(argument, Tensor):
            place, dtype = argument._device, dtype_of(argument)
        elif isinstance(argument, DType):
            dtype = argument
        elif isinstance(argument, (str, device)) or (
            isinstance(argument, int) and not isinstance(argument, bool)
        ):
            place = as_device(argument)
        elif argument is not None and not isinstance(argument, bool):
            raise TypeError(
                "to() received an invalid combination of arguments - got "
                f"({type(argument).__name__}); expected a device, a dtype or a Tensor"
            )
    if kwargs.get("other") is not None:
        place, dtype = kwargs["other"]._device, dtype_of(kwargs["other"])
    if kwargs.get("device") is not None:
        place = as_device(kwargs["device"])
    if kwargs.get("dtype") is not None:
        dtype = kwargs["dtype"]
    result = converted(self, place, dtype)
    if copy and result is self:
        return functions.clone(result, memory_format=memory_format)  # type: ignore[no-any-return]
    return _laid_out(result, memory_format, "to")


def _laid_out(tensor: Tensor, memory_format: Any, name: str) -> Tensor:
    """The tensor in a memory format, if one is asked for."""
    if memory_format is None:
        return tensor
    out = functions.laid_out(tensor, memory_format, name)
    return out if out is tensor else label(out, "ToCopyBackward0")


def _caster(name: str, dtype: DType) -> None:
    def convert(self: Tensor, memory_format: Any = None) -> Tensor:
        return _laid_out(cast(self, dtype), memory_format, name)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"The tensor as {dtype!r}."
    public(function=False)(convert)


for _name, _dtype in (
    ("float", dtypes.float32), ("double", dtypes.float64), ("half", dtypes.float16),
    ("bfloat16", dtypes.bfloat16), ("cfloat", dtypes.complex64), ("cdouble", dtypes.complex128),
    ("long", dtypes.int64), ("int", dtypes.int32),
    ("short", dtypes.int16), ("char", dtypes.int8), ("byte", dtypes.uint8), ("bool", dtypes.bool_),
):  # fmt: skip
    _caster(_name, _dtype)


@public(function=False)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the dtype of another."""
    return cast(self, dtype_of(other))


@public(function=False)
def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor on the CPU."""
    return _laid_out(converted(self, device("cpu"), dtype_of(self)), memory_format, "cpu")


@public(function=False)
def cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """The tensor on a GPU."""
    return converted(self, as_device("cuda" if device is None else device), dtype_of(self))


@public(function=False)
def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """The tensor itself: transfers need no pinned memory."""
    return self


@public(function=False)
def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Always false."""
    return False


def view_as_dtype(input: Tensor, dtype: DType) -> Tensor:
    """The same memory read as elements of another dtype; a view without a gradient.

    Where the elements differ in size, the last dimension (of stride 1) grows or shrinks.
    ``RuntimeError`` when the elements do not fill whole ones of ``dtype``.
    """
    before = dtype_of(input)
    shape, strides, offset = shape_of(input), strides_of(input), input.storage_offset()
    if dtype is before:
        return input.view_as(input)
    if before.itemsize > dtype.itemsize:
        ratio = before.itemsize // dtype.itemsize
        _check_last(input, dtype)
        shape = (*shape[:-1], shape[-1] * ratio)
        strides = (*(step * ratio for step in strides[:-1]), 1)
        offset *= ratio
    elif before.itemsize < dtype.itemsize:
        ratio = dtype.itemsize // before.itemsize
        _check_last(input, dtype)
        for name, number in (
            ("self.size(-1)", shape[-1]),
            ("self.storage_offset()", offset),
            *((f"self.stride({axis})", step) for axis, step in enumerate(strides[:-1])),
        ):
            if number % ratio:
                raise RuntimeError(
                    f"{name} must be divisible by {ratio} to view {scalar_name(before)} as "
                    f"{scalar_name(dtype)} (different element sizes), but got {number}"
                )
        shape = (*shape[:-1], shape[-1] // ratio)
        strides = (*(step // ratio for step in strides[:-1]), 1)
        offset //= ratio
    with no_grad():
        return reinterpret_view(input, dtype, shape, strides, offset, _no_gradient)


_no_gradient = Rule("None", ())


def _check_last(input: Tensor, dtype: DType) -> None:
    names = f"view {scalar_name(dtype_of(input))} as {scalar_name(dtype)}"
    if not shape_of(input):
        raise RuntimeError(f"self.dim() cannot be 0 to {names} (different element sizes)")
    if strides_of(input)[-1] != 1:
        raise RuntimeError(
            f"self.stride(-1) must be 1 to {names} (different element sizes), but got "
            f"{strides_of(input)[-1]}"
        )


functions.view_as_dtype = view_as_dtype

# Questions about tensors ----------------------------------------------------------------------


def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def typename(obj: Any) -> str:
    """The name of an object's type, of a tensor's kind of tensor."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = obj if isinstance(obj, type) else type(obj)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


functions.is_tensor = is_tensor
functions.typename = typename
functions.numel = Tensor.numel
functions.is_floating_point = Tensor.is_floating_point
functions.is_complex = Tensor.is_complex
functions.is_signed = Tensor.is_signed
functions.synchronize = engine.synchronize


def stats() -> dict[str, int]:
    """Counts since the process started: operations recorded, plans, programs, launches, bytes.

    >>> sorted(stats())[0]
    'bytes_moved'
    """
    return engine.stats()


functions.stats = stats


@public(function=False)
def is_same_size(self: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape."""
    return shape_of(self) == shape_of(other)


@public(function=False)
def dim_order(self: Tensor) -> tuple[int, ...]:
    """Dimensions from the outermost in memory to the innermost."""
    strides = self.stride()
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


@public(function=False)
def squeeze_(self: Tensor, dim: Any = None) -> Tensor:
    """``squeeze`` in place: the tensor itself gets another shape."""
    return become(self, functions.squeeze(self) if dim is None else functions.squeeze(self, dim))


@public(function=False)
def unsqueeze_(self: Tensor, dim: int) -> Tensor:
    """``unsqueeze`` in place: the tensor itself gets another shape."""
    return become(self, functions.unsqueeze(self, dim))


@public(function=False)
def transpose_(self: Tensor, dim0: int, dim1: int) -> Tensor:
    """``transpose`` in place: the tensor itself gets another shape."""
    return become(self, functions.transpose(self, dim0, dim1))


@public(function=False)
def t_(self: Tensor) -> Tensor:
    """``t`` in place: the tensor itself gets another shape."""
    return become(self, functions.t(self))


def become(target: Tensor, view: Tensor) -> Tensor:
    """Make a tensor show what a view of it shows, history included."""
    if target._requires_grad and target._grad_fn is None and mode.enabled:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation."
        )
    target._node, target._view = view._node, view._view
    if target._view is not None and target._view.base is target:
        # A base cannot be its own view: what was the base goes on as an unnamed tensor.
        target._view.base = None
    target._grad_fn, target._output_number = view._grad_fn, view._output_number
    return target


@public(out=False)
def is_nonzero(input: Tensor) -> bool:
    """Whether the one value of a tensor is not zero."""
    return bool(input)
