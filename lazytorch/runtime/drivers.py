"""OpenCL drivers on this machine: which libraries there are, and which of them can be loaded.

Knows files and folders; never imports pyopencl. A driver may crash while it is loaded, so it is
loaded once in a subprocess first; the verdict is kept on disk.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from lazytorch import logs
from lazytorch.runtime.cache import FileCache

SYSTEM_VENDORS = Path("/etc/OpenCL/vendors")
INTEL_LIBRARY = "libintelocl.so"
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


def pyopencl_package() -> ModuleSpec | None:
    """Where pyopencl is installed, without importing it; None when it is not."""
    try:
        return importlib.util.find_spec("pyopencl")
    except ValueError:  # somebody put None in sys.modules to keep it out
        return None


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
            driver = read_icd(icd)
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
    package = pyopencl_package()
    if package is None or not package.submodule_search_locations:
        return []
    return [Path(package.submodule_search_locations[0]) / ".libs"]


def read_icd(icd: Path) -> Driver | None:
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
        with contextlib.suppress(OSError):
            stamp = str(os.stat(driver.found_in).st_mtime_ns)
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


def vendors_folder(drivers: list[Driver]) -> Path:
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
            logs.write("cache", lambda: complaint)
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
