"""Zeros in the place of outputs that no product reaches."""

from __future__ import annotations

from numbaconv.jit import task_kernel
from numbaconv.simd.pointers import advance, clear

# Geometry: workspace, numbers, numbers of a task.
SIZE, CHUNK = 1, 2


@task_kernel
def clear_part(worker, task, geometry, buffers):
    """Clear one chunk of an array."""
    first = task * geometry[CHUNK]
    clear(advance(buffers[1], first), min(geometry[CHUNK], geometry[SIZE] - first))
