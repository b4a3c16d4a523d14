"""The pipeline: from a numbered graph to a plan that can run. It knows every stage.

    numbering -> build_graph -> simplify -> choose_stored -> Fuser -> finish -> render -> build

Above this page nobody knows kernels; below it nobody knows when something is computed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lazytorch import config, dtypes, logs
from lazytorch.codegen.finish import finish
from lazytorch.codegen.render import Source, program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.engine import tuning
from lazytorch.engine.binding import replay_of
from lazytorch.engine.bounds import BoundsReport, Lowered, check_bounds, touched
from lazytorch.engine.sites import format_site
from lazytorch.errors import BuildError, UnsupportedDtypeError
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import Kernel
from lazytorch.runtime.device import Device
from lazytorch.runtime.packed import kept_steps
from lazytorch.runtime.replay import Replay
from lazytorch.schedule import estimate, verify
from lazytorch.schedule.fuse import Fuser, HostStep, Step
from lazytorch.schedule.graph import Graph, Numbering, build_graph
from lazytorch.schedule.memory import Access, plan_memory, replaceable_inputs
from lazytorch.schedule.plan import CallStep, LaunchStep, Plan
from lazytorch.schedule.regions import choose_stored
from lazytorch.schedule.simplify import simplify

# A graph of so many values gives a program of more than one part (``binding.PART_CHARACTERS``):
# the processes that help to compile it can start while it is scheduled. A multilayer perceptron's
# training step has 150.
LONG_GRAPH = 100


@dataclass(frozen=True)
class Scheduled:
    """Everything scheduling found out, for execution and for looking inside.

    ``kept`` are positions of the plan's steps that would be left out now, because what they pack
    has not changed.
    """

    graph: Graph
    stored: dict[int, str]
    steps: list[Step]
    plan: Plan
    kept: frozenset[int] = frozenset()


def schedule(numbering: Numbering, device: Device) -> Scheduled:
    """A plan for a numbered graph; nothing is built or launched."""
    ex.reset()
    graph = simplify(build_graph(numbering))
    _check_dtypes(graph, device)
    stored = choose_stored(graph, config.get("FUSION"))
    fuser = Fuser(graph, stored, device.capabilities.max_argument_bytes)
    steps = fuser.run(merge=config.get("FUSION"))
    checked = config.get("VERIFY")
    if checked:
        verify.verify_graph(graph)
        verify.verify_steps(steps, graph)
    if logs.enabled("fuse"):
        logs.write("fuse", lambda: "\n".join(map(_describe, steps)))
    sizes = {number: graph.nbytes(number) for number in range(len(graph))}
    kinds = dict(enumerate(graph.dtypes))

    def new_value(dtype: DType, count: int) -> int:
        number = len(sizes)
        sizes[number] = max(count, 1) * dtype.itemsize
        kinds[number] = dtype
        return number

    report: BoundsReport | None = None
    if config.get("BOUNDS") and device.kind != "numpy":
        report = BoundsReport(new_value(dtypes.int32, 2), sizes, kinds)
    launches = _lower(steps, device, graph, new_value, report)
    outputs = graph.outputs if report is None else [*graph.outputs, report.number]
    numbers = frozenset(graph.scalars)
    accesses = [_access(step, graph, numbers) for step in launches]
    layout = plan_memory(accesses, sizes, graph.leaves, outputs, numbering.key[2])
    if checked:
        verify.verify_layout(accesses, sizes, graph, layout)
    distinct = {step.source.name: step.source for step in launches if step.source is not None}
    rendered = list(distinct.values())
    plan_steps = tuple(step.step for step in launches)
    plan = Plan(
        steps=plan_steps,
        layout=layout,
        leaves=tuple(graph.leaves),
        scalars=tuple(graph.scalars),
        outputs=tuple(outputs),
        shapes={number: shape for number, shape in enumerate(graph.shapes)},
        dtypes=kinds,
        source=program(rendered) if rendered else "",
        sources={source.name: source.text for source in rendered},
        flops=sum(s.flops for s in plan_steps if isinstance(s, LaunchStep)),
        nbytes=sum(s.nbytes for s in plan_steps if isinstance(s, LaunchStep)),
        bounds=None if report is None else report.codes,
    )
    kept: frozenset[int] = frozenset()
    if device.kind != "numpy":
        kept = kept_steps(plan, [node.buffer for node in numbering.leaf_nodes])
    return Scheduled(graph, stored, steps, plan, kept)


def _check_dtypes(graph: Graph, device: Device) -> None:
    """Refuse what the driver lacks, or has and computes wrongly."""
    facts = device.capabilities
    lacking = {
        dtype: feature
        for dtype, feature, has in (
            (dtypes.float64, "fp64", facts.fp64),
            (dtypes.int64, "int64", facts.int64),
        )
        if not has
    }
    for number, dtype in enumerate(graph.dtypes):
        if dtype in lacking:
            feature = lacking[dtype]
            why = "computes it wrongly" if feature in facts.masked else "lacks it"
            raise UnsupportedDtypeError(
                f"{graph.ops[number].name} of shape {list(graph.shapes[number])} at "
                f"{format_site(graph.nodes[number].site)} is {dtype}, but the driver of "
                f"{facts.name} {why} ({feature}). Cast to a smaller type, or use another device "
                "(python -m lazytorch devices)"
            )


def _access(lowered: Lowered, graph: Graph, scalars: frozenset[int]) -> Access:
    step = lowered.step
    if isinstance(step, CallStep):
        # Numbers are no memory; the host gets them as kernels do. Nothing computes what has no
        # elements.
        in_memory = tuple(
            number for number in step.reads if number not in scalars and graph.size(number)
        )
        return Access(in_memory, (step.number,), {}, may_fail=True)
    assert lowered.kernel is not None and step.kernel is not None
    return Access(
        tuple(set(lowered.kernel.reads())), lowered.kernel.writes(),
        replaceable_inputs(step.kernel),
    )  # fmt: skip


def _lower(
    steps: Sequence[Step],
    device: Device,
    graph: Graph,
    new_value: Callable[[DType, int], int],
    report: BoundsReport | None,
) -> list[Lowered]:
    result: list[Lowered] = []
    known: dict[str, Source] = {}
    target = target_of(device)
    choose = tuning.chooser(device, target)
    if report is not None:
        result.append(report.clearing(target))
    for step in steps:
        if isinstance(step, HostStep):
            call = CallStep(
                step.number, graph.ops[step.number], graph.attrs[step.number], step.reads,
                step.notes,
            )  # fmt: skip
            result.append(Lowered(call, None, None))
            continue
        flops, nbytes = estimate.work_of(step, graph)
        if device.kind == "numpy":
            if graph_has_points(step):
                launch = LaunchStep(
                    f"k{len(result)}_{estimate.label(step, graph)}", step, touched(step),
                    step.scalars(), 1, 1, step.covers, step.notes, flops, nbytes,
                )  # fmt: skip
                result.append(Lowered(launch, step, None))
            continue
        kernels = finish(step, target, new_value, choose)
        for position, kernel in enumerate(kernels):
            name = f"k{len(result)}_{estimate.label(step, graph)}"
            checks = None if report is None else report.for_kernel(kernel, name)
            source = render(kernel, target, name, checks)
            # Layers of a network repeat themselves: the driver compiles equal kernels once.
            same = known.setdefault(source.text.replace(name, ""), source)
            source = replace(source, name=same.name, text=same.text)
            last = position == len(kernels) - 1
            launch = LaunchStep(
                source.name, step if last else kernel, source.arrays, source.scalars, source.groups,
                source.local, step.covers if last else (), step.notes if last else kernel.notes,
                flops if last else 0, nbytes if last else 0, _packed(kernel, source),
            )  # fmt: skip
            result.append(Lowered(launch, kernel, source))
    return result


def _packed(kernel: Kernel, source: Source) -> tuple[int, int] | None:
    """(array, packed array) of a kernel whose result depends on one array alone."""
    reads, writes = kernel.reads(), kernel.writes()
    if not kernel.packs or len(reads) != 1 or len(writes) != 1 or source.scalars:
        return None
    # Where indices are checked it writes a report as well.
    return (reads[0], writes[0]) if len(source.arrays) == 2 else None


def graph_has_points(kernel: Kernel) -> bool:
    """Whether any body of a kernel has work to do."""
    return any(estimate.points(body) for body in kernel.bodies)


def target_of(device: Device) -> Target:
    """What code generation needs to know about a device."""
    facts = device.capabilities
    width = max(4, min(16, facts.native_vector_width_float))
    return Target(
        family=config.get("SCHEDULE_FAMILY") or facts.family,
        vector_width=width,
        compute_units=max(1, facts.compute_units),
        l1_bytes=facts.l1_bytes or Target.l1_bytes,
        l2_bytes=facts.l2_bytes or Target.l2_bytes,
        max_work_group_size=facts.max_work_group_size,
        local_memory=facts.local_memory,
        # Programs for processors are written in OpenCL C 1.2, which has none.
        subgroups=facts.subgroups and facts.family == "gpu",
        subgroup_size=facts.subgroup_size if facts.family == "gpu" else 0,
    )


def prepare(numbering: Numbering, device: Device) -> Replay:
    """Schedule, compile and bind a numbered graph."""
    if len(numbering.order) >= LONG_GRAPH:
        device.expect_long_build()
    scheduled = schedule(numbering, device)
    if tuning.is_tuning() and device.kind == "opencl":
        session = importlib.import_module("lazytorch.engine.tuning.session")
        target = target_of(device)
        if session.tune_graph(scheduled.graph, scheduled.steps, numbering, device, target):
            scheduled = schedule(numbering, device)
    try:
        return replay_of(scheduled.plan, device)
    except BuildError as error:
        raise _located(error, scheduled) from error


def _located(error: BuildError, scheduled: Scheduled) -> BuildError:
    """Name the operations and the user's lines of a kernel that did not compile."""
    graph = scheduled.graph
    covered = [n for s in scheduled.plan.steps if isinstance(s, LaunchStep) for n in s.covers]
    lines = [
        f"  {graph.ops[n].name} of shape {list(graph.shapes[n])} "
        f"at {format_site(graph.nodes[n].site)}"
        for n in covered[:12]
    ]
    return BuildError("\n".join([str(error), "it computes:", *lines]), error.log, error.source_path)


def _describe(step: Step) -> str:
    if isinstance(step, HostStep):
        return f"host: value {step.number}"
    return f"kernel of values {list(step.covers)}: {'; '.join(step.notes)}"


__all__ = ["Scheduled", "check_bounds", "prepare", "schedule", "target_of"]
