"""Input gradient with few channels: pixels in the lanes, the numbers of a kernel row folded along the columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.blocking import FMA_PER_CYCLE, TAP_CYCLES, TASK_CYCLES, TILE_CYCLES
from numbaconv.algorithms.calibration import share
from numbaconv.algorithms.cells import Grid, cell_count, grid_of, reach_of, shifts
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    round_up,
)
from numbaconv.algorithms.plan_parts import (
    BiasPart,
    Plan,
    array_strides,
    launch_product,
    waited_cycles,
)
from numbaconv.algorithms.planes import (
    BLOCK_CYCLES,
    COPY_CYCLES,
    ROW_CYCLES,
    SCALAR_CYCLES,
    Block,
    PixelTile,
    split_registers,
    spread_pitch,
    step_cycles,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.folded_planes import LEAD, folded_planes_forward
from numbaconv.kernels.tile_sizes import FOLDED_VECTORS
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "folded_planes"

MAX_CHANNELS = 12
"""Input channels up to which registers of channels may have idle lanes."""

MAX_NUMBERS = 256
"""Numbers of a kernel row whose products for a row of pixels stay in L2."""

PLANES = (1, 2, 4)  # of grad_y whose outputs a block makes
ROW_CANDIDATES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)

TRANSPOSE_CYCLES, CHANNEL_CYCLES = 0.45, 0.001  # a float32 that is gathered, fetched ahead, and more for each channel
MEMORY_CYCLES = 0.65  # more for each float32 of a grad_y that comes from memory
HIDDEN_CYCLES = 0.25  # less of them for each cycle of its products
CACHED_TIMES = 12  # the size of L2: of a larger grad_y little is found in L3
STORE_CYCLES = 2.0  # a register of products
FOLD_CYCLES, FOLD_TAP_CYCLES = 6.0, 2.0  # a register of outputs, and each register of products that it adds
OUT_ROW_CYCLES = 80  # a row of outputs from a row of pixels of its own, not one of joined rows
CUT_ROW_CYCLES = 1500  # a gathered row that is a part of one, which prefetchers do not follow
SPILLED_CYCLES = 0.08  # a byte of products that L1 does not hold until they are folded
LEAVING_CYCLES = 0.5  # a number that is brought from a plane to the output, by transposes


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None if it can."""
    if direction != "input_grad":
        return "only input gradients are folded"
    if spec.batch == 0:
        return "the batch is empty"
    if spec.groups > 1:
        return "groups are not folded"
    if spec.kernel_size[-1] == 1:
        return "the last axis has no neighbouring taps to fold"
    if spec.in_channels > MAX_CHANNELS:
        return (
            f"the input has {spec.in_channels} channels, and with more than {MAX_CHANNELS} registers of them are full"
        )
    numbers = spec.kernel_size[-1] * spec.in_channels
    if numbers > MAX_NUMBERS:
        return f"a kernel row has {numbers} numbers, and planes of products are kept of {MAX_NUMBERS} at most"
    if max(reach_of(spec)) > LEAD:
        return f"an output reads pixels further than {LEAD} before or behind its own"
    read = math.prod(sum(reach_of(spec, axis)) + 1 for axis in range(spec.ndim - 1))
    size = read * spec.out_channels * 32 * np.dtype(spec.dtype).itemsize
    if size > TARGET.l2_bytes:
        return f"of the rows that an output reads, 32 pixels take {size >> 10} KB, more than L2 holds"
    return None


@lru_cache(maxsize=1024)
def _parts(numbers: int, registers: int) -> tuple[int, ...]:
    """Cut a kernel row's numbers into those of tiles at the least cost."""
    of_size = {
        size: sum(step_cycles(size, vectors) + 1.0 for vectors in split_registers(sizes, size, registers))
        for size, sizes in FOLDED_VECTORS.items()
    }
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, numbers + 1):
        best.append(min((best[n - s][0] + of_size[s], (s, *best[n - s][1])) for s in FOLDED_VECTORS if s <= n))
    return tuple(sorted(best[-1][1], reverse=True))


