"""Kernel gradient with few channels: pixels in the lanes, from planes of the input and of grad_y.

A tile's rows are numbers of a tap's run, its columns output channels: acc[i, k] += x[i, pixels] * grad_y[k, pixels],
lane by lane. Each task keeps a register of sums for every number of the gradient and adds up their lanes at its end.
Planes are zero behind their pixels, so that registers may reach over the end of a row. Layout of grad_y: (rows,
channels, pitch). The chunks are dealt and added as in the direct kernel gradient.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.planar import gather_block, gather_planes
from numbaconv.kernels.tile_sizes import OUTER_SIZES, by_rows
from numbaconv.kernels.vector_copy import add_run
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear, copy
from numbaconv.simd.tiles import tile_add_folded, tile_fma_outer, tile_zeros
from numbaconv.simd.vectors import lanes_of

PARAMETERS = "x, x_stride, row_stride, grad, grad_stride, grad_row_stride, height, columns, sums, sums_stride"


def make_outer_tile(size: int) -> Any:
    """Return the sum over pixels for ``size // 64`` numbers x ``size // 8 % 8`` channels, ``size % 8`` registers."""
    numbers, channels, registers = size // 64, size // 8 % 8, size % 8
    vectors = channels * registers

    @inline
    def outer_tile(x, x_stride, row_stride, grad, grad_stride, grad_row_stride, height, columns, sums, sums_stride):
        """sums[i, k] += sum over rows and columns of x[row, i, column] * grad[row, k, column], lane by lane."""
        acc = tile_zeros(numbers, vectors, x)
        width = registers * lanes_of(x)
        for row in range(height):
            pixels, grads = advance(x, row * row_stride), advance(grad, row * grad_row_stride)
            for part in range((columns + width - 1) // width):
                first, second = advance(pixels, part * width), advance(grads, part * width)
                acc = tile_fma_outer(acc, first, x_stride, second, grad_stride, registers)
        tile_add_folded(acc, sums, sums_stride, registers)

    return outer_tile


outer_tile = by_rows(make_outer_tile, OUTER_SIZES, PARAMETERS)


@inline
def clear_tails(record, rows, columns, block):
    """Set what follows the gathered positions of each plane of the input to zero."""
    channels, pitch, stride = record[at.CHANNELS], record[at.PIXEL_PITCH], record[at.COLUMN_BASE]
    in_rows = (rows - 1) * record[at.ROW_STEP] + record[at.ROW_REACH]
    positions = (columns - 1) * stride + record[at.COLUMN_REACH]
    for tap in range(record[at.PLANE_TAPS]):
        for q in range(in_rows):
            row = advance(block, (tap * record[at.TAP_ROWS] + q) * stride * channels * pitch)
            for residue in range(stride):
                count = max(positions - residue + stride - 1, 0) // stride
                for channel in range(channels):
                    clear(advance(row, (residue * channels + channel) * pitch + count), pitch - count)


@inline
def gather_grad(grad, record, rows, columns, block):
    """Copy a block of grad_y to planes with zeros behind them."""
    channels, pitch = record[at.OUT_CHANNELS], record[at.GRAD_PITCH]
    for row in range(rows):
        planes = advance(block, row * channels * pitch)
        gather_planes(advance(grad, row * record[at.Y_ROW]), record[at.Y_PIXEL], columns, channels, 1, planes, pitch)
        for channel in range(channels):
            clear(advance(planes, channel * pitch + columns), pitch - columns)


@inline
def add_products(record, x, grad, rows, columns, sums):
    """Add the products of a block's planes to the registers of sums."""
    lanes, channels, pitch = lanes_of(x), record[at.OUT_CHANNELS], record[at.GRAD_PITCH]
    offsets, gradient_rows = advance(record, record[at.TAP_OFFSETS]), advance(record, record[at.PACKED_TAPS])
    tiles, step = advance(record, record[at.WIDE_FULL]), record[at.GRADIENT_STRIDE]
    for tap in range(record[at.TAPS]):
        for tile in range(tiles[0]):
            size, i, channel = tiles[1 + 3 * tile], tiles[2 + 3 * tile], tiles[3 + 3 * tile]
            target = advance(sums, ((gradient_rows[tap] + i * step) * channels + channel) * lanes)
            outer_tile(
                size, advance(x, offsets[tap] + i * record[at.RUN_STRIDE]), record[at.RUN_STRIDE],
                record[at.ROW_STRIDE], advance(grad, channel * pitch), pitch, channels * pitch, rows, columns, target,
                step * channels * lanes,
            )  # fmt: skip


@inline
def add_block(geometry, buffers, work, block, group):
    """Add the products of one block of pixels, image by image."""
    record = phase_record(geometry, block)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    planes, sums = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    offset = record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    offset += row * record[at.Y_ROW] + column * record[at.Y_PIXEL]
    for image in range(batch, batch + images):
        x = advance(buffers[at.X], image * record[at.X_BATCH] + group * record[at.X_GROUP])
        gather_block(x, record, plane, row, rows, column, columns, work)
        clear_tails(record, rows, columns, work)
        grad = advance(buffers[at.Y], image * record[at.Y_BATCH] + offset)
        gather_grad(grad, record, rows, columns, planes)
        add_products(record, work, planes, rows, columns, sums)


@inline
def leave_sums(sums, rows, channels, total, stride):
    """total[row * stride + channel] = the sum of the lanes of that number's register."""
    lanes = lanes_of(sums)
    for row in range(rows):
        for channel in range(channels):
            register = advance(sums, (row * channels + channel) * lanes)
            number = register[0]
            for lane in range(1, lanes):
                number += register[lane]
            total[row * stride + channel] = number


@inline
def add_chunks(record, partial, chunks, chunk_size, stride, columns, out):
    """Add the private sums of one group to `out`, in the order of the chunks."""
    for tap in range(record[at.KERNEL_TAP_COUNT]):
        for i in range(record[at.CHANNELS]):
            row = (tap * record[at.GRADIENT_CHANNELS] + i) * stride
            target, first = advance(out, row), advance(partial, row)
            copy(target, first, columns)
            for chunk in range(1, chunks):
                add_run(advance(first, chunk * chunk_size), columns, target)


@task_kernel
def planar_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of one group."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, blocks, sums = geometry[at.CHUNKS], geometry[at.BLOCKS], advance(work, geometry[at.BOUNCE])
    group, chunk = task % record[at.GROUPS], task // record[at.GROUPS]
    rows, channels = record[at.KERNEL_TAP_COUNT] * record[at.CHANNELS], record[at.OUT_CHANNELS]
    stride, offset = record[at.GROUPS] * channels, group * channels
    clear(sums, rows * channels * lanes_of(sums))
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        add_block(geometry, buffers, work, block, group)
    total = buffers[at.PACKED_KERNEL] if chunks > 1 else buffers[at.KERNEL]
    leave_sums(sums, rows, channels, advance(total, chunk * geometry[at.GRADIENT_SIZE] + offset), stride)
    if chunks > 1 and atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), group), 1) == chunks - 1:
        partial, out = advance(buffers[at.PACKED_KERNEL], offset), advance(buffers[at.KERNEL], offset)
        add_chunks(record, partial, chunks, geometry[at.GRADIENT_SIZE], stride, channels, out)
