"""Shares of tasks that cost about the same: their bounds, the order of phases, launches that keep to them."""

from __future__ import annotations

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_parallel import assert_own_share_first, record_order
from test_program import TASKS, chain_of, expected, make_launch

from numbaconv import parallel
from numbaconv.algorithms.direct import product_plan
from numbaconv.algorithms.shares import MOST_TASKS, parts, shares
from numbaconv.kernels import layout as at
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET


def test_parts_of_a_length():
    assert parts(10, 4, 3) == [4, 4, 2]
    assert parts(8, 4, 2) == [4, 4]


@pytest.mark.parametrize(
    ("costs", "threads", "bounds"),
    [
        ([4, 4, 2, 2, 2, 2, 1, 1], 2, [0, 2, 8]),
        ([28, 28, 28, 28, 8, 8], 2, [0, 2, 6]),
        ([9, 1, 1, 1], 3, [0, 0, 1, 4]),
        # A third large task would begin before the middle and end far behind it; small ones even out two and two.
        ([98, 98, 98, 98, *[14] * 8, *[1] * 8], 2, [0, 2, 20]),
        ([1, 1, 1, 9], 2, [0, 3, 4]),
    ],
)
def test_bounds_divide_the_cost(costs, threads, bounds):
    assert shares(np.array(costs), threads).tolist() == [threads, *bounds]


def test_equal_or_many_tasks_are_dealt_by_number():
    assert shares(np.full(6, 3), 2) is None
    assert shares(np.arange(2 * MOST_TASKS + 1), 2) is None
    assert shares(np.arange(2 * MOST_TASKS), 2) is not None


@given(st.lists(st.integers(1, 100), min_size=1, max_size=32), st.integers(2, 5))
def test_no_share_exceeds_its_part_by_more_than_a_task(costs, threads):
    table = shares(np.array(costs), threads)
    if table is None:
        return
    bounds = table[1:].tolist()
    assert bounds == sorted(bounds)
    assert (bounds[0], bounds[-1]) == (0, len(costs))
    for first, end in itertools.pairwise(bounds):
        assert sum(costs[first:end]) <= sum(costs) / threads + max(costs)


def test_phases_with_the_largest_tasks_come_first():
    spec = resolve_conv((1, 14, 14, 256), (3, 3, 256, 512), strides=2, padding=1)
    x, y = (contiguous_strides(spec.result_shape(direction)) for direction in ("input_grad", "forward"))
    plan = product_plan(spec, "input_grad", y, x)
    assert plan.tasks <= MOST_TASKS * TARGET.threads
    records = plan.geometry[plan.geometry[at.RECORDS] :]
    phases = [records[n * at.RECORD_SIZE :] for n in range(plan.geometry[at.PHASES])]
    tasks = np.diff([*(phase[at.FIRST_TASK] for phase in phases), plan.tasks])
    costs = np.array([phase[[at.KERNEL_TAP_COUNT, at.OUT_ROWS, at.OUT_COLUMNS]].prod() for phase in phases]) / tasks
    assert costs[0] == costs.max()
    if TARGET.threads == 2:
        if tasks.tolist() == [2, 2, 2, 2]:
            # Of 4, 2, 2 and 1 taps: half of the products are the two of the first.
            assert plan.shares.tolist() == [2, 0, 2, 8]
        first = costs.repeat(tasks)[: plan.shares[2]].sum()
        assert plan.shares.tolist() == [2, 0, plan.shares[2], plan.tasks]
        assert abs(first / (costs * tasks).sum() - 0.5) < 0.1


@pytest.mark.parametrize("bounds", [[0, 1, 40], [0, 40, 40], [0, 0, 40], [0, 33, 40]])
def test_workers_take_the_shares_that_a_launch_gives_them(bounds):
    if parallel.thread_count() != 2:
        pytest.skip("shares of two threads")
    tasks = bounds[-1]
    geometry, table = np.zeros(1, np.int64), np.array([2, *bounds], np.int64)
    run = parallel.Launch(record_order, "float64", tasks, geometry, (0, 1, 2), 3, shares=table)
    for _ in range(50):
        workers, order, counts = np.zeros(tasks), np.zeros(tasks), np.zeros(2)
        run(workers, order, counts)
        assert counts.sum() == tasks
        assert_own_share_first(workers, order, bounds)


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_of_a_program_have_shares_of_their_own(threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one thread")
    tables = [[2, 0, 1, 8], None, [2, 0, 8, 8], [2, 0, 7, 8], [2, 0, 0, 8], [3, 0, 1, 2, 8]]
    run = chain_of(make_launch(shares=None if table is None else np.array(table, np.int64)) for table in tables)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        for first in range(500):
            x = np.arange(first, first + TASKS, dtype=np.float64)
            assert_array_equal(run(x), expected(x, len(tables)))
    finally:
        numba.set_num_threads(before)
