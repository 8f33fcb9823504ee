"""Kernel gradient by Winograd's algorithm: tiles of the input times tiles of grad_y, summed point by point.

For one tile the gradient of r taps is a correlation of 6 inputs with m = 7 - r numbers of grad_y, so grad_y takes the
part of the kernel in F(r, m). The sums over tiles stay transformed and are transformed back once, at the end.

Sums are 36 numbers for 9 taps. Where tiles are many, each block of them is added to sums in memory, which a launch of
its own transforms back. Where they are few and sums do not fit L2, a worker transforms all tiles first. It then takes a
*unit*, some register tiles of one panel, sums it over all tiles point by point and transforms it back: its sums never
leave L2.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import float32_kernel, inline
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.forward import phase_record
from numbaconv.kernels.packing import panel_width
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.vector_copy import copy_pixel
from numbaconv.kernels.winograd import transform_block
from numbaconv.kernels.winograd_ahead import move_cursor, start_cursor, stop_cursor
from numbaconv.kernels.winograd_points import POINTS
from numbaconv.kernels.winograd_positions import (
    next_position,
    tile_of_grad,
    tile_position,
    tiles_of_block,
    tiles_with,
)
from numbaconv.kernels.winograd_transforms import NO_BOUND, kernel_tile, output_tile
from numbaconv.simd.pointers import advance, as_counters, clear, prefetch
from numbaconv.simd.tiles import tile_add, tile_fma, tile_fma_in_order, tile_store, tile_zeros
from numbaconv.simd.vectors import lanes_of, load, store
from numbaconv.target import CACHE_LINE

# Buffers.
X = 1
SUMS = 2  # (chunks, groups, panels, points, depth, panel width)
GRADIENT = 3
Y = 4

SUMMED_TILES = 32
"""Tiles that are summed before the sum joins the others: long sums of float32 lose accuracy."""

RESULT_ROWS = 16
"""Rows of the transformed gradient that one task transforms back."""

ROWS_AHEAD = 4
"""Rows of sums after which those fetched now are used: each point's are a stretch of memory of its own."""


def make_gradient_tile(rows: int, vectors: int) -> Any:
    """Return the sum over tiles at one point for ``rows`` channels x ``vectors * lanes`` output channels."""
    # Unrolled by LLVM, the loop around one register took up to 1.05 times as long with AVX2, 1.03 with AVX-512.
    fma = tile_fma_in_order if vectors == 1 else tile_fma

    @inline
    def gradient_tile(x, x_stride, tiles, grad, total, begins, ahead, ahead_step, far, far_step):
        """total[i, k] += sum of x[tile * x_stride + i] * grad[tile, k], a few tiles at a time.

        Where the sums begin, nothing has been written to `total` yet.
        What the next register tile reads is fetched meanwhile, from `ahead` on a cache line with each tile, and from
        `far` on what the next block reads.
        """
        width = vectors * lanes_of(x)
        first = 0
        while first < tiles:
            last = min(first + SUMMED_TILES, tiles)
            acc = tile_zeros(rows, vectors, x)
            for tile in range(first, last):
                acc = fma(acc, advance(x, tile * x_stride), 1, advance(grad, tile * width))
                prefetch(advance(ahead, tile * ahead_step))
                prefetch(advance(far, tile * far_step))
            if begins and first == 0:
                tile_store(acc, total, width)
            else:
                tile_add(acc, total, width)
            first = last

    return gradient_tile


PARAMETERS = "x, x_stride, tiles, grad, total, begins, ahead, ahead_step, far, far_step"
wide_gradient_tile = by_rows(lambda rows: make_gradient_tile(rows, 2), WIDE_SIZES, PARAMETERS)
narrow_gradient_tile = by_rows(lambda rows: make_gradient_tile(rows, 1), NARROW_SIZES, PARAMETERS)


@inline
def add_point(sizes, count, wide, x, x_stride, tiles, grad, total, begins, following, cursor):
    """Add the products of a block's tiles at one point to the sums of one panel, as many rows as `count` tiles have.

    The sums are fetched ahead or, where they stay in L2, the input: after the last rows that `following` these. So is
    what the cursor finds.
    """
    width = 2 * lanes_of(x) if wide else lanes_of(x)
    channel = 0
    for i in range(count):
        rows = sizes[i]
        source, target = advance(x, channel), advance(total, channel * width)
        ahead, ahead_step = advance(target, rows * width), CACHE_LINE // 4
        if following != 0:
            ahead, ahead_step = advance(source, following if i == count - 1 else rows), x_stride
        far, far_step = move_cursor(cursor, tiles, grad, width)
        if wide:
            wide_gradient_tile(rows, source, x_stride, tiles, grad, target, begins, ahead, ahead_step, far, far_step)
        else:
            narrow_gradient_tile(rows, source, x_stride, tiles, grad, target, begins, ahead, ahead_step, far, far_step)
        channel += rows


