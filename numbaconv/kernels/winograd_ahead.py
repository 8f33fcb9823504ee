"""What the next block of a Winograd gradient's tiles reads, fetched while the products of this one are made.

Transforms read memory faster than it comes, products hardly at all. A *cursor* walks through the next block's input
and grad_y, one *run* of cache lines after the other: those of a row of pixels of all tiles side by side or, where other
memory lies between the pixels, those of a single pixel, or one of each. Each register tile asks for as many lines of a
run as it multiplies tiles. What is left when all products are made, and the first block of a task, are read by the
transforms alone.
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.winograd_positions import tile_of_grad, tile_position, tiles_of_block
from numbaconv.simd.addresses import at_address
from numbaconv.simd.calls import address_of
from numbaconv.simd.pointers import advance
from numbaconv.target import CACHE_LINE

# Cursor.
RECORD = 0  # address of the phase record of the block
FIRST = 1  # its first tile
LEFT = 2  # its tiles that are left, 0 at the end
BESIDE = 3  # of these the ones side by side that are walked through together
RUN = 4  # number of their next run
RUNS = 5  # how many they have
X = 6  # addresses of the arrays, from the group's and the panels' first channels on
Y = 7
CHANNELS = 8  # of the panels
ADDRESS = 9  # of what is fetched next
LINES = 10  # left of the run
STEP = 11  # numbers from one to the next
CURSOR_SIZE = 12

LINE = CACHE_LINE // 4


@inline
def stop_cursor(cursor):
    """Leave nothing to fetch."""
    cursor[LEFT] = cursor[BESIDE] = cursor[RUN] = cursor[RUNS] = cursor[LINES] = 0


@inline
def start_cursor(cursor, record, first, x, y, channels):
    """Begin with a block of tiles, from `first` on."""
    stop_cursor(cursor)
    cursor[RECORD], cursor[FIRST] = address_of(record), first
    cursor[LEFT] = tiles_of_block(record, first)
    cursor[X], cursor[Y], cursor[CHANNELS] = address_of(x), address_of(y), channels


@inline
def runs_of_row(record, pixels, step, channels):
    """Return how many runs a row of pixels is, the numbers from one to the next, lines of each and the step of these.

    None where a run has less than half of the lines that a register tile asks for: the rest would be in vain.
    """
    lines, half = -(-channels // LINE), record[at.BLOCK_TILES] // 2
    if step == channels:
        return 1, 0, -(-pixels * channels // LINE), LINE
    if lines >= half:
        return pixels, step, lines, LINE
    return lines if pixels >= half else 0, LINE, pixels, step


@inline
def input_run(record, x, position, beside, run):
    """Return address, lines and step of a run of the input of tiles side by side, and how many runs these have.

    Rows that the tiles above read are not fetched again.
    """
    image, plane, row, column = position
    columns = advance(record, record[at.COLUMN_TABLE] + column * record[at.COLUMN_OUTPUTS])
    first, last = 0, beside * record[at.COLUMN_OUTPUTS] + record[at.COLUMN_PARTS] * record[at.COLUMN_TAPS] - 1
    while first < last and columns[first] < 0:
        first += 1
    while first < last and columns[last - 1] < 0:
        last -= 1
    rows = record[at.ROW_OUTPUTS] + record[at.ROW_PARTS] * record[at.ROW_TAPS] - 1
    above = rows - record[at.ROW_OUTPUTS] if row > 0 else 0
    of_row, between, lines, step = runs_of_row(record, last - first, record[at.COLUMN_STEP], record[at.CHANNELS])
    of_tap = (rows - above) * of_row
    runs = record[at.PLANE_TAPS] * of_tap
    if run >= runs:
        return 0, 0, 0, runs
    tap, i, of_row = run // of_tap, above + run % of_tap // of_row, run % of_row
    offset = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])[tap]
    row_offset = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_OUTPUTS])[i]
    if offset < 0 or row_offset < 0:
        return 0, 0, 0, runs
    begin = image * record[at.X_BATCH] + offset + row_offset + columns[first] + of_row * between
    return x + begin * 4, lines, step, runs


@inline
def grad_run(record, y, position, beside, channels, run):
    """Return address, lines and step of a run of grad_y of tiles side by side, and how many runs these have."""
    begin, rows, columns = tile_of_grad(record, position)
    columns += (beside - 1) * record[at.COLUMN_OUTPUTS]
    of_row, between, lines, step = runs_of_row(record, columns, record[at.Y_PIXEL], channels)
    if of_row == 0:
        return 0, 0, 0, 0
    begin += run // of_row * record[at.Y_ROW] + run % of_row * between
    return y + begin * 4, lines, step, rows * of_row


@inline
def next_run(cursor):
    """Move a cursor to the next run of its block."""
    record = at_address(cursor, cursor[RECORD])
    while cursor[LINES] <= 0 and cursor[LEFT] > 0:
        if cursor[RUN] >= cursor[RUNS]:
            cursor[FIRST] += cursor[BESIDE]
            cursor[LEFT] -= cursor[BESIDE]
            cursor[RUN] = 0
            if cursor[LEFT] == 0:
                return
        position = tile_position(record, cursor[FIRST])
        if cursor[RUN] == 0:
            cursor[BESIDE] = max(1, min(record[at.FULL_COLUMNS] - position[3], cursor[LEFT]))
        run, beside = cursor[RUN], cursor[BESIDE]
        begin, lines, step, of_input = input_run(record, cursor[X], position, beside, run)
        # Where there is no run of grad_y none is left to fetch.
        cursor[RUNS] = of_input + 1
        if run >= of_input:
            channels = cursor[CHANNELS]
            begin, lines, step, of_grad = grad_run(record, cursor[Y], position, beside, channels, run - of_input)
            cursor[RUNS] = of_input + of_grad
        cursor[ADDRESS], cursor[LINES], cursor[STEP], cursor[RUN] = begin, lines, step, run + 1


@inline
def move_cursor(cursor, lines, idle, idle_step):
    """Return where the next lines to be fetched lie, and the numbers from one to the next.

    At its end these are lines that the products load, from `idle` on: asking for a single one again and again makes
    them a tenth slower.
    """
    if cursor[LINES] <= 0:
        if cursor[LEFT] > 0:
            next_run(cursor)
        if cursor[LINES] <= 0:
            return idle, idle_step
    address, step = cursor[ADDRESS], cursor[STEP]
    cursor[ADDRESS] = address + lines * step * 4
    cursor[LINES] -= lines
    return at_address(idle, address), step
