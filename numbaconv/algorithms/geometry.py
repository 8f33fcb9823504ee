"""Writes the geometry array of `numbaconv.kernels.layout` for the phases of a pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from numbaconv.algorithms.lattice import Axis, Lattice
from numbaconv.kernels import layout as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES, split_rows
from numbaconv.target import TARGET


def round_up(n: int, unit: int) -> int:
    """Return the next multiple of ``unit``."""
    return -(-n // unit) * unit


def bounce_size(dtype: str, tiles: int = 1) -> int:
    """Return the elements of a buffer that holds so many of any register tile and three more registers."""
    return round_up((2 * max(WIDE_SIZES[0], 14) * tiles + 3) * TARGET.lanes(dtype), 16)


@dataclass
class Record:
    """One phase record: fields by index, tables by the field that holds their position."""

    fields: dict[int, int] = field(default_factory=dict)
    tables: dict[int, Sequence[int] | NDArray[np.int64]] = field(default_factory=dict)


def assemble(header: dict[int, int], records: list[Record]) -> NDArray[np.int64]:
    """Lay header, records and tables out in one array; positions of tables count from their record's start."""
    shared: dict[bytes, int] = {}
    end = at.HEADER_SIZE + len(records) * at.RECORD_SIZE
    values = np.zeros(end, np.int64)
    parts = [values]
    for name, value in {**header, at.PHASES: len(records), at.RECORDS: at.HEADER_SIZE}.items():
        values[name] = value
    for number, record in enumerate(records):
        start = at.HEADER_SIZE + number * at.RECORD_SIZE
        for name, value in record.fields.items():
            values[start + name] = value
        for name, table in record.tables.items():
            numbers = np.asarray(table, np.int64)
            key = numbers.tobytes()
            if key not in shared:
                shared[key] = end
                parts.append(numbers)
                end += len(numbers)
            values[start + name] = shared[key] - start
    return np.concatenate(parts)


