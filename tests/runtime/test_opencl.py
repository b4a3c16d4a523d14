"""Programs and launches on every OpenCL device."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from lazytorch import config
from lazytorch.errors import BuildError, DeviceError
from lazytorch.runtime import LocalMemory, counters, get_device

SOURCE = """
kernel void scale(global const float* a, global float* c, float s, long n) {
  size_t i = get_global_id(0); c[i] = a[i] * s + n; }
kernel void types(global float* c, uchar b, short h, uint u, ulong w, ushort bits) {
  c[0] = b; c[1] = h; c[2] = u; c[3] = w; c[4] = vload_half(0, (half*)&bits); }
kernel void reversed(global const float* a, global float* c, local float* t) {
  size_t j = get_local_id(0); t[j] = a[j]; barrier(CLK_LOCAL_MEM_FENCE);
  c[j] = t[get_local_size(0) - 1 - j]; }
kernel void slow(global float* a, int n) {
  float x = a[0]; for (int i = 0; i < n; ++i) x = x * 1.0001f + 0.1f; a[0] = x; }
kernel void increment(global float* a) { a[get_global_id(0)] += 1.0f; }
"""
NAMES = ("scale", "types", "reversed", "slow", "increment")


@pytest.fixture
def kernels(device):
    return device.build(SOURCE, NAMES)


def test_what_compiling_left_behind_goes_with_the_source(device):
    """Intel's compiler keeps 2.5 MiB with each program that it made of source."""
    if device.binaries_are_compiled:
        pytest.skip("a binary of this driver is compiled once more")
    source = f"kernel void fresh{os.getpid()}(global float* a) {{ a[0] = 5; }}"
    device.build(source, [f"fresh{os.getpid()}"])
    kept = list(device._kept.values())[-1]
    assert not kept.get_info(device._cl.program_info.SOURCE)


def test_a_call_sets_all_arguments(device, kernels):
    a = np.arange(100, dtype=np.float32)
    out = device.allocate(400)
    kernels["scale"]([device.upload(a), out, np.float32(2), np.int64(3)], (100,), None)
    assert np.array_equal(out.as_numpy(np.float32, (100,)), a * 2 + 3)


def test_scalar_types(device, kernels):
    out = device.allocate(20)
    scalars = [np.bool_(True), np.int16(-7), np.uint32(4_000_000_000), np.uint64(1 << 60)]
    kernels["types"]([out, *scalars, np.float16(1.5)], (1,), None)
    expected = np.float32([1, -7, 4_000_000_000, 1 << 60, 1.5])
    assert np.array_equal(out.as_numpy(np.float32, (5,)), expected)


def test_python_numbers_are_refused_with_a_hint(device, kernels):
    out = device.allocate(16)
    with pytest.raises(TypeError, match=r"argument 2 of scale.*numpy\.float32"):
        kernels["scale"]([out, out, 2.0, np.int64(0)], (1,), None)


def test_local_memory(device, kernels):
    a = np.arange(32, dtype=np.float32)
    out = device.allocate(128)
    kernels["reversed"]([device.upload(a), out, LocalMemory(128)], (32,), (32,))
    assert np.array_equal(out.as_numpy(np.float32, (32,)), a[::-1])


def test_bound_launches_keep_and_replace_arguments(device, kernels):
    a = device.upload(np.ones(8, np.float32))
    first, second = device.allocate(32), device.allocate(32)
    bound = kernels["scale"].bind([a, None, np.float32(2), np.int64(1)], (8,), (8,))
    bound.set_buffer(1, first)
    bound.launch()
    bound.set_handles((1, second.handle))
    bound.set_scalar(2, 5.0)
    bound.set_scalar(3, np.int64(2))
    bound.launch()
    assert (first.as_numpy(np.float32, (8,)) == 3).all()
    assert (second.as_numpy(np.float32, (8,)) == 7).all()


def test_bound_launches_of_one_kernel_are_independent(device, kernels):
    outs = [device.allocate(16) for _ in range(4)]
    a = device.upload(np.ones(4, np.float32))
    bound = [
        kernels["scale"].bind([a, out, np.float32(index), np.int64(0)], (4,), None)
        for index, out in enumerate(outs)
    ]
    for item in reversed(bound):
        item.launch()
    assert [out.as_numpy(np.float32, (1,))[0] for out in outs] == [0, 1, 2, 3]


