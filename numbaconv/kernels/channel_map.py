"""Maps of (positions, channels) to the same, number by number: normalisation by given statistics, and relu."""

from __future__ import annotations

from math import sqrt

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store

# Geometry: channels, numbers of a row (several positions, so that loops over few channels are long), numbers of a task
# (a multiple of that), all numbers, the last of which may fill a row in part, and whether relu follows.
WORKSPACE, CHANNELS, ROW, CHUNK, SIZE, RELU = range(6)
# Buffers; the parameters are epsilon and 1, in the precision of the others.
X, MEAN, VARIANCE, Y, SCALE, OFFSET, PARAMETERS = range(1, 8)


@task_kernel
def normalize(worker, task, geometry, buffers):
    """Compute y = (x - mean) * (1 / sqrt(variance + epsilon) * scale) + offset, each operation rounded, or its relu."""
    channels, row, start = geometry[CHANNELS], geometry[ROW], task * geometry[CHUNK]
    means = advance(buffers[0], worker * geometry[WORKSPACE])
    factors, offsets = advance(means, row), advance(means, 2 * row)
    epsilon, one = buffers[PARAMETERS][0], buffers[PARAMETERS][1]
    for c in range(channels):
        means[c] = buffers[MEAN][c]
        factors[c] = one / sqrt(buffers[VARIANCE][c] + epsilon) * buffers[SCALE][c]
        offsets[c] = buffers[OFFSET][c]
    repeat(means, channels, row)
    repeat(factors, channels, row)
    repeat(offsets, channels, row)
    x, y = advance(buffers[X], start), advance(buffers[Y], start)
    count = min(geometry[CHUNK], geometry[SIZE] - start)
    first = 0
    while first < count:
        size, target = min(row, count - first), advance(y, first)
        _map_row(advance(x, first), means, factors, offsets, target, size)
        if geometry[RELU] != 0:
            _rectify_row(target, target, size)
        first += row


@inline
def repeat(values, channels, row):
    """Repeat the first `channels` numbers to the end of the row."""
    for c in range(channels, row):
        values[c] = values[c - channels]


@inline
def _map_row(x, means, factors, offsets, y, count):
    for i in range(count):
        y[i] = (x[i] - means[i]) * factors[i] + offsets[i]


@task_kernel
def rectify(worker, task, geometry, buffers):
    """Compute max(x, 0), buffer 2 from buffer 1; NaN stays."""
    start = task * geometry[CHUNK]
    count = min(geometry[CHUNK], geometry[SIZE] - start)
    _rectify_row(advance(buffers[1], start), advance(buffers[2], start), count)


@inline
def _rectify_row(x, y, count):
    lanes, zero, i = lanes_of(x), splat(x, 0), 0
    while i + lanes <= count:
        store(at_least(load(advance(x, i)), zero) + zero, advance(y, i))
        i += lanes
    while i < count:
        y[i] = 0 if x[i] <= 0 else x[i]
        i += 1