def plane_offsets(planes: tuple[Axis, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offset of the input of every (output plane, plane tap), -1 for padding, and of every output plane."""
    reads, writes = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)
    for axis in planes:
        phase = axis.phase
        positions = np.arange(phase.count)[:, None] * phase.stride + np.arange(len(phase.taps)) * phase.dilation
        offsets = axis.offsets[positions]
        outer, inner = reads[:, None, :, None], offsets[None, :, None, :]
        pairs = np.where((outer < 0) | (inner < 0), -1, outer + inner)
        reads = pairs.reshape(reads.shape[0] * phase.count, reads.shape[1] * len(phase.taps))
        writes = (writes[:, None] + np.arange(phase.count) * axis.y_stride).ravel()
    return reads.ravel(), writes


def unit_columns(table: NDArray[np.int64], step: int) -> tuple[int, int]:
    """Return the longest stretch [first, last) of positions that lie ``step`` apart in the input."""
    joined = (table[1:] >= 0) & (table[:-1] >= 0) & (table[1:] - table[:-1] == step)
    bounded = np.concatenate([[False], joined, [False]])
    edges = np.flatnonzero(bounded[1:] != bounded[:-1])
    if not edges.size:
        inside = np.flatnonzero(table >= 0)
        return (int(inside[0]), int(inside[0]) + 1) if inside.size else (0, 0)
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest]) + 1


def column_step(axis: Axis) -> int:
    """Return the distance in the input of most neighbouring positions."""
    offsets = axis.offsets
    differences = (offsets[1:] - offsets[:-1])[(offsets[1:] >= 0) & (offsets[:-1] >= 0)]
    if not differences.size:
        return 1
    values, counts = np.unique(differences, return_counts=True)
    return int(values[np.argmax(counts)])


def tile_list(count: int, vectors: float, of_gradient: bool = False) -> list[int]:
    """Return the number of tiles that cover ``count``, then their sizes."""
    tiles = split_rows(count, vectors, of_gradient)
    return [len(tiles), *tiles]


def is_in_place(lattice: Lattice, channel_stride: int, groups: int) -> bool:
    """Whether the taps can be read where the input lies: no padding, channels contiguous, pixels equally far apart."""
    axes = lattice.axes
    dense_groups = groups == 1 or len(lattice.columns.phase.taps) == 1
    return channel_stride == 1 and dense_groups and all(axis.is_affine and axis.phase.taps for axis in axes)


def with_taps(phases: list[Lattice]) -> list[Lattice]:
    """Return the phases whose outputs read any input; one without where there is no other."""
    return [phase for phase in phases if phase.has_taps] or phases[:1]


def has_merged_run(lattice: Lattice, channels: int, in_place: bool, pitch: int = 0) -> bool:
    """Whether the taps of one kernel row are one contiguous run; gathered pixels lie ``pitch`` numbers apart."""
    columns = lattice.columns
    if len(columns.phase.taps) <= 1:
        return True
    if columns.phase.dilation != 1 or columns.packed_stride != 1:
        return False
    return (columns.position_step if in_place else pitch or channels) == channels


def describe_reads(
    record: Record,
    lattice: Lattice,
    block_rows: int,
    block_columns: int,
    channels: int,
    in_place: bool,
    merged: bool,
    images: int = 1,
    pitch: int = 0,
) -> None:
    """Fill in how a block's input is found and how its taps are laid out; `merged`: a kernel row's taps are one run.

    Gathered pixels lie ``pitch`` numbers apart, ``channels`` unless that is given.
    """
    pitch = pitch or channels
    rows, columns = lattice.rows, lattice.columns
    plane_taps = 1
    for axis in lattice.planes:
        plane_taps *= len(axis.phase.taps)
    tap_rows = (block_rows - 1) * rows.phase.stride + rows.phase.reach
    tap_columns = (block_columns - 1) * columns.phase.stride + columns.phase.reach
    reads, writes = plane_offsets(lattice.planes)
    offsets = columns.offsets
    step = column_step(columns)
    first, last = unit_columns(offsets, step)
    if in_place:
        row_size, pixel = rows.position_step, columns.position_step
        plane_steps = [axis.position_step for axis in lattice.planes]
    else:
        row_size, pixel = tap_columns * pitch, pitch
        plane_steps = []
        size = tap_rows * row_size
        for axis in reversed(lattice.planes):
            plane_steps.insert(0, size)
            size *= len(axis.phase.taps)
    taps = _tap_offsets(lattice, plane_steps, row_size, pixel, merged, in_place)
    run_taps = max(len(columns.phase.taps), 1) if merged else 1
    record.fields |= {
        at.IN_PLACE: int(in_place), at.PLANE_TAPS: plane_taps, at.COLUMN_FIRST: first, at.COLUMN_LAST: last,
        at.COLUMN_STEP: step, at.CHANNELS: channels, at.ROW_STEP: rows.phase.stride, at.ROW_REACH: rows.phase.reach,
        at.COLUMN_REACH: columns.phase.reach, at.COLUMN_BASE: columns.phase.stride, at.TAP_ROWS: tap_rows,
        at.TAP_COLUMNS: tap_columns, at.TAPS: len(taps), at.RUN: run_taps * channels,
        at.PIXEL_STRIDE: columns.phase.stride * pixel, at.ROW_STRIDE: rows.phase.stride * row_size,
        at.IMAGES: images, at.IMAGE_STRIDE: lattice.x_batch if in_place else plane_taps * tap_rows * row_size,
        at.BATCH_BLOCKS: math.ceil(lattice.batch / images), at.PIXEL_PITCH: pitch,
    }  # fmt: skip
    record.tables |= {
        at.PLANE_TABLE: reads, at.ROW_TABLE: rows.offsets, at.COLUMN_TABLE: offsets, at.TAP_OFFSETS: taps,
        at.Y_PLANES: lattice.y_start + writes,
    }  # fmt: skip


def _tap_offsets(
    lattice: Lattice, plane_steps: list[int], row_size: int, pixel: int, merged: bool, in_place: bool
) -> list[int]:
    """Return the offset of every run of taps from the first number that a pixel reads."""
    axes = lattice.axes
    steps: list[int] = []
    for axis, step in zip(axes, (*plane_steps, row_size, pixel), strict=True):
        # A gathered plane tap has a plane of its own; other positions are a dilation apart.
        spread = in_place or axis is lattice.rows or axis is lattice.columns
        steps.append(step * (axis.phase.dilation if spread else 1))
    counts = [len(axis.phase.taps) for axis in axes]
    if merged and counts[-1]:
        counts[-1] = 1
    return [
        sum(j * step for j, step in zip(tap, steps, strict=True))
        for tap in itertools.product(*(range(count) for count in counts))
    ]


def ahead_step(record: Record, visits: int, all_groups: bool) -> int:
    """Return how many numbers a kernel gradient fetches ahead with each pixel of a tile's visit.

    All ``visits`` of a block together fetch the next one's input and grad_y, unless tasks take some of the groups,
    whose numbers are too far apart.
    """
    if not all_groups:
        return 0
    fields = record.fields
    of_pixel = fields[at.Y_PIXEL] + fields[at.COLUMN_BASE] * fields[at.COLUMN_STEP] * fields[at.ROW_STEP]
    if fields[at.ROWS_AHEAD]:
        of_pixel = fields[at.Y_PIXEL]
    return -(-of_pixel // max(visits, 1))


def gathered_size(record: Record) -> int:
    """Return the elements of a gathered block, 0 when the taps are read in place."""
    if record.fields[at.IN_PLACE]:
        return 0
    extents = (at.IMAGES, at.PLANE_TAPS, at.TAP_ROWS, at.TAP_COLUMNS, at.PIXEL_PITCH)
    return math.prod(record.fields[extent] for extent in extents)


def repeated_size(record: Record, lanes: int) -> int:
    """Return the elements of a gathered block whose channels are repeated: behind it, the channels as they are."""
    size, repeat = gathered_size(record), record.fields[at.REPEAT]
    if size == 0 or repeat == 1:
        return size
    width = record.fields[at.PIXEL_PITCH]
    return size + repeat + 2 * lanes + size // width * (-(-width // repeat) + 1)


def packed_order(lattice: Lattice) -> tuple[Axis, ...]:
    """Return the axes in the order of the packed kernel's taps."""
    return tuple(sorted(lattice.axes, key=lambda axis: -axis.packed_stride * len(axis.phase.kernel_taps)))


def segments(lattice: Lattice, channels: int) -> list[int]:
    """Return where the stretches of the output begin that the outputs side by side, ``channels`` each, fill."""
    offsets = [0]
    for axis in packed_order(lattice):
        step = axis.y_stride // axis.phase.step
        offsets = [offset + i * step for offset in offsets for i in range(axis.phase.width)]
    return [offset for n, offset in enumerate(offsets) if n == 0 or offset != offsets[n - 1] + channels]


def kernel_offsets(lattice: Lattice, all_taps: bool) -> list[int]:
    """Return the offset in the kernel of the lattice's taps, or of all taps of its packed kernel in their order.

    Outputs side by side have an offset each, one after the other, and -1 where the output has no such tap.
    """
    axes = packed_order(lattice) if all_taps else lattice.axes
    offsets = np.zeros((1, 1), np.int64)
    for axis in axes:
        taps = axis.phase.kernel_taps if all_taps else axis.phase.taps
        shape = (len(taps), axis.phase.width)
        positions = np.array(taps, np.int64).reshape(shape)
        steps = np.where(positions < 0, -1, positions * axis.kernel_stride)
        outer, inner = offsets[:, None, :, None], steps[None, :, None, :]
        pairs = np.where((outer < 0) | (inner < 0), -1, outer + inner)
        offsets = pairs.reshape(offsets.shape[0] * shape[0], offsets.shape[1] * shape[1])
    return offsets.ravel().tolist()


def packed_offsets(lattice: Lattice, merged: bool, channels: int) -> list[int]:
    """Return the row of the packed kernel where each run of taps begins; a tap has ``channels`` rows."""
    positions = [axis.packed_taps for axis in lattice.axes]
    if merged:
        positions[-1] = positions[-1][:1]
    return [sum(tap) * channels for tap in itertools.product(*positions)]


def task_counts(lattice: Lattice, block_rows: int, block_columns: int) -> dict[int, int]:
    """Return the fields that a task number is decoded with, without groups and panels."""
    planes = 1
    for axis in lattice.planes:
        planes *= axis.phase.count
    rows, columns = lattice.rows.phase.count, lattice.columns.phase.count
    return {
        at.BATCH: lattice.batch, at.PLANES: planes, at.ROW_BLOCKS: -(-rows // block_rows),
        at.COLUMN_BLOCKS: -(-columns // block_columns), at.BLOCK_ROWS: block_rows, at.BLOCK_COLUMNS: block_columns,
        at.OUT_ROWS: rows, at.OUT_COLUMNS: columns, at.X_BATCH: lattice.x_batch, at.Y_BATCH: lattice.y_batch,
        at.Y_ROW: lattice.rows.y_stride, at.Y_PIXEL: lattice.columns.y_stride,
    }  # fmt: skip


def block_count(record: Record) -> int:
    """Return the number of pixel blocks of a phase."""
    counts = (at.BATCH_BLOCKS, at.PLANES, at.ROW_BLOCKS, at.COLUMN_BLOCKS)
    return math.prod(record.fields[count] for count in counts)