def test_arguments_can_be_slices_of_the_arena(device, kernels):
    step = device.capabilities.base_alignment_bytes
    arena = device.arena(4 * step)
    part = arena.slice(step, step)
    part.copy_from(np.ones(step // 4, np.float32))
    out = arena.slice(2 * step, step)
    kernels["scale"]([part, out, np.float32(3), np.int64(0)], (step // 4,), None)
    assert (out.as_numpy(np.float32, (step // 4,)) == 3).all()


def test_nothing_to_do_is_not_launched(device, kernels):
    before = counters.kernels_launched
    a = device.allocate(4)
    kernels["increment"]([a], (0,), None)
    kernels["increment"].bind([a], (0, 3), None).launch()
    assert counters.kernels_launched == before


@pytest.mark.parametrize("offset", [0, 1, 3, 16])
def test_any_host_memory_is_shared(device, kernels, offset):
    """Neither Intel's runtime nor PoCL needs alignment for USE_HOST_PTR, or a round length."""
    if not device.capabilities.zero_copy:
        pytest.skip("the device has memory of its own")
    array = np.zeros(64, np.float32)[offset : offset + 13]
    buffer = device.wrap_host(array)
    kernels["increment"]([buffer], (13,), None)
    device.synchronize()
    assert (array == 1).all()
    array[:] = 5
    kernels["increment"]([buffer], (13,), None)
    device.synchronize()
    assert (array == 6).all()


def test_read_only_arrays_can_be_read(device, kernels):
    array = np.arange(8, dtype=np.float32)
    array.flags.writeable = False
    out = device.allocate(32)
    kernels["scale"]([device.wrap_host(array), out, np.float32(1), np.int64(0)], (8,), None)
    assert np.array_equal(out.as_numpy(np.float32, (8,)), array)


def test_wrapped_memory_outlives_its_last_kernel(device, kernels):
    iterations = np.int32(20_000_000)
    for _ in range(3):
        buffer = device.wrap_host(np.zeros(1 << 20, np.float32))
        kernels["slow"]([buffer, iterations], (1,), (1,))
        del buffer
    device.synchronize()


def test_uploads_do_not_overwrite_what_a_kernel_still_reads(device, kernels):
    """A freed block goes to the next upload while the kernel that reads it is still waiting."""
    blocker = device.upload(np.zeros(1, np.float32))
    out = device.allocate(4000)
    kernels["slow"]([blocker, np.int32(30_000_000)], (1,), (1,))
    source = device.upload(np.ones(1000, np.float32))
    kernels["scale"]([source, out, np.float32(1), np.int64(0)], (1000,), None)
    del source
    for _ in range(3):
        device.upload(np.full(1000, 9, np.float32))
    assert (out.as_numpy(np.float32, (1000,)) == 1).all()


def test_launches_from_eight_threads(device, kernels):
    wrong = []

    def work(seed):
        a = np.full(64, seed, np.float32)
        source, out = device.upload(a), device.allocate(256)
        for step in range(50):
            kernels["scale"]([source, out, np.float32(step), np.int64(seed)], (64,), None)
            if not (out.as_numpy(np.float32, (64,)) == a * step + seed).all():
                wrong.append((seed, step))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_build_failure_tells_everything(device):
    with pytest.raises(BuildError, match="broken") as caught:
        device.build("kernel void broken(global float* a) { a[0] = nonsense; }", ["broken"])
    error = caught.value
    assert "nonsense" in error.log or "nonsense" in str(error)
    assert error.source_path is not None
    with open(error.source_path) as file:
        assert "nonsense" in file.read()
    os.unlink(error.source_path)


def test_missing_kernel_is_a_build_error(device):
    with pytest.raises(BuildError, match="absent"):
        device.build("kernel void present(global float* a) { a[0] = 1; }", ["absent"])


def test_launch_failure_is_a_device_error(device, kernels):
    a = device.allocate(4)
    limit = device.capabilities.max_work_group_size
    with pytest.raises(DeviceError, match="increment"):
        kernels["increment"]([a], (limit * 4,), (limit * 4,))


def test_profiling_records_every_launch(device, kernels):
    a = device.upload(np.zeros(1, np.float32))
    device.set_profiling(True)
    try:
        kernels["slow"]([a, np.int32(1000)], (1,), None)
        kernels["increment"].bind([a], (1,), None).launch()
        records = device.take_profile()
    finally:
        device.set_profiling(False)
    assert [name for name, _, _ in records] == ["slow", "increment"]
    assert all(end >= start for _, start, end in records)
    assert device.take_profile() == []


def test_binaries_are_reused(device, cache_dir):
    source = "kernel void cached(global float* a) { a[0] = 42.0f; }"
    built, loaded = counters.programs_built, counters.program_cache_hits
    device.build(source, ["cached"])
    assert counters.programs_built == built + 1
    device._kept.clear()
    kernel = device.build(source, ["cached"])["cached"]
    assert counters.programs_built == built + 1
    assert counters.program_cache_hits == loaded + 1
    out = device.allocate(4)
    kernel([out], (1,), None)
    assert out.as_numpy(np.float32, (1,))[0] == 42
    files = list((cache_dir / "programs").iterdir())
    assert len(files) == 1
    assert (cache_dir / "programs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_damaged_binaries_are_built_again(device, cache_dir, damage):
    source = f"kernel void damaged_{damage}(global float* a) {{ a[0] = 43.0f; }}"
    name = f"damaged_{damage}"
    device.build(source, [name])
    (path,) = (cache_dir / "programs").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
    path.write_bytes(
        {"truncate": content[:100], "flip": content, "empty": b"", "foreign": b"\x7fELF" * 99}[
            damage
        ]
    )
    built = counters.programs_built
    device._kept.clear()
    kernel = device.build(source, [name])[name]
    assert counters.programs_built == built + 1
    out = device.allocate(4)
    kernel([out], (1,), None)
    assert out.as_numpy(np.float32, (1,))[0] == 43
    assert path.read_bytes()[:8] == b"lazytor1"


def test_without_a_cache_folder_nothing_is_written(device, cache_dir):
    with config.override(CACHE=False):
        device.build("kernel void unkept(global float* a) { a[0] = 1; }", ["unkept"])
        built = counters.programs_built
        device.build("kernel void unkept(global float* a) { a[0] = 1; }", ["unkept"])
        assert counters.programs_built == built  # kept in memory
    assert not list(cache_dir.iterdir())


def test_options_reach_the_compiler(device):
    source = "kernel void option(global float* a) { a[0] = VALUE; }"
    out = device.allocate(4)
    for value in (3, 4):
        device.build(source, ["option"], [f"-DVALUE={value}"])["option"]([out], (1,), None)
        assert out.as_numpy(np.float32, (1,))[0] == value


def test_capabilities_are_sane(device):
    facts = device.capabilities
    assert facts.family in ("cpu", "gpu")
    assert facts.max_allocation >= 1 << 28
    assert facts.max_argument_bytes >= 1024
    assert facts.native_vector_width_float in (1, 2, 4, 8, 16)
    assert facts.base_alignment_bytes & (facts.base_alignment_bytes - 1) == 0


def test_the_same_device_by_any_name(device):
    assert get_device("opencl:0") is get_device("ocl:0") is get_device("opencl")


def test_a_running_program_is_built_to_last(device, tmp_path):
    """PoCL may end the process when a binary is asked of a program while it runs."""
    source = """kernel void busy(global float* a, int n) {
      float x = a[get_global_id(0)]; for (int i = 0; i < n; ++i) x = x * 1.0001f + 0.1f;
      a[get_global_id(0)] = x; }"""
    out = device.upload(np.zeros(8, np.float32))
    with config.override(CACHE_DIR=str(tmp_path)):
        trial = device.build(source, ["busy"], trial="")
        trial["busy"]([out, np.int32(1_000_000)], (8,), None)
        before = counters.syncs
        lasting = device.build(source, ["busy"])
        assert counters.syncs - before == device.binaries_are_compiled
        lasting["busy"]([out, np.int32(1)], (8,), None)
    assert np.all(out.as_numpy(np.float32, (8,)) > 0)
