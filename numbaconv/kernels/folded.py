"""Input gradient with few channels: the numbers of kernel rows are the product's output channels, then folded.

A pixel of grad_y adds to as many outputs of a row as the kernel has columns. All of these numbers, columns x channels,
are one row of a register tile, so that few lanes are idle and no product is with zero; the sum runs over the kernel's
other taps and the channels of grad_y. Or those of all kernel rows are: the sum leaves out the rows then, and outputs
add up products of several rows of pixels. Each output is the sum of the products of the pixels that reach it.

Outputs are counted by cells, those of a stride: a pixel's products for a cell are neighbours, as its outputs are.
Layout of the products: a ring of FOLD_WINDOW rows of pixels, those that a cell reads, FOLD_SLOT apart; a row is (pixels
with zeros before and behind them, FOLD_PITCH), a pixel (kernel rows, columns, channels).
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import activate_tile, leave_bounce, waits
from numbaconv.kernels.forward import block_extent, block_input, phase_record
from numbaconv.kernels.packing import require_panel, rounded_width
from numbaconv.kernels.register_tile import INPUTS_TOO, NOTHING, product_columns
from numbaconv.kernels.tile_sizes import HALVES
from numbaconv.simd.mixed import mixed_read, tile_plus, tile_plus_first
from numbaconv.simd.pointers import advance, as_counters, clear, copy
from numbaconv.simd.tiles import tile_store
from numbaconv.simd.vectors import lanes_of

CELLS = 4
"""Cells whose outputs are summed together."""


def make_fold(whole: int, half: int) -> Any:
    """Return the code for a register of a cell's outputs, or half of one."""

    @inline
    def fold_cells(source, terms, offsets, columns, back, rest, pitch, start, activates, y, step):
        """Compute a register of the outputs of neighbouring cells, whose products are `pitch` apart.

        Each of `terms` kernel rows adds `columns` registers, each `back` from the one before, and the first `rest`
        lanes of one more.
        """
        acc = mixed_read(CELLS, whole, half, start, 0)
        for term in range(terms):
            place = advance(source, offsets[term])
            for _ in range(columns):
                acc, place = tile_plus(acc, place, pitch), advance(place, back)
            if rest > 0:
                acc = tile_plus_first(acc, place, pitch, rest)
        tile_store(activate_tile(acc, activates), y, step)

    return fold_cells


fold_wide, fold_narrow = make_fold(1, 0), make_fold(*((0, 1) if HALVES == 2 else (1, 0)))


