"""The pipeline: from pending nodes to buffers. The one page that knows every stage.

    nodes -> number_graph -> [plan known] ------------------------------------> replay
                  |                                                                ^
                  +-> simplify -> choose_stored -> Fuser -> finish -> render -> build

Above this page nobody knows kernels; below it nobody knows when something is computed.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lazytorch import config, dtypes, log
from lazytorch.codegen.finish import finish
from lazytorch.codegen.render import Bounds, Source, program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.errors import BuildError, OutOfMemoryError
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Kernel, RowBody, Store
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.runtime import counters, get_device, resolve
from lazytorch.runtime.device import Device
from lazytorch.runtime.replay import NumpyReplay, OpenCLReplay, Replay
from lazytorch.schedule import estimate, verify
from lazytorch.schedule.fuse import Fuser, HostStep, Step
from lazytorch.schedule.graph import Graph, Numbering, build_graph, number_graph
from lazytorch.schedule.memory import Access, plan_memory, replaceable_inputs
from lazytorch.schedule.plan import CallStep, LaunchStep, Plan
from lazytorch.schedule.regions import choose_stored
from lazytorch.schedule.simplify import simplify

_lock = threading.RLock()
_plans: OrderedDict[Any, Replay] = OrderedDict()
_state: dict[int, weakref.ref[Any]] = {}


@dataclass(frozen=True)
class Scheduled:
    """Everything scheduling found out, for execution and for looking inside."""

    graph: Graph
    stored: dict[int, str]
    steps: list[Step]
    plan: Plan


# Devices and leaves ---------------------------------------------------------------------------


def resolve_device(name: str) -> str:
    """The runtime name ('numpy', 'opencl:0') of a device a user names ('cpu', 'cuda:0')."""
    return resolve(name)


def leaf_from_array(array: np.ndarray, device: str, share: bool = False) -> Node:
    """A node holding ``array`` (C-contiguous when shared). ``share`` keeps the memory common
    with NumPy where the device computes in host memory."""
    place = get_device(device)
    buffer = place.wrap_host(array) if share else place.upload(array)
    pending.add_bytes(array.nbytes)
    dtype = dtypes.from_numpy(array.dtype)
    return Node(leaves.BUFFER, (), (), array.shape, dtype, device, None, buffer)


def to_array(node: Node) -> np.ndarray:
    """The value on the host: realizes, waits, and returns memory shared with the device where
    the device computes in host memory, a copy elsewhere."""
    if node.op is leaves.SCALAR:
        return np.asarray(node.buffer, node.dtype.numpy)
    if node.buffer is None:
        realize([node])
    array: np.ndarray = node.buffer.as_numpy(node.dtype.numpy, node.shape)
    return array


def write_array(node: Node, target: Node) -> None:
    """Compute ``node`` and store it into the buffer that ``target`` holds (same shape, dtype)."""
    target.buffer.copy_from(np.ascontiguousarray(to_array(node)))


# Budgets and state ----------------------------------------------------------------------------


class Pending:
    """What has been recorded since the last computation, against its budgets.

    ``nodes_left`` and ``depth`` are what :func:`recorded` compares with at every operation.
    """

    __slots__ = ("bytes", "depth", "nodes", "nodes_left")

    def __init__(self) -> None:
        self.nodes = 0
        self.bytes = 0
        self.nodes_left = 0
        self.depth = 0

    def reset(self) -> None:
        """Start counting again."""
        counters.nodes_recorded += self.nodes
        self.nodes = self.bytes = 0
        self.nodes_left = config.get("FLUSH_NODES")
        self.depth = config.get("FLUSH_DEPTH")

    def add_bytes(self, count: int) -> None:
        """Count memory that pending work keeps from being released."""
        self.bytes += count
        if self.bytes >= config.get("FLUSH_BYTES"):
            self.nodes_left = 0


pending = Pending()
pending.reset()


def note_state(storage: Any) -> None:
    """Remember (weakly) an object with a ``node`` attribute that was written in place, or whose
    value will be wanted: flush() computes what is pending in all of them together."""
    key = id(storage)
    held = _state.get(key)
    if held is None or held() is not storage:
        # A dead object may have had this id. What is noted comes last, so that the order of
        # outputs, which is part of a plan's key, never depends on addresses.
        _state.pop(key, None)
        _state[key] = weakref.ref(storage)


def flush() -> None:
    """Compute the pending values of all noted state in one graph, without waiting for it."""
    pending.reset()
    if not _state:
        return
    owners = [owner for held in list(_state.values()) if (owner := held()) is not None]
    _state.clear()
    by_device: dict[str, list[Node]] = {}
    for owner in owners:
        node = owner.node
        if node is not None and node.buffer is None:
            by_device.setdefault(node.device, []).append(node)
    for nodes in by_device.values():
        realize(nodes)


def recorded(node: Node) -> None:
    """Called for every node recorded: keeps pending work within the budgets."""
    depth = 0
    for source in node.src:
        if source.depth > depth:
            depth = source.depth
    node.depth = depth + 1
    pending.nodes += 1
    if depth >= pending.depth or pending.nodes > pending.nodes_left:
        _within_budget(node)


def _within_budget(node: Node) -> None:
    """A budget is full: compute what is pending, all state together, then this node."""
    flush()
    realize([node])


def synchronize() -> None:
    """Wait until every device has finished."""
    for name in list(_used_devices):
        get_device(name).synchronize()


_used_devices: set[str] = set()
_kernel_texts: set[int] = set()


# Realize --------------------------------------------------------------------------------------


def realize(nodes: Sequence[Node]) -> None:
    """Compute every node; afterwards each holds its buffer (which the device may still fill)."""
    with _lock:
        wanted = [node for node in nodes if node.buffer is None]
        if not wanted:
            return
        numbering = number_graph(wanted)
        while numbering.copies:
            for node in numbering.copies:
                _copy_between_devices(node)
            wanted = [node for node in wanted if node.buffer is None]
            if not wanted:
                return
            numbering = number_graph(wanted)
        _execute(numbering, wanted[0].device)


def _copy_between_devices(node: Node) -> None:
    (source,) = node.src
    array = to_array(source)
    node.fulfil(get_device(node.device).upload(array, origin=node.site))


def _execute(numbering: Numbering, device_name: str) -> None:
    device = get_device(device_name)
    _used_devices.add(device_name)
    key = (device_name, _flags(), numbering.key)
    replay = _plans.get(key)
    if replay is None:
        counters.plans_missed += 1
        replay = _prepare(numbering, device)
        _plans[key] = replay
        while len(_plans) > config.get("PLAN_CACHE"):
            _plans.popitem(last=False)
    else:
        counters.plans_hit += 1
        _plans.move_to_end(key)
    leaf_buffers = [node.buffer for node in numbering.leaf_nodes]
    scalars = [node.buffer for node in numbering.scalar_nodes]
    origins = [group[0].site for group in numbering.outputs.values()]
    origins += [None] * (len(replay.plan.outputs) - len(origins))
    try:
        results = replay.run(leaf_buffers, scalars, origins)
    except OutOfMemoryError as error:
        raise _explained(error, numbering) from None
    if replay.plan.bounds is not None:
        _check_bounds(replay.plan, results[-1])
    for group, buffer in zip(numbering.outputs.values(), results):
        for node in group:
            node.fulfil(buffer)
    pending.reset()


def _flags() -> tuple[Any, ...]:
    return (config.get("FUSION"), config.get("BOUNDS"), config.get("SCHEDULE_FAMILY"))


def _explained(error: OutOfMemoryError, numbering: Numbering) -> OutOfMemoryError:
    """Say for which values memory was wanted."""
    largest = max((group[0] for group in numbering.outputs.values()), key=lambda n: n.nbytes)
    return OutOfMemoryError(
        f"{error}\nwhile computing {largest.op.name} of shape {list(largest.shape)} "
        f"({largest.nbytes} bytes), recorded at {format_site(largest.site)}"
    )


def format_site(site: Any) -> str:
    """'file:line' of a node's site."""
    if site is None:
        return "an unknown line"
    code, offset = site
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if number is not None and start <= offset < end:
            line = number
    return f"{code.co_filename}:{line}"


