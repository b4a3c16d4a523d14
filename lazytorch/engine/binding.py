"""From a finished plan to one that can run: its programs are built, or found in the cache.

Knows plans and devices; nothing of how a plan is made, so that a plan read from a file costs no
import of the compiler.
"""

from __future__ import annotations

from typing import Any

from lazytorch import config, logs
from lazytorch.ir.show import show_kernel
from lazytorch.runtime.device import Device
from lazytorch.runtime.replay import NumpyReplay, OpenCLReplay, Replay
from lazytorch.schedule.plan import LaunchStep, Plan

kernel_texts: set[int] = set()
# Programs are cut into parts of about so many characters, which Intel's runtime compiles in half a
# second; each part costs it 30 ms of its own.
PART_CHARACTERS = 40_000
# A plan with at most so much work a character of its source is first compiled without
# optimization. A convolution of 2 x 3 x 9 x 11 into 4 channels (27,000 characters) takes Intel's
# runtime 562 ms to compile, without optimization 177; elementwise kernels of 2,000 characters 48
# and 30, of 500, 30 and 22: ten milliseconds a thousand characters, in which code that is not
# optimized does a million operations or more.
TRIAL_FLOPS, TRIAL_BYTES = 500, 1000


def replay_of(plan: Plan, device: Device) -> Replay:
    """Build the plan's program and bind it; ``BuildError`` when the driver refuses."""
    for step in plan.steps:
        if isinstance(step, LaunchStep):
            # A kernel's name is unique in its program; without it equal kernels are equal text.
            text = plan.sources.get(step.name, "").replace(step.name, "")
            kernel_texts.add(hash(text or _kernel_text(step)))
    if logs.enabled("plan"):
        logs.write(
            "plan",
            lambda: (
                f"{plan.launches} launches, {plan.flops} operations, {plan.nbytes} bytes "
                f"on {device.name}"
            ),
        )
    if device.kind == "numpy":
        return NumpyReplay(plan, device)
    if logs.enabled("code"):
        logs.write("code", lambda: plan.source)
    if not plan.source:
        return OpenCLReplay(plan, device, {})
    names = dict.fromkeys(step.name for step in plan.steps if isinstance(step, LaunchStep))

    def lasting() -> dict[str, Any]:
        return device.build_parts(program_parts(plan))

    options = _trial_options(plan)
    if not config.get("TRIAL_BUILDS") or not (options or device.binaries_are_compiled):
        return OpenCLReplay(plan, device, lasting())
    launchers = dict(device.build(plan.source, list(names), trial=options))
    return OpenCLReplay(plan, device, launchers, lasting)


def program_parts(plan: Plan) -> list[tuple[str, list[str]]]:
    """The plan's program cut into programs, (source, kernel names) each.

    Where it is cut depends on the plan alone, never on the machine: a program's text is the name
    of its binary in the cache.
    """
    beginning = plan.source.removesuffix("\n".join(plan.sources.values()))
    parts: list[list[str]] = []
    room = 0
    for name, text in plan.sources.items():
        if len(text) > room:
            parts.append([])
            room = PART_CHARACTERS
        parts[-1].append(name)
        room -= len(text)
    return [(beginning + "\n".join(map(plan.sources.__getitem__, part)), part) for part in parts]


def _trial_options(plan: Plan) -> str:
    """How to compile a plan for its first runs: code for little work is not optimized."""
    size = len(plan.source)
    little = plan.flops <= TRIAL_FLOPS * size and plan.nbytes <= TRIAL_BYTES * size
    return "-cl-opt-disable" if little else ""


def _kernel_text(step: LaunchStep) -> str:
    """What stands for the source of a kernel that is interpreted. Not its ``repr``, which spells
    out a value that is used twice twice, and so may be longer than any memory."""
    return show_kernel(step.kernel) if step.kernel is not None else step.name
