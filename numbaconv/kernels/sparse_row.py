"""Product of one row with a matrix whose numbers are finite: rows of the matrix that meet a zero are not read.

What relu has set to zero is a third to nine tenths of a dense layer's inputs, and reading the matrix is all that such a
product takes. Zero times infinity or NaN would be NaN, so it must be known that there are none.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.few_rows import (
    BIAS,
    CHUNK,
    COUNTER,
    DEPTH,
    FOUR,
    MATRIX,
    PARTIAL,
    RELU,
    TASKS,
    UNITS,
    X,
    Y,
    add_chunks,
    add_four,
)
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear

WORK = 0  # of each worker: positions of a chunk's numbers that are not zero and 2 * FOUR more, behind them the numbers


@task_kernel
def sparse_row_product(worker, task, geometry, buffers):
    """y[unit] = bias[unit] + sum over i of x[i] * matrix[i, unit] where x[i] is not zero, at least 0 with relu.

    A task sums one chunk of i; the one that ends last adds the chunks in order. The geometry is that of
    `numbaconv.kernels.few_rows`.
    """
    units, chunk, matrix = geometry[UNITS], geometry[CHUNK], buffers[MATRIX]
    partial = advance(buffers[PARTIAL], task * units)
    clear(partial, units)
    work = advance(buffers[WORK], worker * geometry[0])
    found = as_counters(work)
    first = task * chunk
    # The positions take the first part of the workspace, whose numbers are as long as the floats.
    numbers = advance(work, geometry[0] - chunk - 2 * FOUR)
    count = find_numbers(buffers[X], first, min(geometry[DEPTH], first + chunk), found, numbers)
    for i in range(0, count, FOUR):
        rows = four_rows(matrix, advance(found, i), units)
        add_four(advance(numbers, i), rows, four_rows(matrix, advance(found, i + FOUR), units), units, partial)
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == geometry[TASKS] - 1:
        add_chunks(buffers[PARTIAL], geometry[TASKS], units, units, buffers[BIAS], geometry[RELU], buffers[Y])


@inline
def find_numbers(x, first, end, found, numbers):
    """Write the numbers that are not zero, NaN among them, and their positions; return how many.

    Twice four zeros at the last position follow, so that there are whole fours and one more to fetch. One number too
    many is written and counted when it is not zero: there are no branches to mispredict.
    """
    count = 0
    for i in range(first, end):
        found[count], numbers[count] = i, x[i]
        count += 1 if x[i] != 0 else 0
    last = found[max(0, count - 1)]
    for i in range(count, count + 2 * FOUR):
        found[i], numbers[i] = last, 0
    return count


@inline
def four_rows(matrix, positions, units):
    """Return pointers to four rows of a matrix."""
    a, b, c, d = positions[0], positions[1], positions[2], positions[3]
    return (
        advance(matrix, a * units),
        advance(matrix, b * units),
        advance(matrix, c * units),
        advance(matrix, d * units),
    )
