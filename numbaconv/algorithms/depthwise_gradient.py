"""Plans of the kernel gradient of depthwise layers and of groups of a few channels."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.axes import pass_axes
from numbaconv.algorithms.depthwise_blocking import GradientBlock, choose_gradient_block, crowds_l1
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    describe_reads,
    repeated_size,
    round_up,
    task_counts,
)
from numbaconv.algorithms.lattice import Axis, Lattice, lattices
from numbaconv.algorithms.plan_parts import GradientPlan, kernel_strides, lattice_extent, launch_gradient
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_gradient import MET, depthwise_kernel_gradient
from numbaconv.kernels.depthwise_gradient_streams import STREAM_TAPS
from numbaconv.kernels.depthwise_gradient_tiles import MOST_NUMBERS, strip_rows, tile_number, tile_sizes
from numbaconv.kernels.grouped import GROUP_SIZES, grouped_kernel_gradient
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

STREAMED_PART = 4
"""Part of L3 that input and grad_y have to exceed to count as read from memory."""


def _has_one_stretch(axis: Axis, first: int, last: int) -> bool:
    """Whether all positions outside [first, last) are zeros."""
    offsets = axis.offsets
    return bool((offsets[:first] < 0).all() and (offsets[last:] < 0).all())


@lru_cache(maxsize=1024)
def _fewest(length: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Cover ``length`` by the fewest of ``sizes``, as even as can be."""
    large = (max(sizes),) * max(0, length // max(sizes) - 2)
    best: list[tuple[int, ...]] = [()]
    for n in range(1, length - sum(large) + 1):
        ways = [(size, *best[n - size]) for size in sizes if size <= n]
        best.append(min(ways, key=lambda parts: (len(parts), -min(parts))))
    return large + best[-1]


def _visits(lattice: Lattice, plane_taps: int, group: int, strip: int) -> list[int]:
    """Return the tiles that cover the kernel, VISIT_SIZE numbers each, plane by plane; they take strips if they may."""
    kernel_rows, taps, sizes = len(lattice.rows.phase.taps), len(lattice.columns.phase.taps), tile_sizes(group)
    tap_sizes = _fewest(taps, tuple(sorted({size for size, _ in sizes})))
    # A tile of several kernel rows has all their taps.
    row_sizes = _fewest(kernel_rows, tuple(rows for size, rows in sizes if size == taps) or (1,))
    first = 0 if group == 1 else GROUP_SIZES.index(group) * MOST_NUMBERS
    visits, kernel_row = [], 0
    for rows in row_sizes * plane_taps:
        tap = 0
        for count in tap_sizes:
            visits.append([first + tile_number(count, rows, strip), kernel_row, rows, tap])
            tap += count
        kernel_row += rows
    return [number for visit in visits for number in visit]


def _all_bytes(spec: ConvSpec) -> int:
    return (math.prod(spec.x_shape) + math.prod(spec.y_shape)) * np.dtype(spec.dtype).itemsize


def _streams(spec: ConvSpec) -> bool:
    """Whether input and grad_y come from beyond the caches."""
    return _all_bytes(spec) > TARGET.l3_bytes // STREAMED_PART


def _strip_rows(lattice: Lattice, spec: ConvSpec) -> int:
    """Return of how many rows of pixels a tile holds grad_y: of several where these and the taps are neighbours.

    Strips of several ask for too many lines at once where these come from beyond the caches.
    """
    rows, columns = lattice.rows.phase, lattice.columns.phase
    is_apart = {rows.stride, rows.dilation, columns.stride, columns.dilation} != {1}
    if is_apart or _streams(spec):
        return 1
    return strip_rows(len(columns.taps), len(rows.taps), spec.in_channels_per_group)


def _ahead_step(lattice: Lattice, block: GradientBlock, spec: ConvSpec) -> int:
    """Return how many registers of input a block fetches of the next one with each pixel, 0 where it fetches nothing.

    What L2 does not hold is fetched, in the order of memory: a block's grad_y has to be one stretch of it.
    """
    rows, columns = lattice.rows, lattice.columns
    is_whole = block.channels >= spec.out_channels == columns.y_stride
    is_whole &= block.rows == 1 or rows.y_stride == block.columns * columns.y_stride
    if not is_whole or _all_bytes(spec) < TARGET.l2_bytes:
        return 0
    return min(rows.phase.stride, len(rows.phase.taps)) * min(columns.phase.stride, len(columns.phase.taps))


def _streamed_taps(lattice: Lattice, plane_taps: int, spec: ConvSpec) -> int:
    """Return the taps of a kernel of one short row, of whose pixels all channels are taken together, else 0."""
    rows, columns = lattice.rows.phase, lattice.columns.phase
    taps = len(columns.taps)
    is_row = plane_taps == len(rows.taps) == spec.in_channels_per_group == columns.stride == 1
    return taps if is_row and taps in STREAM_TAPS else 0


def _record(lattice: Lattice, block: GradientBlock, in_place: bool, spec: ConvSpec, x_channel: int) -> Record:
    """Return the record of one phase."""
    record = Record(task_counts(lattice, block.rows, block.columns))
    describe_reads(record, lattice, block.rows, block.columns, block.channels, in_place, merged=False)
    rows, columns, fields = lattice.rows.phase, lattice.columns.phase, record.fields
    if in_place and not _has_one_stretch(lattice.columns, fields[at.COLUMN_FIRST], fields[at.COLUMN_LAST]):
        return _record(lattice, block, False, spec, x_channel)
    strip = _strip_rows(lattice, spec)
    visits = _visits(lattice, fields[at.PLANE_TAPS], spec.in_channels_per_group, strip)
    ahead = _ahead_step(lattice, block, spec) if in_place and strip == 1 else 0
    fields |= {
        at.PANEL_CHUNKS: -(-spec.out_channels // block.channels), at.X_CHANNEL: x_channel,
        at.OUT_CHANNELS: spec.out_channels, at.REPEAT: spec.out_channels // spec.in_channels,
        at.SUMMED: spec.in_channels_per_group, at.KERNEL_TAP_COUNT: spec.taps, at.ROW_TAPS: len(rows.taps),
        at.ROW_TAP_STEP: rows.dilation, at.COLUMN_TAPS: len(columns.taps), at.COLUMN_TAP_STEP: columns.dilation,
        at.VISITS: len(visits) // at.VISIT_SIZE,
        at.AHEAD_STEP: ahead, at.STREAMED: _streamed_taps(lattice, fields[at.PLANE_TAPS], spec) if ahead else 0,
    }  # fmt: skip
    record.tables[at.VISIT_TABLE] = visits
    return record


@lru_cache(maxsize=512)
def gradient_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> GradientPlan:
    """Plan a kernel gradient; strides, in elements, of (batch, *spatial, channels)."""
    channels, lanes = spec.out_channels, TARGET.lanes(spec.dtype)
    phases = lattices(spec.batch, pass_axes(spec, "forward"), x_strides[:-1], y_strides[:-1], kernel_strides(spec)[:-2])
    in_place = spec.in_channels == channels and x_strides[-1] == 1 and channels >= lanes
    extents = tuple(
        lattice_extent(each, spec.in_channels_per_group, channels, 1, in_place, spec.dtype) for each in phases
    )
    if in_place and crowds_l1(extents[0], x_strides[-2]):
        in_place, extents = False, tuple(dataclasses.replace(each, in_place=False) for each in extents)
    block = choose_gradient_block(extents, _strip_rows(phases[0], spec), _streams(spec))
    records, blocks, gathered, pixels, listed = [], 0, 0, 0, 0
    for lattice in phases:
        record = _record(lattice, block, in_place, spec, x_strides[-1])
        fields = record.fields
        fields[at.FIRST_TASK] = blocks
        blocks += block_count(record)
        gathered = max(gathered, repeated_size(record, lanes))
        pixels = max(pixels, fields[at.BLOCK_ROWS] * fields[at.BLOCK_COLUMNS])
        kernel_rows = fields[at.PLANE_TAPS] * fields[at.ROW_TAPS]
        listed = max(listed, kernel_rows * fields[at.BLOCK_ROWS] + MET * fields[at.VISITS])
        records.append(record)
    chunks = min(block.chunks, blocks)
    second = round_up(gathered, 16)
    is_narrow = channels - (records[0].fields[at.PANEL_CHUNKS] - 1) * block.channels < lanes
    bounce = second + (pixels * block.channels if is_narrow else 0)
    runs = round_up(bounce + lanes, 16)
    sums = runs + round_up(listed * 8 // np.dtype(spec.dtype).itemsize, 16)
    size = math.prod(spec.kernel_shape)
    workspace = sums + round_up(spec.taps * spec.in_channels_per_group * block.channels, 16)
    header = {
        at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: bounce, at.RUNS: runs, at.SUMS: sums,
        at.CHUNKS: chunks, at.BLOCKS: blocks, at.GRADIENT_SIZE: size,
    }  # fmt: skip
    counters = records[0].fields[at.PANEL_CHUNKS]
    partial = size * chunks if chunks > 1 else 0
    return GradientPlan(assemble(header, records), counters * chunks, workspace, partial, counters)


def gradient_launch(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> parallel.Launch:
    """Return a launch on (x, grad_y, grad_kernel)."""
    kernel = depthwise_kernel_gradient if spec.in_channels_per_group == 1 else grouped_kernel_gradient
    return launch_gradient(kernel, spec, gradient_plan(spec, x_strides, y_strides))
