"""When things are computed: leaves, budgets, and realizing pending nodes.

Knows when a graph is computed and by which finished plan; how a plan is made is ``pipeline``'s,
which is imported when the first plan is needed: importing lazytorch must stay quick, and half
of its modules are the compiler.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazytorch import config, dtypes
from lazytorch.engine import plan_files, state
from lazytorch.engine.binding import kernel_texts, replay_of
from lazytorch.engine.capture import Capture, Captured, current
from lazytorch.engine.sites import format_site
from lazytorch.errors import BuildError, OutOfMemoryError
from lazytorch.ir.node import SYMBOLIC, Node
from lazytorch.ops import leaves
from lazytorch.ops.examples import levels_of
from lazytorch.runtime import Device, counters, get_device, resolve
from lazytorch.runtime.interrupts import interrupts_held
from lazytorch.schedule.graph import Numbering, number_graph, self_contained
from lazytorch.schedule.recall import Memory

if TYPE_CHECKING:
    from lazytorch.engine.pipeline import Scheduled
    from lazytorch.runtime.replay import Replay

_lock = threading.RLock()
_plans: OrderedDict[Any, Replay] = OrderedDict()
# Hashes of graphs whose beginnings were computed apart.
_begun: set[int] = set()
_memory = Memory()


def _pipeline() -> Any:
    return importlib.import_module("lazytorch.engine.pipeline")


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


def to_array(node: Node, checked: bool = False) -> np.ndarray:
    """The value on the host: realizes, waits, and returns memory shared with the device where
    the device computes in host memory, a copy elsewhere. ``checked`` says that the caller looks
    again whenever a captured function is repeated."""
    if current.capture is not None and not checked:
        current.capture.breaks("a value is looked at")
    if node.op is leaves.SCALAR:
        return np.asarray(node.buffer, node.dtype.numpy)
    if node.buffer is None:
        realize([node])
    array: np.ndarray = node.buffer.as_numpy(node.dtype.numpy, node.shape)
    return array


def unshare(nodes: Iterable[Node]) -> None:
    """Give each node a buffer of its own: equal constants (all biases) are computed once, and
    memory that two values share cannot be updated in place."""
    seen: set[int] = set()
    for node in nodes:
        if id(node.buffer) in seen:
            node.buffer = get_device(node.device).upload(to_array(node), origin=node.site)
        seen.add(id(node.buffer))


def write_array(node: Node, target: Node) -> None:
    """Compute ``node`` and store it into the buffer that ``target`` holds (same shape, dtype)."""
    target.buffer.copy_from(np.ascontiguousarray(to_array(node)))


# Budgets ----------------------------------------------------------------------------


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


def flush() -> None:
    """Compute the pending values of all noted state in one graph, without waiting for it."""
    if current.capture is not None and current.capture.broken is None:
        return
    pending.reset()
    owners = state.take_all()
    by_device: dict[str, list[Node]] = {}
    for owner in owners:
        node = owner.node
        if node is not None and node.buffer is None and node.depth < SYMBOLIC:
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


def recorded_together(node: Node, count: int) -> None:
    """As :func:`recorded` for ``count`` nodes with depths, of which ``node`` is the last."""
    pending.nodes += count
    if count and (node.depth > pending.depth or pending.nodes > pending.nodes_left):
        _within_budget(node)


def _within_budget(node: Node) -> None:
    """A budget is full: compute what is pending, all state together, then this node."""
    if node.depth >= SYMBOLIC:
        return
    if current.capture is not None:
        current.capture.breaks("it has more operations than FLUSH_NODES or FLUSH_DEPTH allow")
    flush()
    realize([node])


def synchronize() -> None:
    """Wait until every device has finished."""
    for name in list(_used_devices):
        get_device(name).synchronize()


_used_devices: set[str] = set()


# Realize --------------------------------------------------------------------------------------


def realize(nodes: Sequence[Node]) -> None:
    """Compute every node; afterwards each holds its buffer (which the device may still fill)."""
    for node in nodes:
        if node.depth >= SYMBOLIC:
            raise _valueless(node)
    with _lock:
        if current.capture is not None:
            if all(node.buffer is not None for node in nodes):
                return
            current.capture.breaks("a value is computed before the end")
        nodes = state.with_companions(nodes)
        numbering = _numbered(nodes)
        if numbering is None:
            return
        device = get_device(numbering.order[0].device)
        replay = _known_plan(numbering, device)
        if replay is None:
            early = _beginnings(numbering)
            if early:
                # The walk counts references: it must find none of ours.
                del numbering
                realize(early)
                del early
                numbering = _numbered(nodes)
                if numbering is None:
                    return
                replay = _known_plan(numbering, device)
        _execute(numbering, device, replay or _new_plan(numbering, device))


def _valueless(node: Node) -> RuntimeError:
    """What to say when somebody looks at one example of a batch."""
    if not any(level.entered for level in levels_of(node)):
        return RuntimeError(
            "Either your tensor may have escaped from inside a function being vmapped and this is "
            f"a user error: a value of shape {list(node.shape)}, recorded at "
            f"{format_site(node.site)}, belongs to a vmap that has ended. Return it from the "
            "function instead."
        )
    return RuntimeError(
        "vmap: It looks like you're calling .item() on a Tensor, or asking for its values in "
        "another way. We don't support vmap over calling .item() on a Tensor, please try to "
        f"rewrite what you're doing with other operations: the value of shape {list(node.shape)}, "
        f"recorded at {format_site(node.site)}, is another one for each example."
    )


def close_capture(capture: Capture, nodes: Sequence[Node]) -> Captured | None:
    """Compute what a capture left pending, in one graph, and give its plan with its bindings.

    ``None`` when the capture is broken; then the values are computed as ever.
    """
    current.capture = None
    with _lock:
        wanted = [node for node in nodes if node.buffer is None]
        numbering = number_graph(wanted, pieces=False) if wanted else None
        if numbering is None:
            capture.broken = capture.broken or "it computes nothing"
        elif numbering.copies:
            capture.broken = capture.broken or "it copies between devices"
        elif any(node.device != wanted[0].device for node in wanted):
            capture.broken = capture.broken or "it computes on two devices"
        if numbering is None or capture.broken is not None:
            flush()
            return None
        device = get_device(wanted[0].device)
        replay = _known_plan(numbering, device) or _new_plan(numbering, device)
        captured = capture.bind(numbering, replay, wanted)
        _execute(numbering, device, replay)
        state.take_all()
        return captured


def _beginnings(numbering: Numbering) -> list[Node]:
    """Kept values that a graph nobody has a plan for makes from nothing, like random data.

    Where a program begins with them they would make its first step another graph than all later
    ones. Computed by themselves they leave one plan for both. A graph that comes again has them
    in every step (a dropout mask that the tape holds): it gets its plan.
    """
    found = self_contained(numbering)
    if found:
        key = hash(numbering.key)
        if key in _begun:
            return []
        _begun.add(key)
    return found


def _numbered(nodes: Sequence[Node]) -> Numbering | None:
    """The pending graph behind ``nodes``, copies between devices done; ``None`` if all is ready."""
    while True:
        wanted = [node for node in nodes if node.buffer is None]
        if not wanted:
            return None
        numbering = _memory.number(wanted)
        if not numbering.copies:
            return numbering if numbering.order else None
        for node in numbering.copies:
            _copy_between_devices(node)


def _copy_between_devices(node: Node) -> None:
    (source,) = node.src
    array = to_array(source)
    node.fulfil(get_device(node.device).upload(array, origin=node.site))


def _execute(numbering: Numbering, device: Device, replay: Replay) -> None:
    _used_devices.add(device.name)
    if replay.plan.layout.donors:
        with interrupts_held():
            _carry_out(numbering, replay)
    else:
        _carry_out(numbering, replay)


def _carry_out(numbering: Numbering, replay: Replay) -> None:
    leaf_buffers = [node.buffer for node in numbering.leaf_nodes]
    scalars = [node.buffer for node in numbering.scalar_nodes]
    origins = [group[0].site for group in numbering.outputs.values()]
    origins += [None] * (len(replay.plan.outputs) - len(origins))
    try:
        results = replay.run(leaf_buffers, scalars, origins)
    except OutOfMemoryError as error:
        raise _explained(error, numbering) from None
    if replay.plan.bounds is not None:
        _pipeline().check_bounds(replay.plan, results[-1])
    for group, buffer in zip(numbering.outputs.values(), results):
        for node in group:
            node.fulfil(buffer)
    pending.reset()


# Plans ----------------------------------------------------------------------------------------


def _known_plan(numbering: Numbering, device: Device) -> Replay | None:
    """The finished plan of a graph, from memory or from a file."""
    key = (device.name, _flags(), numbering.key)
    replay = _plans.get(key)
    if replay is not None:
        counters.plans_hit += 1
        _plans.move_to_end(key)
        return replay
    text = plan_files.key_text(numbering, device, _flags())
    plan = None if text is None else plan_files.load(text, numbering)
    if plan is None:
        return None
    try:
        replay = replay_of(plan, device)
    except BuildError:
        # Made anew, the plan knows the user's lines that the message should name.
        return None
    counters.plans_loaded += 1
    _remember(key, replay)
    return replay


def _new_plan(numbering: Numbering, device: Device) -> Replay:
    """Schedule, compile and keep the plan of a graph."""
    counters.plans_missed += 1
    replay: Replay = _pipeline().prepare(numbering, device)
    _remember((device.name, _flags(), numbering.key), replay)
    text = plan_files.key_text(numbering, device, _flags())
    if text is not None:
        plan_files.store(text, numbering, replay.plan)
    return replay


def _remember(key: Any, replay: Replay) -> None:
    _plans[key] = replay
    while len(_plans) > config.get("PLAN_CACHE"):
        _plans.popitem(last=False)


def _flags() -> tuple[Any, ...]:
    return tuple(map(config.get, ("FUSION", "BOUNDS", "SCHEDULE_FAMILY", "TUNE")))


def _explained(error: OutOfMemoryError, numbering: Numbering) -> OutOfMemoryError:
    """Say for which values memory was wanted."""
    largest = max((group[0] for group in numbering.outputs.values()), key=lambda n: n.nbytes)
    return OutOfMemoryError(
        f"{error}\nwhile computing {largest.op.name} of shape {list(largest.shape)} "
        f"({largest.nbytes} bytes), recorded at {format_site(largest.site)}"
    )


# Looking inside -------------------------------------------------------------------------------


def plan_for(nodes: Sequence[Node]) -> Scheduled:
    """What realizing ``nodes`` would do, without doing it."""
    with _lock:
        numbering = _numbered(nodes)
        if numbering is None:
            raise ValueError("nothing is pending behind these values")
        return _pipeline().schedule(numbering, get_device(numbering.order[0].device))


def stats() -> dict[str, int]:
    """Counters since the start of the process."""
    values = counters.snapshot()
    values["nodes_recorded"] += pending.nodes
    values["kernels_distinct"] = len(kernel_texts)
    return values


def clear_plans() -> None:
    """Forget finished plans (those on disk and compiled programs stay)."""
    _plans.clear()
    _begun.clear()
    _memory.forget()


def _begin_anew() -> None:
    """In a forked child: other devices stand behind the names, and no thread holds the lock."""
    global _lock
    _lock = threading.RLock()
    clear_plans()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
