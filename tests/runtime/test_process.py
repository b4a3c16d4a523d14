"""Forks, exits and first starts: each in a process of its own."""

from __future__ import annotations

import pytest

from lazytorch.runtime.discovery import discover

START = """
import os, sys
import numpy as np
from lazytorch import runtime
from lazytorch.errors import DeviceError
device = runtime.get_device(os.environ["NAME"])
kernel = device.build('''kernel void slow(global float* a, int n) { size_t i = get_global_id(0);
  float x = a[i]; for (int j = 0; j < n; ++j) x = x * 1.0001f + 0.1f;
  a[i] = x; }''', ["slow"])["slow"]
a = device.upload(np.zeros(8, np.float32))
kernel([a, np.int32(100_000_000)], (4,), (1,))
"""
ENDINGS = {
    "just ends": "",
    "wrapped memory in flight": """
w = device.wrap_host(np.zeros(1 << 20, np.float32))
kernel([w, np.int32(100_000_000)], (4,), (1,))
del w, a, kernel, device
""",
    "objects kept in modules": "import builtins; builtins.kept = (device, kernel, a)",
    "a reference cycle": "c = [a, kernel]; c.append(c); del a, kernel, c",
    "a thread is launching": """
import threading
def launch():
    while True: kernel([a, np.int32(1000)], (4,), None)
threading.Thread(target=launch, daemon=True).start()
""",
}


@pytest.fixture(params=[f"opencl:{item.index}" for item in discover().candidates] or [None])
def name(request):
    if request.param is None:
        pytest.skip("no OpenCL device")
    return request.param


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_with_pending_work_is_silent(run_python, name, ending):
    done = run_python(START + ENDINGS[ending], NAME=name)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_forked_child_is_told_what_to_do(run_python, name):
    done = run_python(
        START
        + """
bound = kernel.bind([a, np.int32(1)], (4,), None)
child = os.fork()
if child == 0:
    attempts = [
        lambda: kernel([a, np.int32(1)], (4,), None), bound.launch, device.synchronize,
        device.flush, device.empty_cache, lambda: device.upload(np.zeros(3)),
        lambda: device.wrap_host(np.zeros(3)), lambda: device.build("", []),
        lambda: runtime.get_device("opencl:7"),
    ]
    for number, attempt in enumerate(attempts):
        try:
            attempt()
            print("no error from", number)
        except DeviceError as error:
            if "spawn" not in str(error): print(number, error)
    print(runtime.get_device(os.environ["NAME"]).kind, runtime.get_device("cpu").kind)
    print(a.as_numpy("f4", (8,))[0] > 0, flush=True)
    sys.exit(7)
print(os.waitpid(child, 0)[1] >> 8, flush=True)
device.synchronize()
""",
        NAME=name,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["numpy numpy", "True", "7"]


def test_a_forked_child_goes_on_with_numpy(run_python, name):
    """It has the parent's tensors, finished or pending; what it writes is its own."""
    done = run_python(
        """
import os
import numpy as np, lazytorch as torch
torch.set_default_device(os.environ["NAME"])
a = torch.arange(4.0).realize()
shared = torch.from_numpy(np.ones(4, np.float32)).to(a.device)
pending = a + 1
compiled = torch.compile(lambda x: (x * 3).sum())
for _ in range(4):
    compiled(pending)
child = os.fork()
if child == 0:
    a[0] = 7
    print(compiled(a).item())
    print(a.tolist(), pending.tolist(), (shared + a[1:2] + torch.ones(4)).tolist(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(a.tolist(), pending.tolist())
""",
        NAME=name,
    )
    assert done.stdout.splitlines() == [
        "39.0",
        "[7.0, 1.0, 2.0, 3.0] [1.0, 2.0, 3.0, 4.0] [3.0, 3.0, 3.0, 3.0]",
        "[0.0, 1.0, 2.0, 3.0] [1.0, 2.0, 3.0, 4.0]",
    ]


def test_a_child_forked_before_opencl_may_use_it(run_python, name):
    done = run_python(
        "import os\nfrom lazytorch import runtime\nif os.fork() == 0:\n"
        + "".join(f"    {line}\n" for line in START.splitlines()[1:] if "from lazy" not in line)
        + "    device.synchronize(); print('worked', flush=True); os._exit(0)\nos.wait()",
        NAME=name,
    )
    assert (done.stdout, done.stderr) == ("worked\n", "")


def test_the_first_start_of_all_is_silent_and_right(run_python, name, tmp_path):
    script = START + "device.synchronize(); print(a.as_numpy('f4', (8,))[0] > 0)"
    for _ in range(2):
        done = run_python(script, NAME=name, LAZYTORCH_CACHE_DIR=str(tmp_path))
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")
