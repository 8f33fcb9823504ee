"""Winograd convolution of a block of tiles: input transform, products point by point, output transform.

Transformed input and products of a block stay in the caches. The products of one panel of output channels are made
and transformed back before those of the next, so that few of them wait.
"""

from __future__ import annotations

from numbaconv.jit import float32_kernel, inline
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.epilogue import waits
from numbaconv.kernels.forward import phase_record
from numbaconv.kernels.packing import pack_column, pack_transposed, pack_zeros, panel_width
from numbaconv.kernels.winograd_points import FEWER_POINTS
from numbaconv.kernels.winograd_positions import (
    fetch_tile,
    is_next,
    next_position,
    tile_points,
    tile_position,
    tiles_of_block,
    tiles_with,
)
from numbaconv.kernels.winograd_products import multiply_point
from numbaconv.kernels.winograd_tall import TALL_POINTS
from numbaconv.kernels.winograd_transforms import (
    border_tile,
    gather_tile,
    input_tile,
    kernel_tile,
    last_tile,
    output_tile,
    panel_number,
    panel_tile,
    precise_kernel_tile,
    tall_tile,
)
from numbaconv.simd.pointers import advance, as_counters, clear, copy, fence, is_aligned, is_equal
from numbaconv.simd.vectors import lanes_of, load, splat, store
from numbaconv.target import CACHE_LINE

# Buffers.
X = 1
PACKED_KERNEL = 2  # or the kernel as it is, where the workers transform it
BIAS = 3
Y = 4
STATES = 5  # of each worker, STATE_STEP apart, whether it has transformed the kernels that it keeps: (kernels, groups)
KEPT = 6  # of each worker, KEPT_SIZE apart, the transformed kernels that it keeps, behind them what COPY_AT says
COPIED = 7  # of each worker, STATE_STEP apart, whether that copy is there; no buffer where COPY_AT says of none
KERNEL = 1  # of `winograd_kernel`


@inline
def is_dense(table, points, step):
    """Whether a tile's positions lie `step` apart, none of them padding: no padding mode repeats that otherwise."""
    return table[0] >= 0 and table[points - 1] - table[0] == (points - 1) * step and table[points - 1] >= 0


@inline
def last_offset(table, points):
    """Return the largest offset of a tile's positions."""
    last = table[0]
    for i in range(1, points):
        last = max(last, table[i])
    return last


@inline
def transform_tile(record, x, room, rows, columns, has_rows, has_columns, v, scratch):
    """Transform one tile of the plane of input at `x`, which has so many points, to v[point, channel].

    Pixels are read where they lie, whole registers of channels, unless that would be more than `room` numbers from `x`
    on. What is too much of a register comes from pixels that follow; it is overwritten, or not multiplied.
    """
    channels, width, lanes = record[at.CHANNELS], record[at.GATHERED], lanes_of(x)
    row_points, column_points = record[at.ROW_POINTS], record[at.COLUMN_POINTS]
    row_step, column_step, plane = record[at.ROW_STEP], record[at.COLUMN_STEP], record[at.INPUT_PLANE]
    buffer, ahead, source = advance(scratch, row_points * column_points * width), 0, x
    is_whole = record[at.X_CHANNEL] == 1
    if channels % lanes != 0:
        is_whole &= last_offset(rows, row_points) + last_offset(columns, column_points) + width <= room
    has_few = 1 < has_rows < FEWER_POINTS or 1 < has_columns < FEWER_POINTS
    is_inside = is_dense(rows, row_points, row_step) and is_dense(columns, column_points, column_step)
    if not is_whole:
        gather_tile(x, rows, columns, row_points, column_points, channels, record[at.X_CHANNEL], scratch, width)
        source, row_step, column_step = scratch, column_points * width, width
        x, rows, columns = (
            scratch,
            advance(record, record[at.GATHERED_ROWS]),
            advance(record, record[at.GATHERED_COLUMNS]),
        )
    elif is_inside:
        source = advance(x, rows[0] + columns[0])
        ahead = record[at.TILE_AHEAD]
    else:
        clear(scratch, lanes)
    if row_points == TALL_POINTS:
        tall_tile(
            x, rows, columns, channels, scratch, buffer, v, plane, column_step,
            column_points - record[at.COLUMN_OUTPUTS],
        )  # fmt: skip
        return
    if has_few:
        last_tile(x, rows, columns, has_rows, has_columns, channels, scratch, buffer, v, plane)
        return
    if is_whole and not is_inside:
        border_tile(
            x, rows, columns, row_points, column_points, channels, scratch, buffer, v, plane, column_step,
            column_points - record[at.COLUMN_OUTPUTS],
        )  # fmt: skip
        return
    input_tile(
        source, row_step, column_step, row_points, column_points, channels, buffer, v, plane, ahead,
        column_points - record[at.COLUMN_OUTPUTS],
    )  # fmt: skip


