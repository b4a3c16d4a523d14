"""Steps that make a view of a value."""

from __future__ import annotations

import numpy as np

from tests.tensor.aliasing.mirror import owner
from tests.tensor.aliasing.program import Choices, Program, Step, Value, of_dimensions

# The same bits as numbers of another kind: arithmetic on such floats is nobody's business.
AS_TYPES = {
    "float32": ("int32", "uint8", "int16"), "int32": ("float32", "uint8", "int16"),
    "int64": ("int32", "float32", "uint8"), "uint8": ("int8", "int16", "int32"),
    "int16": ("int32", "uint8"), "int8": ("uint8",), "complex64": ("int32", "float32"),
}  # fmt: skip


def shapes_of_size(size: int, random: Choices) -> tuple[int, ...]:
    shape: list[int] = []
    while size > 1 and random.random() < 0.75:
        divisors = [number for number in range(1, size + 1) if size % number == 0]
        shape.append(random.choice(divisors))
        size //= shape[-1]
    return (*shape, size)


def reshape(p: Program, name: str, value: Value) -> bool:
    shape = shapes_of_size(value.array.size, p.random)
    shown = value.array.reshape(shape)
    if not np.shares_memory(shown, value.array):
        return False
    function = p.random.choice(("reshape", "view")) if value.array.flags.c_contiguous else "reshape"
    p.make(f"{name}.{function}({shape})", f"{name}.reshape({shape})", value)
    return True


def flattened(p: Program, name: str, value: Value) -> bool:
    if not value.array.flags.c_contiguous or not value.array.ndim:
        return False
    functions = ("view(-1)", "contiguous().view(-1)", "flatten()", "ravel()")
    # The last two give a vector itself.
    text = p.random.choice(functions if value.array.ndim > 1 else functions[:2])
    p.make(f"{name}.{text}", f"{name}.reshape(-1)", value)
    return True


@of_dimensions(1)
def unflattened(p: Program, name: str, value: Value) -> bool:
    axis = p.axis(value)
    shape = value.array.shape
    sizes = shapes_of_size(shape[axis], p.random)
    whole = (*shape[:axis], *sizes, *shape[axis + 1 :])
    p.make(f"{name}.unflatten({axis}, {sizes})", f"{name}.reshape({whole})", value)
    return True


@of_dimensions(1)
def select(p: Program, name: str, value: Value) -> bool:
    axis = p.axis(value)
    place = p.random.randrange(-value.array.shape[axis], value.array.shape[axis])
    head = ":, " * axis
    p.make(f"{name}.select({axis}, {place})", f"{name}[{head}{place}, ...]", value)
    return True


@of_dimensions(1)
def narrow(p: Program, name: str, value: Value) -> bool:
    axis = p.axis(value)
    extent = value.array.shape[axis]
    start = p.random.randrange(extent)
    length = p.random.randint(1, extent - start)
    text = f"{name}[{':, ' * axis}{start}:{start + length}]"
    p.make(f"{name}.narrow({axis}, {start}, {length})", text, value)
    return True


def indexed(p: Program, name: str, value: Value) -> bool:
    items = p.key(value.array.shape)
    text = ", ".join(items)
    p.make(f"{name}[{text}]", f"{name}[{text if '...' in items else text + ', ...'}]", value)
    return True


@of_dimensions(2)
def exchanged(p: Program, name: str, value: Value) -> bool:
    first, second = p.axis(value), p.axis(value)
    function = p.random.choice(("transpose", "swapaxes", "swapdims"))
    text = f"{name}.swapaxes({first}, {second})"
    p.make(f"{name}.{function}({first}, {second})", text, value)
    return True


def permuted(p: Program, name: str, value: Value) -> bool:
    order = p.random.sample(range(value.array.ndim), value.array.ndim)
    p.make(f"{name}.permute({order})", f"{name}.transpose({order})", value)
    return True


@of_dimensions(2)
def moved(p: Program, name: str, value: Value) -> bool:
    first, second = p.axis(value), p.axis(value)
    function = p.random.choice(("movedim", "moveaxis"))
    p.make(
        f"{name}.{function}({first}, {second})", f"np.moveaxis({name}, {first}, {second})", value
    )
    return True


@of_dimensions(2)
def transposed(p: Program, name: str, value: Value) -> bool:
    function = p.random.choice(("mT", "adjoint()", "t()", "T"))
    if value.array.ndim != 2 or (function == "adjoint()" and value.array.dtype.kind == "c"):
        function = "mT"
    p.make(f"{name}.{function}", f"{name}.swapaxes(-2, -1)", value)
    return True


@of_dimensions(2)
def diagonals(p: Program, name: str, value: Value) -> bool:
    first, second = p.random.sample(range(value.array.ndim), 2)
    offset = p.random.choice((-1, 0, 0, 1))
    places = f"{offset}, {first}, {second}"
    p.make(f"{name}.diagonal({places})", f"diagonal({name}, {places})", value)
    return True


