"""What a workload is: a program's name, its inputs, its work, and the figures asked of it.

A workload says nothing about libraries. ``programs`` has the same programs once for everything
that looks like PyTorch and once for each library that does not.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Input:
    """One array: normally distributed floats, or integers below ``below`` where that is given."""

    shape: tuple[int, ...]
    below: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the array (floats are float32, integers int64)."""
        return math.prod(self.shape) * (8 if self.below else 4)


@dataclass(frozen=True)
class Goal:
    """A figure asked of a workload.

    ``against`` is ``best`` (of PyTorch, torch.compile and JAX), ``torch``, ``peak`` (share of
    fused multiply-adds), ``copy`` (share of copy bandwidth), ``memory`` (of PyTorch's peak, at
    most), or ``seconds`` (at most). ``compiled`` goals are for ``lazytorch.compile``, the others
    for code that looks eager.
    """

    against: str
    value: float
    compiled: bool = False

    def __str__(self) -> str:
        if self.against == "seconds":
            return f"≤ {self.value * 1e3:g} ms"
        sign = "≤" if self.against == "memory" else "≥"
        return f"{sign} {self.value:g} {self.against}"


@dataclass(frozen=True)
class Workload:
    """A named measurement.

    ``program`` and ``options`` select the code; ``flops`` and ``nbytes`` are what the task needs
    at least (every input read once, every output written once), whatever a library does.
    ``kind`` is ``forward`` (no gradients are recorded), ``gradient`` (they are), or ``step`` (a
    training step that answers its loss). ``only`` limits a workload to ``eager`` or ``compiled``
    contestants; ``replayed`` measures ``lazytorch.compile`` beside eager-looking code.
    Outputs must agree with the reference within ``tolerance`` of the largest value.
    """

    name: str
    group: str
    program: str
    inputs: tuple[Input, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    flops: float = 0.0
    nbytes: float = 0.0
    goals: tuple[Goal, ...] = ()
    kind: str = "forward"
    only: str = ""
    replayed: bool = False
    needs: tuple[str, ...] = ()
    tolerance: float = 2e-4

    def arrays(self) -> list[np.ndarray]:
        """The inputs: the same in every process.

        >>> Workload("w", "g", "p", (Input((2,)), Input((3,), below=5))).arrays()[1].dtype
        dtype('int64')
        """
        rng = np.random.default_rng(0)
        return [
            rng.integers(0, item.below, item.shape)
            if item.below
            else rng.standard_normal(item.shape, dtype=np.float32)
            for item in self.inputs
        ]


class UnknownWorkload(ValueError):
    """A name that is neither a workload nor a group; the message has near matches."""


def select(
    names: Sequence[str], workloads: Iterable[Workload], groups: Mapping[str, Sequence[str]]
) -> list[Workload]:
    """The workloads that the names of workloads, groups, and groups of groups stand for, in the
    catalogue's order; all of them for no names.

    >>> rows = [Workload("matmul-256", "matmul", "matmul", ())]
    >>> [w.name for w in select(["kernels"], rows, {"kernels": ["matmul"]})]
    ['matmul-256']
    >>> select(["matmul-265"], rows, {})
    Traceback (most recent call last):
    ...
    lazytorch.bench.workload.UnknownWorkload: no workload or group is called 'matmul-265'; \
near matches: matmul-256, matmul. See --list.
    """
    every = list(workloads)
    if not names:
        return every
    known = {workload.name for workload in every} | {workload.group for workload in every}
    wanted: set[str] = set()
    for name in names:
        if name in groups:
            wanted.update(groups[name])
        elif name in known:
            wanted.add(name)
        else:
            near = difflib.get_close_matches(name, [*sorted(known), *groups], n=4, cutoff=0.5)
            near += [other for other in sorted(known) if name in other and other not in near][:4]
            hint = f"near matches: {', '.join(near)}. " if near else ""
            raise UnknownWorkload(f"no workload or group is called {name!r}; {hint}See --list.")
    return [w for w in every if w.name in wanted or w.group in wanted]
