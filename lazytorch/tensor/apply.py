"""Calling a primitive on tensors: record the node, wrap it, write the tape.

:func:`apply` is the general way. :func:`unary` and :func:`binary` build the functions that
elementwise operations are called through thousands of times a step; they repeat the general
way with everything decided beforehand, because each microsecond here is paid by every user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.entries import NO_EDGE, next_sequence
from lazytorch.autograd.grad_mode import inference, mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, edge_of, keep_for, rule_class, rule_of
from lazytorch.autograd.watch import watch
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, leaves
from lazytorch.ops.shapes import broadcast
from lazytorch.tensor import recorder
from lazytorch.tensor.attach import NoTensorError, not_a_tensor
from lazytorch.tensor.device import device
from lazytorch.tensor.promotion import get_default_dtype, number_dtype, result_type, scalar_name
from lazytorch.tensor.recorder import infer_and_record, record, scalar_node
from lazytorch.tensor.site import user_site
from lazytorch.tensor.storage import (
    INFERENCE,
    NO_GRAD,
    View,
    current_node,
    dtype_of,
    node_of,
    shape_of,
    storage_of,
)
from lazytorch.tensor.tensor import Tensor, fresh, mark_inference

_new = object.__new__


def apply(
    op: OpDef, sources: Sequence[Tensor], attrs: tuple[Any, ...] = (), rule: Rule | None = None
) -> Tensor:
    """The result of a primitive on tensors of fitting dtypes and one device, on the tape."""
    place = common_device(sources)
    node = infer_and_record(op, tuple([node_of(source) for source in sources]), attrs)
    return attach(fresh(node, place), rule or rule_of(op), sources, attrs)


def common_device(sources: Sequence[Tensor]) -> device:
    """The one device of the sources; ``RuntimeError`` as PyTorch's when there are two."""
    place = sources[0]._device
    for source in sources:
        if source._device is not place:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{place} and {source._device}! Move one of them with .to({str(place)!r})."
            )
    return place


def to_device_node(tensor: Tensor, place: device) -> Node:
    """The tensor's node on another device."""
    node = node_of(tensor)
    if node.device == place.runtime:
        return node
    if node.op is leaves.CONSTANT:
        return scalar_node(node.attrs[0], node.dtype, place.runtime)
    return record(leaves.COPY, (node,), (), node.shape, node.dtype, place.runtime)


CAST_RULE = Rule("ToCopyBackward0", (lambda g: g,))


def cast(tensor: Tensor, dtype: DType) -> Tensor:
    """``tensor`` converted to ``dtype``; itself when it has that dtype."""
    node = node_of(tensor)
    if node.dtype is dtype:
        return tensor
    converted = cast_node(node, dtype)
    if dtype.kind not in "fc":
        return fresh(converted, tensor._device)
    return attach(fresh(converted, tensor._device), CAST_RULE, (tensor,))


def cast_node(node: Node, dtype: DType) -> Node:
    """The node converted to ``dtype``; constants and scalars stay what they are."""
    if node.dtype is dtype:
        return node
    if node.op is leaves.CONSTANT:
        return scalar_node(node.attrs[0], dtype, node.device)
    return record(elementwise.CAST, (node,), (dtype,), node.shape, dtype, node.device)


def scalar_tensor(value: Any, dtype: DType, place: device) -> Tensor:
    """A Python number as a 0-d tensor that can be used in many operations.

    Optimizers make one for each hyperparameter and step and use it for all parameters, so that
    the number is one argument of one plan.
    """
    return fresh(scalar_node(value, dtype, place.runtime), place)


def combined(operands: Sequence[Any], floating: bool = False) -> tuple[list[Tensor], DType]:
    """Operands (tensors and numbers) brought to one dtype and device.

    ``floating`` turns integer results into the default floating-point dtype.
    """
    dtype = result_type(*operands)
    if floating and dtype.kind not in "fc":
        dtype = get_default_dtype()
    place = operand_device(operands)
    return [to_operand(operand, dtype, place) for operand in operands], dtype


def operand_device(operands: Sequence[Any]) -> device:
    """The device of the operands; 0-d CPU tensors go where the others are."""
    place: device | None = None
    first: device | None = None
    for operand in operands:
        if not isinstance(operand, Tensor):
            continue
        first = first or operand._device
        if operand._device.type == "cpu" and not shape_of(operand):
            continue
        if place is None:
            place = operand._device
        elif operand._device is not place:
            common_device([o for o in operands if isinstance(o, Tensor) and shape_of(o)])
    chosen = place or first
    if chosen is None:
        raise NoTensorError("expected at least one Tensor among the operands")
    return chosen


