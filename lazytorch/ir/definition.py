"""OpDef: the form of the record in which a primitive operation is described.

The records themselves stand in ``lazytorch.ops``; here is only their shape, so that a Node can
point at one. Everything the compiler wants to know about an operation it asks this record, and
it decides by ``kind``, never by ``name``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazytorch.dtypes import DType

Shape = tuple[int, ...]
Infer = Callable[[Sequence[Shape], Sequence[DType], tuple[Any, ...]], tuple[Shape, DType]]

KINDS = (
    "leaf",  # a buffer, scalar, constant or iota: has no sources
    "map",  # one output element from one element of each (broadcast) source
    "move",  # says where an element comes from; computes nothing
    "random",  # bits from a counter: computed wherever they are needed
    "gather",  # reads its first source at positions given by its second
    "reduce",  # combines along axes
    "contract",  # sum of products over shared axes
    "attention",  # softmax of products, times values
    "scatter",  # writes at positions given by a source
    "scan",  # running combination along an axis
    "recurrent",  # a recurrent layer: states carried from step to step, rows independent
    "sort",  # the elements of each row in order
    "host",  # a Python function on NumPy arrays
    "copy",  # to another device
    "example",  # one example of a batch, whichever: rewritten before anything is computed
)


@dataclass(frozen=True, eq=False)
class OpDef:
    """One primitive.

    ``infer`` gives shape and dtype of the result and raises for what does not fit; ``numpy``
    computes the operation on arrays (``numpy(attrs, *arrays)``) and is its definition.
    ``c`` holds OpenCL C by dtype category (keys 'f', 'i', 'u', 'b', or '*') for maps; see
    ``codegen.opencl`` for its placeholders. ``route`` gives, for a move, where the element at an
    index comes from. ``gradient`` holds one function for each source (or one for all) whose
    parameter names say what it needs; ``autograd.rules`` describes them.
    ``cost`` estimates the arithmetic of one element in additions.
    """

    name: str
    kind: str
    arity: int
    infer: Infer
    numpy: Callable[..., np.ndarray]
    c: dict[str, str] = field(default_factory=dict)
    c_vector: dict[str, str] = field(default_factory=dict)
    route: Callable[..., Any] | None = None
    gradient: Callable[..., Any] | tuple[Any, ...] | None = None
    combine: OpDef | None = None
    identity: Callable[[DType], Any] | None = None
    cost: int = 1
    floating_result: bool = False
    predicate: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"operation {self.name!r}: kind {self.kind!r} is not one of {KINDS}")

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from lazytorch.ir import registry

        return (registry.lookup, (self.name,))
