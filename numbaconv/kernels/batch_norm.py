"""Batch normalisation in training: sums over the batch about its mean, and the gradient through its statistics.

Several positions are read as one long row, as in `channel_sums`; the numbers per channel are repeated to its length.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.channel_map import repeat
from numbaconv.kernels.channel_sums import fold
from numbaconv.simd.pointers import advance, clear, copy

# Geometry: that of `channel_sums`.
WORKSPACE, CHANNELS, ROW, CHUNK, SIZE = range(5)


@inline
def _repeated(values, line, channels, row):
    """Return a line in the workspace that holds one number per channel again and again."""
    copy(line, values, channels)
    repeat(line, channels, row)
    return line


@inline
def _squares_row(x, means, sums, count):
    for i in range(count):
        d = x[i] - means[i]
        sums[i] += d * d


@task_kernel
def centred_squares(worker, task, geometry, buffers):
    """Sum (x - mean)**2, x in buffer 1 and the channels' means in 2, to row `task` of buffer 3."""
    channels, row, start = geometry[CHANNELS], geometry[ROW], task * geometry[CHUNK]
    sums = advance(buffers[0], worker * geometry[WORKSPACE])
    means = _repeated(buffers[2], advance(sums, row), channels, row)
    x, count, first = advance(buffers[1], start), min(geometry[CHUNK], geometry[SIZE] - start), 0
    clear(sums, row)
    while first < count:
        _squares_row(advance(x, first), means, sums, min(row, count - first))
        first += row
    fold(sums, channels, row, advance(buffers[3], task * channels))


@inline
def _products_row(g, x, means, sums, products, count):
    for i in range(count):
        sums[i] += g[i]
        products[i] += g[i] * (x[i] - means[i])


@task_kernel
def centred_products(worker, task, geometry, buffers):
    """Sum g (buffer 1) and g (x - mean), x in 2 and means in 3, to the two halves of row `task` of buffer 4."""
    channels, row, start = geometry[CHANNELS], geometry[ROW], task * geometry[CHUNK]
    sums = advance(buffers[0], worker * geometry[WORKSPACE])
    products = advance(sums, row)
    means = _repeated(buffers[3], advance(sums, 2 * row), channels, row)
    g, x = advance(buffers[1], start), advance(buffers[2], start)
    count, first = min(geometry[CHUNK], geometry[SIZE] - start), 0
    clear(sums, 2 * row)
    while first < count:
        _products_row(advance(g, first), advance(x, first), means, sums, products, min(row, count - first))
        first += row
    partial = advance(buffers[4], task * 2 * channels)
    fold(sums, channels, row, partial)
    fold(products, channels, row, advance(partial, channels))


@inline
def _gradient_row(g, x, means, shares, slopes, factors, gx, count):
    for i in range(count):
        gx[i] = (g[i] - (x[i] - means[i]) * slopes[i] - shares[i]) * factors[i]


@task_kernel
def batch_gradient(worker, task, geometry, buffers):
    """Set buffer 7 to (g - (x - mean) slope - share) factor; g, x, mean, slope, share and factor are 1 to 6."""
    channels, row, start = geometry[CHANNELS], geometry[ROW], task * geometry[CHUNK]
    work = advance(buffers[0], worker * geometry[WORKSPACE])
    means = _repeated(buffers[3], work, channels, row)
    slopes = _repeated(buffers[4], advance(work, row), channels, row)
    shares = _repeated(buffers[5], advance(work, 2 * row), channels, row)
    factors = _repeated(buffers[6], advance(work, 3 * row), channels, row)
    g, x, gx = advance(buffers[1], start), advance(buffers[2], start), advance(buffers[7], start)
    count, first = min(geometry[CHUNK], geometry[SIZE] - start), 0
    while first < count:
        gf, xf, gxf = advance(g, first), advance(x, first), advance(gx, first)
        _gradient_row(gf, xf, means, shares, slopes, factors, gxf, min(row, count - first))
        first += row