# Scheduling -----------------------------------------------------------------------------------


def schedule(numbering: Numbering, device: Device) -> Scheduled:
    """A plan for a numbered graph; nothing is built or launched."""
    ex.reset()
    graph = simplify(build_graph(numbering))
    stored = choose_stored(graph, config.get("FUSION"))
    fuser = Fuser(graph, stored)
    steps = fuser.run(merge=config.get("FUSION"))
    checked = config.get("VERIFY")
    if checked:
        verify.verify_graph(graph)
        verify.verify_steps(steps, graph)
    if log.enabled("fuse"):
        log.write("fuse", lambda: "\n".join(map(_describe, steps)))
    sizes = {number: graph.nbytes(number) for number in range(len(graph))}
    kinds = dict(enumerate(graph.dtypes))

    def new_value(dtype: DType, count: int) -> int:
        number = len(sizes)
        sizes[number] = max(count, 1) * dtype.itemsize
        kinds[number] = dtype
        return number

    report: _BoundsReport | None = None
    if config.get("BOUNDS") and device.kind != "numpy":
        report = _BoundsReport(new_value(dtypes.int32, 2), sizes, kinds)
    launches = _lower(steps, device, graph, new_value, report)
    outputs = graph.outputs if report is None else [*graph.outputs, report.number]
    accesses = [_access(step) for step in launches]
    layout = plan_memory(accesses, sizes, graph.leaves, outputs, numbering.key[2])
    if checked:
        verify.verify_layout(accesses, sizes, graph, layout)
    rendered = [step.source for step in launches if step.source is not None]
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
    return Scheduled(graph, stored, steps, plan)


