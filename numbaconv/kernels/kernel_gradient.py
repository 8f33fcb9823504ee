"""Kernel gradient: the same product with the sum running over pixels.

A tile's rows are numbers of a tap's run (kernel_width * channels contiguous numbers of the input), its columns output
channels: acc[i, k] += x[offsets[tap] + pixel * pixel_stride + i] * grad_y[pixel, k]. The blocks of pixels are dealt
to CHUNKS private sums by the problem's shape alone; the worker that finishes the last chunk of a panel adds them in
order of chunks, so the result has the same bits for any number of threads.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import block_input
from numbaconv.kernels.packing import panel_width
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import copy_columns
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.tiles import tile_fma, tile_load, tile_store
from numbaconv.simd.vectors import lanes_of, load, store

PARAMETERS = "x, pixel_stride, row_stride, columns, height, grad, total, total_stride, valid, bounce"


def make_gradient_tile(count: int, vectors: int) -> Any:
    """Return the sum over pixels for ``count`` numbers of a run x ``vectors * lanes`` output channels."""

    @inline
    def gradient_tile(x, pixel_stride, row_stride, columns, height, grad, total, total_stride, valid, bounce):
        """total[i, k] += sum over one block's pixels of x[pixel, i] * grad[pixel, k]."""
        width = vectors * lanes_of(x)
        acc = tile_load(count, vectors, total, total_stride, valid)
        for row in range(height):
            pixels = advance(x, row * row_stride)
            for column in range(columns):
                acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, advance(grad, column * width))
            grad = advance(grad, columns * width)
        if valid == width:
            tile_store(acc, total, total_stride)
        else:
            tile_store(acc, bounce, width)
            copy_columns(bounce, width, count, valid, total, total_stride)

    return gradient_tile


wide_rows = by_rows(lambda count: make_gradient_tile(count, 2), WIDE_SIZES, PARAMETERS)
narrow_rows = by_rows(lambda count: make_gradient_tile(count, 1), NARROW_SIZES, PARAMETERS)


@inline
def pack_gradient(grad, row_stride, pixel_stride, rows, columns, valid, width, target):
    """Copy the block's grad_y of one panel to (rows, columns, width), absent channels zero."""
    lanes = lanes_of(grad)
    for row in range(rows):
        for column in range(columns):
            pixel = advance(grad, row * row_stride + column * pixel_stride)
            if valid == width:
                for v in range(width // lanes):
                    store(load(advance(pixel, v * lanes)), advance(target, v * lanes))
            else:
                for channel in range(valid):
                    target[channel] = pixel[channel]
                for channel in range(valid, width):
                    target[channel] = 0
            target = advance(target, width)


@inline
def block_gradient(record, source, grad, rows, columns, total, stride, valid, bounce):
    """Add one block's products to the sums of one panel: every tap, every number of its run."""
    lanes = lanes_of(source)
    run, pixel_stride, row_stride = record[at.RUN], record[at.PIXEL_STRIDE], record[at.ROW_STRIDE]
    tiles = advance(record, record[at.WIDE_FULL if valid > lanes else at.NARROW_FULL])
    for tap in range(record[at.TAPS]):
        x = advance(source, record[record[at.TAP_OFFSETS] + tap])
        i = 0
        for tile in range(tiles[0]):
            count, first = tiles[1 + tile], advance(x, i)
            target = advance(total, (tap * run + i) * stride)
            if valid > lanes:
                wide_rows(count, first, pixel_stride, row_stride, columns, rows, grad, target, stride, valid, bounce)
            else:
                narrow_rows(count, first, pixel_stride, row_stride, columns, rows, grad, target, stride, valid, bounce)
            i += count


@inline
def add_chunks(partial, chunks, chunk_size, rows, stride, first, columns, out):
    """out[row, column] = sum over chunks, in order, of one panel chunk's columns."""
    for row in range(rows):
        for column in range(first, first + columns):
            total = partial[row * stride + column]
            for chunk in range(1, chunks):
                total += partial[chunk * chunk_size + row * stride + column]
            out[row * stride + column] = total


@task_kernel
def direct_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of some panels of one group."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, lanes = geometry[at.CHUNKS], lanes_of(work)
    panel_chunk, index = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    group, chunk = index % record[at.GROUPS], index // record[at.GROUPS]
    first_panel = panel_chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    depth, stride = record[at.TAPS] * record[at.RUN], record[at.GROUPS] * record[at.OUT_CHANNELS]
    first_channel = first_panel * 2 * lanes
    channels = min(panels * 2 * lanes, record[at.OUT_CHANNELS] - first_channel)
    channel_offset = group * record[at.OUT_CHANNELS] + first_channel
    total = buffers[at.PACKED_KERNEL] if chunks > 1 else buffers[at.KERNEL]
    total = advance(total, chunk * geometry[at.GRADIENT_SIZE] + channel_offset)
    for row in range(depth):
        clear(advance(total, row * stride), channels)

    packed, bounce = advance(work, geometry[at.PACKED_GRADIENT]), advance(work, geometry[at.BOUNCE])
    blocks = geometry[at.BLOCKS]
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        column_block, index = block % record[at.COLUMN_BLOCKS], block // record[at.COLUMN_BLOCKS]
        row_block, index = index % record[at.ROW_BLOCKS], index // record[at.ROW_BLOCKS]
        plane, batch = index % record[at.PLANES], index // record[at.PLANES]
        row, column = row_block * record[at.BLOCK_ROWS], column_block * record[at.BLOCK_COLUMNS]
        rows = min(record[at.BLOCK_ROWS], record[at.OUT_ROWS] - row)
        columns = min(record[at.BLOCK_COLUMNS], record[at.OUT_COLUMNS] - column)
        source = block_input(record, buffers[at.X], work, batch, plane, row, rows, column, columns, group)
        offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
        offset += row * record[at.Y_ROW] + column * record[at.Y_PIXEL] + first_channel
        for panel in range(panels):
            channel = panel * 2 * lanes
            valid = min(2 * lanes, channels - channel)
            width = panel_width(valid, lanes)
            grad = advance(buffers[at.Y], offset + channel)
            pack_gradient(grad, record[at.Y_ROW], record[at.Y_PIXEL], rows, columns, valid, width, packed)
            block_gradient(record, source, packed, rows, columns, advance(total, channel), stride, valid, bounce)

    if chunks > 1:
        finished = advance(as_counters(buffers[at.COUNTERS]), group * record[at.PANEL_CHUNKS] + panel_chunk)
        if atomic_fetch_add(finished, 1) == chunks - 1:
            partial, size_of_chunk = buffers[at.PACKED_KERNEL], geometry[at.GRADIENT_SIZE]
            add_chunks(partial, chunks, size_of_chunk, depth, stride, channel_offset, channels, buffers[at.KERNEL])
