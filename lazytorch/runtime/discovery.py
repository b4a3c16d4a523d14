"""Finding OpenCL drivers and devices; nothing here runs before a device is first used.

The OpenCL loader knows only the system's drivers. A driver installed by pip lies in the
environment's ``lib`` folder, where no loader looks and where its own .icd file does not point.
So a private folder is made with one .icd file for each driver, the environment's included, and
the loader is pointed there before pyopencl asks it for platforms. What the user set himself
(``OCL_ICD_VENDORS``, ``OCL_ICD_FILENAMES``) is respected.

A driver may crash while it is loaded. Drivers other than the pip one are therefore loaded once
in a subprocess first; the verdict is kept on disk.
"""

from __future__ import annotations

import atexit
import glob
import importlib
import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazytorch import log
from lazytorch.errors import LazytorchWarning
from lazytorch.runtime import binding
from lazytorch.runtime.cache import FileCache

SYSTEM_VENDORS = Path("/etc/OpenCL/vendors")
INTEL_LIBRARY = "libintelocl.so"
FIX = 'pip install "lazytorch[cpu]"'
_LOAD_TIMEOUT = 20.0

# Run in a subprocess: load each driver and count its platforms, announcing each one first so
# that a crash names its culprit. Plain ctypes, because importing pyopencl would cost more.
_LOAD_CHECK = """
import ctypes, json, sys
for path in sys.argv[1:]:
    print(json.dumps([path, "start", ""]), flush=True)
    try:
        library = ctypes.CDLL(path)
        get = library.clGetExtensionFunctionAddress
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        address = get(b"clIcdGetPlatformIDsKHR")
        if not address:
            raise OSError("no clIcdGetPlatformIDsKHR in it")
        signature = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint))
        count = ctypes.c_uint(0)
        code = signature(address)(0, None, ctypes.byref(count))
        print(json.dumps([path, "ok", "%d platforms (code %d)" % (count.value, code)]), flush=True)
    except Exception as error:
        print(json.dumps([path, "failed", str(error)]), flush=True)
"""


@dataclass
class Driver:
    """One installable client driver: a shared library named by an .icd file."""

    library: str
    found_in: str
    state: str = "untested"  # untested, ok, failed, crashed, missing, duplicate
    detail: str = ""


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


def loaded() -> bool:
    """Whether drivers were loaded into this process."""
    return _module is not None


def _discover() -> Discovery:
    global _module
    result = Discovery()
    if importlib.util.find_spec("pyopencl") is None:
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
    except Exception as error:  # noqa: BLE001 - pyopencl may fail in any way
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
    package = importlib.util.find_spec("pyopencl")
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
        result.vendors_variable = str(_vendors_folder(usable))
        os.environ["OCL_ICD_VENDORS"] = result.vendors_variable


def list_drivers(searched: list[str]) -> list[Driver]:
    """Drivers of the environment first, then the system's and those bundled with pyopencl."""
    drivers: list[Driver] = []
    for folder in _environment_folders():
        searched.append(str(folder))
        library = folder / INTEL_LIBRARY
        if library.exists() and not drivers:
            drivers.append(Driver(str(library), str(folder)))
    for folder in [SYSTEM_VENDORS, Path(sys.prefix) / "etc/OpenCL/vendors", *_bundled_vendors()]:
        searched.append(str(folder))
        for icd in sorted(folder.glob("*.icd")) if folder.is_dir() else ():
            driver = _read_icd(icd)
            if driver is not None and all(driver.library != item.library for item in drivers):
                if driver.state == "untested":
                    _mark_duplicate(driver, drivers)
                drivers.append(driver)
    return drivers


