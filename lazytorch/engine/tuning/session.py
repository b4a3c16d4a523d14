"""Tuning the kernels of one graph: computes it once on scratch memory, trying on the way.

Every body gets the inputs it really has: the graph's steps run one after the other with untuned
kernels, and before a step runs, each of its bodies that was never tuned is tried with every
candidate. What the user holds is only read; the values computed here are thrown away, and the
graph is computed as usual afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lazytorch import config, logs
from lazytorch.codegen.candidates import candidates, family_of
from lazytorch.codegen.choice import Schedule, to_data
from lazytorch.codegen.finish import finish
from lazytorch.codegen.render import program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.engine.tuning import report
from lazytorch.engine.tuning.table import Finding, Table, body_key, codegen_version, table_of
from lazytorch.engine.tuning.trial import FAILURES, Trial, Variant, scalar_argument
from lazytorch.ir.kernel import Body, Kernel
from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.device import Device
from lazytorch.schedule import estimate
from lazytorch.schedule.fuse import HostStep, Step
from lazytorch.schedule.graph import Graph, Numbering

# A run shorter than this is spent on starting it.
SHORTEST = 20e-6
# Candidates compiled at a time, and those that are measured once more against the rules' choice.
BATCH, FINALISTS, FINAL_ROUNDS = 6, 3, 5
# What a schedule has to gain to be kept.
GAIN = 1.03
# A first run this much slower than the best is not repeated.
HOPELESS = 3.0


def tune_graph(
    graph: Graph, steps: Sequence[Step], numbering: Numbering, device: Device, target: Target
) -> bool:
    """Tune what was never tuned; whether anything new was found."""
    table = table_of(device)
    last = -1
    for place, step in enumerate(steps):
        if isinstance(step, Kernel) and _untuned(step, table, target):
            last = place
    if last < 0:
        return False
    run = _Run(graph, steps, numbering, device, target)
    for place, step in enumerate(steps[: last + 1]):
        if isinstance(step, Kernel):
            for key, body in _untuned(step, table, target).items():
                run.tune(table, key, body, step)
        run.compute(step)
        run.release(place)
    return True


def _untuned(step: Kernel, table: Table, target: Target) -> dict[str, Body]:
    """The bodies of a kernel that may be tuned and have not been, by key."""
    found: dict[str, Body] = {}
    for body in step.bodies:
        if family_of(body) is not None and estimate.points(body) > 0:
            found.setdefault(body_key(body, step.values, target), body)
    return {key: body for key, body in found.items() if key not in table.findings}


class _Run:
    """The graph's values while it is computed step by step."""

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[Step],
        numbering: Numbering,
        device: Device,
        target: Target,
    ) -> None:
        self.graph, self.device, self.target = graph, device, target
        self.buffers: dict[int, Buffer] = {
            number: node.buffer for number, node in zip(graph.leaves, numbering.leaf_nodes)
        }
        self.scalars: dict[int, Any] = {
            number: node.buffer for number, node in zip(graph.scalars, numbering.scalar_nodes)
        }
        self.ends: dict[int, list[int]] = {}
        last: dict[int, int] = {}
        for place, step in enumerate(steps):
            reads = step.reads if isinstance(step, HostStep) else (*step.reads(), *step.writes())
            last.update(dict.fromkeys(reads, place))
        for number, place in last.items():
            self.ends.setdefault(place, []).append(number)

    # The graph ------------------------------------------------------------------------------

    def compute(self, step: Step) -> None:
        """Run one step as it is without tuning."""
        if isinstance(step, HostStep):
            self._call(step)
            return
        first = len(self.graph)
        temporaries: dict[int, int] = {}

        def new_value(dtype: DType, count: int) -> int:
            number = first + len(temporaries)
            temporaries[number] = max(count, 1) * dtype.itemsize
            return number

        kernels = finish(step, self.target, new_value)
        sources = [render(k, self.target, f"k{n}_untuned") for n, k in enumerate(kernels)]
        if not sources:
            return
        for number in step.writes():
            self.buffers[number] = self.device.allocate(self.graph.nbytes(number))
        arrays = dict(self.buffers)
        arrays.update((n, self.device.allocate(size)) for n, size in temporaries.items())
        launchers = self.device.build(program(sources), [source.name for source in sources])
        for source in sources:
            arguments: list[Any] = [arrays[number] for number in source.arrays]
            arguments += [scalar_argument(self.scalars[n], step.values[n]) for n in source.scalars]
            launchers[source.name](arguments, (source.global_size,), (source.local,))
        self.device.synchronize()

    def _call(self, step: HostStep) -> None:
        graph, number = self.graph, step.number
        arrays = [
            np.asarray(self.scalars[read], graph.dtypes[read].numpy)
            if read in self.scalars
            else self.buffers[read].as_numpy(graph.dtypes[read].numpy, graph.shapes[read])
            for read in step.reads
        ]
        with np.errstate(all="ignore"):
            value = np.asarray(graph.ops[number].numpy(graph.attrs[number], *arrays))
        value = value.astype(graph.dtypes[number].numpy, copy=False)
        self.buffers[number] = self.device.upload(np.ascontiguousarray(value))

    def release(self, place: int) -> None:
        """Let go of what no later step reads."""
        for number in self.ends.get(place, ()):
            self.buffers.pop(number, None)

    # Tuning ---------------------------------------------------------------------------------

    def tune(self, table: Table, key: str, body: Body, step: Kernel) -> None:
        """Try the candidates of one body and keep what was found."""
        wanted = candidates(body, self.target)
        sizes = {n: self.graph.nbytes(n) for n in range(len(self.graph))}
        kernel = Kernel((body,), step.values)
        inputs = {number: self.buffers[number] for number in kernel.reads()}
        trial = Trial(
            self.device, self.target, body, step.values, inputs, sizes, self.scalars
        )  # fmt: skip
        name = label(body, step)
        rule = trial.build([None])[0]
        if isinstance(rule, str):
            # The untuned kernel has to work; the step itself will say what is wrong.
            logs.write("tune", lambda: f"{name}: {rule}")
            return
        trial.take_as_right(rule)
        rule.seconds = trial.measure(rule)
        facts = self.device.capabilities
        found = Finding(
            label=name, device=f"{facts.name}, {facts.driver}", schedule=None,
            default_ms=rule.seconds * 1e3, tuned_ms=rule.seconds * 1e3, tried=0, discarded=0,
            version=codegen_version(),
        )  # fmt: skip
        if wanted and rule.seconds >= SHORTEST:
            found = _Contest(table, key, name, trial, rule, found).run(wanted)
        table.add(key, found)
        if found.tried:
            report.note(found)