@dataclass(frozen=True)
class _Lowered:
    """A plan step with its rendered source, before memory is planned."""

    step: LaunchStep | CallStep
    kernel: Kernel | None
    source: Source | None


def _access(lowered: _Lowered) -> Access:
    step = lowered.step
    if isinstance(step, CallStep):
        return Access(step.reads, (step.number,), {})
    assert lowered.kernel is not None
    return Access(
        tuple(set(lowered.kernel.reads())), lowered.kernel.writes(),
        replaceable_inputs(step.kernel),
    )  # fmt: skip


def _lower(
    steps: Sequence[Step],
    device: Device,
    graph: Graph,
    new_value: Callable[[DType, int], int],
    report: _BoundsReport | None,
) -> list[_Lowered]:
    result: list[_Lowered] = []
    target = target_of(device)
    if report is not None:
        result.append(report.clearing(target))
    for step in steps:
        if isinstance(step, HostStep):
            call = CallStep(
                step.number, graph.ops[step.number], graph.attrs[step.number], step.reads,
                step.notes,
            )  # fmt: skip
            result.append(_Lowered(call, None, None))
            continue
        flops, nbytes = estimate.work_of(step, graph)
        if device.kind == "numpy":
            if graph_has_points(step):
                launch = LaunchStep(
                    "", step, _touched(step), _scalars(step), 1, 1, step.covers, step.notes,
                    flops, nbytes,
                )  # fmt: skip
                result.append(_Lowered(launch, step, None))
            continue
        kernels = finish(step, target, new_value)
        for position, kernel in enumerate(kernels):
            name = f"k{len(result)}_{estimate.label(step, graph)}"
            checks = None if report is None else report.for_kernel(kernel, name)
            source = render(kernel, target, name, checks)
            last = position == len(kernels) - 1
            launch = LaunchStep(
                name, step if last else kernel, source.arrays, source.scalars, source.groups,
                source.local, step.covers if last else (), step.notes if last else kernel.notes,
                flops if last else 0, nbytes if last else 0,
            )  # fmt: skip
            result.append(_Lowered(launch, kernel, source))
    return result


