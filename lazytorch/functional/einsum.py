"""einsum: sums of products in Einstein's notation, as labelled products of two operands."""

from __future__ import annotations

from typing import Any

from lazytorch.functional.elementwise import plain_mul
from lazytorch.functional.linalg import labelled
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor


@public(method=False)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products by subscripts, e.g. ``einsum("bij,bjk->bik", a, b)``.

    Supports ellipses, repeated subscripts, implicit results, any number of operands, and the
    form ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.
    """
    if isinstance(equation, Tensor):
        equation, operands = _from_sublists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    terms, result = _parse(equation, operands)
    parts = [_simplified(tensor, names) for tensor, names in zip(operands, terms)]
    sizes = _sizes(parts)
    tensor, names = parts[0]
    for number, (other, other_names) in enumerate(parts[1:], 1):
        later = set(result)
        for _, following in parts[number + 1 :]:
            later.update(following)
        tensor, names = _product(tensor, names, other, other_names, later, sizes)
    return _finish(tensor, names, result)


def _from_sublists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    def text(numbers: Any) -> str:
        return "".join("..." if n is Ellipsis else chr(ord("A") + n) for n in numbers)

    operands, terms = [], []
    rest = list(arguments)
    while len(rest) >= 2:
        operands.append(rest.pop(0))
        terms.append(text(rest.pop(0)))
    equation = ",".join(terms)
    return (f"{equation}->{text(rest[0])}" if rest else equation), tuple(operands)


def _parse(equation: str, operands: tuple[Any, ...]) -> tuple[list[list[str]], list[str]]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(operands):
        raise RuntimeError(
            f"einsum(): {len(operands)} operands were given, but the equation {equation!r} "
            f"names {len(texts)}"
        )
    hidden = 0
    terms: list[list[str]] = []
    for text, operand in zip(texts, operands):
        names = _names(text.replace("...", "."), equation)
        rank = len(shape_of(operand))
        covered = len(names) - ("." in names)
        if "." in names:
            missing = rank - covered
            hidden = max(hidden, missing)
            place = names.index(".")
            names[place : place + 1] = [f".{missing - i - 1}" for i in range(missing)]
        elif covered != rank:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({covered}) does not match "
                f"the number of dimensions ({rank}) for an operand and no ellipsis was given"
            )
        terms.append(names)
    ellipsis = [f".{hidden - i - 1}" for i in range(hidden)]
    if arrow:
        result: list[str] = []
        for name in _names(right.replace("...", "."), equation):
            result += ellipsis if name == "." else [name]
        known = {name for names in terms for name in names}
        for name in result:
            if name not in known:
                raise RuntimeError(
                    f"einsum(): output subscript {name} does not appear in the equation for any "
                    "input operand"
                )
        return terms, result
    seen: dict[str, int] = {}
    for names in terms:
        for name in names:
            seen[name] = seen.get(name, 0) + 1
    once = sorted(name for name, times in seen.items() if times == 1 and name[0] != ".")
    return terms, ellipsis + once


def _names(text: str, equation: str) -> list[str]:
    for name in text:
        if not (name.isalpha() or name == "."):
            raise RuntimeError(
                f"einsum(): invalid subscript {name!r} in {equation!r}: subscripts are letters"
            )
    return list(text)


def _simplified(tensor: Tensor, names: list[str]) -> tuple[Tensor, list[str]]:
    """Repeated subscripts of one operand as its diagonal."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            tensor = functions.diagonal(tensor, 0, first, second)
            del names[second], names[first]
            names.append(name)
    return tensor, names


def _sizes(parts: list[tuple[Tensor, list[str]]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor, names in parts:
        for name, extent in zip(names, shape_of(tensor)):
            known = sizes.get(name, 1)
            if known != extent and 1 not in (known, extent):
                raise RuntimeError(
                    f"einsum(): subscript {name} has size {extent} for an operand which does not "
                    f"broadcast with previously seen size {known}"
                )
            sizes[name] = max(known, extent) if extent else 0
    return sizes


def _product(
    a: Tensor, names_a: list[str], b: Tensor, names_b: list[str], later: set[str],
    sizes: dict[str, int],
) -> tuple[Tensor, list[str]]:  # fmt: skip
    """Two operands as one, keeping the subscripts needed later."""
    a, names_a = _summed(a, names_a, later | set(names_b))
    b, names_b = _summed(b, names_b, later | set(names_a))
    shared = [name for name in names_a if name in names_b]
    out = [name for name in dict.fromkeys(names_a + names_b) if name in later]
    if not any(name not in later for name in shared):
        return plain_mul(_ordered(a, names_a, out), _ordered(b, names_b, out)), out
    numbers = {name: place for place, name in enumerate(dict.fromkeys(names_a + names_b))}

    def labels(tensor: Tensor, names: list[str]) -> tuple[int | None, ...]:
        return tuple(
            None if extent == 1 and sizes[name] != 1 else numbers[name]
            for name, extent in zip(names, shape_of(tensor))
        )

    out_labels = tuple(numbers[name] for name in out)
    return labelled(a, b, (labels(a, names_a), labels(b, names_b), out_labels)), out


def _summed(tensor: Tensor, names: list[str], needed: set[str]) -> tuple[Tensor, list[str]]:
    axes = tuple(place for place, name in enumerate(names) if name not in needed)
    if not axes:
        return tensor, names
    kept = [name for name in names if name in needed]
    return functions.sum(tensor, axes), kept


def _ordered(tensor: Tensor, names: list[str], wanted: list[str]) -> Tensor:
    """Dimensions in the wanted order, missing ones as 1."""
    order = [names.index(name) for name in wanted if name in names]
    tensor = functions.permute(tensor, order)
    for place, name in enumerate(wanted):
        if name not in names:
            tensor = functions.unsqueeze(tensor, place)
    return tensor


def _finish(tensor: Tensor, names: list[str], result: list[str]) -> Tensor:
    tensor, names = _summed(tensor, names, set(result))
    if names == result:
        return tensor
    return functions.permute(tensor, [names.index(name) for name in result])
