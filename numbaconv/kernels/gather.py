"""Copies the input that a block of outputs needs into a padded block of the worker's workspace.

Padding of every mode, dilation in common with the stride, channels-first and non-contiguous inputs live here and
nowhere else. Block layout: (plane taps, rows, columns, channels), contiguous, with the extents of a full block
(TAP_ROWS, TAP_COLUMNS).
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.vector_copy import clear_pixel, copy_pixel
from numbaconv.simd.pointers import advance, clear, prefetch
from numbaconv.simd.vectors import lanes_of, load_spread, splat, store

AHEAD_PIXELS = 16
"""Pixels ahead that are fetched where other channels lie between them: short stretches defeat the prefetchers."""

SHORT_STRETCH = 64
"""Channels of such stretches, fewer than."""

CHANNEL_BLOCK = 16
"""Channels copied together from a channels-first input: one cache line of the block is filled at a time."""


@inline
def gather_strided(x, pixel_step, channel_step, pixels, channels, block, width):
    """block[pixel, channel] = x[pixel * pixel_step + channel * channel_step]."""
    for first in range(0, channels, CHANNEL_BLOCK):
        last = min(channels, first + CHANNEL_BLOCK)
        for pixel in range(pixels):
            for channel in range(first, last):
                block[pixel * width + channel] = x[pixel * pixel_step + channel * channel_step]


@inline
def gather_pixels(x, table, pixels, channels, channel_step, block, width):
    """Copy single pixels by their offsets in `table`; -1 is padding."""
    for pixel in range(pixels):
        offset, target = table[pixel], advance(block, pixel * width)
        if offset < 0:
            clear_pixel(channels, target)
        elif channel_step == 1:
            copy_pixel(advance(x, offset), channels, target)
        else:
            for channel in range(channels):
                target[channel] = x[offset + channel * channel_step]


@inline
def gather_row(x, record, column, columns, channels, block, width):
    """Copy `columns` pixels of one input row, from position `column` of the padded row on."""
    channel_step, step = record[at.X_CHANNEL], record[at.COLUMN_STEP]
    first = min(max(record[at.COLUMN_FIRST] - column, 0), columns)
    last = min(max(record[at.COLUMN_LAST] - column, first), columns)
    table = advance(record, record[at.COLUMN_TABLE] + column)
    gather_pixels(x, table, first, channels, channel_step, block, width)
    if last > first:
        source, target = advance(x, table[first]), advance(block, first * width)
        if channel_step != 1:
            gather_strided(source, step, channel_step, last - first, channels, target, width)
        elif step == channels and width == channels:
            copy_pixel(source, (last - first) * channels, target)
        else:
            reach = AHEAD_PIXELS * step if step > channels and channels < SHORT_STRETCH else 0
            for pixel in range(last - first):
                ahead = advance(source, pixel * step + reach)
                prefetch(ahead)
                prefetch(advance(ahead, channels - 1))
                copy_pixel(advance(source, pixel * step), channels, advance(target, pixel * width))
    gather_pixels(x, advance(table, last), columns - last, channels, channel_step, advance(block, last * width), width)


@inline
def gather_block(x, record, plane, row, rows, column, columns, channels, block, width):
    """Copy what output rows [row, row + rows) x columns [column, column + columns) of one plane need.

    The block's pixels are `width` numbers apart, of which the first `channels` are written.
    """
    in_rows = (rows - 1) * record[at.ROW_STEP] + record[at.ROW_REACH]
    in_columns = (columns - 1) * record[at.COLUMN_BASE] + record[at.COLUMN_REACH]
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    row_size = record[at.TAP_COLUMNS] * width
    for tap in range(record[at.PLANE_TAPS]):
        for q in range(in_rows):
            target = advance(block, (tap * record[at.TAP_ROWS] + q) * row_size)
            if plane_table[tap] < 0 or row_table[q] < 0:
                clear(target, in_columns * width)
            else:
                source = advance(x, plane_table[tap] + row_table[q])
                gather_row(source, record, column * record[at.COLUMN_BASE], in_columns, channels, target, width)


@inline
def gather_groups(x, record, plane, row, rows, column, columns, groups, block, size):
    """Do what `gather_block` does for some groups of a few channels each, whose blocks are ``size`` numbers apart.

    Whole pixels are read in the order of memory: those of one group alone are short stretches, pixels apart.
    """
    channels, width = record[at.CHANNELS], record[at.PIXEL_PITCH]
    in_rows = (rows - 1) * record[at.ROW_STEP] + record[at.ROW_REACH]
    in_columns = (columns - 1) * record[at.COLUMN_BASE] + record[at.COLUMN_REACH]
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    column_table = advance(record, record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE])
    for tap in range(record[at.PLANE_TAPS]):
        for q in range(in_rows):
            target = advance(block, (tap * record[at.TAP_ROWS] + q) * record[at.TAP_COLUMNS] * width)
            is_padding = plane_table[tap] < 0 or row_table[q] < 0
            source = advance(x, plane_table[tap] + row_table[q])
            for pixel in range(in_columns):
                offset = column_table[pixel]
                for group in range(groups):
                    copied = advance(target, pixel * width + group * size)
                    if is_padding or offset < 0:
                        clear_pixel(channels, copied)
                    else:
                        copy_pixel(advance(source, offset + group * channels), channels, copied)


@inline
def repeat_registers(block, pixels, width, registers, repeat):
    """Repeat each pixel's channels in place by a literal number that divides a register's lanes."""
    lanes = lanes_of(block)
    for pixel in range(pixels):
        numbers = advance(block, pixel * width)
        for register in range(registers - 1, -1, -1):
            source = advance(numbers, register * lanes // repeat)
            store(load_spread(source, repeat, 0), advance(numbers, register * lanes))


@inline
def repeats_in_place(width, first, lanes, repeat):
    """Whether `repeat_channels` can repeat the channels of a block of ``width``, from output channel `first` on."""
    fills_registers = width % lanes == 0 and first % repeat == 0 and lanes % repeat == 0
    return fills_registers and (repeat == 2 or repeat == 4)


@inline
def repeat_channels(block, pixels, width, channels, repeat):
    """Repeat each pixel's channels in place twice or four times, for a depthwise convolution with a multiplier.

    Going down, no number is overwritten before it has been read.
    """
    lanes = lanes_of(block)
    registers = (channels + lanes - 1) // lanes
    if repeat == 2:
        repeat_registers(block, pixels, width, registers, 2)
    else:
        repeat_registers(block, pixels, width, registers, 4)


@inline
def spread_triples(source, pixels, count, block, width, first, channels):
    """Do what `spread_channels` does with three times each channel, a register at a time.

    Registers read beyond their numbers, those of the last pixel up to their lanes.
    """
    lanes = lanes_of(block)
    for pixel in range(pixels):
        numbers, target = advance(source, pixel * count - first // 3), advance(block, pixel * width)
        for register in range((channels + lanes - 1) // lanes):
            channel, filled = first + register * lanes, advance(target, register * lanes)
            phase, read = channel % 3, advance(numbers, channel // 3)
            if phase == 0:
                store(load_spread(read, 3, 0), filled)
            elif phase == 1:
                store(load_spread(read, 3, 1), filled)
            else:
                store(load_spread(read, 3, 2), filled)


@inline
def spread_channels(source, pixels, count, block, width, first, repeat):
    """Write each of the `count` channels of each pixel `repeat` times, from output channel `first` on.

    Pixels lie `count` numbers apart in the source and `width` in the block. Registers reach beyond their numbers, those
    of the last pixel up to `repeat` and their lanes; what comes next is written later.
    """
    lanes = lanes_of(block)
    for pixel in range(pixels):
        numbers, target = advance(source, pixel * count), advance(block, pixel * width)
        wanted = repeat - first % repeat
        for c in range(count):
            number, k = splat(block, numbers[c]), 0
            while k < wanted:
                store(number, advance(target, k))
                k += lanes
            target, wanted = advance(target, wanted), repeat
