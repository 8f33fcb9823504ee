"""Kernel gradients by Winograd's algorithm (see `numbaconv.kernels.winograd_gradient`)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.blocking import MAX_PARTIAL_BYTES, MEMORY_BYTES_PER_CYCLE, panel_count, tile_cycles
from numbaconv.algorithms.geometry import Record, assemble, round_up, tile_list
from numbaconv.algorithms.plan_parts import array_strides, is_small, kernel_strides
from numbaconv.algorithms.winograd_tiles import (
    CACHE_BYTES_PER_CYCLE,
    KERNEL_CYCLES,
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
from numbaconv.kernels.winograd_gradient import RESULT_ROWS, winograd_gradient_result, winograd_gradient_sums
from numbaconv.kernels.winograd_points import POINTS
from numbaconv.program import Operand, Recorder
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

MAX_CHUNKS, MIN_CHUNK_TILES = 4, 96
"""Chunks of tiles, whatever the number of threads, and their tiles at least: each has sums of its own."""

MIN_TASK_PANELS = 8
"""Panels of a task where there are more tasks than threads: each transforms the input of its chunk anew."""

NARROW_PANEL, DEEP_NARROW_PANEL, DEEP = 0.5, 0.8, 256
"""What a panel of one register costs beside one of two with few rows of sums, and with that many: they leave L2."""

BLOCK_TILES = (8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class Split:
    """How a gradient is dealt out: tiles of a block by phase, blocks of all phases, chunks of blocks."""

    tiles: tuple[int, ...]
    blocks: int
    chunks: int
    cycles: float  # on one thread


def split_gradient(spec: ConvSpec, phases: list[TilePhase]) -> Split:
    """Deal a gradient out by the problem and the caches alone, never by threads: chunks are added in order."""
    first = phases[0]
    depth, outs = first.summed_taps * spec.in_channels_per_group, spec.out_channels_per_group
    lanes, points, panels = TARGET.lanes("float32"), first.points, panel_count(outs, "float32")
    all_tiles = sum(phase.tiles for phase in phases)
    sums = points * depth * panels * 2 * lanes * spec.groups * 4
    chunks = max(1, min(MAX_CHUNKS, all_tiles // MIN_CHUNK_TILES, MAX_PARTIAL_BYTES // sums))
    best, size = math.inf, 1
    share = tile_kinds(first).share
    narrow = NARROW_PANEL + (DEEP_NARROW_PANEL - NARROW_PANEL) * min(1.0, depth / DEEP)
    of_input = input_cycles(first, spec.in_channels_per_group, spec.groups)
    alike = Counter(phase.tiles for phase in phases)
    for most in BLOCK_TILES:
        # Blocks of which all chunks have as many.
        tiles = even_part(-(-all_tiles // chunks), most) if len(phases) == 1 else most
        cycles = sum(
            _cycles(min(tiles, count), count, depth, wide_panels(outs, narrow), points, share, of_input) * times
            for count, times in alike.items()
        )
        if cycles < best:
            best, size = cycles, tiles
    cycles = best * spec.groups
    # Sums are read once and transformed back.
    cycles += sums * chunks / CACHE_BYTES_PER_CYCLE + depth * panels * spec.groups * KERNEL_CYCLES[points]
    arrays = 4 * (math.prod(spec.x_shape) + math.prod(spec.y_shape))
    if arrays > TARGET.l3_bytes / 4:
        cycles += arrays / MEMORY_BYTES_PER_CYCLE
    of_phase = tuple(min(size, phase.tiles) for phase in phases)
    blocks = sum(-(-phase.tiles // tiles) for phase, tiles in zip(phases, of_phase, strict=True))
    return Split(of_phase, blocks, min(chunks, blocks), cycles)


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
    visits = len(tile_list(depth, 2)) - 1
    products = points * panels * (tile_cycles(rows, 2) * tiles * share + visits * POINT_CYCLES)
    sum_bytes, block_bytes = points * panels * depth * 2 * lanes * 4, points * tiles * (depth + panels * 2 * lanes) * 4
    rate = CACHE_BYTES_PER_CYCLE * (3 if sum_bytes + block_bytes < TARGET.l2_bytes else 1)
    traffic = 2 * sum_bytes / rate
    if block_bytes > TARGET.l2_bytes / 2:
        traffic += 2 * block_bytes / CACHE_BYTES_PER_CYCLE
    if block_bytes > TARGET.l3_bytes / 8:
        traffic += 4 * block_bytes / CACHE_BYTES_PER_CYCLE
    return (transformed + products + traffic) * math.ceil(all_tiles / tiles)


@lru_cache(maxsize=512)
def gradient_cycles(spec: ConvSpec) -> float:
    """Return about how many cycles a kernel gradient of contiguous arrays takes on one thread."""
    return split_gradient(spec, tile_phases(spec, "kernel_grad", *array_strides(spec))).cycles


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
    blocks = workspace = 0
    strides = kernel_strides(spec)
    for phase, tiles in zip(phases, split.tiles, strict=True):
        record = tile_record(phase, spec.x_shape, x_strides, channels, tiles)
        depth = record.fields[at.DEPTH]
        plane = depth * 2 * lanes + at.PLANE_PADDING
        product_plane = tiles * 2 * lanes + at.PLANE_PADDING
        transformed = points * record.fields[at.INPUT_PLANE]
        scratch = transformed + points * product_plane * of_task
        record.fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.PANELS: panels, at.PANEL_CHUNKS: panel_chunks,
            at.PANELS_PER_CHUNK: of_task, at.OUT_CHANNELS: outs, at.Y_GROUP: outs, at.PRODUCTS: transformed,
            at.PRODUCT_PLANE: product_plane, at.SCRATCH: scratch, at.KERNEL_PLANE: plane,
            at.PACKED_PANEL: points * plane, at.PACKED_GROUP: panels * points * plane, at.KERNEL_GROUP: outs,
            at.KERNEL_CHANNEL: strides[-2], at.KERNEL_ROW: phase.lattice.rows.kernel_stride,
            at.KERNEL_COLUMN: phase.lattice.columns.kernel_stride, at.CHANNEL_CHUNKS: -(-depth // RESULT_ROWS),
        }  # fmt: skip
        record.tables |= {
            at.WIDE_FULL: tile_list(depth, 2), at.NARROW_FULL: tile_list(depth, 1),
            at.KERNEL_TAPS: kernel_taps(phase),
        }  # fmt: skip
        records.append(record)
        blocks += -(-phase.tiles // tiles)
        gathered = points * max(record.fields[at.GATHERED], 2 * lanes)
        workspace = max(workspace, scratch + round_up(gathered + (POINTS * POINTS + 2 * POINTS) * lanes, 16))
    size = groups * records[0].fields[at.PACKED_GROUP]
    header = {
        head.WORKSPACE: workspace, head.CHUNKS: split.chunks, head.BLOCKS: blocks, head.GRADIENT_SIZE: size,
    }  # fmt: skip
    return GradientPlan(
        assemble(header, records),
        split.chunks * panel_chunks * groups,
        groups * panels * records[0].fields[at.CHANNEL_CHUNKS],
        workspace,
        size * split.chunks,
        is_small(spec),
    )


class Gradient:
    """A kernel gradient: `run(x, grad_y, grad_kernel)`; one launch sums tiles, the next transforms the sums back."""

    __slots__ = ("_result", "_size", "_sum", "_sums")

    def __init__(self, spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> None:
        plan = gradient_plan(spec, x_strides, y_strides)
        self._size = plan.sums
        self._sums = memory.allocator((plan.sums,), spec.dtype)
        self._sum, self._result = (
            parallel.Launch(kernel, spec.dtype, tasks, plan.geometry, (0, 3, 2, 1), 4, plan.workspace, (), plan.serial)
            for kernel, tasks in ((winograd_gradient_sums, plan.tasks), (winograd_gradient_result, plan.result_tasks))
        )

    def __call__(self, x: NDArray, grad_y: NDArray, grad_kernel: NDArray) -> None:
        sums = self._sums()
        self._sum(x, grad_y, grad_kernel, sums)
        self._result(x, grad_y, grad_kernel, sums)

    def record(self, recorder: Recorder, x: Operand, grad_y: Operand, grad_kernel: Operand) -> None:
        """Record both launches."""
        sums = recorder.buffer(self._size)
        recorder.launch(self._sum, x, grad_y, grad_kernel, sums)
        recorder.launch(self._result, x, grad_y, grad_kernel, sums)
