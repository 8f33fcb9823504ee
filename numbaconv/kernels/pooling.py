"""Maxima and means over windows, and their gradients, in any number of spatial axes.

Only the last spatial axis is walked by arithmetic. All axes before it are one list in the geometry: for each outer
output the rows of the input that its window covers (forward and maximum's gradient), or for each outer input the rows
of the output whose windows cover it (mean's gradient). Padding is not in the lists: windows end at the input's edge.

A task owns a chunk of channels of some rows (or of one image, in maximum's gradient), so no two tasks write the same
place and each sum runs in row-major order whatever the chunks and the workers are. No chunk but the only one has fewer
channels than a register: the channels that are left at a chunk's end are computed by a register that ends there too.
"""

from __future__ import annotations

import numpy as np

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.lanewise import divide, where_maximum
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import fma, lanes_of, load, load_first, maximum, splat, store, store_first

# Geometry. X, Y: sizes of the last spatial axis; *_IMAGE: numbers of one image; FIRST, ROWS: where the lists start
# (FIRST[i] to FIRST[i + 1] are the entries of outer position i); COVERED: rows under the window of each outer output;
# PIECES: rows of outputs of all images, or parts of rows, of BLOCK outputs, BLOCKS a row; TASK_PIECES: those of a task.
(WORKSPACE, OUTER, CHUNKS, CHUNK, CHANNELS, X, Y, POOL, STRIDE, LOW, X_IMAGE, Y_IMAGE, FIRST, ROWS, COVERED, PIECES,
 TASK_PIECES, BLOCK, BLOCKS) = range(19)  # fmt: skip
HEADER = 19

MINUS_INFINITY = -np.inf


@inline
def larger(a, b):
    return maximum(a, b)


@inline
def sum_of(a, b):
    return a + b


@inline
def _reduce_vector(combine, start, x, rows, row_count, width, channels):
    """Combine one full register of every position of a window."""
    acc = splat(x, start)
    for r in range(row_count):
        row = advance(x, rows[r])
        for w in range(width):
            acc = combine(acc, load(advance(row, w * channels)))
    return acc


@inline
def _reduce_four(combine, start, x, rows, row_count, width, channels):
    """Combine four neighbouring registers of every position of a window."""
    lanes = lanes_of(x)
    a = b = c = d = splat(x, start)
    for r in range(row_count):
        row = advance(x, rows[r])
        for w in range(width):
            p = advance(row, w * channels)
            a = combine(a, load(p))
            b = combine(b, load(advance(p, lanes)))
            c = combine(c, load(advance(p, 2 * lanes)))
            d = combine(d, load(advance(p, 3 * lanes)))
    return a, b, c, d


@inline
def _reduce_row(combine, finish, start, g, source, target, rows, row_count, first_channel, last_channel):
    """Write one chunk of channels, at least a register, of one row of outputs."""
    lanes, channels = lanes_of(source), g[CHANNELS]
    for o in range(g[Y]):
        left = max(o * g[STRIDE] - g[LOW], 0)
        width = min(o * g[STRIDE] - g[LOW] + g[POOL], g[X]) - left
        window, out, c = advance(source, left * channels), advance(target, o * channels), first_channel
        while c + 4 * lanes <= last_channel:
            v = _reduce_four(combine, start, advance(window, c), rows, row_count, width, channels)
            for i in range(4):
                store(finish(v[i], row_count * width), advance(out, c + i * lanes))
            c += 4 * lanes
        while c < last_channel:
            c = min(c, last_channel - lanes)
            u = _reduce_vector(combine, start, advance(window, c), rows, row_count, width, channels)
            store(finish(u, row_count * width), advance(out, c))
            c += lanes


@inline
def _reduce_rows(combine, finish, start, task, g, x, y):
    """Write one chunk of channels of some rows of outputs."""
    first_channel = task % g[CHUNKS] * g[CHUNK]
    last_channel = min(first_channel + g[CHUNK], g[CHANNELS])
    first = task // g[CHUNKS] * g[TASK_PIECES]
    for row in range(first, min(first + g[TASK_PIECES], g[PIECES])):
        image, outer = row // g[OUTER], row % g[OUTER]
        entry = g[g[FIRST] + outer]
        rows, row_count = advance(g, g[ROWS] + entry), g[g[FIRST] + outer + 1] - entry
        source, target = advance(x, image * g[X_IMAGE]), advance(y, row * g[Y] * g[CHANNELS])
        _reduce_row(combine, finish, start, g, source, target, rows, row_count, first_channel, last_channel)


@inline
def as_it_is(vector, count):
    return vector


@inline
def mean(vector, count):
    return divide(vector, count)


@task_kernel
def max_pool(worker, task, geometry, buffers):
    """Set y (buffer 2) to the maximum of x (buffer 1) over each window."""
    _reduce_rows(larger, as_it_is, MINUS_INFINITY, task, geometry, buffers[1], buffers[2])


@task_kernel
def average_pool(worker, task, geometry, buffers):
    """Set y (buffer 2) to the mean of x (buffer 1) over each window."""
    _reduce_rows(sum_of, mean, 0.0, task, geometry, buffers[1], buffers[2])