@inline
def fold_row(products, terms, offsets, record, start, activates, y):
    """Compute a row of outputs, four cells at a time, from the products of `terms` rows at `offsets`.

    A register's numbers behind a cell's own are overwritten by the next cell's; of a cell of several registers the last
    one ends with it. Written are up to four cells and a register behind the row.
    """
    lanes, pitch, stride = lanes_of(y), record[at.FOLD_PITCH], record[at.FOLD_STRIDE]
    step, columns = stride * record[at.FOLD_CHANNELS], record[at.FOLD_TAPS] // stride
    rest = record[at.FOLD_TAPS] % stride * record[at.FOLD_CHANNELS]
    source = advance(products, (record[at.FOLD_BEFORE] + record[at.FOLD_START] // stride) * pitch)
    for register in range(0, step, lanes):
        number = min(register, max(step - lanes, 0))
        for cell in range(0, record[at.FOLD_CELLS], CELLS):
            place, target = advance(source, cell * pitch + number), advance(y, cell * step + number)
            if step * HALVES <= lanes:
                fold_narrow(
                    place, terms, offsets, columns, step - pitch, rest - number, pitch, advance(start, number),
                    activates, target, step,
                )  # fmt: skip
            else:
                fold_wide(
                    place, terms, offsets, columns, step - pitch, rest - number, pitch, advance(start, number),
                    activates, target, step,
                )  # fmt: skip


@inline
def product_row(record, buffers, x, products):
    """Compute the products of a row of pixels, panel by panel."""
    lanes, out_channels, lower = lanes_of(x), record[at.OUT_CHANNELS], buffers[at.BIAS][0]
    depth, states = record[at.KERNEL_TAP_COUNT] * record[at.CHANNELS], as_counters(buffers[at.COUNTERS])
    group_kernel, pitch = advance(buffers[at.PACKED_KERNEL], record[at.PACKED]), record[at.FOLD_PITCH]
    offsets, kernel_rows = advance(record, record[at.TAP_OFFSETS]), advance(record, record[at.PACKED_TAPS])
    first = advance(products, record[at.FOLD_BEFORE] * pitch)
    # Rows that a sum adds up are read by the rows of outputs before.
    fetches = INPUTS_TOO if record[at.TAPS] == 1 or record[at.FOLD_WINDOW] > 1 else NOTHING
    for panel in range(record[at.PANELS]):
        channel = panel * 2 * lanes
        width = rounded_width(out_channels - channel, lanes)
        require_panel(buffers[at.KERNEL], record, 0, panel, group_kernel, states)
        # Sums start from the zeros before the row. Relu follows the fold: `lower - 1` is no bound of any.
        tiles = advance(record, record[at.WIDE_FULL if width == 2 * lanes else at.NARROW_FULL])
        product_columns(
            tiles, 0, record[at.BLOCK_COLUMNS], width, x, record[at.PIXEL_STRIDE], record[at.TAPS], offsets,
            record[at.RUN], advance(group_kernel, channel * depth), kernel_rows, products, 0, lower - 1,
            advance(first, channel), pitch, 1, offsets, products, False, fetches if panel == 0 else NOTHING,
        )  # fmt: skip


@inline
def clear_ends(record, products):
    """Set the products before and behind each row of pixels to zero."""
    before, pitch = record[at.FOLD_BEFORE], record[at.FOLD_PITCH]
    for slot in range(record[at.FOLD_WINDOW]):
        row = advance(products, slot * record[at.FOLD_SLOT])
        clear(row, before * pitch)
        clear(advance(row, (before + record[at.BLOCK_COLUMNS]) * pitch), record[at.FOLD_BEHIND] * pitch)


@inline
def find_terms(record, which, table, first, offsets):
    """Write where the products of row `which` of a cell's outputs lie; return how many rows of pixels have some."""
    begin, end = record[record[at.TAP_FIRST] + which], record[record[at.TAP_FIRST] + which + 1]
    count = 0
    for tap in range(begin, end):
        row = first + record[record[at.ROW_OF_TAP] + tap]
        if table[row] >= 0:
            slot = row % record[at.FOLD_WINDOW] * record[at.FOLD_SLOT]
            offsets[count] = slot + record[record[at.FOLD_OFFSETS] + tap]
            count += 1
    return count


@inline
def fold_block(geometry, buffers, record, index, work):
    """Compute one block of rows of one phase."""
    lower = buffers[at.BIAS][0]
    batch, images, plane, row, rows, column, columns = block_extent(record, index)
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, 0, 0)
    y = advance(buffers[at.Y], batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane])
    products, line = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    offsets = as_counters(advance(work, geometry[at.OWN_KERNEL]))
    table, window = advance(record, record[at.FOLD_TABLE] + row * record[at.FOLD_TABLE_STEP]), record[at.FOLD_WINDOW]
    count, bias = record[at.FOLD_COLUMNS] * record[at.FOLD_CHANNELS], advance(buffers[at.BIAS], at.BIAS_HEADER)
    outputs = advance(line, record[at.FOLD_START] % record[at.FOLD_STRIDE] * record[at.FOLD_CHANNELS])
    clear_ends(record, products)
    for image in range(images):
        x = advance(source, image * record[at.IMAGE_STRIDE])
        for r in range(rows):
            for q in range(r + window - 1 if r else 0, r + window):
                if table[q] >= 0:
                    slot = advance(products, q % window * record[at.FOLD_SLOT])
                    product_row(record, buffers, advance(x, table[q]), slot)
            for which in range(record[at.FOLD_ROWS]):
                y_row = (row + r) * record[at.FOLD_ROWS] + which
                if y_row < record[at.FOLD_Y_ROWS]:
                    terms = find_terms(record, which, table, r, offsets)
                    fold_row(products, terms, offsets, record, bias, lower == 0 and not waits(lower), line)
                    target = advance(y, image * record[at.Y_BATCH] + y_row * record[at.Y_ROW])
                    if waits(lower):
                        leave_bounce(outputs, count, 1, count, lower, target, count)
                    else:
                        copy(target, outputs, count)


@task_kernel
def folded_forward(worker, task, geometry, buffers):
    """Compute one block of rows of each phase that is cut into blocks alike."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    last = phase_record(geometry, task)
    index = task - last[at.FIRST_TASK]
    for phase in range(last[at.TOGETHER]):
        fold_block(geometry, buffers, advance(last, -phase * at.RECORD_SIZE), index, work)