@inline
def copy_outputs(y, row_step, pixel_step, rows, columns, column_outputs, channels, width, block):
    """Copy a tile of grad_y that is not whole to block[row, column, width]; what is absent stays as it is."""
    for i in range(rows):
        for j in range(columns):
            target = advance(block, (i * column_outputs + j) * width)
            copy_pixel(advance(y, i * row_step + j * pixel_step), channels, target)


@inline
def fetch_grad(y, row_step, pixel_step, rows, columns, width):
    """Ask for `width` numbers of each pixel of a tile."""
    for i in range(rows):
        for j in range(columns):
            for line in range(0, width, lanes_of(y)):
                prefetch(advance(y, i * row_step + j * pixel_step + line))


@inline
def transform_gradient(record, y, first, tiles, panels, valid, w, block):
    """Transform tiles [first, first + tiles) of grad_y to w[panel, point, tile, panel width].

    The last of the panels has `valid` channels. The next tile is fetched meanwhile: each of its pixels is a stretch of
    memory of its own.
    """
    lanes = lanes_of(y)
    row_outputs, column_outputs = record[at.ROW_OUTPUTS], record[at.COLUMN_OUTPUTS]
    points = record[at.ROW_POINTS] * record[at.COLUMN_POINTS]
    buffer = advance(block, row_outputs * column_outputs * 2 * lanes)
    position = tile_position(record, first)
    following, next_rows, next_columns = tile_of_grad(record, position)
    for t in range(tiles):
        tile, rows, columns = advance(y, following), next_rows, next_columns
        if t + 1 < tiles:
            position = next_position(record, first + t + 1, position)
            following, next_rows, next_columns = tile_of_grad(record, position)
        is_whole = rows == row_outputs and columns == column_outputs
        for panel in range(panels):
            channels = valid if panel == panels - 1 else 2 * lanes
            width = panel_width(channels, lanes)
            source, row_step, pixel_step = advance(tile, panel * 2 * lanes), record[at.Y_ROW], record[at.Y_PIXEL]
            ahead = advance(y, following + panel * 2 * lanes)
            fetch_grad(ahead, row_step, pixel_step, next_rows, next_columns, width)
            if not is_whole or channels < width:
                clear(block, row_outputs * column_outputs * width)
                copy_outputs(source, row_step, pixel_step, rows, columns, column_outputs, channels, width, block)
                source, row_step, pixel_step = block, column_outputs * width, width
            target = advance(w, panel * points * record[at.PRODUCT_PLANE] + t * width)
            v = 0
            while v < width:
                kernel_tile(
                    advance(source, v), row_step, pixel_step, row_outputs, column_outputs, record[at.ROW_POINTS],
                    record[at.COLUMN_POINTS], buffer, advance(target, v), record[at.PRODUCT_PLANE],
                )  # fmt: skip
                v += lanes


@inline
def transform_tiles(record, buffers, work, first, tiles, group, first_panel, panels):
    """Transform the input and some panels of grad_y of one block of tiles of a group."""
    lanes = lanes_of(work)
    v, w = advance(work, record[at.INPUT_AT]), advance(work, record[at.PRODUCTS])
    scratch = advance(work, record[at.SCRATCH])
    transform_block(record, buffers[X], group, first, tiles, v, scratch)
    channel, last = first_panel * 2 * lanes, (first_panel + panels - 1) * 2 * lanes
    y = advance(buffers[Y], group * record[at.Y_GROUP] + channel)
    transform_gradient(record, y, first, tiles, panels, min(2 * lanes, record[at.OUT_CHANNELS] - last), w, scratch)


@inline
def add_products(record, work, first, tiles, point, panel, valid, row, sizes, count, total, begins, following, cursor):
    """Add the products of one block of tiles at one point to the sums of rows of a panel, from `row` on.

    `panel` counts from the first one of the block's transformed grad_y, which has `valid` channels.
    """
    width = panel_width(valid, lanes_of(work))
    begin, tiles = tiles_with(record, point, first, tiles)
    if tiles > 0:
        x = advance(work, record[at.INPUT_AT] + point * record[at.INPUT_PLANE] + begin * record[at.INPUT_ROW] + row)
        points = record[at.ROW_POINTS] * record[at.COLUMN_POINTS]
        plane = (panel * points + point) * record[at.PRODUCT_PLANE]
        grad = advance(work, record[at.PRODUCTS] + plane + begin * width)
        add_point(
            sizes, count, valid > lanes_of(work), x, record[at.INPUT_ROW], tiles, grad, total, begins, following, cursor
        )
    elif begins:
        for i in range(count):
            clear(total, sizes[i] * width)
            total = advance(total, sizes[i] * width)