@inline
def transform_parts(record, x, room, rows, columns, has_rows, has_columns, v, scratch):
    """Transform what each part of a kernel's taps reads of one tile to v[point, part, channel]."""
    for i in range(record[at.ROW_PARTS]):
        for j in range(record[at.COLUMN_PARTS]):
            target = advance(v, (i * record[at.COLUMN_PARTS] + j) * record[at.CHANNELS])
            part_rows, part_columns = (
                advance(rows, i * record[at.ROW_TAPS]),
                advance(columns, j * record[at.COLUMN_TAPS]),
            )
            transform_tile(record, x, room, part_rows, part_columns, has_rows, has_columns, target, scratch)


@inline
def transform_block(record, x, group, first, tiles, v, scratch):
    """Transform tiles [first, first + tiles) of a group to v[point, tile, summed tap, channel].

    Along a run of planes, to v[point, plane, channel]: a tile finds those that the one before it reads as well.
    """
    x, size = advance(x, group * record[at.X_GROUP]), record[at.X_SIZE] - group * record[at.X_GROUP]
    of_plane = record[at.ROW_PARTS] * record[at.COLUMN_PARTS] * record[at.CHANNELS]
    position, new_tap = tile_position(record, first), 0 if record[at.RUN_PLANES] == 0 else record[at.PLANE_TAPS] - 1
    for t in range(tiles):
        before = position
        image, plane, row, column = before
        position = next_position(record, first + t + 1, before)
        has_rows, has_columns = tile_points(record, row, column)
        # Transforms of whole tiles fetch what the next one of the row reads, not tiles with fewer points.
        if not (is_next(record, position, before) and has_rows == record[at.ROW_POINTS]) and t + 1 < tiles:
            fetch_tile(record, x, position, new_tap)
        rows = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_OUTPUTS])
        columns = advance(record, record[at.COLUMN_TABLE] + column * record[at.COLUMN_OUTPUTS])
        planes = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
        for tap in range(new_tap if t > 0 else 0, record[at.PLANE_TAPS]):
            target = advance(v, t * record[at.INPUT_ROW] + tap * of_plane)
            if planes[tap] < 0:
                for point in range(record[at.ROW_POINTS] * record[at.COLUMN_POINTS]):
                    clear(advance(target, point * record[at.INPUT_PLANE]), of_plane)
            else:
                offset = image * record[at.X_BATCH] + planes[tap]
                source, room = advance(x, offset), size - offset
                transform_parts(record, source, room, rows, columns, has_rows, has_columns, target, scratch)


