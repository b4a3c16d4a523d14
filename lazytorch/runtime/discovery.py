"""Finding OpenCL drivers and devices; nothing here runs before a device is first used.

The OpenCL loader knows only the system's drivers. A driver installed by pip lies in the
environment's ``lib`` folder, where no loader looks and where its own .icd file does not point.
So a private folder is made with one .icd file for each driver, the environment's included, and
the loader is pointed there before pyopencl asks it for platforms. What the user set himself
(``OCL_ICD_VENDORS``, ``OCL_ICD_FILENAMES``) is respected.
"""

from __future__ import annotations

import glob
import importlib
import os
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

from lazytorch.errors import LazytorchWarning
from lazytorch.runtime import binding
from lazytorch.runtime.cache import FileCache
from lazytorch.runtime.drivers import (
    INTEL_LIBRARY,
    Driver,
    check_drivers,
    list_drivers,
    pyopencl_package,
    vendors_folder,
)

FIX = 'pip install "lazytorch[cpu]"'


@dataclass
class Candidate:
    """One OpenCL device, before anybody trusts it. ``index`` is N in ``opencl:N``."""

    index: int
    device: Any
    platform_name: str
    platform_version: str
    device_name: str
    driver_version: str
    family: str
    score: int

    @property
    def identity(self) -> tuple[str, ...]:
        """What a verdict or a binary for this device depends on."""
        return (
            self.platform_name,
            self.platform_version,
            self.device_name,
            self.driver_version,
            processor_features() if self.family == "cpu" else "",
        )


@dataclass
class Discovery:
    """What was found and everything that was tried."""

    candidates: list[Candidate] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)
    empty_platforms: list[str] = field(default_factory=list)
    loader: str = ""
    pyopencl_version: str = ""
    vendors_variable: str = ""
    notes: list[str] = field(default_factory=list)
    error: str = ""

    def explain(self) -> str:
        """One sentence about why there is no device, for a warning."""
        reasons = [self.error] if self.error else []
        reasons += [
            f"{driver.library}: {driver.detail or driver.state}"
            for driver in self.drivers
            if driver.state in ("failed", "crashed")
            or (driver.state == "missing" and not driver.found_in.startswith(sys.prefix))
        ]
        reasons += [f"platform {name!r} has no devices" for name in self.empty_platforms]
        reasons += self.notes
        where = ", ".join(self.searched) or "nowhere"
        return f"searched {where}" + (": " + "; ".join(reasons) if reasons else "")


_found: Discovery | None = None
_module: Any = None


def pyopencl() -> Any:
    """The pyopencl module, imported with the loader pointed at every driver.

    Raises ``ImportError`` when it is not installed.
    """
    if _module is None:
        discover()
    if _module is None:
        raise ImportError("pyopencl is not available: " + discover().error)
    return _module


def discover() -> Discovery:
    """Find every driver and device, once per process."""
    global _found
    if _found is None:
        _found = _discover()
    return _found


def child_environment() -> dict[str, str]:
    """The variables of a process that has to find the modules and drivers of this one."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    vendors = discover().vendors_variable
    if vendors:
        environment["OCL_ICD_VENDORS"] = vendors
    return environment


def child_command(script: str, candidate: Candidate) -> list[str]:
    """What starts a process for one device: the script, which is told the device by its names.

    Raises ``OSError`` where this process is no Python interpreter that could run it.
    """
    if not has_interpreter():
        raise OSError("this program has no Python interpreter of its own to run a script with")
    names = (candidate.platform_name, candidate.device_name, candidate.driver_version)
    return [sys.executable, script, *names]


def has_interpreter() -> bool:
    """Whether a Python interpreter runs this, rather than a frozen or embedding program."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def loaded() -> bool:
    """Whether drivers were loaded into this process."""
    return _module is not None


