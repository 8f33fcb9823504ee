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
from numbaconv.kernels.forward import block_extent, block_input, phase_record
from numbaconv.kernels.packing import panel_width
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import add_columns, add_run
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear, copy
from numbaconv.simd.tiles import tile_add, tile_fma, tile_prefetch, tile_store, tile_zeros
from numbaconv.simd.vectors import lanes_of, load, store

PARAMETERS = (
    "x, image_stride, row_stride, pixel_stride, images, height, columns, grad, total, total_stride, valid, bounce"
)


def make_gradient_tile(count: int, vectors: int) -> Any:
    """Return the sum over pixels for ``count`` numbers of a run x ``vectors * lanes`` output channels."""

    @inline
    def gradient_tile(
        x, image_stride, row_stride, pixel_stride, images, height, columns, grad, total, total_stride, valid, bounce
    ):
        """total[i, k] += sum over one block's pixels of x[pixel, i] * grad[pixel, k].

        The sums so far are fetched while the products run: they lie in L3 or memory.
        """
        width = vectors * lanes_of(x)
        acc = tile_zeros(count, vectors, x)
        tile_prefetch(acc, total, total_stride)
        for image in range(images):
            for row in range(height):
                pixels = advance(x, image * image_stride + row * row_stride)
                for column in range(columns):
                    acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, advance(grad, column * width))
                grad = advance(grad, columns * width)
        if valid == width:
            tile_add(acc, total, total_stride)
        else:
            tile_store(acc, bounce, width)
            add_columns(bounce, width, count, valid, total, total_stride)

    return gradient_tile


wide_rows = by_rows(lambda count: make_gradient_tile(count, 2), WIDE_SIZES, PARAMETERS)
narrow_rows = by_rows(lambda count: make_gradient_tile(count, 1), NARROW_SIZES, PARAMETERS)


@inline
def pack_pixels(grad, row_stride, pixel_stride, rows, columns, valid, width, target):
    """Copy one image's grad_y of one panel to (rows, columns, width), absent channels zero."""
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
def block_gradient(record, source, grad, images, rows, columns, total, stride, valid, bounce):
    """Add one block's products to the sums of one panel: every tap, every number of its run."""
    lanes = lanes_of(source)
    image_stride, row_stride, pixel = record[at.IMAGE_STRIDE], record[at.ROW_STRIDE], record[at.PIXEL_STRIDE]
    tiles = advance(record, record[at.WIDE_FULL if valid > lanes else at.NARROW_FULL])
    for tap in range(record[at.TAPS]):
        x = advance(source, record[record[at.TAP_OFFSETS] + tap])
        i = 0
        for tile in range(tiles[0]):
            count, first = tiles[1 + tile], advance(x, i)
            target = advance(total, (record[record[at.PACKED_TAPS] + tap] + i) * stride)
            if valid > lanes:
                wide_rows(
                    count, first, image_stride, row_stride, pixel, images, rows, columns, grad, target, stride, valid,
                    bounce,
                )  # fmt: skip
            else:
                narrow_rows(
                    count, first, image_stride, row_stride, pixel, images, rows, columns, grad, target, stride, valid,
                    bounce,
                )  # fmt: skip
            i += count


@inline
def add_block(geometry, buffers, work, block, group, channel, first_panel, panels, total, stride):
    """Add the products of one block of pixels to the sums of some panels and input channels of a group."""
    record, lanes = phase_record(geometry, block), lanes_of(work)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, group, channel)
    packed, bounce = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    grad = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    for panel in range(panels):
        first = panel * 2 * lanes
        out = first_panel * 2 * lanes + first
        valid = min(2 * lanes, record[at.OUT_CHANNELS] - out)
        width = panel_width(valid, lanes)
        for image in range(images):
            pixels = advance(grad, image * record[at.Y_BATCH] + out)
            target = advance(packed, image * rows * columns * width)
            pack_pixels(pixels, record[at.Y_ROW], record[at.Y_PIXEL], rows, columns, valid, width, target)
        block_gradient(record, source, packed, images, rows, columns, advance(total, first), stride, valid, bounce)


@inline
def clear_rows(total, record, stride, columns):
    """Set one panel chunk's and channel chunk's sums to zero."""
    for tap in range(record[at.KERNEL_TAP_COUNT]):
        for i in range(record[at.CHANNELS]):
            clear(advance(total, (tap * record[at.GRADIENT_CHANNELS] + i) * stride), columns)


@inline
def add_chunks(record, partial, chunks, chunk_size, stride, columns, out):
    """Add the private sums of one panel chunk and channel chunk to `out`, in the order of the chunks."""
    for tap in range(record[at.KERNEL_TAP_COUNT]):
        for i in range(record[at.CHANNELS]):
            row = (tap * record[at.GRADIENT_CHANNELS] + i) * stride
            target, first = advance(out, row), advance(partial, row)
            copy(target, first, columns)
            for chunk in range(1, chunks):
                add_run(advance(first, chunk * chunk_size), columns, target)


@task_kernel
def direct_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of some panels and input channels of one group."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, lanes = geometry[at.CHUNKS], lanes_of(work)
    panel_chunk, index = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    channel_chunk, index = index % record[at.CHANNEL_CHUNKS], index // record[at.CHANNEL_CHUNKS]
    group, chunk = index % record[at.GROUPS], index // record[at.GROUPS]
    first_panel = panel_chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    stride, channel = record[at.GROUPS] * record[at.OUT_CHANNELS], channel_chunk * record[at.CHANNELS]
    first_out = first_panel * 2 * lanes
    outs = min(panels * 2 * lanes, record[at.OUT_CHANNELS] - first_out)
    offset = channel * stride + group * record[at.OUT_CHANNELS] + first_out
    total = buffers[at.PACKED_KERNEL] if chunks > 1 else buffers[at.KERNEL]
    total = advance(total, chunk * geometry[at.GRADIENT_SIZE] + offset)
    clear_rows(total, record, stride, outs)

    blocks = geometry[at.BLOCKS]
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        add_block(geometry, buffers, work, block, group, channel, first_panel, panels, total, stride)

    if chunks > 1:
        parts = record[at.PANEL_CHUNKS] * record[at.CHANNEL_CHUNKS]
        finished = group * parts + channel_chunk * record[at.PANEL_CHUNKS] + panel_chunk
        if atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), finished), 1) == chunks - 1:
            partial, out = advance(buffers[at.PACKED_KERNEL], offset), advance(buffers[at.KERNEL], offset)
            add_chunks(record, partial, chunks, geometry[at.GRADIENT_SIZE], stride, outs, out)
