"""Launches: every task once, results that no thread count changes, and no crash in threads or forked children."""

from __future__ import annotations

import itertools
import os
import threading

import numba
import numpy as np
import pytest
from processes import copy_package, run

from numbaconv import parallel
from numbaconv.jit import task_kernel
from numbaconv.runs import CALLS
from numbaconv.simd.calls import atomic_compare_exchange, atomic_fetch_add, load_acquire, store_release
from numbaconv.simd.pointers import advance, as_counters


@task_kernel
def count_tasks(worker, task, geometry, buffers):
    """Count runs of each task (1), note its worker (2), check that the workspace is this worker's alone (3)."""
    mine = advance(buffers[0], worker * geometry[0])
    for i in range(geometry[0]):
        mine[i] = task
    total = 0.0
    for _ in range(geometry[1]):
        for i in range(geometry[0]):
            total += mine[i] - task
    buffers[1][task] += 1
    buffers[2][task] = worker
    buffers[3][task] = total


@task_kernel
def record_order(worker, task, geometry, buffers):
    """Note a task's worker (1) and how many tasks that one has run before (2), which it counts (3)."""
    buffers[1][task] = worker
    buffers[2][task] = buffers[3][worker]
    buffers[3][worker] += 1


@task_kernel
def record_addresses(worker, task, geometry, buffers):
    """Write 1 where the workspace is aligned and the array of buffer 1 is what was passed."""
    buffers[2][task] = buffers[1][task] * 2


@task_kernel
def atomics(worker, task, geometry, buffers):
    """Add to a counter (1) in three ways: fetch-add, compare-exchange, and a lock of acquire and release."""
    counters = as_counters(buffers[1])
    atomic_fetch_add(counters, task + 1)
    seen = load_acquire(advance(counters, 8))
    while True:
        found = atomic_compare_exchange(advance(counters, 8), seen, seen + task + 1)
        if found == seen:
            break
        seen = found
    while atomic_compare_exchange(advance(counters, 16), 0, 1) != 0:
        pass
    counters[24] += task + 1
    store_release(0, advance(counters, 16))


def launch_count(tasks, workspace=16, work=50, **options):
    runs, workers, clashes = (np.zeros(tasks) for _ in range(3))
    geometry = np.array([workspace, work], np.int64)
    parallel.launch(count_tasks, "float64", tasks, geometry, (runs, workers, clashes), workspace, **options)
    return runs, workers, clashes


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("tasks", [1, 2, 3, 17, 1000])
def test_every_task_runs_once(tasks, serial):
    runs, workers, clashes = launch_count(tasks, serial=serial)
    assert runs.tolist() == [1] * tasks
    assert clashes.tolist() == [0] * tasks
    assert set(workers) <= ({0} if serial else set(range(parallel.thread_count())))


def assert_own_share_first(workers, order, bounds):
    """Check what `record_order` noted: a worker's tasks from its bound to the next one's came first, in order."""
    for worker, (first, end) in enumerate(itertools.pairwise(bounds)):
        ran = np.flatnonzero(workers == worker)
        ran = ran[np.argsort(order[ran])]
        is_own = (ran >= first) & (ran < end)
        own = ran[is_own]
        assert is_own[: own.size].all()
        assert own.tolist() == sorted(own.tolist())


