"""Input gradient with few channels: pixels in the lanes, a product for each number of a kernel row, then folded.

A pixel of grad_y adds to as many outputs of a row as the kernel has columns. These numbers, columns x channels, are the
rows of a register tile whose columns are pixels, so that no lane is idle and no product is with zero, whatever the
stride; the sum runs over the kernel's other taps and the channels of grad_y, from planes as in `planar`. An output is
then the sum of the products of the pixels that reach it: planes shifted by whole pixels, since the outputs of one
stride, the *numbers* of a pixel, have planes of their own. Layout of a row's products: (columns x channels,
FOLD_PITCH), the row's first pixel at `LEAD`, zeros before and behind the pixels where an output would read others.

Short rows of an image are joined to one: the kernel's rows are shifts then as its columns are, and there is a single
row of products for each row of a stride. What an output would read beyond the ends of its row is set to zero in the
products.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.planar import gather_planes, gather_row, leave_planes
from numbaconv.kernels.tile_sizes import FOLDED_SIZES, by_rows
from numbaconv.simd.pointers import advance, as_counters, clear, prefetch_nearby
from numbaconv.simd.tiles import tile_fma, tile_store, tile_zeros
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store

LEAD = 64
"""Zeros before each plane of products: at least as many as pixels before the row that an output would read."""

PARAMETERS = "x, taps, offsets, run, run_stride, kernel, kernel_taps, kernel_column, y, y_stride, ahead, lines, line"


def make_tile(size: int) -> Any:
    """Return the product of ``size // 16`` numbers of a kernel row x ``size % 16`` registers of pixels."""
    numbers, vectors = divmod(size, 16)

    @inline
    def folded_tile(
        x, taps, offsets, run, run_stride, kernel, kernel_taps, kernel_column, y, y_stride, ahead, lines, line
    ):
        """y[k, m] = sum over taps and i < run of kernel[taps[tap] + i + k * column] * x[offsets[tap] + i * stride + m].

        Each tap fetches the next `lines` cache lines, of `line` numbers each, from `ahead` on: a prefetch in the loop
        over i would make LLVM spill.
        """
        acc = tile_zeros(numbers, vectors, x)
        for tap in range(taps):
            row, weights = advance(x, offsets[tap]), advance(kernel, kernel_taps[tap])
            for i in range(tap * lines, (tap + 1) * lines):
                prefetch_nearby(advance(ahead, i * line))
            for i in range(run):
                acc = tile_fma(acc, advance(weights, i), kernel_column, advance(row, i * run_stride))
        tile_store(acc, y, y_stride)

    return folded_tile


folded_tile = by_rows(make_tile, FOLDED_SIZES, PARAMETERS)


@inline
def gather_next(x, record, planes, rows, begin, end, first, pixels, block):
    """Copy rows [begin, end) of what a block reads, by their tables, each to its place in a ring of TAP_ROWS rows."""
    row_size, ring = record[at.ROW_STRIDE], record[at.TAP_ROWS]
    for q in range(begin, end):
        for tap in range(record[at.PLANE_TAPS]):
            target = advance(block, (tap * ring + q % ring) * row_size)
            if planes[tap] < 0 or rows[q] < 0:
                clear(target, row_size)
            else:
                gather_row(advance(x, planes[tap] + rows[q]), record, first, pixels, target)


@inline
def find_taps(record, which, planes, rows, row, offsets, kernel_taps):
    """Write where the taps of output number `which` of a stride lie in the ring and in the kernel; return their count.

    Taps that meet padding alone are left out.
    """
    first, last = record[record[at.TAP_FIRST] + which], record[record[at.TAP_FIRST] + which + 1]
    row_size, ring, count = record[at.ROW_STRIDE], record[at.TAP_ROWS], 0
    for tap in range(first, last):
        plane, q = record[record[at.PLANE_OF_TAP] + tap], row + record[record[at.ROW_OF_TAP] + tap]
        if planes[plane] >= 0 and rows[q] >= 0:
            offsets[count] = (plane * ring + q % ring) * row_size
            kernel_taps[count] = record[record[at.KERNEL_TAPS] + tap]
            count += 1
    return count