@inline
def _clear_chunk(gx, positions, channels, first_channel, last_channel):
    """Set one chunk of channels of every position to zero."""
    lanes, zero = lanes_of(gx), splat(gx, 0.0)
    for p in range(positions):
        target = advance(gx, p * channels)
        c = first_channel
        while c + lanes <= last_channel:
            store(zero, advance(target, c))
            c += lanes
        if c < last_channel:
            store_first(zero, advance(target, c), last_channel - c)


@inline
def _give_vector(x, y, gy, gx, rows, row_count, width, channels):
    """Add gy to gx at the first position of the window, in row-major order, that holds y; one full register."""
    top, remaining, zero = load(y), load(gy), splat(x, 0.0)
    for r in range(row_count):
        for w in range(width):
            offset = rows[r] + w * channels
            value, target = load(advance(x, offset)), advance(gx, offset)
            store(load(target) + where_maximum(value, top, remaining, zero), target)
            remaining = where_maximum(value, top, zero, remaining)


@inline
def _give_lanes(x, y, gy, gx, rows, row_count, width, channels, count):
    """Do the same for the first `count` lanes."""
    top, remaining, zero = load_first(y, count), load_first(gy, count), splat(x, 0.0)
    for r in range(row_count):
        for w in range(width):
            offset = rows[r] + w * channels
            value, target = load_first(advance(x, offset), count), advance(gx, offset)
            share = where_maximum(value, top, remaining, zero)
            store_first(load_first(target, count) + share, target, count)
            remaining = where_maximum(value, top, zero, remaining)


@task_kernel
def max_pool_grad(worker, task, geometry, buffers):
    """Add to gx (buffer 4) each output's gradient gy (3), at the first place in x (1) that holds the output's y (2)."""
    g, channels = geometry, geometry[CHANNELS]
    chunk, image = task % g[CHUNKS], task // g[CHUNKS]
    x, gx = advance(buffers[1], image * g[X_IMAGE]), advance(buffers[4], image * g[X_IMAGE])
    y, gy = advance(buffers[2], image * g[Y_IMAGE]), advance(buffers[3], image * g[Y_IMAGE])
    lanes, first_channel = lanes_of(x), chunk * g[CHUNK]
    last_channel = min(first_channel + g[CHUNK], channels)
    _clear_chunk(gx, g[X_IMAGE] // channels, channels, first_channel, last_channel)
    for outer in range(g[OUTER]):
        rows = advance(g, g[ROWS] + g[g[FIRST] + outer])
        row_count = g[g[FIRST] + outer + 1] - g[g[FIRST] + outer]
        for o in range(g[Y]):
            left = max(o * g[STRIDE] - g[LOW], 0)
            width = min(o * g[STRIDE] - g[LOW] + g[POOL], g[X]) - left
            at = (outer * g[Y] + o) * channels
            c = first_channel
            while c + lanes <= last_channel:
                start = left * channels + c
                _give_vector(
                    advance(x, start), advance(y, at + c), advance(gy, at + c), advance(gx, start),
                    rows, row_count, width, channels,
                )  # fmt: skip
                c += lanes
            if c < last_channel:
                start = left * channels + c
                _give_lanes(
                    advance(x, start), advance(y, at + c), advance(gy, at + c), advance(gx, start),
                    rows, row_count, width, channels, last_channel - c,
                )  # fmt: skip


@inline
def _add_scaled(source, target, scale, first_channel, last_channel):
    """Add `scale` times a chunk of channels of one position to another."""
    lanes, factor = lanes_of(source), splat(source, scale)
    c = first_channel
    while c + lanes <= last_channel:
        store(fma(load(advance(source, c)), factor, load(advance(target, c))), advance(target, c))
        c += lanes
    if c < last_channel:
        count = last_channel - c
        v = fma(load_first(advance(source, c), count), factor, load_first(advance(target, c), count))
        store_first(v, advance(target, c), count)


@task_kernel
def average_pool_grad(worker, task, geometry, buffers):
    """Set gx (buffer 2) to the sum of gy (1) / (values in the window) over the windows that cover each input."""
    g, channels, gy = geometry, geometry[CHANNELS], buffers[1]
    chunk, outer, image = task % g[CHUNKS], task // g[CHUNKS] % g[OUTER], task // g[CHUNKS] // g[OUTER]
    first_channel = chunk * g[CHUNK]
    last_channel = min(first_channel + g[CHUNK], channels)
    source = advance(gy, image * g[Y_IMAGE])
    target = advance(buffers[2], image * g[X_IMAGE] + outer * g[X] * channels)
    _clear_chunk(target, g[X], channels, first_channel, last_channel)
    for i in range(g[X]):
        first = max((i + g[LOW] - g[POOL] + g[STRIDE]) // g[STRIDE], 0)
        last = min((i + g[LOW]) // g[STRIDE] + 1, g[Y])
        for r in range(g[g[FIRST] + outer], g[g[FIRST] + outer + 1]):
            row = g[g[ROWS] + r]
            for o in range(first, last):
                width = min(o * g[STRIDE] - g[LOW] + g[POOL], g[X]) - max(o * g[STRIDE] - g[LOW], 0)
                scale = 1.0 / (g[g[COVERED] + row] * width)
                window = advance(source, (row * g[Y] + o) * channels)
                _add_scaled(window, advance(target, i * channels), scale, first_channel, last_channel)
