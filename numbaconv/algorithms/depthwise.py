"""Depthwise convolution and groups of a few channels: channels in the lanes instead of a product over channels."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.algorithms.axes import AxisPhase, pass_axes
from numbaconv.algorithms.depthwise_blocking import ProductBlock, choose_product_block, is_gathered, tile_outputs
from numbaconv.algorithms.depthwise_estimate import PLANAR_SHARES as PLANAR_SHARES
from numbaconv.algorithms.depthwise_estimate import estimate as estimate
from numbaconv.algorithms.depthwise_estimate import lanes_summed_of
from numbaconv.algorithms.depthwise_estimate import rivals_planar as rivals_planar
from numbaconv.algorithms.depthwise_gradient import gradient_launch
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    bounce_size,
    column_step,
    describe_reads,
    kernel_offsets,
    repeated_size,
    round_up,
    task_counts,
    unit_columns,
)
from numbaconv.algorithms.lattice import Axis, Lattice, lattices
from numbaconv.algorithms.plan_parts import (
    BiasPart,
    Plan,
    exceeds_caches,
    kernel_strides,
    lattice_extent,
    launch_product,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise import AHEAD_ROWS, MOST_LINES, depthwise_forward
from numbaconv.kernels.depthwise_strip_tiles import (
    NARROW_COLUMNS,
    PAIR_ROWS,
    SQUARE,
    SQUARE_ROWS,
    strip_taps,
)
from numbaconv.kernels.depthwise_tiles import APART, LONG, SHORT, STREAMED, TILES, WHOLE_LINES
from numbaconv.kernels.grouped import GROUP_SIZES, STRIPS, grouped_forward
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "depthwise"
AHEAD_NUMBERS = 1024
"""Numbers of the input, at least, from what a tile reads to what it fetches ahead where the kernel has one row."""

STREAMED_PART = 4
"""Part of L3 that input and output have to exceed for strips to fetch them ahead, which costs a tenth otherwise."""


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, or None."""
    size, outputs = spec.in_channels_per_group, spec.out_channels_per_group
    if spec.groups == 1:
        return "it has one group, not a group for each input channel"
    if size == 1:
        return None
    if size != outputs or size not in GROUP_SIZES or size > TARGET.lanes(spec.dtype):
        return f"a group has {size} input and {outputs} output channels, neither a single input nor a few of each"
    if direction == "kernel_grad" and 4 * size > TARGET.registers:
        return f"the sums of {size} x {size} channels leave too few of {TARGET.registers} registers"
    return None


PHASE_LINES = 4
"""Rows of outputs of one phase of several that are made before those of the next."""


@dataclass(frozen=True, slots=True)
class ProductPlan(Plan):
    """The plan of a forward pass or an input gradient; the bias lies in ``bias_groups`` of ``bias_width`` numbers."""

    bias_groups: int
    bias_width: int


def _with_multiplier(lattice: Lattice, multiplier: int, x_channel: int) -> Lattice:
    """Return the lattice of an input gradient with the outputs of one channel as one more axis of taps.

    grad_y's channel c * multiplier + j reaches input channel c through tap j of that axis.
    """
    if multiplier == 1:
        return lattice
    taps = tuple((j,) for j in range(multiplier))
    axis = Axis(AxisPhase(1, 0, 1, 1, 1, taps, np.arange(multiplier), taps), x_channel, 0, 1, 0)
    planes = (*lattice.planes, axis)
    return Lattice(
        lattice.batch, lattice.x_batch, lattice.y_batch, planes, lattice.rows, lattice.columns, lattice.y_start
    )


def _product_lattices(
    spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides, lanes_summed: int = 1
) -> list[Lattice]:
    """Return the phases of a forward pass or an input gradient, padding and all."""
    axes, kernel = pass_axes(spec, direction), kernel_strides(spec)[:-2]
    phases = lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], kernel)
    if direction == "forward" or spec.in_channels_per_group > 1 or lanes_summed > 1:
        return phases
    return [_with_multiplier(lattice, spec.depth_multiplier, x_strides[-1]) for lattice in phases]