@inline
def product_row(record, work, taps, offsets, kernel, kernel_taps, pixels, products, x, planes, row, share, shares):
    """Compute the products of a row of pixels.

    Meanwhile part `share` of `shares` of the input's row at `row`, -1 for none, is fetched for all planes.
    """
    pitch, column, line = record[at.FOLD_PITCH], record[at.KERNEL_COLUMN], record[at.AHEAD_STEP]
    tiles, plane_taps = advance(record, record[at.WIDE_FULL]), record[at.PLANE_TAPS]
    parts, numbers = tiles[0] * shares, pixels * record[at.COLUMN_STEP]
    of_tap = numbers * plane_taps // (line * parts * max(taps, 1)) + 1
    for tile in range(tiles[0]):
        size, number, pixel = tiles[1 + 3 * tile], tiles[2 + 3 * tile], tiles[3 + 3 * tile]
        # Each tile fetches its part of one plane's row.
        part = (share * tiles[0] + tile) * plane_taps
        plane, ahead, lines = planes[part // parts], work, 0
        if row >= 0 and plane >= 0:
            ahead, lines = advance(x, plane + row + part % parts * numbers // parts), of_tap
        if pixel < pixels:
            folded_tile(
                size, advance(work, pixel), taps, offsets, record[at.RUN], record[at.RUN_STRIDE],
                advance(kernel, number * column), kernel_taps, column,
                advance(products, number * pitch + LEAD + pixel), pitch, ahead, lines, line,
            )  # fmt: skip


@inline
def clear_behind(record, products, first, last):
    """Set the products of pixels [first, last) to zero, and more behind them."""
    zero, pitch = splat(products, 0), record[at.FOLD_PITCH]
    for number in range(record[at.FOLD_TAPS]):
        for pixel in range(first, last, lanes_of(products)):
            store(zero, advance(products, number * pitch + LEAD + pixel))


@inline
def fold_planes(record, products, columns, bias, activates, planes):
    """Compute the numbers of `columns` pixels, one plane each, from the products at the first of these."""
    firsts, pitch = advance(record, record[at.FOLD_FIRST]), record[at.OUT_PITCH]
    channels, zero = record[at.FOLD_CHANNELS], splat(products, 0)
    for number in range(record[at.FOLD_NUMBERS]):
        offsets = advance(record, record[at.FOLD_OFFSETS] + firsts[number])
        taps, start = firsts[number + 1] - firsts[number], splat(products, bias[number % channels])
        for pixel in range(0, columns, lanes_of(products)):
            total, source = start, advance(products, pixel)
            for tap in range(taps):
                total = total + load(advance(source, offsets[tap]))
            if activates:
                total = at_least(total, zero)
            store(total, advance(planes, number * pitch + pixel))


@inline
def leave_row(record, planes, column, columns, y, bounce):
    """Write the outputs of pixels [column, column + columns); a row's last pixel may stand for fewer than a stride."""
    numbers, pitch = record[at.FOLD_NUMBERS], record[at.OUT_PITCH]
    rest = record[at.FOLD_COLUMNS] * record[at.FOLD_CHANNELS] - column * numbers
    whole = min(columns, rest // numbers)
    leave_planes(planes, pitch, numbers, whole, y, numbers, bounce)
    for number in range(min(columns * numbers, rest) - whole * numbers):
        y[whole * numbers + number] = planes[number * pitch + whole]


@inline
def finish_row(record, products, pixels, last, column, first, columns, bias, lower, planes, y, bounce):
    """Fold the products of a row of pixels and write its outputs."""
    numbers, lanes, pitch = record[at.FOLD_NUMBERS], lanes_of(products), record[at.OUT_PITCH]
    clear_behind(record, products, pixels, last - first)
    start = advance(products, LEAD + column - first)
    fold_planes(record, start, columns, bias, lower == 0 and not waits(lower), planes)
    if waits(lower):
        computed = (columns + lanes - 1) // lanes * lanes
        leave_bounce(planes, pitch, numbers, computed, lower, planes, pitch)
    leave_row(record, planes, column, columns, y, bounce)


@inline
def joined_taps(record, which, offsets, kernel_taps):
    """Write where the taps of output number `which` of a stride lie in the joined rows and in the kernel."""
    first, last = record[record[at.TAP_FIRST] + which], record[record[at.TAP_FIRST] + which + 1]
    for tap in range(first, last):
        offsets[tap - first] = record[record[at.ROW_OF_TAP] + tap] * record[at.FOLD_JOINED]
        kernel_taps[tap - first] = record[record[at.KERNEL_TAPS] + tap]
    return last - first


@inline
def gather_joined(x, record, row_table, rows, work):
    """Copy rows of an image side by side, at once those that follow one another in memory as in the joined row."""
    joined, step = record[at.FOLD_JOINED], record[at.COLUMN_STEP]
    q = 0
    while q < rows:
        first, q = q, q + 1
        if row_table[first] >= 0:
            while q < rows and row_table[q] - row_table[q - 1] == joined * step:
                q += 1
            gather_planes(
                advance(x, row_table[first]), step, (q - 1 - first) * joined + record[at.FOLD_PIXELS],
                record[at.CHANNELS], record[at.X_CHANNEL], advance(work, first * joined), record[at.PIXEL_PITCH],
            )  # fmt: skip


@inline
def clear_padding(record, row_table, rows, work):
    """Set the rows of padding that joined rows read to zero; they stay so."""
    joined = record[at.FOLD_JOINED]
    for q in range(rows):
        if row_table[q] < 0:
            for channel in range(record[at.CHANNELS]):
                clear(advance(work, channel * record[at.PIXEL_PITCH] + q * joined), joined)


@inline
def clear_strays(record, products, rows):
    """Set to zero what joined rows would add to outputs of the rows beside them, and what no pixel stands for."""
    joined, strays = record[at.FOLD_JOINED], advance(record, record[at.FOLD_STRAYS])
    for number in range(record[at.FOLD_TAPS]):
        plane = advance(products, number * record[at.FOLD_PITCH] + LEAD)
        for stray in range(strays[2 * number], strays[2 * number + 1]):
            for row in range(rows):
                plane[row * joined + stray] = 0


@inline
def joined_rows(
    record, work, x, row_table, ahead, row, rows, kernel, offsets, kernel_taps, bias, lower, products, planes, y, bounce
):
    """Compute rows [row, row + rows) of the cells of one image from its rows of pixels, joined to one."""
    joined, y_rows, numbers = record[at.FOLD_JOINED], record[at.FOLD_ROWS], record[at.FOLD_NUMBERS]
    pixels, lanes, pitch = rows * joined, lanes_of(products), record[at.OUT_PITCH]
    gather_joined(x, record, row_table, rows + record[at.ROW_REACH] - 1, work)
    for which in range(y_rows):
        taps = joined_taps(record, which, offsets, kernel_taps)
        product_row(
            record, work, taps, offsets, kernel, kernel_taps, pixels, products, x,
            advance(record, record[at.PLANE_TABLE]), ahead, which, y_rows,
        )  # fmt: skip
        clear_strays(record, products, rows)
        clear_behind(record, products, pixels, pixels + record[at.FOLD_BEHIND])
        fold_planes(record, advance(products, LEAD), pixels, bias, lower == 0 and not waits(lower), planes)
        if waits(lower):
            computed = (pixels + lanes - 1) // lanes * lanes
            leave_bounce(planes, pitch, numbers, computed, lower, planes, pitch)
        if record[at.FOLD_WHOLE] > 0:
            leave_planes(planes, pitch, numbers, pixels, advance(y, row * record[at.Y_ROW]), numbers, bounce)
            continue
        for r in range(rows):
            y_row = (row + r) * y_rows + which
            if y_row < record[at.FOLD_Y_ROWS]:
                target = advance(y, y_row * record[at.Y_ROW])
                leave_row(record, advance(planes, r * joined), 0, record[at.OUT_COLUMNS], target, bounce)


@task_kernel
def folded_planes_forward(worker, task, geometry, buffers):
    """Compute one block of outputs, image by image: for each row of grad_y the rows of outputs of a stride."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = phase_record(geometry, task)
    batch, images, plane, row, rows, column, columns = block_extent(record, task)
    first = min(max(column - record[at.FOLD_BEFORE], 0), record[at.FOLD_PIXELS])
    last = column + columns + record[at.FOLD_BEHIND]
    pixels = max(min(last, record[at.FOLD_PIXELS]) - first, 0)
    products, bounce = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    offsets = as_counters(advance(work, geometry[at.OWN_KERNEL]))
    kernel_taps = advance(offsets, record[at.TAPS])
    planes = advance(bounce, lanes_of(work) * (record[at.FOLD_NUMBERS] + 1))
    row_table = advance(record, record[at.ROW_TABLE] + row)
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    y_rows, y_planes = record[at.FOLD_ROWS], advance(record, record[at.Y_PLANES] + plane * record[at.FOLD_PLANES])
    bias, lower, reach = advance(buffers[at.BIAS], at.BIAS_HEADER), buffers[at.BIAS][0], record[at.ROW_REACH]
    for number in range(record[at.FOLD_TAPS]):
        clear(advance(products, number * record[at.FOLD_PITCH]), LEAD)
    if record[at.FOLD_JOINED] > 0:
        clear_padding(record, row_table, rows + reach - 1, work)
    for image in range(batch, batch + images):
        x, y = advance(buffers[at.X], image * record[at.X_BATCH]), advance(buffers[at.Y], image * record[at.Y_BATCH])
        if record[at.FOLD_JOINED] > 0:
            ahead = record[at.X_BATCH] + max(row_table[0], 0) if image + 1 < record[at.BATCH] else -1
            joined_rows(
                record, work, x, row_table, ahead, row, rows, buffers[at.KERNEL], offsets, kernel_taps, bias, lower,
                products, planes, y, bounce,
            )  # fmt: skip
            continue
        for r in range(rows):
            gather_next(x, record, plane_table, row_table, r + reach - 1 if r else 0, r + reach, first, pixels, work)
            ahead = -1
            if r + 1 < rows and row_table[r + reach] >= 0:
                ahead = row_table[r + reach] + first * record[at.COLUMN_STEP]
            for which in range(record[at.FOLD_PLANES] * y_rows):
                y_row = (row + r) * y_rows + which % y_rows
                if y_planes[which // y_rows] >= 0 and y_row < record[at.FOLD_Y_ROWS]:
                    taps = find_taps(record, which, plane_table, row_table, r, offsets, kernel_taps)
                    product_row(
                        record, work, taps, offsets, buffers[at.KERNEL], kernel_taps, pixels, products, x, plane_table,
                        ahead, which, record[at.FOLD_PLANES] * y_rows,
                    )  # fmt: skip
                    target = y_planes[which // y_rows] + y_row * record[at.Y_ROW] + column * record[at.FOLD_NUMBERS]
                    finish_row(
                        record, products, pixels, last, column, first, columns, bias, lower, planes,
                        advance(y, target), bounce,
                    )  # fmt: skip
