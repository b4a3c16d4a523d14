"""Random programs that make views of views and write through any of them.

A program is a list of lines, each with its text for PyTorch's interface and its text for NumPy,
whose views alias as PyTorch's do. While a program is made its NumPy side is carried out, so that
each line fits what is there. Texts mention tensors by name; a line that fails is no part of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis.strategies import DrawFn, composite, integers

SHAPES = ((8,), (2, 6), (2, 3, 4))
TYPES = ("float32", "float32", "int64", "int32", "complex64", "uint8", "bool")
# PyTorch's results keep the order of their operands' strides, and contiguous() leaves a dimension
# of one element whatever stride it has; NumPy's copies in C order have none of either.
ROW_MAJOR = "clone(memory_format=torch.contiguous_format)"
# The same bits as numbers of another kind: arithmetic on such floats is nobody's business.
AS_TYPES = {
    "float32": ("int32", "uint8", "int16"), "int32": ("float32", "uint8", "int16"),
    "int64": ("int32", "float32", "uint8"), "uint8": ("int8", "int16", "int32"),
    "int16": ("int32", "uint8"), "int8": ("uint8",), "complex64": ("int32", "float32"),
}  # fmt: skip


# NumPy's side of what NumPy has no function for ------------------------------------------------


def owner(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def as_strided(array: np.ndarray, shape: Any, strides: Any, offset: int) -> np.ndarray:
    steps = tuple(step * array.itemsize for step in strides)
    return np.ndarray(shape, array.dtype, owner(array), offset * array.itemsize, steps)


def diagonal(array: np.ndarray, offset: int, first: int, second: int) -> np.ndarray:
    taken = array.diagonal(offset, first, second)
    taken.flags.writeable = True
    return taken


def unfold(array: np.ndarray, axis: int, size: int, step: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(array, size, axis, writeable=True)
    return windows[(slice(None),) * axis + (slice(None, None, step),)]


def expand(array: np.ndarray, shape: Any) -> np.ndarray:
    steps = np.broadcast_to(array, shape).strides
    return np.lib.stride_tricks.as_strided(array, shape, steps)


def part(array: np.ndarray, number: int) -> np.ndarray:
    """The real or the imaginary part."""
    return array.real if number == 0 else array.imag


def parts(array: np.ndarray) -> np.ndarray:
    """Complex numbers as a last dimension of two."""
    half = array.real.dtype
    steps = (*array.strides, half.itemsize)
    start = array.__array_interface__["data"][0] - owner(array).__array_interface__["data"][0]
    return np.ndarray((*array.shape, 2), half, owner(array), start, steps)


def paired(array: np.ndarray) -> np.ndarray:
    return array.view(np.complex64)[..., 0]


def put(array: np.ndarray, index: Any, value: Any) -> None:
    array[index] = value


def scatter(array: np.ndarray, axis: int, index: list, value: Any, add: bool) -> None:
    places = list(np.indices(np.shape(index)))
    places[axis] = np.array(index)
    if add:
        np.add.at(array, tuple(places), value)
    else:
        array[tuple(places)] = value


NUMPY = {
    "np": np, "as_strided": as_strided, "diagonal": diagonal, "unfold": unfold, "expand": expand,
    "part": part, "parts": parts, "paired": paired, "put": put, "scatter": scatter,
    "seen": lambda value: None, "refused": lambda: None,
}  # fmt: skip


# Programs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One statement: for PyTorch's interface, for NumPy, and the name it makes, if any."""

    torch: str
    numpy: str
    makes: str = ""


@dataclass
class Value:
    """What is known of a name: its memory, and whether its bits are of another kind's."""

    array: np.ndarray
    root: int
    bits: bool = False

    @property
    def writable(self) -> bool:
        array = self.array
        return 0 not in array.shape and not any(
            step == 0 and extent > 1 for step, extent in zip(array.strides, array.shape)
        )

    @property
    def overlapping(self) -> bool:
        positions = positions_of(self.array)
        return len(set(positions)) < len(positions)


def positions_of(array: np.ndarray) -> list[int]:
    axes = (
        range(0, step * n, step) if step else [0] * n for n, step in zip(array.shape, array.strides)
    )
    return [sum(place) for place in itertools.product(*axes)]


