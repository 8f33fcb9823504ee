"""Product of a few rows with a matrix that is read where it lies: bound by memory, so no number of it is copied."""

from __future__ import annotations

import functools

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.tiles import tile_fma, tile_prefetch, tile_read, tile_store
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store

# Geometry.
ROWS = 1
DEPTH = 2
UNITS = 3
CHUNK = 4  # rows of the matrix that a task reads
BLOCK = 5  # rows of the matrix that stay in L1 for all columns and rows of x while the next ones are fetched
TASKS = 6
RELU = 7
# Buffers.
X = 1
MATRIX = 2
BIAS = 3
Y = 4
PARTIAL = 5  # (tasks, rows, units)
COUNTER = 6

VECTORS = 8
"""Registers of sums of one row of x, for one block of the matrix."""

AHEAD = 64
"""Registers from a place in memory to what a single row of x fetches there, 2 KB with AVX2.

As a number known when the kernel is compiled it takes no registers of its own: the loop around the rows keeps eight
addresses in memory otherwise.
"""

FOUR = 4
"""Rows of the matrix that meet a single row of x together, by as many registers of sums.

Two cache lines of each are read at a time, nearly the order of memory: 4.7 MB from L3 take two cores of a Zen 3 31
microseconds, 35 where four lines of 16 rows are, and 30 without arithmetic.
"""


@task_kernel
def few_rows_product(worker, task, geometry, buffers):
    """y[row, unit] = bias[unit] + sum over i of x[row, i] * matrix[i, unit], at least 0 with relu.

    A task sums one chunk of i; the one that ends last adds the chunks in order.
    """
    rows, depth, units, chunk = geometry[ROWS], geometry[DEPTH], geometry[UNITS], geometry[CHUNK]
    size = rows * units
    partial = advance(buffers[PARTIAL], task * size)
    clear(partial, size)
    first, end = task * chunk, min(depth, (task + 1) * chunk)
    if rows == 1:
        x, a, ahead = advance(buffers[X], first), advance(buffers[MATRIX], first * units), AHEAD * lanes_of(partial)
        while first + FOUR <= end:
            b, c, d = advance(a, units), advance(a, 2 * units), advance(a, 3 * units)
            following = advance(a, ahead), advance(b, ahead), advance(c, ahead), advance(d, ahead)
            add_four(x, (a, b, c, d), following, units, partial)
            first, x, a = first + FOUR, advance(x, FOUR), advance(a, FOUR * units)
    ahead = geometry[BLOCK] * units
    while first < end:
        count = min(geometry[BLOCK], end - first)
        for row in range(rows):
            x = advance(buffers[X], row * depth + first)
            add_product(x, advance(buffers[MATRIX], first * units), count, units, advance(partial, row * units), ahead)
        first += count
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == geometry[TASKS] - 1:
        for row in range(rows):
            partial, y = advance(buffers[PARTIAL], row * units), advance(buffers[Y], row * units)
            add_chunks(partial, geometry[TASKS], size, units, buffers[BIAS], geometry[RELU], y)


@functools.partial(inline, always=True)
def add_four(x, rows, following, units, total):
    """total[unit] += sum over four rows i of x[i] * rows[i][unit], of each those `following` are fetched meanwhile.

    Never a call, which would interrupt the stream of loads for each 2 KB of 128 units.
    """
    lanes, unit = lanes_of(x), 0
    a, b, c, d = rows
    next_a, next_b, next_c, next_d = following
    while unit + FOUR * lanes <= units:
        wide = tile_read(1, FOUR, advance(total, unit), 0)
        tile_prefetch(wide, advance(next_a, unit), 0)
        wide = tile_fma(wide, x, 0, advance(a, unit))
        tile_prefetch(wide, advance(next_b, unit), 0)
        wide = tile_fma(wide, advance(x, 1), 0, advance(b, unit))
        tile_prefetch(wide, advance(next_c, unit), 0)
        wide = tile_fma(wide, advance(x, 2), 0, advance(c, unit))
        tile_prefetch(wide, advance(next_d, unit), 0)
        wide = tile_fma(wide, advance(x, 3), 0, advance(d, unit))
        tile_store(wide, advance(total, unit), 0)
        unit += FOUR * lanes
    while unit + lanes <= units:
        narrow = tile_read(1, 1, advance(total, unit), 0)
        narrow = tile_fma(narrow, x, 0, advance(a, unit))
        narrow = tile_fma(narrow, advance(x, 1), 0, advance(b, unit))
        narrow = tile_fma(narrow, advance(x, 2), 0, advance(c, unit))
        narrow = tile_fma(narrow, advance(x, 3), 0, advance(d, unit))
        tile_store(narrow, advance(total, unit), 0)
        unit += lanes
    while unit < units:
        total[unit] += x[0] * a[unit] + x[1] * b[unit] + x[2] * c[unit] + x[3] * d[unit]
        unit += 1


@inline
def add_product(x, matrix, count, units, total, ahead):
    """total[unit] += sum over i < count of x[i] * matrix[i, unit]; what lies `ahead` is fetched meanwhile."""
    lanes, unit = lanes_of(x), 0
    while unit + VECTORS * lanes <= units:
        wide = tile_read(1, VECTORS, advance(total, unit), 0)
        for i in range(count):
            tile_prefetch(wide, advance(matrix, i * units + unit + ahead), 0)
            wide = tile_fma(wide, advance(x, i), 0, advance(matrix, i * units + unit))
        tile_store(wide, advance(total, unit), 0)
        unit += VECTORS * lanes
    while unit + lanes <= units:
        narrow = tile_read(1, 1, advance(total, unit), 0)
        for i in range(count):
            narrow = tile_fma(narrow, advance(x, i), 0, advance(matrix, i * units + unit))
        tile_store(narrow, advance(total, unit), 0)
        unit += lanes
    while unit < units:
        single = total[unit]
        for i in range(count):
            single += x[i] * matrix[i * units + unit]
        total[unit] = single
        unit += 1


@inline
def add_chunks(partial, tasks, size, units, bias, relu, y):
    """y[unit] = bias[unit] + sum over tasks of partial[task, unit] for one row, `size` apart, at least 0 with relu."""
    lanes, unit = lanes_of(y), 0
    while unit + lanes <= units:
        total = load(advance(partial, unit))
        for task in range(1, tasks):
            total = total + load(advance(partial, task * size + unit))
        total = total + load(advance(bias, unit))
        if relu != 0:
            total = at_least(total, splat(y, 0))
        store(total, advance(y, unit))
        unit += lanes
    while unit < units:
        single = partial[unit]
        for task in range(1, tasks):
            single += partial[task * size + unit]
        single += bias[unit]
        y[unit] = 0 if relu != 0 and single < 0 else single
        unit += 1
