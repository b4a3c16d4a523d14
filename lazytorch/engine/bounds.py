"""LAZYTORCH_BOUNDS: kernels that report an index outside its array, and the reading of reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.codegen.render import Bounds, Source, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Kernel, RowBody, Store
from lazytorch.schedule.plan import CallStep, LaunchStep, Plan


@dataclass(frozen=True)
class Lowered:
    """A plan step with its rendered source, before memory is planned."""

    step: LaunchStep | CallStep
    kernel: Kernel | None
    source: Source | None


def touched(kernel: Kernel) -> tuple[int, ...]:
    """Numbers of the arrays a kernel writes and reads, once each."""
    return tuple(dict.fromkeys((*kernel.writes(), *kernel.reads())))


class BoundsReport:
    """The array in which kernels report an index outside its array (LAZYTORCH_BOUNDS)."""

    def __init__(self, number: int, sizes: dict[int, int], kinds: dict[int, DType]) -> None:
        self.number = number
        self.codes: dict[int, tuple[str, int]] = {}
        self._sizes = sizes
        self._kinds = kinds

    def clearing(self, target: Target) -> Lowered:
        """The step that runs first and sets the report to "nothing"."""
        axis = Axis(2)
        index = of_atom(axis)
        store = Store(self.number, index, ex.constant(0, dtypes.int32))
        kernel = Kernel((RowBody((axis,), (store,)),), {self.number: dtypes.int32})
        source = render(kernel, target, "k_clear_bounds")
        step = LaunchStep(
            source.name, kernel, source.arrays, (), source.groups, source.local,
            notes=("LAZYTORCH_BOUNDS=1",),
        )  # fmt: skip
        return Lowered(step, kernel, source)

    def for_kernel(self, kernel: Kernel, name: str) -> Bounds:
        """The checks of one kernel, with codes of its own."""
        first = len(self.codes) + 1
        numbers = touched(kernel)
        for position, number in enumerate(numbers):
            self.codes[first + position] = (name, number)
        counts = {n: self._sizes[n] // self._kinds[n].itemsize for n in numbers}
        return Bounds(self.number, counts, first)


def check_bounds(plan: Plan, report: Any) -> None:
    """Raise for an index that a kernel found outside its array."""
    assert plan.bounds is not None
    code, index = report.as_numpy(np.int32, (2,))
    if code < 0:
        name = plan.bounds[-int(code)][0]
        raise IndexError(
            f"kernel {name} wrote outside of its array number {index} in local memory, which is a "
            "mistake of lazytorch's: please report it with the source, which is in "
            "lazytorch.explain(...)"
        )
    if code:
        name, number = plan.bounds[int(code)]
        raise IndexError(
            f"kernel {name} used index {index} of value {number}, which has shape "
            f"{list(plan.shapes.get(number, ()))}; its source is in lazytorch.explain(...)"
        )
