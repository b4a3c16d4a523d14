"""A program, what is known of its names, and the choices that make it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis.strategies import DrawFn, integers

from tests.tensor.aliasing.mirror import NUMPY

SHAPES = ((8,), (2, 6), (2, 3, 4))
TYPES = ("float32", "float32", "int64", "int32", "complex64", "uint8", "bool")
# PyTorch's results keep the order of their operands' strides, and contiguous() leaves a dimension
# of one element whatever stride it has; NumPy's copies in C order have none of either.
ROW_MAJOR = "clone(memory_format=torch.contiguous_format)"


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

    def attempt(self, choices: tuple[Step, ...]) -> None:
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


Step = Callable[[Program, str, Value], bool]


def of_dimensions(fewest: int) -> Callable[[Step], Step]:
    """A step for values of at least so many dimensions."""

    def decorate(step: Step) -> Step:
        @functools.wraps(step)
        def guarded(p: Program, name: str, value: Value) -> bool:
            return value.array.ndim >= fewest and step(p, name, value)

        return guarded

    return decorate
