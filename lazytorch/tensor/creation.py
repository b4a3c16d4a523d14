"""Making tensors from numbers, lists, arrays and nothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, leaves, movement
from lazytorch.tensor import tensor as tensor_module
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.batching.examples import for_each_example
from lazytorch.tensor.device import as_device, device
from lazytorch.tensor.formats import check_layout
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.recorder import (
    _python_number,
    array_of,
    own_value,
    record,
    scalar_node,
)
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import dtype_of, shape_of, share_from_numpy
from lazytorch.tensor.tensor import Tensor, fresh


def wants_grad(tensor: Tensor, requires_grad: bool) -> Tensor:
    """The tensor as a leaf that requires a gradient, if asked."""
    if requires_grad:
        if dtype_of(tensor).kind not in "fc":
            raise RuntimeError(
                "Only Tensors of floating point and complex dtype can require gradients"
            )
        tensor._requires_grad = True
    return tensor


# From data ------------------------------------------------------------------------------------


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    """Nested sequences of numbers (and tensors) as an array of the dtype PyTorch would infer."""
    if isinstance(data, (list, tuple)):
        if _holds_tensor(data):
            data = _without_tensors(data)
        try:
            array = np.array(data)
        except ValueError as error:
            raise ValueError(
                f"could not make a tensor from a sequence with parts of different lengths: {error}"
            ) from None
    else:
        array = np.asarray(data)
    if array.dtype.kind in "OUSMmV" and array.dtype not in (dtypes.bfloat16.numpy,):
        kind = type(data).__name__
        raise TypeError(
            f"can't make a tensor from {kind} (elements of NumPy dtype {array.dtype}): expected "
            "numbers, nested sequences of numbers, NumPy arrays of numbers, or tensors"
        )
    if dtype is not None:
        return elementwise.cast_array(array, dtype)
    if isinstance(data, (np.ndarray, np.generic)) or _holds_numpy(data):
        return np.asarray(data, dtypes.from_numpy(array.dtype).numpy)
    if array.dtype.kind == "f":
        return array.astype(get_default_dtype().numpy)
    if array.dtype.kind == "c":
        return array.astype(get_default_dtype().to_complex().numpy)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.size == 0:
        return array.astype(get_default_dtype().numpy)
    return array


def _holds_numpy(data: Any) -> bool:
    """Whether the first number of nested sequences is NumPy's, which keeps its dtype."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.generic, np.ndarray))


