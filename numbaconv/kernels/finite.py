"""A check of the numbers between two launches of a program, where Python cannot look at them."""

from __future__ import annotations

from numbaconv.jit import task_kernel
from numbaconv.simd.pointers import advance, as_counters
from numbaconv.simd.vectors import fma, lanes_of, load, splat, store

# Geometry; the workspace is one register.
WORKSPACE = 0
SIZE = 1
# Buffers.
WORK = 0
X = 1
STATUS = 2

CHUNK = 1 << 12


@task_kernel
def require_finite(worker, task, geometry, buffers):
    """Set the status word unless the sum of the squares of a chunk is finite, four times over."""
    first = task * CHUNK
    count = min(CHUNK, geometry[SIZE] - first)
    x, work = advance(buffers[X], first), advance(buffers[WORK], worker * geometry[WORKSPACE])
    lanes, i = lanes_of(x), 0
    even, odd = splat(x, 0), splat(x, 0)
    while i + 2 * lanes <= count:
        left, right = load(advance(x, i)), load(advance(x, i + lanes))
        even, odd = fma(left, left, even), fma(right, right, odd)
        i += 2 * lanes
    store(even + odd, work)
    total = work[0]
    for lane in range(1, lanes):
        total += work[lane]
    while i < count:
        total += x[i] * x[i]
        i += 1
    total += total
    total += total
    if total - total != 0:
        as_counters(buffers[STATUS])[0] = 1
