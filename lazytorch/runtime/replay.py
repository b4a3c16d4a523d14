"""Binds a plan to buffers and goes.

An :class:`OpenCLReplay` holds one launch per step with the arguments that never change already
set (slices of the arena); a replay sets the others and enqueues. A :class:`NumpyReplay` evaluates
the plan's kernels. Both allocate only the outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.runtime import interpreter, profile
from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.counters import counters
from lazytorch.runtime.device import Device
from lazytorch.schedule.plan import CallStep, Plan

if TYPE_CHECKING:
    from lazytorch.runtime.opencl import OpenCLDevice


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
                outputs.append(leaves[donor])
        with self.device.lock:
            if profile.active():
                profile.note(self.plan, self.device, self._timed_run(leaves, scalars, outputs))
            else:
                self._run(leaves, scalars, outputs)
        counters.flops += self.plan.flops
        counters.bytes_moved += self.plan.nbytes
        return outputs

    def _run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> None:
        raise NotImplementedError

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> dict[str, list[float]]:
        """Run, wait, and say how many seconds each launch of each kernel took."""
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
    ) -> None:
        self._timed_run(leaves, scalars, outputs)

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> dict[str, list[float]]:
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
        return times


class OpenCLReplay(Replay):
    """Launches compiled kernels.

    ``lasting`` gives the launchers to use from the second run on, where those for one run were
    compiled in a hurry.
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
        self._has_run = False
        self._bound_arena: Buffer | None = None
        self._bound: list[Any] = []

    def _bind(self, arena: Buffer | None) -> None:
        """Make the launches anew: at first use, and when the arena was replaced."""
        plan = self.plan
        scalar_position = {number: position for position, number in enumerate(plan.scalars)}
        self._bound = []
        for step in plan.steps:
            if isinstance(step, CallStep):
                self._bound.append((step, None, (), ()))
                continue
            arguments: list[Any] = []
            moving: list[tuple[int, bool, int]] = []
            for slot, number in enumerate(step.arrays):
                place = plan.layout.places[number]
                if place.kind == "arena":
                    assert arena is not None
                    arguments.append(arena.slice(place.position, place.nbytes))
                else:
                    arguments.append(None)
                    moving.append((slot, place.kind == "leaf", place.position))
            varying = []
            for slot, number in enumerate(step.scalars, len(step.arrays)):
                dtype = plan.dtypes[number].compute
                arguments.append(_zero(dtype))
                varying.append((slot, scalar_position[number], _python_type(dtype)))
            launch = self._launchers[step.name].bind(
                arguments, (step.groups * step.local,), (step.local,)
            )
            self._bound.append((step, launch, tuple(moving), tuple(varying)))
        self._bound_arena = arena
        if arena is not None:
            self.device.arena_users.add(self)

    def _settle(self) -> None:
        """Before the second run: a plan that is run twice will be run often."""
        if self._has_run:
            assert self._lasting is not None
            self._launchers = self._lasting()
            self._lasting = None
            self._bound = []
        self._has_run = True

    def release_arena(self) -> None:
        """Let go of the arena, which is to be replaced by a larger one."""
        self._bound = []
        self._bound_arena = None

    def _run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> None:
        arena = self._arena()
        if self._lasting is not None:
            self._settle()
        if arena is not self._bound_arena or not self._bound:
            self._bind(arena)
        for step, launch, moving, varying in self._bound:
            if launch is None:
                self._call(step, leaves, scalars, outputs, arena)
                continue
            handles: list[Any] = []
            for slot, is_leaf, position in moving:
                handles.append(slot)
                handles.append((leaves if is_leaf else outputs)[position].handle)
            if handles:
                launch.set_handles(tuple(handles))
            if varying:
                numbers = [(slot, convert(scalars[at])) for slot, at, convert in varying]
                launch.set_numbers(numbers)
            launch.launch()
        self.device.flush()

    def _timed_run(
        self, leaves: Sequence[Buffer], scalars: Sequence[Any], outputs: Sequence[Buffer]
    ) -> dict[str, list[float]]:
        device = cast("OpenCLDevice", self.device)
        device.set_profiling(True)
        try:
            self._run(leaves, scalars, outputs)
            times: dict[str, list[float]] = {}
            for name, start, end in device.take_profile():
                times.setdefault(name, []).append((end - start) / 1e9)
            return times
        finally:
            device.set_profiling(False)


def _zero(dtype: DType) -> Any:
    return dtype.numpy.type(0) if dtype.kind != "b" else np.uint8(0)


def _python_type(dtype: DType) -> type:
    return float if dtype.kind == "f" else int


__all__ = ["NumpyReplay", "OpenCLReplay", "Replay"]
