"""Input gradient with few channels: pixels in the lanes, the numbers of a kernel row folded along the columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.blocking import FMA_PER_CYCLE, TAP_CYCLES, TASK_CYCLES, TILE_CYCLES
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
    kernel_strides,
    launch_product,
)
from numbaconv.algorithms.planes import (
    BLOCK_CYCLES,
    COPY_CYCLES,
    ROW_CYCLES,
    SCALAR_CYCLES,
    Block,
    spread_pitch,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.folded_planes import LEAD, folded_planes_forward
from numbaconv.kernels.tile_sizes import CHAINS_IN_FLIGHT, FOLDED_VECTORS
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "folded_planes"

MAX_CHANNELS = 12
"""Input channels up to which registers of channels may have idle lanes."""

MAX_NUMBERS = 256
"""Numbers of a kernel row whose products for a row of pixels stay in L2."""

ROW_CANDIDATES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)

TRANSPOSE_CYCLES, CHANNEL_CYCLES = 0.6, 0.001  # a number that is gathered, fetched ahead, and more for each channel
STORE_CYCLES = 2.0  # a register of products
FOLD_CYCLES, FOLD_TAP_CYCLES = 6.0, 2.0  # a register of outputs, and each register of products that it adds
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
    if max(_reach(spec)) > LEAD:
        return f"an output reads pixels further than {LEAD} before or behind its own"
    read = math.prod(sum(_reach(spec, axis)) + 1 for axis in range(spec.ndim - 1))
    size = read * spec.out_channels * 32 * np.dtype(spec.dtype).itemsize
    if size > TARGET.l2_bytes:
        return f"of the rows that an output reads, 32 pixels take {size >> 10} KB, more than L2 holds"
    return None


@lru_cache(maxsize=256)
def _shifts(spec: ConvSpec, axis: int) -> list[list[tuple[int, int]]]:
    """Return for each output of a stride its taps along an axis, and of which pixel beside its own it gets them."""
    stride, dilation, start = spec.strides[axis], spec.dilation[axis], spec.padding[axis][0]
    taps = range(spec.kernel_size[axis])
    positions = [[(tap, residue + start - tap * dilation) for tap in taps] for residue in range(stride)]
    return [[(tap, at // stride) for tap, at in each if at % stride == 0] for each in positions]


def _reach(spec: ConvSpec, axis: int = -1) -> tuple[int, int]:
    """Return how many pixels before and behind its own an output reads."""
    shifts = [shift for each in _shifts(spec, axis) for _, shift in each]
    return max(0, -min(shifts)), max(0, max(shifts))


def _cells(spec: ConvSpec, axis: int = -1) -> int:
    """Return the pixels that outputs are counted by: each stands for the outputs of a stride."""
    return -(-spec.in_spatial[axis] // spec.strides[axis])


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis before the last: where its positions lie in grad_y, and where its outputs lie, a stride at a time."""

    cells: int
    window: int  # positions that the outputs of a stride read
    table: tuple[int, ...]  # offset of each position of all windows, -1 where it is padding
    taps: tuple[tuple[tuple[int, int], ...], ...]  # of each output of a stride: offset in the kernel, position
    outputs: tuple[tuple[int, ...], ...]  # of each cell: the offsets of its outputs, -1 for none


def _axis(spec: ConvSpec, axis: int, x_stride: int, y_stride: int, kernel_stride: int) -> _Axis:
    before, behind = _reach(spec, axis)
    cells, stride, size = _cells(spec, axis), spec.strides[axis], spec.out_spatial[axis]
    positions = range(-before, cells + behind)
    taps = tuple(
        tuple((tap * kernel_stride, shift + before) for tap, shift in sorted(each, key=lambda pair: pair[1]))
        for each in _shifts(spec, axis)
    )
    outputs = tuple(
        tuple(q * y_stride if q < spec.in_spatial[axis] else -1 for q in range(cell * stride, (cell + 1) * stride))
        for cell in range(cells)
    )
    return _Axis(
        cells, before + behind + 1, tuple(q * x_stride if 0 <= q < size else -1 for q in positions), taps, outputs
    )


def _of_batch(size: int, x_stride: int, y_stride: int) -> _Axis:
    """Return the axis that the rows of a pass with one spatial axis lie along."""
    places = range(size)
    table, outputs = tuple(n * x_stride for n in places), tuple((n * y_stride,) for n in places)
    return _Axis(size, 1, table, (((0, 0),),), outputs)


