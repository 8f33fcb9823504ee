"""Depthwise convolution by strips of some rows of outputs, which share most of the rows of input that they read.

Used where taps are neighbouring pixels, outputs as well or two pixels apart, and all padding is zeros. A strip has a
list of the rows of input; those in padding have an offset of -1.
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_strip_tiles import (
    NARROW_COLUMNS,
    PAIR_ROWS,
    SQUARE,
    STRIDED,
    WIDE_COLUMNS,
    strip_tile,
)
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.lane_sums import leave_lane_sums
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import lanes_of

ZEROS = 30
"""Registers of the bounce buffer before the one that is zero: a tile and one more end before it."""


@inline
def input_row(record, plane, tap_plane, position, first_position):
    """Return the offset of a row of input, which a gathered block has from `first_position` on, or -1 for padding."""
    if record[at.IN_PLACE] == 0:
        rows = tap_plane * record[at.TAP_ROWS] + position - first_position
        return rows * record[at.TAP_COLUMNS] * record[at.CHANNELS]
    outer = record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS] + tap_plane]
    inner = record[record[at.ROW_TABLE] + position]
    return -1 if outer < 0 or inner < 0 else outer + inner


@inline
def list_squares(record, plane, row, rows, first_row, tap_size, entries):
    """List for each plane of taps where its weights begin, and the rows of input; return how many."""
    count = 0
    for p in range(record[at.PLANE_TAPS]):
        entry, met = advance(entries, count * (rows + SQUARE)), 0
        entry[0] = p * SQUARE * SQUARE * tap_size
        for i in range(rows + SQUARE - 1):
            entry[1 + i] = input_row(record, plane, p, row + i, first_row)
            met += entry[1 + i] >= 0
        if met > 0:
            count += 1
    return count


@inline
def list_kernel_rows(record, plane, row, rows, first_row, tap_size, entries):
    """List for each row of the kernel where its weights begin, and the row of input for each row of outputs."""
    count, taps = 0, record[at.ROW_TAPS]
    for p in range(record[at.PLANE_TAPS]):
        for i in range(taps):
            entry, met = advance(entries, count * (1 + rows)), 0
            entry[0] = (p * taps + i) * record[at.COLUMN_TAPS] * tap_size
            for r in range(rows):
                entry[1 + r] = input_row(
                    record, plane, p, (row + r) * record[at.ROW_STEP] + i, first_row * record[at.ROW_STEP]
                )
                met += entry[1 + r] >= 0
            if met > 0:
                count += 1
    return count


@inline
def list_next_rows(record, plane, row, rows, ahead):
    """List offsets of the rows of input that the next strip is the first to read; return how many."""
    if record[at.IN_PLACE] * record[at.STRIP_AHEAD] == 0:
        return 0
    count, first = 0, (row + rows - 1) * record[at.ROW_STEP] + record[at.ROW_TAPS]
    for p in range(record[at.PLANE_TAPS]):
        for position in range(
            first,
            min(
                first + rows * record[at.ROW_STEP],
                (record[at.OUT_ROWS] - 1) * record[at.ROW_STEP] + record[at.ROW_TAPS],
            ),
        ):
            offset = input_row(record, plane, p, position, 0)
            if offset >= 0:
                ahead[count] = offset
                count += 1
    return count


@inline
def strip_pixels(
    record, number, rows, columns, x, entries, count, begin, end, zeros, pixel, weights, bias, lower, y, channels,
    bounce, ahead, ahead_count, past_caches,
):  # fmt: skip
    """Run one tile for all channels of the chunk, by way of `bounce` where the activation needs it."""
    lanes = lanes_of(x)
    vectors, last_channel, is_apart = (channels + lanes - 1) // lanes, channels - lanes, waits(lower)
    target, y_row, y_pixel = y, record[at.Y_ROW], record[at.Y_PIXEL]
    ahead_rows = 0 if past_caches else rows * record[at.STRIP_AHEAD]
    vector, step = 0, record[at.TAPS] * record[at.SUMMED] * lanes
    while vector < vectors:
        last, c = vectors, min(vector * lanes, last_channel)
        if is_apart:
            last, target, y_row, y_pixel = vector + 1, advance(bounce, -c), columns * lanes, lanes
        strip_tile(
            number, x, entries, count, record[at.STRIP_GROUPS], begin, end, zeros, pixel, weights, step, bias,
            lower == 0, target, y_row, y_pixel, vector, last, last_channel, ahead, ahead_count, ahead_rows,
            past_caches and not is_apart,
        )  # fmt: skip
        if is_apart:
            for row in range(rows):
                leave_bounce(
                    advance(bounce, row * columns * lanes), lanes, columns, lanes, lower,
                    advance(y, row * record[at.Y_ROW] + c), record[at.Y_PIXEL],
                )  # fmt: skip
        vector = last


@inline
def strip_lane_sums(
    record, number, rows, columns, x, entries, count, begin, end, zeros, pixel, weights, bias, lower, y, channels,
    bounce, ahead, ahead_count,
):  # fmt: skip
    """Run one tile for all channels of the chunk, of which some neighbours each are summed."""
    lanes, summed = lanes_of(x), record[at.LANES_SUMMED]
    for vector in range((channels + lanes - 1) // lanes):
        c = min(vector * lanes, channels - lanes)
        strip_tile(
            number, x, entries, count, record[at.STRIP_GROUPS], begin, end, zeros, pixel, weights,
            record[at.TAPS] * lanes, bias, False, advance(bounce, -c), columns * lanes, lanes, vector, vector + 1,
            channels - lanes, ahead, ahead_count, 0, False,
        )  # fmt: skip
        # Parts of a register that go to the output by way of a function use the register behind theirs.
        for row in range(rows - 1, -1, -1):
            leave_lane_sums(
                advance(bounce, row * columns * lanes), columns, summed, lower,
                advance(y, row * record[at.Y_ROW] + c // summed), record[at.Y_PIXEL],
            )  # fmt: skip


@inline
def depthwise_strip(
    record, source, plane, row, rows, first_row, column, columns, weights, bias, lower, y, channels, bounce, entries,
    past_caches,
):  # fmt: skip
    """Compute outputs [column, column + columns) of `rows` rows; the last tile may overlap the one before.

    `y` is the first output of the rows.
    """
    lanes, taps, base = lanes_of(source), record[at.STRIP_TAPS], record[at.COLUMN_BASE]
    tap_size = record[at.SUMMED] * lanes
    if taps == 0:
        count = list_squares(record, plane, row, rows, first_row, tap_size, entries)
    else:
        count = list_kernel_rows(record, plane, row, rows, first_row, tap_size, entries)
    ahead = advance(entries, record[at.PLANE_TAPS] * record[at.STRIP_ENTRIES])
    ahead_count = list_next_rows(record, plane, row, rows, ahead)
    zeros, pixel = advance(bounce, ZEROS * lanes), record[at.CHANNELS]
    begin, end, x = 0, record[at.TAP_COLUMNS], source
    if record[at.IN_PLACE] == 1:
        pixel = record[at.COLUMN_STEP]
        begin, end = record[at.COLUMN_FIRST] - column * base, record[at.COLUMN_LAST] - column * base
        x = advance(source, record[record[at.COLUMN_TABLE] + record[at.COLUMN_FIRST]] - begin * pixel)
    done, first_number = 0, record[at.FIRST_STRIP] + (base - 1) * STRIDED
    while done < columns:
        left, width = columns - done, WIDE_COLUMNS
        if left <= NARROW_COLUMNS or columns < WIDE_COLUMNS:
            width = NARROW_COLUMNS
        done = min(done, columns - width)
        number, reads = first_number + (taps * 4 + rows) * 8 + width, advance(x, done * base * pixel)
        low, high, target = begin - done * base, end - done * base, advance(y, done * record[at.Y_PIXEL])
        if record[at.LANES_SUMMED] > 1:
            strip_lane_sums(
                record, number, rows, width, reads, entries, count, low, high, zeros, pixel, weights, bias, lower,
                target, channels, bounce, ahead, ahead_count,
            )  # fmt: skip
        else:
            strip_pixels(
                record, number, rows, width, reads, entries, count, low, high, zeros, pixel, weights, bias, lower,
                target, channels, bounce, ahead, ahead_count, past_caches,
            )  # fmt: skip
        done += width


@inline
def depthwise_strips(
    record, source, plane, row, rows, column, columns, weights, bias, lower, y, channels, bounce, entries,
    past_caches,
):  # fmt: skip
    """Compute a block of at least two rows by strips; the last one may overlap the one before."""
    done = 0
    while done < rows:
        left, size = rows - done, record[at.STRIP_ROWS]
        if left < size or left == 2 * PAIR_ROWS:
            size = PAIR_ROWS
        done = min(done, rows - size)
        depthwise_strip(
            record, source, plane, row + done, size, row, column, columns, weights, bias, lower,
            advance(y, done * record[at.Y_ROW]), channels, bounce, entries, past_caches,
        )  # fmt: skip
        done += size
