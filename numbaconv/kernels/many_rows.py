"""Products of some dozens of rows with a matrix that is larger than they are, and so is read from memory but once.

The product x W is summed over chunks of rows of W, a task each, which meet all rows of x while they are in L2; the task
that ends last adds the tasks' sums in order. The gradient g W^T is computed transposed, (W g^T)^T: numbers of W
are then the factors that are spread over a register, so it is read where it lies. What is transposed is g, which is
small, and each block of the result, in registers. The matrix' own gradient x^T g sums so few products that its register
tiles are written to it once, ready.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.few_rows import add_chunks
from numbaconv.kernels.packing import READY, is_mine, pack_transposed, pack_zeros
from numbaconv.kernels.register_tile import NOTHING, wide_tile
from numbaconv.simd.calls import atomic_fetch_add, store_release
from numbaconv.simd.pointers import advance, as_counters, clear, copy, prefetch
from numbaconv.simd.transposes import transpose_square
from numbaconv.simd.vectors import lanes_of, load, store

# Geometry. CHUNK: rows of the matrix of a task; BLOCK: of these, as many as are multiplied together; WIDTH: columns of
# the product in whole panels; LINE: numbers of a cache line; FULL, LAST: sizes of the register tiles that cover a
# block, and the last one of all, behind their number; RUNS: of consecutive numbers that products are summed over;
# STARTS, RUN_ROWS: where these begin in a row of the left factor and in a panel.
WORKSPACE, ROWS, DEPTH, UNITS, CHUNK, BLOCK, TASKS, RELU, WIDTH, LINE, RUNS, FULL, LAST, STARTS, RUN_ROWS = range(15)
HEADER = 15
TOGETHER = 8  # panels packed in one sweep over the rows of the matrix
# Buffers of the product.
X, MATRIX, BIAS, Y, PARTIAL, COUNTER = range(1, 7)  # PARTIAL: (tasks, rows, width)
# Buffers of the gradient.
G, WEIGHTS, GX, PACKED, STATES = range(1, 6)  # PACKED: (panels of rows, units, panel width)
# Buffers of the matrix' gradient, besides X, PACKED, (panels of units, rows, panel width), and STATES: the first one.
GRAD_Y, GRADIENT = 2, 3


@inline
def _cover(g, tiles, x, x_step, run, panel, start, start_step, y, y_step, ahead, lines):
    """y[row] = start[row] + x[row] panel, for the rows that the tiles cover; `lines` of what is `ahead` are fetched.

    Products are summed over runs of `run` consecutive numbers.
    """
    row, line, runs, starts, run_rows = 0, 0, g[RUNS], advance(g, g[STARTS]), advance(g, g[RUN_ROWS])
    for tile in range(tiles[0]):
        size = tiles[1 + tile]
        end = lines * (tile + 1) // tiles[0]
        while line < end:
            prefetch(advance(ahead, line * g[LINE]))
            line += 1
        source, target = advance(x, row * x_step), advance(y, row * y_step)
        first = advance(start, row * start_step)
        wide_tile(
            size, 1, source, x_step, runs, starts, run, panel, run_rows, first, start_step, False, target, y_step,
            False, NOTHING,
        )  # fmt: skip
        row += size


@inline
def _fetch_part(g, x, part, parts, count):
    """Ask for one of so many parts of the rows of x, `count` numbers of each."""
    for row in range(g[ROWS] * part // parts, g[ROWS] * (part + 1) // parts):
        for i in range(0, count, g[LINE]):
            prefetch(advance(x, row * g[DEPTH] + i))


@inline
def _pack_panels(matrix, count, units, columns, packed, panel_size):
    """packed[panel, i, column] = matrix[i, panel * width + column], zeros behind the last column."""
    lanes = lanes_of(matrix)
    width = 2 * lanes
    full = columns // width
    for i in range(count):
        row, target = advance(matrix, i * units), advance(packed, i * width)
        for panel in range(full):
            source, place = advance(row, panel * width), advance(target, panel * panel_size)
            store(load(source), place)
            store(load(advance(source, lanes)), advance(place, lanes))
    rest, last = columns - full * width, advance(packed, full * panel_size)
    if rest > 0:
        clear(last, count * width)
        for i in range(count):
            copy(advance(last, i * width), advance(matrix, i * units + full * width), rest)


@task_kernel
def many_rows_product(worker, task, geometry, buffers):
    """y[row, unit] = bias[unit] + sum over i of x[row, i] * matrix[i, unit], at least 0 with relu."""
    g = geometry
    rows, depth, units, width = g[ROWS], g[DEPTH], g[UNITS], g[WIDTH]
    x_block, panel_width = advance(buffers[0], worker * g[WORKSPACE]), 2 * lanes_of(buffers[X])
    packed, partial = advance(x_block, rows * g[BLOCK]), advance(buffers[PARTIAL], task * rows * width)
    clear(partial, rows * width)
    panel_size = g[BLOCK] * panel_width + g[LINE]
    first, end = task * g[CHUNK], min(depth, (task + 1) * g[CHUNK])
    tiles, panels = advance(g, g[FULL]), width // panel_width
    while first < end:
        count = min(g[BLOCK], end - first)
        for row in range(rows):
            copy(advance(x_block, row * count), advance(buffers[X], row * depth + first), count)
        matrix = advance(buffers[MATRIX], first * units)
        first += count
        ahead = advance(matrix, count * units)
        following = min(g[BLOCK], end - first)
        lines = following * units // g[LINE]
        for panel in range(panels):
            _fetch_part(g, advance(buffers[X], first), panel, panels, following)
            fetched = lines * panel // panels
            column = panel * panel_width
            if panel % TOGETHER == 0:
                columns = min(TOGETHER * panel_width, units - column)
                _pack_panels(advance(matrix, column), count, units, columns, packed, panel_size)
            sums = advance(partial, column)
            _cover(
                g, tiles, x_block, count, count, advance(packed, panel % TOGETHER * panel_size), sums, width, sums,
                width, advance(ahead, fetched * g[LINE]), lines * (panel + 1) // panels - fetched,
            )  # fmt: skip
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == g[TASKS] - 1:
        for row in range(rows):
            sums, y = advance(buffers[PARTIAL], row * width), advance(buffers[Y], row * units)
            add_chunks(sums, g[TASKS], rows * width, units, buffers[BIAS], g[RELU], y)


@inline
def _require_rows(g, source, panel, packed, states):
    """Return when packed[unit, row] = g[row, unit] for a panel of rows, zeros in absent rows."""
    state = advance(states, panel)
    if is_mine(state):
        units, width = g[UNITS], 2 * lanes_of(source)
        rows = min(width, g[ROWS] - panel * width)
        pack_transposed(advance(source, panel * width * units), units, units, rows, width, packed)
        for row in range(rows, width):
            pack_zeros(units, width, advance(packed, row))
        store_release(READY, state)


@inline
def _leave_transposed(block, columns, rows, width, target, step):
    """target[row, column] = block[column, row], the block's columns `width` apart and the target's rows `step`."""
    lanes = lanes_of(block)
    whole, full = columns - columns % lanes, rows - rows % lanes
    row = 0
    while row < full:
        column = 0
        while column < whole:
            corner = advance(target, row * step + column)
            transpose_square(advance(block, column * width + row), width, corner, step)
            column += lanes
        row += lanes
    for row in range(rows):
        for column in range(whole if row < full else 0, columns):
            target[row * step + column] = block[column * width + row]


@task_kernel
def many_rows_gradient(worker, task, geometry, buffers):
    """gx[row, i] = sum over units of g[row, unit] * weights[i, unit]."""
    g = geometry
    rows, depth, units = g[ROWS], g[DEPTH], g[UNITS]
    zeros, width = advance(buffers[0], worker * g[WORKSPACE]), 2 * lanes_of(buffers[G])
    block, states = advance(zeros, width), as_counters(buffers[STATES])
    clear(zeros, width)
    first, end = task * g[CHUNK], min(depth, (task + 1) * g[CHUNK])
    panels = g[WIDTH] // width
    while first < end:
        count = min(g[BLOCK], end - first)
        tiles = advance(g, g[FULL] if count == g[BLOCK] else g[LAST])
        weights = advance(buffers[WEIGHTS], first * units)
        ahead, lines = advance(weights, count * units), min(g[BLOCK], end - first - count) * units // g[LINE]
        for panel in range(panels):
            packed, fetched = advance(buffers[PACKED], panel * units * width), lines * panel // panels
            _require_rows(g, buffers[G], panel, packed, states)
            target = advance(buffers[GX], panel * width * depth + first)
            for row in range(min(width, rows - panel * width)):
                for line in range(count // g[LINE]):
                    prefetch(advance(target, row * depth + line * g[LINE]))
            _cover(
                g, tiles, weights, units, units, packed, zeros, 0, block, width,
                advance(ahead, fetched * g[LINE]), lines * (panel + 1) // panels - fetched,
            )  # fmt: skip
            _leave_transposed(block, count, min(width, rows - panel * width), width, target, depth)
        first += count


@inline
def _require_units(g, source, packed, panel_size, state):
    """Return when packed[panel, row, column] = g[row, panel * width + column] for all panels of units."""
    if is_mine(state):
        _pack_panels(source, g[ROWS], g[UNITS], g[UNITS], packed, panel_size)
        store_release(READY, state)


@task_kernel
def many_rows_matrix_gradient(worker, task, geometry, buffers):
    """gradient[i, unit] = sum over rows of x[row, i] * g[row, unit]."""
    g = geometry
    rows, depth, units = g[ROWS], g[DEPTH], g[UNITS]
    zeros, width = advance(buffers[0], worker * g[WORKSPACE]), 2 * lanes_of(buffers[X])
    bounce = advance(zeros, width)
    x_block = advance(bounce, g[BLOCK] * width)  # (rows, block)
    clear(zeros, width)
    packed, panel_size = buffers[PACKED], rows * width
    _require_units(g, buffers[GRAD_Y], packed, panel_size, as_counters(buffers[STATES]))
    first, end = task * g[CHUNK], min(depth, (task + 1) * g[CHUNK])
    panels = g[WIDTH] // width
    while first < end:
        count = min(g[BLOCK], end - first)
        tiles = advance(g, g[FULL] if count == g[BLOCK] else g[LAST])
        x, target = advance(buffers[X], first), advance(buffers[GRADIENT], first * units)
        for row in range(rows):
            copy(advance(x_block, row * g[BLOCK]), advance(x, row * depth), count)
        following = min(g[BLOCK], end - first - count)
        ahead, lines = advance(target, count * units), following * units // g[LINE]
        for panel in range(panels):
            _fetch_part(g, advance(x, count), panel, panels, following)
            fetched, column = lines * panel // panels, panel * width
            is_whole = column + width <= units
            place, step = advance(target, column), units
            if not is_whole:
                place, step = bounce, width
            _cover(
                g, tiles, x_block, 1, 1, advance(packed, panel * panel_size), zeros, 0, place, step,
                advance(ahead, fetched * g[LINE]), lines * (panel + 1) // panels - fetched,
            )  # fmt: skip
            if not is_whole:
                for i in range(count):
                    copy(advance(target, i * units + column), advance(bounce, i * width), units - column)
        first += count
