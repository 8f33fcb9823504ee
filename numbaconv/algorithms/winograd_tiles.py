"""Phases of a pass as tiles of Winograd's algorithm, and the part of their records that all of its kernels read."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv.algorithms.axes import AxisPhase, identity_axis, pass_axes, without_dilation
from numbaconv.algorithms.cache_sets import pixels_in_l1
from numbaconv.algorithms.geometry import Record, column_step, kernel_offsets, plane_offsets, round_up, tile_list
from numbaconv.algorithms.lattice import Axis, Lattice, lattices
from numbaconv.algorithms.plan_parts import kernel_strides, product_channels
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.kernels.winograd_points import LEAST_POINTS, POINTS
from numbaconv.kernels.winograd_tall import TALL_POINTS, TALL_TAPS
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import CACHE_LINE, TARGET

MAX_KERNEL_BYTES = 256 << 20
"""A transformed kernel has up to 36 numbers for 4; one that would be larger than this is not made."""

MAX_TAPS = 64
"""Taps along a transformed axis: the input is transformed anew for each part of them."""

_TWO_AXES, _ONE_AXIS = (1.0, 1.0) if TARGET.fma_per_cycle > 1 else (1.2, 1.3)
"""How much longer transforms take where a register is worked on in two halves."""

INPUT_CYCLES = {
    1: 16.0, POINTS: 55.0 * _ONE_AXIS, POINTS * POINTS: 240.0 * _TWO_AXES, TALL_POINTS * POINTS: 370.0 * _TWO_AXES,
}  # fmt: skip
"""Cycles to transform one register of channels of an input tile, by points."""

OUTPUT_CYCLES = {
    1: 40.0, POINTS: 80.0 * _ONE_AXIS, POINTS * POINTS: 320.0 * _TWO_AXES, TALL_POINTS * POINTS: 400.0 * _TWO_AXES,
}  # fmt: skip
KERNEL_CYCLES = {
    1: 60.0, POINTS: 90.0 * _ONE_AXIS, POINTS * POINTS: 480.0 * _TWO_AXES, TALL_POINTS * POINTS: 720.0 * _TWO_AXES,
}  # fmt: skip
"""Cycles to transform the taps of one channel and panel."""

TALL_SUMMED = 32
"""Numbers that are summed besides the taps, at least, where tiles are tall: with fewer their error is too large."""

GROUP_CYCLES = 24.0 if TARGET.is_intel else 8.0
"""Cycles of reading a pixel of a group, which is a stretch of memory of its own, besides those of its registers."""

FAR_BYTES, FAR_PIXEL_CYCLES = 2048, 30.0
"""Bytes from pixel to pixel of a tile, others between them, from which each is far from the next, and what it costs."""

CACHE_BYTES_PER_CYCLE = 12.0
KERNEL_BYTES_PER_CYCLE, FAR_KERNEL_BYTES_PER_CYCLE = 36.0, 20.0
"""Of a transformed kernel, which each block reads in the order of memory while its products run: from L2 or L3, and of
one that L3 does not hold beside the rest."""

NARROW_PANEL = 0.8
"""What a panel of one register costs beside one of two: each number of the input is loaded for half the products."""

POINT_CYCLES = 14.0
"""Cycles to enter and leave one register tile."""


@dataclass(frozen=True, slots=True)
class TilePhase:
    """One phase: its lattice with rows and columns in the roles of the tiles, and what a tile is along them."""

    lattice: Lattice
    row_points: int
    column_points: int

    @property
    def points(self) -> int:
        """Products that a tile needs for each pair of channels."""
        return self.row_points * self.column_points

    @property
    def outputs(self) -> tuple[int, int]:
        """Outputs of a tile along rows and columns."""
        return (
            outputs_of(self.lattice.rows.phase, self.row_points),
            outputs_of(self.lattice.columns.phase, self.column_points),
        )

    @property
    def planes(self) -> int:
        """Output planes of an image."""
        return math.prod(axis.phase.count for axis in self.lattice.planes)

    @property
    def plane_taps(self) -> int:
        """Taps along axes that are not transformed."""
        return math.prod(len(axis.phase.taps) for axis in self.lattice.planes)

    @property
    def run_planes(self) -> int:
        """Planes of an image each of which reads what the next one does but for the first; 0 where they do not."""
        reads = np.reshape(plane_offsets(self.lattice.planes)[0], (self.planes, self.plane_taps))
        return self.planes if self.plane_taps > 1 and np.array_equal(reads[1:, :-1], reads[:-1, 1:]) else 0

    @property
    def taps(self) -> tuple[int, int]:
        """Taps of a part of the kernel along rows and columns."""
        return part_taps(self.lattice.rows.phase), part_taps(self.lattice.columns.phase)

    @property
    def parts(self) -> tuple[int, int]:
        """Parts that a kernel's taps along rows and columns are dealt into."""
        rows, columns = self.taps
        return -(-len(self.lattice.rows.phase.taps) // rows), -(-len(self.lattice.columns.phase.taps) // columns)

    @property
    def summed_taps(self) -> int:
        """Taps, and parts of a kernel's taps along transformed axes, that are summed over like channels."""
        return self.plane_taps * math.prod(self.parts)

    @property
    def tile_rows(self) -> int:
        """Tiles that cover the rows."""
        return -(-self.lattice.rows.phase.count // self.outputs[0])

    @property
    def tile_columns(self) -> int:
        """Tiles that cover the columns."""
        return -(-self.lattice.columns.phase.count // self.outputs[1])

    @property
    def tiles(self) -> int:
        """All tiles."""
        return self.lattice.batch * self.planes * self.tile_rows * self.tile_columns


@dataclass(frozen=True, slots=True)
class TileKinds:
    """Tiles of a phase by their points: the last ones along an axis may have fewer."""

    full_rows: int  # rows of tiles that have all points along the rows
    full_columns: int
    last_row_points: int  # points of the others
    last_column_points: int
    ends: tuple[int, int, int, int]  # numbers behind the tiles of each kind, see `numbaconv.kernels.winograd_layout`
    ranges: tuple[tuple[int, int], ...]  # first tile that has a point, and the one behind the last

    @property
    def share(self) -> float:
        """Share of the products of tiles and points that are made."""
        return sum(end - begin for begin, end in self.ranges) / (len(self.ranges) * max(self.ends[-1], 1))


@lru_cache(maxsize=512)
def tile_kinds(phase: TilePhase) -> TileKinds:
    """Return the kinds of a phase's tiles."""
    rows = _last_points(phase.lattice.rows.phase, phase.row_points)
    columns = _last_points(phase.lattice.columns.phase, phase.column_points)
    full_rows = phase.tile_rows - (rows < phase.row_points)
    full_columns = phase.tile_columns - (columns < phase.column_points)
    planes = phase.lattice.batch * phase.planes
    before = planes * full_rows * (phase.tile_columns - full_columns)
    whole = before + planes * full_rows * full_columns
    behind = whole + planes * (phase.tile_rows - full_rows) * full_columns
    ranges = [
        (before if j >= columns else 0, (behind if j >= columns else phase.tiles) if i < rows else whole)
        for i in range(phase.row_points)
        for j in range(phase.column_points)
    ]
    return TileKinds(full_rows, full_columns, rows, columns, (before, whole, behind, phase.tiles), tuple(ranges))


def _last_points(phase: AxisPhase, points: int) -> int:
    """Return how many points the last tile along an axis needs for the outputs that are left to it."""
    rest = phase.count % outputs_of(phase, points)
    return max(LEAST_POINTS, rest + part_taps(phase) - 1) if rest and points < TALL_POINTS else points


def covers(kinds: TileKinds, block: int, vectors: int) -> list[int]:
    """Return for up to ``block`` tiles where the list of the register tiles that cover so many begins, then the lists.

    Only those numbers have one that blocks of ``block`` tiles have of any point. A list begins with its length.
    """
    tiles, counts = kinds.ends[-1], {0}
    # Elsewhere all of a block's tiles have the same points.
    for edge in {0, *kinds.ends}:
        for first in {max(edge - 1, 0) // block * block, min(edge, tiles - 1) // block * block}:
            last = min(first + block, tiles)
            counts |= {max(min(end, last) - max(begin, first), 0) for begin, end in set(kinds.ranges)}
    starts = [0] * (block + 1)
    lists: list[int] = []
    for count in sorted(counts):
        starts[count] = len(starts) + len(lists)
        lists += tile_list(count, vectors)
    return starts + lists


def part_taps(phase: AxisPhase) -> int:
    """Return of how many taps along an axis one transform takes care: of all up to five, of the cheaper of 3 and 4."""
    taps = len(phase.taps)
    if taps < POINTS:
        return taps
    return min((4, 3), key=lambda part: -(-taps // part) / (POINTS - part + 1))


def outputs_of(phase: AxisPhase, points: int) -> int:
    """Return the outputs of a tile along one axis."""
    return points - part_taps(phase) + 1 if points > 1 else 1


def is_transformable(phase: AxisPhase) -> bool:
    """Whether the outputs of a phase along one axis can be made by a transform."""
    return phase.stride == 1 and phase.dilation == 1 and 2 <= len(phase.taps) <= MAX_TAPS and phase.count > 1


def wide_panels(outs: int, narrow: float = NARROW_PANEL) -> float:
    """Return how many panels of two registers cost as much as those of ``outs`` output channels.

    One of a single register costs ``narrow`` of a whole one.
    """
    lanes = TARGET.lanes("float32")
    rest = outs % (2 * lanes)
    return outs // (2 * lanes) + (0.0 if rest == 0 else narrow if rest <= lanes else 1.0)


def input_cycles(phase: TilePhase, channels: int, groups: int) -> float:
    """Return about how many cycles it takes to transform the input of one tile of a group."""
    registers = -(-channels // TARGET.lanes("float32"))
    apart = phase.points * GROUP_CYCLES if groups > 1 else 0.0
    step = column_step(phase.lattice.columns)
    if 4 * step >= FAR_BYTES and step > channels * groups:
        apart += phase.points * FAR_PIXEL_CYCLES
    return phase.summed_taps * (registers * INPUT_CYCLES[phase.points] + apart)


@dataclass(frozen=True, slots=True)
class _Copies:
    """How many phases of an axis are alike, and how far apart, in positions of the input and of the output."""

    count: int
    reads: int
    writes: int


def _shift(phase: AxisPhase, other: AxisPhase) -> tuple[int, int] | None:
    """Return by how much another phase reads and writes further on, None where it differs in more than that."""
    alike = (phase.count, phase.step, phase.stride, phase.taps) == (other.count, other.step, other.stride, other.taps)
    inside = phase.table >= 0
    if not alike or not inside.any() or not np.array_equal(inside, other.table >= 0):
        return None
    steps = (other.table - phase.table)[inside]
    return (int(steps[0]), other.start - phase.start) if (steps == steps[0]).all() else None


def _alike(phases: list[AxisPhase]) -> list[tuple[AxisPhase, _Copies]]:
    """Return the first of each stretch of phases that are alike and equally far apart, and what the stretch is."""
    found: list[tuple[AxisPhase, _Copies]] = []
    for phase in phases:
        shift = _shift(found[-1][0], phase) if found else None
        if shift is not None and min(shift) > 0:
            first, copies = found[-1]
            step = shift if copies.count == 1 else (copies.reads, copies.writes)
            if shift == (copies.count * step[0], copies.count * step[1]):
                found[-1] = first, _Copies(copies.count + 1, *step)
                continue
        found.append((phase, _Copies(1, 0, 0)))
    return found


def _with_copies(lattice: Lattice, copies: dict[AxisPhase, _Copies]) -> Lattice:
    """Return a lattice with one more axis of planes for each of its axes whose phase has others like it."""
    planes = [
        Axis(
            identity_axis(found.count), axis.x_stride * found.reads,
            axis.y_stride // axis.phase.step * found.writes, 0, 0,
        )
        for axis in lattice.axes
        if (found := copies.get(axis.phase)) is not None and found.count > 1
    ]  # fmt: skip
    return dataclasses.replace(lattice, planes=(*planes, *lattice.planes)) if planes else lattice


def tile_phases(
    spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides, are_apart: bool = False
) -> list[TilePhase]:
    """Return the phases of a pass; along each axis dilated taps are phases of neighbouring ones.

    Those that are alike are planes of one phase unless they ``are_apart``, or taps along planes are summed: then each
    has runs of planes.
    """
    reads = "input_grad" if direction == "input_grad" else "forward"
    axes = [[part for phase in axis for part in without_dilation(phase)] for axis in pass_axes(spec, reads)]
    copies: dict[AxisPhase, _Copies] = {}
    if not are_apart and sum(taps > 1 for taps in spec.kernel_size) <= 2:
        stretches = [_alike(axis) for axis in axes]
        copies = dict(itertools.chain.from_iterable(stretches))
        axes = [[phase for phase, _ in stretch] for stretch in stretches]
    kernel = kernel_strides(spec)[:-2]
    found = lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], kernel)
    phases = [_with_roles(_with_copies(lattice, copies)) for lattice in found]
    summed = product_channels(spec, direction)[0] * min(phase.plane_taps for phase in phases)
    if (direction == "kernel_grad" or summed >= TALL_SUMMED) and all(map(_is_tall, phases)):
        return [dataclasses.replace(phase, row_points=TALL_POINTS) for phase in phases]
    return phases


def _is_tall(phase: TilePhase) -> bool:
    """Whether tall tiles serve a phase, with fewer points."""
    rows, columns = phase.lattice.rows.phase, phase.lattice.columns.phase
    if not phase.row_points == phase.column_points == POINTS or not len(rows.taps) == len(columns.taps) == TALL_TAPS:
        return False
    return _all_points(rows, TALL_POINTS) < _all_points(rows, POINTS)


def _all_points(phase: AxisPhase, points: int) -> int:
    """Return the points of all tiles along an axis."""
    return (-(-phase.count // outputs_of(phase, points)) - 1) * points + _last_points(phase, points)


def _with_roles(lattice: Lattice) -> TilePhase:
    """Make the last transformable axes rows and columns, or else the last ones with a single tap, others planes."""
    none = Axis(identity_axis(1), 0, 0, 0, 0)
    axes = list(lattice.axes)
    chosen = [axis for axis in axes if is_transformable(axis.phase)][-2:]
    points = [POINTS] * len(chosen)
    single = [axis for axis in axes if len(axis.phase.taps) == 1 and axis not in chosen]
    while len(chosen) < 2:
        chosen.insert(0, single.pop() if single else none)
        points.insert(0, 1)
    planes = tuple(axis for axis in axes if not any(axis is role for role in chosen))
    phase = dataclasses.replace(lattice, planes=planes, rows=chosen[0], columns=chosen[1])
    return TilePhase(phase, *points)


def tile_record(
    phase: TilePhase, x_shape: tuple[int, ...], x_strides: Strides, channels: int, tiles: int, is_run: bool = False
) -> Record:
    """Describe the tiles of a phase, ``tiles`` of them a block, where they read and write, and their transforms.

    A block ``is_run`` where its tiles follow one another along the planes.
    """
    lattice, (row_outputs, column_outputs) = phase.lattice, phase.outputs
    lanes, depth = TARGET.lanes("float32"), phase.summed_taps * channels
    kinds, width = tile_kinds(phase), round_up(channels, lanes)
    reads, writes = plane_offsets(lattice.planes)
    input_row = round_up(depth, lanes)
    # A register tile's rows, and those of the next lines that are on their way.
    if pixels_in_l1(input_row, "float32") < 2 * WIDE_SIZES[0]:
        input_row += CACHE_LINE // 4
    ahead, input_plane = column_outputs * column_step(lattice.columns), tiles * input_row
    if is_run:
        input_row, planes = depth // phase.plane_taps, np.reshape(reads, (phase.planes, phase.plane_taps))
        ahead, input_plane = planes[1, -1] - planes[0, -1], round_up((tiles - 1) * input_row + depth, lanes)
    record = Record()
    record.fields = {
        at.TILES: phase.tiles, at.BLOCK_TILES: tiles, at.TILE_ROWS: phase.tile_rows,
        at.TILE_COLUMNS: phase.tile_columns, at.PLANES: phase.planes, at.OUT_ROWS: lattice.rows.phase.count,
        at.OUT_COLUMNS: lattice.columns.phase.count, at.X_BATCH: lattice.x_batch, at.X_GROUP: channels * x_strides[-1],
        at.X_CHANNEL: x_strides[-1], at.ROW_STEP: column_step(lattice.rows),
        at.COLUMN_STEP: column_step(lattice.columns), at.CHANNELS: channels, at.DEPTH: depth,
        at.PLANE_TAPS: phase.plane_taps, at.ROW_POINTS: phase.row_points, at.COLUMN_POINTS: phase.column_points,
        at.ROW_OUTPUTS: row_outputs, at.COLUMN_OUTPUTS: column_outputs,
        at.ROW_TAPS: phase.taps[0], at.COLUMN_TAPS: phase.taps[1], at.ROW_PARTS: phase.parts[0],
        at.COLUMN_PARTS: phase.parts[1],
        at.INPUT_ROW: input_row, at.INPUT_PLANE: input_plane + at.PLANE_PADDING, at.TILE_AHEAD: ahead,
        at.RUN_PLANES: phase.planes * is_run,
        at.FULL_ROWS: kinds.full_rows, at.FULL_COLUMNS: kinds.full_columns, at.LAST_ROW_POINTS: kinds.last_row_points,
        at.LAST_COLUMN_POINTS: kinds.last_column_points,
        at.X_SIZE: 1 + sum((n - 1) * max(stride, 0) for n, stride in zip(x_shape, x_strides, strict=True)),
        at.GATHERED: width, at.Y_BATCH: lattice.y_batch, at.Y_ROW: lattice.rows.y_stride,
        at.Y_PIXEL: lattice.columns.y_stride,
    }  # fmt: skip
    record.tables = {
        at.PLANE_TABLE: reads, at.ROW_TABLE: _positions(lattice.rows, row_outputs, phase.row_points, phase.parts[0]),
        at.COLUMN_TABLE: _positions(lattice.columns, column_outputs, phase.column_points, phase.parts[1]),
        at.Y_PLANES: lattice.y_start + writes, at.KINDS: kinds.ends[:3], at.POINT_TILES: np.ravel(kinds.ranges),
        at.GATHERED_ROWS: np.arange(phase.row_points) * phase.column_points * width,
        at.GATHERED_COLUMNS: np.arange(phase.column_points) * width,
    }  # fmt: skip
    return record


def kernel_taps(phase: TilePhase) -> list[int]:
    """Return the offset in the kernel of each (plane tap, part of rows, part of columns, row, column), -1 for none."""
    lattice, shape = phase.lattice, [part * taps for part, taps in zip(phase.parts, phase.taps, strict=True)]
    rows, columns = len(lattice.rows.phase.taps), len(lattice.columns.phase.taps)
    offsets = np.full((phase.plane_taps, *shape), -1)
    offsets[:, :rows, :columns] = np.reshape(kernel_offsets(lattice, all_taps=False), (-1, rows, columns))
    parts = offsets.reshape(-1, phase.parts[0], phase.taps[0], phase.parts[1], phase.taps[1])
    return parts.transpose(0, 1, 3, 2, 4).ravel().tolist()


def _positions(axis: Axis, outputs: int, points: int, parts: int) -> NDArray[np.int64]:
    """Return the offset of every position that the tiles along an axis read, -1 behind the last output's."""
    offsets = axis.offsets[:: axis.phase.stride] if points == 1 else axis.offsets
    needed = -(-axis.phase.count // outputs) * outputs + points - outputs + (parts - 1) * part_taps(axis.phase)
    return np.concatenate([offsets, np.full(max(0, needed - len(offsets)), -1)])