def _holds_tensor(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        if any(isinstance(item, Tensor) for item in data):
            return True
        data = data[0]
    return False


def _without_tensors(data: Any) -> Any:
    if isinstance(data, Tensor):
        array = array_of(tensor_module.node_of(data))
        return array.item() if array.ndim == 0 else array
    if isinstance(data, (list, tuple)):
        return [_without_tensors(item) for item in data]
    return data


def tensor(
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor with a copy of ``data``: numbers, nested sequences or a NumPy array.

    Floats become the default dtype, ints int64, bools bool, unless ``dtype`` says otherwise.

    >>> tensor([[1, 2], [3, 4]]).dtype
    torch.int64
    """
    if isinstance(data, Tensor):
        place = data._device if device is None else as_device(device)
        copied = functions.clone(data.detach())  # type: ignore[attr-defined]
        copied = functions.converted(copied, place, dtype or dtype_of(data))
        return wants_grad(copied, requires_grad)
    place = as_device(device)
    kind = data.__class__
    # Kernels take real arguments only: a complex number goes the way of arrays.
    if kind in (float, int, bool) and (dtype is None or dtype.kind != "c"):
        chosen = dtype or _dtype_of_number(data)
        # A scalar argument, never a constant: data must not enter the key of a plan.
        number = _python_number(data, chosen)
        if chosen.itemsize == 2 and chosen.kind == "f":
            # Operands keep their digits, but a tensor's value is what its dtype can hold.
            number = float(np.asarray(number, chosen.numpy))
        node = Node(leaves.SCALAR, (), (), (), chosen, place.runtime, None, number)
        return wants_grad(fresh(node, place), requires_grad)
    if isinstance(data, np.ndarray):
        array = np.ascontiguousarray(_array_of(data, dtype)).reshape(data.shape)
    else:
        array = _array_of(data, dtype)
        array = np.ascontiguousarray(array).reshape(array.shape)
    node = engine.leaf_from_array(array, place.runtime, share=False)
    return wants_grad(fresh(node, place), requires_grad)


def _dtype_of_number(value: Any) -> DType:
    if isinstance(value, bool):
        return dtypes.bool_
    return dtypes.int64 if isinstance(value, int) else get_default_dtype()


def scalar(
    value: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor of a number, in the default dtype unless told otherwise."""
    return tensor(
        value, dtype=dtype or get_default_dtype(), device=device, requires_grad=requires_grad
    )


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without copying where that is possible."""
    if isinstance(data, Tensor):
        place = data._device if device is None else as_device(device)
        return functions.converted(data, place, dtype or dtype_of(data))
    if isinstance(data, np.ndarray):
        shared = from_numpy(data)
        return functions.converted(shared, as_device(device), dtype or dtype_of(shared))
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor in the memory of a NumPy array: each sees the other's writes.

    The array must be C-contiguous to be shared through views too; other layouts are shared by
    strides as long as these are not negative.
    """
    if not isinstance(array, np.ndarray):
        kind = type(array)
        module = "numpy." if kind.__module__ == "numpy" else ""
        raise TypeError(f"expected np.ndarray (got {module}{kind.__name__})")
    dtypes.from_numpy(array.dtype)
    if not array.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion "
            "between byte orders is currently not supported."
        )
    if any(stride < 0 for stride in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative "
            "strides are not currently supported. (You can probably work around this by making a "
            "copy of your array  with array.copy().)"
        )
    if not array.flags.writeable:
        _warn_of_read_only()
    return in_memory_of(array)


@functools.cache
def _warn_of_read_only() -> None:
    warnings.warn(
        "The given NumPy array is not writable, and tensors are: writing into this one raises. "
        "Copy the array to write into it. This is said once.",
        UserWarning,
        stacklevel=4,
    )


def in_given_memory(array: np.ndarray, place: device) -> Tensor:
    """A tensor in the memory of a C-contiguous array that nobody else has or keeps: unlike
    ``from_numpy`` it is written like any other."""
    node = engine.leaf_from_array(array, place.runtime, share=True)
    node.buffer.shared = False
    return fresh(node, place)


def in_memory_of(array: np.ndarray) -> Tensor:
    """A tensor in the memory of an array whose dtype and strides tensors can have."""
    place = device("cpu")
    if array.flags.c_contiguous:
        made = fresh(None, place)
        made._storage = share_from_numpy(array, place)
        return made
    return functions.share_strided_array(array, place)


# Filled ---------------------------------------------------------------------------------------


def as_size(arguments: Sequence[Any], name: str) -> tuple[int, ...]:
    """A shape given as ``f(2, 3)`` or ``f((2, 3))``; negative extents are refused."""
    shape = functions.as_shape(arguments)
    for extent in shape:
        if extent < 0:
            raise RuntimeError(
                f"Trying to create tensor with negative dimension {extent}: {list(shape)}"
            )
    return shape


def filled(shape: tuple[int, ...], value: Any, dtype: DType, place: device) -> Tensor:
    """A tensor of one number, without history."""
    node = scalar_node(value, dtype, place.runtime)
    if not shape:
        node = own_value(node)
    else:
        node = record(movement.EXPAND, (node,), (shape,), shape, dtype, node.device)
    return fresh(node, place)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of shape ``size`` filled with one value."""
    check_layout(layout)
    shape = as_size((size,) if isinstance(size, int) else size, "full")
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()  # type: ignore[attr-defined]
    chosen = dtype or _dtype_of_number(fill_value)
    return wants_grad(filled(shape, fill_value, chosen, as_device(device)), requires_grad)


# Of ``zeros(3, out=x)``: zeros of the dtype of ``x``.
DECIDES = Target(decides=True)


def _filler(name: str, value: int) -> Any:
    def make(
        *sizes: Any,
        size: Any = None,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        check_layout(layout)
        if not sizes:
            if size is None:
                raise TypeError(
                    f"{name}() received an invalid combination of arguments: size is missing"
                )
            sizes = (size,)
        shape = as_size(sizes, name)
        made = filled(shape, value, dtype or get_default_dtype(), as_device(device))
        if memory_format is not None:
            made = functions.laid_out(made, memory_format, name)
        return wants_grad(made, requires_grad)

    def make_like(
        input: Tensor,
        *,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        check_layout(layout)
        place = input._device if device is None else as_device(device)
        made = filled(shape_of(input), value, dtype or dtype_of(input), place)
        if memory_format is not None:
            made = functions.laid_out(made, memory_format, name)
        return wants_grad(for_each_example(made, input), requires_grad)

    def make_new(
        self: Tensor,
        *sizes: Any,
        size: Any = None,
        dtype: DType | None = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        pin_memory: bool = False,
    ) -> Tensor:
        check_layout(layout)
        place = self._device if device is None else as_device(device)
        shape = as_size(sizes if size is None else (size,), "new_" + name)
        made = filled(shape, value, dtype or dtype_of(self), place)
        return wants_grad(for_each_example(made, self), requires_grad)

    for function, spelled in ((make, name), (make_like, f"{name}_like"), (make_new, f"new_{name}")):
        function.__name__ = function.__qualname__ = spelled
    make.__doc__ = f"A tensor of ``size`` ({name}: filled with {value})."
    make_like.__doc__ = f"A tensor like ``input`` in shape, dtype and device, filled with {value}."
    make_new.__doc__ = (
        f"A tensor of ``size`` with this one's dtype and device, filled with {value}."
    )
    public(method=False, out=DECIDES)(make)
    public(method=False)(make_like)
    public(function=False)(make_new)
    return make, make_like


zeros, zeros_like = _filler("zeros", 0)
ones, ones_like = _filler("ones", 1)
# There is no uninitialised memory in a graph of values: empty is zero.
empty, empty_like = _filler("empty", 0)


def empty_strided(size: Any, stride: Any, **options: Any) -> Tensor:
    """A tensor with given strides (its storage is as large as they need)."""
    shape, strides = tuple(size), tuple(stride)
    room = 1 + builtins_sum((extent - 1) * step for extent, step in zip(shape, strides))
    flat = empty((0 if 0 in shape else room,), **options)
    return functions.as_strided(flat, shape, strides)


builtins_sum = sum


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor like ``input`` filled with one value."""
    check_layout(layout)
    place = input._device if device is None else as_device(device)
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()  # type: ignore[attr-defined]
    made = filled(shape_of(input), fill_value, dtype or dtype_of(input), place)
    return wants_grad(for_each_example(made, input), requires_grad)


@public(function=False)
def new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of ``size`` with this one's dtype and device, filled with one value."""
    place = self._device if device is None else device
    made = full(size, fill_value, dtype=dtype or dtype_of(self), device=place)
    return wants_grad(for_each_example(made, self), requires_grad)


@public(function=False)
def new_tensor(
    self: Tensor, data: Any, *, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``tensor(data)`` with this one's dtype and device."""
    place = self._device if device is None else device
    made = tensor(data, dtype=dtype or dtype_of(self), device=place)
    return wants_grad(for_each_example(made, self), requires_grad)


def legacy_constructor(*args: Any, **options: Any) -> Tensor:
    """``torch.Tensor(2, 3)`` is uninitialised, ``torch.Tensor([1, 2])`` holds the data."""
    if len(args) == 1 and isinstance(args[0], Tensor):
        return tensor_module.alias(args[0])
    return of_type(options.pop("dtype", None) or get_default_dtype(), *args, **options)


def of_type(dtype: DType, *args: Any, device: Any = None, data: Any = None) -> Tensor:
    """What a class of tensors of one dtype (``torch.FloatTensor``) makes of its arguments.

    Raises ``TypeError`` for one number that is no int, and for a tensor of another dtype.
    """
    if data is not None:
        args = (data, *args)
    if not args:
        return empty((0,), dtype=dtype, device=device)
    if len(args) > 1 or isinstance(args[0], int):
        return empty(*args, dtype=dtype, device=device)
    data = args[0]
    if isinstance(data, Tensor):
        if dtype_of(data) is not dtype:
            raise TypeError(
                f"expected a tensor of {dtype!r} (got {dtype_of(data)!r}): convert it with "
                f"tensor.to({dtype!r})"
            )
        return tensor_module.alias(data)
    if isinstance(data, Size):
        return empty(data, dtype=dtype, device=device)
    if isinstance(data, str):
        raise TypeError("new(): invalid data type 'str'")
    if not isinstance(data, Sequence) and not isinstance(data, np.ndarray):
        raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
    return tensor(data, dtype=dtype, device=device)


tensor_module.legacy_constructor = legacy_constructor

for _name, _function in (
    ("tensor", tensor), ("scalar_tensor", scalar), ("as_tensor", as_tensor),
    ("from_numpy", from_numpy), ("empty_strided", empty_strided),
):  # fmt: skip
    setattr(functions, _name, _function)
public(method=False, out=DECIDES)(full)
public(method=False)(full_like)
