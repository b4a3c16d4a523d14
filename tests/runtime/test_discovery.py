"""Finding drivers, and every way of not finding them. Each case is a process of its own."""

from __future__ import annotations

import json

import pytest

from lazytorch.errors import DeviceError
from lazytorch.runtime import drivers, registry, report
from lazytorch.runtime.discovery import discover
from lazytorch.runtime.drivers import Driver

TELL = """
import json, sys, warnings
from lazytorch import runtime
before = "pyopencl" in sys.modules
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    name = runtime.default_device_name()
    again = runtime.default_device_name()
    device = runtime.get_device(name)
    import os
print(json.dumps([name, before, "pyopencl" in sys.modules,
                  [str(item.message) for item in caught], os.environ.get("OCL_ICD_VENDORS")]))
"""


@pytest.fixture
def tell(run_python, tmp_path):
    def run(before: str = "", **variables: str):
        variables = {"LAZYTORCH_CACHE_DIR": str(tmp_path / "cache"), **variables}
        done = run_python(before + TELL, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def has_environment_driver() -> bool:
    return any("libintelocl" in item.library for item in drivers.list_drivers([]))


def test_nothing_is_set_and_the_driver_of_the_environment_is_found(tell):
    if not has_environment_driver():
        pytest.skip("no pip driver here")
    name, before, after, warnings, variable = tell(LD_LIBRARY_PATH="")
    assert (name, before, after, warnings, variable) == ("opencl:0", False, True, [], None)


def test_numpy_does_not_touch_opencl(tell):
    name, before, after, warnings, _ = tell(LAZYTORCH_DEVICE="numpy")
    assert (name, before, after, warnings) == ("numpy", False, False, [])


def test_no_pyopencl(tell):
    name, _, _, warnings, _ = tell("import sys; sys.modules['pyopencl'] = None\n")
    assert name == "numpy"
    assert len(warnings) == 1
    assert warnings[0].startswith("LT001")
    assert "pyopencl is not installed" in warnings[0]
    assert 'pip install "lazytorch[cpu]"' in warnings[0]


def test_a_pyopencl_that_does_not_load(tell, tmp_path):
    (tmp_path / "pyopencl.py").write_text("raise ImportError('libOpenCL.so.1: no such file')")
    before = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    name, _, _, warnings, _ = tell(before)
    assert name == "numpy"
    assert len(warnings) == 1
    assert "libOpenCL.so.1: no such file" in warnings[0]


@pytest.mark.parametrize("content", ["", "/no/such/library.so"])
def test_drivers_chosen_by_the_user_are_respected(tell, tmp_path, content):
    if not discover().candidates:
        pytest.skip("no pyopencl here")
    vendors = tmp_path / "vendors"
    vendors.mkdir()
    (vendors / "broken.icd").write_text(content)
    name, _, _, warnings, variable = tell(OCL_ICD_VENDORS=str(vendors))
    assert (name, variable) == ("numpy", str(vendors))
    assert len(warnings) == 1
    assert f"OCL_ICD_VENDORS={vendors}" in warnings[0]


def test_an_unwritable_cache_still_finds_the_driver(tell):
    if not has_environment_driver():
        pytest.skip("no pip driver here")
    name, _, _, warnings, _ = tell(LAZYTORCH_CACHE_DIR="/proc/nowhere")
    assert name == "opencl:0"
    assert [text[:5] for text in warnings] == ["LT002"]


def test_pyopencl_imported_before(tell):
    if not has_environment_driver():
        pytest.skip("no pip driver here")
    # The loader reads the variable at its first call, so an import alone does no harm.
    name, _, _, warnings, _ = tell("import pyopencl\n")
    assert (name, warnings) == ("opencl:0", [])


def test_a_crash_while_loading_names_its_culprit(cache_dir, monkeypatch):
    """One that fails and one that brings the process down do not hide the one after them."""
    found = [Driver("/no/such.so", "a"), Driver("falls", "b"), Driver("fine", "c")]
    asked = []

    def child(libraries):
        asked.append(libraries)
        if "falls" in libraries:
            return {"/no/such.so": ("failed", "cannot open"), "falls": ("start", "")}, "signal 6"
        return {"fine": ("ok", "1 platforms (code 0)")}, "exit status 0"

    monkeypatch.setattr(drivers, "_load_in_child", child)
    drivers.check_drivers(found, strict=True)
    assert [driver.state for driver in found] == ["failed", "crashed", "ok"]
    assert found[1].detail == "signal 6"
    assert asked[1] == ["fine"]


def test_a_library_that_is_no_driver(tmp_path, cache_dir):
    found = [Driver("libm.so.6", "x"), Driver(str(tmp_path / "text.so"), "y")]
    (tmp_path / "text.so").write_text("not a library")
    drivers.check_drivers(found)
    assert [driver.state for driver in found] == ["failed", "failed"]
    assert "clGetExtensionFunctionAddress" in found[0].detail
    again = [Driver("libm.so.6", "x")]
    drivers.check_drivers(again)
    assert again[0].detail == found[0].detail


def test_icd_files(tmp_path):
    for name, content in {
        "name": "libsomething.so.1\n",
        "missing": "/opt/nowhere/lib.so",
        "empty": "",
        "relative": "./lib.so",
    }.items():
        (tmp_path / f"{name}.icd").write_text(content)
    (tmp_path / "lib.so").write_text("")
    read = {path.stem: drivers.read_icd(path) for path in tmp_path.glob("*.icd")}
    assert read["empty"] is None
    assert read["name"].library == "libsomething.so.1"
    assert read["missing"].state == "missing"
    assert read["relative"].library == str(tmp_path / "lib.so")


def test_report_is_complete_and_readable():
    facts = report.devices_report()
    json.dumps(facts)
    text = report.format_report(facts)
    assert "numpy" in text
    for item in discover().candidates:
        assert item.device_name in text


def test_device_names():
    assert registry.resolve("numpy") == "numpy"
    for name in ("tpu", "opencl:x", "", "cpu:a"):
        with pytest.raises(RuntimeError, match=r"nvalid device string|Expected one of cpu"):
            registry.resolve(name)
    for name in ("opencl:99", "cuda:99"):
        with pytest.raises(DeviceError):
            registry.resolve(name)
    if not registry.gpu_count():
        with pytest.raises(DeviceError, match="OpenCL GPU"):
            registry.resolve("mps")


def test_the_private_folder_names_every_driver(cache_dir):
    folder = drivers.vendors_folder([Driver("/x/a.so", ""), Driver("b.so", "")])
    assert [path.read_text() for path in sorted(folder.glob("*.icd"))] == ["/x/a.so\n", "b.so\n"]
