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
    MATRIX,
    PARTIAL,
    RELU,
    TASKS,
    UNITS,
    VECTORS,
    X,
    Y,
    add_chunks,
)
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.tiles import tile_fma, tile_prefetch, tile_read, tile_store
from numbaconv.simd.vectors import lanes_of

WORK = 0  # of each worker: the positions of a chunk's numbers that are not zero, then the last one BLOCK times


@task_kernel
def sparse_row_product(worker, task, geometry, buffers):
    """y[unit] = bias[unit] + sum over i of x[i] * matrix[i, unit] where x[i] is not zero, at least 0 with relu.

    A task sums one chunk of i; the one that ends last adds the chunks in order. The geometry is that of
    `numbaconv.kernels.few_rows`.
    """
    units, chunk, block = geometry[UNITS], geometry[CHUNK], geometry[BLOCK]
    partial = advance(buffers[PARTIAL], task * units)
    clear(partial, units)
    found = as_counters(advance(buffers[WORK], worker * geometry[0]))
    first = task * chunk
    count = find_numbers(buffers[X], first, min(geometry[DEPTH], first + chunk), found, block)
    for done in range(0, count, block):
        add_rows(buffers[X], buffers[MATRIX], advance(found, done), min(block, count - done), units, partial, block)
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == geometry[TASKS] - 1:
        add_chunks(buffers[PARTIAL], geometry[TASKS], units, units, buffers[BIAS], geometry[RELU], buffers[Y])


@inline
def find_numbers(x, first, end, found, more):
    """Write the positions of numbers that are not zero, NaN among them, and the last one `more` times; return how many.

    One position too many is written and counted when its number is not zero: there are no branches to mispredict.
    """
    count = 0
    for i in range(first, end):
        found[count] = i
        count += 1 if x[i] != 0 else 0
    last = found[max(0, count - 1)]
    for i in range(count, count + more):
        found[i] = last
    return count


@inline
def add_rows(x, matrix, rows, count, units, total, ahead):
    """total[unit] += sum of x[i] * matrix[i, unit] over `count` of `rows`; those `ahead` are fetched meanwhile."""
    lanes, unit = lanes_of(x), 0
    while unit + VECTORS * lanes <= units:
        wide = tile_read(1, 8, advance(total, unit), 0)
        for i in range(count):
            tile_prefetch(wide, advance(matrix, rows[i + ahead] * units + unit), 0)
            wide = tile_fma(wide, advance(x, rows[i]), 0, advance(matrix, rows[i] * units + unit))
        tile_store(wide, advance(total, unit), 0)
        unit += VECTORS * lanes
    while unit + lanes <= units:
        narrow = tile_read(1, 1, advance(total, unit), 0)
        for i in range(count):
            narrow = tile_fma(narrow, advance(x, rows[i]), 0, advance(matrix, rows[i] * units + unit))
        tile_store(narrow, advance(total, unit), 0)
        unit += lanes
    while unit < units:
        single = total[unit]
        for i in range(count):
            single += x[rows[i]] * matrix[rows[i] * units + unit]
        total[unit] = single
        unit += 1
