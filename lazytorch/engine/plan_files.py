"""Finished plans on disk, so that a second process schedules nothing.

Knows what a plan depends on, and how one is written down. A plan is stored under its exact key:
the whole numbered graph, the device and its driver, the settings and thresholds of the scheduler,
and the sources of lazytorch that turn graphs into plans. The key itself stands in the file and
is compared, so a collision of names is a miss.

The form is JSON: reading it makes numbers, texts and lists and can run nothing; objects are
chosen by this page, never by the file. Operations of host calls are not read from the file but
taken from the graph at hand. Whatever does not read as a plan is a miss and is removed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from lazytorch import config, dtypes, logs
from lazytorch.dtypes import DType
from lazytorch.engine import tuning
from lazytorch.ir.definition import OpDef
from lazytorch.ops.leaves import HostFunction
from lazytorch.runtime.cache import FileCache
from lazytorch.runtime.device import Device
from lazytorch.schedule import choices
from lazytorch.schedule.graph import Numbering
from lazytorch.schedule.memory import Layout, Place
from lazytorch.schedule.plan import CallStep, LaunchStep, Plan

# Folders of the package whose code decides what a plan looks like.
_COMPILER = ("", "ir", "ops", "schedule", "codegen", "runtime", "engine")
_KINDS = ("leaf", "output", "arena")
_files = FileCache("plans")


def key_text(numbering: Numbering, device: Device, flags: tuple[Any, ...]) -> str | None:
    """Everything the plan of a graph depends on, as text; ``None`` when it cannot be kept.

    Plans of the NumPy device hold kernels rather than programs and are not kept; neither are
    any while every stage is to be checked or told about.
    """
    if device.kind == "numpy" or not config.get("CACHE") or config.get("VERIFY"):
        return None
    if tuning.is_tuning() or logs.enabled("fuse") or logs.enabled("memory"):
        return None
    sources = _sources_digest()
    if sources is None:
        return None
    thresholds = sorted((n, v) for n, v in vars(choices).items() if n.isupper())
    tuned = tuning.signature(device)
    parts = [sources, device.signature, flags, tuned, thresholds, numbering.key]
    try:
        return json.dumps(parts, separators=(",", ":"), default=_named)
    except (TypeError, ValueError):
        return None


def load(text: str, numbering: Numbering) -> Plan | None:
    """The plan stored under a key, or ``None``."""
    name = FileCache.key(text)
    content = _files.read(name)
    if content is None:
        return None
    try:
        data = json.loads(content)
        if data["key"] != text:
            return None
        return _plan_from(data, numbering)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        complaint = f"plan {name} does not read as one ({error}); removed"
        logs.write("cache", lambda: complaint)
        _files.remove(name)
        return None


def store(text: str, numbering: Numbering, plan: Plan) -> None:
    """Keep a plan for other processes."""
    if _files.folder is not None:
        data = {"key": text, **_data_of(plan, numbering)}
        _files.write(FileCache.key(text), json.dumps(data, separators=(",", ":")).encode())


def _named(value: Any) -> Any:
    """Objects that may stand in a graph's key, by names that are the same in every process."""
    if isinstance(value, OpDef):
        return {"op": value.name}
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, HostFunction):
        return {"host": [value.key, value.shape, value.dtype.name]}
    raise TypeError(f"{type(value).__name__} has no form in a file")


@functools.cache
def _sources_digest() -> str | None:
    """A digest of the code that makes plans: a changed source must not meet its old plans."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    try:
        for folder in _COMPILER:
            for path in sorted((root / folder).glob("*.py")):
                content = path.read_bytes()
                digest.update(f"{folder}/{path.name} {len(content)}\n".encode())
                digest.update(content)
    except OSError:
        return None
    return digest.hexdigest()


# Writing --------------------------------------------------------------------------------------


def _data_of(plan: Plan, numbering: Numbering) -> dict[str, Any]:
    used = {*plan.scalars}
    for step in plan.steps:
        if isinstance(step, CallStep):
            used |= {step.number, *step.reads}
    if plan.bounds is not None:
        used |= {number for _, number in plan.bounds.values()}
    places = plan.layout.places
    return {
        "steps": [_step_data(step, numbering) for step in plan.steps],
        "places": [[n, _KINDS.index(p.kind), p.position, p.nbytes] for n, p in places.items()],
        "donors": list(plan.layout.donors.items()),
        "arena": plan.layout.arena_bytes,
        "leaves": plan.leaves,
        "scalars": plan.scalars,
        "outputs": plan.outputs,
        "shapes": [[n, plan.shapes[n]] for n in sorted(used) if n in plan.shapes],
        "dtypes": [[n, plan.dtypes[n].name] for n in sorted(used)],
        "source": plan.source,
        "sources": plan.sources,
        "work": [plan.flops, plan.nbytes],
        "bounds": None if plan.bounds is None else list(plan.bounds.items()),
    }


def _step_data(step: LaunchStep | CallStep, numbering: Numbering) -> list[Any]:
    if isinstance(step, LaunchStep):
        return [
            step.name, step.arrays, step.scalars, step.groups, step.local, step.covers,
            step.notes, step.flops, step.nbytes, step.packs,
        ]  # fmt: skip
    row = next(
        position
        for position, row in enumerate(numbering.key[0])
        if row[0] is step.op and row[1] == step.attrs
    )
    return [step.number, row, step.reads, step.notes]


# Reading --------------------------------------------------------------------------------------


def _plan_from(data: dict[str, Any], numbering: Numbering) -> Plan:
    places = {
        number: Place(_KINDS[kind], position, nbytes)
        for number, kind, position, nbytes in data["places"]
    }
    donors = {output: leaf for output, leaf in data["donors"]}
    bounds = data["bounds"]
    return Plan(
        steps=tuple(_step_from(step, numbering) for step in data["steps"]),
        layout=Layout(places, donors, data["arena"]),
        leaves=tuple(data["leaves"]),
        scalars=tuple(data["scalars"]),
        outputs=tuple(data["outputs"]),
        shapes={number: tuple(shape) for number, shape in data["shapes"]},
        dtypes={number: dtypes.by_name(name) for number, name in data["dtypes"]},
        source=data["source"],
        sources=data["sources"],
        flops=data["work"][0],
        nbytes=data["work"][1],
        bounds=None if bounds is None else {code: (name, n) for code, (name, n) in bounds},
    )


def _step_from(step: list[Any], numbering: Numbering) -> LaunchStep | CallStep:
    if len(step) == 4:
        number, place, reads, notes = step
        op, attrs = numbering.key[0][place][:2]
        return CallStep(number, op, attrs, tuple(reads), tuple(notes))
    name, arrays, scalars, groups, local, covers, notes, flops, nbytes, packs = step
    return LaunchStep(
        name, None, tuple(arrays), tuple(scalars), groups, local, tuple(covers), tuple(notes),
        flops, nbytes, None if packs is None else (packs[0], packs[1]),
    )  # fmt: skip


__all__ = ["key_text", "load", "store"]
