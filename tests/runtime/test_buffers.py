"""The pool: reuse, statistics, lifetimes, running out."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from lazytorch import config
from lazytorch.errors import OutOfMemoryError
from lazytorch.runtime.buffers import size_class


@pytest.mark.parametrize("nbytes", [0, 1, 255, 256, 257, 1000, 4096, 4097, 123_456_789])
def test_size_classes_waste_at_most_an_eighth(nbytes):
    size = size_class(nbytes)
    assert size >= nbytes
    assert size_class(size) == size
    assert size <= max(256, nbytes * 9 / 8 + 1)


def test_round_trip(any_device):
    data = np.arange(1000, dtype=np.float32)
    buffer = any_device.upload(data[::-1])
    assert np.array_equal(buffer.as_numpy(np.float32, (10, 100)), data[::-1].reshape(10, 100))
    buffer.copy_from(data)
    assert np.array_equal(buffer.as_numpy(np.float32, (1000,)), data)


def test_zero_bytes(any_device):
    assert any_device.allocate(0).as_numpy(np.float32, (0, 3)).shape == (0, 3)
    assert any_device.upload(np.zeros((0,))).nbytes == 0
    assert any_device.wrap_host(np.zeros((4, 0))).nbytes == 0


def test_scalars_of_every_type(any_device):
    for dtype in ("bool", "int8", "uint16", "int64", "float16", "float64"):
        value = np.ones((), dtype)
        assert any_device.upload(value).as_numpy(dtype, ()) == value


def test_wrapped_memory_is_shared_both_ways(any_device):
    if not any_device.capabilities.zero_copy:
        pytest.skip("the device has memory of its own")
    array = np.zeros(100, np.int32)
    view = any_device.wrap_host(array).as_numpy(np.int32, (100,))
    array[3] = 7
    view[4] = 8
    assert view[3] == 7
    assert array[4] == 8


def test_wrapping_refuses_gaps(any_device):
    with pytest.raises(ValueError, match="C-contiguous"):
        any_device.wrap_host(np.zeros((4, 4))[:, ::2])


def test_a_view_keeps_its_memory(any_device):
    buffer = any_device.upload(np.full(1000, 5.0))
    view = buffer.as_numpy(np.float64, (1000,))[3:10]
    del buffer
    gc.collect()
    for _ in range(5):  # would reuse the memory if it had been given back
        any_device.upload(np.zeros(1000))
    assert (view == 5.0).all()


def test_freed_memory_is_reused(any_device):
    any_device.empty_cache()
    first = any_device.allocate(50_000)
    reserved = any_device.memory_reserved()
    del first
    second = any_device.allocate(49_500)
    assert any_device.memory_reserved() == reserved
    del second


def test_statistics(any_device):
    gc.collect()
    before = any_device.memory_allocated()
    any_device.reset_peak()
    buffers = [any_device.allocate(10_000) for _ in range(10)]
    assert any_device.memory_allocated() == before + 100_000
    del buffers[2:]
    assert any_device.memory_allocated() == before + 20_000
    assert any_device.max_memory_allocated() == before + 100_000
    any_device.reset_peak()
    assert any_device.max_memory_allocated() == before + 20_000
    assert any_device.memory_reserved() >= before + 20_000
    del buffers
    any_device.empty_cache()
    assert any_device.memory_allocated() == before


def test_uploads_without_waiting_do_not_pile_up(any_device):
    any_device.empty_cache()
    before = any_device.memory_reserved()
    for _ in range(500):
        any_device.upload(np.zeros(1000))
    assert any_device.memory_reserved() - before < 40 * 8000


def test_slices(any_device):
    step = any_device.capabilities.base_alignment_bytes
    step = max(step, 64)
    buffer = any_device.upload(np.arange(step, dtype=np.float32))
    part = buffer.slice(step, step)
    again = part.slice(step // 2 if any_device.kind == "numpy" else 0, step // 4)
    del buffer
    assert part.as_numpy(np.float32, (step // 4,))[0] == step / 4
    assert again.nbytes == step // 4
    with pytest.raises(ValueError, match="outside"):
        part.slice(0, step + 1)


def test_slices_of_slices_start_at_the_right_place(any_device):
    step = max(any_device.capabilities.base_alignment_bytes, 64)
    buffer = any_device.upload(np.arange(step, dtype=np.float32))
    inner = buffer.slice(step, 2 * step).slice(step, step)
    assert inner.as_numpy(np.float32, (1,))[0] == step / 2


def test_arena_grows_and_stays(any_device):
    first = any_device.arena(1000)
    assert any_device.arena(500) is first
    larger = any_device.arena(first.nbytes + 100_000)
    assert larger is not first
    assert any_device.arena(100_000) is larger


def test_copy_between_buffers(any_device):
    source = any_device.upload(np.arange(10.0))
    target = any_device.allocate(80)
    target.copy_from(source)
    assert np.array_equal(target.as_numpy(np.float64, (10,)), np.arange(10.0))
    with pytest.raises(ValueError, match="cannot copy"):
        any_device.allocate(8).copy_from(source)


def test_running_out_names_the_largest_and_goes_on(any_device):
    gc.collect()
    any_device.drop_arena()
    any_device.empty_cache()
    limit = any_device.memory_reserved() + (3 << 20)
    with config.override(MEMORY_LIMIT=limit):
        kept = any_device.allocate(2 << 20, origin="train.py:12 in activations")
        with pytest.raises(OutOfMemoryError) as caught:
            any_device.allocate(2 << 20)
        message = str(caught.value)
        assert "train.py:12 in activations" in message
        assert "2.00 MiB" in message
        assert any_device.allocate(1000).nbytes == 1000
        del kept, caught
        assert any_device.allocate(2 << 20).nbytes == 2 << 20


def test_cached_memory_is_dropped_before_failing(any_device):
    gc.collect()
    any_device.drop_arena()
    any_device.empty_cache()
    limit = any_device.memory_reserved() + (4 << 20)
    with config.override(MEMORY_LIMIT=limit):
        first = any_device.allocate(3 << 20)
        del first
        assert any_device.allocate(2 << 20).nbytes == 2 << 20


def test_cycles_are_collected_before_failing(any_device):
    gc.collect()
    any_device.drop_arena()
    any_device.empty_cache()
    limit = any_device.memory_reserved() + (3 << 20)
    with config.override(MEMORY_LIMIT=limit):
        cycle = [any_device.allocate(2 << 20)]
        cycle.append(cycle)
        del cycle
        assert any_device.allocate(2 << 20).nbytes == 2 << 20


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_failing_driver_leaves_the_pool_consistent(any_device, monkeypatch, failing):
    gc.collect()
    any_device.drop_arena()  # else the failure drops it, and the sums below do not add up
    any_device.empty_cache()
    pool = any_device.pool
    make, calls = pool._make_block, [0]

    def sometimes(size):
        calls[0] += 1
        if calls[0] - 1 >= failing:
            raise MemoryError("injected")
        return make(size)

    before = any_device.memory_allocated()
    monkeypatch.setattr(pool, "_make_block", sometimes)
    buffers = [any_device.allocate(5000) for _ in range(failing)]
    with pytest.raises(OutOfMemoryError):
        any_device.allocate(5000)
    assert any_device.memory_allocated() == before + 5000 * failing
    monkeypatch.undo()
    buffers.append(any_device.allocate(5000))
    del buffers
    assert any_device.memory_allocated() == before


def test_eight_threads(any_device):
    gc.collect()
    before = any_device.memory_allocated()
    failures = []

    def work(seed):
        generator = np.random.default_rng(seed)
        held = []
        for _ in range(200):
            size = int(generator.integers(1, 3000))
            data = np.full(size, seed, np.int32)
            held.append((any_device.upload(data), size))
            if len(held) > 5:
                buffer, size = held.pop(0)
                if not (buffer.as_numpy(np.int32, (size,)) == seed).all():
                    failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    gc.collect()
    assert any_device.memory_allocated() == before
