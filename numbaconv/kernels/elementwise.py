"""A user's function of every element of an array, and gradients through it, for the passes that are not fused."""

from __future__ import annotations

from typing import Any

from numbaconv.kernels import layout as at
from numbaconv.simd.mapping import map_lanes
from numbaconv.simd.pointers import advance, copy
from numbaconv.simd.vectors import lanes_of, load, store

COUNT = 1  # position in the geometry of the number of elements
ELEMENTS_PER_TASK = 1 << 14


def mapping_kernel(function: Any) -> Any:
    """Return the kernel y = function(x)."""

    def mapping(worker, task, geometry, buffers):
        first = task * ELEMENTS_PER_TASK
        count = min(ELEMENTS_PER_TASK, geometry[COUNT] - first)
        x, y, lanes = advance(buffers[1], first), advance(buffers[2], first), lanes_of(buffers[1])
        whole = count - count % lanes
        for i in range(0, whole, lanes):
            map_lanes(function, advance(x, i), advance(y, i))
        if whole < count:
            work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
            for lane in range(lanes):
                work[lane] = x[whole + lane] if whole + lane < count else x[whole]
            map_lanes(function, work, advance(work, lanes))
            copy(advance(y, whole), advance(work, lanes), count - whole)

    return mapping


def gradient_kernel(derivative: Any) -> Any:
    """Return the kernel gx = g * derivative(x)."""

    def gradient(worker, task, geometry, buffers):
        first = task * ELEMENTS_PER_TASK
        count = min(ELEMENTS_PER_TASK, geometry[COUNT] - first)
        x, g, gx = advance(buffers[1], first), advance(buffers[2], first), advance(buffers[3], first)
        lanes = lanes_of(x)
        whole = count - count % lanes
        for i in range(0, whole, lanes):
            map_lanes(derivative, advance(x, i), advance(gx, i))
            store(load(advance(gx, i)) * load(advance(g, i)), advance(gx, i))
        if whole < count:
            work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
            for lane in range(lanes):
                work[lane] = x[whole + lane] if whole + lane < count else x[whole]
            map_lanes(derivative, work, advance(work, lanes))
            for i in range(whole, count):
                gx[i] = g[i] * work[lanes + i - whole]

    return gradient
