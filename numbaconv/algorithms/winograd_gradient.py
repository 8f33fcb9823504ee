"""Kernel gradients by Winograd's algorithm (see `numbaconv.kernels.winograd_gradient`)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.blocking import MEMORY_BYTES_PER_CYCLE, even_sums, panel_count, tile_cycles
from numbaconv.algorithms.calibration import share
from numbaconv.algorithms.geometry import Record, assemble, round_up, tile_list
from numbaconv.algorithms.plan_parts import array_strides, is_small, kernel_strides
from numbaconv.algorithms.winograd_tiles import (
    CACHE_BYTES_PER_CYCLE,
    KERNEL_CYCLES,
    OUTPUT_CYCLES,
    POINT_CYCLES,
    TilePhase,
    input_cycles,
    kernel_taps,
    tile_kinds,
    tile_phases,
    tile_record,
    wide_panels,
)
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.kernels.winograd_ahead import CURSOR_SIZE
from numbaconv.kernels.winograd_gradient import (
    RESULT_ROWS,
    SUMMED_TILES,
    winograd_gradient_result,
    winograd_gradient_sums,
)
from numbaconv.kernels.winograd_tall import TILE_REGISTERS
from numbaconv.program import Operand, Recorder
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

MAX_CHUNKS = 8 if TARGET.is_intel else 4
MIN_CHUNK_TILES, MAX_CHUNK_BYTES = 96, TARGET.l3_bytes // 4 * 3
"""Chunks of tiles, whatever the number of threads, their tiles at least, and their sums at most: each has its own."""

LEAST_CHUNK_TILES = 12
"""The same where a single panel of a single group would be one task."""

MIN_TASK_PANELS = 8
"""Panels of a task where there are more tasks than threads: each transforms the input of its chunk anew."""

MIN_SUMS_BYTES, MAX_TRANSFORMED_BYTES = 3 * TARGET.l2_bytes, TARGET.l3_bytes // 2
"""Units, whose sums stay in L2, pay where a group's sums are larger than the first, its transformed input and grad_y no
larger than the second: each unit reads its part of them anew, from L3."""

MIN_JOINED_SUMS, MAX_JOINED_BYTES = TARGET.l3_bytes // 2, TARGET.l3_bytes // 8 * 3
"""Phases of dilated taps, each a block, are added together to sums larger than the first: L3 does not hold them. Their
transformed numbers take no more than the second."""

UNIT_BYTES_PER_CYCLE, GRADIENT_BYTES_PER_CYCLE = 7.0, 4.0
"""Of what units read, and of the gradient, whose lines lie apart and are read before they are written."""

SHALLOW_NARROW_PANEL, DEEP_NARROW_PANEL, DEEP = 0.5, 0.8, 256
"""What a panel of one register costs beside one of two with few rows of sums, and with that many: they leave L2."""

ADD_CYCLES = 60.0
"""Cycles to enter a register tile and add it to sums in memory."""

BLOCK_TILES = (24, 32) if TARGET.is_intel else (24, 32, 48, 64, 96, 128)
"""What the next block reads comes to L2 while this one is multiplied. More than are summed at a time therefore pay only
where their transformed numbers leave room there, or where L3 does not hold the sums, which each block reads and writes.
Where what leaves L2 is slow to come back, nowhere: 0.39 to 1.04 times the speed with 40 tiles and more.
"""

NEAR_BYTES = TARGET.l2_bytes * 5 // 4
"""Sums and transformed numbers of a block that seldom wait for L3."""


@dataclass(frozen=True, slots=True)
class Split:
    """How a gradient is dealt out: tiles of a block by phase, blocks of all phases, chunks of blocks."""

    tiles: tuple[int, ...]
    blocks: int
    chunks: int
    unit_tiles: int  # register tiles of a unit whose sums stay in L2, 0 where sums go to memory
    cycles: float  # on one thread
    joined: int = 1  # phases, each of them a block, that are added to the sums together


def split_gradient(spec: ConvSpec, phases: list[TilePhase]) -> Split:
    """Deal a gradient out by the problem and the caches alone, never by threads: chunks are added in order."""
    first = phases[0]
    depth, outs = first.summed_taps * spec.in_channels_per_group, spec.out_channels_per_group
    lanes, points, panels = TARGET.lanes("float32"), first.points, panel_count(outs, "float32")
    all_tiles = sum(phase.tiles for phase in phases)
    sums = points * depth * panels * 2 * lanes * spec.groups * 4
    least = 2 if panels * spec.groups == 1 and all_tiles >= 2 * LEAST_CHUNK_TILES else 1
    chunks = even_sums(max(least, all_tiles // MIN_CHUNK_TILES), panels * spec.groups)
    chunks = max(1, min(MAX_CHUNKS, chunks, MAX_CHUNK_BYTES // sums))
    transformed = points * all_tiles * (depth + panels * 2 * lanes) * 4
    if sums > MIN_SUMS_BYTES * spec.groups and transformed <= MAX_TRANSFORMED_BYTES:
        unit = unit_tiles(depth, points)
        return Split(tuple(phase.tiles for phase in phases), len(phases), 1, unit, _unit_cycles(phases, spec, depth))
    best, size = math.inf, 1
    share = tile_kinds(first).share
    narrow = SHALLOW_NARROW_PANEL + (DEEP_NARROW_PANEL - SHALLOW_NARROW_PANEL) * min(1.0, depth / DEEP)
    of_input = input_cycles(first, spec.in_channels_per_group, spec.groups)
    alike = Counter(phase.tiles for phase in phases)
    for most in BLOCK_TILES:
        if spec.groups == 1 and most > SUMMED_TILES and sums <= TARGET.l3_bytes // 2:
            if most * points * (depth + panels * 2 * lanes) * 4 > TARGET.l2_bytes * 5 // 8:
                break
        # Blocks of which all chunks have as many.
        tiles = even_part(-(-all_tiles // chunks), most) if len(phases) == 1 else most
        cycles = sum(
            _cycles(min(tiles, count), count, depth, wide_panels(outs, narrow), points, share, of_input) * times
            for count, times in alike.items()
        )
        if cycles < best:
            best, size = cycles, tiles
    joined = 1 if chunks > 1 else joined_phases(phases, sums, points * (depth + panels * 2 * lanes) * 4)
    if joined > 1:
        size = max(phase.tiles for phase in phases)
        best = _cycles(joined * size, all_tiles, depth, wide_panels(outs, narrow), points, share, of_input)
    cycles = best * spec.groups
    # Sums are read once and transformed back.
    cycles += sums * chunks / CACHE_BYTES_PER_CYCLE + depth * panels * spec.groups * KERNEL_CYCLES[points]
    arrays = 4 * (math.prod(spec.x_shape) + math.prod(spec.y_shape))
    if arrays > TARGET.l3_bytes / 4:
        cycles += arrays / MEMORY_BYTES_PER_CYCLE
    of_phase = tuple(min(size, phase.tiles) for phase in phases)
    blocks = sum(-(-phase.tiles // tiles) for phase, tiles in zip(phases, of_phase, strict=True))
    return Split(of_phase, blocks, min(chunks, blocks), 0, cycles, joined)


def joined_phases(phases: list[TilePhase], sums: int, tile_bytes: int) -> int:
    """Return how many phases are added to the sums together: some of few tiles each where L3 does not hold the sums.

    The sums take so many bytes, the transformed numbers of a tile `tile_bytes`.
    """
    if sums <= MIN_JOINED_SUMS:
        return 1
    tiles = min(BLOCK_TILES[-1], MAX_JOINED_BYTES // tile_bytes)
    return even_part(len(phases), max(1, tiles // max(phase.tiles for phase in phases)))


def unit_tiles(depth: int, points: int) -> int:
    """Return how many register tiles of a panel have sums that take a third of L2, even parts of all."""
    count = len(tile_list(depth, 2)) - 1
    rows = TARGET.l2_bytes // 3 // (points * 2 * TARGET.lanes("float32") * 4)
    return even_part(count, max(1, rows // WIDE_SIZES[0]))


def even_part(length: int, most: int) -> int:
    """Return the length of even parts, ``most`` at most."""
    return -(-length // -(-length // most))


def task_panels(panels: int, sums: int) -> int:
    """Return how many panels a task takes where the chunks and groups are ``sums`` tasks: no sum depends on it."""
    threads = TARGET.threads
    parts = min(panels, -(-2 * threads // sums))
    if panels < MIN_TASK_PANELS * parts:
        parts = min(panels, -(-threads // sums))
    return -(-panels // parts)


def _cycles(tiles: int, all_tiles: int, depth: int, panels: float, points: int, share: float, of_input: float) -> float:
    """Return the estimated cycles of all blocks of ``tiles`` tiles of a phase for one group and some panels.

    Of the products of tiles and points ``share`` are made.
    """
    lanes = TARGET.lanes("float32")
    rows = sum(tile_list(depth, 2)[1:])
    transformed = tiles * (of_input + panels * KERNEL_CYCLES[points] * 1.2)
    visits = (len(tile_list(depth, 2)) - 1) * -(-tiles // SUMMED_TILES)
    products = points * panels * (tile_cycles(rows, 2) * tiles * share + visits * ADD_CYCLES)
    sum_bytes, block_bytes = points * panels * depth * 2 * lanes * 4, points * tiles * (depth + panels * 2 * lanes) * 4
    rate = CACHE_BYTES_PER_CYCLE * (3 if sum_bytes + block_bytes < NEAR_BYTES else 1)
    traffic = 2 * sum_bytes / rate
    if block_bytes > NEAR_BYTES:
        traffic += 2 * block_bytes / CACHE_BYTES_PER_CYCLE
    if block_bytes > TARGET.l3_bytes / 8:
        traffic += 4 * block_bytes / CACHE_BYTES_PER_CYCLE
    return (transformed + products + traffic) * math.ceil(all_tiles / tiles)


def _unit_cycles(phases: list[TilePhase], spec: ConvSpec, depth: int) -> float:
    """Return the estimated cycles where all tiles are transformed before units of the sums are made one by one."""
    panels, wide = panel_count(spec.out_channels_per_group, "float32"), wide_panels(spec.out_channels_per_group)
    points, rows, visits = phases[0].points, sum(tile_list(depth, 2)[1:]), len(tile_list(depth, 2)) - 1
    lanes, units = TARGET.lanes("float32"), -(-visits // unit_tiles(depth, points))
    cycles = depth * panels * OUTPUT_CYCLES[points] * 2
    cycles += depth * spec.out_channels_per_group * math.prod(phases[0].taps) * 4 / GRADIENT_BYTES_PER_CYCLE
    of_input = input_cycles(phases[0], spec.in_channels_per_group, spec.groups)
    for phase in phases:
        cycles += phase.tiles * (of_input + panels * KERNEL_CYCLES[points] * 1.2)
        products = tile_cycles(rows, 2) * phase.tiles * tile_kinds(phase).share
        cycles += points * wide * (products + visits * POINT_CYCLES)
        # A panel reads all input, a unit its panel of grad_y.
        cycles += points * phase.tiles * panels * (depth + units * 2 * lanes) * 4 / UNIT_BYTES_PER_CYCLE
    return cycles * spec.groups


FEW_CHANNELS = 3
"""Input channels of a group whose transforms are little work beside those of grad_y."""


@lru_cache(maxsize=512)
def gradient_cycles(spec: ConvSpec) -> float:
    """Return about how many cycles a kernel gradient of contiguous arrays takes on one thread."""
    cycles = split_gradient(spec, tile_phases(spec, "kernel_grad", *array_strides(spec))).cycles
    # With a register of channels on both sides, or very few on one, transforms take nearly all that they are estimated
    # to (a Zen 5).
    lanes, channels = TARGET.lanes(spec.dtype), spec.in_channels_per_group
    is_narrow = channels <= FEW_CHANNELS or (channels < lanes and spec.out_channels_per_group <= lanes)
    return cycles if is_narrow and TARGET.has_two_wide_units else cycles * share("winograd", "kernel_grad")


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """All that a kernel gradient needs besides its arrays."""

    geometry: NDArray[np.int64]
    tasks: int
    result_tasks: int
    workspace: int
    sums: int
    serial: bool


@lru_cache(maxsize=512)
def gradient_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> GradientPlan:
    """Plan a kernel gradient; strides, in elements, of (batch, *spatial, channels)."""
    phases = tile_phases(spec, "kernel_grad", x_strides, y_strides)
    split = split_gradient(spec, phases)
    channels, outs, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    lanes, points, panels = TARGET.lanes("float32"), phases[0].points, panel_count(outs, "float32")
    of_task = task_panels(panels, split.chunks * groups)
    panel_chunks = -(-panels // of_task)
    records: list[Record] = []
    blocks = used = most = scratch_size = 0
    strides = kernel_strides(spec)
    for phase, tiles in zip(phases, split.tiles, strict=True):
        record = tile_record(phase, spec.x_shape, x_strides, channels, tiles)
        depth = record.fields[at.DEPTH]
        plane = depth * 2 * lanes + at.PLANE_PADDING
        product_plane = tiles * 2 * lanes + at.PLANE_PADDING
        # Blocks of tiles follow one another in the same memory, those of units and joined ones in memory of their own.
        begin = used if split.unit_tiles or len(records) % split.joined else 0
        transformed = begin + points * record.fields[at.INPUT_PLANE]
        used = transformed + points * product_plane * of_task
        most = max(most, used)
        record.fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.PANELS: panels, at.PANEL_CHUNKS: panel_chunks,
            at.PANELS_PER_CHUNK: of_task, at.OUT_CHANNELS: outs, at.Y_GROUP: outs, at.INPUT_AT: begin,
            at.PRODUCTS: transformed, at.PRODUCT_PLANE: product_plane, at.KERNEL_PLANE: plane,
            at.PACKED_PANEL: points * plane, at.PACKED_GROUP: panels * points * plane, at.KERNEL_GROUP: outs,
            at.KERNEL_CHANNEL: strides[-2], at.KERNEL_ROW: phase.lattice.rows.kernel_stride,
            at.KERNEL_COLUMN: phase.lattice.columns.kernel_stride, at.CHANNEL_CHUNKS: -(-depth // RESULT_ROWS),
            at.UNIT_TILES: split.unit_tiles, at.JOINED: split.joined,
        }  # fmt: skip
        record.tables |= {
            at.WIDE_FULL: tile_list(depth, 2), at.NARROW_FULL: tile_list(depth, 1),
            at.KERNEL_TAPS: kernel_taps(phase),
        }  # fmt: skip
        records.append(record)
        blocks += -(-phase.tiles // tiles)
        gathered = points * max(record.fields[at.GATHERED], 2 * lanes)
        scratch_size = max(scratch_size, round_up(gathered + TILE_REGISTERS * lanes, 16))
    unit_plane = split.unit_tiles * WIDE_SIZES[0] * 2 * lanes + at.PLANE_PADDING
    scratch = most + points * unit_plane * (split.unit_tiles > 0)
    for record in records:
        record.fields |= {
            at.UNIT_SUMS: most, at.UNIT_PLANE: unit_plane, at.SCRATCH: scratch, at.CURSOR: scratch + scratch_size,
        }  # fmt: skip
    workspace = scratch + scratch_size + 2 * CURSOR_SIZE
    size = groups * records[0].fields[at.PACKED_GROUP]
    header = {
        head.WORKSPACE: workspace, head.CHUNKS: split.chunks, head.BLOCKS: blocks, head.GRADIENT_SIZE: size,
    }  # fmt: skip
    return GradientPlan(
        assemble(header, records),
        split.chunks * panel_chunks * groups,
        0 if split.unit_tiles else groups * panels * records[0].fields[at.CHANNEL_CHUNKS],
        workspace,
        0 if split.unit_tiles else size * split.chunks,
        is_small(spec),
    )


class Gradient:
    """A kernel gradient: `run(x, grad_y, grad_kernel)`.

    One launch sums tiles, and the next transforms the sums back unless they never went to memory.
    """

    __slots__ = ("_launches", "_size", "_sums")

    def __init__(self, spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> None:
        plan = gradient_plan(spec, x_strides, y_strides)
        self._size = plan.sums
        self._sums = memory.allocator((plan.sums,), spec.dtype)
        self._launches = [
            parallel.Launch(kernel, spec.dtype, tasks, plan.geometry, (0, 3, 2, 1), 4, plan.workspace, (), plan.serial)
            for kernel, tasks in ((winograd_gradient_sums, plan.tasks), (winograd_gradient_result, plan.result_tasks))
            if tasks > 0
        ]

    def __call__(self, x: NDArray, grad_y: NDArray, grad_kernel: NDArray) -> None:
        sums = self._sums()
        for launch in self._launches:
            launch(x, grad_y, grad_kernel, sums)

    def record(self, recorder: Recorder, x: Operand, grad_y: Operand, grad_kernel: Operand) -> None:
        """Record the launches."""
        sums = recorder.buffer(self._size)
        for launch in self._launches:
            recorder.launch(launch, x, grad_y, grad_kernel, sums)
