"""Kernel gradient of a depthwise convolution and of groups of a few channels: channels in the lanes.

A register tile sums the taps of one or more kernel rows over the pixels of a block, for one register of channels. Input
and grad_y are read where they lie, padding as zeros; other input is gathered into a padded block. As in the dense
kernel gradient, blocks are dealt to CHUNKS private sums by shape alone, added in order by the worker that finishes the
last of a channel chunk. Layout of a sum: (registers of channels, taps, input channels of a group, lanes).
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise import gather_rows
from numbaconv.kernels.depthwise_gradient_streams import stream_sums
from numbaconv.kernels.depthwise_gradient_tiles import tap_tile
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.kernels.vector_copy import add_columns, copy_columns, copy_pixel
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.vectors import lanes_of, load, store

MET = 4
"""Numbers listed for each visit of a register of channels."""


@inline
def list_rows(record, plane, row, rows, offsets):
    """offsets[kernel row, r]: where row `row + r` of outputs reads the input by a row of the kernel, -1 for padding."""
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    row_size, gathers = record[at.TAP_COLUMNS] * record[at.CHANNELS], record[at.IN_PLACE] == 0
    listed = 0
    for p in range(record[at.PLANE_TAPS]):
        for j in range(record[at.ROW_TAPS]):
            for r in range(rows):
                position = r * record[at.ROW_STEP] + j * record[at.ROW_TAP_STEP]
                offset = plane_table[p] + row_table[position]
                if gathers:
                    offset = (p * record[at.TAP_ROWS] + position) * row_size
                elif plane_table[p] < 0 or row_table[position] < 0:
                    offset = -1
                offsets[listed] = offset
                listed += 1


@inline
def list_visits(record, rows, offsets, visits):
    """List for each visit the rows of outputs that do not meet padding alone, and of them those that meet none.

    First and last of each; of the latter only a stretch.
    """
    table = advance(record, record[at.VISIT_TABLE])
    for visit in range(record[at.VISITS]):
        reads = advance(offsets, table[at.VISIT_SIZE * visit + at.VISIT_ROW] * rows)
        first, last, met_first, met_last = rows, 0, rows, 0
        for r in range(rows):
            met = 0
            for i in range(table[at.VISIT_SIZE * visit + at.VISIT_ROWS]):
                met += reads[i * rows + r] >= 0
            if met > 0:
                first, last = min(first, r), r + 1
            if met == table[at.VISIT_SIZE * visit + at.VISIT_ROWS] and met_last in (0, r):
                met_first, met_last = min(met_first, r), r + 1
        visits[MET * visit] = first
        visits[MET * visit + 1] = last
        visits[MET * visit + 2] = met_first
        visits[MET * visit + 3] = met_last


@inline
def copy_grad(record, grad, rows, columns, channels, packed):
    """Copy the block's grad_y to pixels as far apart as those of gathered input."""
    for r in range(rows):
        for p in range(columns):
            pixel = advance(grad, r * record[at.Y_ROW] + p * record[at.Y_PIXEL])
            copy_pixel(pixel, channels, advance(packed, (r * columns + p) * record[at.CHANNELS]))


@inline
def block_sums(
    record, source, begin, end, grad, grad_row, grad_pixel, rows, columns, channels, offsets, visits, zeros, total,
    fetches, ahead, ahead_grad,
):  # fmt: skip
    """Add one block's products, register by register of its channels.

    `source` is where its first pixel reads by the first tap, positions [begin, end) are inside the input.
    """
    lanes, size = lanes_of(source), record[at.SUMMED]
    pixel = record[at.COLUMN_STEP] if record[at.IN_PLACE] == 1 else record[at.CHANNELS]
    base, tap_step = record[at.COLUMN_BASE], record[at.COLUMN_TAP_STEP]
    table, is_window = advance(record, record[at.VISIT_TABLE]), base <= 2 and tap_step == 1
    if record[at.STREAMED] > 0:
        stream_sums(
            record[at.STREAMED], source, offsets, rows, columns, channels, begin, end, pixel, tap_step, grad, grad_row,
            grad_pixel, zeros, total,
        )  # fmt: skip
        return
    last_channel = max(channels - lanes, 0)
    for register in range((channels + lanes - 1) // lanes):
        c = min(register * lanes, last_channel)
        for visit in range(record[at.VISITS]):
            numbers, met = advance(table, at.VISIT_SIZE * visit), advance(visits, MET * visit)
            kernel_row, shift = numbers[at.VISIT_ROW], numbers[at.VISIT_TAP] * tap_step
            first_tap = kernel_row * record[at.COLUMN_TAPS] + numbers[at.VISIT_TAP]
            tap_tile(
                numbers[at.VISIT_TILE], advance(source, c + shift * pixel), advance(offsets, kernel_row * rows), rows,
                met[0], met[1], met[2], met[3], begin - shift, end - shift, pixel, base, tap_step, is_window, columns,
                advance(grad, c), grad_row, grad_pixel, zeros, advance(total, first_tap * size * lanes),
                fetches if visit == 0 else 0, ahead, ahead_grad,
            )  # fmt: skip
        total = advance(total, record[at.KERNEL_TAP_COUNT] * size * lanes)
        ahead = advance(ahead, rows * columns * fetches * lanes)
        ahead_grad = advance(ahead_grad, rows * columns * lanes)


@inline
def input_ahead(record, x, block):
    """Return where the input begins that a block reads and the one before does not, or an address beside it."""
    batch, _, plane, row, _, column, _ = block_extent(record, block - record[at.FIRST_TASK])
    row_position, position = row * record[at.ROW_STEP], column * record[at.COLUMN_BASE]
    if column > 0:
        row_position += record[at.ROW_REACH] - 1
        position += record[at.COLUMN_REACH] - record[at.COLUMN_BASE]
    elif row > 0:
        row_position += max(record[at.ROW_REACH] - record[at.ROW_STEP], 0)
    last_plane = (plane + 1) * record[at.PLANE_TAPS] - 1
    offset = record[record[at.PLANE_TABLE] + last_plane] + record[record[at.ROW_TABLE] + row_position]
    return advance(
        x, batch * record[at.X_BATCH] + offset + (position - record[at.COLUMN_FIRST]) * record[at.COLUMN_STEP]
    )


@inline
def grad_ahead(record, grad, block):
    """Return where a block's grad_y begins."""
    batch, _, plane, row, _, column, _ = block_extent(record, block - record[at.FIRST_TASK])
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane]
    return advance(grad, offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])


