"""One body on scratch memory: built with a schedule, run, timed, and read.

Inputs are copies, outputs and temporaries are the trial's own and are filled with a pattern before
a result is judged, so that what a kernel forgets to write is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch import config
from lazytorch.codegen.candidates import family_of
from lazytorch.codegen.choice import Schedule
from lazytorch.codegen.finish import finish
from lazytorch.codegen.render import Source, program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.engine.tuning.compare import difference
from lazytorch.errors import BuildError, LazytorchError
from lazytorch.ir.kernel import Body, Kernel
from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.device import Device

# All bits set: a NaN, or -1.
POISON = 0xFF
# Seconds that one measurement should last, and measurements of which the shortest counts.
SPAN, ROUNDS = 0.002, 3


@dataclass
class Variant:
    """The body with one schedule, ready to run; ``outputs`` by value number."""

    schedule: Schedule | None
    launches: list[Any]
    outputs: dict[int, Buffer]
    temporaries: list[Buffer]
    seconds: float = float("inf")


class Trial:
    """Everything that does not change from schedule to schedule of one body."""

    def __init__(
        self,
        device: Device,
        target: Target,
        body: Body,
        values: Mapping[int, DType],
        inputs: Mapping[int, Buffer],
        sizes: Mapping[int, int],
        scalars: Mapping[int, Any],
    ) -> None:
        self.device = device
        self.target = target
        self.body = body
        self.kernel = Kernel((body,), dict(values))
        self.scalars = scalars
        self.arrays = {
            number: device.upload(inputs[number].as_numpy(np.uint8, (sizes[number],)))
            for number in self.kernel.reads()
        }
        self.sizes = {number: sizes[number] for number in self.kernel.writes()}
        self._first_free = 1 + max([*values, *sizes], default=0)
        self._right: dict[int, Any] = {}

    def build(self, schedules: Sequence[Schedule | None]) -> list[Variant | str]:
        """A variant for each schedule, or why there is none.

        They are compiled as one program, which takes a third of the time of one by one.
        """
        written: list[tuple[list[Source], dict[int, int]] | str] = []
        for position, schedule in enumerate(schedules):
            try:
                written.append(self._write(schedule, f"k{position}"))
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                written.append(f"{type(error).__name__}: {error}")
        sources = [s for item in written if not isinstance(item, str) for s in item[0]]
        try:
            # The many that lose are not worth their place on disk.
            with config.override(CACHE=False):
                names = [source.name for source in sources]
                launchers = self.device.build(program(sources), names) if sources else {}
        except BuildError as error:
            if len(schedules) == 1:
                return [f"does not compile: {error}"]
            return [self.build([schedule])[0] for schedule in schedules]
        return [
            item if isinstance(item, str) else self._bind(schedule, *item, launchers)
            for schedule, item in zip(schedules, written)
        ]

    def _write(self, schedule: Schedule | None, name: str) -> tuple[list[Source], dict[int, int]]:
        temporaries: dict[int, int] = {}

        def new_value(dtype: DType, count: int) -> int:
            number = self._first_free + len(temporaries)
            temporaries[number] = max(count, 1) * dtype.itemsize
            return number

        kernels = finish(self.kernel, self.target, new_value, lambda body, values: schedule)
        sources = [
            render(kernel, self.target, f"{name}_{position}")
            for position, kernel in enumerate(kernels)
        ]
        return sources, temporaries

    def _bind(
        self,
        schedule: Schedule | None,
        sources: list[Source],
        temporaries: dict[int, int],
        launchers: Mapping[str, Any],
    ) -> Variant | str:
        outputs = {number: self.device.allocate(size) for number, size in self.sizes.items()}
        scratch = {number: self.device.allocate(size) for number, size in temporaries.items()}
        arrays = {**self.arrays, **outputs, **scratch}
        launches = []
        for source in sources:
            arguments = [arrays[number] for number in source.arrays]
            arguments += [
                scalar_argument(self.scalars[n], self.kernel.values[n]) for n in source.scalars
            ]
            launcher = launchers[source.name]
            if source.local > launcher.work_group_limit():
                return f"work-groups of {source.local} are more than the kernel can run with"
            launches.append(launcher.bind(arguments, (source.global_size,), (source.local,)))
        return Variant(schedule, launches, outputs, list(scratch.values()))

    # Running --------------------------------------------------------------------------------

    def results(self, variant: Variant) -> dict[int, Any]:
        """What a variant computes, from memory that was filled with a pattern."""
        for buffer in (*variant.outputs.values(), *variant.temporaries):
            buffer.copy_from(np.full(buffer.nbytes, POISON, np.uint8))
        self._run(variant)
        found = {}
        for number, buffer in variant.outputs.items():
            dtype = self.kernel.values[number]
            count = buffer.nbytes // dtype.itemsize
            found[number] = buffer.as_numpy(dtype.numpy, (count,)).copy()
        return found

    def take_as_right(self, variant: Variant) -> None:
        """Take what a variant computes as what all others have to."""
        self._right = self.results(variant)

    def fault(self, variant: Variant) -> str:
        """What is wrong with a variant's results; '' when nothing is."""
        family = family_of(self.body)
        terms = 1 if family is None else family.terms(self.body)
        for number, got in self.results(variant).items():
            dtype = self.kernel.values[number]
            found = difference(got, self._right[number], dtype, terms)
            if found:
                return found
        return ""

    def measure(self, variant: Variant, hopeless: float = float("inf")) -> float:
        """Seconds of one run: the shortest of a few measurements. One run that takes longer than
        ``hopeless`` is measured once."""
        self._run(variant)
        once = self._timed(variant, 1)
        if once > hopeless:
            return once
        repeats = max(1, min(256, int(SPAN / max(once, 1e-7))))
        return min(self._timed(variant, repeats) for _ in range(ROUNDS))

    def _timed(self, variant: Variant, repeats: int) -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            for launch in variant.launches:
                launch.launch()
        self.device.synchronize()
        return (time.perf_counter() - began) / repeats

    def _run(self, variant: Variant) -> None:
        for launch in variant.launches:
            launch.launch()
        self.device.synchronize()


def scalar_argument(value: Any, dtype: DType) -> Any:
    """A Python number as the argument of a kernel that computes with ``dtype``."""
    kind = dtype.compute
    return np.uint8(value) if kind.kind == "b" else kind.numpy.type(value)


#: What a launch, a build or a driver's refusal raises.
FAILURES = (LazytorchError, RuntimeError, MemoryError, ValueError)
