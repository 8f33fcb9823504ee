"""Winograd convolution F(m, r), m + r = 7, for forward passes and input gradients (see `numbaconv.kernels.winograd_points`).

Every phase of a pass whose taps are 2 to 5 neighbours along an axis is transformed along that axis: along two axes
where there are two, F(4x4, 3x3) for a kernel of 3 x 3, and summed over the taps of any others. Phases with one tap along
an axis stay as they are there, so strided input gradients and kernels like 1x3 and 3x1x1 run as well. Blocks are fused:
a worker transforms some tiles, multiplies them and transforms them back.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.axes import AxisPhase, identity_axis, pass_axes, without_dilation
from numbaconv.algorithms.blocking import panel_count, tile_cycles
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    column_step,
    kernel_offsets,
    plane_offsets,
    round_up,
    tile_list,
)
from numbaconv.algorithms.lattice import Axis, Lattice, lattices
from numbaconv.algorithms.plan_parts import (
    SERIAL_MACS,
    BiasPart,
    Strides,
    element_strides,
    kernel_strides,
    padded_bias,
    product_channels,
)
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.kernels.winograd import winograd_kernel, winograd_product
from numbaconv.kernels.winograd_points import POINTS
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "winograd"

MAX_KERNEL_BYTES = 256 << 20
"""A transformed kernel has up to 36 numbers for 4; one that would be larger than this is not made."""


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
        """Taps that are summed over like channels."""
        return math.prod(len(axis.phase.taps) for axis in self.lattice.planes)

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


def outputs_of(phase: AxisPhase, points: int) -> int:
    """Return the outputs of a tile along one axis."""
    return points - len(phase.taps) + 1 if points > 1 else 1


def is_transformable(phase: AxisPhase) -> bool:
    """Whether the outputs of a phase along one axis can be made by a transform."""
    return phase.stride == 1 and phase.dilation == 1 and 2 <= len(phase.taps) <= POINTS - 1 and phase.count > 1


def tile_phases(
    spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides
) -> list[TilePhase]:
    """Return the phases of a pass; along each axis dilated taps are phases of neighbouring ones."""
    axes = [
        [part for phase in axis for part in without_dilation(phase)] for axis in pass_axes(spec, direction)
    ]
    kernel = kernel_strides(spec)[:-2]
    return [_with_roles(lattice) for lattice in lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], kernel)]


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


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None when it can."""
    if spec.dtype != "float32":
        return "float64 asks for more accuracy than the transforms have"
    if spec.batch == 0:
        return "the batch is empty"
    strides = _contiguous_strides(spec)
    phases = tile_phases(spec, direction, *(strides if direction == "forward" else strides[::-1]))
    if any(not axis.phase.taps for phase in phases for axis in phase.lattice.axes):
        return "some outputs have no tap"
    if all(phase.points == 1 for phase in phases):
        return "no axis has 2 to 5 neighbouring taps at stride 1 and outputs side by side"
    channels, outs = product_channels(spec, direction)
    size = max(phase.points * phase.plane_taps for phase in phases) * channels * round_up(outs, 16) * spec.groups * 4
    if size > MAX_KERNEL_BYTES:
        return f"its transformed kernel would take {size >> 20} MiB, more than {MAX_KERNEL_BYTES >> 20}"
    return None


