"""Depthwise convolution: channels in the lanes, a chunk of channels of some rows of outputs a task.

Rows of outputs are made in the order in which memory has them, with all their channels, so that the input is read once,
in long stretches. Where the input can be read in place, padding costs nothing: some rows of outputs that read the same
taps have a list of the kernel's rows that meet the input, and their columns are parts that have the same taps. One call
of a tile's code makes a part of all these rows, those at the borders last. Other inputs are gathered into a padded
block, of which all taps are read. The input gradient is the same kernel on flipped taps; a task makes the outputs of
all phases of a stride, which lie side by side.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_strip_tiles import HAS_STRIPS, NARROW_COLUMNS, PAIR_ROWS
from numbaconv.kernels.depthwise_strips import ZEROS, depthwise_strips
from numbaconv.kernels.depthwise_tiles import (
    LONG,
    LONG_TILE,
    PAIR_TILE,
    SHORT,
    SHORT_TILE,
    SINGLE_TILE,
    STREAMED,
    STREAMED_TILE,
    STREAMED_WIDE,
    WIDE,
    WIDE_PAIR_TILE,
    WIDE_SINGLE_TILE,
    WIDE_STREAMED_TILE,
    depthwise_tile,
)
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.forward import stores_past_caches
from numbaconv.kernels.gather import gather_block, repeat_channels, repeats_in_place, spread_channels, spread_triples
from numbaconv.kernels.lane_sums import leave_lane_sums
from numbaconv.simd.pointers import advance, as_counters, clear, fence
from numbaconv.simd.transposes import transpose_square
from numbaconv.simd.vectors import lanes_of, load, store

AHEAD_ROWS = 2
"""Rows of the input, at most, that are fetched ahead from each plane."""

MOST_LINES = 8
"""Rows of outputs, at most, whose borders are made behind all else: what they read is still in L2."""


@inline
def pack_taps(kernel, record, channel, channels, target):
    """target[vector, tap, i, lane]: what input channel i of its group counts for an output channel.

    That is `channel + min(vector * lanes, end) + lane`.
    """
    lanes, taps, summed, within = lanes_of(target), record[at.TAPS], record[at.SUMMED], record[at.KERNEL_WITHIN]
    table, end = advance(record, record[at.KERNEL_TAPS]), max(channels - lanes, 0)
    is_vector = within == 1 and record[at.KERNEL_GROUP] == 1 and channels >= lanes
    is_square = within == lanes and summed == lanes and record[at.KERNEL_CHANNEL] == 1
    for tap in range(taps):
        for vector in range((channels + lanes - 1) // lanes):
            first = channel + min(vector * lanes, end)
            if is_square:
                corner = advance(kernel, table[tap] + first // lanes * record[at.KERNEL_GROUP])
                packed = advance(target, (vector * taps + tap) * summed * lanes)
                transpose_square(corner, record[at.KERNEL_COLUMN], packed, lanes)
                continue
            for i in range(summed):
                source = advance(kernel, table[tap] + i * record[at.KERNEL_CHANNEL])
                packed = advance(target, ((vector * taps + tap) * summed + i) * lanes)
                if is_vector:
                    store(load(advance(source, first)), packed)
                else:
                    outer, inner = first // within, first % within
                    for lane in range(min(lanes, channels)):
                        packed[lane] = source[outer * record[at.KERNEL_GROUP] + inner * record[at.KERNEL_COLUMN]]
                        inner += 1
                        if inner == within:
                            outer, inner = outer + 1, 0


@inline
def gather_rows(record, x, block, plane, row, rows, column, columns, channel, channels):
    """Copy what the outputs of a block read, each input channel as often as there are outputs of it."""
    width, repeat = record[at.CHANNELS], record[at.REPEAT]
    first = channel // repeat
    read = (channel + channels - 1) // repeat + 1 - first
    source, lanes = advance(x, first * record[at.X_CHANNEL]), lanes_of(block)
    pixels = record[at.PLANE_TAPS] * record[at.TAP_ROWS] * record[at.TAP_COLUMNS]
    is_in_place = repeat == 1 or repeats_in_place(width, channel, lanes, repeat)
    gathered, pitch = block, width
    if not is_in_place:
        # The channels as they are lie behind what registers write beyond the block.
        gathered, pitch = advance(block, pixels * width + repeat + lanes), read
    gather_block(source, record, plane, row, rows, column, columns, read, gathered, pitch)
    if repeat == 3:
        spread_triples(gathered, pixels, read, block, width, channel, channels)
    elif not is_in_place:
        spread_channels(gathered, pixels, read, block, width, channel, repeat)
    elif repeat > 1:
        repeat_channels(block, pixels, width, channels, repeat)


@inline
def list_runs(record, plane, row, first_row, tap_size, runs):
    """List offset in the input and in the packed taps of each row of the kernel that meets the input; return how many.

    `first_row` is the output row that the gathered block begins with; a packed tap has `tap_size` numbers.
    """
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    row_table = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_STEP])
    row_size = record[at.TAP_COLUMNS] * record[at.CHANNELS]
    count = 0
    for p in range(record[at.PLANE_TAPS]):
        for j in range(record[at.ROW_TAPS]):
            position = j * record[at.ROW_TAP_STEP]
            if plane_table[p] < 0 or row_table[position] < 0:
                continue
            offset = plane_table[p] + row_table[position]
            if record[at.IN_PLACE] == 0:
                offset = (p * record[at.TAP_ROWS] + (row - first_row) * record[at.ROW_STEP] + position) * row_size
            runs[2 * count] = offset
            runs[2 * count + 1] = (p * record[at.ROW_TAPS] + j) * record[at.COLUMN_TAPS] * tap_size
            count += 1
    return count


@inline
def list_taps(columns, tap_step, first, count, window, tap_size, runs, run_count, taps):
    """List the taps [first, first + count) of each row of the kernel; return how many triples, pairs and singles.

    Neighbouring taps are taken together where the tile has a window. `columns` begins with the first tap's offset.
    """
    triples, pairs, singles = 0, 0, count
    if window > 0:
        triples, pairs, singles = count // 3, count % 3 // 2, count % 3 % 2
    listed, start = 0, 0
    for size in range(3, 0, -1):
        groups = triples if size == 3 else pairs if size == 2 else singles
        for run in range(run_count):
            for group in range(groups):
                tap = start + group * size
                taps[2 * listed] = runs[2 * run] + columns[tap * tap_step]
                taps[2 * listed + 1] = runs[2 * run + 1] + (first + tap) * tap_size
                listed += 1
        start += groups * size
    return triples * run_count, pairs * run_count, singles * run_count


@inline
def list_ahead(record, plane, row, ahead):
    """List offsets of the input rows that the next row of outputs is the first to read; return how many."""
    if record[at.IN_PLACE] == 0:
        return 0
    plane_table = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    reach, step = record[at.ROW_REACH], record[at.ROW_STEP]
    count = 0
    for p in range(record[at.PLANE_TAPS]):
        if plane_table[p] < 0:
            continue
        if reach == 1:
            ahead[count] = plane_table[p] + record[record[at.ROW_TABLE] + row * step]
            count += 1
        elif row + 1 < record[at.OUT_ROWS]:
            for new in range(min(step, reach, AHEAD_ROWS)):
                offset = record[record[at.ROW_TABLE] + (row + 1) * step + reach - 1 - new]
                if offset >= 0:
                    ahead[count] = plane_table[p] + offset
                    count += 1
    return count


@inline
def tiles_of(rows, window, whole_registers):
    """Return the numbers of the tile of `rows` outputs and of its wide form, the registers of this, and a place.

    That is where the table of what is fetched ahead has the tile's steps.
    """
    if rows == STREAMED:
        return STREAMED_TILE, WIDE_STREAMED_TILE, whole_registers // STREAMED_WIDE * STREAMED_WIDE, 2
    if rows < SHORT:
        tile, wide_tile = (PAIR_TILE, WIDE_PAIR_TILE) if rows == 2 else (SINGLE_TILE, WIDE_SINGLE_TILE)
        return tile, wide_tile, whole_registers // WIDE * WIDE, 3
    if rows == SHORT:
        return SHORT_TILE + window, 0, 0, 1
    return LONG_TILE + window, 0, 0, 0


@inline
def depthwise_pixels(
    record, rows, window, lines, outputs, x, taps, triples, pairs, singles, weights, bias, lower, y, channels, bounce,
    ahead, reads, past_caches,
):  # fmt: skip
    """Run tiles of `rows` of so many outputs of some lines for all channels of the chunk.

    Where the last tile of a line or the last register overlaps the one before, numbers are written twice: nothing
    behind the outputs or the channels is read or written. Fewer channels than a register, tiles whose activation needs
    it, and those whose channels are summed, go by way of `bounce`.
    """
    lanes = lanes_of(x)
    vectors, end = (channels + lanes - 1) // lanes, max(channels - lanes, 0)
    pixel_stride, x_row = record[at.PIXEL_STRIDE], record[at.ROW_STRIDE]
    y_stride, y_row = record[at.Y_PIXEL], record[at.Y_ROW]
    step = record[at.TAPS] * record[at.SUMMED] * lanes
    summed = record[at.LANES_SUMMED]
    is_apart, activates = channels < lanes or waits(lower) or summed > 1, lower == 0 and summed == 1
    tile, wide_tile, wide, place = tiles_of(rows, window, 0 if is_apart else channels // lanes)
    ahead_steps = advance(record, record[at.AHEAD_TABLE] + 2 * place * vectors)
    # One call makes all tiles, unless those of a long row each take two, which read memory in its order.
    lines_together, together = lines, outputs
    if is_apart or (rows == STREAMED and 0 < wide < vectors):
        lines_together, together = 1, rows
    for line in range(0, lines, lines_together):
        done = 0
        while done < outputs:
            done = min(done, outputs - together)
            source = advance(x, line * x_row + done * pixel_stride)
            result = advance(y, line * y_row + done * y_stride)
            vector = 0
            while vector < vectors:
                last, target, target_stride, c, number = vectors, result, y_stride, min(vector * lanes, end), tile
                if is_apart:
                    last, target, target_stride = vector + 1, advance(bounce, -c), lanes
                elif vector < wide:
                    last, number = wide, wide_tile
                depthwise_tile(
                    record[at.FIRST_TILE] + number, source, x_row, pixel_stride, taps, triples, pairs, singles,
                    weights, step, bias, activates, target, y_row, target_stride, lines_together, together, vector,
                    last, end, ahead, reads, ahead_steps, past_caches and not is_apart,
                )  # fmt: skip
                if summed > 1:
                    leave_lane_sums(bounce, rows, summed, lower, advance(result, c // summed), y_stride)
                elif is_apart:
                    leave_bounce(bounce, lanes, rows, min(lanes, channels), lower, advance(result, c), y_stride)
                vector = last
            done += together


@inline
def next_tiles(outputs, left, most):
    """Return the outputs of a tile and how many of the `left` ones of a part such tiles make; the last may overlap."""
    if most < SHORT and outputs >= most:
        return most, max(left, most)
    if outputs < SHORT:
        return min(left, 2), min(left, 2)
    if left > SHORT and outputs >= LONG:
        rest = left % LONG
        return LONG, left - rest if rest <= SHORT else left
    return SHORT, max(left, SHORT)


@inline
def depthwise_lines(
    record, lines, x, column, columns, runs, count, weights, bias, lower, y, channels, bounce, lists, reads, past_caches
):
    """Compute outputs [column, column + columns) of some rows that read the same taps, part by part.

    `x` is what the runs' offsets count from, `y` the first row's first output of the block. `lists` begins with the
    offsets fetched ahead and goes on with room for the taps.
    """
    tap_size, taps = record[at.SUMMED] * lanes_of(x), advance(lists, record[at.PLANE_TAPS] * AHEAD_ROWS)
    table, origin = advance(record, record[at.COLUMN_OFFSETS]), 0
    if record[at.IN_PLACE] == 0:
        origin = column
    for number in range(record[at.COLUMN_PARTS]):
        part = advance(record, record[at.PART_TABLE] + number * at.PART_SIZE)
        first, last = max(part[at.PART_FIRST], column), min(part[at.PART_LAST], column + columns)
        outputs = last - first
        if outputs <= 0:
            continue
        tap, tap_step = part[at.PART_TAP], record[at.COLUMN_TAP_STEP]
        most = min(part[at.PART_ROWS], SHORT)
        window = part[at.PART_WINDOW] if outputs >= most else 0
        offsets = advance(table, (first - origin) * record[at.COLUMN_BASE] + tap * tap_step)
        triples, pairs, singles = list_taps(
            offsets, tap_step, tap, part[at.PART_TAPS], window, tap_size, runs, count, taps
        )
        pixel = 0
        while pixel < outputs:
            rows, together = next_tiles(outputs, outputs - pixel, most)
            pixel = min(pixel, outputs - rows)
            source = advance(x, pixel * record[at.PIXEL_STRIDE])
            target = advance(y, (first - column + pixel) * record[at.Y_PIXEL])
            depthwise_pixels(
                record, rows, window, lines, together, source, taps, triples, pairs, singles, weights, bias, lower,
                target, channels, bounce, lists, reads, past_caches,
            )  # fmt: skip
            pixel += together


@inline
def depthwise_phase(geometry, record, buffers, work, batch, plane, row, rows, column, columns, channel, channels):
    """Compute one phase's outputs of a block, which lies inside the phase."""
    tap_size = record[at.SUMMED] * lanes_of(work)
    source = advance(buffers[at.X], batch * record[at.X_BATCH])
    if record[at.IN_PLACE] == 1:
        source = advance(source, channel * record[at.X_CHANNEL])
    else:
        gather_rows(record, source, work, plane, row, rows, column, columns, channel, channels)
        source = work
    weights, bounce = advance(work, geometry[at.SECOND] + record[at.PACKED]), advance(work, geometry[at.BOUNCE])
    past_caches = stores_past_caches(geometry, buffers[at.Y])
    runs = as_counters(advance(work, geometry[at.RUNS]))
    lists = advance(runs, 2 * record[at.PLANE_TAPS] * record[at.ROW_TAPS])
    y = advance(buffers[at.Y], batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane])
    y = advance(y, row * record[at.Y_ROW] + column * record[at.Y_PIXEL] + channel // record[at.LANES_SUMMED])
    bias, lower = advance(buffers[at.BIAS], at.BIAS_HEADER + channel), buffers[at.BIAS][0]
    if HAS_STRIPS and record[at.STRIP_TAPS] >= 0 and rows >= PAIR_ROWS and columns >= NARROW_COLUMNS:
        depthwise_strips(
            record, source, plane, row, rows, column, columns, weights, bias, lower, y, channels, bounce, runs,
            past_caches,
        )  # fmt: skip
        return
    alike, done = advance(record, record[at.ROWS_ALIKE] + row), 0
    while done < rows:
        lines = min(alike[done], rows - done)
        count = list_runs(record, plane, row + done, row, tap_size, runs)
        reads = list_ahead(record, plane, row + done, lists)
        depthwise_lines(
            record, lines, source, column, columns, runs, count, weights, bias, lower, y, channels, bounce, lists,
            reads, past_caches,
        )  # fmt: skip
        y = advance(y, lines * record[at.Y_ROW])
        done += lines


@task_kernel
def depthwise_forward(worker, task, geometry, buffers):
    """Compute one block of rows and columns of all phases for one chunk of channels.

    Phases take turns strip by strip: some rows each where they read the input in place, which is still in a cache then.
    """
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    records, phases = advance(geometry, geometry[at.RECORDS]), geometry[at.PHASES]
    width = records[at.CHANNELS]
    chunk, index = task % records[at.PANEL_CHUNKS], task // records[at.PANEL_CHUNKS]
    column_block, index = index % records[at.COLUMN_BLOCKS], index // records[at.COLUMN_BLOCKS]
    row_block, index = index % records[at.ROW_BLOCKS], index // records[at.ROW_BLOCKS]
    plane, batch = index % records[at.TASK_PLANES], index // records[at.TASK_PLANES]
    channel = max(0, min(chunk * width, records[at.OUT_CHANNELS] - lanes_of(work)))
    channels = min(width, records[at.OUT_CHANNELS] - channel)
    for phase in range(phases):
        record = advance(records, phase * at.RECORD_SIZE)
        if record[at.PACKS] == 1:
            packed = advance(work, geometry[at.SECOND] + record[at.PACKED])
            pack_taps(buffers[at.KERNEL], record, channel, channels, packed)
    if HAS_STRIPS:
        clear(advance(work, geometry[at.BOUNCE] + ZEROS * lanes_of(work)), lanes_of(work))
    row = row_block * records[at.BLOCK_ROWS]
    end = row + records[at.BLOCK_ROWS]
    while row < end:
        for phase in range(phases):
            record = advance(records, phase * at.RECORD_SIZE)
            column = column_block * record[at.BLOCK_COLUMNS]
            rows = min(geometry[at.STRIP], end - row, record[at.OUT_ROWS] - row)
            columns = min(record[at.BLOCK_COLUMNS], record[at.OUT_COLUMNS] - column)
            if rows > 0 and columns > 0 and plane < record[at.PLANES]:
                depthwise_phase(
                    geometry, record, buffers, work, batch, plane, row, rows, column, columns, channel, channels
                )
        row += geometry[at.STRIP]
    if geometry[at.PAST_CACHES] == 1:
        fence()