class Choices:
    """What a program uses of ``random.Random``, drawn so that hypothesis can make it simpler."""

    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw

    def randint(self, first: int, last: int) -> int:
        # Hypothesis makes a number simpler by bringing it nearer to zero.
        return int(self.draw(integers(first, last)))

    def randrange(self, start: int, stop: int | None = None) -> int:
        return self.randint(0, start - 1) if stop is None else self.randint(start, stop - 1)

    def random(self) -> float:
        return self.randint(0, 99) / 100

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.randrange(len(options))]

    def sample(self, options: Sequence[Any], count: int) -> list[Any]:
        left = list(options)
        return [left.pop(self.randrange(len(left))) for _ in range(count)]


class Program:
    """A program of the lines that ``choices`` make; small choices make a simple one."""

    def __init__(self, choices: Choices, shares: bool) -> None:
        self.random = choices
        self.space: dict[str, Any] = dict(NUMPY)
        self.values: dict[str, Value] = {}
        self.lines: list[Line] = []
        self.shares = shares
        self.wild: set[int] = set()
        self.hosts: dict[str, Value] = {}
        self.count = 0
        for _ in range(self.random.choice((1, 1, 2))):
            self.root()

    def finish(self) -> None:
        """Look at everything."""
        for name in self.values:
            self.emit(f"seen({name})", f"seen({name})")

    # Making lines

    def emit(self, torch: str, numpy: str) -> None:
        exec(numpy, self.space)
        self.lines.append(Line(torch, numpy))

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def make(self, torch: str, numpy: str, like: Value | None, bits: bool = False) -> None:
        """A line that gives a name to a view of ``like``, or to memory of its own."""
        name = self.name()
        array = eval(numpy, self.space)
        if array.size > 96 or array.ndim > 5:
            return
        self.space[name] = array
        self.lines.append(Line(f"{name} = {torch}", f"{name} = {numpy}", name))
        root = self.count if like is None else like.root
        self.values[name] = Value(array, root, bits or (like is not None and like.bits))

    def pick(self) -> tuple[str, Value]:
        names = list(self.values)
        # Recent ones more often: views of views.
        name = names[int(len(names) * self.random.random() ** 0.6)]
        return name, self.values[name]

    def number(self, value: Value) -> str:
        kind = value.array.dtype.kind
        if kind == "b":
            return str(self.random.random() < 0.5)
        return str(self.random.randint(1, 9))

    def root(self) -> None:
        dtype = self.random.choice(TYPES)
        shape = self.random.choice(SHAPES)
        if dtype == "complex64" and len(shape) == 3:
            shape = (2, 6)
        size = math.prod(shape)
        listed = [number % 7 for number in range(size)]
        if dtype == "bool":
            listed = [number % 3 == 0 for number in range(size)]
        array = f"np.array({listed}, {dtype.replace('bool', 'bool_')!r}).reshape{shape}"
        if self.shares and self.random.random() < 0.2:
            self.make(f"torch.from_numpy({array})", array, None)
            return
        text = f"torch.tensor({listed}, dtype=torch.{dtype}, device=device)"
        self.make(f"{text}.reshape({shape}).clone()", array, None)

    def step(self) -> None:
        kind = self.random.random()
        if kind < 0.42:
            self.attempt(VIEWS)
        elif kind < 0.84:
            self.attempt(WRITES)
        else:
            self.attempt(READS)

    def attempt(self, choices: tuple[Callable[[Program, str, Value], bool], ...]) -> None:
        for _ in range(20):
            name, value = self.pick()
            if 0 in value.array.shape:
                continue
            if self.random.choice(choices)(self, name, value):
                return

    # Parts of texts

    def axis(self, value: Value) -> int:
        return self.random.randrange(value.array.ndim)

    def key(self, shape: tuple[int, ...]) -> list[str]:
        """A basic index."""
        items = []
        for extent in shape[: self.random.randint(0, len(shape))]:
            choice = self.random.random()
            if choice < 0.35:
                items.append(str(self.random.randrange(-extent, extent)))
            elif choice < 0.5:
                items.append(":")
            else:
                start, step = self.random.randrange(extent), self.random.choice((1, 2, 3))
                items.append(f"{start}::{step}" if step > 1 else f"{start}:")
        if self.random.random() < 0.2:
            items.insert(self.random.randint(0, len(items)), "None")
        if self.random.random() < 0.3 or not items:
            items.append("...")
        return items

    def source(self, target: Value) -> tuple[str, str] | None:
        """Another value of the target's dtype that broadcasts to it; a copy where memory meets."""
        fitting = []
        for name, value in self.values.items():
            array = value.array
            if array.dtype != target.array.dtype or array.ndim > target.array.ndim:
                continue
            if all(
                n in (1, m) for n, m in zip(reversed(array.shape), reversed(target.array.shape))
            ):
                fitting.append(name)
        if not fitting:
            return None
        name = self.random.choice(fitting)
        if self.values[name].root == target.root:
            return f"{name}.clone()", f"{name}.copy()"
        return name, name

    def tame(self, value: Value) -> bool:
        """Whether the numbers are such that arithmetic gives the same everywhere."""
        return value.root not in self.wild or value.array.dtype.kind in "iub"


