"""Product of a few rows with a matrix that is read where it lies: bound by memory, so no number of it is copied."""

from __future__ import annotations

from numbaconv.jit import task_kernel
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_fma, tile_store, tile_zeros
from numbaconv.simd.vectors import lanes_of

# Geometry.
ROWS = 1
DEPTH = 2
UNITS = 3
CHUNK = 4  # rows of the matrix that a task reads
# Buffers.
X = 1
MATRIX = 2
PARTIAL = 3  # (tasks, rows, units)

VECTORS = 8


@task_kernel
def few_rows_product(worker, task, geometry, buffers):
    """partial[task, row, unit] = sum over one chunk of depth of x[row, i] * matrix[i, unit]."""
    rows, depth, units, chunk = geometry[ROWS], geometry[DEPTH], geometry[UNITS], geometry[CHUNK]
    first = task * chunk
    count = min(chunk, depth - first)
    matrix = advance(buffers[MATRIX], first * units)
    lanes = lanes_of(matrix)
    for row in range(rows):
        x, out = advance(buffers[X], row * depth + first), advance(buffers[PARTIAL], (task * rows + row) * units)
        unit = 0
        while unit + VECTORS * lanes <= units:
            wide = tile_zeros(1, 8, x)
            for i in range(count):
                wide = tile_fma(wide, advance(x, i), 0, advance(matrix, i * units + unit))
            tile_store(wide, advance(out, unit), 0)
            unit += VECTORS * lanes
        while unit + lanes <= units:
            narrow = tile_zeros(1, 1, x)
            for i in range(count):
                narrow = tile_fma(narrow, advance(x, i), 0, advance(matrix, i * units + unit))
            tile_store(narrow, advance(out, unit), 0)
            unit += lanes
        while unit < units:
            total = x[0] * matrix[unit]
            for i in range(1, count):
                total += x[i] * matrix[i * units + unit]
            out[unit] = total
            unit += 1
