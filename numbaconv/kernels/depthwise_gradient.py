"""Kernel gradient of a depthwise convolution: channels in the lanes, the taps of a kernel row in the tile's rows.

As in the dense kernel gradient, blocks are dealt to CHUNKS private sums by shape alone, added in order by the worker
that finishes the last of a channel chunk.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.gather import gather_block, repeat_channels
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import add_columns, copy_columns, copy_pixel
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.tiles import tile_fma_lanes, tile_load, tile_store
from numbaconv.simd.vectors import lanes_of


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


PARAMETERS = "x, tap_stride, pixel_stride, row_stride, height, columns, grad, width, total, total_stride"


def make_tap_tile(taps: int, vectors: int) -> Any:
    """Return the sum over pixels for ``taps`` neighbouring taps x ``vectors * lanes`` channels."""

    @inline
    def tap_tile(x, tap_stride, pixel_stride, row_stride, height, columns, grad, width, total, total_stride):
        """total[t, c] += sum over one block's pixels of x[pixel + t * tap_stride + c] * grad[pixel, c]."""
        acc = tile_load(taps, vectors, total, total_stride, vectors * lanes_of(x))
        for row in range(height):
            pixels = advance(x, row * row_stride)
            for column in range(columns):
                pixel = advance(pixels, column * pixel_stride)
                acc = tile_fma_lanes(acc, pixel, tap_stride, advance(grad, column * width), lanes_of(x))
            grad = advance(grad, columns * width)
        tile_store(acc, total, total_stride)

    return tap_tile


wide_taps = by_rows(lambda taps: make_tap_tile(taps, 2), WIDE_SIZES, PARAMETERS)
narrow_taps = by_rows(lambda taps: make_tap_tile(taps, 1), NARROW_SIZES, PARAMETERS)


@inline
def block_taps(record, source, grad, rows, columns, wide, total):
    """Add one block's products for one or two registers of channels: every tap."""
    width, pixel, row = record[at.CHANNELS], record[at.PIXEL_STRIDE], record[at.ROW_STRIDE]
    tap_stride, stride, run = record[at.TAP_STRIDE], record[at.GRADIENT_STRIDE], record[at.TILE_TAPS]
    tiles = advance(record, record[at.WIDE_FULL if wide else at.NARROW_FULL])
    for kernel_row in range(record[at.TAPS] // run):
        tap = kernel_row * run
        for tile in range(tiles[0]):
            count = tiles[1 + tile]
            x = advance(source, record[record[at.TAP_OFFSETS] + tap])
            target = advance(total, record[record[at.PACKED_TAPS] + tap] * width)
            if wide:
                wide_taps(count, x, tap_stride, pixel, row, rows, columns, grad, width, target, stride)
            else:
                narrow_taps(count, x, tap_stride, pixel, row, rows, columns, grad, width, target, stride)
            tap += count


@inline
def add_block(geometry, buffers, work, block, channel, channels, total):
    """Add the products of one block of pixels to the sums of one chunk of channels."""
    record, lanes = phase_record(geometry, block), lanes_of(work)
    width = record[at.CHANNELS]
    batch, _, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    source = gather_chunk(record, buffers[at.X], work, batch, plane, row, rows, column, columns, channel, channels)
    packed = advance(work, geometry[at.SECOND])
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + channel
    grad = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    for r in range(rows):
        for p in range(columns):
            pixel = advance(grad, r * record[at.Y_ROW] + p * record[at.Y_PIXEL])
            copy_pixel(pixel, channels, advance(packed, (r * columns + p) * width))
    c = 0
    while c < channels:
        wide = channels - c > lanes
        block_taps(record, advance(source, c), advance(packed, c), rows, columns, wide, advance(total, c))
        c += 2 * lanes


@task_kernel
def depthwise_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of one chunk of channels."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, width, taps = geometry[at.CHUNKS], record[at.CHANNELS], record[at.KERNEL_TAP_COUNT]
    channel_chunk, chunk = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    channel = channel_chunk * width
    channels = min(width, record[at.OUT_CHANNELS] - channel)
    total = advance(work, geometry[at.BOUNCE])
    clear(total, taps * width)
    blocks = geometry[at.BLOCKS]
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        add_block(geometry, buffers, work, block, channel, channels, total)

    stride, size = record[at.OUT_CHANNELS], geometry[at.GRADIENT_SIZE]
    result = advance(buffers[at.KERNEL], channel)
    if chunks == 1:
        copy_columns(total, width, taps, channels, result, stride)
        return
    partial = advance(buffers[at.PACKED_KERNEL], channel)
    copy_columns(total, width, taps, channels, advance(partial, chunk * size), stride)
    if atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), channel_chunk), 1) == chunks - 1:
        copy_columns(partial, stride, taps, channels, result, stride)
        for other in range(1, chunks):
            add_columns(advance(partial, other * size), stride, taps, channels, result, stride)