@of_dimensions(1)
def windows(p: Program, name: str, value: Value) -> bool:
    axis = p.axis(value)
    size, step = p.random.randint(1, value.array.shape[axis]), p.random.randint(1, 3)
    places = f"{axis}, {size}, {step}"
    p.make(f"{name}.unfold({places})", f"unfold({name}, {places})", value)
    return True


def expanded(p: Program, name: str, value: Value) -> bool:
    shape = tuple(2 if extent == 1 else extent for extent in value.array.shape)
    if p.random.random() < 0.5:
        shape = (2, *shape)
    text = p.random.choice((f"{name}.expand({shape})", f"torch.broadcast_to({name}, {shape})"))
    p.make(text, f"expand({name}, {shape})", value)
    return True


def unsqueezed(p: Program, name: str, value: Value) -> bool:
    axis = p.random.randint(0, value.array.ndim)
    p.make(f"{name}.unsqueeze({axis})", f"np.expand_dims({name}, {axis})", value)
    return True


def squeezed(p: Program, name: str, value: Value) -> bool:
    if 1 not in value.array.shape:
        return False
    if p.random.random() < 0.5:
        p.make(f"{name}.squeeze()", f"np.squeeze({name})[...]", value)
    else:
        axis = value.array.shape.index(1)
        p.make(f"{name}.squeeze({axis})", f"np.squeeze({name}, {axis})[...]", value)
    return True


@of_dimensions(1)
def parted(p: Program, name: str, value: Value) -> bool:
    axis = p.axis(value)
    extent = value.array.shape[axis]
    head = ":, " * axis
    if p.random.random() < 0.4:
        place = p.random.randrange(extent)
        p.make(f"{name}.unbind({axis})[{place}]", f"{name}[{head}{place}, ...]", value)
        return True
    size = p.random.randint(1, extent)
    number = p.random.randrange(-(-extent // size))
    text = f"{name}[{head}{number * size}:{min((number + 1) * size, extent)}]"
    whole = f"{name}.split({size}, {axis})[{number}]"
    chunks = -(-extent // size)
    if -(-extent // chunks) == size and p.random.random() < 0.5:
        whole = f"{name}.chunk({chunks}, {axis})[{number}]"
    p.make(whole, text, value)
    return True


def strided(p: Program, name: str, value: Value) -> bool:
    room = owner(value.array).nbytes // value.array.itemsize
    shape = p.random.choice(((2,), (3, 2), (2, 2)))
    strides = tuple(p.random.choice((1, 1, 2, 3)) for _ in shape)
    reach = sum((n - 1) * step for n, step in zip(shape, strides))
    if reach >= room:
        return False
    offset = p.random.randrange(room - reach)
    places = f"{shape}, {strides}, {offset}"
    p.make(f"{name}.as_strided({places})", f"as_strided({name}, {places})", value)
    return True


def complex_parts(p: Program, name: str, value: Value) -> bool:
    if value.array.dtype.kind != "c":
        return False
    choice = p.random.randrange(3)
    if choice == 2:
        p.make(f"torch.view_as_real({name})", f"parts({name})", value)
    else:
        p.make(f"{name}.{('real', 'imag')[choice]}", f"part({name}, {choice})", value)
    return True


def as_complex(p: Program, name: str, value: Value) -> bool:
    array = value.array
    start = array.__array_interface__["data"][0] - owner(array).__array_interface__["data"][0]
    if array.dtype != np.float32 or not array.ndim or array.shape[-1] != 2 or start % 8:
        return False
    if array.strides[-1] != 4 or any(step % 8 for step in array.strides[:-1]):
        return False
    p.make(f"torch.view_as_complex({name})", f"paired({name})", value)
    return True


def other_dtype(p: Program, name: str, value: Value) -> bool:
    array = value.array
    choices = AS_TYPES.get(array.dtype.name)
    if choices is None:
        return False
    dtype = np.dtype(p.random.choice(choices))
    if dtype.itemsize != array.itemsize:
        if not array.ndim or array.strides[-1] != array.itemsize:
            return False
        start = array.__array_interface__["data"][0] - owner(array).__array_interface__["data"][0]
        lengths = (start, array.shape[-1] * array.itemsize, *array.strides[:-1])
        if any(length % dtype.itemsize for length in lengths):
            return False
    p.make(f"{name}.view(torch.{dtype.name})", f"{name}.view({dtype.name!r})", value)
    p.wild.add(value.root)
    return True


def aliased(p: Program, name: str, value: Value) -> bool:
    function = p.random.choice((".detach()", ".data", f".view_as({name})", f".expand_as({name})"))
    p.make(f"{name}{function}", f"{name}[...]", value)
    return True


VIEWS: tuple[Step, ...] = (
    reshape, flattened, unflattened, select, narrow, indexed, indexed, exchanged, permuted, moved,
    transposed, diagonals, windows, expanded, unsqueezed, squeezed, parted, parted, strided,
    complex_parts, complex_parts, as_complex, other_dtype, aliased,
)  # fmt: skip
