"""torch.layout and torch.memory_format: named constants that arguments are checked against.

Tensors here are dense and have strides; the other layouts have names so that asking for one is
answered by an error that says what there is instead.
"""

from __future__ import annotations

from typing import Any


class _Named:
    """A constant that prints under its name in torch, and is itself after pickling or copying."""

    __slots__ = ("name",)
    name: str

    def __new__(cls, *args: Any, **kwargs: Any) -> _Named:
        raise TypeError(f"cannot create 'torch.{cls.__name__}' instances")

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (by_name, (self.name,))

    def __copy__(self) -> _Named:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Named:
        return self


class layout(_Named):
    """How a tensor's elements are kept: ``torch.strided`` for all tensors here."""

    __slots__ = ()
    __module__ = "torch"  # What its class prints as.


class memory_format(_Named):
    """The order of the dimensions in memory."""

    __slots__ = ()
    __module__ = "torch"


_known: dict[str, _Named] = {}


def _make(cls: type[_Named], name: str) -> Any:
    made: _Named = object.__new__(cls)
    made.name = name
    _known[name] = made
    return made


def by_name(name: str) -> _Named:
    """The layout or memory format called ``name``; ``KeyError`` when there is none."""
    return _known[name]


strided: layout = _make(layout, "strided")
sparse_coo: layout = _make(layout, "sparse_coo")
sparse_csr: layout = _make(layout, "sparse_csr")
sparse_csc: layout = _make(layout, "sparse_csc")
sparse_bsr: layout = _make(layout, "sparse_bsr")
sparse_bsc: layout = _make(layout, "sparse_bsc")
jagged: layout = _make(layout, "jagged")
contiguous_format: memory_format = _make(memory_format, "contiguous_format")
preserve_format: memory_format = _make(memory_format, "preserve_format")
channels_last: memory_format = _make(memory_format, "channels_last")
channels_last_3d: memory_format = _make(memory_format, "channels_last_3d")

NAMES = tuple(_known)
CHANNELS_LAST_ORDER = {channels_last: (0, 2, 3, 1), channels_last_3d: (0, 2, 3, 4, 1)}


def check_format(wanted: Any, function: str) -> None:
    """Raise ``TypeError`` for what is no memory format."""
    if not isinstance(wanted, memory_format):
        raise TypeError(
            f"{function}(): argument 'memory_format' must be torch.memory_format, not "
            f"{type(wanted).__name__}"
        )


def lies_in(wanted: Any, shape: tuple[int, ...], strides: tuple[int, ...], in_order: bool) -> bool:
    """Whether elements of these strides lie in a memory format without gaps.

    ``in_order`` is the answer for the contiguous format. Raises ``TypeError`` for what is no
    memory format.
    """
    check_format(wanted, "is_contiguous")
    order = CHANNELS_LAST_ORDER.get(wanted)
    if order is None:
        return in_order
    if len(shape) != len(order):
        return False
    step = 1
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != step:
                return False
            step *= shape[axis]
    return True


def check_layout(wanted: Any) -> None:
    """Refuse every layout but ``torch.strided`` (and None)."""
    if wanted is None or wanted is strided:
        return
    if not isinstance(wanted, layout):
        raise TypeError(f"argument 'layout' must be torch.layout, not {type(wanted).__name__}")
    raise NotImplementedError(
        f"{wanted!r} tensors are not supported: tensors here are dense. Leave layout out, or keep "
        "indices and values as two dense tensors (index_add, scatter_add and embedding work on "
        "those)"
    )
