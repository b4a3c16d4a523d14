"""Names to devices: ``cpu``, ``opencl:N``, ``numpy``, ``cuda:i``.

Knows which device stands behind a name and opens it once. A device is trusted only after its
probe; one that fails is skipped, and a warning names it.

A process may be barred from OpenCL: a forked child of one that used it, and a data loader's
worker. ``cpu`` is NumPy there. A forked child has its parent's memory, so NumPy also stands in,
under their names, for the parent's devices that computed in it.
"""

from __future__ import annotations

import os
import threading
import warnings

from lazytorch import config
from lazytorch.errors import DeviceError, LazytorchWarning
from lazytorch.runtime import discovery, probe
from lazytorch.runtime.device import Device
from lazytorch.runtime.discovery import Candidate
from lazytorch.runtime.numpy_device import NumpyDevice
from lazytorch.runtime.opencl import OpenCLDevice, forked_from_user

_GPU_NAMES = ("cuda", "mps", "xpu", "hip")
_devices: dict[str, Device] = {}
_resolved: dict[str, str] = {}
_warned: set[str] = set()
_lock = threading.RLock()
_barred_because = ""


def default_device_name() -> str:
    """The runtime name of the device new tensors live on: LAZYTORCH_DEVICE, else ``cpu``'s."""
    return resolve(config.get("DEVICE") or "cpu")


def get_device(name: str) -> Device:
    """The device called ``name`` (any name :func:`resolve` takes), opened at first use.

    >>> get_device("numpy").name
    'numpy'
    """
    device = _devices.get(name)
    if device is None:
        canonical = resolve(name)
        with _lock:
            device = _devices.get(canonical)
            if device is None:
                device = _devices[canonical] = _open(canonical)
    return device


def available_devices() -> list[str]:
    """Names :func:`get_device` can open: those not known to be broken, and ``numpy``."""
    if _barred():
        return ["numpy"]
    names = [
        f"opencl:{item.index}"
        for item in discovery.discover().candidates
        if not probe.known_broken(item)
    ]
    return [*names, "numpy"]


def gpu_count() -> int:
    """How many OpenCL GPUs there are: what ``cuda.device_count()`` tells."""
    return len(_gpus())


def resolve(name: str) -> str:
    """The runtime name (``opencl:N`` or ``numpy``) behind any device name.

    ``cpu`` is the best working OpenCL CPU device, NumPy when there is none (with one warning).
    ``RuntimeError`` for names that are no device, ``DeviceError`` for devices that are not there.
    """
    canonical = _resolved.get(name)
    if canonical is None:
        canonical = _resolved[name] = _resolve(name)
    return canonical


def use_numpy_only(because: str) -> None:
    """Open no OpenCL device in this process from now on; ``because`` tells users why."""
    global _barred_because
    _barred_because = because
    for name, device in list(_devices.items()):
        if device.kind != "numpy":
            del _devices[name]
    for name, canonical in list(_resolved.items()):
        if canonical != "numpy" and canonical not in _devices:
            del _resolved[name]
    chosen = config.get("DEVICE")
    if chosen and chosen != "numpy" and chosen not in _resolved:
        config.set("DEVICE", "numpy")


def _resolve(name: str) -> str:
    base, _, number = name.partition(":")
    if number and not number.isdecimal():
        raise RuntimeError(f"Invalid device string: '{name}'")
    if base == "numpy":
        return "numpy"
    if base == "cpu":
        return _best_cpu()
    if base in _GPU_NAMES:
        return _gpu(base, int(number or 0))
    if base in ("opencl", "ocl"):
        if _barred():
            return f"opencl:{int(number or 0)}"
        return f"opencl:{_candidate(int(number or 0)).index}"
    raise RuntimeError(
        "Expected one of cpu, numpy, opencl, ocl, cuda, mps, xpu device type at start of device "
        f"string: {name}"
    )


