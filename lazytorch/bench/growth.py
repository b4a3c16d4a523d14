"""How time grows with the work: series of workloads that differ in one size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lazytorch.bench.catalog import gpt_step, matmul_square
from lazytorch.bench.results import Outcome
from lazytorch.bench.workload import Input, Workload


@dataclass(frozen=True)
class Series:
    """Workloads of growing size; ``work`` says how much more there is to do at a size."""

    name: str
    axis: str
    sizes: tuple[int, ...]
    make: Callable[[int], Workload]
    work: Callable[[Workload, int], float]

    def workloads(self) -> list[Workload]:
        """One workload a size."""
        return [self.make(size) for size in self.sizes]


def _flops(workload: Workload, size: int) -> float:
    return workload.flops


def _member(workload: Workload) -> Workload:
    """A workload of a series: nothing is asked of it alone, and eager-looking code is enough to
    see how its time grows."""
    return replace(workload, group="growth", goals=(), only="eager")


def _chain(count: int) -> Workload:
    options = {"count": count}
    return Workload(f"adds-{count}", "growth", "adds", (Input((16,)),), options, only="eager")


SERIES = (
    Series(
        "gpt-width", "width of the GPT", (128, 256, 512, 1024),
        lambda size: _member(gpt_step(f"gpt-width-{size}", size, 8)), _flops,
    ),
    Series(
        "gpt-batch", "batch of the GPT", (1, 4, 16, 64),
        lambda size: _member(gpt_step(f"gpt-batch-{size}", 256, size)), _flops,
    ),
    Series(
        "matmul-size", "rows and columns of the product", (64, 128, 256, 512, 1024, 2048, 4096),
        lambda size: _member(matmul_square(size)), _flops,
    ),
    Series(
        "graph-nodes", "additions in the graph", (10, 100, 1000, 10000), _chain,
        lambda workload, size: float(size),
    ),
)  # fmt: skip


def exponent(work: Sequence[float], seconds: Sequence[float]) -> float | None:
    """The power of the work that the time grew with between the two largest sizes, where fixed
    costs matter least; ``None`` for fewer than two. One is linear.

    >>> exponent([1, 10, 100], [5.0, 8.0, 80.0])
    1.0
    """
    if len(work) < 2:
        return None
    return math.log(seconds[-1] / seconds[-2]) / math.log(work[-1] / work[-2])


def lines_of(series: Series, outcomes: Sequence[Outcome]) -> list[str]:
    """What a series says, one line a contestant."""
    lines = []
    work = {
        outcome.workload: series.work(workload, size)
        for outcome, workload, size in zip(outcomes, series.workloads(), series.sizes)
    }
    for label in dict.fromkeys(r.contestant for outcome in outcomes for r in outcome.results):
        found = [(o, t) for o in outcomes if (t := o.measured(label)) is not None]
        power = exponent([work[o.workload] for o, _ in found], [t for _, t in found])
        if power is None:
            continue
        shares = [
            f"{share:.0%}" for outcome, _ in found if (share := _share(outcome, label)) is not None
        ]
        said = f"; outside kernels: {', '.join(shares)}" if shares else ""
        lines.append(
            f"{series.name} on {label}: at the largest sizes time grows as work^{power:.2f}{said}"
        )
    return lines


def _share(outcome: Outcome, label: str) -> float | None:
    return next(r for r in outcome.results if r.contestant == label).outside_kernels
