"""Input gradient with few channels: all numbers of a kernel row, or of all rows, side by side, then folded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.axes import AxisPhase, identity_axis, pass_axes, without_padding
from numbaconv.algorithms.blocking import (
    GATHER_BYTES_PER_CYCLE,
    L2_BYTES_PER_CYCLE,
    TAP_CYCLES,
    TASK_CYCLES,
    TILE_CYCLES,
    gathered,
    panel_vectors,
    tile_cycles,
)
from numbaconv.algorithms.cells import CellAxis, grid_of
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    describe_reads,
    gathered_size,
    has_merged_run,
    is_in_place,
    kernel_offsets,
    packed_offsets,
    round_up,
    task_counts,
    tile_list,
)
from numbaconv.algorithms.lattice import Lattice, lattices
from numbaconv.algorithms.plan_parts import (
    MAX_PHASES,
    BiasPart,
    Plan,
    array_strides,
    kernel_strides,
    lattice_extent,
    launch_product,
    waited_cycles,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.folded import folded_forward
from numbaconv.kernels.tile_sizes import HALVES, split_rows
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "folded"

MAX_CHANNELS = 12
"""Input channels up to which registers of channels may have idle lanes."""

STORE_CYCLES = 4.0  # a register of products
FETCHED_BYTES_PER_CYCLE = 32  # of input read in place
ENTERING_CYCLES = 2 * TILE_CYCLES  # a tile of products, whose sums are short
FOLD_CYCLES = 3.0  # a register of a cell's outputs
FOLD_TAP_CYCLES, NARROW_TAP_CYCLES = 1.5, 0.6  # each register of products that it adds, or half a register
ROW_CANDIDATES = (1, 2, 4, 8, 14, 16, 28, 32, 64)
IMAGE_CANDIDATES = (1, 2, 4, 8)


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None if it can."""
    if direction != "input_grad":
        return "only input gradients are folded"
    if spec.batch == 0:
        return "the batch is empty"
    if spec.groups > 1:
        return "groups are not folded"
    if spec.kernel_size[-1] == 1 or spec.dilation[-1] > 1:
        return "the last axis has no neighbouring taps to fold"
    if spec.in_channels > MAX_CHANNELS:
        return (
            f"the input has {spec.in_channels} channels, and with more than {MAX_CHANNELS} registers of them are full"
        )
    return None


@dataclass(frozen=True, slots=True)
class _Phase:
    """A phase, the images and rows of its blocks, the cycles of all blocks on one thread.

    Where rows are folded as well, the lattice's rows are grad_y's and those of the blocks the cells of ``folds``.
    """

    lattice: Lattice
    folds: CellAxis | None
    in_place: bool
    images: int
    rows: int
    cycles: float


def _cut(phase: _Phase) -> tuple[int, ...]:
    """Return what two phases have in common whose blocks read the same planes and rows, or nearly so."""
    lattice = phase.lattice
    starts = (axis.phase.start for axis in lattice.planes)
    return phase.images, phase.rows, *(axis.phase.count for axis in lattice.axes), *starts