def shapes_of_size(size: int, random: Choices) -> tuple[int, ...]:
    shape: list[int] = []
    while size > 1 and random.random() < 0.75:
        divisors = [number for number in range(1, size + 1) if size % number == 0]
        shape.append(random.choice(divisors))
        size //= shape[-1]
    return (*shape, size)


# Views -----------------------------------------------------------------------------------------


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


def unflattened(p: Program, name: str, value: Value) -> bool:
    if not value.array.ndim:
        return False
    axis = p.axis(value)
    shape = value.array.shape
    sizes = shapes_of_size(shape[axis], p.random)
    whole = (*shape[:axis], *sizes, *shape[axis + 1 :])
    p.make(f"{name}.unflatten({axis}, {sizes})", f"{name}.reshape({whole})", value)
    return True


def select(p: Program, name: str, value: Value) -> bool:
    if not value.array.ndim:
        return False
    axis = p.axis(value)
    place = p.random.randrange(-value.array.shape[axis], value.array.shape[axis])
    head = ":, " * axis
    p.make(f"{name}.select({axis}, {place})", f"{name}[{head}{place}, ...]", value)
    return True


def narrow(p: Program, name: str, value: Value) -> bool:
    if not value.array.ndim:
        return False
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


def exchanged(p: Program, name: str, value: Value) -> bool:
    if value.array.ndim < 2:
        return False
    first, second = p.axis(value), p.axis(value)
    function = p.random.choice(("transpose", "swapaxes", "swapdims"))
    text = f"{name}.swapaxes({first}, {second})"
    p.make(f"{name}.{function}({first}, {second})", text, value)
    return True


def permuted(p: Program, name: str, value: Value) -> bool:
    order = p.random.sample(range(value.array.ndim), value.array.ndim)
    p.make(f"{name}.permute({order})", f"{name}.transpose({order})", value)
    return True


def moved(p: Program, name: str, value: Value) -> bool:
    if value.array.ndim < 2:
        return False
    first, second = p.axis(value), p.axis(value)
    function = p.random.choice(("movedim", "moveaxis"))
    p.make(
        f"{name}.{function}({first}, {second})", f"np.moveaxis({name}, {first}, {second})", value
    )
    return True


def transposed(p: Program, name: str, value: Value) -> bool:
    if value.array.ndim < 2:
        return False
    function = p.random.choice(("mT", "adjoint()", "t()", "T"))
    if value.array.ndim != 2 or (function == "adjoint()" and value.array.dtype.kind == "c"):
        function = "mT"
    p.make(f"{name}.{function}", f"{name}.swapaxes(-2, -1)", value)
    return True


def diagonals(p: Program, name: str, value: Value) -> bool:
    if value.array.ndim < 2:
        return False
    first, second = p.random.sample(range(value.array.ndim), 2)
    offset = p.random.choice((-1, 0, 0, 1))
    places = f"{offset}, {first}, {second}"
    p.make(f"{name}.diagonal({places})", f"diagonal({name}, {places})", value)
    return True


def windows(p: Program, name: str, value: Value) -> bool:
    if not value.array.ndim:
        return False
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


def parted(p: Program, name: str, value: Value) -> bool:
    if not value.array.ndim:
        return False
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


VIEWS = (
    reshape, flattened, unflattened, select, narrow, indexed, indexed, exchanged, permuted, moved,
    transposed, diagonals, windows, expanded, unsqueezed, squeezed, parted, parted, strided,
    complex_parts, complex_parts, as_complex, other_dtype, aliased,
)  # fmt: skip


# Writes ----------------------------------------------------------------------------------------


def fill(p: Program, name: str, value: Value) -> bool:
    number = p.number(value)
    if p.random.random() < 0.3:
        p.emit(f"{name}.zero_()", f"{name}[...] = 0")
    else:
        p.emit(f"{name}.fill_({number})", f"{name}[...] = {number}")
    return True


