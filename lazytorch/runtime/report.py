"""What ``python -m lazytorch devices`` prints: drivers, devices, probes, and what to do.

Knows how to tell; decides nothing.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from lazytorch import config
from lazytorch.runtime import discovery, probe, registry
from lazytorch.runtime.cache import default_folder, usable_folder
from lazytorch.runtime.capabilities import read_capabilities
from lazytorch.runtime.discovery import Candidate, Discovery
from lazytorch.runtime.drivers import check_drivers
from lazytorch.runtime.numpy_device import NumpyDevice


def devices_report(check: bool = False) -> dict[str, Any]:
    """Everything known about drivers and devices, ready for ``json.dumps``.

    With ``check`` every driver is loaded and every device probed again in a subprocess.

    >>> devices_report()["devices"][-1]["name"]
    'numpy'
    """
    found = discovery.discover()
    if check:
        check_drivers(found.drivers, strict=True)
    devices = [_describe(item, check) for item in found.candidates]
    devices.append(
        {"name": "numpy", "state": "ok", "capabilities": asdict(NumpyDevice().capabilities)}
    )
    default = registry.default_device_name()
    return {
        "python": sys.version.split()[0],
        "pyopencl": found.pyopencl_version,
        "loader": found.loader,
        "searched": found.searched,
        "drivers": [asdict(driver) for driver in found.drivers],
        "platforms_without_devices": found.empty_platforms,
        "notes": found.notes,
        "error": found.error,
        "devices": devices,
        "default": default,
        "cache_folder": str(default_folder()) if config.get("CACHE") else "",
        "cache_usable": usable_folder("programs") is not None,
        "advice": _advice(found, default),
    }


def _describe(item: Candidate, check: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": f"opencl:{item.index}",
        "device": item.device_name,
        "platform": item.platform_name,
        "platform_version": item.platform_version,
        "driver": item.driver_version,
        "family": item.family,
    }
    if check:
        verdict, record["canaries"] = probe.recheck(item)
    else:
        verdict = probe.known(item)
    record["state"] = verdict.state
    record["reason"] = verdict.reason
    try:
        facts = read_capabilities(discovery.pyopencl(), item, verdict.masked)
        record["capabilities"] = asdict(facts)
    except Exception as error:
        record["capabilities"] = {}
        record["reason"] = f"{record['reason']} {error}".strip()
    return record


def _advice(found: Discovery, default: str) -> str:
    if default != "numpy" or config.get("DEVICE") == "numpy":
        return ""
    return f"no OpenCL device can be used ({found.explain()}). To get one: {discovery.FIX}"


def format_report(report: dict[str, Any]) -> str:
    """The report as text for a terminal."""
    unusable = "" if report["cache_usable"] or not report["cache_folder"] else " (not usable)"
    lines = [
        f"Python {report['python']}, pyopencl {report['pyopencl'] or 'not installed'}",
        f"loader: {report['loader'] or 'none'}",
        f"cache: {report['cache_folder'] or 'switched off'}{unusable}",
        "",
        f"Drivers (searched: {', '.join(report['searched'])})",
    ]
    for driver in report["drivers"]:
        detail = f": {driver['detail']}" if driver["detail"] else ""
        lines.append(f"  {driver['state']:9} {driver['library']}{detail}")
    if not report["drivers"]:
        lines.append("  none")
    lines += [f"  platform without devices: {name}" for name in report["platforms_without_devices"]]
    lines += ["", "Devices"]
    for device in report["devices"]:
        lines += _device_lines(device, report["default"])
    lines += [f"note: {note}" for note in report["notes"]]
    if report["error"]:
        lines.append(f"error: {report['error']}")
    if report["advice"]:
        lines += ["", report["advice"]]
    return "\n".join(lines)


def _device_lines(device: dict[str, Any], default: str) -> list[str]:
    facts = device["capabilities"]
    star = "*" if device["name"] == default else " "
    title = f"{star} {device['name']:9} {device['state']:9} {device.get('device', 'NumPy')}"
    if "platform" in device:
        title += f" ({device['platform']}, {device['driver']})"
    lines = [title]
    if device.get("reason"):
        lines.append(f"      {device['reason']}")
    if facts and device["name"] != "numpy":
        types = [name for name in ("fp64", "fp16") if facts[name]]
        lines.append(
            f"      {facts['compute_units']} units, float{facts['native_vector_width_float']} "
            f"vectors, {facts['global_memory'] / 2**30:.1f} GiB, "
            f"{facts['max_allocation'] / 2**30:.1f} GiB in one buffer, "
            f"{', '.join(types) or 'float32 only'}"
            + (", shares memory with NumPy" if facts["zero_copy"] else "")
        )
        lines += _group_lines(facts)
    for name, state in device.get("canaries", {}).items():
        if state != "ok":
            lines.append(f"      canary {name}: {state}")
    return lines


def _group_lines(facts: dict[str, Any]) -> list[str]:
    """What work-items of a group can do together."""
    said = []
    if facts["subgroups"]:
        size = facts["subgroup_size"]
        said.append(f"sub-groups of {size}" if size else "sub-groups")
    if facts["matrix_extensions"]:
        said.append(f"matrix instructions ({', '.join(facts['matrix_extensions'])}), not used")
    return [f"      {', '.join(said)}"] if said else []
