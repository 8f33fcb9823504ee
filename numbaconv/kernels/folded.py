"""Input gradient with few channels: the numbers of a kernel row are the product's output channels, then folded.

A pixel of grad_y adds to as many outputs of a row as the kernel has columns. All of these numbers, columns x channels,
are one row of a register tile, so that few lanes are idle and no product is with zero; the sum runs over the kernel's
other taps and the channels of grad_y. Each output is then the sum of the products of the pixels that reach it.
Layout of a row's products: (pixels with zeros before and behind them, FOLD_PITCH).
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.forward import block_extent, block_input, phase_record
from numbaconv.kernels.packing import require_panel, rounded_width
from numbaconv.kernels.register_tile import NOTHING, product_columns
from numbaconv.simd.pointers import advance, as_counters, clear, copy
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store


@inline
def fold_row(products, record, bias, activates, y):
    """Compute a row of outputs: output q gets tap t of pixel (q + FOLD_START - t) / FOLD_STRIDE where that is whole.

    A register of channels at a time, so that numbers behind an output's own are overwritten by the next one's.
    """
    channels, pitch, stride = record[at.FOLD_CHANNELS], record[at.FOLD_PITCH], record[at.FOLD_STRIDE]
    step, tap = stride * channels - pitch, record[at.FOLD_START] % stride
    # The first taps have one more pixel than the others.
    least, more = record[at.FOLD_TAPS] // stride, record[at.FOLD_TAPS] % stride
    numbers = advance(products, (record[at.FOLD_BEFORE] + record[at.FOLD_START] // stride) * pitch + tap * channels)
    zero, target = splat(y, 0), y
    for _ in range(record[at.FOLD_COLUMNS]):
        taps, channel = least + (1 if tap < more else 0), 0
        while channel < channels:
            total, source = load(advance(bias, channel)), advance(numbers, channel)
            for _ in range(taps):
                total = total + load(source)
                source = advance(source, step)
            if activates:
                total = at_least(total, zero)
            store(total, advance(target, channel))
            channel += lanes_of(y)
        target, numbers, tap = advance(target, channels), advance(numbers, channels), tap + 1
        if tap == stride:
            tap, numbers = 0, advance(numbers, -step)


@inline
def product_row(record, buffers, x, products):
    """Compute the products of a row of pixels, panel by panel."""
    lanes, out_channels, lower = lanes_of(x), record[at.OUT_CHANNELS], buffers[at.BIAS][0]
    depth, states = record[at.KERNEL_TAP_COUNT] * record[at.CHANNELS], as_counters(buffers[at.COUNTERS])
    group_kernel, pitch = advance(buffers[at.PACKED_KERNEL], record[at.PACKED]), record[at.FOLD_PITCH]
    offsets, kernel_rows = advance(record, record[at.TAP_OFFSETS]), advance(record, record[at.PACKED_TAPS])
    first = advance(products, record[at.FOLD_BEFORE] * pitch)
    for panel in range(record[at.PANELS]):
        channel = panel * 2 * lanes
        width = rounded_width(out_channels - channel, lanes)
        require_panel(buffers[at.KERNEL], record, 0, panel, group_kernel, states)
        # Sums start from the zeros before the row. Relu follows the fold: `lower - 1` is no bound of any.
        tiles = advance(record, record[at.WIDE_FULL if width == 2 * lanes else at.NARROW_FULL])
        product_columns(
            tiles, 0, record[at.BLOCK_COLUMNS], width, x, record[at.PIXEL_STRIDE], record[at.TAPS], offsets,
            record[at.RUN], advance(group_kernel, channel * depth), kernel_rows, products, 0, lower - 1,
            advance(first, channel), pitch, 1, offsets, products, False, NOTHING,
        )  # fmt: skip


@inline
def fold_block(geometry, buffers, record, index, work):
    """Compute one block of rows of one phase."""
    lower = buffers[at.BIAS][0]
    batch, images, plane, row, rows, column, columns = block_extent(record, index)
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, 0, 0)
    y = advance(buffers[at.Y], batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane])
    products, line = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    before, pitch = record[at.FOLD_BEFORE], record[at.FOLD_PITCH]
    clear(products, before * pitch)
    clear(advance(products, (before + columns) * pitch), record[at.FOLD_BEHIND] * pitch)
    count, bias = record[at.FOLD_COLUMNS] * record[at.FOLD_CHANNELS], advance(buffers[at.BIAS], at.BIAS_HEADER)
    for r in range(images * rows):
        image, line_of_image = r // rows, r % rows
        x = advance(source, image * record[at.IMAGE_STRIDE] + line_of_image * record[at.ROW_STRIDE])
        target = advance(y, image * record[at.Y_BATCH] + (row + line_of_image) * record[at.Y_ROW])
        product_row(record, buffers, x, products)
        fold_row(products, record, bias, lower == 0 and not waits(lower), line)
        if waits(lower):
            leave_bounce(line, count, 1, count, lower, target, count)
        else:
            copy(target, line, count)


@task_kernel
def folded_forward(worker, task, geometry, buffers):
    """Compute one block of rows of each phase that is cut into blocks alike."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    last = phase_record(geometry, task)
    index = task - last[at.FIRST_TASK]
    for phase in range(last[at.TOGETHER]):
        fold_block(geometry, buffers, advance(last, -phase * at.RECORD_SIZE), index, work)
