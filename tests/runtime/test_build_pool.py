"""Long programs compiled in several processes: same results, same errors, nothing left behind."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from lazytorch import config
from lazytorch.errors import BuildError
from lazytorch.runtime import build_pool, counters, get_device
from lazytorch.runtime.discovery import discover

CPUS = [f"opencl:{item.index}" for item in discover().candidates if item.family == "cpu"]


@pytest.fixture(params=CPUS or [None])
def device(request, cache_dir):
    if request.param is None:
        pytest.skip("no OpenCL device of a processor")
    with config.override(BUILD_PROCESSES=2):
        yield get_device(request.param)
    build_pool.stop_all()


def parts(label, count=4):
    """Programs that nobody compiled before: kernel i writes i."""
    names = [f"{label}_{os.getpid()}_{time.monotonic_ns()}_{i}" for i in range(count)]
    return [
        (f"kernel void {name}(global float* a) {{ a[0] = {i}; }}", [name])
        for i, name in enumerate(names)
    ]


def values(device, launchers):
    out = device.allocate(4)
    found = []
    for launcher in launchers.values():
        launcher([out], (1,), None)
        found.append(float(out.as_numpy(np.float32, (1,))[0]))
    return found


def ready_worker(device):
    """A worker that has opened its device and compiled something."""
    pool = build_pool.pool_of(device.candidate)
    pool.start(1)
    (job,) = pool.submit(["kernel void warm(global int* a) { a[0] = 1; }"], "-cl-std=CL1.2")
    assert job.wait()
    return pool.workers[0]


def test_workers_compile_and_their_binaries_run(device, monkeypatch):
    ready_worker(device)
    claim = build_pool.Job.claim
    taken = set()

    def leave_it(job):
        """This process claims a job only when the worker has."""
        while threading.current_thread() is threading.main_thread() and job not in taken:
            time.sleep(0.01)
        won = claim(job)
        taken.add(job)
        return won

    monkeypatch.setattr(build_pool.Job, "claim", leave_it)
    compiled = []
    build = type(device).build
    monkeypatch.setattr(
        type(device), "_compile",
        lambda self, source, *rest: compiled.append(source),
    )  # fmt: skip
    built = counters.programs_built
    cut = parts("worker")
    launchers = device.build_parts(cut)
    assert values(device, launchers) == [0, 1, 2, 3]
    assert not compiled and counters.programs_built == built + 4
    # What a worker compiled is in the cache like anything else.
    device._kept.clear()
    assert values(device, {k: v for s, n in cut for k, v in build(device, s, n).items()})
    assert not compiled


def test_a_worker_killed_in_the_middle_is_replaced_by_this_process(device, monkeypatch):
    worker = ready_worker(device)
    exchange = build_pool.Worker._compile

    def killed(self, job):
        self.process.kill()
        return exchange(self, job)

    monkeypatch.setattr(build_pool.Worker, "_compile", killed)
    assert values(device, device.build_parts(parts("killed"))) == [0, 1, 2, 3]
    assert worker.process.wait(5) is not None


def test_a_source_that_does_not_compile(device):
    ready_worker(device)
    cut = [
        *parts("right", 3),
        ("kernel void wrong(global float* a) { a[0] = missing; }", ["wrong"]),
    ]
    with pytest.raises(BuildError, match="missing") as there:
        device.build_parts(cut)
    with pytest.raises(BuildError) as here:
        device.build(*cut[-1])
    assert there.value.log.count("missing") == here.value.log.count("missing")
    assert "kernel wrong did not compile" in str(there.value)


def test_idle_workers_end(device, monkeypatch):
    monkeypatch.setattr(build_pool, "IDLE_SECONDS", 0.1)
    worker = ready_worker(device)
    assert worker.process.wait(5) is not None


SCRIPT = """
import os, sys, time
from lazytorch import runtime
from lazytorch.runtime import build_pool
device = runtime.get_device(os.environ["NAME"])
pool = build_pool.pool_of(device.candidate)
pool.start(2)
print(*[worker.process.pid for worker in pool.workers], flush=True)
"""


@pytest.mark.parametrize("ending", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_workers_end_with_their_process(run_python, ending):
    if not CPUS:
        pytest.skip("no OpenCL device of a processor")
    done = run_python(SCRIPT + ending, NAME=CPUS[0])
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2 and done.stderr == ""
    deadline = time.monotonic() + 10
    while any(map(running, pids)):
        assert time.monotonic() < deadline, "a worker outlived its process"
        time.sleep(0.05)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
