"""Direct convolution of one task: a block of output pixels of one group, all or some panels of output channels.

Forward passes have one phase; input gradients (and so transposed convolutions) with stride s have s phases per axis,
each a stride-1 convolution of grad_y with its share of the flipped taps, written at stride s.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.gather import gather_block
from numbaconv.kernels.packing import panel_width, require_panel
from numbaconv.kernels.register_tile import product_columns
from numbaconv.simd.pointers import advance, as_counters
from numbaconv.simd.vectors import lanes_of


@inline
def phase_record(geometry, task):
    """Return the record of the phase that `task` belongs to: the last one whose first task is not behind it."""
    record = advance(geometry, geometry[at.RECORDS])
    low, high = 0, geometry[at.PHASES]
    while high - low > 1:
        middle = (low + high) // 2
        if record[middle * at.RECORD_SIZE + at.FIRST_TASK] <= task:
            low = middle
        else:
            high = middle
    return advance(record, low * at.RECORD_SIZE)


@inline
def block_input(record, x, block, batch, plane, row, rows, column, columns, group):
    """Return a pointer to the first number that the block's first pixel reads, in the input or gathered from it."""
    source = advance(x, batch * record[at.X_BATCH] + group * record[at.X_GROUP])
    if record[at.IN_PLACE] == 0:
        channels = record[at.CHANNELS]
        gather_block(source, record, plane, row, rows, column, columns, channels, block, channels)
        return block
    offset = record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS]]
    offset += record[record[at.ROW_TABLE] + row * record[at.ROW_STEP]]
    return advance(source, offset + record[record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE]])


@inline
def product_block(worker, record, buffers, source, group, panels, first_panel, y, rows, last_column, bounce):
    """Multiply the block at `source` by panels [first_panel, first_panel + panels) of the group."""
    kernel, lanes = buffers[at.KERNEL], lanes_of(source)
    depth, out_channels = record[at.TAPS] * record[at.RUN], record[at.OUT_CHANNELS]
    group_kernel = advance(buffers[at.PACKED_KERNEL], record[at.PACKED] + group * record[at.PACKED_GROUP])
    bias = advance(buffers[at.BIAS], at.BIAS_HEADER + group * record[at.BIAS_GROUP])
    lower, states = buffers[at.BIAS][0], as_counters(buffers[at.COUNTERS])
    offsets = advance(record, record[at.TAP_OFFSETS])
    wide = advance(record, record[at.WIDE_LAST if last_column else at.WIDE_FULL])
    narrow = advance(record, record[at.NARROW_LAST if last_column else at.NARROW_FULL])
    for i in range(panels):
        # Workers start at different panels, so that the first ones are packed side by side.
        panel = first_panel + (i + worker * ((panels + 1) // 2)) % panels
        channel = panel * 2 * lanes
        valid = min(2 * lanes, out_channels - channel)
        width = panel_width(valid, lanes)
        packed = advance(group_kernel, channel * depth)
        require_panel(kernel, record, group, panel, valid, width, packed, states)
        for r in range(rows):
            product_columns(
                wide if valid > lanes else narrow, valid, advance(source, r * record[at.ROW_STRIDE]),
                record[at.PIXEL_STRIDE], record[at.TAPS], offsets, record[at.RUN], packed, advance(bias, channel),
                lower, advance(y, r * record[at.Y_ROW] + channel), record[at.Y_PIXEL], bounce,
            )  # fmt: skip


@task_kernel
def direct_forward(worker, task, geometry, buffers):
    """Compute one block of outputs of one phase."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    group, index = index % record[at.GROUPS], index // record[at.GROUPS]
    column_block, index = index % record[at.COLUMN_BLOCKS], index // record[at.COLUMN_BLOCKS]
    row_block, index = index % record[at.ROW_BLOCKS], index // record[at.ROW_BLOCKS]
    plane, batch = index % record[at.PLANES], index // record[at.PLANES]

    row, column = row_block * record[at.BLOCK_ROWS], column_block * record[at.BLOCK_COLUMNS]
    rows = min(record[at.BLOCK_ROWS], record[at.OUT_ROWS] - row)
    columns = min(record[at.BLOCK_COLUMNS], record[at.OUT_COLUMNS] - column)
    source = block_input(record, buffers[at.X], work, batch, plane, row, rows, column, columns, group)
    first_panel = chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    y = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    bounce = advance(work, geometry[at.BOUNCE])
    product_block(
        worker, record, buffers, source, group, panels, first_panel, y, rows,
        column_block == record[at.COLUMN_BLOCKS] - 1, bounce,
    )  # fmt: skip
