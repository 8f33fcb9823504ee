"""Programs: launches in order, whatever the number of threads, on buffers that are never two things at once."""

from __future__ import annotations

import os
import threading

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from numbaconv import parallel, program
from numbaconv.jit import task_kernel
from numbaconv.program import Buffer, Recorder
from numbaconv.simd.pointers import advance, as_counters

TASKS = 8


@task_kernel
def neighbours(worker, task, geometry, buffers):
    """y[task] = 2 * x[task] + x[task + 1], the latter of another task; after some work in a workspace."""
    work = advance(buffers[0], worker * geometry[0])
    for i in range(geometry[0]):
        work[i] = task
    total = 0.0
    for i in range(geometry[0]):
        total += work[i] - task
    buffers[2][task] = 2 * buffers[1][task] + buffers[1][(task + 1) % geometry[1]] + total


@task_kernel
def set_status(worker, task, geometry, buffers):
    """Set the status word where x[0] is negative."""
    if buffers[1][0] < 0:
        as_counters(buffers[2])[0] = 1


def make_launch(kernel=neighbours, small=False, workspace=64, shares=None):
    geometry = np.array([workspace, TASKS], np.int64)
    return parallel.Launch(kernel, "float64", TASKS, geometry, (0, 1), 2, workspace, small=small, shares=shares)


def chain_of(launches):
    """Record launches, each on the result of the one before it."""
    recorder = Recorder(TASKS, "float64")
    value = recorder.x
    for launch in launches:
        following = recorder.buffer(TASKS)
        recorder.launch(launch, value, following)
        value = following
    return recorder.program(value, (TASKS,))


def chain(small):
    """Record a launch for each item of ``small``, each on the result of the one before it."""
    return chain_of(make_launch(small=is_small) for is_small in small)


def expected(x, count):
    for _ in range(count):
        x = 2 * x + np.roll(x, -1)
    return x


PATTERNS = [[False], [True], [False] * 7, [True] * 7, [True, False, True, True, False, False, True]]


@pytest.mark.parametrize("small", PATTERNS, ids=lambda small: "".join("fs"[each] for each in small))
@pytest.mark.parametrize("threads", [1, 2])
def test_launches_run_one_after_the_other(small, threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one thread")
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        run = chain(small)
        for first in range(300):
            x = np.arange(first, first + TASKS, dtype=np.float64)
            assert_array_equal(run(x), expected(x, len(small)))
    finally:
        numba.set_num_threads(before)


def test_threads_run_one_program_at_once():
    run, failures = chain([False, True, False, False]), []

    def work(number):
        for i in range(200):
            x = np.full(TASKS, number * 1000.0 + i)
            if not np.array_equal(run(x), expected(x, 4)):
                failures.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_runs_the_programs_of_its_parent():
    run, x = chain([False] * 3), np.arange(TASKS, dtype=np.float64)
    assert_array_equal(run(x), expected(x, 3))
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.array_equal(run(x), expected(x, 3)) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_arrays_stay_where_they_are():
    recorder, weights = Recorder(TASKS, "float64"), np.ones(TASKS)
    y = recorder.buffer(TASKS)
    recorder.launch(make_launch(), weights, y)
    run = recorder.program(y, (2, 4))
    assert_array_equal(run(np.zeros(TASKS)), np.full((2, 4), 3.0))
    weights[:] = 2
    assert_array_equal(run(np.zeros(TASKS)), np.full((2, 4), 6.0))


def test_a_status_makes_the_result_void():
    recorder = Recorder(TASKS, "float64")
    y = recorder.buffer(TASKS)
    recorder.launch(make_launch(set_status, small=True), recorder.x, recorder.status)
    recorder.launch(make_launch(), recorder.x, y)
    run = recorder.program(y, (TASKS,))
    x = np.ones(TASKS)
    for sign in (1, -1, 1):
        result = run(sign * x)
        assert (result is None) == (sign < 0)
    assert_array_equal(result, 3 * x)


def test_there_is_no_program_without_launches_or_with_too_much_between_them(monkeypatch):
    recorder = Recorder(TASKS, "float64")
    assert recorder.program(recorder.x, (TASKS,)) is None
    assert chain([True] * 4) is not None
    monkeypatch.setattr(program, "MAX_BYTES_BETWEEN", 64)
    assert chain([True] * 2) is not None
    assert chain([True] * 4) is None


uses = st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(1, 40))


@given(st.lists(uses, max_size=12))
def test_buffers_in_use_at_once_lie_apart(uses):
    buffers = []
    for first, more, size in uses:
        buffer = Buffer(size, 8)
        buffer.first, buffer.last = first, first + more
        buffers.append(buffer)
    end = program._place(buffers)
    assert all(buffer.offset % 64 == 0 and buffer.offset + buffer.nbytes <= end for buffer in buffers)
    for i, one in enumerate(buffers):
        for other in buffers[:i]:
            if one.first <= other.last and other.first <= one.last:
                assert one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset


def test_a_row_of_launches_needs_two_buffers():
    buffers = [Buffer(1000, 8) for _ in range(10)]
    for number, buffer in enumerate(buffers):
        buffer.first, buffer.last = number, number + 1
    assert program._place(buffers) == 2 * 8000
