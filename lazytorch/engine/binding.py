"""From a finished plan to one that can run: its programs are built, or found in the cache.

Knows plans and devices; nothing of how a plan is made, so that a plan read from a file costs no
import of the compiler.
"""

from __future__ import annotations

from lazytorch import logs
from lazytorch.ir.show import show_kernel
from lazytorch.runtime.device import Device
from lazytorch.runtime.replay import NumpyReplay, OpenCLReplay, Replay
from lazytorch.schedule.plan import LaunchStep, Plan

kernel_texts: set[int] = set()


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
    return OpenCLReplay(plan, device, dict(device.build(plan.source, list(names))))


def _kernel_text(step: LaunchStep) -> str:
    """What stands for the source of a kernel that is interpreted. Not its ``repr``, which spells
    out a value that is used twice twice, and so may be longer than any memory."""
    return show_kernel(step.kernel) if step.kernel is not None else step.name
