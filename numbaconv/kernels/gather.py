"""Copies the input that a block of outputs needs into a padded block of the worker's workspace.

Padding of every mode, dilation in common with the stride, channels-first and non-contiguous inputs live here and nowhere else.
Block layout: (plane taps, rows, columns, channels), contiguous, with the extents of a full block (TAP_ROWS, TAP_COLUMNS).
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.vector_copy import copy_pixel
from numbaconv.simd.pointers import advance, clear, copy

CHANNEL_BLOCK = 16
"""Channels copied together from a channels-first input: one cache line of the block is filled at a time."""


@inline
def gather_strided(x, pixel_step, channel_step, pixels, channels, block):
    """block[pixel, channel] = x[pixel * pixel_step + channel * channel_step]."""
    for first in range(0, channels, CHANNEL_BLOCK):
        last = min(channels, first + CHANNEL_BLOCK)
        for pixel in range(pixels):
            for channel in range(first, last):
                block[pixel * channels + channel] = x[pixel * pixel_step + channel * channel_step]


@inline
def gather_pixels(x, table, pixels, channels, channel_step, block):
    """Copy single pixels by their offsets in `table`; -1 is padding."""
    for pixel in range(pixels):
        offset, target = table[pixel], advance(block, pixel * channels)
        if offset < 0:
            for channel in range(channels):
                target[channel] = 0
        elif channel_step == 1:
            copy_pixel(advance(x, offset), channels, target)
        else:
            for channel in range(channels):
                target[channel] = x[offset + channel * channel_step]


@inline
def gather_row(x, record, column, columns, channels, block):
    """Copy `columns` pixels of one input row, from position `column` of the padded row on."""
    channel_step, step = record[at.X_CHANNEL], record[at.COLUMN_STEP]
    first = min(max(record[at.COLUMN_FIRST] - column, 0), columns)
    last = min(max(record[at.COLUMN_LAST] - column, first), columns)
    gather_pixels(x, advance(record, record[at.COLUMN_TABLE] + column), first, channels, channel_step, block)
    if last > first:
        table = advance(record, record[at.COLUMN_TABLE] + column + first)
        source, target = advance(x, table[0]), advance(block, first * channels)
        if channel_step != 1:
            gather_strided(source, step, channel_step, last - first, channels, target)
        elif step == channels:
            copy(target, source, (last - first) * channels)
        else:
            for pixel in range(last - first):
                copy_pixel(advance(source, pixel * step), channels, advance(target, pixel * channels))
    table = advance(record, record[at.COLUMN_TABLE] + column + last)
    gather_pixels(x, table, columns - last, channels, channel_step, advance(block, last * channels))


@inline
def gather_block(x, record, plane, row, rows, column, columns, channels, block):
    """Copy what output rows [row, row + rows) x columns [column, column + columns) of one plane need."""
    in_rows = (rows - 1) * record[at.ROW_STEP] + record[at.ROW_REACH]
    in_columns = (columns - 1) * record[at.COLUMN_BASE] + record[at.COLUMN_REACH]
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    row_size = record[at.TAP_COLUMNS] * channels
    for tap in range(record[at.PLANE_TAPS]):
        for q in range(in_rows):
            target = advance(block, (tap * record[at.TAP_ROWS] + q) * row_size)
            if plane_table[tap] < 0 or row_table[q] < 0:
                clear(target, in_columns * channels)
            else:
                source = advance(x, plane_table[tap] + row_table[q])
                gather_row(source, record, column * record[at.COLUMN_BASE], in_columns, channels, target)