def _environment_folders() -> list[Path]:
    """``lib`` folders where pip puts the data files of a package."""
    roots = [Path(sys.prefix), Path(sys.exec_prefix)]
    numpy_spec = importlib.util.find_spec("numpy")
    packages = [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    if numpy_spec is not None and numpy_spec.origin:
        packages.append(Path(numpy_spec.origin).parents[1])
    # <root>/lib/python3.x/site-packages
    roots += [package.parents[2] for package in packages if len(package.parents) > 2]
    if site.ENABLE_USER_SITE and site.USER_BASE:
        roots.append(Path(site.USER_BASE))
    return list(dict.fromkeys(root / "lib" for root in roots))


def _bundled_vendors() -> list[Path]:
    package = importlib.util.find_spec("pyopencl")
    if package is None or not package.submodule_search_locations:
        return []
    return [Path(package.submodule_search_locations[0]) / ".libs"]


def _read_icd(icd: Path) -> Driver | None:
    """The driver an .icd file names; None when it names a file that does not exist."""
    try:
        library = icd.read_text(errors="replace").strip().splitlines()[0].strip()
    except (OSError, IndexError):
        return None
    if os.sep in library and not os.path.isabs(library):
        library = str((icd.parent / library).resolve())
    if os.path.isabs(library) and not os.path.exists(library):
        return Driver(library, str(icd), "missing", "the file does not exist")
    return Driver(library, str(icd))


def _mark_duplicate(driver: Driver, known: list[Driver]) -> None:
    """Two copies of Intel's runtime in one process fight over their thread pools."""
    if os.path.basename(driver.library).startswith(INTEL_LIBRARY) and any(
        INTEL_LIBRARY in item.library for item in known
    ):
        driver.state, driver.detail = "duplicate", "the environment's own copy is used"


def check_drivers(drivers: list[Driver], strict: bool = False) -> None:
    """Load drivers in a subprocess and fill in their states. Verdicts are kept on disk;
    ``strict`` asks again."""
    cache = FileCache("probe")
    todo: list[Driver] = []
    for driver in drivers:
        stored = None if strict else cache.read(_driver_key(driver))
        if driver.state in ("missing", "duplicate"):
            continue
        if stored is None:
            todo.append(driver)
        else:
            driver.state, driver.detail = json.loads(stored)
    while todo:
        outcome, ending = _load_in_child([driver.library for driver in todo])
        for driver in todo:
            state = outcome.get(driver.library)
            if state is None:
                continue
            driver.state, driver.detail = state
            if driver.state == "start":
                driver.state, driver.detail = "crashed", ending
            cache.write(_driver_key(driver), json.dumps([driver.state, driver.detail]).encode())
        left = [driver for driver in todo if driver.library not in outcome]
        if len(left) == len(todo):
            for driver in todo:
                driver.detail = f"could not be checked: {ending}"
            return
        todo = left


def _driver_key(driver: Driver) -> str:
    try:
        status = os.stat(driver.library)
        stamp = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        stamp = ""  # a bare name, which the linker resolves
        try:
            stamp = str(os.stat(driver.found_in).st_mtime_ns)
        except OSError:
            pass
    return FileCache.key("driver", driver.library, stamp)


def _load_in_child(libraries: list[str]) -> tuple[dict[str, tuple[str, str]], str]:
    """States by library, and how the child ended."""
    command = [sys.executable, "-I", "-S", "-c", _LOAD_CHECK, *libraries]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LOAD_TIMEOUT, check=False
        )
        output, ending = done.stdout, f"exit status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        ending = f"no answer in {_LOAD_TIMEOUT:.0f} s"
    except OSError as error:
        return {}, str(error)
    outcome: dict[str, tuple[str, str]] = {}
    for line in output.splitlines():
        try:
            library, state, detail = json.loads(line)
        except ValueError:
            continue  # a driver that prints
        outcome[library] = (state, detail)
    return outcome, ending


def _vendors_folder(drivers: list[Driver]) -> Path:
    """A folder with one .icd file for each driver: in the cache, or temporary without one."""
    text = "\n".join(driver.library for driver in drivers)
    cache = FileCache("drivers")
    base = cache.folder
    if base is not None:
        folder = base / FileCache.key(text)[:16]
        try:
            _write_icds(folder, drivers)
            return folder
        except OSError as error:
            complaint = f"cannot write {folder}: {error}"
            log.write("cache", lambda: complaint)
    folder = Path(tempfile.mkdtemp(prefix="lazytorch-drivers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write_icds(folder, drivers)
    return folder


def _write_icds(folder: Path, drivers: list[Driver]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    wanted = {f"{number:02d}.icd": driver.library + "\n" for number, driver in enumerate(drivers)}
    for stray in folder.glob("*.icd"):
        if stray.name not in wanted:
            stray.unlink(missing_ok=True)
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(errors="replace") != text:
            temporary = folder / f"{name}.{os.getpid()}"
            temporary.write_text(text)
            os.replace(temporary, path)


# devices


def _candidates(platforms: list[Any], result: Discovery) -> list[Candidate]:
    found: list[Candidate] = []
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except Exception:  # noqa: BLE001 - DEVICE_NOT_FOUND is how a driver says "none"
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
    except Exception:  # noqa: BLE001 - old drivers do not know the question
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