@dataclass(frozen=True, slots=True)
class _Grid:
    """A pass as ``batch`` images of planes x rows of pixels; all axes but the last two are planes."""

    batch: int
    x_batch: int
    y_batch: int
    x_column: int
    y_row: int
    planes: tuple[_Axis, ...]
    rows: _Axis

    @property
    def plane_count(self) -> int:
        """Planes of cells."""
        return math.prod(axis.cells for axis in self.planes)

    @property
    def plane_taps(self) -> int:
        """Planes that the outputs of a stride read."""
        return math.prod(axis.window for axis in self.planes)

    @property
    def taps(self) -> list[list[tuple[int, int, int]]]:
        """Of each row of outputs of a stride its taps: plane and row among those read, offset in the kernel."""
        found = [[(0, 0)]]
        for axis in self.planes:
            found = [
                [(plane * axis.window + at, offset + o) for plane, offset in outer for o, at in inner]
                for outer in found
                for inner in axis.taps
            ]
        return [
            [(plane, at, offset + o) for plane, offset in outer for o, at in inner]
            for outer in found
            for inner in self.rows.taps
        ]

    def plane_tables(self) -> tuple[list[int], list[int]]:
        """Return the offsets of the planes that each plane of cells reads, and of its outputs' planes, -1 for none."""
        reads, writes = [[0]], [[0]]
        for axis in self.planes:
            windows = [axis.table[cell : cell + axis.window] for cell in range(axis.cells)]
            reads = [[_sum(a, b) for a in outer for b in inner] for outer in reads for inner in windows]
            writes = [[_sum(a, b) for a in outer for b in inner] for outer in writes for inner in axis.outputs]
        return list(itertools.chain.from_iterable(reads)), list(itertools.chain.from_iterable(writes))


def _sum(first: int, second: int) -> int:
    return -1 if min(first, second) < 0 else first + second


@lru_cache(maxsize=256)
def _grid(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> _Grid:
    kernel = kernel_strides(spec)
    if spec.ndim == 1:
        return _Grid(1, 0, 0, x_strides[-2], y_strides[0], (), _of_batch(spec.batch, x_strides[0], y_strides[0]))
    axes = [_axis(spec, a, x_strides[a + 1], y_strides[a + 1], kernel[a]) for a in range(spec.ndim - 1)]
    *planes, rows = axes
    return _Grid(spec.batch, x_strides[0], y_strides[0], x_strides[-2], y_strides[-3], tuple(planes), rows)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A register tile: its numbers and registers of pixels, where it starts among them."""

    numbers: int
    vectors: int
    number: int
    pixel: int


def _step_cycles(numbers: int, vectors: int) -> float:
    return max(numbers * vectors, CHAINS_IN_FLIGHT, numbers + vectors) / FMA_PER_CYCLE


@lru_cache(maxsize=1024)
def _split(numbers: int, registers: int) -> tuple[int, ...]:
    """Cover that many registers of pixels by tiles of so many numbers at the least cost, largest tiles first."""
    sizes = FOLDED_VECTORS[numbers]
    large = max(0, registers // sizes[0] - 2) * (sizes[0],)
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, registers - len(large) * sizes[0] + 1):
        options = [(best[n - v][0] + _step_cycles(numbers, v) + 1.0, (v, *best[n - v][1])) for v in sizes if v <= n]
        best.append(min(options))
    return large + tuple(sorted(best[-1][1], reverse=True))


@lru_cache(maxsize=1024)
def _parts(numbers: int, registers: int) -> tuple[int, ...]:
    """Cut a kernel row's numbers into those of tiles at the least cost."""
    of_size = {
        size: sum(_step_cycles(size, vectors) + 1.0 for vectors in _split(size, registers)) for size in FOLDED_VECTORS
    }
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, numbers + 1):
        best.append(min((best[n - s][0] + of_size[s], (s, *best[n - s][1])) for s in FOLDED_VECTORS if s <= n))
    return tuple(sorted(best[-1][1], reverse=True))


