"""The tape: objects that stand behind ``tensor.grad_fn`` and how they are written.

Each remembers its successors (``next_functions``) and what its rule needs. Nothing here runs a
gradient; ``autograd.backward`` does. Links lead from newer to older objects only, which is what
lets the backward pass order them by their number.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from lazytorch import engine
from lazytorch.autograd.anomaly import note_site
from lazytorch.autograd.anomaly import state as anomaly
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.ir.definition import OpDef
from lazytorch.tensor.attach import functions
from lazytorch.tensor.recorder import own_value
from lazytorch.tensor.storage import Storage, dtype_of, node_of, shape_of, storage_of
from lazytorch.tensor.tensor import Tensor, fresh

_count = itertools.count()
_sequence = _count.__next__
_NO_EDGE = (None, 0)
Edge = tuple[Any, int]


class GradientFunction:
    """One entry of the tape: what ``grad_fn`` shows.

    ``shapes_out`` and ``dtypes_out`` describe the results, so that incoming gradients can be
    brought into their form.
    """

    __slots__ = (
        "__weakref__",
        "device",
        "dtypes_out",
        "edges",
        "metadata",
        "post_hooks",
        "pre_hooks",
        "sequence",
        "shapes_out",
        "tensor_hooks",
    )  # fmt: skip

    edges: tuple[Edge, ...]
    shapes_out: tuple[tuple[int, ...], ...]
    dtypes_out: tuple[Any, ...]
    tensor_hooks: Any
    pre_hooks: Any
    post_hooks: Any

    def start(self, edges: tuple[Edge, ...], outputs: Sequence[Tensor]) -> None:
        """Fill in what every entry has."""
        self.edges = edges
        self.sequence = _sequence()
        self.shapes_out = tuple([shape_of(out) for out in outputs])
        self.dtypes_out = tuple([dtype_of(out) for out in outputs])
        self.device = outputs[0]._device
        self.tensor_hooks = self.pre_hooks = self.post_hooks = None

    @property
    def next_functions(self) -> tuple[Edge, ...]:
        return self.edges

    def name(self) -> str:
        """The name shown by ``print(tensor)``."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        """The gradients for each edge from those of the results."""
        raise NotImplementedError

    def release(self) -> None:
        """Forget what was kept."""

    def __call__(self, *gradients: Any) -> Any:
        result = self.run(list(gradients), tuple(edge[0] is not None for edge in self.edges))
        return result[0] if len(result) == 1 else result

    def register_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(grad_inputs, grad_outputs)`` after the entry has run."""
        if self.post_hooks is None:
            self.post_hooks = {}
        return Handle(self.post_hooks, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(grad_outputs)`` before the entry runs."""
        if self.pre_hooks is None:
            self.pre_hooks = {}
        return Handle(self.pre_hooks, hook)

    def add_tensor_hook(self, output: int, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(gradient)`` on the gradient of one result."""
        if self.tensor_hooks is None:
            self.tensor_hooks = {}
        return Handle(self.tensor_hooks.setdefault(output, {}), hook)


class Handle:
    """Removes a hook again; also a context manager."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self.id = next(Handle._ids)
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Stop calling the hook."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


class AccumulateGrad(GradientFunction):
    """The end of the tape at a leaf: adds to its ``.grad``."""

    __slots__ = ("variable",)

    def __init__(self, variable: Tensor) -> None:
        self.start((), (variable,))
        self.variable = variable

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        gradient = gradients[0]
        if gradient is None:
            return ()
        variable = self.variable
        before = variable._grad
        if before is None:
            if mode.enabled and gradient._requires_grad:
                variable._grad = gradient
            else:
                before = fresh(own_value(node_of(gradient)), gradient._device)
                engine.note_state(storage_of(before))
                variable._grad = before
        elif mode.enabled:
            variable._grad = before + gradient
        else:
            before.add_(gradient)  # type: ignore[attr-defined]
        return ()


def _conjugated(gradient: Any) -> Any:
    """The conjugate of a gradient, or of each in a list; what is no complex tensor stays."""
    if isinstance(gradient, list):
        return [_conjugated(one) for one in gradient]
    return functions.conj(gradient) if isinstance(gradient, Tensor) else gradient


class OperationBackward(GradientFunction):
    """An entry whose gradient is a :class:`Rule`; each rule has a subclass of its own name."""

    __slots__ = (
        "attrs", "extra", "out_node", "out_storage", "out_version", "saved", "shapes", "versions",
    )  # fmt: skip
    rule: Rule
    # Whether the operation has several results, so that rules get a list of gradients.
    several = False
    attrs: tuple[Any, ...]
    extra: Any
    out_node: Any
    out_storage: Any
    out_version: Any
    saved: Any
    shapes: Any
    versions: tuple[int, ...] | None

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        saved = self.saved
        if saved is _RELEASED:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed). Saved intermediate values of the "
                "graph are freed when you call .backward() or autograd.grad(). Specify "
                "retain_graph=True if you need to backward through the graph a second time or "
                "if you need to access saved tensors after calling backward."
            )
        gradient: Any = gradients
        if not self.several:
            gradient = gradients[0]
            if gradient is None:
                return (None,) * len(self.edges)
        turned = self.dtypes_out[0].kind == "c" and not self.rule.joins_parts
        if turned:
            gradient = _conjugated(gradient)
        values = [
            gradient, functions, None, self.attrs, self.shapes, self.extra, needs,
        ]  # fmt: skip
        if self.out_storage is not None:
            values[2] = self._saved_outs() if self.several else self._saved_out()
        if saved is None:
            values += [None] * len(self.edges)
        else:
            values += self._saved_sources(saved)
        found = self.rule.gradients(values, needs)
        return tuple(_conjugated(list(found))) if turned else found

    def _saved_out(self) -> Tensor:
        storage = self.out_storage
        if storage.version != self.out_version:
            raise _modified(storage.node, storage.version, self.out_version, self, 0)
        out = fresh(self.out_node or storage.node, storage.device)
        if mode.enabled:
            out._grad_fn = self
            out._requires_grad = True
        return out

    def _saved_outs(self) -> list[Tensor]:
        """The results of an operation with several."""
        found = []
        for number, (storage, version) in enumerate(zip(self.out_storage, self.out_version)):
            if storage.version != version:
                raise _modified(storage.node, storage.version, version, self, number)
            out = fresh(storage.node, storage.device)
            if mode.enabled and storage.node.dtype.kind in "fc":
                out._grad_fn, out._output_number = self, number
                out._requires_grad = True
            found.append(out)
        return found

    def _saved_sources(self, saved: tuple[Any, ...]) -> list[Any]:
        versions = self.versions
        values: list[Any] = []
        for number, source in enumerate(saved):
            if source.__class__ is not Tensor and source is not None:
                if not isinstance(source, Tensor):
                    source = fresh(source, self.device)
            if source is not None:
                expected = 0 if versions is None else versions[number]
                if source._storage is not None and source._storage.version != expected:
                    raise _modified(
                        node_of(source), source._storage.version, expected,
                        source._grad_fn, source._output_number,
                    )  # fmt: skip
            values.append(source)
        return values

    def release(self) -> None:
        if self.saved is not None or self.out_storage is not None or self.extra is not None:
            self.saved = _RELEASED
            self.out_storage = self.out_node = self.extra = None
            # Nothing passes here again, so what lies behind need not stay either: a running
            # ``total += loss`` would otherwise keep every step's tape for ever.
            self.edges = ()

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return tuple(value for value in self.saved or () if value is not None)


_RELEASED: Any = ("released",)


def _modified(node: Any, version: int, expected: int, maker: Any, output: int) -> RuntimeError:
    names = {
        "float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor",
        "bfloat16": "BFloat16Tensor", "int64": "LongTensor", "int32": "IntTensor",
        "bool": "BoolTensor", "uint8": "ByteTensor", "int8": "CharTensor", "int16": "ShortTensor",
    }  # fmt: skip
    made = f", which is output {output} of {maker.name()}," if maker is not None else ""
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [torch.{names.get(node.dtype.name, node.dtype.name)} {list(node.shape)}]"
        f"{made} is at version {version}; expected version {expected} instead. Hint: enable "
        "anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly(True)."
    )


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
    return "".join(part.capitalize() for part in name.split("_"))


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
    entry.edges = edges
    entry.sequence = _sequence()
    node = node_of(out)
    entry.shapes_out = (node.shape,)
    entry.dtypes_out = (node.dtype,)
    entry.device = out._device
    entry.tensor_hooks = entry.pre_hooks = entry.post_hooks = None
    keep_for(entry, rule, mask, sources, out)
    entry.attrs = attrs
    entry.extra = extra
    if anomaly.enabled:
        note_site(entry)
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
            edges.append(_NO_EDGE)
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
                entry.versions = tuple(
                    [kept._version if isinstance(kept, Tensor) else 0 for kept in saved]
                )
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


# Views ----------------------------------------------------------------------------------------

REGENERATED = Rule(
    "AsStridedBackward0",
    (lambda g, f, attrs: f.strided_gradient(g, attrs[0], *attrs[1:]),),
)


def current_grad_fn(tensor: Tensor) -> Any:
    """A view's tape entry, made anew from its base when the base was written since."""
    view = tensor._view
    if view is None or view.base is None or not view.base._requires_grad:
        return tensor._grad_fn
    storage = tensor._storage
    if view.history != storage.version:  # type: ignore[union-attr]
        if view.multiple is not None and view.multiple != "no_grad" and tensor._requires_grad:
            raise RuntimeError(
                f"Output {tensor._output_number} of {view.multiple} is a view and its base or "
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
