"""Plan: the frozen result of scheduling. Plain data: what is cached, replayed and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef
from lazytorch.ir.kernel import Kernel
from lazytorch.schedule.memory import Layout


@dataclass(frozen=True)
class LaunchStep:
    """One launch: kernel ``name`` of the plan's program over ``groups`` of ``local`` items.

    ``arrays`` and ``scalars`` are value numbers in the order of the kernel's parameters.
    ``kernel`` is what it computes, and what the NumPy device evaluates; ``None`` in a plan read
    from a file. Steps that run the same code share a name. ``packs`` is (source, target) where all
    the launch does is to lay one array out anew, which need not be done again while that array
    has not changed.
    """

    name: str
    kernel: Kernel | None
    arrays: tuple[int, ...]
    scalars: tuple[int, ...]
    groups: int
    local: int
    covers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    flops: int = 0
    nbytes: int = 0
    packs: tuple[int, int] | None = None


@dataclass(frozen=True)
class CallStep:
    """A value made by the host from arrays."""

    number: int
    op: OpDef
    attrs: tuple[Any, ...]
    reads: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Steps in order, where each value lives, and what is bound at launch.

    ``outputs`` are value numbers, ``scalars`` their numbers with types in binding order;
    ``source`` is the whole program's text, empty on devices that build none. ``bounds`` says, where
    indices are checked, which (kernel, array) each report code means; then the last output is
    the report.
    """

    steps: tuple[LaunchStep | CallStep, ...]
    layout: Layout
    leaves: tuple[int, ...]
    scalars: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: dict[int, tuple[int, ...]]
    dtypes: dict[int, DType]
    source: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    flops: int = 0
    nbytes: int = 0
    bounds: dict[int, tuple[str, int]] | None = None

    @property
    def launches(self) -> int:
        return sum(isinstance(step, LaunchStep) for step in self.steps)
