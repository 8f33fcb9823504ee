"""Convolution with few output channels: pixels in the lanes, from an input gathered as one plane per channel.

Channels that fill a part of a register would leave its other lanes idle. Here a register holds neighbouring output
pixels of one channel, and a number of the kernel is copied to all lanes: acc[k, pixel] += kernel[i, k] * x[i, pixel].
Block layout: (plane taps, rows, residues, channels, pitch). Columns are dealt to as many residues as their stride, so
that the inputs of neighbouring outputs are neighbours.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import activate_tile, leave_bounce, waits
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.tile_sizes import MANY_REGISTERS, PLANAR_SIZES, by_rows
from numbaconv.simd.pointers import advance, clear, copy, prefetch
from numbaconv.simd.tiles import tile_fma as tile_fma_unrolled
from numbaconv.simd.tiles import tile_fma_in_order, tile_splat, tile_store
from numbaconv.simd.transposes import (
    deinterleave,
    interleave,
    part_of,
    transpose_half_square,
    transpose_narrow,
    transpose_square,
)
from numbaconv.simd.vectors import lanes_of

AHEAD = 2
"""Registers of pixels from the one that is transposed to the one whose cache lines are fetched."""


INTERLEAVED = tuple(range(2, 9)) if MANY_REGISTERS else ()
"""Numbers of channels whose pixels become planes, or planes pixels, in whole registers where pixels lie side by side.

