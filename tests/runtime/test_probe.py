"""Probing: what a bad driver does, and what is made of it.

The bad driver is a fake ``pyopencl`` in front of the real one in the probe's process.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lazytorch import config
from lazytorch.errors import DeviceError, LazytorchWarning
from lazytorch.runtime import canary, probe, registry
from lazytorch.runtime.capabilities import read_capabilities
from lazytorch.runtime.discovery import discover

FAKE = """
import os, sys, time
folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
del sys.modules["pyopencl"]
import pyopencl as real
deed, victim = os.environ["FAKE_DEED"].split()
launch = real.enqueue_nd_range_kernel
def enqueue(queue, kernel, *rest):
    if kernel.function_name == victim:
        if deed == "skip": return None
        if deed == "raise": raise RuntimeError("no such luck")
        if deed == "abort": os.abort()
        if deed == "exit": os._exit(3)
        if deed == "hang": time.sleep(60)
    return launch(queue, kernel, *rest)
real.enqueue_nd_range_kernel = enqueue
if victim == "import":
    if deed == "raise": raise ImportError("broken package")
    os.abort()
sys.modules["pyopencl"] = real
"""


@pytest.fixture
def candidate():
    found = discover().candidates
    if not found:
        pytest.skip("no OpenCL device")
    return found[0]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch, candidate):
    """Make the probe's driver do something, and forget every verdict."""
    package = tmp_path / "fake" / "pyopencl"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    monkeypatch.setattr(probe, "_verdicts", {})
    monkeypatch.setattr(probe, "TESTED", ())

    def arrange(deed: str):
        monkeypatch.setenv("FAKE_DEED", deed)
        return candidate

    with config.override(CACHE_DIR=str(tmp_path / "cache"), CACHE=True, PROBE=True):
        yield arrange


def test_good_drivers_pass(device, tmp_path):
    verdict, results = probe.recheck(device.candidate)
    assert verdict.state == "ok"
    assert results["done"] == "ok"
    assert len(results) >= 12


@pytest.mark.parametrize("capability", ["local_memory", "zero_copy"])
def test_a_wrong_answer_masks_the_capability(fake, capability):
    verdict = probe.verdict(fake(f"skip {capability}"))
    assert verdict.usable
    assert verdict.masked == (capability,)
    facts = read_capabilities(registry.discovery.pyopencl(), fake("skip x"), verdict.masked)
    assert facts.masked == (capability,)
    assert facts.zero_copy == (capability != "zero_copy")
    assert (facts.local_memory == 0) == (capability == "local_memory")


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("skip strided", "wrong"),
        ("raise vectors", "no such luck"),
        ("abort math", "signal 6 in canary 'math'"),
        ("exit fp64", "exit status 3 in canary 'fp64'"),
        ("abort import", "signal 6"),
    ],
)
def test_anything_worse_disables_the_device(fake, deed, told):
    item = fake(deed)
    verdict = probe.verdict(item)
    assert not verdict.usable
    assert told in verdict.reason
    assert probe.known_broken(item)


def test_a_hang_is_ended(fake, monkeypatch):
    # Long enough for a busy machine to come to the canary that hangs.
    monkeypatch.setattr(probe, "TIMEOUT", 5.0)
    verdict = probe.verdict(fake("hang elementwise"))
    assert not verdict.usable
    assert "no answer in 5 s in canary 'elementwise'" in verdict.reason


def test_a_probe_that_cannot_run_accuses_nobody(fake):
    verdict = probe.verdict(fake("raise import"))
    assert verdict.usable
    assert "broken package" in verdict.reason


def test_verdicts_are_kept(fake, monkeypatch):
    item = fake("abort math")
    first = probe.verdict(item)
    monkeypatch.setattr(probe, "_verdicts", {})
    monkeypatch.setattr(probe, "_run", lambda item: pytest.fail("probed twice"))
    assert probe.verdict(item) == first


def test_the_probe_can_be_switched_off(fake):
    item = fake("abort math")
    with config.override(PROBE=False):
        assert probe.verdict(item).usable
        assert not probe.known_broken(item)


def test_tested_drivers_are_probed_beside_the_work(fake, monkeypatch):
    item = fake("skip local_memory")
    monkeypatch.setattr(probe, "TESTED", ((item.platform_name, item.driver_version),))
    waiting = []
    monkeypatch.setattr(probe.atexit, "register", waiting.append)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised in the thread
        assert probe.verdict(item).state == "pending"
        for thread in probe.threading.enumerate():
            if thread.name == "lazytorch-probe":
                thread.join()
    assert probe.known(item).masked == ("local_memory",)
    waiting[0]()


def test_a_broken_device_is_skipped_and_named(fake, monkeypatch):
    item = fake("abort math")
    monkeypatch.setattr(registry, "_resolved", {})
    monkeypatch.setattr(registry, "_devices", {})
    monkeypatch.setattr(registry, "_warned", set())
    monkeypatch.setattr(discover(), "candidates", [item])
    with pytest.warns(LazytorchWarning) as caught:
        assert registry.resolve("cpu") == "numpy"
    texts = [str(warning.message) for warning in caught]
    assert any("LT004" in text and item.device_name in text for text in texts)
    assert any("LT001" in text for text in texts)
    with pytest.raises(DeviceError, match="failed its probe"):
        registry.get_device("opencl:0")
    assert registry.available_devices() == ["numpy"]


@pytest.mark.parametrize("name", canary.SOURCES)
def test_canaries_notice_a_wrong_answer(name):
    generator = np.random.default_rng(0)
    a, b = (generator.uniform(-3, 3, canary.COUNT).astype(np.float32) for _ in range(2))
    right = np.asarray(canary.expected(name, a, b)).astype(np.float32)
    assert canary.judge(name, right, a, b) == "ok"
    middle = right.size // 2
    right[middle] += max(0.01, abs(right[middle]) / 1000)
    assert "wrong" in canary.judge(name, right, a, b)
    assert "wrong" in canary.judge(name, np.full(canary.COUNT, np.nan, np.float32), a, b)


def test_sub_groups_are_tried_where_a_device_has_them() -> None:
    """Only GPUs are asked; this runs the same canary on processors that have sub-groups."""
    from lazytorch.runtime import available_devices, get_device

    tried = 0
    for name in available_devices():
        device = get_device(name)
        if device.kind != "opencl" or not device.capabilities.subgroups:
            continue
        import pyopencl as cl

        kernels = canary.build_kernels(cl, device.context, device.cl_device, ["subgroups"])
        assert not isinstance(kernels["subgroups"], Exception), kernels["subgroups"]
        a = np.random.default_rng(7).uniform(-3, 3, canary.COUNT).astype(np.float32)
        queue = cl.CommandQueue(device.context)
        assert canary.run(cl, queue, "subgroups", kernels["subgroups"], a, a.copy()) == "ok"
        tried += 1
    if not tried:
        pytest.skip("no device has sub-groups")
