"""Depthwise convolution: channels in the lanes, one chunk of channels of one block of pixels a task.

The block is gathered for `CHANNELS` output channels (a whole number of registers), so that padding and channels that do
not fill a register cost nothing in the products. The input gradient is the same kernel on flipped taps.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import phase_record
from numbaconv.kernels.gather import gather_block, repeat_channels
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import copy_columns
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_at_least, tile_fma_lanes, tile_rows, tile_store
from numbaconv.simd.vectors import lanes_of

PARAMETERS = "x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats"


def make_depthwise_tile(rows: int, vectors: int) -> Any:
    """Return the product of ``rows`` output pixels x ``vectors * lanes`` channels, for a number of tiles in a row."""

    @inline
    def depthwise_tile(x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats):
        """y[m, c] = max(lower, bias[c] + sum over taps of x[offsets[tap] + m * pixel_stride + c] * kernel[tap, c])."""
        for _ in range(repeats):
            acc = tile_rows(rows, vectors, bias)
            for tap in range(taps):
                acc = tile_fma_lanes(acc, advance(x, offsets[tap]), pixel_stride, advance(kernel, tap * width))
            if lower == 0:
                acc = tile_at_least(acc, lower)
            tile_store(acc, y, y_stride)
            x, y = advance(x, rows * pixel_stride), advance(y, rows * y_stride)

    return depthwise_tile


wide_depthwise = by_rows(lambda rows: make_depthwise_tile(rows, 2), WIDE_SIZES, PARAMETERS)
narrow_depthwise = by_rows(lambda rows: make_depthwise_tile(rows, 1), NARROW_SIZES, PARAMETERS)


@inline
def pack_taps(kernel, record, channel, channels, target, width):
    """target[tap, c] = the tap's number for output channel `channel + c`."""
    taps, step = advance(record, record[at.KERNEL_TAPS]), record[at.KERNEL_COLUMN]
    for tap in range(record[at.TAPS]):
        source = advance(kernel, taps[tap] + channel * step)
        for c in range(channels):
            target[tap * width + c] = source[c * step]


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
def depthwise_run(rows, repeats, wide, x, record, kernel, bias, lower, y, y_stride):
    """Run `repeats` tiles of `rows` pixels, one or two registers of channels wide."""
    pixel_stride, taps, width = record[at.PIXEL_STRIDE], record[at.TAPS], record[at.CHANNELS]
    offsets = advance(record, record[at.TAP_OFFSETS])
    if wide:
        wide_depthwise(rows, x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats)
    else:
        narrow_depthwise(rows, x, pixel_stride, taps, offsets, kernel, width, bias, lower, y, y_stride, repeats)


@inline
def depthwise_columns(tiles, wide, x, record, kernel, bias, lower, y, valid, bounce):
    """Cover a row of output pixels by the runs of equal tiles listed at `tiles`: count, then (size, repeats) each.

    Of the channels `valid` are stored; where they do not fill the registers, by way of `bounce`.
    """
    full = 2 * lanes_of(x) if wide else lanes_of(x)
    for run in range(tiles[0]):
        rows, repeats = tiles[1 + 2 * run], tiles[2 + 2 * run]
        x_step, y_step = rows * record[at.PIXEL_STRIDE], rows * record[at.Y_PIXEL]
        if valid >= full:
            depthwise_run(rows, repeats, wide, x, record, kernel, bias, lower, y, record[at.Y_PIXEL])
        else:
            for i in range(repeats):
                depthwise_run(rows, 1, wide, advance(x, i * x_step), record, kernel, bias, lower, bounce, full)
                copy_columns(bounce, full, rows, valid, advance(y, i * y_step), record[at.Y_PIXEL])
        x, y = advance(x, repeats * x_step), advance(y, repeats * y_step)


@task_kernel
def depthwise_forward(worker, task, geometry, buffers):
    """Compute one block of pixels for one chunk of channels of one phase."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    column_block, index = index % record[at.COLUMN_BLOCKS], index // record[at.COLUMN_BLOCKS]
    row_block, index = index % record[at.ROW_BLOCKS], index // record[at.ROW_BLOCKS]
    plane, batch = index % record[at.PLANES], index // record[at.PLANES]

    width, lanes = record[at.CHANNELS], lanes_of(work)
    channel = chunk * width
    channels = min(width, record[at.OUT_CHANNELS] - channel)
    row, column = row_block * record[at.BLOCK_ROWS], column_block * record[at.BLOCK_COLUMNS]
    rows = min(record[at.BLOCK_ROWS], record[at.OUT_ROWS] - row)
    columns = min(record[at.BLOCK_COLUMNS], record[at.OUT_COLUMNS] - column)
    source = gather_chunk(record, buffers[at.X], work, batch, plane, row, rows, column, columns, channel, channels)
    packed, bounce = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    pack_taps(buffers[at.KERNEL], record, channel, channels, packed, width)
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + channel
    y = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    bias, lower = advance(buffers[at.BIAS], at.BIAS_HEADER + channel), buffers[at.BIAS][0]
    last = column_block == record[at.COLUMN_BLOCKS] - 1
    wide_tiles = advance(record, record[at.WIDE_LAST if last else at.WIDE_FULL])
    narrow_tiles = advance(record, record[at.NARROW_LAST if last else at.NARROW_FULL])
    for r in range(rows):
        x_row, y_row, c = advance(source, r * record[at.ROW_STRIDE]), advance(y, r * record[at.Y_ROW]), 0
        while c < channels:
            wide = channels - c > lanes
            depthwise_columns(
                wide_tiles if wide else narrow_tiles, wide, advance(x_row, c), record, advance(packed, c),
                advance(bias, c), lower, advance(y_row, c), channels - c, bounce,
            )  # fmt: skip
            c += 2 * lanes
