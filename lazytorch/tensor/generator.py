"""Random numbers: a seed and an offset on the host, bits from Philox wherever they are needed.

Element i of a draw at ``offset`` is word ``i % 4`` of block ``offset + i // 4``, so a draw of n
numbers advances the offset by ``ceil(n / 4)`` blocks. Seed and offset travel as scalar
arguments: every step of a training loop runs the same plan.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.ops.examples import Level, example_of
from lazytorch.ops.shapes import count
from lazytorch.tensor.batching.levels import different_draws, opened
from lazytorch.tensor.device import as_device, device
from lazytorch.tensor.recorder import record
from lazytorch.tensor.tensor import Tensor, fresh

_MASK = (1 << 64) - 1


class Generator:
    """A stream of random numbers.

    >>> Generator().manual_seed(1).initial_seed()
    1
    """

    __slots__ = ("_offset", "_seed", "device")

    def __init__(self, device: Any = "cpu") -> None:
        self.device = as_device(device)
        self._seed = 67280421310721
        self._offset = 0

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of a seed; returns the generator."""
        engine.looked("a random stream is started anew")
        number = int(seed)
        if not -(1 << 63) <= number < (1 << 64):
            raise ValueError("Overflow when unpacking long long: seeds have 64 bits")
        self._seed = number & _MASK
        self._offset = 0
        return self

    def initial_seed(self) -> int:
        """The seed the stream started with."""
        return self._seed

    def seed(self) -> int:
        """Start a stream that cannot be foreseen; returns its seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def get_state(self) -> Tensor:
        """Seed and offset as a byte tensor."""
        engine.looked("the state of a random stream is looked at")
        from_host = np.array([self._seed, self._offset], np.uint64).view(np.uint8)
        return _bytes_tensor(from_host)

    def set_state(self, new_state: Tensor) -> Generator:
        """Continue where ``get_state`` was taken."""
        engine.looked("the state of a random stream is set")
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if new_state.dtype is not dtypes.uint8:
            raise TypeError(f"RNG state must be a torch.ByteTensor, but got {new_state.dtype!r}")
        array = np.asarray(_host_bytes(new_state), np.uint8)
        if array.shape != (16,):
            raise RuntimeError(
                f"RNG state is wrong size: expected 16 bytes from get_state(), got {array.size}"
            )
        seed, offset = array.view(np.uint64)
        self._seed, self._offset = int(seed), int(offset)
        return self

    def advance(self, blocks: int) -> int:
        """Reserve blocks of four words; the number of the first."""
        first = self._offset
        self._offset = (first + blocks) & _MASK
        return first

    def clone_state(self) -> Generator:
        """A generator that continues this one's stream on its own."""
        other = Generator(self.device)
        other._seed, other._offset = self._seed, self._offset
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (str(self.device), self._seed, self._offset)


def _rebuild(place: str, seed: int, offset: int) -> Generator:
    made = Generator(place)
    made._seed, made._offset = seed, offset
    return made


def _bytes_tensor(array: np.ndarray) -> Tensor:
    raise NotImplementedError("lazytorch.functional.sampling is not loaded")


def _host_bytes(state: Tensor) -> np.ndarray:
    raise NotImplementedError("lazytorch.functional.sampling is not loaded")


default_generator = Generator()


def _signed(number: int) -> int:
    """64 bits read as a signed number: scalars are int64."""
    return number - (1 << 64) if number >> 63 else number


class Draw(NamedTuple):
    """Random bits that can be made again: seed and offset, and for what shape and examples."""

    words: tuple[Node, ...]
    shape: tuple[int, ...]
    levels: tuple[Level, ...]
    place: device

    def bits(self) -> Tensor:
        """32 random bits for each element, as uint32."""
        shape = (*(level.size for level in self.levels), *self.shape)
        node = record(leaves.RANDOM, self.words, (shape,), shape, dtypes.uint32, self.place.runtime)
        for level in self.levels:
            node = example_of(node, level)
        return fresh(node, self.place)


def random_bits(shape: tuple[int, ...], place: device, generator: Generator | None) -> Tensor:
    """32 random bits for each element, as uint32."""
    return draw(shape, place, generator).bits()


def draw(shape: tuple[int, ...], place: device, generator: Generator | None) -> Draw:
    """The next bits of a generator: for each example of a batch its own, where it so wants."""
    levels = tuple(different_draws()) if opened.levels else ()
    drawn = count(shape)
    for level in levels:
        drawn *= level.size
    blocks = (drawn + 3) // 4
    source = generator or default_generator
    offset = source.advance(blocks)
    runtime = place.runtime
    # Never baked: a seed of 0 must give the same plan as any other.
    words = tuple(
        Node(leaves.SCALAR, (), (), (), dtypes.int64, runtime, None, _signed(number))
        for number in (source._seed, offset)
    )
    if engine.current.capture is not None:
        engine.current.capture.note_draw(source, blocks, *words)
    return Draw(words, shape, levels, place)


def manual_seed(seed: int) -> Generator:
    """Start the default stream of a seed."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start a default stream that cannot be foreseen."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default stream."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default stream where ``get_rng_state`` was taken."""
    default_generator.set_state(new_state)
