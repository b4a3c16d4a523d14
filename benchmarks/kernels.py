"""Single kernels beside PyTorch, the peak of the processor, and the bandwidth of a plain copy.

    python benchmarks/kernels.py [--only matmul] [--rounds 7] [--device cpu]

Contractions are compared with PyTorch and with fused multiply-adds in registers; elementwise
kernels with a plain copy of as many bytes; softmax, layer norm and sums with PyTorch. A ratio above
one means lazytorch is faster (or, for peak and copy, the share that was reached).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import lazytorch as torch
from benchmarks._measure import (
    Row,
    Table,
    Times,
    alternate,
    chosen,
    copy_bandwidth,
    fma_peak,
    parser,
    peer,
    same,
)

FLOATS = 1 << 24
Function = Callable[[Any], Callable[[], Any]]


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


class Contest:
    """Runs one function of both libraries on the same arrays."""

    def __init__(self, device: str, rounds: int) -> None:
        self.device = device
        self.rounds = rounds

    def run(
        self,
        body: Callable[..., Any],
        inputs: list[np.ndarray],
        extra: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Times], str]:
        """Times of 'lazytorch', 'PyTorch' (when installed) and ``extra``; a complaint or ''."""
        mine = [torch.tensor(a).to(self.device).realize() for a in inputs]

        def own() -> Any:
            result = body(torch, *mine).realize()
            torch.synchronize()
            return result

        runs: dict[str, Callable[[], Any]] = {"lazytorch": own}
        wrong = ""
        if peer is not None:
            theirs = [peer.from_numpy(a.copy()) for a in inputs]

            def other() -> Any:
                with peer.inference_mode():
                    return body(peer, *theirs)

            wrong = same(own().cpu().numpy(), other().numpy())
            runs["PyTorch"] = other
        runs.update(extra or {})
        return alternate(runs, self.rounds), wrong


def contractions() -> dict[str, tuple[Callable[..., Any], list[np.ndarray], float, float, float]]:
    """Name: (function, inputs, floating-point operations, ratio to PyTorch wanted, of peak)."""

    def matmul(library: Any, a: Any, b: Any) -> Any:
        return a @ b

    cases: dict[str, Any] = {}
    for n in (512, 1024, 2048):
        goal, peak = (1.4, 0.7) if n >= 1024 else (0.0, 0.0)
        cases[f"matmul {n}"] = (matmul, arrays((n, n), (n, n)), 2 * n**3, goal, peak)
    n = 1024
    for name, body in {
        "matmul 1024 a.T @ b": lambda library, a, b: a.T @ b,
        "matmul 1024 a @ b.T": lambda library, a, b: a @ b.T,
        "matmul 1024 a.T @ b.T": lambda library, a, b: a.T @ b.T,
    }.items():
        cases[name] = (body, arrays((n, n), (n, n)), 2 * n**3, 1.2, 0.0)
    batch = arrays((64, 256, 256), (64, 256, 256))
    cases["matmul 64 x 256"] = (matmul, batch, 2 * 64 * 256**3, 1.2, 0.0)
    cases["matmul 64 x 256 a @ b.mT"] = (
        lambda library, a, b: a @ b.transpose(1, 2), batch, 2 * 64 * 256**3, 1.2, 0.0,
    )  # fmt: skip
    cases["linear + relu 512 x 1024 x 1024"] = (
        lambda library, x, w, b: (x @ w + b).relu(),
        arrays((512, 1024), (1024, 1024), (1024,)), 2 * 512 * 1024**2, 0.0, 0.0,
    )  # fmt: skip
    cases["conv 32x64x56x56, 3x3"] = (
        lambda library, x, w: library.nn.functional.conv2d(x, w, padding=1),
        arrays((32, 64, 56, 56), (64, 64, 3, 3)), 2 * 32 * 64 * 64 * 9 * 56 * 56, 1.3, 0.0,
    )  # fmt: skip
    return cases


def measure_contractions(contest: Contest, only: str, table: Table) -> None:
    cases = contractions()
    names = chosen(list(cases), only)
    if not names:
        return
    peak = fma_peak(contest.device)
    for name in names:
        body, inputs, flops, goal, share_goal = cases[name]
        peaks: list[float] = []
        extra = {"peak": lambda peaks=peaks: peaks.append(peak())}
        times, wrong = contest.run(body, inputs, extra)
        best = times["lazytorch"].best
        rate = flops / best / 1e9
        share = rate / max(peaks)
        if "PyTorch" in times:
            ratio = times["PyTorch"].best / best
            detail = f"{times['PyTorch'].best * 1e3:.2f} ms"
            table.add(Row(name, best, "PyTorch", ratio, goal, detail, wrong))
        detail = f"{rate:.0f} of {max(peaks):.0f} GFLOP/s"
        table.add(Row(f"  {name}, of peak", best, "", share, share_goal, detail))


def elementwise() -> dict[str, tuple[Callable[..., Any], int, float]]:
    """Name: (function, arrays read, share of the copy's bandwidth wanted)."""

    def gelu(library: Any, a: Any) -> Any:
        return library.nn.functional.gelu(a, approximate="tanh")

    return {
        "a*b + 0.5*a, 16 M": (lambda library, a, b: a * b + 0.5 * a, 2, 0.75),
        "exp, 16 M": (lambda library, a: a.exp(), 1, 0.75),
        "gelu (tanh), 16 M": (gelu, 1, 0.4),
        "cast to float64 and back, 16 M": (lambda library, a: a.double().float(), 1, 0.0),
    }


def measure_elementwise(contest: Contest, only: str, table: Table) -> None:
    cases = elementwise()
    for name in chosen(list(cases), only):
        body, reads, goal = cases[name]
        inputs = arrays(*[(FLOATS,)] * reads)
        copy = copy_bandwidth(contest.device, FLOATS)
        times, wrong = contest.run(body, inputs, {"copy": copy})
        best = times["lazytorch"].best
        bandwidth = 4 * FLOATS * (reads + 1) / best / 1e9
        copied = 8 * FLOATS / times["copy"].best / 1e9
        detail = f"{bandwidth:.0f} of {copied:.0f} GB/s"
        table.add(Row(name, best, "copy", bandwidth / copied, goal, detail, wrong))
        if "PyTorch" in times:
            other = times["PyTorch"].best
            table.add(Row(f"  {name}", best, "PyTorch", other / best, 0, f"{other * 1e3:.2f} ms"))


def rows() -> dict[str, tuple[Callable[..., Any], list[np.ndarray], float]]:
    """Name: (function, inputs, ratio to PyTorch wanted)."""
    x = arrays((4096, 1024))
    norm = arrays((4096, 1024), (1024,), (1024,))
    large = arrays((16384, 1024))
    return {
        "softmax 4096x1024": (lambda library, x: library.softmax(x, -1), x, 1.0),
        "log_softmax 4096x1024": (lambda library, x: library.log_softmax(x, -1), x, 0.0),
        "softmax over rows 4096x1024": (lambda library, x: library.softmax(x, 0), x, 0.0),
        "layer_norm 4096x1024": (
            lambda library, x, w, b: library.nn.functional.layer_norm(x, (1024,), w, b), norm, 1.0,
        ),
        "sum of all 16384x1024": (lambda library, x: x.sum(), large, 0.0),
        "sum over rows 16384x1024": (lambda library, x: x.sum(0), large, 0.0),
        "sum over columns 16384x1024": (lambda library, x: x.sum(1), large, 0.0),
        "max over columns 16384x1024": (lambda library, x: x.amax(1), large, 0.0),
        "cumsum 4096x1024": (lambda library, x: x.cumsum(1), x, 0.0),
        "transpose 4096x1024": (lambda library, x: x.t().contiguous(), x, 0.0),
    }  # fmt: skip


def measure_rows(contest: Contest, only: str, table: Table) -> None:
    cases = rows()
    for name in chosen(list(cases), only):
        body, inputs, goal = cases[name]
        times, wrong = contest.run(body, inputs)
        best = times["lazytorch"].best
        if "PyTorch" in times:
            other = times["PyTorch"].best
            detail = f"{other * 1e3:.2f} ms"
            table.add(Row(name, best, "PyTorch", other / best, goal, detail, wrong))
        else:
            table.add(Row(name, best))


def main() -> int:
    """Measure and print."""
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    contest = Contest(arguments.device, arguments.rounds)
    table = Table("kernels", arguments.json)
    measure_contractions(contest, arguments.only, table)
    measure_elementwise(contest, arguments.only, table)
    measure_rows(contest, arguments.only, table)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
