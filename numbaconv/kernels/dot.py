"""1x1 convolution to few output channels: input channels in the lanes, whose products are summed across them at last.

Elsewhere each number of the input is loaded into a register of its own, to meet a register of output channels that a
few leave idle. Here a load brings a register of a pixel's channels, and each output has a register of sums: as many
pixels as make these the lanes of a register of outputs, (pixels, channels) as they lie in memory.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.tile_sizes import DOT_PIXELS, by_rows
from numbaconv.simd.lanewise import tile_store_sums
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.simd.tiles import tile_fma_outer, tile_zeros
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store, store_first

# Geometry.
CHANNELS = 1
OUT_CHANNELS = 2
PIXELS = 3
CHUNK = 4  # pixels of a task, the last one's may be nearly twice as many
TASKS = 5
TOGETHER = 6  # pixels of a tile
BOUNCE = 7  # offset in a worker's workspace of a tile's outputs, behind the kernel
BOUNCE_SIZE = 64

AHEAD = 2
"""Tiles from the one that is computed to the one whose input is fetched."""


def make_dot_tile(channels: int) -> Any:
    """Return the product of the pixels of a tile with the kernels of so many output channels."""
    pixels = DOT_PIXELS[channels]

    @inline
    def dot_tile(x, depth, kernel, y):
        """y[m * channels + k] = sum over i < depth of x[m * depth + i] * kernel[k * depth + i]."""
        acc = tile_zeros(pixels, channels, x)
        for i in range(0, depth, lanes_of(x)):
            acc = tile_fma_outer(acc, advance(x, i), depth, advance(kernel, i), depth, 1)
            for m in range(pixels):
                prefetch(advance(x, (m + AHEAD * pixels) * depth + i))
        tile_store_sums(acc, y)

    return dot_tile


dot_tile = by_rows(make_dot_tile, tuple(DOT_PIXELS), "x, depth, kernel, y")


@inline
def leave_outputs(sums, count, bias, lower, y):
    """Write `count` numbers of neighbouring pixels, with bias and relu; the room behind them is written over."""
    lanes, zero = lanes_of(sums), splat(sums, 0)
    for first in range(0, count, lanes):
        total = load(advance(sums, first)) + load(advance(bias, first))
        if lower == 0 and not waits(lower):
            total = at_least(total, zero)
        if waits(lower):
            store(total, advance(sums, first))
        else:
            store_first(total, advance(y, first), count - first)
    if waits(lower):
        leave_bounce(sums, count, 1, count, lower, y, count)


@task_kernel
def dot_forward(worker, task, geometry, buffers):
    """Compute some neighbouring pixels."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    depth, channels, together = geometry[CHANNELS], geometry[OUT_CHANNELS], geometry[TOGETHER]
    for i in range(depth):
        for k in range(channels):
            work[k * depth + i] = buffers[at.KERNEL][i * channels + k]
    pixel = task * geometry[CHUNK]
    last = geometry[PIXELS] if task == geometry[TASKS] - 1 else pixel + geometry[CHUNK]
    bounce, bias = advance(work, geometry[BOUNCE]), advance(buffers[at.BIAS], at.BIAS_HEADER)
    while pixel < last:
        # The last tile has pixels of the one before again.
        place = min(pixel, last - together)
        dot_tile(channels, advance(buffers[at.X], place * depth), depth, work, bounce)
        leave_outputs(bounce, together * channels, bias, buffers[at.BIAS][0], advance(buffers[at.Y], place * channels))
        pixel += together
