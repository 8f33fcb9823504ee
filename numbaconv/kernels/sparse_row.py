"""Product of one row with a matrix whose numbers are finite: rows of the matrix that meet a zero are not read.

What relu has set to zero is a third to nine tenths of a dense layer's inputs, and reading the matrix is all that such a
product takes. Zero times infinity or NaN would be NaN, so it must be known that there are none.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.few_rows import (
    BIAS,
    BLOCK,
    CHUNK,
    COUNTER,
    DEPTH,
    INSIDE,
    MATRIX,
    PARTIAL,
    RELU,
    TASKS,
    UNITS,
    WIDTH,
    X,
    Y,
    add_chunk,
    add_chunks,
    add_listed_rows,
    add_row,
)
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear

MANY = 4
"""With one zero among so many numbers rows are skipped; those that are listed come a little more slowly than all do."""
FOLLOWING = 8
"""Rows from one that is multiplied to the one that is fetched meanwhile."""

WORK = 0  # of each worker: where the rows begin that meet other numbers than zero, FOLLOWING more, and these numbers


@task_kernel
def sparse_row_product(worker, task, geometry, buffers):
    """y[unit] = bias[unit] + sum over i of x[i] * matrix[i, unit] where x[i] is not zero, at least 0 with relu.

    A task sums one chunk of i; the one that ends last adds the chunks in order. The geometry is that of
    `numbaconv.kernels.few_rows`.
    """
    units, chunk, width = geometry[UNITS], geometry[CHUNK], geometry[WIDTH]
    partial = advance(buffers[PARTIAL], task * width)
    clear(partial, width)
    first, end = task * chunk, min(geometry[DEPTH], (task + 1) * chunk)
    x = advance(buffers[X], first)
    if MANY * count_zeros(x, end - first) < end - first:
        add_chunk(geometry, x, advance(buffers[MATRIX], first * units), first, end, partial)
    else:
        work = advance(buffers[WORK], worker * geometry[0])
        starts = as_counters(work)
        inside = min(end, geometry[INSIDE])
        # The starts take the first part of the workspace, whose numbers are as long as the floats.
        numbers = advance(work, geometry[0] - chunk - 1)
        count = find_numbers(buffers[X], first, inside, units, starts, numbers)
        last = starts[max(0, count - 1)]
        for i in range(FOLLOWING):
            starts[count + i] = last
        for i in range(0, count, geometry[BLOCK]):
            rows = advance(starts, i), FOLLOWING, min(geometry[BLOCK], count - i)
            add_listed_rows(advance(numbers, i), buffers[MATRIX], *rows, units, partial)
        for i in range(inside, end):
            if buffers[X][i] != 0:
                add_row(advance(buffers[X], i), advance(buffers[MATRIX], i * units), units, partial)
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == geometry[TASKS] - 1:
        add_chunks(buffers[PARTIAL], geometry[TASKS], width, units, buffers[BIAS], geometry[RELU], buffers[Y])


@inline
def count_zeros(x, count):
    """Return how many of the numbers are zero."""
    zeros = 0
    for i in range(count):
        zeros += 1 if x[i] == 0 else 0
    return zeros


@inline
def find_numbers(x, first, end, units, starts, numbers):
    """Write the numbers that are not zero, NaN among them, and where their rows begin; return how many.

    One number too many is written and counted when it is not zero: there are no branches to mispredict.
    """
    count = 0
    for i in range(first, end):
        starts[count], numbers[count] = i * units, x[i]
        count += 1 if x[i] != 0 else 0
    return count