def _best_cpu() -> str:
    if _barred():
        return "numpy"
    with _lock:
        found = discovery.discover()
        skipped = []
        for item in found.candidates:
            if item.family != "cpu":
                continue
            if _trusted(item):
                return f"opencl:{item.index}"
            skipped.append(item.device_name)
        reason = f"all failed their probe: {', '.join(skipped)}" if skipped else found.explain()
        _warn_once(
            "LT001",
            f"no OpenCL CPU device ({reason}); computing with NumPy, which is slower. "
            f"To fix it: {discovery.FIX}. Details: python -m lazytorch devices --check",
        )
        return "numpy"


def _gpus() -> list[Candidate]:
    if _barred():
        return []
    return [item for item in discovery.discover().candidates if item.family == "gpu"]


def _gpu(base: str, index: int) -> str:
    gpus = _gpus()
    if _barred():
        raise _barred_error(f"{base}:{index}")
    if not gpus:
        kind = {"cuda": "NVIDIA GPU", "mps": "Apple GPU", "xpu": "Intel GPU"}.get(base, "GPU")
        raise DeviceError(
            f"device '{base}' needs an OpenCL GPU and none was found ({kind} drivers bring "
            f"OpenCL; {discovery.discover().explain()}). Use device 'cpu'."
        )
    if index >= len(gpus):
        raise DeviceError(
            f"invalid device ordinal: '{base}:{index}', there are {len(gpus)} OpenCL GPUs"
        )
    return f"opencl:{gpus[index].index}"


def _candidate(index: int) -> Candidate:
    candidates = discovery.discover().candidates
    if index >= len(candidates):
        raise DeviceError(
            f"there is no device 'opencl:{index}': {len(candidates)} OpenCL devices were found "
            f"({discovery.discover().explain()})"
        )
    return candidates[index]


def _trusted(item: Candidate) -> bool:
    """Whether a device passed its probe; a warning, once, when it did not."""
    verdict = probe.verdict(item)
    if verdict.usable:
        return True
    _warn_once(
        f"LT004 {item.index}",
        f"OpenCL device opencl:{item.index} ({item.device_name}, {item.platform_name} "
        f"{item.driver_version}) failed its probe and is skipped: {verdict.reason}. After a "
        "driver update: python -m lazytorch devices --check",
    )
    return False


def _open(canonical: str) -> Device:
    if canonical == "numpy":
        return NumpyDevice()
    if _barred():
        raise _barred_error(canonical)
    item = _candidate(int(canonical.partition(":")[2]))
    verdict = probe.verdict(item)
    if not verdict.usable:
        raise DeviceError(
            f"{canonical} ({item.device_name}, {item.platform_name}) failed its probe: "
            f"{verdict.reason}. Use another device, or LAZYTORCH_PROBE=0 to use it anyway."
        )
    if verdict.masked:
        _warn_once(
            f"LT005 {canonical}",
            f"{canonical} ({item.device_name}, {item.platform_name} {item.driver_version}) "
            f"computes wrongly with: {', '.join(verdict.masked)}; these are not used",
        )
    return OpenCLDevice(item, verdict.masked)


def _barred() -> bool:
    return bool(_barred_because) or forked_from_user()


def _barred_error(name: str) -> DeviceError:
    because = _barred_because or (
        "in a forked child of a process that used OpenCL. Use device 'numpy' here, or start the "
        "child with multiprocessing.get_context('spawn')."
    )
    return DeviceError(f"{name} cannot be opened {because}")


def _inherit() -> None:
    """After a fork: the child's locks are held by no thread of the parent, and NumPy stands in
    for the devices that computed in memory."""
    global _lock
    _lock = threading.RLock()
    for name, device in list(_devices.items()):
        if device.kind == "numpy":
            device.renew_locks()
        elif device.inherited:
            _devices[name] = NumpyDevice(name)
        else:
            del _devices[name]
    for name, canonical in list(_resolved.items()):
        if forked_from_user() and canonical not in ("numpy", *_devices):
            del _resolved[name]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit)


def _warn_once(code: str, text: str) -> None:
    if code not in _warned:
        _warned.add(code)
        warnings.warn(f"{code.split()[0]}: {text}", LazytorchWarning, stacklevel=2)