class _Contest:
    """The candidates of one body against the rules' choice."""

    def __init__(
        self, table: Table, key: str, name: str, trial: Trial, rule: Variant, found: Finding
    ) -> None:
        self.table, self.key, self.trial, self.rule, self.found = table, key, trial, rule, found
        self.name = name
        self.tried = self.discarded = 0
        self.good: list[Variant] = []

    @property
    def best(self) -> float:
        """Seconds of the fastest so far."""
        return min((self.rule.seconds, *(variant.seconds for variant in self.good)))

    def run(self, wanted: Sequence[Schedule]) -> Finding:
        """Try the candidates, as many as the time allows; what was found."""
        suspects = self.table.suspect(self.key) or []
        limit = report.Clock(config.get("TUNE_LIMIT"))
        with report.Bar(self.name, len(wanted), self.rule.seconds) as bar:
            for start in range(0, len(wanted), BATCH):
                if limit.is_over():
                    break
                batch = [s for s in wanted[start : start + BATCH] if to_data(s) not in suspects]
                self._try(batch, suspects)
                self.discarded += len(wanted[start : start + BATCH]) - len(batch)
                bar.advance(min(start + BATCH, len(wanted)), self.best)
            winner = self._final()
        self.table.trying(self.key, None)
        return replace(
            self.found, schedule=winner.schedule, default_ms=self.rule.seconds * 1e3,
            tuned_ms=winner.seconds * 1e3, tried=self.tried, discarded=self.discarded,
        )  # fmt: skip

    def _try(self, batch: Sequence[Schedule], suspects: list[Any]) -> None:
        self.table.trying(self.key, [*suspects, *map(to_data, batch)])
        for schedule, variant in zip(batch, self.trial.build(batch)):
            self.tried += 1
            if isinstance(variant, str):
                self._discard(schedule, variant)
                continue
            self.table.trying(self.key, [*suspects, to_data(schedule)])
            try:
                fault = self.trial.fault(variant)
                if fault:
                    self._discard(schedule, fault)
                    continue
                variant.seconds = self.trial.measure(variant, HOPELESS * self.best)
            except FAILURES as error:
                self._discard(schedule, f"{type(error).__name__}: {error}")
                continue
            self.good.append(variant)
            self.good = sorted(self.good, key=lambda v: v.seconds)[:FINALISTS]

    def _discard(self, schedule: Schedule, reason: str) -> None:
        self.discarded += 1
        logs.write("tune", lambda: f"{self.name}: discarded {schedule}: {reason}")

    def _final(self) -> Variant:
        """The winner among the fastest and the rules' choice, measured in turn."""
        best = {id(variant): float("inf") for variant in (self.rule, *self.good)}
        for _ in range(FINAL_ROUNDS):
            for variant in (self.rule, *self.good):
                best[id(variant)] = min(best[id(variant)], self.trial.measure(variant))
        for variant in (self.rule, *self.good):
            variant.seconds = best[id(variant)]
        for variant in sorted(self.good, key=lambda v: v.seconds):
            if variant.seconds * GAIN > self.rule.seconds:
                break
            # Once more, now that its buffers hold other values.
            fault = self.trial.fault(variant)
            if not fault:
                return variant
            assert variant.schedule is not None
            self._discard(variant.schedule, fault)
        return self.rule


def label(body: Body, step: Kernel) -> str:
    """What a body is, for people: its kind, its sizes and the type of what it stores."""
    stores, family = body.stores(), family_of(body)
    kind = step.values[stores[0].target].name if stores else ""
    return f"{type(body).__name__ if family is None else family.name(body)} {kind}"