def to_operand(operand: Any, dtype: DType, place: device) -> Tensor:
    """A tensor or number as a tensor of ``dtype`` on ``place``."""
    if not isinstance(operand, Tensor):
        if not isinstance(operand, (bool, int, float, complex)):
            number_dtype(operand)
            operand = operand.item()
        return fresh(scalar_node(operand, dtype, place.runtime), place)
    if operand._device is not place:
        moved = fresh(to_device_node(operand, place), place)
        operand = attach(moved, CAST_RULE, (operand,))
    return operand if dtype_of(operand) is dtype else cast(operand, dtype)


# The functions elementwise operations are called through --------------------------------------

# What stands for a map on complex numbers; ``functional.complex`` fills it.
complex_forms: dict[OpDef, Callable[..., Tensor]] = {}
# Maps whose own text and rule serve complex numbers too.
_COMPLEX_MAPS = (
    elementwise.ADD, elementwise.SUB, elementwise.NEG, elementwise.EQ, elementwise.NE,
    elementwise.IS_NAN,
)  # fmt: skip


def complex_form(op: OpDef, dtype: DType) -> Callable[..., Tensor]:
    """What stands for a map on complex numbers; ``NotImplementedError`` where nothing does."""
    found = complex_forms.get(op)
    if found is None:
        raise NotImplementedError(f"\"{op.name}\" not implemented for '{scalar_name(dtype)}'")
    return found


def unary(op: OpDef, rule: Rule | None, floating: bool) -> Callable[[Tensor], Tensor]:
    """``f(input)`` for a one-operand map; ``floating`` computes integers as floats."""
    rule = rule or rule_of(op)
    predicate = op.predicate

    def operate(a: Tensor) -> Tensor:
        node = a._node
        if node is None or a._view is not None:
            node = current_node(a)
        kind = node.dtype.kind
        if kind != "f":
            if kind == "c":
                if op not in _COMPLEX_MAPS:
                    return complex_form(op, node.dtype)(a)
            elif floating:
                return operate(cast(a, get_default_dtype()))
        made = Node(
            op, (node,), (), node.shape, dtypes.bool_ if predicate else node.dtype, node.device,
            user_site(),
        )  # fmt: skip
        recorder.watch(made)
        out = fresh(made, a._device)
        if a._requires_grad and mode.enabled and not predicate:
            attach(out, rule, (a,))
        return out

    return operate


_OPERANDS = (Tensor, bool, int, float, complex, np.number, np.bool_)