@inline
def panel_size(record, valid, lanes):
    """Return the number of the code for a tile of whole registers, else 0."""
    rows, columns = record[at.ROW_OUTPUTS], record[at.COLUMN_OUTPUTS]
    is_square = rows == columns and 2 <= columns <= 4
    if valid % lanes != 0 or not (is_square or record[at.ROW_POINTS] == TALL_POINTS):
        return 0
    return panel_number(rows, columns, valid // lanes)


@inline
def clear_absent(record, row, column, m, width):
    """Write products of zero at the points that a tile does not have."""
    row_points, column_points = tile_points(record, row, column)
    if row_points == record[at.ROW_POINTS] and column_points == record[at.COLUMN_POINTS]:
        return
    zeros = splat(m, 0.0)
    for i in range(record[at.ROW_POINTS]):
        for j in range(column_points if i < row_points else 0, record[at.COLUMN_POINTS]):
            products = advance(m, (i * record[at.COLUMN_POINTS] + j) * record[at.PRODUCT_PLANE])
            for channel in range(0, width, lanes_of(m)):
                store(zeros, advance(products, channel))


@inline
def store_block(record, m, first, tiles, valid, bias, lower, past_caches, y, buffer):
    """Transform the products of one panel, m[point, tile, channel], back and store them."""
    lanes = lanes_of(m)
    width = panel_width(valid, lanes)
    size = 0 if waits(lower) else panel_size(record, valid, lanes)
    position = tile_position(record, first)
    for t in range(tiles):
        image, plane, row, column = position
        position = next_position(record, first + t + 1, position)
        clear_absent(record, row, column, advance(m, t * width), width)
        row, column = row * record[at.ROW_OUTPUTS], column * record[at.COLUMN_OUTPUTS]
        rows = min(record[at.ROW_OUTPUTS], record[at.OUT_ROWS] - row)
        columns = min(record[at.COLUMN_OUTPUTS], record[at.OUT_COLUMNS] - column)
        offset = image * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane]
        target = advance(y, offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
        if size > 0:
            panel_tile(
                size, advance(m, t * width), record[at.PRODUCT_PLANE], buffer, bias, lower, rows, columns,
                past_caches, target, record[at.Y_ROW], record[at.Y_PIXEL],
            )  # fmt: skip
            continue
        channel = 0
        while channel < valid:
            output_tile(
                advance(m, t * width + channel), record[at.PRODUCT_PLANE], record[at.ROW_POINTS],
                record[at.COLUMN_POINTS], record[at.ROW_OUTPUTS], record[at.COLUMN_OUTPUTS], rows, columns, buffer,
                advance(bias, channel), lower, valid - channel, advance(target, channel), record[at.Y_ROW],
                record[at.Y_PIXEL],
            )  # fmt: skip
            channel += lanes


@inline
def load_taps(kernel, record, offsets, taps, first, channels, channel, valid, width, block):
    """Copy `taps` taps of some channels and one panel to block[tap, channel, panel width]; what is absent is zero."""
    lanes, channel_step, column_step = lanes_of(kernel), record[at.KERNEL_CHANNEL], record[at.KERNEL_COLUMN]
    for tap in range(taps):
        source = advance(kernel, offsets[tap] + channel * column_step + first * channel_step)
        target = advance(block, tap * at.KERNEL_CHANNELS * width)
        if offsets[tap] < 0:
            clear(target, channels * width)
            continue
        if column_step == 1 and valid == width:
            for c in range(channels):
                store(load(advance(source, c * channel_step)), advance(target, c * width))
                if width > lanes:
                    store(load(advance(source, c * channel_step + lanes)), advance(target, c * width + lanes))
            continue
        if channel_step == 1 and valid == width:
            pack_transposed(source, column_step, channels, width, width, target)
            continue
        for column in range(width):
            if column < valid:
                pack_column(
                    advance(source, column * column_step), channels, channel_step, width, advance(target, column)
                )
            else:
                pack_zeros(channels, width, advance(target, column))


@inline
def transform_panel(record, kernel, panel, chunk, packed, block):
    """Transform the kernel of one panel of a group's output channels and one chunk of its channels."""
    lanes = lanes_of(kernel)
    channel = panel * 2 * lanes
    valid = min(2 * lanes, record[at.OUT_CHANNELS] - channel)
    width = panel_width(valid, lanes)
    taps = record[at.ROW_TAPS] * record[at.COLUMN_TAPS]
    buffer = advance(block, taps * at.KERNEL_CHANNELS * width)
    step = at.KERNEL_CHANNELS * width
    row_step = record[at.COLUMN_TAPS] * step
    first = chunk * at.KERNEL_CHANNELS
    channels = min(at.KERNEL_CHANNELS, record[at.CHANNELS] - first)
    for summed in range(record[at.SUMMED_TAPS]):
        offsets = advance(record, record[at.KERNEL_TAPS] + summed * taps)
        load_taps(kernel, record, offsets, taps, first, channels, channel, valid, width, block)
        for c in range(channels):
            row = advance(packed, (summed * record[at.CHANNELS] + first + c) * width)
            v = 0
            while v < width:
                source, target = advance(block, c * width + v), advance(row, v)
                if record[at.IS_PRECISE] > 0:
                    precise_kernel_tile(
                        source, row_step, step, record[at.ROW_TAPS], record[at.COLUMN_TAPS], record[at.ROW_POINTS],
                        record[at.COLUMN_POINTS], buffer, target, record[at.KERNEL_PLANE],
                    )  # fmt: skip
                else:
                    kernel_tile(
                        source, row_step, step, record[at.ROW_TAPS], record[at.COLUMN_TAPS], record[at.ROW_POINTS],
                        record[at.COLUMN_POINTS], buffer, target, record[at.KERNEL_PLANE],
                    )  # fmt: skip
                v += lanes


@inline
def keep_kernel(record, buffers, worker, group, kernel, block):
    """Return the worker's own transform of a group's kernel, which it makes at its first task of these.

    Where a copy of the kernel lasts with the transform, it makes both anew only if the kernel differs from that.
    """
    number = worker * record[at.STATE_STEP] + record[at.KEPT_KERNEL] - 1 + group
    kept = advance(buffers[KEPT], worker * record[at.KEPT_SIZE])
    transformed = advance(kept, record[at.PACKED] + group * record[at.PACKED_GROUP])
    state = advance(as_counters(buffers[STATES]), number)
    if state[0] == 1:
        return transformed
    state[0] = 1
    if record[at.COPY_AT] > 0:
        before, size = advance(kept, record[at.COPY_AT]), record[at.KERNEL_SIZE]
        copied = advance(as_counters(buffers[COPIED]), number)
        if copied[0] == 1 and is_equal(kernel, before, size):
            return transformed
        copied[0] = 1
        copy(before, kernel, size)
    for panel in range(record[at.PANELS]):
        for part in range(record[at.CHANNEL_CHUNKS]):
            transform_panel(record, kernel, panel, part, advance(transformed, panel * record[at.PACKED_PANEL]), block)
    return transformed


@inline
def multiply_points(record, work, first, begin, end, valid, depth, kernel):
    """Multiply a block's tiles by one panel at points [begin, end), at each those tiles that have it."""
    wide, width, tiles = valid > lanes_of(work), panel_width(valid, lanes_of(work)), tiles_of_block(record, first)
    cover = advance(record, record[at.WIDE_COVER if wide else at.NARROW_COVER])
    x, x_row, x_plane = advance(work, record[at.INPUT_AT]), record[at.INPUT_ROW], record[at.INPUT_PLANE]
    y, y_plane, kernel_plane = advance(work, record[at.PRODUCTS]), record[at.PRODUCT_PLANE], record[at.KERNEL_PLANE]
    for point in range(begin, end):
        tile, count = tiles_with(record, point, first, tiles)
        multiply_point(
            advance(cover, cover[count]), wide, advance(x, point * x_plane + tile * x_row), x_row, depth,
            advance(kernel, point * kernel_plane), advance(y, point * y_plane + tile * width),
        )  # fmt: skip


@inline
def joined_phase(record, index):
    """Return the record of one of the phases that are one block; `record` is the last of them."""
    return advance(record, (index + 1 - record[at.JOINED]) * head.RECORD_SIZE)


@float32_kernel
def winograd_product(worker, task, geometry, buffers):
    """Compute one block of tiles of one phase, or of some phases, for some panels of output channels of a group.

    The kernel is transformed already, or the worker keeps one of its own. Where all tiles are one block, each panel is
    used once: the worker transforms it then, and it never leaves L2.
    """
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    group, first = index % record[at.GROUPS], index // record[at.GROUPS] * record[at.BLOCK_TILES]
    work = advance(buffers[head.WORK_BUFFER], worker * geometry[head.WORKSPACE])
    scratch, lanes, joined = advance(work, record[at.SCRATCH]), lanes_of(work), record[at.JOINED]
    for i in range(joined):
        phase = joined_phase(record, i)
        v = advance(work, phase[at.INPUT_AT])
        transform_block(phase, buffers[X], group, first, tiles_of_block(phase, first), v, scratch)

    points, depth = record[at.ROW_POINTS] * record[at.COLUMN_POINTS], record[at.DEPTH]
    own = record[at.OWN_KERNEL]
    kernel = advance(buffers[PACKED_KERNEL], record[at.PACKED] + group * record[at.PACKED_GROUP])
    if record[at.KEPT_KERNEL] > 0:
        taken = advance(buffers[PACKED_KERNEL], group * record[at.KERNEL_GROUP])
        kernel = keep_kernel(record, buffers, worker, group, taken, scratch)
    bias = advance(buffers[BIAS], head.BIAS_HEADER + group * record[at.BIAS_GROUP])
    y = advance(buffers[Y], group * record[at.Y_GROUP])
    past_caches = record[at.PAST_CACHES] > 0 and is_aligned(y, CACHE_LINE)
    first_panel = chunk * record[at.PANELS_PER_CHUNK]
    for panel in range(first_panel, min(first_panel + record[at.PANELS_PER_CHUNK], record[at.PANELS])):
        channel = panel * 2 * lanes
        valid = min(2 * lanes, record[at.OUT_CHANNELS] - channel)
        panel_kernel = advance(kernel, panel * record[at.PACKED_PANEL])
        if own > 0:
            panel_kernel = advance(work, own)
            taken = advance(buffers[PACKED_KERNEL], group * record[at.KERNEL_GROUP])
            for part in range(record[at.CHANNEL_CHUNKS]):
                transform_panel(record, taken, panel, part, panel_kernel, scratch)
        # Phases that share a kernel are multiplied by each of its points in turn, so that it is read once.
        together = points if joined == 1 else 1
        for point in range(0, points, together):
            for i in range(joined):
                multiply_points(
                    joined_phase(record, i), work, first, point, point + together, valid, depth, panel_kernel
                )
        for i in range(joined):
            phase = joined_phase(record, i)
            store_block(
                phase, advance(work, phase[at.PRODUCTS]), first, tiles_of_block(phase, first), valid,
                advance(bias, channel), buffers[BIAS][0], past_caches, advance(y, channel), scratch,
            )  # fmt: skip
    if past_caches:
        fence()


@float32_kernel
def winograd_kernel(worker, task, geometry, buffers):
    """Transform the kernel of one panel of output channels and one chunk of channels."""
    record = phase_record(geometry, task)
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.CHANNEL_CHUNKS], index // record[at.CHANNEL_CHUNKS]
    panel, group = index % record[at.PANELS], index // record[at.PANELS]
    block = advance(buffers[head.WORK_BUFFER], worker * geometry[head.WORKSPACE])
    packed = advance(buffers[PACKED_KERNEL], record[at.PACKED] + group * record[at.PACKED_GROUP])
    packed = advance(packed, panel * record[at.PACKED_PANEL])
    transform_panel(record, advance(buffers[KERNEL], group * record[at.KERNEL_GROUP]), panel, chunk, packed, block)
