"""Turning a square of vectors around in registers, as OpenCL C."""

from __future__ import annotations

from collections.abc import Callable

from lazytorch.codegen.lanes import LANES


def transposed(
    names: list[str],
    type_name: str,
    fresh: Callable[[str], str],
    results: list[str] | None = None,
) -> list[str]:
    """Statements that transpose the square held in the vector variables ``names``.

    What comes out is assigned to ``results``, or to ``names`` themselves.

    Interleaving row i with row i + n/2 is a perfect shuffle of the square's elements; log2(n)
    of them exchange the two halves of every element's address.
    """
    width = len(names)
    half = width // 2
    vector = f"{type_name}{width}"
    rounds = width.bit_length() - 1
    lines = []
    current = list(names)
    for _ in range(rounds):
        following = []
        for number in range(half):
            first, second = current[number], current[number + half]
            for lanes in (range(half), range(half, width)):
                name = fresh("y")
                parts = ", ".join(f"{first}.s{LANES[i]}, {second}.s{LANES[i]}" for i in lanes)
                lines.append(f"const {vector} {name} = ({vector})({parts});")
                following.append(name)
        current = following
    return lines + [f"{name} = {value};" for name, value in zip(results or names, current)]


def interleaved(
    names: list[str], type_name: str, width: int, fresh: Callable[[str], str]
) -> list[str]:
    """Statements that deal out the vector variables ``names``: all their first elements, then
    all their second ones, and so on. There are a power of two of them."""
    half = width // 2
    vector = f"{type_name}{width}"
    lines = []
    current = list(names)
    for _ in range(len(names).bit_length() - 1):
        following = []
        for first, second in zip(current[: len(names) // 2], current[len(names) // 2 :]):
            for lanes in (range(half), range(half, width)):
                name = fresh("y")
                parts = ", ".join(f"{first}.s{LANES[i]}, {second}.s{LANES[i]}" for i in lanes)
                lines.append(f"const {vector} {name} = ({vector})({parts});")
                following.append(name)
        current = following
    if current == names:
        return []
    return lines + [f"{name} = {value};" for name, value in zip(names, current)]