def arithmetic(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "b":
        return False
    function, ufunc = p.random.choice((("add_", "add"), ("sub_", "subtract"), ("mul_", "multiply")))
    number = "2" if ufunc == "multiply" else p.number(value)
    text = number
    if ufunc != "multiply" and p.random.random() < 0.4:
        found = p.source(value)
        if found is not None:
            text, number = found
    p.emit(f"{name}.{function}({text})", f"np.{ufunc}({name}, {number}, out={name})")
    return True


def plain_target(p: Program, value: Value) -> bool:
    return value.writable and not value.overlapping and p.tame(value)


def copy(p: Program, name: str, value: Value) -> bool:
    if not value.writable or value.overlapping:
        return False
    found = p.source(value)
    if found is None:
        return False
    p.emit(f"{name}.copy_({found[0]})", f"{name}[...] = {found[1]}")
    return True


def assign(p: Program, name: str, value: Value) -> bool:
    if not value.writable:
        return False
    key = ", ".join(p.key(value.array.shape))
    number = p.number(value)
    if p.tame(value) and not value.overlapping and value.array.dtype.kind != "b":
        sign = p.random.choice(("=", "+=", "="))
    else:
        sign = "="
    p.emit(f"{name}[{key}] {sign} {number}", f"{name}[{key}] {sign} {number}")
    return True


def masked(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "c":
        return False
    mask = name if value.array.dtype.kind == "b" else f"{name} > {p.random.randint(0, 5)}"
    number = p.number(value)
    torch = p.random.choice(
        (f"{name}[{mask}] = {number}", f"{name}.masked_fill_({mask}, {number})")
    )
    p.emit(torch, f"put({name}, {mask}, {number})")
    return True


def by_numbers(p: Program, name: str, value: Value) -> bool:
    if not value.writable or value.overlapping or not value.array.ndim:
        return False
    extent = value.array.shape[0]
    places = (
        p.random.sample(range(-extent, extent), 1)
        if extent < 2
        else [
            place if p.random.random() < 0.7 else place - extent
            for place in p.random.sample(range(extent), 2)
        ]
    )
    number, index = p.number(value), f"torch.tensor({places}, device=device)"
    if value.array.ndim > 1 and p.random.random() < 0.4:
        last = p.random.randrange(value.array.shape[-1])
        p.emit(
            f"{name}[{index}, ..., {last}] = {number}", f"{name}[{places}, ..., {last}] = {number}"
        )
        return True
    if p.tame(value) and value.array.dtype.kind != "b" and p.random.random() < 0.5:
        made = f"torch.tensor({number}, dtype={name}.dtype, device=device)"
        p.emit(
            f"{name}.index_put_(({index},), {made}, accumulate=True)",
            f"np.add.at({name}, ({places},), {number})",
        )
        return True
    torch = f"{name}[{index}] = {number}"
    if p.random.random() < 0.3:
        torch = f"{name}.index_fill_(0, torch.tensor({places}, device=device), {number})"
    p.emit(torch, f"{name}[{places}] = {number}")
    return True


def scattered(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.ndim not in (1, 2):
        return False
    axis, shape = p.axis(value), value.array.shape
    order = p.random.sample(range(shape[axis]), shape[axis])
    index = order
    if value.array.ndim == 2:
        index = (
            [order[:1] for _ in range(shape[0])] if axis == 1 else [[n] * shape[1] for n in order]
        )
    number, made = p.number(value), f"torch.tensor({index}, device=device)"
    if value.array.dtype.kind != "b" and p.random.random() < 0.5:
        ones = f"torch.full({np.shape(index)}, {number}, dtype={name}.dtype, device=device)"
        p.emit(
            f"{name}.scatter_add_({axis}, {made}, {ones})",
            f"scatter({name}, {axis}, {index}, {number}, True)",
        )
    else:
        p.emit(
            f"{name}.scatter_({axis}, {made}, {number})",
            f"scatter({name}, {axis}, {index}, {number}, False)",
        )
    return True


def into(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "b":
        return False
    others = [
        key for key, other in p.values.items()
        if other.array.dtype == value.array.dtype and other.array.shape == value.array.shape
        and p.tame(other)
    ]  # fmt: skip
    other = p.random.choice(others)
    torch, number = other, p.number(value)
    if p.values[other].root == value.root:
        torch = f"{other}.clone()"
    p.emit(f"torch.add({torch}, {number}, out={name})", f"{name}[...] = {other} + {number}")
    return True


def rebind(p: Program, name: str, value: Value) -> bool:
    others = [
        key for key, other in p.values.items()
        if other.array.dtype == value.array.dtype and key != name
    ]  # fmt: skip
    if not others:
        return False
    other = p.random.choice(others)
    p.emit(f"{name}.data = {other}", f"{name} = {other}[...]")
    p.values[name] = Value(p.space[name], p.values[other].root, value.bits)
    return True


def turned(p: Program, name: str, value: Value) -> bool:
    """Another shape for the tensor itself; its views stay as they are."""
    if value.array.ndim >= 2 and p.random.random() < 0.6:
        p.emit(f"{name}.transpose_(0, 1)", f"{name} = {name}.swapaxes(0, 1)")
    else:
        p.emit(f"{name}.unsqueeze_(0)", f"{name} = {name}[None]")
    p.values[name] = Value(p.space[name], value.root, value.bits)
    return True


def refused(p: Program, name: str, value: Value) -> bool:
    """Writes that raise change nothing."""
    if value.writable:
        wrong = tuple(extent + 3 for extent in value.array.shape) or (3,)
        text = p.random.choice(
            (
                f"{name}.add_(torch.ones({wrong}, dtype={name}.dtype, device=device))",
                f"{name}.copy_(torch.ones({wrong}, device=device))",
                f"{name}.__setitem__({value.array.shape[0] if wrong != (3,) else 7}, 1)",
            )
        )
    else:
        text = f"{name}.logical_not_()"
    p.emit(f"refused(lambda: {text})", "refused()")
    return True


WRITES = (
    fill, fill, arithmetic, arithmetic, arithmetic, copy, copy, assign, assign, assign, masked,
    masked, by_numbers, by_numbers, scattered, into, rebind, turned, refused,
)  # fmt: skip


# Reads -----------------------------------------------------------------------------------------


def look(p: Program, name: str, value: Value) -> bool:
    p.emit(f"seen({name})", f"seen({name})")
    return True


def look_at_one(p: Program, name: str, value: Value) -> bool:
    place = ", ".join(str(p.random.randrange(extent)) for extent in value.array.shape)
    text = f"{name}[{place}]" if place else name
    p.emit(f"seen({text}.item())", f"seen({text}.item())")
    return True


def pending(p: Program, name: str, value: Value) -> bool:
    """A result that is not computed yet keeps what it read."""
    if not p.tame(value) or value.array.dtype.kind == "b":
        return False
    number = p.number(value)
    p.make(
        f"({name} + {number}).{ROW_MAJOR}",
        f"np.ascontiguousarray({name} + {name}.dtype.type({number})).reshape({name}.shape)",
        None,
    )
    return True


def copied(p: Program, name: str, value: Value) -> bool:
    p.make(f"{name}.{ROW_MAJOR}", f"{name}.copy(order='C')", None)
    p.wild.add(p.count) if value.root in p.wild else None
    return True


def handed_over(p: Program, name: str, value: Value) -> bool:
    """NumPy sees the memory from here on, and writes it too."""
    if not p.shares:
        return False
    if not p.hosts or p.random.random() < 0.4:
        p.count += 1
        p.hosts[f"h{p.count}"] = value
        p.emit(f"h{p.count} = {name}.numpy()", f"h{p.count} = {name}[...]")
        return True
    host = p.random.choice(list(p.hosts))
    if not p.hosts[host].writable:
        p.emit(f"seen({host})", f"seen({host})")
    else:
        text = f"{host}[{', '.join(p.key(p.hosts[host].array.shape))}] = {p.number(p.hosts[host])}"
        p.emit(text, text)
    return True


READS = (look, look, look_at_one, pending, pending, copied, handed_over)


# Drawing ---------------------------------------------------------------------------------------

MOST_STEPS = 12


@composite
def one_step(draw: DrawFn, program: Program) -> bool:
    """Add a step, if there is another: each is drawn by itself, so that any can be left out."""
    more: bool = draw(integers(0, 9)) > 0
    if more:
        program.step()
    return more


@composite
def programs(draw: DrawFn, shares: bool) -> Program:
    """Random programs; ``shares`` lets them hand memory to NumPy and take it from there."""
    program = Program(Choices(draw), shares)
    for _ in range(MOST_STEPS):
        if not draw(one_step(program)):
            break
    program.finish()
    return program