@inline
def add_block(geometry, buffers, work, block, channel, channels, total, fetches):
    """Add the products of one block of pixels to the sums of one chunk of channels, maybe fetching the next block."""
    record, lanes = phase_record(geometry, block), lanes_of(work)
    batch, _, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    offsets = as_counters(advance(work, geometry[at.RUNS]))
    list_rows(record, plane, row, rows, offsets)
    visits = advance(offsets, record[at.PLANE_TAPS] * record[at.ROW_TAPS] * rows)
    list_visits(record, rows, offsets, visits)
    source = advance(buffers[at.X], batch * record[at.X_BATCH])
    begin, end = 0, record[at.TAP_COLUMNS]
    if record[at.IN_PLACE] == 1:
        position = column * record[at.COLUMN_BASE]
        begin, end = record[at.COLUMN_FIRST] - position, record[at.COLUMN_LAST] - position
        offset = record[record[at.COLUMN_TABLE] + record[at.COLUMN_FIRST]] - begin * record[at.COLUMN_STEP]
        source = advance(source, channel + offset)
    else:
        gather_rows(record, source, work, plane, row, rows, column, columns, channel, channels)
        source = work
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + channel
    grad = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    grad_row, grad_pixel = record[at.Y_ROW], record[at.Y_PIXEL]
    if channels < lanes:
        packed = advance(work, geometry[at.SECOND])
        copy_grad(record, grad, rows, columns, channels, packed)
        grad, grad_row, grad_pixel = packed, columns * record[at.CHANNELS], record[at.CHANNELS]
    zeros = advance(work, geometry[at.BOUNCE])
    ahead, ahead_grad = input_ahead(record, buffers[at.X], block + 1), grad_ahead(record, buffers[at.Y], block + 1)
    block_sums(
        record, source, begin, end, grad, grad_row, grad_pixel, rows, columns, channels, offsets, visits, zeros, total,
        record[at.AHEAD_STEP] if fetches else 0, ahead, ahead_grad,
    )  # fmt: skip


@inline
def leave_sums(total, taps, channels, result, stride):
    """Copy a chunk's sums to the gradient or a private one, rows of all channels `stride` apart."""
    lanes = lanes_of(total)
    if channels < lanes:
        copy_columns(total, lanes, taps, channels, result, stride)
        return
    for register in range((channels + lanes - 1) // lanes):
        target = advance(result, min(register * lanes, channels - lanes))
        for tap in range(taps):
            store(load(advance(total, (register * taps + tap) * lanes)), advance(target, tap * stride))


@task_kernel
def depthwise_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of one chunk of channels."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record, lanes = advance(geometry, geometry[at.RECORDS]), lanes_of(work)
    chunks, width, taps = geometry[at.CHUNKS], record[at.CHANNELS], record[at.KERNEL_TAP_COUNT] * record[at.SUMMED]
    channel_chunk, chunk = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    channel = channel_chunk * width
    channels = min(width, record[at.OUT_CHANNELS] - channel)
    clear(advance(work, geometry[at.BOUNCE]), lanes)
    total = advance(work, geometry[at.SUMS])
    clear(total, taps * width)
    blocks = geometry[at.BLOCKS]
    last = (chunk + 1) * blocks // chunks - 1
    for block in range(chunk * blocks // chunks, last + 1):
        add_block(geometry, buffers, work, block, channel, channels, total, block + 1 < blocks)

    stride, size = record[at.OUT_CHANNELS], geometry[at.GRADIENT_SIZE]
    result = advance(buffers[at.KERNEL], channel)
    if chunks == 1:
        leave_sums(total, taps, channels, result, stride)
        return
    partial = advance(buffers[at.PACKED_KERNEL], channel)
    leave_sums(total, taps, channels, advance(partial, chunk * size), stride)
    if atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), channel_chunk), 1) == chunks - 1:
        copy_columns(partial, stride, taps, channels, result, stride)
        for other in range(1, chunks):
            add_columns(advance(partial, other * size), stride, taps, channels, result, stride)