So where any numbers of two registers are picked by one instruction.
"""

MOST_INTERLEAVED = max(INTERLEAVED, default=0)


def make_interleave(channels: int) -> Any:
    """Return the code for ``channels`` planes."""

    @inline
    def interleave_planes(planes, pitch, pixels, y, bounce):
        """y[pixel * channels + channel] = planes[channel * pitch + pixel]; the last pixels go through `bounce`."""
        lanes, pixel = lanes_of(planes), 0
        while pixel + lanes <= pixels:
            interleave(channels, advance(planes, pixel), pitch, advance(y, pixel * channels))
            pixel += lanes
        if pixel < pixels:
            interleave(channels, advance(planes, pixel), pitch, bounce)
            copy(advance(y, pixel * channels), bounce, (pixels - pixel) * channels)

    return interleave_planes


def make_deinterleave(channels: int) -> Any:
    """Return the code for ``channels`` planes."""

    @inline
    def deinterleave_pixels(x, pixels, planes, pitch):
        """planes[channel * pitch + pixel] = x[pixel * channels + channel] for a register of pixels or more."""
        lanes, pixel = lanes_of(x), 0
        while pixel < pixels:
            # The last register has pixels of the one before again.
            place = min(pixel, pixels - lanes)
            source = advance(x, place * channels)
            for register in range(channels):
                prefetch(advance(source, (AHEAD * channels + register) * lanes))
            deinterleave(channels, source, advance(planes, place), pitch)
            pixel = place + lanes

    return deinterleave_pixels


interleave_planes = by_rows(make_interleave, INTERLEAVED, "planes, pitch, pixels, y, bounce")
deinterleave_pixels = by_rows(make_deinterleave, INTERLEAVED, "x, pixels, planes, pitch")


@inline
def gather_pixels(x, table, step, pixels, channels, channel_step, block, pitch):
    """Copy single pixels by every `step`-th offset in `table`; -1 is padding."""
    for pixel in range(pixels):
        offset = table[pixel * step]
        for channel in range(channels):
            number = advance(block, channel * pitch + pixel)
            if offset < 0:
                number[0] = 0
            else:
                number[0] = x[offset + channel * channel_step]


@inline
def gather_planes(x, step, pixels, channels, channel_step, block, pitch):
    """block[channel * pitch + pixel] = x[pixel * step + channel * channel_step].

    Whole registers of pixels are transposed in registers. Where these hold more than the pixel's channels, what follows
    the channels' planes is overwritten: it is gathered later.
    """
    lanes, pixel = lanes_of(x), 0
    if step == 1:
        for channel in range(channels):
            copy(advance(block, channel * pitch), advance(x, channel * channel_step), pixels)
        return
    if channel_step == 1 and 1 < channels <= MOST_INTERLEAVED and step == channels and lanes <= pixels:
        deinterleave_pixels(channels, x, pixels, block, pitch)
        return
    half = lanes // 2
    if channel_step == 1 and half <= min(channels, pixels) and pixels < lanes:
        # Short rows by squares of half the size, the last of which have pixels or channels of the ones before again.
        for first in range(0, channels, half):
            channel = min(first, channels - half)
            for begin in range(0, pixels, half):
                place = min(begin, pixels - half)
                source, target = advance(x, place * step + channel), advance(block, channel * pitch + place)
                transpose_half_square(source, step, target, pitch)
        return
    if channel_step == 1 and channels > 1 and step > 0:
        # The last pixels' registers would reach behind the row.
        end = pixels - (max(lanes - channels, 0) + step - 1) // step
        while pixel < end and lanes <= end:
            # The last register has pixels of the one before again.
            place, first = min(pixel, end - lanes), 0
            while first < channels:
                channel = min(first, max(channels - lanes, 0))
                # In the order of memory, whatever order the transposes read it in.
                ahead = advance(x, (place + AHEAD * lanes) * step + first * lanes)
                for register in range(lanes):
                    prefetch(advance(ahead, register * lanes))
                source, target = advance(x, place * step + channel), advance(block, channel * pitch + place)
                transpose_square(source, step, target, pitch)
                first += lanes
            pixel = place + lanes
    for rest in range(pixel, pixels):
        for channel in range(channels):
            block[channel * pitch + rest] = x[rest * step + channel * channel_step]


@inline
def gather_row(x, record, column, positions, block):
    """Copy `positions` columns of one input row, from position `column` of the padded row on."""
    channels, pitch, stride = record[at.CHANNELS], record[at.PIXEL_PITCH], record[at.COLUMN_BASE]
    channel_step = record[at.X_CHANNEL]
    table = advance(record, record[at.COLUMN_TABLE] + column)
    first = min(max(record[at.COLUMN_FIRST] - column, 0), positions)
    last = min(max(record[at.COLUMN_LAST] - column, first), positions)
    for residue in range(stride):
        count = max(positions - residue + stride - 1, 0) // stride
        begin = min(max(first - residue + stride - 1, 0) // stride, count)
        end = min(max(last - residue + stride - 1, 0) // stride, count)
        planes, offsets = advance(block, residue * channels * pitch), advance(table, residue)
        gather_pixels(x, offsets, stride, begin, channels, channel_step, planes, pitch)
        if end > begin:
            source = advance(x, offsets[begin * stride])
            step = stride * record[at.COLUMN_STEP]
            gather_planes(source, step, end - begin, channels, channel_step, advance(planes, begin), pitch)
        rest = advance(offsets, end * stride)
        gather_pixels(x, rest, stride, count - end, channels, channel_step, advance(planes, end), pitch)


@inline
def gather_block(x, record, plane, row, rows, column, columns, block):
    """Copy what output rows [row, row + rows) x columns [column, column + columns) of one plane need."""
    in_rows = (rows - 1) * record[at.ROW_STEP] + record[at.ROW_REACH]
    positions = (columns - 1) * record[at.COLUMN_BASE] + record[at.COLUMN_REACH]
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    row_size = record[at.COLUMN_BASE] * record[at.CHANNELS] * record[at.PIXEL_PITCH]
    for tap in range(record[at.PLANE_TAPS]):
        for q in range(in_rows):
            target = advance(block, (tap * record[at.TAP_ROWS] + q) * row_size)
            if plane_table[tap] < 0 or row_table[q] < 0:
                clear(target, row_size)
            else:
                source = advance(x, plane_table[tap] + row_table[q])
                gather_row(source, record, column * record[at.COLUMN_BASE], positions, target)


UNROLLED_SUMS = 99 if MANY_REGISTERS else 7
"""Sums of a tile around which LLVM may unroll the loop, at most: with 16 registers it would keep some on the stack."""


def make_planar_tile(size: int) -> Any:
    """Return the product of ``size // 16`` output channels x ``size % 16`` registers of pixels."""
    channels, vectors = divmod(size, 16)
    tile_fma = tile_fma_unrolled if channels * vectors <= UNROLLED_SUMS else tile_fma_in_order

    @inline
    def planar_tile(
        x, taps, offsets, run, run_stride, kernel, kernel_taps, kernel_step, kernel_column, bias, activates, y, y_stride
    ):
        """y[k, m] = bias[k] + sum of kernel[taps[tap] + i * step + k * column] * x[offsets[tap] + i * stride + m].

        Or relu of that, where it `activates`. The sum runs over the taps and i < run.
        """
        acc = tile_splat(channels, vectors, bias, 1)
        for tap in range(taps):
            row, weights = advance(x, offsets[tap]), advance(kernel, kernel_taps[tap])
            for i in range(run):
                acc = tile_fma(acc, advance(weights, i * kernel_step), kernel_column, advance(row, i * run_stride))
        tile_store(activate_tile(acc, activates), y, y_stride)

    return planar_tile


PARAMETERS = (
    "x, taps, offsets, run, run_stride, kernel, kernel_taps, kernel_step, kernel_column, bias, activates, y, y_stride"
)
planar_tile = by_rows(make_planar_tile, PLANAR_SIZES, PARAMETERS)


@inline
def leave_pixels(planes, pitch, channels, pixels, y, y_stride):
    """y[pixel * y_stride + channel] = planes[channel * pitch + pixel], number by number."""
    for pixel in range(pixels):
        for channel in range(channels):
            y[pixel * y_stride + channel] = planes[channel * pitch + pixel]


