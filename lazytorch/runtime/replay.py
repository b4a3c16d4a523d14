"""Binds a plan to buffers and goes.

An :class:`OpenCLReplay` holds one launch per step with the arguments that never change already
set (slices of the arena); a replay sets the others and enqueues. A :class:`NumpyReplay` evaluates
the plan's kernels. Both allocate only the outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lazytorch import config
from lazytorch.dtypes import DType
from lazytorch.runtime import interpreter, profile
from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.counters import counters
from lazytorch.runtime.device import Device
from lazytorch.runtime.packed import packings_of
from lazytorch.schedule.plan import CallStep, Plan

if TYPE_CHECKING:
    from lazytorch.runtime.opencl import OpenCLDevice

# Where an argument that is set before each launch is found: among these lists of buffers.
_KINDS = {"output": 0, "leaf": 1}
_PACKED = 2


class Replay:
    """What both kinds share: outputs, donation, and calls of host functions."""

    def __init__(self, plan: Plan, device: Device) -> None:
        self.plan = plan
        self.device = device
        self._output_bytes = [plan.layout.places[number].nbytes for number in plan.outputs]

    def run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], origins: Sequence[Any]
    ) -> list[Buffer]:
        """Launch everything; the buffers of the outputs."""
        donors = self.plan.layout.donors
        allocate = self.device.allocate
        outputs = []
        for position, nbytes in enumerate(self._output_bytes):
            donor = donors.get(position)
            if donor is None:
                outputs.append(allocate(nbytes, origins[position]))
            else:
                leaves[donor].packed = None
                outputs.append(leaves[donor])
        with self.device.lock:
            if profile.active():
                times, kept = self._timed_run(leaves, scalars, outputs)
                profile.note(self.plan, self.device, times, kept)
            else:
                self._run(leaves, scalars, outputs)
        counters.flops += self.plan.flops
        counters.bytes_moved += self.plan.nbytes
        return outputs

    def _run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> Collection[int]:
        """Launch everything; the positions of steps left out because their results are kept."""
        raise NotImplementedError

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> tuple[dict[str, list[float]], Collection[int]]:
        """Run and wait: the seconds that each launch of each kernel took, and the positions of
        the steps left out."""
        raise NotImplementedError

    def _arena(self) -> Buffer | None:
        nbytes = self.plan.layout.arena_bytes
        return self.device.arena(nbytes) if nbytes else None

    def _buffer(
        self, number: int, leaves: Sequence[Buffer], outputs: Sequence[Buffer], arena: Buffer | None
    ) -> Buffer:
        place = self.plan.layout.places[number]
        if place.kind == "leaf":
            return leaves[place.position]
        if place.kind == "output":
            return outputs[place.position]
        assert arena is not None
        return arena.slice(place.position, place.nbytes)

    def _call(
        self,
        step: CallStep,
        leaves: Sequence[Buffer],
        scalars: Sequence[Any],
        outputs: Sequence[Buffer],
        arena: Buffer | None,
    ) -> None:
        plan = self.plan
        dtype, shape = plan.dtypes[step.number], plan.shapes[step.number]
        if 0 in shape:
            return

        def read(number: int) -> np.ndarray:
            if number in plan.scalars:
                return np.asarray(scalars[plan.scalars.index(number)], plan.dtypes[number].numpy)
            if 0 in plan.shapes[number]:
                # What has no elements has no place in memory either.
                return np.empty(plan.shapes[number], plan.dtypes[number].numpy)
            buffer = self._buffer(number, leaves, outputs, arena)
            return buffer.as_numpy(plan.dtypes[number].numpy, plan.shapes[number])

        arrays = [read(number) for number in step.reads]
        with np.errstate(all="ignore"):
            value = np.asarray(step.op.numpy(step.attrs, *arrays))
        if value.shape != shape:
            raise RuntimeError(
                f"host function {step.op.name} promised shape {shape} and returned {value.shape}"
            )
        target = self._buffer(step.number, leaves, outputs, arena)
        target.copy_from(np.ascontiguousarray(value.astype(dtype.numpy, copy=False)))


class NumpyReplay(Replay):
    """Evaluates kernels on arrays in host memory."""

    def _run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> Collection[int]:
        return self._timed_run(leaves, scalars, outputs)[1]

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> tuple[dict[str, list[float]], Collection[int]]:
        times: dict[str, list[float]] = {}
        plan = self.plan
        arena = self._arena()
        values = dict(zip(plan.scalars, scalars))
        arrays: dict[int, np.ndarray] = {}
        for step in plan.steps:
            if isinstance(step, CallStep):
                self._call(step, leaves, scalars, outputs, arena)
                continue
            for number in step.arrays:
                if number not in arrays:
                    buffer = self._buffer(number, leaves, outputs, arena)
                    assert buffer.host is not None
                    arrays[number] = buffer.host.view(plan.dtypes[number].numpy)
            assert step.kernel is not None
            began = time.perf_counter()
            interpreter.run(step.kernel, arrays, values)
            times.setdefault(step.name, []).append(time.perf_counter() - began)
            counters.kernels_launched += 1
        return times, ()


class OpenCLReplay(Replay):
    """Launches compiled kernels.

    ``lasting`` gives the launchers to use after the first ``TRIAL_BUILDS`` runs, where those for
    these were compiled in a hurry.
    """

    def __init__(
        self,
        plan: Plan,
        device: Device,
        launchers: dict[str, Any],
        lasting: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(plan, device)
        self._launchers = launchers
        self._lasting = lasting
        self._trial_runs = 0
        self._packings = packings_of(plan)
        # Where each packs to when no copy is kept.
        self._unkept: list[Buffer] = []
        self._bound_arena: Buffer | None = None
        self._bound: list[Any] = []

    def _bind(self, arena: Buffer | None) -> None:
        """Make the launches anew: at first use, and when the arena was replaced."""
        plan = self.plan
        scalar_position = {number: position for position, number in enumerate(plan.scalars)}
        packed = {packing.target: n for n, packing in enumerate(self._packings)}
        packing_of = {packing.step: n for n, packing in enumerate(self._packings)}
        self._bound = []
        self._unkept = [self._buffer(p.target, (), (), arena) for p in self._packings]
        for position, step in enumerate(plan.steps):
            if isinstance(step, CallStep):
                self._bound.append((step, None, (), (), -1))
                continue
            arguments: list[Any] = []
            moving: list[tuple[int, int, int]] = []
            for slot, number in enumerate(step.arrays):
                place = plan.layout.places[number]
                if number in packed:
                    arguments.append(None)
                    moving.append((slot, _PACKED, packed[number]))
                elif place.kind == "arena":
                    assert arena is not None
                    arguments.append(arena.slice(place.position, place.nbytes))
                else:
                    arguments.append(None)
                    moving.append((slot, _KINDS[place.kind], place.position))
            varying = []
            for slot, number in enumerate(step.scalars, len(step.arrays)):
                dtype = plan.dtypes[number].compute
                arguments.append(_zero(dtype))
                varying.append((slot, scalar_position[number], _python_type(dtype)))
            launch = self._launchers[step.name].bind(
                arguments, (step.groups * step.local,), (step.local,)
            )
            packing = packing_of.get(position, -1)
            self._bound.append((step, launch, tuple(moving), tuple(varying), packing))
        self._bound_arena = arena
        if arena is not None:
            self.device.arena_users.add(self)

    def _settle(self) -> None:
        """Before each run on trial; a plan that is run once more will be run often."""
        if self._trial_runs >= config.get("TRIAL_BUILDS"):
            assert self._lasting is not None
            self._launchers = self._lasting()
            self._lasting = None
            self._bound = []
        self._trial_runs += 1

    def release_arena(self) -> None:
        """Let go of the arena, which is to be replaced by a larger one."""
        self._bound = []
        self._unkept = []
        self._bound_arena = None

    def _run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> Collection[int]:
        arena = self._arena()
        if self._lasting is not None:
            self._settle()
        if arena is not self._bound_arena or not self._bound:
            self._bind(arena)
        if not self._packings:
            self._launch_all(leaves, scalars, outputs, arena, (), ())
            return ()
        copies, filled = self.device.packed.find(self._packings, leaves)
        packed = [copy or memory for copy, memory in zip(copies, self._unkept)]
        try:
            self._launch_all(leaves, scalars, outputs, arena, packed, filled)
        except BaseException:
            self.device.packed.forget(self._packings, leaves)
            raise
        kept = [packing.step for packing, full in zip(self._packings, filled) if full]
        counters.packings_kept += len(kept)
        return kept

    def _launch_all(
        self,
        leaves: Sequence[Buffer],
        scalars: Sequence[Any],
        outputs: Sequence[Buffer],
        arena: Buffer | None,
        packed: Sequence[Buffer],
        filled: Sequence[bool],
    ) -> None:
        """Launch what is bound, except packings into memory that is ``filled``."""
        tables = (outputs, leaves, packed)
        for step, launch, moving, varying, packing in self._bound:
            if launch is None:
                self._call(step, leaves, scalars, outputs, arena)
                continue
            if packing >= 0 and filled[packing]:
                continue
            handles: list[Any] = []
            for slot, kind, position in moving:
                handles.append(slot)
                handles.append(tables[kind][position].handle)
            if handles:
                launch.set_handles(tuple(handles))
            if varying:
                numbers = [(slot, convert(scalars[at])) for slot, at, convert in varying]
                launch.set_numbers(numbers)
            launch.launch()
        self.device.flush()

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> tuple[dict[str, list[float]], Collection[int]]:
        device = cast("OpenCLDevice", self.device)
        device.set_profiling(True)
        try:
            kept = self._run(leaves, scalars, outputs)
            times: dict[str, list[float]] = {}
            for name, start, end in device.take_profile():
                times.setdefault(name, []).append((end - start) / 1e9)
            return times, kept
        finally:
            device.set_profiling(False)


def _zero(dtype: DType) -> Any:
    return dtype.numpy.type(0) if dtype.kind != "b" else np.uint8(0)


def _python_type(dtype: DType) -> type:
    return float if dtype.kind == "f" else int


__all__ = ["NumpyReplay", "OpenCLReplay", "Replay"]
