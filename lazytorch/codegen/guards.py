"""Guards around the arrays in local memory (LAZYTORCH_BOUNDS).

Indices of local arrays are computed in many ways, and pointers into them are handed around, so
what is checked is what a write outside would do: each array lies between two lines that hold a
pattern, written before the kernel's work and looked at behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Elements of a guard: the widest vector, so that arrays stay aligned as they were.
ELEMENTS = 16
PATTERN = -12321
_ARRAY = re.compile(r"__local (?P<type>\w+) (?P<name>\w+)\[(?P<size>\d+)\](?P<rest>[^;]*);")


def guarded(
    declarations: Sequence[str], code: int, local: int
) -> tuple[list[str], list[str], list[str]]:
    """(declarations with guards, statements before a kernel's work, statements behind it).

    A damaged guard is reported as (-``code``, number of the array in order of declaration) in the
    array ``bounds``. ``local`` is the size of a work-group, whose first item does it.

    >>> guarded(["__local float box[64];"], 3, 1)[0]
    ['__local float box_guarded[96];', '__local float *box = box_guarded + 16;']
    """
    declared: list[str] = []
    filled: list[str] = []
    checked: list[str] = []
    for number, text in enumerate(declarations):
        found = _ARRAY.fullmatch(text)
        if found is None:
            declared.append(text)
            continue
        kind, name, size = found["type"], found["name"], int(found["size"])
        whole = f"{name}_guarded"
        declared.append(f"__local {kind} {whole}[{size + 2 * ELEMENTS}]{found['rest']};")
        declared.append(f"__local {kind} *{name} = {whole} + {ELEMENTS};")
        places = f"{whole}[g], {whole}[{size + ELEMENTS} + g]".split(", ")
        filled.append(" ".join(f"{place} = ({kind}){PATTERN};" for place in places))
        damaged = " || ".join(f"{place} != ({kind}){PATTERN}" for place in places)
        checked.append(f"if ({damaged}) {{ bounds[0] = {-code}; bounds[1] = {number}; }}")
    if not filled:
        return declared, [], []
    first = "if (get_local_id(0) == 0) "
    barrier = ["barrier(CLK_LOCAL_MEM_FENCE);"] if local > 1 else []
    loop = f"{first}for (int g = 0; g < {ELEMENTS}; g++) {{"
    return declared, [loop, *filled, "}", *barrier], [*barrier, loop, *checked, "}"]
