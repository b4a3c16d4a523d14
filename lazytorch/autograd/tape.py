"""Writing the tape: the objects that stand behind ``tensor.grad_fn``.

Each remembers its successors (``next_functions``) and what its rule needs. Nothing here runs a
gradient; ``autograd.backward`` does. Links lead from newer to older objects only, which is what
lets the backward pass order them by their number.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.entries import NO_EDGE, AccumulateGrad, Edge, next_sequence
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.operation import OperationBackward
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.watch import watch
from lazytorch.ir.definition import OpDef
from lazytorch.tensor.storage import INFERENCE, NO_GRAD, Storage, node_of, shape_of, storage_of
from lazytorch.tensor.tensor import Tensor

# Writing the tape -----------------------------------------------------------------------------


def rule_class(rule: Rule) -> Any:
    """The class of tape entries of a rule."""
    cls = rule.cls
    if cls is None:
        cls = rule.cls = type(rule.name, (OperationBackward,), {"__slots__": (), "rule": rule})
    return cls


_several: dict[type, type] = {}


def _several_class(cls: type) -> Any:
    """The class of entries of a rule with several results."""
    found = _several.get(cls)
    if found is None:
        found = _several[cls] = type(cls.__name__, (cls,), {"__slots__": (), "several": True})
    return found


def _camel(name: str) -> str:
    words = "".join(part.capitalize() for part in name.split("_"))
    return re.sub(r"\d[a-z]", lambda found: found.group().upper(), words)


_labels: dict[tuple[type, str], type] = {}


def label(out: Tensor, name: str) -> Tensor:
    """Show a composite's last entry under the composite's own name, as PyTorch does."""
    entry = out._grad_fn
    if entry is not None:
        key = (entry.__class__, name)
        cls = _labels.get(key)
        if cls is None:
            cls = _labels[key] = type(name, (entry.__class__,), {"__slots__": ()})
        entry.__class__ = cls
    return out


_rules: dict[OpDef, Rule] = {}


def rule_of(op: OpDef) -> Rule:
    """The rule in an operation's own record, under its usual name."""
    rule = _rules.get(op)
    if rule is None:
        rule = _rules[op] = Rule(_camel(op.name) + "Backward0", op.gradient)
    return rule


def named(op: OpDef, name: str) -> Rule:
    """The rule of ``op`` under another name (``SelectBackward0`` for a reshape of a slice)."""
    return Rule(name, op.gradient)


def accumulator(leaf: Tensor) -> AccumulateGrad:
    """The end of the tape at ``leaf``: one object as long as anything refers to it."""
    known = leaf._accumulator
    if known is not None:
        found: AccumulateGrad | None = known()
        if found is not None:
            return found
    made = AccumulateGrad(leaf)
    leaf._accumulator = weakref.ref(made)
    return made


def edge_of(tensor: Tensor) -> Edge:
    """Where the gradient of ``tensor`` goes."""
    entry = tensor._grad_fn if tensor._view is None else current_grad_fn(tensor)
    if entry is None:
        return accumulator(tensor), 0
    return entry, tensor._output_number


def attach(
    out: Tensor,
    rule: Rule,
    sources: Sequence[Any],
    attrs: tuple[Any, ...] = (),
    extra: Any = None,
) -> Tensor:
    """Write on the tape that ``out`` was made from ``sources``; returns ``out``.

    Does nothing while the tape is off or when no source requires a gradient. A source may be
    ``None`` or a bare node (a Python scalar), which never get one.
    """
    if not mode.enabled:
        return out
    mask, edges = _edges(rule, sources)
    if not mask:
        return out
    entry = (rule.cls or rule_class(rule))()
    entry._edges = edges
    entry._sequence = next_sequence()
    node = node_of(out)
    entry.shapes_out = (node.shape,)
    entry.dtypes_out = (node.dtype,)
    entry._device = out._device
    entry.tensor_hooks = entry.pre_hooks = entry.post_hooks = None
    keep_for(entry, rule, mask, sources, out)
    entry.attrs = attrs
    entry.extra = extra
    if watch.active:
        watch.note(entry)
    out._grad_fn = entry
    out._requires_grad = True
    return out


def _edges(rule: Rule, sources: Sequence[Any]) -> tuple[int, tuple[Edge, ...]]:
    """Which sources want a gradient (as bits), and where each one's goes."""
    mask = 0
    bit = 1
    allowed = rule.allowed
    edges: list[Edge] = []
    for source in sources:
        if isinstance(source, Tensor) and source._requires_grad and allowed & bit:
            mask |= bit
            edges.append(edge_of(source))
        else:
            edges.append(NO_EDGE)
        bit <<= 1
    return mask, tuple(edges)


