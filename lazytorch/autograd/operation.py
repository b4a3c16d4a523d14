"""Entries for operations: what they kept, and how their rule is run on it.

A value is kept with the version that its storage had, so that a later write is noticed instead of
giving a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.autograd.entries import GradientFunction, used_twice
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.packed import Packed, PackedExtra
from lazytorch.autograd.rules import Rule
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh


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
        if saved is RELEASED:
            raise used_twice()
        gradient: Any = gradients
        if not self.several:
            gradient = gradients[0]
            if gradient is None:
                return (None,) * len(self._edges)
        turned = self.dtypes_out[0].kind == "c" and not self.rule.joins_parts
        if turned:
            gradient = _conjugated(gradient)
        extra = self.extra
        if extra.__class__ is PackedExtra:
            extra = extra.unpacked(self)
        values = [gradient, functions, None, self.attrs, self.shapes, extra, needs]
        if self.out_storage is not None:
            values[2] = self._saved_outs() if self.several else self._saved_out()
        if saved is None:
            values += [None] * len(self._edges)
        else:
            values += self._saved_sources(saved)
        found = self.rule.gradients(values, needs)
        return tuple(_conjugated(list(found))) if turned else found

    def _saved_out(self) -> Tensor:
        storage = self.out_storage
        if storage.__class__ is Packed:
            return storage.unpacked(self)
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
            if storage.__class__ is Packed:
                found.append(storage.unpacked(self))
                continue
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
            if source.__class__ is Packed:
                values.append(source.unpacked(self))
                continue
            if source.__class__ is not Tensor and source is not None:
                if not isinstance(source, Tensor):
                    source = fresh(source, self._device)
            if source is not None:
                expected = 0 if versions is None else versions[number]
                if source._storage is not None and source._storage.version != expected:
                    raise _modified(
                        node_of(source), source._storage.version, expected,
                        source._grad_fn, source._output_number,
                    )  # fmt: skip
            values.append(source)
        return values

    def pack(self, packed: Callable[[Any], Any]) -> None:
        if self.saved is not None:
            self.saved = tuple([packed(source) for source in self.saved])
        if isinstance(self.out_storage, tuple):
            self.out_storage = tuple(
                [packed(self._result(number)) for number in range(len(self.out_storage))]
            )
        elif self.out_storage is not None:
            self.out_storage = packed(self._result(0))
        if self.extra is not None:
            self.extra = PackedExtra(self.extra, packed)

    def _result(self, number: int) -> Tensor:
        """A result as it was saved, with its history."""
        storage = self.out_storage[number] if self.several else self.out_storage
        out = fresh(storage.node, storage.device)
        if storage.node.dtype.kind in "fc":
            out._grad_fn, out._output_number, out._requires_grad = self, number, True
        return out

    def release(self) -> None:
        if self.saved is not None or self.out_storage is not None or self.extra is not None:
            self.saved = RELEASED
            self.out_storage = self.out_node = self.extra = None
            # Nothing passes here again, so what lies behind need not stay either: a running
            # ``total += loss`` would otherwise keep every step's tape for ever.
            self._edges = ()

    def __getattr__(self, name: str) -> Any:
        # PyTorch's names for what an entry keeps; others are those of its C++ sources.
        place = _SAVED_NAMES.get(name)
        if place is not None and self.saved not in (None, RELEASED) and place < len(self.saved):
            if self.saved[place] is not None:
                return self._saved_sources(self.saved)[place]
        if name == "_saved_result" and self.out_storage is not None:
            return self._saved_out()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return tuple(value for value in self.saved or () if value is not None)


RELEASED: Any = ("released",)
_SAVED_NAMES = {"_saved_self": 0, "_saved_other": 1}


def _modified(node: Any, version: int, expected: int, maker: Any, output: int) -> RuntimeError:
    made = f", which is output {output} of {maker.name()}," if maker is not None else ""
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [torch.{scalar_name(node.dtype)}Tensor {list(node.shape)}]"
        f"{made} is at version {version}; expected version {expected} instead. Hint: enable "
        "anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly(True)."
    )