@inline
def transpose_pixels(planes, pitch, channels, y, y_stride):
    """Write one register of pixels; numbers of absent channels behind a pixel's own are overwritten by the next's."""
    lanes = lanes_of(planes)
    if channels <= part_of(planes):
        transpose_narrow(planes, pitch, y, y_stride)
        return
    first = 0
    while first < channels:
        channel = min(first, max(channels - lanes, 0))
        transpose_square(advance(planes, channel * pitch), pitch, advance(y, channel), y_stride)
        first += lanes


@inline
def leave_planes(planes, pitch, channels, pixels, y, y_stride, bounce):
    """y[pixel * y_stride + channel] = planes[channel * pitch + pixel], whole registers of pixels transposed.

    What would be written behind the row's last pixel may be another task's: the last ones go through `bounce`.
    """
    if channels == 1:
        if y_stride == 1:
            copy(y, planes, pixels)
        else:
            leave_pixels(planes, pitch, 1, pixels, y, y_stride)
        return
    lanes, part, pixel = lanes_of(planes), part_of(planes), 0
    if MOST_INTERLEAVED >= channels and y_stride == channels:
        interleave_planes(channels, planes, pitch, pixels, y, bounce)
        return
    idle = max((part if channels <= part else lanes) - channels, 0)
    if idle == 0 or y_stride == channels:
        while pixel + lanes <= pixels and (pixels - pixel - lanes) * channels >= idle:
            transpose_pixels(advance(planes, pixel), pitch, channels, advance(y, pixel * y_stride), y_stride)
            pixel += lanes
        if y_stride == channels:
            while pixel < pixels:
                count = min(lanes, pixels - pixel)
                transpose_pixels(advance(planes, pixel), pitch, channels, bounce, channels)
                copy(advance(y, pixel * channels), bounce, count * channels)
                pixel += lanes
            return
    leave_pixels(advance(planes, pixel), pitch, channels, pixels - pixel, advance(y, pixel * y_stride), y_stride)


@inline
def product_row(record, x, kernel, bias, lower, columns, y, bounce):
    """Compute one row of output pixels from the gathered rows at `x`."""
    lanes, y_stride = lanes_of(x), record[at.Y_PIXEL]
    channels, pitch, column = record[at.OUT_CHANNELS], record[at.OUT_PITCH], record[at.KERNEL_COLUMN]
    is_last = columns < record[at.BLOCK_COLUMNS]
    tiles = advance(record, record[at.WIDE_LAST if is_last else at.WIDE_FULL])
    offsets, kernel_taps = advance(record, record[at.TAP_OFFSETS]), advance(record, record[at.KERNEL_TAPS])
    planes = advance(bounce, lanes * (channels + 1))
    is_plane = channels == 1 and y_stride == 1 and not waits(lower)
    done = 0
    for tile in range(tiles[0]):
        size, channel, pixel = tiles[1 + 3 * tile], tiles[2 + 3 * tile], tiles[3 + 3 * tile]
        is_direct = is_plane and pixel + size % 16 * lanes <= columns
        planar_tile(
            size, advance(x, pixel), record[at.TAPS], offsets, record[at.RUN], record[at.RUN_STRIDE],
            advance(kernel, channel * column), kernel_taps, record[at.KERNEL_CHANNEL], column, advance(bias, channel),
            lower == 0, advance(y, pixel) if is_direct else advance(planes, channel * pitch + pixel), pitch,
        )  # fmt: skip
        if is_direct:
            done = pixel + size % 16 * lanes
    if waits(lower):
        computed = (columns + lanes - 1) // lanes * lanes
        leave_bounce(planes, pitch, channels, computed, lower, planes, pitch)
    rest = advance(y, done * y_stride)
    leave_planes(advance(planes, done), pitch, channels, columns - done, rest, y_stride, bounce)


@task_kernel
def planar_forward(worker, task, geometry, buffers):
    """Compute one block of outputs of one phase and group, image by image."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    bounce = advance(work, geometry[at.BOUNCE])
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    group, index = index % record[at.GROUPS], index // record[at.GROUPS]
    batch, images, plane, row, rows, column, columns = block_extent(record, index)
    kernel = advance(buffers[at.KERNEL], group * record[at.KERNEL_GROUP])
    bias = advance(buffers[at.BIAS], at.BIAS_HEADER + group * record[at.BIAS_GROUP])
    offset = record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    offset += row * record[at.Y_ROW] + column * record[at.Y_PIXEL]
    for image in range(batch, batch + images):
        x = advance(buffers[at.X], image * record[at.X_BATCH] + group * record[at.X_GROUP])
        gather_block(x, record, plane, row, rows, column, columns, work)
        y = advance(buffers[at.Y], image * record[at.Y_BATCH] + offset)
        for r in range(rows):
            source, target = advance(work, r * record[at.ROW_STRIDE]), advance(y, r * record[at.Y_ROW])
            product_row(record, source, kernel, bias, buffers[at.BIAS][0], columns, target, bounce)