@inline
def valid_channels(record, panel, lanes):
    """Return how many output channels a panel has."""
    return min(2 * lanes, record[at.OUT_CHANNELS] - panel * 2 * lanes)


@inline
def cover_of_rows(record, valid, lanes):
    """Return the number of the register tiles that cover the rows of a panel, and behind it their rows."""
    return advance(record, record[at.WIDE_FULL if valid > lanes else at.NARROW_FULL])


@inline
def start_ahead(record, buffers, first, group, first_panel, panels, cursor):
    """Begin to fetch what a block of tiles reads for some panels of a group."""
    channel = first_panel * 2 * lanes_of(buffers[X])
    channels = min(panels * 2 * lanes_of(buffers[X]), record[at.OUT_CHANNELS] - channel)
    x = advance(buffers[X], group * record[at.X_GROUP])
    y = advance(buffers[Y], group * record[at.Y_GROUP] + channel)
    start_cursor(cursor, record, first, x, y, channels)


@inline
def first_of_block(phase, block):
    """Return the first tile of a block, whose number counts those of all phases."""
    return (block - phase[at.FIRST_TASK]) * phase[at.BLOCK_TILES]


@inline
def add_blocks(geometry, buffers, work, begin, end, group, first_panel, panels, sums, begins, cursor):
    """Add the products of blocks of tiles, one or some whole phases, to the sums of some panels of a group.

    The sums of a point and panel are read once for all of them. What the cursor finds is fetched meanwhile.
    """
    lanes, record = lanes_of(work), phase_record(geometry, begin)
    for block in range(begin, end):
        phase = phase_record(geometry, block)
        first = first_of_block(phase, block)
        transform_tiles(phase, buffers, work, first, tiles_of_block(phase, first), group, first_panel, panels)
    for point in range(record[at.ROW_POINTS] * record[at.COLUMN_POINTS]):
        for panel in range(panels):
            valid = valid_channels(record, first_panel + panel, lanes)
            cover = cover_of_rows(record, valid, lanes)
            total = advance(sums, panel * record[at.PACKED_PANEL] + point * record[at.KERNEL_PLANE])
            for block in range(begin, end):
                phase = phase_record(geometry, block)
                first = first_of_block(phase, block)
                add_products(
                    phase, work, first, tiles_of_block(phase, first), point, panel, valid, 0, advance(cover, 1),
                    cover[0], total, begins and block == begin, 0, cursor,
                )  # fmt: skip


@inline
def present(taps, rows, columns):
    """Return how many rows and columns of a part's taps the kernel has."""
    tap_rows, tap_columns = 1, 1
    while tap_rows < rows and taps[tap_rows * columns] >= 0:
        tap_rows += 1
    while tap_columns < columns and taps[tap_columns] >= 0:
        tap_columns += 1
    return tap_rows, tap_columns


@inline
def transform_back(record, sums, plane, chunks, chunk_size, first, last, valid, gradient, work):
    """Transform the sums of rows [first, last) of a panel back to the gradient of their taps.

    Those of `first` lie at `sums`, its points `plane` apart; sums of more than one chunk of tiles are added in order.
    """
    lanes, points = lanes_of(work), record[at.ROW_POINTS] * record[at.COLUMN_POINTS]
    width = panel_width(valid, lanes)
    buffer, zeros = advance(work, points * lanes), advance(work, (points + POINTS * POINTS + POINTS) * lanes)
    clear(zeros, lanes)
    bound = zeros[0] + NO_BOUND
    for row in range(first, last):
        summed, c = row // record[at.CHANNELS], row % record[at.CHANNELS]
        taps = advance(record, record[at.KERNEL_TAPS] + summed * record[at.ROW_TAPS] * record[at.COLUMN_TAPS])
        tap_rows, tap_columns = present(taps, record[at.ROW_TAPS], record[at.COLUMN_TAPS])
        target = advance(gradient, taps[0] + c * record[at.KERNEL_CHANNEL])
        v = 0
        while v < width:
            for point in range(points):
                source = advance(sums, point * plane + (row - first) * width + v)
                prefetch(advance(source, ROWS_AHEAD * width))
                total = load(source)
                for chunk in range(1, chunks):
                    total = total + load(advance(source, chunk * chunk_size))
                store(total, advance(work, point * lanes))
            output_tile(
                work, lanes, record[at.ROW_POINTS], record[at.COLUMN_POINTS], record[at.ROW_TAPS],
                record[at.COLUMN_TAPS], tap_rows, tap_columns, buffer, zeros, bound, valid - v,
                advance(target, v), record[at.KERNEL_ROW], record[at.KERNEL_COLUMN],
            )  # fmt: skip
            v += lanes