@lru_cache(maxsize=256)
def _tiles(numbers: int, pixels: int, dtype: str) -> list[_Tile]:
    """Return the tiles that cover a row of pixels, in the order of the pixels; the last ones may reach over its end."""
    lanes, tiles, number = TARGET.lanes(dtype), [], 0
    registers = -(-pixels // lanes)
    for part in _parts(numbers, registers):
        pixel = 0
        for vectors in _split(part, registers):
            tiles.append(_Tile(part, vectors, number, pixel))
            pixel += vectors * lanes
        number += part
    return sorted(tiles, key=lambda tile: tile.pixel)


def _pixels(spec: ConvSpec, columns: int) -> int:
    """Return how many pixels of grad_y a block of so many columns may read."""
    before, behind = _reach(spec)
    return min(columns + before + behind, spec.out_spatial[-1])


def _row_cycles(spec: ConvSpec, taps: int, rows: int, columns: int) -> float:
    """Return the cycles of the products and the fold of ``rows`` rows of outputs with ``taps`` taps in all."""
    lanes, numbers = TARGET.lanes(spec.dtype), spec.kernel_size[-1] * spec.in_channels
    cycles = 0.0
    for tile in _tiles(numbers, _pixels(spec, columns), spec.dtype):
        of_tap = spec.out_channels * _step_cycles(tile.numbers, tile.vectors) + TAP_CYCLES
        cycles += taps * of_tap + rows * (TILE_CYCLES + STORE_CYCLES * tile.numbers * tile.vectors)
    registers, outputs = -(-columns // lanes), spec.strides[-1] * spec.in_channels
    folding = outputs * (FOLD_CYCLES + lanes * LEAVING_CYCLES) + numbers * FOLD_TAP_CYCLES
    return cycles + rows * registers * folding


@lru_cache(maxsize=256)
def _block(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> Block:
    """Return the cheapest block: the rows that its outputs read at a time in half of L2, few of them gathered twice."""
    item, channels, grid = np.dtype(spec.dtype).itemsize, spec.out_channels, _grid(spec, x_strides, y_strides)
    lanes, rows, count = TARGET.lanes(spec.dtype), grid.rows, _cells(spec)
    of_number, best = TRANSPOSE_CYCLES + CHANNEL_CYCLES * channels, Block(1, 1, 1, 0, 0, math.inf)
    if channels == 1:
        of_number = COPY_CYCLES if grid.x_column == 1 else SCALAR_CYCLES
    taps, least, most = grid.taps, math.inf, max(1, count // 32)
    for parts in range(1, most + 1):
        columns = -(-count // parts)
        pixels = _pixels(spec, columns)
        pitch = spread_pitch(round_up(pixels, lanes))
        # Transposes write as many planes as a register has lanes, and the next row may be gathered already.
        row_size = (channels if channels == 1 else max(channels, lanes)) * pitch
        of_row = _row_cycles(spec, sum(map(len, taps)), len(taps), columns)
        if rows.window * grid.plane_taps * row_size * item > TARGET.l2_bytes // 2 and parts < most:
            continue
        for block_rows in sorted({min(rows.cells, size) for size in ROW_CANDIDATES}):
            in_rows = (block_rows - 1 + rows.window) * grid.plane_taps
            of_image = in_rows * (pixels * channels * of_number + ROW_CYCLES) + block_rows * of_row
            whole = parts == 1 and block_rows == rows.cells
            images = min(grid.batch, max(1, int(BLOCK_CYCLES / of_image))) if whole else 1
            blocks = -(-grid.batch // images) * grid.plane_count * -(-rows.cells // block_rows) * parts
            cycles = (images * of_image + TASK_CYCLES) * blocks
            # Threads wait for the last one's block.
            if cycles * (1 + 1 / blocks) < least:
                least, best = cycles * (1 + 1 / blocks), Block(images, block_rows, columns, pitch, row_size, cycles)
    return best


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    x, y = array_strides(spec)
    return _block(spec, y, x).cycles


def _describe(record: Record, grid: _Grid, block: Block, spec: ConvSpec, x_channel: int) -> None:
    """Fill in how tasks are counted, where their rows lie and which of them each row of outputs reads."""
    taps = grid.taps
    flat, (reads, writes) = list(itertools.chain.from_iterable(taps)), grid.plane_tables()
    columns, row_outputs = _cells(spec), len(grid.rows.taps)
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


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan an input gradient; strides, in elements, of (batch, *spatial, channels) of grad_y and grad_x."""
    lanes, of_input, columns = TARGET.lanes(spec.dtype), spec.in_channels, _cells(spec)
    numbers, outputs, (before, behind) = spec.kernel_size[-1] * of_input, spec.strides[-1] * of_input, _reach(spec)
    grid, block, record = _grid(spec, x_strides, y_strides), _block(spec, x_strides, y_strides), Record()
    _describe(record, grid, block, spec, x_strides[-1])
    # A last block may begin behind the last pixel.
    reach = max(before, columns - spec.out_spatial[-1]) + behind
    fold_pitch = spread_pitch(LEAD + max(block.pitch, block.columns + lanes) + reach + lanes)
    out_pitch = spread_pitch(block.columns + lanes)
    offsets = [
        [(tap * of_input + channel) * fold_pitch + shift for tap, shift in each]
        for each in _shifts(spec, -1)
        for channel in range(of_input)
    ]
    record.fields |= {
        at.FOLD_TAPS: numbers, at.FOLD_CHANNELS: of_input, at.FOLD_COLUMNS: spec.in_spatial[-1],
        at.FOLD_PITCH: fold_pitch, at.FOLD_BEFORE: before, at.FOLD_BEHIND: behind, at.FOLD_NUMBERS: outputs,
        at.FOLD_PIXELS: spec.out_spatial[-1], at.OUT_PITCH: out_pitch,
    }  # fmt: skip
    tiles = _tiles(numbers, _pixels(spec, block.columns), spec.dtype)
    sizes = [(16 * tile.numbers + tile.vectors, tile.number, tile.pixel) for tile in tiles]
    record.tables |= {
        at.WIDE_FULL: [len(tiles), *itertools.chain.from_iterable(sizes)],
        at.FOLD_OFFSETS: list(itertools.chain.from_iterable(offsets)),
        at.FOLD_FIRST: [0, *itertools.accumulate(map(len, offsets))],
    }
    # A transpose of a last plane's pixels reaches over as many planes as a register has lanes.
    second = round_up(grid.plane_taps * grid.rows.window * block.row_size + lanes * block.pitch, 16)
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