def _numbers(spec: ConvSpec, folds: CellAxis | None) -> int:
    """Return the numbers that a pixel is multiplied to."""
    rows = 1 if folds is None else spec.kernel_size[-2]
    return rows * spec.kernel_size[-1] * spec.in_channels


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of products: its zeros, counted in pixels, and the outputs of a stride that it is folded to."""

    before: int
    behind: int
    pitch: int
    cells: int

    def size(self, spec: ConvSpec) -> int:
        """Return the numbers of a row."""
        return (self.before + spec.out_spatial[-1] + self.behind) * self.pitch


def _row_of(spec: ConvSpec, folds: CellAxis | None) -> _Row:
    """Return the layout of a row of products."""
    stride, start, kernel = spec.strides[-1], spec.padding[-1][0], spec.kernel_size[-1]
    last = (spec.in_spatial[-1] - 1 + start) // stride
    # Pixels that the first and the last outputs would get something from, and are not there.
    before, behind = max(1, (kernel - 1) // stride), max(1, last - spec.out_spatial[-1] + 1)
    return _Row(before, behind, round_up(_numbers(spec, folds), TARGET.lanes(spec.dtype)), last - start // stride + 1)


def _product_cycles(spec: ConvSpec, lattice: Lattice, numbers: int) -> float:
    """Return the cycles of the products of one row of pixels."""
    columns, channels = spec.out_spatial[-1], spec.out_channels
    taps = math.prod(len(axis.phase.taps) for axis in lattice.axes)
    read = taps * columns * channels * np.dtype(spec.dtype).itemsize
    # Every panel reads a row's pixels anew, from L2 where L1 does not hold them.
    spilled = read / L2_BYTES_PER_CYCLE if read > TARGET.l1_bytes * 0.75 else 0.0
    cycles = 0.0
    for vectors in panel_vectors(numbers, spec.dtype):
        cycles += spilled + tile_cycles(columns, vectors) * taps * channels
        cycles += (ENTERING_CYCLES + TAP_CYCLES * taps) * len(split_rows(columns, vectors))
        cycles += STORE_CYCLES * columns * vectors
    return cycles


def _fold_cycles(spec: ConvSpec, folds: CellAxis | None) -> float:
    """Return the cycles in which a row of cells is folded."""
    terms, outputs = [1] if folds is None else [len(taps) for taps in folds.taps], spec.strides[-1] * spec.in_channels
    lanes, (columns, rest) = TARGET.lanes(spec.dtype), divmod(spec.kernel_size[-1], spec.strides[-1])
    # Loads of some lanes cost more.
    columns += 2 if rest else 0
    cells = _row_of(spec, folds).cells * -(-outputs // lanes)
    of_tap = NARROW_TAP_CYCLES if outputs * HALVES <= lanes else FOLD_TAP_CYCLES
    return sum((FOLD_CYCLES + of_tap * columns * count) * cells for count in terms)


def _phase(spec: ConvSpec, lattice: Lattice, folds: CellAxis | None, x_strides: Strides) -> _Phase:
    """Return a phase with its cheapest block of whole rows."""
    item, channels, numbers = np.dtype(spec.dtype).itemsize, spec.out_channels, _numbers(spec, folds)
    in_place = is_in_place(lattice, x_strides[-1], 1)
    extent = lattice_extent(lattice, channels, numbers, 1, in_place, spec.dtype)
    all_rows, window = (extent.rows, 1) if folds is None else (folds.cells, folds.window)
    of_pixels, of_cells = _product_cycles(spec, lattice, numbers), _fold_cycles(spec, folds)
    weights = extent.depth * numbers * item / L2_BYTES_PER_CYCLE
    best, least = _Phase(lattice, folds, in_place, 1, 1, math.inf), math.inf
    blocks = [(1, min(rows, all_rows)) for rows in ROW_CANDIDATES]
    blocks += [(images, all_rows) for images in IMAGE_CANDIDATES if images <= extent.batch]
    for images, rows in blocks:
        size = gathered(extent, rows, extent.columns) * images * item
        if size > TARGET.l2_bytes // 2 and rows > 1 and not in_place:
            continue
        in_rows = min(rows + window - 1, extent.rows)
        if in_place:
            own = images * in_rows * extent.row_stride * extent.columns * extent.plane_taps * channels * item
            copied = own / FETCHED_BYTES_PER_CYCLE
        else:
            copied = size / GATHER_BYTES_PER_CYCLE
        count = -(-extent.batch // images) * extent.planes * -(-all_rows // rows)
        cycles = (images * (in_rows * of_pixels + rows * of_cells) + copied + weights + TASK_CYCLES) * count
        waited = waited_cycles(spec, cycles, count)
        if waited < least:
            least, best = waited, _Phase(lattice, folds, in_place, images, rows, cycles)
    return best


def _ways(axes: list[list[AxisPhase]]) -> list[list[list[AxisPhase]]]:
    """Return axes with their padding, and with borders of their own."""
    bordered = [[part for phase in axis for part in without_padding(phase, True)] for axis in axes]
    return [axes, bordered] if math.prod(map(len, bordered)) <= MAX_PHASES else [axes]


@lru_cache(maxsize=256)
def _phases(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> list[_Phase]:
    """Return the phases of the axes before the last, or before the rows where these are folded, which are cheapest."""
    axes, kernel = pass_axes(spec, "input_grad"), kernel_strides(spec)[:-2]
    rows, columns = (
        [identity_axis(size)] for size in (spec.out_spatial[-2:] if spec.ndim > 1 else (1, spec.out_spatial[-1]))
    )
    choices = []
    for way in _ways(axes[:-1]):
        # Columns of no stride in the output: the rows are not merged with them.
        found = lattices(spec.batch, [*way, columns], x_strides[:-1], (*y_strides[:-2], 0), kernel)
        choices.append([_phase(spec, lattice, None, x_strides) for lattice in found])
    if spec.ndim > 1 and spec.kernel_size[-2] > 1:
        folds = grid_of(spec, x_strides, y_strides, 1).rows
        ring = folds.window * _row_of(spec, folds).size(spec) * np.dtype(spec.dtype).itemsize
        for way in _ways(axes[:-2]) if ring <= TARGET.l2_bytes // 2 else []:
            # No axis is merged with rows of such a stride.
            found = lattices(spec.batch, [*way, rows, columns], x_strides[:-1], (*y_strides[:-3], -1, 0), kernel)
            choice = [_phase(spec, lattice, folds, x_strides) for lattice in found]
            if all(phase.in_place for phase in choice):
                choices.append(choice)
    return min(choices, key=lambda choice: sum(phase.cycles for phase in choice))


@lru_cache(maxsize=512)
def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    x, y = array_strides(spec)
    return sum(phase.cycles for phase in _phases(spec, y, x))


@dataclass(frozen=True, slots=True)
class _FoldedPlan(Plan):
    packed_size: int
    states: int


def _describe_rows(record: Record, phase: _Phase, spec: ConvSpec, y_row: int) -> None:
    """Fill in the rows of products that a row of cells reads: one, or those that are folded."""
    folds = phase.folds
    if folds is None:
        record.fields |= {
            at.FOLD_WINDOW: 1, at.FOLD_TABLE_STEP: 0, at.FOLD_ROWS: 1, at.FOLD_Y_ROWS: record.fields[at.OUT_ROWS],
        }  # fmt: skip
        record.tables |= {
            at.FOLD_TABLE: np.arange(phase.rows) * record.fields[at.ROW_STRIDE],
            at.TAP_FIRST: [0, 1], at.ROW_OF_TAP: [0], at.FOLD_OFFSETS: [0],
        }  # fmt: skip
        return
    flat = list(itertools.chain.from_iterable(folds.taps))
    record.fields |= {
        at.FOLD_WINDOW: folds.window, at.FOLD_TABLE_STEP: 1, at.FOLD_ROWS: len(folds.taps),
        at.FOLD_Y_ROWS: spec.in_spatial[-2], at.OUT_ROWS: folds.cells, at.ROW_BLOCKS: -(-folds.cells // phase.rows),
        at.ROW_STEP: 0, at.Y_ROW: y_row,
    }  # fmt: skip
    record.tables |= {
        at.FOLD_TABLE: folds.table, at.TAP_FIRST: [0, *itertools.accumulate(map(len, folds.taps))],
        at.ROW_OF_TAP: [row for _, row in flat],
        at.FOLD_OFFSETS: [offset // spec.out_channels for offset, _ in flat],
    }  # fmt: skip


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> _FoldedPlan:
    """Plan an input gradient; strides, in elements, of (batch, *spatial, channels) of grad_y and grad_x."""
    lanes, channels, of_input = TARGET.lanes(spec.dtype), spec.out_channels, spec.in_channels
    phases = sorted(_phases(spec, x_strides, y_strides), key=_cut)
    folds, columns, outputs = phases[0].folds, spec.out_spatial[-1], spec.strides[-1] * of_input
    numbers, row = _numbers(spec, folds), _row_of(spec, folds)
    vectors, slot = panel_vectors(numbers, spec.dtype), row.size(spec)
    panels, window = len(vectors), folds.window if folds else 1
    records: list[Record] = []
    kernels: dict[tuple[int, ...], tuple[int, int]] = {}
    tasks = packed = states = largest = together = 0
    for phase, following in itertools.zip_longest(phases, phases[1:]):
        lattice, together = phase.lattice, together + 1
        record, taps = Record(task_counts(lattice, phase.rows, columns)), tuple(kernel_offsets(lattice, all_taps=True))
        merged = has_merged_run(lattice, channels, phase.in_place)
        describe_reads(record, lattice, phase.rows, columns, channels, phase.in_place, merged, phase.images)
        _describe_rows(record, phase, spec, y_strides[-3] if spec.ndim > 1 else 0)
        if taps not in kernels:
            kernels[taps] = packed, states
            packed, states = packed + row.pitch * len(taps) * channels, states + panels
        record.fields |= {
            at.FIRST_TASK: tasks, at.TOGETHER: together, at.GROUPS: 1, at.PANELS: panels, at.X_CHANNEL: x_strides[-1],
            at.OUT_CHANNELS: numbers, at.PACKED: kernels[taps][0], at.STATES: kernels[taps][1],
            at.KERNEL_TAP_COUNT: len(taps), at.BESIDE: 1, at.KERNEL_CHANNEL: 1, at.KERNEL_COLUMN: channels,
            at.FOLD_TAPS: spec.kernel_size[-1], at.FOLD_CHANNELS: of_input, at.FOLD_STRIDE: spec.strides[-1],
            at.FOLD_START: spec.padding[-1][0], at.FOLD_COLUMNS: spec.in_spatial[-1], at.FOLD_PITCH: row.pitch,
            at.FOLD_BEFORE: row.before, at.FOLD_BEHIND: row.behind, at.FOLD_SLOT: slot, at.FOLD_CELLS: row.cells,
        }  # fmt: skip
        record.tables |= {
            at.KERNEL_TAPS: taps, at.PACKED_TAPS: packed_offsets(lattice, merged, channels),
            at.WIDE_FULL: tile_list(columns, 2), at.NARROW_FULL: tile_list(columns, vectors[-1]),
        }  # fmt: skip
        records.append(record)
        largest = max(largest, gathered_size(record))
        # The kernels of the phases of one task stay in L2.
        size = row.pitch * len(taps) * channels * np.dtype(spec.dtype).itemsize
        if following is None or _cut(following) != _cut(phase) or (together + 1) * size > TARGET.l2_bytes // 4:
            tasks, together = tasks + block_count(record), 0
    second = round_up(largest, 16)
    # Four cells and a register may reach over the end of the products and of a row of outputs.
    line = second + round_up(window * slot + 4 * row.pitch + lanes, 16)
    own = line + round_up((row.cells + 4) * outputs + 2 * lanes, 16)
    workspace = own + round_up(window * 8 // np.dtype(spec.dtype).itemsize, 16)
    header = {at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: line, at.OWN_KERNEL: own}
    return _FoldedPlan(assemble(header, records), tasks, workspace, packed, states)


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
    packed = parallel.Uninitialised(plan.packed_size * np.dtype(spec.dtype).itemsize)
    outputs = spec.strides[-1] * spec.in_channels
    parts = (BiasPart(0, spec.strides[-1], round_up(outputs, TARGET.lanes(spec.dtype))),)
    return launch_product(
        folded_forward, spec, plan, shape, parts, activation, has_bias, (0, 1, packed),
        (2, np.zeros(plan.states, np.int64)), 1,
    )  # fmt: skip