@inline
def sum_units(geometry, buffers, work, group, first_panel, panels):
    """Sum units of some panels of a group over all tiles, which are transformed first, and transform them back."""
    lanes, phases, record = lanes_of(work), geometry[head.BLOCKS], phase_record(geometry, 0)
    for block in range(phases):
        phase = phase_record(geometry, block)
        transform_tiles(phase, buffers, work, 0, phase[at.TILES], group, first_panel, panels)
    cursor = as_counters(advance(work, record[at.CURSOR]))
    stop_cursor(cursor)
    sums, scratch = advance(work, record[at.UNIT_SUMS]), advance(work, record[at.SCRATCH])
    for panel in range(panels):
        valid = valid_channels(record, first_panel + panel, lanes)
        cover = cover_of_rows(record, valid, lanes)
        channel = (first_panel + panel) * 2 * lanes
        gradient = advance(buffers[GRADIENT], group * record[at.KERNEL_GROUP] + channel)
        row, register_tile = 0, 0
        while register_tile < cover[0]:
            count = min(record[at.UNIT_TILES], cover[0] - register_tile)
            sizes = advance(cover, 1 + register_tile)
            rows = 0
            for i in range(count):
                rows += sizes[i]
            for point in range(record[at.ROW_POINTS] * record[at.COLUMN_POINTS]):
                total = advance(sums, point * record[at.UNIT_PLANE])
                for block in range(phases):
                    phase = phase_record(geometry, block)
                    # The same rows at the next point.
                    following = phase[at.INPUT_PLANE] - rows + sizes[count - 1]
                    add_products(
                        phase, work, 0, phase[at.TILES], point, panel, valid, row, sizes, count, total, block == 0,
                        following, cursor,
                    )  # fmt: skip
            transform_back(record, sums, record[at.UNIT_PLANE], 1, 0, row, row + rows, valid, gradient, scratch)
            row += rows
            register_tile += count


@float32_kernel
def winograd_gradient_sums(worker, task, geometry, buffers):
    """Sum one chunk of blocks of tiles for some panels of output channels of a group."""
    record = phase_record(geometry, 0)
    chunk, index = task % geometry[head.CHUNKS], task // geometry[head.CHUNKS]
    panel_chunk, group = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    first_panel = panel_chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    work = advance(buffers[head.WORK_BUFFER], worker * geometry[head.WORKSPACE])
    if record[at.UNIT_TILES] > 0:
        sum_units(geometry, buffers, work, group, first_panel, panels)
        return
    sums = advance(buffers[SUMS], chunk * geometry[head.GRADIENT_SIZE] + group * record[at.PACKED_GROUP])
    sums = advance(sums, first_panel * record[at.PACKED_PANEL])
    blocks = geometry[head.BLOCKS]
    begin, end = chunk * blocks // geometry[head.CHUNKS], (chunk + 1) * blocks // geometry[head.CHUNKS]
    cursor = as_counters(advance(work, record[at.CURSOR]))
    block, joined = begin, record[at.JOINED]
    while block < end:
        last = min(block + joined, end)
        stop_cursor(cursor)
        if joined == 1 and last < end:
            following = phase_record(geometry, last)
            start_ahead(following, buffers, first_of_block(following, last), group, first_panel, panels, cursor)
        add_blocks(geometry, buffers, work, block, last, group, first_panel, panels, sums, block == begin, cursor)
        block = last


@float32_kernel
def winograd_gradient_result(worker, task, geometry, buffers):
    """Add the chunks' sums of some rows of one panel, in order, and transform them back to the gradient of the taps."""
    record = phase_record(geometry, 0)
    rows, index = task % record[at.CHANNEL_CHUNKS], task // record[at.CHANNEL_CHUNKS]
    panel, group = index % record[at.PANELS], index // record[at.PANELS]
    work = advance(buffers[head.WORK_BUFFER], worker * geometry[head.WORKSPACE])
    lanes = lanes_of(work)
    valid = valid_channels(record, panel, lanes)
    first, last = rows * RESULT_ROWS, min((rows + 1) * RESULT_ROWS, record[at.DEPTH])
    sums = advance(buffers[SUMS], group * record[at.PACKED_GROUP] + panel * record[at.PACKED_PANEL])
    gradient = advance(buffers[GRADIENT], group * record[at.KERNEL_GROUP] + panel * 2 * lanes)
    transform_back(
        record, advance(sums, first * panel_width(valid, lanes)), record[at.KERNEL_PLANE], geometry[head.CHUNKS],
        geometry[head.GRADIENT_SIZE], first, last, valid, gradient, work,
    )  # fmt: skip
