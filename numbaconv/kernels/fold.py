"""Adjoint of padding along one axis: sums over the padded positions that were copied from the same position."""

from __future__ import annotations

from numbaconv.jit import task_kernel
from numbaconv.simd.pointers import advance

# Geometry: workspace, positions, padded positions, inner size, then the first entry of each position's list of padded
# positions (one more than positions), then the lists.
SIZE, PADDED, INNER, FIRST = 1, 2, 3, 4


@task_kernel
def fold_axis(worker, task, geometry, buffers):
    """target[outer, i] = sum of source[outer, p] over the positions p of i's list, for one outer index."""
    size, inner = geometry[SIZE], geometry[INNER]
    first = advance(geometry, FIRST)
    listed = advance(first, size + 1)
    source = advance(buffers[1], task * geometry[PADDED] * inner)
    target = advance(buffers[2], task * size * inner)
    for i in range(size):
        total = advance(target, i * inner)
        for k in range(inner):
            total[k] = 0
        for entry in range(first[i], first[i + 1]):
            values = advance(source, listed[entry] * inner)
            for k in range(inner):
                total[k] += values[k]
