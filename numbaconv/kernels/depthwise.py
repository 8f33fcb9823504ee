"""Depthwise convolution: channels in the lanes, one chunk of channels of one block of pixels a task.

The block is gathered for `CHANNELS` output channels (a whole number of registers), so that padding and channels that do
not fill a register cost nothing in the products. The input gradient is the same kernel on flipped taps.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import activate_tile, leave_bounce, waits
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.gather import gather_block, repeat_channels
from numbaconv.kernels.tile_sizes import WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import copy_pixel
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_fma_lanes, tile_prefetch, tile_rows, tile_store
from numbaconv.simd.vectors import lanes_of

PARAMETERS = "x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats, ahead"


def make_depthwise_tile(rows: int, vectors: int) -> Any:
    """Return the product of ``rows`` output pixels x ``vectors * lanes`` channels, repeated along the channels.

    Neighbouring channels follow one another, so that memory is read and written in long stretches. What lies `ahead`,
    the row of the input that the next row of outputs needs, and the next pixels of the output are fetched meanwhile.
    """

    @inline
    def depthwise_tile(x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats, ahead):
        """y[m, c] = max(lower, bias[c] + sum over taps of x[offsets[tap] + m * pixel_stride + c] * kernel[tap, c])."""
        for i in range(repeats):
            c = i * vectors * lanes_of(x)
            acc = tile_rows(rows, vectors, advance(bias, c))
            tile_prefetch(acc, advance(x, ahead + c), pixel_stride)
            tile_prefetch(acc, advance(y, rows * y_stride + c), y_stride)
            for tap in range(taps):
                weights = advance(kernel, tap * width + c)
                acc = tile_fma_lanes(acc, advance(x, offsets[tap] + c), pixel_stride, weights)
            tile_store(activate_tile(acc, lower == 0), advance(y, c), y_stride)

    return depthwise_tile


wide_depthwise = by_rows(lambda rows: make_depthwise_tile(rows, 2), WIDE_SIZES, PARAMETERS)
narrow_depthwise = by_rows(lambda rows: make_depthwise_tile(rows, 1), WIDE_SIZES, PARAMETERS)


@inline
def pack_taps(kernel, record, channel, channels, target, width):
    """target[tap, c] = the tap's number for output channel `channel + c`."""
    taps, step = advance(record, record[at.KERNEL_TAPS]), record[at.KERNEL_COLUMN]
    for tap in range(record[at.TAPS]):
        source, row = advance(kernel, taps[tap] + channel * step), advance(target, tap * width)
        if step == 1:
            copy_pixel(source, channels, row)
        else:
            for c in range(channels):
                row[c] = source[c * step]


@inline
def gather_chunk(record, x, block, batch, plane, row, rows, column, columns, channel, channels):
    """Return a pointer to the block's first number, for output channels [channel, channel + channels)."""
    width, repeat = record[at.CHANNELS], record[at.REPEAT]
    first = channel // repeat
    source = advance(x, batch * record[at.X_BATCH] + first * record[at.X_CHANNEL])
    if record[at.IN_PLACE] == 1:
        offset = record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS]]
        offset += record[record[at.ROW_TABLE] + row * record[at.ROW_STEP]]
        return advance(source, offset + record[record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE]])
    read = (channel + channels - 1) // repeat + 1 - first
    gather_block(source, record, plane, row, rows, column, columns, read, block, width)
    if repeat > 1:
        pixels = record[at.PLANE_TAPS] * record[at.TAP_ROWS] * record[at.TAP_COLUMNS]
        repeat_channels(block, pixels, width, channels, channel, repeat)
    return block


@inline
def depthwise_pixels(rows, x, record, kernel, bias, lower, y, channels, bounce):
    """Run one tile of `rows` pixels for all channels of the chunk.

    The last register may overlap the one before, whose numbers are written twice: nothing behind the channels is read
    or written. Fewer channels than a register, and tiles whose activation needs it, go by way of `bounce`.
    """
    pixel_stride, y_stride, taps = record[at.PIXEL_STRIDE], record[at.Y_PIXEL], record[at.TAPS]
    offsets, width, lanes = advance(record, record[at.TAP_OFFSETS]), record[at.CHANNELS], lanes_of(x)
    ahead = record[at.AHEAD_STEP]
    pairs = channels // (2 * lanes)
    c = pairs * 2 * lanes
    if waits(lower):
        for p in range(0, c, 2 * lanes):
            wide_depthwise(
                rows, advance(x, p), pixel_stride, taps, offsets, advance(kernel, p), width, advance(bias, p), lower,
                bounce, 2 * lanes, 1, ahead,
            )  # fmt: skip
            leave_bounce(bounce, 2 * lanes, rows, 2 * lanes, lower, advance(y, p), y_stride)
    else:
        wide_depthwise(rows, x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, pairs, ahead)
    is_apart = channels < lanes or waits(lower)
    while c < channels:
        first = max(0, min(c, channels - lanes))
        target, stride = advance(y, first), y_stride
        if is_apart:
            target, stride = bounce, lanes
        narrow_depthwise(
            rows, advance(x, first), pixel_stride, taps, offsets, advance(kernel, first), width, advance(bias, first),
            lower, target, stride, 1, ahead,
        )  # fmt: skip
        if is_apart:
            leave_bounce(bounce, lanes, rows, min(lanes, channels), lower, advance(y, first), y_stride)
        c += lanes


@task_kernel
def depthwise_forward(worker, task, geometry, buffers):
    """Compute one block of pixels for one chunk of channels of one phase."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    batch, _, plane, row, rows, column, columns = block_extent(record, index)

    width = record[at.CHANNELS]
    channel = max(0, min(chunk * width, record[at.OUT_CHANNELS] - lanes_of(work)))
    channels = min(width, record[at.OUT_CHANNELS] - channel)
    source = gather_chunk(record, buffers[at.X], work, batch, plane, row, rows, column, columns, channel, channels)
    packed, bounce = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    pack_taps(buffers[at.KERNEL], record, channel, channels, packed, width)
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + channel
    y = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    bias, lower = advance(buffers[at.BIAS], at.BIAS_HEADER + channel), buffers[at.BIAS][0]
    tiles = advance(record, record[at.WIDE_LAST if column + columns == record[at.OUT_COLUMNS] else at.WIDE_FULL])
    for r in range(rows):
        x_row, y_row = advance(source, r * record[at.ROW_STRIDE]), advance(y, r * record[at.Y_ROW])
        pixel = 0
        for tile in range(tiles[0]):
            x, target = advance(x_row, pixel * record[at.PIXEL_STRIDE]), advance(y_row, pixel * record[at.Y_PIXEL])
            depthwise_pixels(tiles[1 + tile], x, record, packed, bias, lower, target, channels, bounce)
            pixel += tiles[1 + tile]