def attach_many(
    outputs: Sequence[Tensor],
    rule: Rule,
    sources: Sequence[Any],
    attrs: tuple[Any, ...] = (),
    extra: Any = None,
    differentiable: Sequence[bool] | None = None,
) -> None:
    """As :func:`attach` for an operation with several results.

    The rule's ``g`` is then the list of the results' gradients, ``None`` where there is none,
    and ``out`` the list of the results.
    """
    if not mode.enabled or not outputs:
        return
    mask, edges = _edges(rule, sources)
    if not mask:
        return
    entry = _several_class(rule_class(rule))()
    entry.start(edges, outputs)
    keep_for(entry, rule, mask, sources, tuple(outputs))
    entry.attrs = attrs
    entry.extra = extra
    if watch.active:
        watch.note(entry)
    for number, out in enumerate(outputs):
        if differentiable is None or differentiable[number]:
            out._grad_fn = entry
            out._output_number = number
            out._requires_grad = True


def keep_for(entry: Any, rule: Rule, mask: int, sources: Sequence[Any], out: Any) -> None:
    """Keep of the sources and the result what the rule needs, with their versions."""
    plan = rule.plan(mask, len(sources))
    entry.versions = entry.saved = entry.out_storage = entry.shapes = None
    if plan.keeps:
        saved = entry.saved = tuple(
            [source if keep else None for source, keep in zip(sources, plan.keep)]
        )
        for source in saved:
            if isinstance(source, Tensor) and source._storage is not None:
                entry.versions = tuple([_version(kept) for kept in saved])
                break
    if plan.sources_only:
        return
    if plan.keep_out and isinstance(out, tuple):
        entry.out_storage = tuple([storage_of(one) for one in out])
        entry.out_version = tuple([storage.version for storage in entry.out_storage])
        entry.out_node = None
    elif plan.keep_out:
        storage: Storage = storage_of(out)
        entry.out_storage = storage
        entry.out_version = storage.version
        entry.out_node = None
    if plan.shapes:
        entry.shapes = tuple(
            [shape_of(s) if isinstance(s, Tensor) else s and s.shape for s in sources]
        )


def _version(kept: Any) -> int:
    """The version with which a value is kept; inference tensors cannot be."""
    if not isinstance(kept, Tensor) or kept._storage is None:
        return 0
    if kept._storage.inference:
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in "
            "inference mode in computation tracked by autograd. To work around this, you can make "
            "a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
            "instead of `torch.inference_mode()`."
        )
    return kept._storage.version


# Views ----------------------------------------------------------------------------------------

REGENERATED = Rule(
    "AsStridedBackward0",
    (lambda g, f, attrs: f.strided_gradient(g, attrs[0], *attrs[1:]),),
)


_NOT_SEVERAL = (None, NO_GRAD, INFERENCE)


def function_name(entry: str) -> str:
    """The name of a forward function from that of its entry, as PyTorch's messages have it."""
    return entry.strip("()").removesuffix("0").removesuffix("Backward")


def current_grad_fn(tensor: Tensor) -> Any:
    """A view's tape entry, made anew from its base when the base was written since."""
    view = tensor._view
    if view is None or view.base is None or not view.base._requires_grad:
        return tensor._grad_fn
    storage = tensor._storage
    if view.history != storage.version:  # type: ignore[union-attr]
        if view.multiple not in _NOT_SEVERAL and tensor._requires_grad:
            maker = function_name(str(view.multiple))
            raise RuntimeError(
                f"Output {tensor._output_number} of {maker} is a view and its base or "
                "another view of its base has been modified inplace. This view is the output of a "
                "function that returns multiple views. Such functions do not allow the output "
                "views to be modified inplace. You should replace the inplace operation by an "
                "out-of-place one."
            )
        base = view.base
        entry = rule_class(REGENERATED)()
        entry.start((edge_of(base),), (tensor,))
        keep_for(entry, REGENERATED, 1, (base,), None)
        entry.attrs = (shape_of(base), view.shape, *relative(base, view.strides, view.offset))
        entry.extra = None
        tensor._grad_fn = entry
        tensor._output_number = 0
        tensor._requires_grad = True
        view.history = storage.version  # type: ignore[union-attr]
    return tensor._grad_fn


def relative(base: Tensor, strides: tuple[int, ...], offset: int) -> tuple[tuple[int, ...], int]:
    """Strides and offset of a view counted in its base instead of the storage."""
    place = base._view
    if place is None:
        return strides, offset
    if not base.is_contiguous():
        raise RuntimeError(
            "in-place operations with gradients on views of a detached, non-contiguous alias are "
            "not supported: call .contiguous() on the alias before taking views of it"
        )
    return strides, offset - place.offset