def unless_foreign(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``function`` as an operator: ``NotImplemented`` for what is neither a tensor nor a number."""

    def operate(a: Any, b: Any) -> Any:
        if isinstance(a, _OPERANDS) and isinstance(b, _OPERANDS):
            return function(a, b)
        return NotImplemented

    return operate


def binary(
    op: OpDef, rule: Rule | None, floating: bool = False, refused: str | None = None,
    operator: bool = False, tensors: int = 0,
) -> Callable[[Any, Any], Tensor]:  # fmt: skip
    """``f(input, other)`` for a two-operand map, where one of the two may be a number.

    The first ``tensors`` of the two have to be tensors.

    ``floating`` makes the result of integers floating point; ``refused`` is the message with
    which bool operands are refused.

    An ``operator`` answers ``NotImplemented`` where the other operand is neither a tensor nor a
    number, so that Python asks that operand.
    """
    rule = rule or rule_of(op)
    predicate, boolean = op.predicate, dtypes.bool_
    cls = rule_class(rule)
    plans = [rule.plan(mask, 2) for mask in range(4)]
    general = _general_binary(op, rule, floating, refused, operator, tensors)

    def operate(a: Any, b: Any) -> Tensor:
        if not isinstance(a, Tensor):
            return general(a, b)
        first = a._node
        if first is None or a._view is not None:
            first = current_node(a)
        dtype = first.dtype
        if isinstance(b, Tensor):
            second = b._node
            if second is None or b._view is not None:
                second = current_node(b)
            if second.dtype is not dtype or a._device is not b._device:
                return general(a, b)
            shape = first.shape
            if second.shape != shape:
                pair = (shape, second.shape)
                shape = _broadcasts.get(pair) or _broadcast(pair)
            other: Any = b
            wanted = a._requires_grad or b._requires_grad
        else:
            kind = b.__class__
            if kind is float:
                if dtype.kind != "f" or tensors == 2:
                    return general(a, b)
            elif kind is not int or dtype is boolean or tensors == 2:
                return general(a, b)
            other = second = scalar_node(b, dtype, first.device)
            shape = first.shape
            wanted = a._requires_grad
        if dtype.kind != "f" and (
            floating or dtype.kind == "c" or (refused is not None and dtype is boolean)
        ):
            return general(a, b)
        made = Node(
            op, (first, second), (), shape, boolean if predicate else dtype, first.device,
            user_site(),
        )  # fmt: skip
        recorder.watch(made)
        out: Tensor = _new(Tensor)
        out._node = made
        out._storage = out._view = out._grad = out._accumulator = out._extra = None
        out._device = a._device
        out._output_number = 0
        if not wanted or predicate or not mode.enabled:
            out._grad_fn = None
            out._requires_grad = False
            return mark_inference(out) if inference.threads else out
        mask = 0
        edge = other_edge = NO_EDGE
        if a._requires_grad:
            mask = 1
            edge = edge_of(a)
        if other is b and b._requires_grad:
            mask += 2
            other_edge = edge_of(b)
        entry = cls()
        entry._edges = (edge, other_edge)
        entry._sequence = next_sequence()
        entry.shapes_out = (shape,)
        entry.dtypes_out = (dtype,)
        entry._device = a._device
        entry.tensor_hooks = entry.pre_hooks = entry.post_hooks = entry.extra = None
        entry.attrs = ()
        plan = plans[mask]
        if plan.sources_only and a._storage is None and (other is second or b._storage is None):
            keep = plan.keep
            entry.versions = entry.out_storage = entry.shapes = None
            entry.saved = (
                (a if keep[0] else None, other if keep[1] else None) if plan.keeps else None
            )
        else:
            keep_for(entry, rule, mask, (a, other), out)
        if watch.active:
            watch.note(entry)
        out._grad_fn = entry
        out._requires_grad = True
        return out

    return operate


_broadcasts: dict[tuple[Shape, Shape], Shape] = {}
_BROADCASTS_KEPT = 4096


def _broadcast(pair: tuple[Shape, Shape]) -> Shape:
    """``broadcast`` of two shapes, remembered."""
    if len(_broadcasts) >= _BROADCASTS_KEPT:
        _broadcasts.clear()
    shape = _broadcasts[pair] = broadcast(pair)
    return shape


def _general_binary(
    op: OpDef, rule: Rule, floating: bool, refused: str | None, operator: bool, tensors: int
) -> Callable[[Any, Any], Tensor]:
    def operate(a: Any, b: Any) -> Tensor:
        if tensors:
            for position, (name, operand) in enumerate((("input", a), ("other", b))[:tensors]):
                if not isinstance(operand, Tensor):
                    # As a method's; of a function ``attach`` says the function's.
                    raise TypeError(not_a_tensor(op.name, name, position, operand))
        if refused is not None and (_is_bool(a) or _is_bool(b)):
            raise RuntimeError(refused)
        (first, second), dtype = combined((a, b), floating)
        if dtype.kind == "c" and op not in _COMPLEX_MAPS:
            return complex_form(op, dtype)(first, second)
        return apply(op, (first, second), (), rule)

    return unless_foreign(operate) if operator else operate


def _is_bool(operand: Any) -> bool:
    if isinstance(operand, Tensor):
        return dtype_of(operand) is dtypes.bool_
    return isinstance(operand, bool)


# Views ----------------------------------------------------------------------------------------


def _untaped() -> str:
    return INFERENCE if mode.inference else NO_GRAD


def make_view(
    parent: Tensor,
    op: OpDef,
    attrs: tuple[Any, ...],
    shape: Shape,
    strides: tuple[int, ...],
    offset: int,
    rule: Rule,
) -> Tensor:
    """A view of ``parent`` whose value the move ``op`` takes from the parent's."""
    storage = storage_of(parent)
    view = parent._view
    base = parent
    multiple = None if mode.enabled else _untaped()
    if view is not None and view.base is not None:
        base = view.base
        multiple = multiple or view.multiple
    tensor = fresh(None, parent._device)
    tensor._storage = storage
    dtype = None if view is None else view.dtype
    tensor._view = View(base, shape, strides, offset, storage.version, dtype)
    tensor._view.multiple = multiple
    if storage.host is None:
        node = node_of(parent)
        tensor._node = record(op, (node,), attrs, shape, node.dtype, node.device)
    if parent._requires_grad and mode.enabled:
        attach(tensor, rule, (parent,), attrs)
    return tensor


def reinterpret_view(
    parent: Tensor,
    dtype: DType,
    shape: Shape,
    strides: tuple[int, ...],
    offset: int,
    rule: Rule,
) -> Tensor:
    """A view that reads its parent's memory as elements of another dtype."""
    storage = storage_of(parent)
    view = parent._view
    own = storage.node.dtype
    tensor = fresh(None, parent._device)
    tensor._storage = storage
    base = view.base if view is not None and view.base is not None else parent
    # A version that no storage has: the value is taken when it is first wanted.
    tensor._view = View(base, shape, strides, offset, -1, None if dtype is own else dtype)
    tensor._view.history = storage.version
    tensor._view.multiple = None if mode.enabled else _untaped()
    if parent._requires_grad and mode.enabled:
        attach(tensor, rule, (parent,))
    return tensor
