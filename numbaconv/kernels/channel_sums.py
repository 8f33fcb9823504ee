"""Sums over all positions of (positions, channels), with what is done to the numbers on the way.

Several positions are read as one long row, so that loops over few channels are long too; a task takes some of these
rows and leaves one sum per channel. Whoever launched the kernel adds up the tasks' sums, in order.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.choice import where_positive
from numbaconv.simd.lanewise import where_above
from numbaconv.simd.pointers import advance, clear
from numbaconv.simd.vectors import lanes_of, load, splat, store

# Geometry: channels, numbers of a row (a multiple of the channels), numbers of a task (a multiple of that), and all
# numbers, the last of which may fill a row in part.
WORKSPACE, CHANNELS, ROW, CHUNK, SIZE = range(5)


@inline
def fold(sums, channels, row, target):
    """Add up the places of a row that belong to the same channel."""
    for c in range(channels):
        target[c] = sums[c]
    for start in range(channels, row, channels):
        for c in range(channels):
            target[c] += sums[start + c]


@inline
def _masked_row(g, y, kept, sums, count):
    # Registers by hand: LLVM would make single numbers of a loop whose source may be its target.
    lanes, zero = lanes_of(g), splat(g, 0.0)
    whole = count - count % lanes
    for i in range(0, whole, lanes):
        register = where_above(load(advance(y, i)), zero, load(advance(g, i)), zero)
        store(register, advance(kept, i))
        store(load(advance(sums, i)) + register, advance(sums, i))
    for i in range(whole, count):
        value = where_positive(y[i], g[i])
        kept[i] = value
        sums[i] += value


@task_kernel
def relu_gradient_sums(worker, task, geometry, buffers):
    """Set buffer 3, which may be g, to g (1) where y (2) is positive, else to 0; sum that to row `task` of buffer 4."""
    start, row, channels = task * geometry[CHUNK], geometry[ROW], geometry[CHANNELS]
    g, y, kept = advance(buffers[1], start), advance(buffers[2], start), advance(buffers[3], start)
    sums, count = advance(buffers[0], worker * geometry[WORKSPACE]), min(geometry[CHUNK], geometry[SIZE] - start)
    clear(sums, row)
    for r in range(0, count, row):
        _masked_row(advance(g, r), advance(y, r), advance(kept, r), sums, min(row, count - r))
    fold(sums, channels, row, advance(buffers[4], task * channels))


@inline
def _row(g, sums, count):
    for i in range(count):
        sums[i] += g[i]


@task_kernel
def channel_sums(worker, task, geometry, buffers):
    """Sum g (buffer 1) to row `task` of buffer 2."""
    start, row, channels = task * geometry[CHUNK], geometry[ROW], geometry[CHANNELS]
    g, sums = advance(buffers[1], start), advance(buffers[0], worker * geometry[WORKSPACE])
    count = min(geometry[CHUNK], geometry[SIZE] - start)
    clear(sums, row)
    for r in range(0, count, row):
        _row(advance(g, r), sums, min(row, count - r))
    fold(sums, channels, row, advance(buffers[2], task * channels))


@task_kernel
def partial_sums(worker, task, geometry, buffers):
    """Add up the rows of buffer 1, geometry[1] of them, to buffer 2, one after the other; geometry[2] numbers each."""
    rows, channels, partial, sums = geometry[1], geometry[2], buffers[1], buffers[2]
    for c in range(channels):
        sums[c] = partial[c]
    for r in range(1, rows):
        row = advance(partial, r * channels)
        for c in range(channels):
            sums[c] += row[c]
