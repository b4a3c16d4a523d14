"""Hooks on saved tensors: what the tape keeps may be packed, moved, or made again later.

What *saved* means here. The tape keeps references to values, most of which are not computed when
they are saved. When a graph is computed while the tape is alive, values that are dear to compute
again (results of reductions and contractions) get memory of their own; cheap maps of them are
computed again where the gradient needs them. Where nobody looks before the backward pass, forward
and backward are one graph and a saved value may never be stored at all. A hook sees the value as
a tensor in any case, and what it gives back replaces it.
"""

from __future__ import annotations

import threading
from typing import Any

from lazytorch import engine
from lazytorch.autograd.entries import Edge
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.packed import Pack, Packed, Unpack
from lazytorch.autograd.tape import edge_of
from lazytorch.autograd.watch import watch
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh


class _Hooks(threading.local):
    """The pairs of hooks open in a thread, and the message with which more are refused."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Pack, Unpack]] = []
        self.refusal: str | None = None


_hooks = _Hooks()


class saved_tensors_hooks:
    """Inside, ``pack_hook`` is called with each tensor that the tape saves, and ``unpack_hook``
    with what it returned when the backward pass needs the tensor again.

    ``unpack_hook`` must return a tensor of the same content. The innermost pair of hooks applies.
    Versions are not checked for tensors that were packed. Raises ``RuntimeError`` inside
    :class:`disable_saved_tensors_hooks`, and where ``pack_hook`` writes into its argument.

    >>> with saved_tensors_hooks(lambda t: t.numpy(force=True), torch.from_numpy):
    ...     y = torch.ones(2, requires_grad=True).exp()
    """

    def __init__(self, pack_hook: Pack, unpack_hook: Unpack) -> None:
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        if _hooks.refusal is not None:
            raise RuntimeError(_hooks.refusal)
        engine.looked("hooks on saved tensors are Python that a repetition would not run")
        _hooks.pairs.append((self.pack_hook, self.unpack_hook))
        watch.open(pack_entry)

    def __exit__(self, *_: Any) -> None:
        _hooks.pairs.pop()
        watch.close(pack_entry)


class save_on_cpu(saved_tensors_hooks):
    """Inside, saved tensors wait for the backward pass in the host's memory.

    They are copied to the ``cpu`` device and, when the gradient needs them, back to where they
    came from; on the ``cpu`` device this changes nothing but their lifetime. ``pin_memory`` and
    ``device_type`` are accepted and change nothing: there is no pinned memory.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(tensor: Tensor) -> tuple[Any, Tensor]:
            return tensor.device, tensor.detach().to("cpu")

        def unpack(packed: tuple[Any, Tensor]) -> Tensor:
            place, tensor = packed
            return tensor.to(place)

        super().__init__(pack, unpack)


class disable_saved_tensors_hooks:
    """Inside, opening :class:`saved_tensors_hooks` is a ``RuntimeError`` with the given message.

    Where hooks are open already, entering raises at once.
    """

    def __init__(self, error_message: str) -> None:
        self._message = error_message

    def __enter__(self) -> None:
        if _hooks.pairs:
            raise RuntimeError(self._message)
        self._before = _hooks.refusal
        _hooks.refusal = self._message

    def __exit__(self, *_: Any) -> None:
        _hooks.refusal = self._before


class _Mutations:
    """What :class:`allow_mutation_on_saved_tensors` gives; there is nothing to clear."""

    def clear(self) -> None:
        """Nothing: no copies were made."""


class allow_mutation_on_saved_tensors(saved_tensors_hooks):
    """Inside, tensors that the tape has saved may be written to: gradients use the old values.

    A write never changes a value that somebody still refers to, so nothing is copied for this;
    only the check is left out. The backward pass may run after the context was left. Contexts
    cannot be nested (``RuntimeError``).
    """

    _open = threading.local()

    def __init__(self) -> None:
        super().__init__(lambda tensor: fresh(node_of(tensor), tensor._device), lambda same: same)

    def __enter__(self) -> _Mutations:  # type: ignore[override]
        if getattr(self._open, "entered", False):
            raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
        super().__enter__()
        self._open.entered = True
        return _Mutations()

    def __exit__(self, *_: Any) -> None:
        self._open.entered = False
        super().__exit__()


# Packing --------------------------------------------------------------------------------------


def pack_entry(entry: Any) -> None:
    """Pack what an entry has just saved, if hooks are open in this thread."""
    if not _hooks.pairs:
        return
    pack, unpack = _hooks.pairs[-1]

    def packed(value: Any) -> Any:
        return pack_tensor(value, pack, unpack, entry) if isinstance(value, Tensor) else value

    entry.pack(packed)


def pack_tensor(tensor: Tensor, pack: Pack, unpack: Unpack, entry: Any = None) -> Packed:
    """What ``pack`` makes of a tensor, with the tensor's history."""
    version = _version_of(tensor)
    edge: Edge | None = None
    number = 0
    if tensor._requires_grad:
        maker, place = edge_of(tensor)
        if maker is entry:
            number = place
        else:
            edge = (maker, place)
    with no_grad():
        value = pack(tensor)
    if _version_of(tensor) != version:
        raise RuntimeError(
            "A saved tensor pack hook is modifying its input in place. Tensors provided as input "
            "to pack hook cannot be modified by in-place operations as this can lead to unexpected "
            "side-effects. Work on a clone of it."
        )
    return Packed(value, unpack, tensor._requires_grad, edge, number)


def _version_of(tensor: Tensor) -> int:
    return 0 if tensor._storage is None else tensor._storage.version


def open_hooks() -> tuple[Pack, Unpack] | None:
    """The hooks that apply to what is saved now in this thread."""
    return _hooks.pairs[-1] if _hooks.pairs else None