def _contiguous_strides(spec: ConvSpec) -> tuple[Strides, Strides]:
    """Return the strides of contiguous channels-last input and output."""
    shapes = (spec.batch, *spec.in_spatial, spec.in_channels), (spec.batch, *spec.out_spatial, spec.out_channels)
    x, y = (tuple(math.prod(shape[a + 1 :]) for a in range(len(shape))) for shape in shapes)
    return x, y


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles of a block and the parts that output channels are dealt into; ``cycles`` are those on one thread."""

    tiles: int
    panel_chunks: int
    cycles: float


INPUT_CYCLES = {1: 3.0, POINTS: 16.0, POINTS * POINTS: 110.0}
"""Cycles to transform one register of channels of an input tile, by points."""

OUTPUT_CYCLES = {1: 5.0, POINTS: 20.0, POINTS * POINTS: 110.0}
KERNEL_CYCLES = {1: 40.0, POINTS: 90.0, POINTS * POINTS: 300.0}
"""Cycles to transform the taps of one channel and panel."""

CACHE_BYTES_PER_CYCLE = 12.0
POINT_CYCLES = 14.0


def choose_block(phase: TilePhase, channels: int, outs: int, groups: int) -> Block:
    """Return how many tiles a block takes and into how many parts the output channels are dealt."""
    lanes, points, depth = TARGET.lanes("float32"), phase.points, phase.plane_taps * channels
    panels, tiles, unit = panel_count(outs, "float32"), phase.tiles, WIDE_SIZES[0]
    kernel_bytes = points * depth * outs * 4
    best, least, choice = math.inf, math.inf, Block(1, 1, math.inf)
    for size in sorted({min(tiles, n * unit) for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)}):
        blocks = -(-tiles // size) * groups
        for chunks in sorted({1, min(2, panels), min(4, panels), panels}):
            count = panels / chunks
            transformed = size * -(-depth // lanes) * INPUT_CYCLES[points]
            products = points * count * (tile_cycles(size, 2) * depth + -(-size // unit) * POINT_CYCLES)
            result = size * -(-outs // lanes) / chunks * OUTPUT_CYCLES[points]
            input_bytes = points * size * depth * 4
            weights = kernel_bytes / chunks / CACHE_BYTES_PER_CYCLE
            if kernel_bytes + input_bytes < TARGET.l2_bytes:
                weights /= 4
            spilled = max(0.0, input_bytes - TARGET.l2_bytes / 2) * count / CACHE_BYTES_PER_CYCLE
            cycles = (transformed + products + result + weights + spilled) * blocks * chunks
            least = min(least, cycles)
            tasks, threads = blocks * chunks, TARGET.threads
            balance = math.ceil(tasks / threads) * threads / tasks
            if cycles * balance < best:
                best, choice = cycles * balance, Block(size, chunks, cycles)
    return dataclasses.replace(choice, cycles=least)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a call needs besides its arrays."""

    geometry: NDArray[np.int64]
    tasks: int
    workspace: int
    kernel_geometry: NDArray[np.int64]
    kernel_tasks: int
    kernel_workspace: int
    packed_size: int
    bias_parts: tuple[BiasPart, ...]
    serial: bool
    cycles: float


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    channels, outs = product_channels(spec, direction)
    lanes, groups = TARGET.lanes(spec.dtype), spec.groups
    panels, width = panel_count(outs, spec.dtype), round_up(outs, lanes)
    records: list[Record] = []
    kernels: dict[tuple[tuple[int, ...], int, int], tuple[Record, int]] = {}
    tasks = kernel_tasks = packed = workspace = 0
    cycles = 0.0
    for phase in tile_phases(spec, direction, x_strides, y_strides):
        block = choose_block(phase, channels, outs, groups)
        cycles += block.cycles
        depth = phase.plane_taps * channels
        kernel_plane = depth * 2 * lanes + at.PLANE_PADDING
        size = phase.points * kernel_plane
        taps = tuple(kernel_offsets(phase.lattice, all_taps=False))
        key = taps, phase.row_points, phase.column_points
        shared = {
            at.GROUPS: groups, at.PANELS: panels, at.PLANE_TAPS: phase.plane_taps, at.CHANNELS: channels,
            at.ROW_POINTS: phase.row_points, at.COLUMN_POINTS: phase.column_points, at.DEPTH: depth,
            at.OUT_CHANNELS: outs, at.KERNEL_PLANE: kernel_plane, at.PACKED_PANEL: size, at.PACKED_GROUP: panels * size,
        }  # fmt: skip
        if key not in kernels:
            record = _kernel_record(spec, direction, phase, taps)
            record.fields |= shared | {at.FIRST_TASK: kernel_tasks, at.PACKED: packed}
            kernels[key] = record, packed
            kernel_tasks += groups * panels * record.fields[at.CHANNEL_CHUNKS]
            packed += groups * panels * size
            cycles += KERNEL_CYCLES[phase.points] * depth * panels * groups
        chunk = -(-panels // block.panel_chunks)
        record = _tile_record(phase, block, x_strides, channels)
        record.fields |= shared | {
            at.FIRST_TASK: tasks, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS_PER_CHUNK: chunk,
            at.PACKED: kernels[key][1], at.BIAS_GROUP: width, at.Y_GROUP: outs,
        }  # fmt: skip
        records.append(record)
        tasks += -(-phase.tiles // block.tiles) * groups * record.fields[at.PANEL_CHUNKS]
        scratch = phase.points * record.fields[at.GATHERED] + (POINTS * POINTS + POINTS) * lanes
        workspace = max(workspace, record.fields[at.SCRATCH] + round_up(scratch, 16))
    most_taps = max(record.fields[at.ROW_TAPS] * record.fields[at.COLUMN_TAPS] for record, _ in kernels.values())
    kernel_workspace = round_up(most_taps * at.KERNEL_CHANNELS * 2 * lanes + POINTS * POINTS * lanes, 16)
    return Plan(
        assemble({head.WORKSPACE: workspace}, records),
        tasks,
        workspace,
        assemble({head.WORKSPACE: kernel_workspace}, [record for record, _ in kernels.values()]),
        kernel_tasks,
        kernel_workspace,
        packed,
        (BiasPart(0, 1, width),),
        spec.macs < SERIAL_MACS,
        cycles,
    )


def _tile_record(phase: TilePhase, block: Block, x_strides: Strides, channels: int) -> Record:
    """Describe the tiles of a phase, where they read and write, and the worker's buffers."""
    lattice, (row_outputs, column_outputs) = phase.lattice, phase.outputs
    lanes, points, depth = TARGET.lanes("float32"), phase.points, phase.plane_taps * channels
    reads, writes = plane_offsets(lattice.planes)
    input_row = round_up(depth, lanes)
    input_plane = block.tiles * input_row + at.PLANE_PADDING
    product_plane = block.tiles * 2 * lanes + at.PLANE_PADDING
    products = points * input_plane
    last = phase.tiles - (-(-phase.tiles // block.tiles) - 1) * block.tiles
    record = Record()
    record.fields = {
        at.TILES: phase.tiles, at.BLOCK_TILES: block.tiles, at.TILE_ROWS: phase.tile_rows,
        at.TILE_COLUMNS: phase.tile_columns, at.PLANES: phase.planes, at.OUT_ROWS: lattice.rows.phase.count,
        at.OUT_COLUMNS: lattice.columns.phase.count, at.X_BATCH: lattice.x_batch, at.X_GROUP: channels * x_strides[-1],
        at.X_CHANNEL: x_strides[-1], at.ROW_STEP: column_step(lattice.rows), at.COLUMN_STEP: column_step(lattice.columns),
        at.ROW_OUTPUTS: row_outputs, at.COLUMN_OUTPUTS: column_outputs, at.INPUT_ROW: input_row,
        at.INPUT_PLANE: input_plane, at.PRODUCT_PLANE: product_plane, at.PRODUCTS: products,
        at.SCRATCH: products + points * product_plane, at.GATHERED: round_up(channels, lanes),
        at.Y_BATCH: lattice.y_batch, at.Y_ROW: lattice.rows.y_stride, at.Y_PIXEL: lattice.columns.y_stride,
    }  # fmt: skip
    record.tables = {
        at.PLANE_TABLE: reads, at.ROW_TABLE: _positions(lattice.rows, row_outputs, phase.row_points),
        at.COLUMN_TABLE: _positions(lattice.columns, column_outputs, phase.column_points),
        at.Y_PLANES: lattice.y_start + writes, at.WIDE_FULL: tile_list(block.tiles, 2),
        at.WIDE_LAST: tile_list(last, 2), at.NARROW_FULL: tile_list(block.tiles, 1), at.NARROW_LAST: tile_list(last, 1),
    }  # fmt: skip
    return record


def _positions(axis: Axis, outputs: int, points: int) -> NDArray[np.int64]:
    """Return the offset of every position that the tiles along an axis read, -1 behind the last output's."""
    offsets = axis.offsets[:: axis.phase.stride] if points == 1 else axis.offsets
    needed = -(-axis.phase.count // outputs) * outputs + points - outputs
    return np.concatenate([offsets, np.full(max(0, needed - len(offsets)), -1)])


def _kernel_record(spec: ConvSpec, direction: str, phase: TilePhase, taps: tuple[int, ...]) -> Record:
    """Describe where the taps of a phase lie in the kernel."""
    channels, _ = product_channels(spec, direction)
    forward, strides = direction == "forward", kernel_strides(spec)
    record = Record()
    record.fields = {
        at.ROW_TAPS: len(phase.lattice.rows.phase.taps), at.COLUMN_TAPS: len(phase.lattice.columns.phase.taps),
        at.KERNEL_GROUP: spec.out_channels_per_group, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
        at.KERNEL_COLUMN: 1 if forward else strides[-2], at.CHANNEL_CHUNKS: -(-channels // at.KERNEL_CHANNELS),
    }  # fmt: skip
    record.tables = {at.KERNEL_TAPS: taps}
    return record


def run_product(
    spec: ConvSpec,
    direction: str,
    x: NDArray,
    kernel: NDArray,
    bias: NDArray | None,
    activation: str | None,
    y: NDArray,
) -> None:
    """Run a forward pass, or an input gradient with grad_y as ``x`` and grad_x as ``y``; channels last."""
    plan = product_plan(spec, direction, element_strides(x), element_strides(y))
    packed = memory.empty((plan.packed_size,), spec.dtype)
    bound = padded_bias(spec.dtype, bias, activation, spec.groups, plan.bias_parts)
    parallel.launch(
        winograd_kernel, spec.dtype, plan.kernel_tasks, plan.kernel_geometry, (kernel, packed), plan.kernel_workspace,
        plan.serial,
    )  # fmt: skip
    arrays = (x, packed, bound, y)
    parallel.launch(winograd_product, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial)


def forward(
    spec: ConvSpec, x: NDArray, kernel: NDArray, bias: NDArray | None, activation: str | None, y: NDArray
) -> None:
    """Fill ``y`` (contiguous, channels last) with the convolution of ``x``."""
    run_product(spec, "forward", x, kernel, bias, activation, y)


def input_grad(
    spec: ConvSpec, grad_y: NDArray, kernel: NDArray, bias: NDArray | None, activation: str | None, grad_x: NDArray
) -> None:
    """Fill ``grad_x`` (contiguous, channels last) with the gradient of zero-padded input."""
    run_product(spec, "input_grad", grad_y, kernel, bias, activation, grad_x)
