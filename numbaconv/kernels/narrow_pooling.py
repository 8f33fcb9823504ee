"""Maxima and means over windows of few channels, for which a register holds several positions.

A piece is a part of a row of outputs. The rows under its windows are first combined to one line of numbers, whatever
their channels are, in the worker's workspace; the windows are then combined along that line, one output after the
other. Where an output has fewer channels than a register, it is stored as a whole register nevertheless: what goes
beyond its channels belongs to the next outputs, which are written afterwards, and the last outputs of a task are stored
in part. The geometry is that of `pooling`.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import pooling as at
from numbaconv.kernels.pooling import as_it_is, larger, mean, sum_of
from numbaconv.simd.pointers import advance, copy
from numbaconv.simd.vectors import lanes_of, load, load_first, store, store_first


@inline
def _combine_two(combine, a, b, line, count):
    """Set `count` numbers of the line to the combination of those at a, which may be the line, and at b."""
    lanes = lanes_of(line)
    rest = count % lanes
    whole = count - rest
    for i in range(0, whole, lanes):
        store(combine(load(advance(a, i)), load(advance(b, i))), advance(line, i))
    if rest > 0:
        end = combine(load_first(advance(a, whole), rest), load_first(advance(b, whole), rest))
        store(end, advance(line, whole))


@inline
def _combine_rows(combine, source, rows, row_count, line, count):
    """Set `count` numbers of the line to the combination of those of all rows."""
    if row_count == 1:
        copy(line, advance(source, rows[0]), count)
    else:
        _combine_two(combine, advance(source, rows[0]), advance(source, rows[1]), line, count)
    for r in range(2, row_count):
        _combine_two(combine, line, advance(source, rows[r]), line, count)


@inline
def _combine_window(combine, line, width, channels):
    """Combine a register of each position of a window."""
    if width == 2:
        acc = combine(load(line), load(advance(line, channels)))
    else:
        acc = load(line)
        for w in range(1, width):
            acc = combine(acc, load(advance(line, w * channels)))
    return acc


@inline
def _reduce_piece(combine, finish, g, source, target, writable, rows, row_count, first, last, line):
    """Write the outputs from `first` to `last` of a row; `writable` numbers from the first one are the task's."""
    lanes, channels = lanes_of(source), g[at.CHANNELS]
    begin = max(first * g[at.STRIDE] - g[at.LOW], 0)
    end = min((last - 1) * g[at.STRIDE] - g[at.LOW] + g[at.POOL], g[at.X])
    _combine_rows(combine, advance(source, begin * channels), rows, row_count, line, (end - begin) * channels)
    for o in range(first, last):
        left = max(o * g[at.STRIDE] - g[at.LOW], 0)
        width = min(o * g[at.STRIDE] - g[at.LOW] + g[at.POOL], g[at.X]) - left
        window, place = advance(line, (left - begin) * channels), (o - first) * channels
        if channels < lanes:
            acc = finish(_combine_window(combine, window, width, channels), row_count * width)
            if place + lanes <= writable:
                store(acc, advance(target, place))
            else:
                store_first(acc, advance(target, place), channels)
        else:
            c = 0
            while c < channels:
                c = min(c, channels - lanes)
                acc = finish(_combine_window(combine, advance(window, c), width, channels), row_count * width)
                store(acc, advance(target, place + c))
                c += lanes


@inline
def _reduce_pieces(combine, finish, worker, task, g, workspace, x, y):
    """Write the outputs of one task."""
    first_piece, channels = task * g[at.TASK_PIECES], g[at.CHANNELS]
    last_piece = min(first_piece + g[at.TASK_PIECES], g[at.PIECES])
    line = advance(workspace, worker * g[at.WORKSPACE])
    behind = last_piece // g[at.BLOCKS] * g[at.Y] + last_piece % g[at.BLOCKS] * g[at.BLOCK]
    for piece in range(first_piece, last_piece):
        row, first = piece // g[at.BLOCKS], piece % g[at.BLOCKS] * g[at.BLOCK]
        image, outer = row // g[at.OUTER], row % g[at.OUTER]
        entry = g[g[at.FIRST] + outer]
        rows, row_count = advance(g, g[at.ROWS] + entry), g[g[at.FIRST] + outer + 1] - entry
        start = row * g[at.Y] + first
        _reduce_piece(
            combine, finish, g, advance(x, image * g[at.X_IMAGE]), advance(y, start * channels),
            (behind - start) * channels, rows, row_count, first, min(first + g[at.BLOCK], g[at.Y]), line,
        )  # fmt: skip


@task_kernel
def narrow_max_pool(worker, task, geometry, buffers):
    """Set y (buffer 2) to the maximum of x (buffer 1) over each window."""
    _reduce_pieces(larger, as_it_is, worker, task, geometry, buffers[0], buffers[1], buffers[2])


@task_kernel
def narrow_average_pool(worker, task, geometry, buffers):
    """Set y (buffer 2) to the mean of x (buffer 1) over each window."""
    _reduce_pieces(sum_of, mean, worker, task, geometry, buffers[0], buffers[1], buffers[2])