@pytest.mark.parametrize("tasks", [2, 3, 7, 40])
def test_workers_take_their_own_share_first_and_in_order(tasks):
    threads = min(parallel.thread_count(), tasks)
    for _ in range(50):
        workers, order, counts = np.zeros(tasks), np.zeros(tasks), np.zeros(threads)
        parallel.launch(record_order, "float64", tasks, np.zeros(1, np.int64), (workers, order, counts))
        assert counts.sum() == tasks
        assert_own_share_first(workers, order, [worker * tasks // threads for worker in range(threads + 1)])


def test_no_tasks_run_nothing():
    runs, _, _ = launch_count(0)
    assert runs.size == 0


@pytest.mark.parametrize("workspace", [0, 16, 4096, 1 << 20])
def test_workspace_of_any_size(workspace):
    runs, _, clashes = launch_count(8, workspace, work=1)
    assert runs.tolist() == [1] * 8
    assert clashes.tolist() == [0] * 8


def test_large_workspace_is_not_kept(monkeypatch):
    monkeypatch.setattr("numbaconv.runs.MAX_KEPT_WORKSPACE", 1 << 16)
    launch_count(4, 1 << 16, work=1)
    assert CALLS.idle[-1].workspace.size <= 1 << 16


def test_workspace_is_aligned_and_used_again():
    launch_count(4, 1 << 10)
    # Others may have launched within a launch before: the one that ran last runs next.
    idle, call = CALLS.idle.copy(), CALLS.idle[-1]
    first = call.workspace_address
    assert first % 64 == 0
    launch_count(4, 1 << 10)
    assert CALLS.idle == idle
    assert call.workspace_address == first


@pytest.mark.parametrize("layout", ["plain", "offset view", "read-only", "subclass"])
def test_arrays_are_passed_by_the_address_of_their_data(layout):
    x = np.arange(40, dtype=np.float64)
    given = {
        "plain": x,
        "offset view": np.concatenate([x, x])[7:47],
        "read-only": x.copy(),
        "subclass": x.view(np.recarray) if layout == "subclass" else x,
    }[layout]
    if layout == "read-only":
        given.setflags(write=False)
    y = np.zeros(40)
    parallel.launch(record_addresses, "float64", 40, np.zeros(1, np.int64), (given, y))
    np.testing.assert_array_equal(y, 2 * np.asarray(given))


@pytest.mark.parametrize("serial", [False, True])
def test_atomic_operations_lose_nothing(serial):
    memory = np.zeros(32)
    parallel.launch(atomics, "float64", 400, np.zeros(1, np.int64), (memory,), serial=serial)
    counters = memory.view(np.int64)
    assert counters[[0, 8, 16, 24]].tolist() == [80200, 80200, 0, 80200]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_thread_mask_is_respected():
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert parallel.thread_count() == 1
        assert set(launch_count(100)[1]) == {0}
    finally:
        numba.set_num_threads(before)
    assert parallel.thread_count() == before


def test_many_python_threads_launch_at_once():
    failures = []

    def work():
        for tasks in range(1, 60):
            runs, _, clashes = launch_count(tasks, work=2)
            if runs.tolist() != [1] * tasks or clashes.any():
                failures.append(tasks)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_launch_within_a_launch_has_a_block_of_its_own(monkeypatch):
    """A signal handler or a finaliser may convolve while its thread is filling the block of another launch."""
    inner = []

    class Interrupting(list):
        def __len__(self):
            if not inner:
                inner.append(None)
                inner.append(launch_count(9))
            return super().__len__()

    runs, workers, clashes = (np.zeros(5) for _ in range(3))
    arrays = Interrupting([runs, workers, clashes])
    parallel.launch(count_tasks, "float64", 5, np.array([16, 1], np.int64), arrays, 16)
    assert runs.tolist() == [1] * 5
    assert inner[1][0].tolist() == [1] * 9


# --- threading layers, forks: each in a process of its own -----------------------------------------------------------

COMMON = """
import json, os, threading, warnings
import numpy as np
import numba
from numbaconv import parallel
from numbaconv.functional import average_pool

x = np.random.default_rng(0).integers(-8, 8, (4, 64, 64, 32)).astype(np.float32)
expected = x.reshape(4, 32, 2, 32, 2, 32).sum((2, 4)) / 4

def is_right():
    return bool(np.array_equal(average_pool(x, 2), expected))

def in_child(function):
    \"\"\"Run a function in a forked child; return whether it returned True there.\"\"\"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

THREADS = (
    COMMON
    + """
results = []
threads = [threading.Thread(target=lambda: results.extend(is_right() for _ in range(20))) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([len(results), all(results), parallel.threading_layer()]))
"""
)

FORK = (
    COMMON
    + """
def in_threads():
    right = []
    threads = [threading.Thread(target=lambda: right.append(is_right())) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return right == [True] * 3

before = is_right()
layer = parallel.threading_layer()
child = in_child(is_right)
grandchild = in_child(lambda: in_child(is_right))
between = in_child(lambda: is_right() and in_child(is_right) and is_right())
threads_of_a_child = in_child(in_threads)
print(json.dumps([before, child, grandchild, between, threads_of_a_child, is_right(), layer]))
"""
)

FORK_FIRST = (
    COMMON
    + """
child = in_child(lambda: is_right() and parallel.thread_count() == 2)
print(json.dumps([child, is_right(), parallel.thread_count()]))
"""
)

FOREIGN = (
    COMMON
    + """
@numba.njit(parallel=True)
def foreign(a):
    for i in numba.prange(a.size):
        a[i] += 1
foreign(np.zeros(100))
print(json.dumps([in_child(is_right), in_child(lambda: in_child(is_right))]))
"""
)

LAYERS = ["omp", "workqueue"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A copy of the sources that nobody edits, with its cache, for two threads."""
    folder = tmp_path_factory.mktemp("package")
    return {"cache": folder / "cache", "package": copy_package(folder), "NUMBA_NUM_THREADS": "2"}


def skip_without(layer):
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool")


@pytest.mark.parametrize("layer", LAYERS)
def test_python_threads_under_every_layer(options, layer):
    skip_without(layer)
    assert run(THREADS, **options, NUMBA_THREADING_LAYER=layer) == [120, True, layer]


@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
def test_forked_children_of_a_process_that_has_computed(options, layer):
    skip_without(layer)
    assert run(FORK, **options, NUMBA_THREADING_LAYER=layer) == [True] * 6 + [layer]


@needs_fork
def test_child_forked_before_any_launch_has_threads(options):
    assert run(FORK_FIRST, **options) == [True, True, 2]


@needs_fork
def test_child_of_a_process_whose_threads_others_started(options):
    assert run(FOREIGN, **options) == [True, True]


def test_small_work_never_starts_threads(options):
    script = (
        COMMON
        + """
average_pool(np.ones((1, 4, 4), np.float32), 2)
from numba.np.ufunc import parallel as layer
small = layer._is_initialized
is_right()
print(json.dumps([small, layer._is_initialized]))
"""
    )
    assert run(script, **options) == [False, True]


def test_one_thread_never_starts_the_layer(options):
    script = (
        COMMON
        + """
right = is_right()
from numba.np.ufunc import parallel as layer
print(json.dumps([right, layer._is_initialized, parallel.thread_count(), parallel.threading_layer()]))
"""
    )
    assert run(script, **{**options, "NUMBA_NUM_THREADS": "1"}) == [True, False, 1, "serial: one thread"]


def test_busy_workqueue_runs_serially(options):
    """The layer's lock is held: a caller must not wait for it, nor enter the layer."""
    script = (
        COMMON
        + """
from numbaconv.runs import LAYER
parallel.thread_count()
with LAYER.entry:
    busy = is_right()
print(json.dumps([busy, is_right(), parallel.threading_layer()]))
"""
    )
    assert run(script, **options, NUMBA_THREADING_LAYER="workqueue") == [True, True, "workqueue"]


AGAIN = (
    COMMON
    + """
x = np.ones((1, 64, 64, 64), np.float32)
call = lambda: float(average_pool(x, 2).sum())
"""
)


def test_runs_of_one_launch_in_a_row_follow_what_changes_between_them(options):
    """Threads that may be used, and what others have run on the same block."""
    script = (
        AGAIN
        + """
results = [call()]
for threads in (1, 2, 1, 4, 3, 4):
    numba.set_num_threads(threads)
    for _ in range(3):
        results.append(call())
    results.append(float(average_pool(x[:, :8, :8], 2).sum()))
    results.append(call())
print(json.dumps([sorted(set(results))]))
"""
    )
    assert run(script, **{**options, "NUMBA_NUM_THREADS": "4"}) == [[16 * 64, 32 * 32 * 64]]


def test_a_forked_child_runs_on_what_its_parent_made_ready(options):
    script = (
        AGAIN
        + """
first = [call() for _ in range(3)]
child = in_child(lambda: call() == first[0])
print(json.dumps([child, call() == first[0], parallel.threading_layer()]))
"""
    )
    assert run(script, **options)[:2] == [True, True]