def _column_parts(axis: Axis, in_place: bool, has_windows: bool, outputs: int = LONG) -> list[int]:
    """Return the stretches of outputs along the columns that have the same taps, PART_SIZE numbers each.

    Tiles have ``outputs`` where there are such for the taps.
    """

    def rows(window: int) -> int:
        return outputs if (outputs, window) in ((STREAMED, 1), (APART, 0)) else LONG

    phase, offsets = axis.phase, axis.offsets
    count, taps, stride = phase.count, len(phase.taps), phase.stride
    window = stride if has_windows and stride in (1, 2) and phase.dilation == 1 else 0
    if not in_place:
        return [0, count, 0, taps, window, LONG]
    if not taps:
        return [0, count, 0, 0, 0, LONG]
    step = column_step(axis)
    first, last = unit_columns(offsets, step)
    begin = min(-(-first // stride), count)
    end = min(max((last - phase.reach) // stride + 1, begin), count)
    parts = [begin, end, 0, taps, window, rows(window)] if end > begin else []
    borders: list[list[int]] = []
    before = np.zeros(0, np.int64)
    for u in (*range(begin), *range(end, count)):
        reads = offsets[u * stride + np.arange(taps) * phase.dilation]
        inside = np.flatnonzero(reads >= 0)
        tap, number = (int(inside[0]), len(inside)) if inside.size else (0, 0)
        steady = number == 0 or (borders and (reads[inside] - before[inside] == step * stride).all())
        if borders and borders[-1][1:4] == [u, tap, number] and steady:
            borders[-1][1] = u + 1
        else:
            even = bool((np.diff(reads[inside]) == step).all())
            shift = window if even else 0
            borders.append([u, u + 1, tap, number, shift, rows(shift)])
        before = reads
    return parts + [number for part in borders for number in part]


def _rows_alike(axis: Axis, in_place: bool) -> NDArray[np.int64]:
    """Return how many rows of outputs from each on read the same taps, all evenly apart.

    Those of a gathered block always are, and others where they are as far apart as most of the axis.
    """
    phase, move = axis.phase, axis.phase.stride * column_step(axis)
    reads = axis.offsets[np.arange(phase.count)[:, None] * phase.stride + np.arange(len(phase.taps)) * phase.dilation]
    before, behind = reads[:-1], reads[1:]
    if in_place:
        is_alike = (np.where(before >= 0, before + move, -1) == behind).all(axis=1)
    else:
        is_alike = ((before >= 0) == (behind >= 0)).all(axis=1)
    alike = np.ones(phase.count, np.int64)
    for row in np.flatnonzero(is_alike)[::-1]:
        alike[row] += alike[row + 1]
    return alike


def _ahead_steps(fields: dict[int, int], channels: int, lanes: int) -> list[int]:
    """Return by how many numbers what is fetched ahead lies behind a tile, for each register of its channels.

    For tiles of LONG, SHORT, STREAMED and APART outputs, an offset in the input and one in the output: those of the
    tiles next to it, in the input of the next row or, where the kernel has one, behind the tile's taps. Together the
    registers of a tile fetch as many pixels as it has, in the order in which they lie.
    """
    steps, strided = [], fields[at.COLUMN_BASE]
    for rows in (LONG, SHORT, STREAMED, APART):
        before = 0
        if fields[at.ROW_REACH] == 1:
            least = AHEAD_NUMBERS // channels if rows < SHORT else 2 * LONG
            before = max(rows + -(-fields[at.COLUMN_REACH] // strided), least)
        for vector in range(-(-channels // lanes)):
            pixel, channel = divmod(vector * rows * lanes, channels)
            read = (before + pixel) * strided * fields[at.COLUMN_STEP] + channel * strided
            steps += [read, (rows + pixel) * fields[at.Y_PIXEL] + channel]
    return steps


def _channel_fields(spec: ConvSpec, direction: str, x_channel: int, lanes_summed: int) -> dict[int, int]:
    """Return the fields that say how output channels read the input's channels, ``x_channel`` apart, and the kernel."""
    forward, group, multiplier = direction == "forward", spec.in_channels_per_group, spec.depth_multiplier
    fields = {
        at.OUT_CHANNELS: spec.out_channels if forward else spec.in_channels * lanes_summed, at.SUMMED: group,
        at.REPEAT: 1, at.LANES_SUMMED: lanes_summed,
    }  # fmt: skip
    if group > 1:
        size = GROUP_SIZES.index(group)
        fields |= {at.X_CHANNEL: x_channel, at.FIRST_TILE: size * TILES, at.FIRST_STRIP: size * STRIPS}
        if forward:
            return fields | {at.KERNEL_WITHIN: 1, at.KERNEL_GROUP: 1, at.KERNEL_CHANNEL: spec.out_channels}
        return fields | {
            at.KERNEL_WITHIN: group, at.KERNEL_GROUP: group, at.KERNEL_COLUMN: spec.out_channels, at.KERNEL_CHANNEL: 1,
        }  # fmt: skip
    fields |= {at.FIRST_TILE: 0, at.FIRST_STRIP: 0, at.KERNEL_WITHIN: 1}
    if forward:
        return fields | {at.X_CHANNEL: x_channel, at.KERNEL_GROUP: 1, at.REPEAT: multiplier}
    step = multiplier // lanes_summed
    return fields | {at.X_CHANNEL: x_channel * step, at.KERNEL_GROUP: step}


def _strip(spec: ConvSpec, direction: str, phases: int) -> int:
    """Return how many rows of each phase are made in turn, of blocks that are read in place.

    Few of several phases, so that their input is still in a cache, and one where results go to memory: the phases'
    lines lie between each other.
    """
    if phases == 1:
        return MOST_LINES
    size = math.prod(spec.result_shape(direction)) * np.dtype(spec.dtype).itemsize
    return PHASE_LINES if size < TARGET.l3_bytes // 2 else 1


def _leaves_caches(spec: ConvSpec, direction: str) -> bool:
    """Whether a result is so large that it is stored past the caches, and all of whole registers and cache lines."""
    is_whole = WHOLE_LINES and spec.result_shape(direction)[-1] % TARGET.lanes(spec.dtype) == 0
    return is_whole and exceeds_caches(spec, direction)


def _strip_fields(lattice: Lattice, summed: int, in_place: bool, channels: int, lanes: int) -> dict[int, int]:
    """Return the fields of strips of some rows of outputs, which need neighbouring taps and padding with zeros."""
    rows, columns = lattice.rows.phase, lattice.columns.phase
    is_even = rows.dilation == columns.dilation == 1 and rows.stride == columns.stride <= 2
    has_tiles = is_even and channels >= lanes
    taps = strip_taps(len(rows.taps), len(columns.taps), rows.stride, summed) if has_tiles else None
    if in_place:
        first, last = unit_columns(lattice.columns.offsets, column_step(lattice.columns))
        if last - first != np.count_nonzero(lattice.columns.offsets >= 0):
            taps = None
    if taps is None or rows.count < PAIR_ROWS or columns.count < NARROW_COLUMNS:
        return {at.STRIP_TAPS: -1, at.STRIP_ROWS: 1, at.STRIP_ENTRIES: 0}
    items = lattice.batch * math.prod(len(axis.phase.table) for axis in lattice.axes) * channels
    streams = 2 * items * TARGET.vector_bytes // lanes > TARGET.l3_bytes // STREAMED_PART
    entries = SQUARE_ROWS + SQUARE if taps == 0 else len(rows.taps) * (1 + PAIR_ROWS)
    return {
        at.STRIP_TAPS: taps, at.STRIP_ROWS: PAIR_ROWS if taps or summed > 1 else SQUARE_ROWS, at.STRIP_ENTRIES: entries,
        at.STRIP_GROUPS: len(columns.taps) // (taps or SQUARE), at.STRIP_AHEAD: int(streams or summed > 1),
    }  # fmt: skip


def _product_record(
    lattice: Lattice,
    block: ProductBlock,
    in_place: bool,
    outputs: int,
    channel_fields: dict[int, int],
    lanes: int,
) -> Record:
    """Return the record of one phase of a forward pass or an input gradient."""
    record = Record(task_counts(lattice, block.rows, block.columns))
    describe_reads(record, lattice, block.rows, block.columns, block.channels, in_place, merged=False)
    rows, columns, fields = lattice.rows.phase, lattice.columns.phase, record.fields
    parts = _column_parts(lattice.columns, in_place, channel_fields[at.SUMMED] == 1, outputs)
    pixel = fields[at.COLUMN_STEP] if in_place else block.channels
    fields |= channel_fields
    fields |= {
        at.PANEL_CHUNKS: -(-fields[at.OUT_CHANNELS] // block.channels), at.PIXEL_STRIDE: columns.stride * pixel,
        at.ROW_TAPS: len(rows.taps), at.ROW_TAP_STEP: rows.dilation, at.COLUMN_TAPS: len(columns.taps),
        at.COLUMN_TAP_STEP: columns.dilation, at.COLUMN_PARTS: len(parts) // at.PART_SIZE,
    }  # fmt: skip
    if in_place:
        fields[at.ROW_STRIDE] = rows.stride * column_step(lattice.rows)
    positions = np.arange(fields[at.TAP_COLUMNS]) * block.channels
    record.tables |= {
        at.KERNEL_TAPS: kernel_offsets(lattice, all_taps=False),
        at.PART_TABLE: parts,
        at.COLUMN_OFFSETS: lattice.columns.offsets if in_place else positions,
        at.AHEAD_TABLE: _ahead_steps(fields, block.channels, lanes),
        at.ROWS_ALIKE: _rows_alike(lattice.rows, in_place),
    }
    return record


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> ProductPlan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    lanes, lanes_summed = TARGET.lanes(spec.dtype), lanes_summed_of(spec, direction, x_strides[-1])
    channel_fields = _channel_fields(spec, direction, x_strides[-1], lanes_summed)
    channels, summed = channel_fields[at.OUT_CHANNELS], channel_fields[at.SUMMED]
    in_place = channel_fields[at.REPEAT] == 1 and channel_fields[at.X_CHANNEL] == 1 and channels >= lanes
    phases = _product_lattices(spec, direction, x_strides, y_strides, lanes_summed)
    extents = tuple(lattice_extent(each, summed, channels, 1, in_place, spec.dtype) for each in phases)
    strips = [_strip_fields(each, summed, in_place, channels, lanes) for each in phases]
    by_choice = in_place and is_gathered(extents[0], x_strides[-2], strips[0][at.STRIP_TAPS] >= 0)
    if by_choice:
        strips = [_strip_fields(each, summed, False, channels, lanes) for each in phases]
        in_place, extents = False, tuple(dataclasses.replace(each, in_place=False) for each in extents)
    has_strips = strips[0][at.STRIP_TAPS] >= 0
    block = choose_product_block(extents, by_choice, strips[0][at.STRIP_ROWS])
    records = []
    for extent, lattice, strip_fields in zip(extents, phases, strips, strict=True):
        outputs = tile_outputs(extent, lattice.columns.phase.dilation, x_strides[-2])
        records.append(_product_record(lattice, block, in_place, outputs, channel_fields | strip_fields, lanes))
    counts = {n: max(record.fields[n] for record in records) for n in (at.PLANES, at.ROW_BLOCKS, at.COLUMN_BLOCKS)}
    width = block.channels * records[0].fields[at.PANEL_CHUNKS]
    packed: dict[tuple[int, ...], int] = {}
    size, gathered, listed = 0, 0, 0
    for record in records:
        fields, taps = record.fields, tuple(record.tables[at.KERNEL_TAPS])
        fields |= {at.PACKS: int(taps not in packed), at.PACKED: packed.setdefault(taps, size)}
        size += fields[at.PACKS] * round_up(len(taps) * block.channels * summed, 16)
        gathered = max(gathered, repeated_size(record, lanes))
        listed = max(listed, fields[at.PLANE_TAPS] * (2 * fields[at.ROW_TAPS] + AHEAD_ROWS) + 2 * len(taps))
        listed = max(listed, fields[at.PLANE_TAPS] * (fields[at.STRIP_ENTRIES] + SQUARE_ROWS))
        fields |= {
            at.TASK_PLANES: counts[at.PLANES], at.ROW_BLOCKS: counts[at.ROW_BLOCKS],
            at.COLUMN_BLOCKS: counts[at.COLUMN_BLOCKS],
        }  # fmt: skip
    first = round_up(gathered, 16)
    bounce = first + size
    runs = bounce + bounce_size(spec.dtype)
    workspace = runs + round_up(listed * 8 // np.dtype(spec.dtype).itemsize, 16)
    header = {
        at.WORKSPACE: workspace, at.SECOND: first, at.BOUNCE: bounce, at.RUNS: runs,
        at.STRIP: _strip(spec, direction, len(records)) if in_place and not has_strips else block.rows,
        at.PAST_CACHES: int(lanes_summed == 1 and _leaves_caches(spec, direction)),
    }  # fmt: skip
    fields = records[0].fields
    tasks = phases[0].batch * math.prod(counts.values()) * fields[at.PANEL_CHUNKS]
    bias_groups, bias_width = (1, width) if lanes_summed == 1 else (spec.in_channels, lanes_summed)
    return ProductPlan(assemble(header, records), tasks, workspace, bias_groups, bias_width)


def prepare(
    spec: ConvSpec,
    direction: str,
    first_strides: Strides,
    second_strides: Strides,
    activation: Ending = None,
    has_bias: bool = False,
) -> parallel.Launch:
    """Return what runs a pass: `run(x, kernel, y[, bias])`, for input gradients with grad_y as x and grad_x as y.

    For kernel gradients `run(x, grad_y, grad_kernel)`. Strides are in elements, with channels last; the kernel and the
    result are contiguous.
    """
    if direction == "kernel_grad":
        return gradient_launch(spec, first_strides, second_strides)
    shape = spec.result_shape(direction)
    plan = product_plan(spec, direction, first_strides, contiguous_strides(shape))
    parts, groups = (BiasPart(0, 1, plan.bias_width),), plan.bias_groups
    kernel = depthwise_forward if spec.in_channels_per_group == 1 else grouped_forward
    return launch_product(kernel, spec, plan, shape, parts, activation, has_bias, (0, 1, 1), (2,), groups)