class _BoundsReport:
    """The array in which kernels report an index outside its array (LAZYTORCH_BOUNDS)."""

    def __init__(self, number: int, sizes: dict[int, int], kinds: dict[int, DType]) -> None:
        self.number = number
        self.codes: dict[int, tuple[str, int]] = {}
        self._sizes = sizes
        self._kinds = kinds

    def clearing(self, target: Target) -> _Lowered:
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
        return _Lowered(step, kernel, source)

    def for_kernel(self, kernel: Kernel, name: str) -> Bounds:
        """The checks of one kernel, with codes of its own."""
        first = len(self.codes) + 1
        touched = _touched(kernel)
        for position, number in enumerate(touched):
            self.codes[first + position] = (name, number)
        counts = {n: self._sizes[n] // self._kinds[n].itemsize for n in touched}
        return Bounds(self.number, counts, first)


def _check_bounds(plan: Plan, report: Any) -> None:
    """Raise for an index that a kernel found outside its array."""
    assert plan.bounds is not None
    code, index = report.as_numpy(np.int32, (2,))
    if code:
        name, number = plan.bounds[int(code)]
        raise IndexError(
            f"kernel {name} used index {index} of value {number}, which has shape "
            f"{list(plan.shapes.get(number, ()))}; its source is in lazytorch.explain(...)"
        )


def graph_has_points(kernel: Kernel) -> bool:
    """Whether any body of a kernel has work to do."""
    return any(estimate.points(body) for body in kernel.bodies)


def _touched(kernel: Kernel) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*kernel.writes(), *kernel.reads())))


def _scalars(kernel: Kernel) -> tuple[int, ...]:
    return tuple(
        dict.fromkeys(
            expression.data
            for body in kernel.bodies
            for expression in ex.walk(body.expressions())
            if expression.kind == ex.ARGUMENT
        )
    )


def target_of(device: Device) -> Target:
    """What code generation needs to know about a device."""
    facts = device.capabilities
    width = max(4, min(16, facts.native_vector_width_float))
    return Target(
        family=config.get("SCHEDULE_FAMILY") or facts.family,
        vector_width=width,
        compute_units=max(1, facts.compute_units),
        max_work_group_size=facts.max_work_group_size,
        local_memory=facts.local_memory,
        fp16=facts.fp16,
        fp64=facts.fp64,
    )


def _prepare(numbering: Numbering, device: Device) -> Replay:
    scheduled = schedule(numbering, device)
    plan = scheduled.plan
    for step in plan.steps:
        if isinstance(step, LaunchStep):
            # A kernel's name is unique in its program; without it equal kernels are equal text.
            text = plan.sources.get(step.name, "").replace(step.name, "") or repr(step.kernel)
            _kernel_texts.add(hash(text))
    if device.kind == "numpy":
        return NumpyReplay(plan, device)
    if log.enabled("code"):
        log.write("code", lambda: plan.source)
    if not plan.source:
        return OpenCLReplay(plan, device, {})
    names = [step.name for step in plan.steps if isinstance(step, LaunchStep)]
    try:
        launchers = device.build(plan.source, names)
    except BuildError as error:
        raise _located(error, scheduled) from error
    # Programs hold the text; a plan in use needs only what launching needs.
    return OpenCLReplay(replace(plan), device, dict(launchers))


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


def plan_for(nodes: Sequence[Node]) -> Scheduled:
    """What realizing ``nodes`` would do, without doing it."""
    with _lock:
        wanted = [node for node in nodes if node.buffer is None]
        numbering = number_graph(wanted)
        while numbering.copies:
            for node in numbering.copies:
                _copy_between_devices(node)
            numbering = number_graph([node for node in wanted if node.buffer is None])
        return schedule(numbering, get_device(wanted[0].device))


def stats() -> dict[str, int]:
    """Counters since the start of the process."""
    values = counters.snapshot()
    values["nodes_recorded"] += pending.nodes
    values["kernels_distinct"] = len(_kernel_texts)
    return values


def clear_plans() -> None:
    """Forget finished plans (compiled programs stay cached on disk)."""
    _plans.clear()
