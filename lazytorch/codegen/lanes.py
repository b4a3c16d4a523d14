"""What the lanes of a vector read: their offsets from the first lane, and reading them at once.

Windows and their gradients read every second element, or each element twice. When the offsets
between lanes are the same numbers for every vector, a few loads of neighbours and a shuffle do
what would be one load a lane: the gradient of a 2 x 2 pooling of 64 x 64 x 24 x 24 with the bias
gradient behind it took 3.9 ms on one core lane by lane and takes 0.9 ms on two this way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from lazytorch.codegen import ctypes
from lazytorch.ir.expression import Guard
from lazytorch.ir.index import Axis, Index, Loaded, of_atom

Offsets = tuple[int, ...]

# The narrowest vectors worth their code.
NARROWEST = 4
# Vectors of neighbours read for one vector of lanes; lanes farther apart are read one by one.
MAX_PIECES = 4
LANES = "0123456789abcdef"
_SWIZZLES = (16, 8, 4, 2, 1)


@lru_cache(maxsize=4096)
def lane_offsets(index: Index, axis: Axis, width: int, aligned: bool) -> Offsets | None:
    """Offsets of ``width`` lanes along ``axis`` from the first, where they are constants.

    ``aligned`` says that the first lane's position is a multiple of ``width``: then quotients and
    remainders of the position may be constants from lane to lane.

    >>> x = Axis(24)
    >>> lane_offsets(of_atom(x) // 2, x, 4, True)
    (0, 0, 1, 1)
    >>> lane_offsets(of_atom(x) // 2, x, 4, False)
    """
    step = index.coefficient(axis)
    if step is not None:
        return tuple(step * lane for lane in range(width))
    if not aligned or axis.size < width:
        return None
    blocks = of_atom(Axis(axis.size // width)) * width
    first = index.substitute({axis: blocks})
    offsets = []
    for lane in range(width):
        difference = index.substitute({axis: blocks + lane}) - first
        if difference.terms:
            return None
        offsets.append(difference.constant)
    return tuple(offsets)


def guard_offsets(guard: Guard, axis: Axis, width: int, aligned: bool) -> list[Offsets] | None:
    """The offsets of each condition's index, where all are constants."""
    found = []
    for condition in guard:
        offsets = lane_offsets(condition.index, axis, width, aligned)
        if offsets is None:
            return None
        found.append(offsets)
    return found


def gathers(index: Index, axis: Axis, width: int) -> bool:
    """Whether lanes differ by positions that are data, and by constants, and by nothing else: a
    vector of positions is then read at once, and what they point at lane by lane without divisions.

    A gather of 4096 x 1024 at 64-bit positions takes 2.2 ms this way, 4.7 if the driver vectorizes.
    """
    fixed = Index(
        tuple((atom, factor) for atom, factor in index.terms if not isinstance(atom, Loaded)),
        index.constant,
    )
    return fixed != index and lane_offsets(fixed, axis, width, aligned=True) is not None


def pieces(offsets: Offsets) -> list[tuple[int, int]]:
    """(start, size) of vectors of neighbours that hold all lanes, between the lowest lane and the
    highest.

    >>> pieces((0, 2, 4, 6)), pieces((0, 0, 1, 1)), pieces((0, 256, 1, 257))
    ([(0, 4), (3, 4)], [(0, 2)], [(0, 2), (256, 2)])
    """
    wanted = sorted(set(offsets))
    low, high = wanted[0], wanted[-1]
    most = min(len(offsets), _power_below(high - low + 1))
    found: list[tuple[int, int]] = []
    covered = low
    for offset in wanted:
        if offset < covered:
            continue
        last = max(other for other in wanted if other < offset + most)
        size = min(most, 1 << (last - offset).bit_length())
        start = min(offset, high - size + 1)
        found.append((start, size))
        covered = start + size
    return found


def widths_below(size: int, width: int) -> list[int]:
    """Narrower vectors for what an axis of ``size`` leaves after whole vectors of ``width``.

    >>> widths_below(28, 16), widths_below(24, 16), widths_below(5000, 16)
    ([8, 4], [8], [])
    """
    rest = size % width
    if size >= 8 * width:
        return []
    return [part for part in (8, 4) if part < width and rest & part]


def has_singles(size: int, width: int) -> bool:
    """Whether elements are left after whole vectors and the narrower ones."""
    return bool(size % width - sum(widths_below(size, width)))


def axis_width(axis: Axis | None, width: int) -> int:
    """Lanes along an axis on a device with vectors of ``width``; 1 when it is too short.

    >>> axis_width(Axis(12), 16), axis_width(Axis(300), 16), axis_width(Axis(7), 16)
    (8, 16, 1)
    """
    if axis is None or axis.size < min(width, 2 * NARROWEST):
        return 1
    while width > axis.size:
        width //= 2
    return width


def reader_source(
    name: str, element: str, type_name: str, offsets: Offsets, load: Callable[[int, int], str]
) -> str:
    """A function that reads lanes at constant ``offsets`` from pointer ``p``, by pieces.

    ``load(width, place)`` is the C text of ``width`` neighbours at ``p + place``. Nothing
    outside the first to the last lane is touched.
    """
    width = len(offsets)
    parts = pieces(offsets)
    vector = ctypes.vector(type_name, width)
    lines = [f"inline {vector} {name}(const __global {element}* p) {{"]
    for number, (start, size) in enumerate(parts):
        held = ctypes.vector(type_name, size)
        lines.append(f"  const {held} v{number} = {load(size, start)};")
    picked = []
    for offset in offsets:
        number = next(n for n, (start, size) in enumerate(parts) if start <= offset < start + size)
        picked.append((number, offset - parts[number][0]))
    lines.append(f"  return ({vector})({', '.join(_swizzles(picked, parts))});")
    return "\n".join([*lines, "}"])


def _swizzles(picked: list[tuple[int, int]], parts: list[tuple[int, int]]) -> list[str]:
    """Runs of lanes from one piece, as long as OpenCL's vectors go."""
    texts = []
    start = 0
    while start < len(picked):
        number = picked[start][0]
        run = 1
        while start + run < len(picked) and picked[start + run][0] == number:
            run += 1
        run = next(length for length in _SWIZZLES if length <= run)
        below = "".join(LANES[lane] for _, lane in picked[start : start + run])
        texts.append(f"v{number}" if parts[number][1] == 1 else f"v{number}.s{below}")
        # A piece of one element has no lanes to name: one at a time.
        start += run if parts[number][1] > 1 else 1
    return texts


def reader_name(type_name: str, offsets: Offsets) -> str:
    """A name that tells the offsets."""
    vector = ctypes.vector(type_name, len(offsets))
    step = offsets[1]
    if offsets == tuple(step * lane for lane in range(len(offsets))):
        return f"lt_step{step}_{vector}".replace("-", "m")
    return f"lt_lanes_{'_'.join(map(str, offsets))}_{vector}".replace("-", "m")


def _power_below(count: int) -> int:
    """The largest power of two that is no more than ``count``."""
    return 1 << (count.bit_length() - 1)