@lru_cache(maxsize=256)
def _tiles(numbers: int, pixels: int, dtype: str) -> list[PixelTile]:
    """Return the tiles that cover a row of pixels, in the order of the pixels; the last ones may reach over its end."""
    lanes, tiles, number = TARGET.lanes(dtype), [], 0
    registers = -(-pixels // lanes)
    for part in _parts(numbers, registers):
        pixel = 0
        for vectors in split_registers(FOLDED_VECTORS[part], part, registers):
            tiles.append(PixelTile(part, vectors, number, pixel))
            pixel += vectors * lanes
        number += part
    return sorted(tiles, key=lambda tile: tile.pixel)


def _pixels(spec: ConvSpec, columns: int) -> int:
    """Return how many pixels of grad_y a block of so many columns may read."""
    before, behind = reach_of(spec)
    return min(columns + before + behind, spec.out_spatial[-1])


def _row_cycles(spec: ConvSpec, taps: int, rows: int, columns: int, pixels: int) -> float:
    """Return the cycles of the products and the fold of ``rows`` rows of outputs with ``taps`` taps in all."""
    lanes, numbers = TARGET.lanes(spec.dtype), spec.kernel_size[-1] * spec.in_channels
    cycles = 0.0
    for tile in _tiles(numbers, pixels, spec.dtype):
        of_tap = spec.out_channels * step_cycles(tile.rows, tile.vectors) + TAP_CYCLES
        cycles += taps * of_tap + rows * (TILE_CYCLES + STORE_CYCLES * tile.rows * tile.vectors)
    registers, outputs = -(-columns // lanes), spec.strides[-1] * spec.in_channels
    folding = outputs * (FOLD_CYCLES + lanes * LEAVING_CYCLES) + numbers * FOLD_TAP_CYCLES
    return cycles + rows * registers * folding


@lru_cache(maxsize=256)
def _block(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> tuple[Grid, Block]:
    """Return the cheapest block: the rows that its outputs read at a time in half of L2, few of them gathered twice."""
    grids = [grid_of(spec, x_strides, y_strides, planes) for planes in (PLANES if spec.ndim > 2 else (1,))]
    choices = [(grid, *_block_of(spec, grid)) for grid in grids]
    grid, block, _ = min(choices, key=lambda choice: choice[2])
    return grid, block


def _row_counts(cells: int) -> list[int]:
    """Return the rows of blocks that are nearly alike."""
    return sorted({-(-cells // -(-cells // rows)) for rows in ROW_CANDIDATES})


def _block_of(spec: ConvSpec, grid: Grid) -> tuple[Block, float]:
    """Return the cheapest block of a grid, and its cycles with those that threads wait for the last one's."""
    item, channels, count = np.dtype(spec.dtype).itemsize, spec.out_channels, cell_count(spec)
    lanes, rows, taps = TARGET.lanes(spec.dtype), grid.rows, grid.taps
    best, least, most = Block(1, 1, 1, 0, 0, math.inf), math.inf, max(1, count // 32)
    for parts in range(1, most + 1):
        columns = -(-count // parts)
        pixels = _pixels(spec, columns)
        pitch = spread_pitch(round_up(pixels, lanes))
        # Transposes write as many planes as a register has lanes, and the next row may be gathered already.
        row_size = (channels if channels == 1 else max(channels, lanes)) * pitch
        of_row = _row_cycles(spec, sum(map(len, taps)), len(taps), columns, pixels)
        of_number = _number_cycles(spec, pixels, grid.x_column)
        if rows.window * grid.plane_taps * row_size * item > TARGET.l2_bytes // 2 and parts < most:
            continue
        for block_rows in _row_counts(rows.cells):
            row_blocks = -(-rows.cells // block_rows)
            in_rows = (rows.cells + row_blocks * (rows.window - 1)) * grid.plane_taps
            gathering = pixels * channels * of_number + (ROW_CYCLES if parts == 1 else CUT_ROW_CYCLES)
            of_image = in_rows * gathering + rows.cells * (of_row + OUT_ROW_CYCLES * len(taps))
            whole = parts == 1 and row_blocks == 1
            images = min(grid.batch, max(1, int(BLOCK_CYCLES / of_image))) if whole else 1
            blocks = -(-grid.batch // images) * grid.plane_count * row_blocks * parts
            cycles = grid.batch * grid.plane_count * parts * of_image + TASK_CYCLES * blocks
            waiting = waited_cycles(spec, cycles, blocks)
            if waiting < least:
                least, best = waiting, Block(images, block_rows, columns, pitch, row_size, cycles)
    joined = [_joined_block(spec, grid, block_rows) for block_rows in _row_counts(rows.cells)]
    return min([(best, least), *filter(None, joined)], key=lambda choice: choice[1])


def _joined_block(spec: ConvSpec, grid: Grid, rows: int) -> tuple[Block, float] | None:
    """Return the block whose so many rows are joined, None where L2 would not hold it."""
    item, channels, count, pixels = (
        np.dtype(spec.dtype).itemsize,
        spec.out_channels,
        cell_count(spec),
        spec.out_spatial[-1],
    )
    lanes, outputs, apart = TARGET.lanes(spec.dtype), spec.strides[-1] * spec.in_channels, max(count, pixels)
    in_rows, joined, numbers = rows - 1 + grid.rows.window, rows * apart, spec.kernel_size[-1] * spec.in_channels
    pitch = spread_pitch(in_rows * apart + 2 * lanes)
    size = channels * pitch
    if spec.ndim != 2 or (size + joined * (numbers + outputs)) * item > TARGET.l2_bytes // 2:
        return None
    of_row = _row_cycles(spec, sum(map(len, grid.taps)), len(grid.taps), joined, joined)
    together = in_rows if apart == pixels else 1
    of_number = _number_cycles(spec, together * pixels, grid.x_column)
    gathering = in_rows * (pixels * channels * of_number + ROW_CYCLES / together)
    of_image = gathering + of_row + rows * len(grid.taps) * ROW_CYCLES
    if joined * numbers * item > TARGET.l1_bytes * 0.75:
        of_image += joined * numbers * item * len(grid.taps) * SPILLED_CYCLES
    images = min(grid.batch, max(1, int(BLOCK_CYCLES / of_image))) if rows == grid.rows.cells else 1
    blocks = -(-grid.batch // images) * -(-grid.rows.cells // rows)
    cycles = (images * of_image + TASK_CYCLES) * blocks
    return Block(images, rows, count, pitch, size, cycles, apart), waited_cycles(spec, cycles, blocks)


def _number_cycles(spec: ConvSpec, pixels: int, step: int) -> float:
    """Return what it costs to gather a number from rows of so many pixels, ``step`` apart."""
    if spec.out_channels == 1 or pixels < TARGET.lanes(spec.dtype) // 2:
        return COPY_CYCLES if step == 1 else SCALAR_CYCLES
    item, cycles = np.dtype(spec.dtype).itemsize, TRANSPOSE_CYCLES
    if math.prod(spec.y_shape) * item > CACHED_TIMES * TARGET.l2_bytes:
        products = math.prod(spec.kernel_size) * spec.in_channels / TARGET.lanes(spec.dtype) / FMA_PER_CYCLE
        cycles += max(0.0, MEMORY_CYCLES - HIDDEN_CYCLES * products)
    return cycles * item / 4 + CHANNEL_CYCLES * spec.out_channels


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    x, y = array_strides(spec)
    return _block(spec, y, x)[1].cycles * share(NAME, direction)


def _describe(record: Record, grid: Grid, block: Block, spec: ConvSpec, x_channel: int) -> None:
    """Fill in how tasks are counted, where their rows lie and which of them each row of outputs reads."""
    taps = grid.taps
    flat, (reads, writes) = list(itertools.chain.from_iterable(taps)), grid.plane_tables()
    columns, row_outputs = cell_count(spec), len(grid.rows.taps)
    record.fields |= {
        at.FIRST_TASK: 0, at.BATCH: grid.batch, at.PLANES: grid.plane_count, at.IMAGES: block.images,
        at.BATCH_BLOCKS: -(-grid.batch // block.images), at.ROW_BLOCKS: -(-grid.rows.cells // block.rows),
        at.COLUMN_BLOCKS: -(-columns // block.columns), at.BLOCK_ROWS: block.rows, at.BLOCK_COLUMNS: block.columns,
        at.OUT_ROWS: grid.rows.cells, at.OUT_COLUMNS: columns, at.X_BATCH: grid.x_batch, at.Y_BATCH: grid.y_batch,
        at.X_CHANNEL: x_channel, at.PLANE_TAPS: grid.plane_taps, at.ROW_REACH: grid.rows.window,
        at.TAP_ROWS: grid.rows.window, at.ROW_STRIDE: block.row_size, at.CHANNELS: spec.out_channels,
        at.RUN: spec.out_channels, at.RUN_STRIDE: block.pitch, at.PIXEL_PITCH: block.pitch, at.COLUMN_BASE: 1,
        at.COLUMN_FIRST: 0, at.COLUMN_LAST: spec.out_spatial[-1], at.COLUMN_STEP: grid.x_column,
        at.KERNEL_COLUMN: spec.out_channels, at.TAPS: max(map(len, taps)), at.FOLD_PLANES: len(taps) // row_outputs,
        at.FOLD_ROWS: row_outputs, at.AHEAD_STEP: 64 // np.dtype(spec.dtype).itemsize,
        at.FOLD_Y_ROWS: sum(offset >= 0 for each in grid.rows.outputs for offset in each),
        at.Y_ROW: grid.y_row,
    }  # fmt: skip
    record.tables |= {
        at.PLANE_TABLE: reads, at.ROW_TABLE: grid.rows.table, at.Y_PLANES: writes,
        at.COLUMN_TABLE: np.arange(spec.out_spatial[-1]) * grid.x_column,
        at.TAP_FIRST: [0, *itertools.accumulate(map(len, taps))], at.PLANE_OF_TAP: [plane for plane, _, _ in flat],
        at.ROW_OF_TAP: [row for _, row, _ in flat], at.KERNEL_TAPS: [offset for _, _, offset in flat],
    }  # fmt: skip


def _strays(spec: ConvSpec, joined: int) -> list[int]:
    """Return, for each number of a kernel row, first and last + 1 of the products of a joined row that are cleared.

    They belong to no pixel, or to outputs before or behind the row: those that follow it are the next row's first.
    """
    found = [(0, 0)] * spec.kernel_size[-1]
    for tap, shift in itertools.chain.from_iterable(shifts(spec, -1)):
        found[tap] = min(spec.out_spatial[-1], joined + min(shift, 0)), joined + max(shift, 0)
    return [place for pair in found for _ in range(spec.in_channels) for place in pair]


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan an input gradient; strides, in elements, of (batch, *spatial, channels) of grad_y and grad_x."""
    lanes, of_input, columns = TARGET.lanes(spec.dtype), spec.in_channels, cell_count(spec)
    numbers, outputs, (before, behind) = spec.kernel_size[-1] * of_input, spec.strides[-1] * of_input, reach_of(spec)
    (grid, block), record = _block(spec, x_strides, y_strides), Record()
    _describe(record, grid, block, spec, x_strides[-1])
    row = block.rows * block.joined or block.columns
    # A last block may begin behind the last pixel.
    reach = max(before, columns - spec.out_spatial[-1]) + behind
    fold_pitch = spread_pitch(LEAD + max(block.pitch, row + lanes) + reach + lanes)
    out_pitch = spread_pitch(row + lanes)
    offsets = [
        [(tap * of_input + channel) * fold_pitch + shift for tap, shift in each]
        for each in shifts(spec, -1)
        for channel in range(of_input)
    ]
    record.fields |= {
        at.FOLD_TAPS: numbers, at.FOLD_CHANNELS: of_input, at.FOLD_COLUMNS: spec.in_spatial[-1],
        at.FOLD_PITCH: fold_pitch, at.FOLD_BEFORE: before, at.FOLD_BEHIND: behind, at.FOLD_NUMBERS: outputs,
        at.FOLD_PIXELS: spec.out_spatial[-1], at.OUT_PITCH: out_pitch, at.FOLD_JOINED: block.joined,
    }  # fmt: skip
    if block.joined:
        record.tables[at.FOLD_STRAYS] = _strays(spec, block.joined)
        whole = block.joined * outputs == spec.in_spatial[-1] * of_input == grid.y_row
        record.fields[at.FOLD_WHOLE] = int(whole and len(grid.rows.taps) == 1)
    tiles = _tiles(numbers, row if block.joined else _pixels(spec, row), spec.dtype)
    sizes = [(tile.size, tile.row, tile.pixel) for tile in tiles]
    record.tables |= {
        at.WIDE_FULL: [len(tiles), *itertools.chain.from_iterable(sizes)],
        at.FOLD_OFFSETS: list(itertools.chain.from_iterable(offsets)),
        at.FOLD_FIRST: [0, *itertools.accumulate(map(len, offsets))],
    }
    # A transpose of a last plane's pixels reaches over as many planes as a register has lanes.
    gathered = 1 if block.joined else grid.plane_taps * grid.rows.window
    second = round_up(gathered * block.row_size + lanes * block.pitch, 16)
    bounce = second + round_up(numbers * fold_pitch, 16)
    own = bounce + round_up(lanes * (outputs + 1) + max(outputs, lanes) * out_pitch, 16)
    workspace = own + round_up(2 * record.fields[at.TAPS] * 8 // np.dtype(spec.dtype).itemsize, 16)
    header = {at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: bounce, at.OWN_KERNEL: own}
    return Plan(assemble(header, [record]), block_count(record), workspace)


def prepare(
    spec: ConvSpec,
    direction: str,
    first_strides: Strides,
    second_strides: Strides,
    activation: Ending = None,
    has_bias: bool = False,
) -> Callable[..., None]:
    """Return what runs a pass: `run(grad_y, kernel, grad_x[, bias])`."""
    return _launch(spec, first_strides, activation, has_bias)


@lru_cache(maxsize=512)
def _launch(spec: ConvSpec, x_strides: Strides, activation: Ending, has_bias: bool) -> parallel.Launch:
    shape = spec.result_shape("input_grad")
    plan = product_plan(spec, x_strides, contiguous_strides(shape))
    parts = (BiasPart(0, 1, round_up(spec.in_channels, TARGET.lanes(spec.dtype))),)
    return launch_product(
        folded_planes_forward, spec, plan, shape, parts, activation, has_bias, (0, 1, 1), (2,), 1,
    )  # fmt: skip