def _discover() -> Discovery:
    global _module
    result = Discovery()
    if pyopencl_package() is None:
        result.error = "pyopencl is not installed"
        result.searched = ["the Python environment"]
        return result
    already = "pyopencl" in sys.modules
    before = {name: os.environ.get(name) for name in ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES")}
    _point_loader(result)
    try:
        _module = importlib.import_module("pyopencl")
        binding.prepare(_module)
        result.pyopencl_version = str(_module.VERSION_TEXT)
        result.loader = _loader_path()
        platforms = _module.get_platforms()
    except Exception as error:
        # ImportError without a loader; cl.LogicError (PLATFORM_NOT_FOUND_KHR) without a driver.
        result.error = f"{type(error).__name__}: {error}".strip()
        platforms = []
    result.candidates = _candidates(platforms, result)
    if already and result.vendors_variable and not _has_environment_driver(result):
        result.notes.append(
            "pyopencl was imported before lazytorch was used, so the loader did not see the "
            "drivers of the environment; import lazytorch first or set OCL_ICD_VENDORS="
            + result.vendors_variable
        )
    # The variable has done its work; children of this process find their own way.
    if result.vendors_variable and before["OCL_ICD_VENDORS"] is None:
        os.environ.pop("OCL_ICD_VENDORS", None)
    if not result.candidates:
        check_drivers(result.drivers, strict=True)
    return result


def _has_environment_driver(result: Discovery) -> bool:
    wanted = any(INTEL_LIBRARY in driver.library for driver in result.drivers)
    return not wanted or any("Intel" in item.platform_name for item in result.candidates)


def _loader_path() -> str:
    package = pyopencl_package()
    if package is None or not package.submodule_search_locations:
        return ""
    bundled = glob.glob(os.path.join(package.submodule_search_locations[0], ".libs", "*OpenCL*"))
    return bundled[0] if bundled else "the system's libOpenCL"


# drivers


def _point_loader(result: Discovery) -> None:
    """Set OCL_ICD_VENDORS to a folder naming every driver, unless the user set a variable."""
    for variable in ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES"):
        value = os.environ.get(variable)
        if value:
            result.searched.append(f"{variable}={value}")
            result.notes.append(f"{variable} is set by the user; lazytorch adds no drivers")
            return
    result.drivers = list_drivers(result.searched)
    if not sys.platform.startswith("linux"):
        return
    unknown = [item for item in result.drivers if item.state == "untested"]
    check_drivers([item for item in unknown if INTEL_LIBRARY not in item.library])
    usable = [item for item in result.drivers if item.state in ("ok", "untested")]
    for driver in result.drivers:
        if driver.state == "crashed":
            warnings.warn(
                f"LT004: the OpenCL driver {driver.library} crashed while it was loaded and is "
                f"skipped ({driver.detail})",
                LazytorchWarning,
                stacklevel=2,
            )
    if usable:
        result.vendors_variable = str(vendors_folder(usable))
        os.environ["OCL_ICD_VENDORS"] = result.vendors_variable


# devices


def _candidates(platforms: list[Any], result: Discovery) -> list[Candidate]:
    found: list[Candidate] = []
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except Exception:
            devices = []
        if not devices:
            result.empty_platforms.append(platform.name)
        for device in devices:
            found.append(_candidate(platform, device))
    found.sort(key=lambda item: (-item.score, item.platform_name, item.device_name))
    for index, item in enumerate(found):
        item.index = index
    return found


def _candidate(platform: Any, device: Any) -> Candidate:
    is_cpu = bool(device.type & _module.device_type.CPU)
    return Candidate(
        index=-1,
        device=device,
        platform_name=platform.name.strip(),
        platform_version=platform.version.strip(),
        device_name=device.name.strip(),
        driver_version=device.driver_version.strip(),
        family="cpu" if is_cpu else "gpu",
        score=_score(platform.name, device, is_cpu),
    )


def _score(platform_name: str, device: Any, is_cpu: bool) -> int:
    """Order among devices: CPU devices first (``cpu`` is the default), better drivers first."""
    if is_cpu:
        ranks = (("Intel", 300), ("Portable Computing", 200), ("Oclgrind", 110))
        return next((rank for word, rank in ranks if word in platform_name), 120)
    try:
        discrete = not device.host_unified_memory
    except Exception:
        discrete = False
    return 50 if discrete else 40


def processor_features() -> str:
    """The instruction sets of this processor: a binary built for another one may crash here,
    and the device's name does not tell them apart."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            text = file.read(16384)
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return FileCache.key(line)[:16]
    return ""
