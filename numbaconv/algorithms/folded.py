"""Input gradient with few channels: all numbers of a kernel row side by side, then folded along the columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.axes import identity_axis, pass_axes, without_padding
from numbaconv.algorithms.blocking import (
    GATHER_BYTES_PER_CYCLE,
    L2_BYTES_PER_CYCLE,
    READ_BYTES_PER_CYCLE,
    TAP_CYCLES,
    TASK_CYCLES,
    TILE_CYCLES,
    gathered,
    panel_vectors,
    tile_cycles,
)
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
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.folded import folded_forward
from numbaconv.kernels.tile_sizes import split_rows
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "folded"

MAX_CHANNELS = 12
"""Input channels up to which registers of channels may have idle lanes."""

FOLD_CYCLES, FOLD_TAP_CYCLES = 11.0, 1.5  # a register of outputs that is folded, and each tap of it
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
    """A phase, the images and rows of its blocks, the cycles of all blocks on one thread."""

    lattice: Lattice
    in_place: bool
    images: int
    rows: int
    cycles: float


def _cut(phase: _Phase) -> tuple[int, ...]:
    """Return what two phases have in common whose blocks read the same planes and rows, or nearly so."""
    lattice = phase.lattice
    starts = (axis.phase.start for axis in lattice.planes)
    return phase.images, phase.rows, *(axis.phase.count for axis in lattice.axes), *starts


def _row_cycles(spec: ConvSpec, lattice: Lattice) -> float:
    """Return the cycles of the products and the fold of one row."""
    lanes, columns, numbers = TARGET.lanes(spec.dtype), spec.out_spatial[-1], spec.kernel_size[-1] * spec.in_channels
    taps = math.prod(len(axis.phase.taps) for axis in lattice.axes)
    read = taps * columns * spec.out_channels * np.dtype(spec.dtype).itemsize
    # Every panel reads a row's pixels anew, from L2 where L1 does not hold them.
    spilled = read / L2_BYTES_PER_CYCLE if read > TARGET.l1_bytes * 0.75 else 0.0
    cycles = 0.0
    for vectors in panel_vectors(numbers, spec.dtype):
        cycles += spilled
        entering = TILE_CYCLES + TAP_CYCLES * taps
        cycles += tile_cycles(columns, vectors) * taps * spec.out_channels
        cycles += entering * len(split_rows(columns, vectors))
    of_output = FOLD_CYCLES + FOLD_TAP_CYCLES * spec.kernel_size[-1] / spec.strides[-1]
    return cycles + of_output * spec.in_spatial[-1] * -(-spec.in_channels // lanes)


def _phase(spec: ConvSpec, lattice: Lattice, x_strides: Strides) -> _Phase:
    """Return a phase with its cheapest block of whole rows."""
    item, channels, numbers = np.dtype(spec.dtype).itemsize, spec.out_channels, spec.kernel_size[-1] * spec.in_channels
    in_place = is_in_place(lattice, x_strides[-1], 1)
    extent = lattice_extent(lattice, channels, numbers, 1, in_place, spec.dtype)
    of_row, weights = _row_cycles(spec, lattice), extent.depth * numbers * item / L2_BYTES_PER_CYCLE
    best, least = _Phase(lattice, in_place, 1, 1, math.inf), math.inf
    blocks = [(1, min(rows, extent.rows)) for rows in ROW_CANDIDATES]
    blocks += [(images, extent.rows) for images in IMAGE_CANDIDATES if images <= extent.batch]
    for images, rows in blocks:
        size = gathered(extent, rows, extent.columns) * images * item
        if size > TARGET.l2_bytes // 2 and rows > 1:
            continue
        if in_place:
            own = images * rows * extent.row_stride * extent.columns * extent.plane_taps * channels * item
            copied = own / READ_BYTES_PER_CYCLE
        else:
            copied = size / GATHER_BYTES_PER_CYCLE
        count = -(-extent.batch // images) * extent.planes * -(-extent.rows // rows)
        cycles = (images * rows * of_row + copied + weights + TASK_CYCLES) * count
        # Threads wait for the last one's block.
        if cycles * (1 + 1 / count) < least:
            least, best = cycles * (1 + 1 / count), _Phase(lattice, in_place, images, rows, cycles)
    return best


@lru_cache(maxsize=256)
def _phases(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> list[_Phase]:
    """Return the phases of the axes before the last, with their padding or with borders of their own."""
    axes = pass_axes(spec, "input_grad")[:-1]
    bordered = [[part for phase in axis for part in without_padding(phase, True)] for axis in axes]
    ways = [axes, bordered] if math.prod(map(len, bordered)) <= MAX_PHASES else [axes]
    # Columns of no stride in the output: the rows are not merged with them.
    columns, strides = [identity_axis(spec.out_spatial[-1])], (*y_strides[:-2], 0)
    choices = []
    for way in ways:
        found = lattices(spec.batch, [*way, columns], x_strides[:-1], strides, kernel_strides(spec)[:-2])
        choices.append([_phase(spec, lattice, x_strides) for lattice in found])
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


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> _FoldedPlan:
    """Plan an input gradient; strides, in elements, of (batch, *spatial, channels) of grad_y and grad_x."""
    lanes, channels, of_input = TARGET.lanes(spec.dtype), spec.out_channels, spec.in_channels
    numbers, columns, stride = spec.kernel_size[-1] * of_input, spec.out_spatial[-1], spec.strides[-1]
    vectors, pitch, start = panel_vectors(numbers, spec.dtype), round_up(numbers, lanes), spec.padding[-1][0]
    panels = len(vectors)
    # Pixels that the first and the last outputs would get something from, and are not there.
    before = max(1, (spec.kernel_size[-1] - 1) // stride)
    behind = max(1, (spec.in_spatial[-1] - 1 + start) // stride - columns + 1)
    records: list[Record] = []
    kernels: dict[tuple[int, ...], tuple[int, int]] = {}
    tasks = packed = states = largest = together = 0
    phases = sorted(_phases(spec, x_strides, y_strides), key=_cut)
    for phase, following in itertools.zip_longest(phases, phases[1:]):
        lattice, together = phase.lattice, together + 1
        record, taps = Record(task_counts(lattice, phase.rows, columns)), tuple(kernel_offsets(lattice, all_taps=True))
        merged = has_merged_run(lattice, channels, phase.in_place)
        describe_reads(record, lattice, phase.rows, columns, channels, phase.in_place, merged, phase.images)
        size = pitch * len(taps) * channels
        if taps not in kernels:
            kernels[taps] = packed, states
            packed, states = packed + size, states + panels
        record.fields |= {
            at.FIRST_TASK: tasks, at.TOGETHER: together, at.GROUPS: 1, at.PANELS: panels, at.X_CHANNEL: x_strides[-1],
            at.OUT_CHANNELS: numbers, at.PACKED: kernels[taps][0], at.STATES: kernels[taps][1],
            at.KERNEL_TAP_COUNT: len(taps), at.BESIDE: 1, at.KERNEL_CHANNEL: 1, at.KERNEL_COLUMN: channels,
            at.FOLD_TAPS: spec.kernel_size[-1], at.FOLD_CHANNELS: of_input, at.FOLD_STRIDE: stride,
            at.FOLD_START: start, at.FOLD_COLUMNS: spec.in_spatial[-1], at.FOLD_PITCH: pitch, at.FOLD_BEFORE: before,
            at.FOLD_BEHIND: behind,
        }  # fmt: skip
        record.tables |= {
            at.KERNEL_TAPS: taps, at.PACKED_TAPS: packed_offsets(lattice, merged, channels),
            at.WIDE_FULL: tile_list(columns, 2), at.NARROW_FULL: tile_list(columns, vectors[-1]),
        }  # fmt: skip
        records.append(record)
        # The kernels of the phases of one task stay in L2.
        is_full = (together + 1) * size * np.dtype(spec.dtype).itemsize > TARGET.l2_bytes // 4
        if following is None or _cut(following) != _cut(phase) or is_full:
            tasks, together = tasks + block_count(record), 0
        largest = max(largest, gathered_size(record))
    second = round_up(largest, 16)
    # A register may reach over the end of the products and of a row of outputs.
    line = second + round_up((before + columns + behind) * pitch + lanes, 16)
    workspace = line + round_up(spec.in_spatial[-1] * of_input + 2 * lanes, 16)
    header = {at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: line}
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
    parts = (BiasPart(0, 1, round_up(spec.in_channels, TARGET.lanes(spec.dtype))),)
    return launch_product(
        folded_forward, spec, plan, shape, parts, activation, has_bias, (0, 1, packed),
        (2, np.zeros(plan.states, np.int64)), 1,
    )  # fmt: skip
