"""What a kernel gradient fetches ahead: the next block's numbers of the input and of grad_y, some with each pixel."""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import block_extent, phase_record
from numbaconv.simd.pointers import advance


@inline
def next_numbers(ahead, fetched, step):
    """Return where to fetch ahead after `fetched` numbers, and `step`; zero when all are."""
    x, grad, x_size, grad_size = ahead
    if fetched < grad_size:
        return advance(grad, fetched), step
    if fetched < grad_size + x_size:
        return advance(x, fetched - grad_size), step
    return grad, 0


@inline
def first_numbers(record, buffers, batch, plane, row, column, group, channel):
    """Return pointers to the first numbers of a block in the input, as far as it is not padding, and in grad_y."""
    x = batch * record[at.X_BATCH] + group * record[at.X_GROUP] + channel * record[at.X_CHANNEL]
    x += max(0, record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS]])
    x += max(0, record[record[at.ROW_TABLE] + row * record[at.ROW_STEP]])
    x += max(0, record[record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE]])
    grad = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    grad += row * record[at.Y_ROW] + column * record[at.Y_PIXEL]
    return advance(buffers[at.X], x), advance(buffers[at.Y], grad)


@inline
def next_block(geometry, buffers, block, group, channel):
    """Return the memory to fetch ahead for a block: first numbers and sizes in the input and in grad_y.

    The memory is fetched as one stretch: that of a block of whole rows; of others as much as one row.
    """
    record = phase_record(geometry, block)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    x, grad = first_numbers(record, buffers, batch, plane, row, column, group, channel)
    row_size, x_size = columns * record[at.Y_PIXEL], columns * record[at.COLUMN_BASE] * record[at.COLUMN_STEP]
    count = images * rows if record[at.COLUMN_BLOCKS] == 1 else 1
    if record[at.ROWS_AHEAD] != 0:
        x_size = 0
    return x, grad, x_size * count * record[at.ROW_STEP], row_size * count
