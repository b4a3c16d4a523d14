"""The batch as a part of operations that know batches themselves: attention and recurrence."""

from __future__ import annotations

from lazytorch.ir.node import Node
from lazytorch.ops import movement, recurrence
from lazytorch.ops.attention import AttentionAttrs, heads_inside, operands
from lazytorch.ops.recurrence import Recurrence
from lazytorch.ops.shapes import count
from lazytorch.tensor.batching.rules import (
    Marks,
    Sources,
    aligned,
    all_batched,
    expanded,
    made,
    permuted,
    reshaped,
)
from lazytorch.tensor.recorder import scalar_node

# Attention --------------------------------------------------------------------------------------


def attention(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """The batch is one more leading axis of every operand."""
    attrs = AttentionAttrs(*node.attrs)
    # A logsumexp that is only a witness is read by nobody and need not fit.
    given = operands(attrs, list(zip(sources, marks)))
    rank = len(given.query[0].shape) - given.query[1]
    query, key, value = (
        all_batched(node, (one,), (mark,), size)[0]
        for one, mark in (given.query, given.key, given.value)
    )
    rest = [
        aligned(node, one, rank) if mark else one
        for one, mark in (pair for pair in (given.bias, given.factor) if pair is not None)
    ]
    if given.gradient is not None:
        for one, mark in (given.gradient, given.logsumexp, given.delta):
            rest.append(all_batched(node, (one,), (mark,), size)[0])
    elif given.logsumexp is not None:
        rest.append(all_batched(node, (given.logsumexp[0],), (given.logsumexp[1],), size)[0])
    # The scale is a number of the program, the same for all examples.
    flat = (query, key, value, given.scale[0], *rest)
    if attrs.result == "logsumexp" or rank != 3:
        return made(node, node.op, flat, node.attrs, (size, *node.shape))
    # With two leading axes instead of one the operation puts the last of them inside.
    inside = heads_inside((size, *node.shape))
    return permuted(node, made(node, node.op, flat, node.attrs, inside), (0, 2, 1, 3))


# Recurrence -------------------------------------------------------------------------------------


def recurrent(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """Examples are further rows of the one recurrence, where they share its weights."""
    of = Recurrence(*node.attrs)
    gradient = node.op is recurrence.RECURRENT_GRADIENT
    names = ("result" if gradient else "gates", "weight", *of.parts)
    shared = ("weight", "bias", "projection")
    if any(mark and name in shared for name, mark in zip(names, marks)):
        return _one_by_one(node, sources, marks, size)
    wide = of._replace(batch=size * of.batch)
    given: list[Node] = []
    for name, source, mark in zip(names, sources, marks):
        if name in shared:
            given.append(source)
            continue
        batch = source if mark else expanded(node, source, (size, *source.shape))
        if name == "result":
            given.append(_sections_joined(node, batch, of, wide))
        else:
            # Rows are the second axis of what comes at each step and the first of states.
            given.append(_rows_joined(node, batch, name in ("gates", "grad_output")))
    parts = recurrence.gradient_sections if gradient else recurrence.sections
    shape = (recurrence.total(parts(wide)),)
    flat = made(node, node.op, tuple(given), tuple(wide), shape)
    return _sections_parted(node, flat, parts(of), parts(wide), size)


def _rows_joined(node: Node, batch: Node, stepwise: bool) -> Node:
    """(N, [steps,] rows, ...) as ([steps,] N * rows, ...)."""
    if not stepwise:
        size, rows, *rest = batch.shape
        return reshaped(node, batch, (size * rows, *rest))
    size, steps, rows, *rest = batch.shape
    order = (1, 0, 2, *range(3, 3 + len(rest)))
    return reshaped(node, permuted(node, batch, order), (steps, size * rows, *rest))


def _section(node: Node, flat: Node, offset: int, length: int) -> Node:
    """Elements of the last axis."""
    lead = flat.shape[:-1]
    attrs = ((*(0,) * len(lead), offset), (*lead, length), (1,) * (len(lead) + 1))
    return made(node, movement.SLICE, (flat,), attrs, (*lead, length), flat.dtype)


def _sections_joined(node: Node, batch: Node, of: Recurrence, wide: Recurrence) -> Node:
    """The flat results of N recurrences as the result of one with all their rows."""
    size = batch.shape[0]
    pieces = []
    for offset, shape in recurrence.sections(of).values():
        part = reshaped(node, _section(node, batch, offset, count(shape)), (size, *shape))
        joined = _rows_joined(node, part, True)
        pieces.append(reshaped(node, joined, (count(joined.shape),)))
    shape = (recurrence.total(recurrence.sections(wide)),)
    return made(node, movement.CONCATENATE, tuple(pieces), (0,), shape, batch.dtype)


def _sections_parted(
    node: Node, flat: Node, each: recurrence.Sections, wide: recurrence.Sections, size: int
) -> Node:
    """The flat result of one recurrence as the flat results (N, ...) of its examples."""
    pieces = []
    for name, (_, shape) in each.items():
        offset, joined = wide[name]
        part = _section(node, flat, offset, count(joined))
        if len(shape) == 3:
            steps, rows, width = shape
            part = reshaped(node, part, (steps, size, rows, width))
            part = permuted(node, part, (1, 0, 2, 3))
        pieces.append(reshaped(node, part, (size, count(shape))))
    return made(node, movement.CONCATENATE, tuple(pieces), (1,), (size, *node.shape), flat.dtype)


def _one_by_one(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """Recurrences with weights of their own have nothing in common: one after the other."""
    rows = []
    for place in range(size):
        given = tuple(
            _picked(node, source, place) if mark else source for source, mark in zip(sources, marks)
        )
        row = made(node, node.op, given, node.attrs, node.shape)
        rows.append(reshaped(node, row, (1, *node.shape)))
    if not rows:
        zero = scalar_node(0, node.dtype, node.device)
        return expanded(node, zero, (0, *node.shape))
    return made(node, movement.CONCATENATE, tuple(rows), (0,), (size, *node.shape), node.dtype)


def _picked(node: Node, batch: Node, place: int) -> Node:
    """Example number ``place``."""
    rest = batch.shape[1:]
    attrs = ((place, *(0,) * len(rest)), (1, *rest), (1,) * (len(rest) + 1))
    row = made(node, movement.SLICE, (batch,), attrs, (1, *rest), batch.dtype)
    return reshaped(node, row, rest)
