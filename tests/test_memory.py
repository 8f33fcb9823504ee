"""Recycled output memory: who holds an array holds its block, and nobody else gets it."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

from numbaconv import memory
from numbaconv.memory import BlockPool, aligned_bytes

LARGE = (memory.MIN_POOLED_BYTES // 4 + 5,)


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """Give each test a pool of its own."""
    fresh = BlockPool(max_bytes=1 << 20)
    monkeypatch.setattr(memory, "POOL", fresh)
    return fresh


@pytest.mark.parametrize("shape", [(), (3,), (0, 7), LARGE, (3, 100, 200)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_is_an_ordinary_one(shape, dtype):
    array = memory.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = 1
    assert array.sum() == array.size


@pytest.mark.parametrize("shape", [LARGE, (70001,), (1 << 20,)])
def test_large_arrays_are_aligned(shape):
    assert memory.empty(shape, "float32").ctypes.data % 64 == 0


def test_small_arrays_are_not_pooled(pool):
    array = memory.empty((memory.MIN_POOLED_BYTES // 4 - 1,), "float32")
    assert array.base is None
    del array
    assert pool.free_bytes == 0


def test_block_of_a_dead_array_is_used_again():
    array = memory.empty(LARGE, "float32")
    address = array.ctypes.data
    del array
    assert memory.empty(LARGE, "float32").ctypes.data == address


def test_sizes_within_one_page_share_blocks():
    array = memory.empty((20000,), "float32")
    address = array.ctypes.data
    del array
    assert memory.empty((10, 2001), "float32").ctypes.data == address


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[3:],
        lambda a: a.reshape(-1, 3),
        lambda a: a.view(np.int32),
        lambda a: memoryview(a),
        lambda a: np.asarray(memoryview(a)),
        lambda a: np.from_dlpack(a),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 4), (4, 4)),
    ],
    ids=["slice", "reshape", "dtype", "buffer", "array of a buffer", "DLPack", "as_strided"],
)
def test_any_view_keeps_the_block(view):
    array = memory.empty((30000,), "float32")
    array[:] = 7
    address = array.ctypes.data
    held = view(array)
    del array
    gc.collect()
    other = memory.empty((30000,), "float32")
    assert other.ctypes.data != address
    other[:] = 0
    if not isinstance(held, memoryview):
        assert np.all(held.view(np.float32) == 7)
    del held
    gc.collect()
    assert memory.empty((30000,), "float32").ctypes.data == address


def test_pool_is_bounded(pool):
    arrays = [memory.empty((1 << 16,), "float32") for _ in range(10)]
    del arrays
    assert pool.free_bytes == 1 << 20


def test_least_recently_used_sizes_go_first(pool):
    old, new = (memory.empty((size,), "float32") for size in (100000, 150000))
    del old, new
    filler = [memory.empty((50000,), "float32") for _ in range(2)]
    del filler
    assert pool.free_bytes <= 1 << 20
    probe = memory.empty((150000,), "float32")
    address = probe.ctypes.data
    del probe
    assert memory.empty((150000,), "float32").ctypes.data == address


def test_blocks_over_the_bound_are_freed(pool):
    array = memory.empty((1 << 20,), "float32")
    del array
    assert pool.free_bytes == 0


def test_array_that_dies_while_the_pool_is_busy_returns_later(pool):
    array = memory.empty(LARGE, "float32")
    with pool._lock:
        del array
        other = memory.empty(LARGE, "float32")  # neither waits nor takes what is not settled
    assert other.size == LARGE[0]
    assert pool.free_bytes == -(-LARGE[0] * 4 // 4096) * 4096


def test_cycles_return_their_blocks(pool):
    cycle = [memory.empty(LARGE, "float32")]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.free_bytes > 0


def test_clear_drops_everything(pool):
    memory.empty(LARGE, "float32")
    assert pool.free_bytes > 0
    pool.clear()
    assert pool.free_bytes == 0


def test_threads_never_share_a_block():
    clashes = []

    def work(number):
        for i in range(300):
            array = memory.empty((20000 + 1000 * (i % 3),), "float32")
            array[:] = number
            if not np.all(array == number):
                clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_forked_while_the_pool_is_busy():
    with memory.POOL._lock:
        child = os.fork()
        if child == 0:
            memory.POOL.reset_lock()  # what the registered hook does for the package's own pool
            array = memory.empty(LARGE, "float32")
            array[:] = 1
            del array
            os._exit(0 if memory.POOL.free_bytes else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("count", [1, 63, 4096])
def test_aligned_bytes(count):
    block = aligned_bytes(count)
    assert block.size == count
    assert block.ctypes.data % 64 == 0
