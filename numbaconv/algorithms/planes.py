"""What planar algorithms have in common: the gathered planes, the runs of a tap, the cost of gathering."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from numbaconv.algorithms.axes import pass_axes
from numbaconv.algorithms.blocking import ALONE, FMA_PER_CYCLE, TASK_CYCLES
from numbaconv.algorithms.geometry import Record, kernel_offsets
from numbaconv.algorithms.lattice import Lattice, lattices
from numbaconv.algorithms.plan_parts import kernel_strides
from numbaconv.kernels import layout as at
from numbaconv.kernels.tile_sizes import CHAINS_IN_FLIGHT
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

COPY_CYCLES, SCALAR_CYCLES = 0.2, 1.25  # a number that is gathered
TRANSPOSE_CYCLES, CHANNEL_CYCLES = 0.8, 0.004  # the same where pixels are transposed, and more for each channel
SPREAD_CYCLES, SPREAD_CHANNELS = (1.2, 16) if TARGET.has_two_wide_units else (TRANSPOSE_CYCLES, 0)
"""The same of pixels that lie apart, which have fewer channels than that."""
ROW_CYCLES = 40  # a gathered row
COLUMN_CANDIDATES = (32, 48, 64, 96, 128, 256, 512, 1024)
ROW_CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
BLOCK_CYCLES = 50_000  # images that take less are taken several at a time


@dataclass(frozen=True, slots=True)
class Block:
    """Images, rows and columns of a block, the distance of its planes and rows, the cycles of all blocks.

    Where its rows are ``joined`` to one, they lie so many pixels apart in it.
    """

    images: int
    rows: int
    columns: int
    pitch: int
    row_size: int
    cycles: float
    joined: int = 0


RowPrice: TypeAlias = Callable[[int, int], tuple[int, float]]
"""Bytes gathered for so many rows of a block, which read so many rows of input, and the cycles of one image."""


def cheapest_block(
    lattice: Lattice, groups: int, is_serial: bool, price: Callable[[int], tuple[int, int, RowPrice]]
) -> Block:
    """Return the block of a phase: gathered rows in half of L2, few of them gathered twice.

    ``price`` gives for a number of columns the distance of planes, that of rows, and what rows of them cost.
    A pass that ``is_serial`` needs no blocks for a second thread.
    """
    rows, columns = lattice.rows.phase, lattice.columns.phase
    plane_taps = math.prod(len(axis.phase.taps) for axis in lattice.planes)
    planes = math.prod(axis.phase.count for axis in lattice.planes)
    best, least = Block(1, 1, 1, 0, 0, math.inf), math.inf
    for length in sorted({min(columns.count, most) for most in COLUMN_CANDIDATES}):
        pitch, row_size, price_rows = price(length)
        for block_rows in sorted({min(rows.count, most) for most in ROW_CANDIDATES}):
            size, of_image = price_rows(block_rows, ((block_rows - 1) * rows.stride + rows.reach) * plane_taps)
            if size > TARGET.l2_bytes // 2 and block_rows > 1:
                continue
            whole = length == columns.count and block_rows == rows.count
            images = min(lattice.batch, max(1, int(BLOCK_CYCLES / of_image))) if whole else 1
            blocks = planes * groups * -(-rows.count // block_rows) * -(-columns.count // length)
            cycles = lattice.batch * blocks * (of_image + TASK_CYCLES / images)
            is_alone = not is_serial and blocks * -(-lattice.batch // images) == 1
            balanced = cycles * (ALONE if is_alone else 1.0)
            if balanced < least:
                least = balanced
                best = Block(images, block_rows, length, pitch, row_size, cycles)
    return best


@dataclass(frozen=True, slots=True)
class PixelTile:
    """A register tile with pixels in the lanes: its rows and registers of pixels, where it starts among them."""

    rows: int
    vectors: int
    row: int
    pixel: int

    @property
    def size(self) -> int:
        """Rows and registers as one number."""
        return 16 * self.rows + self.vectors


def step_cycles(rows: int, vectors: int) -> float:
    """Return the cycles of one step of the product of a tile with pixels in the lanes."""
    return max(rows * vectors, CHAINS_IN_FLIGHT, rows + vectors) / FMA_PER_CYCLE


@lru_cache(maxsize=1024)
def split_registers(sizes: tuple[int, ...], rows: int, registers: int) -> tuple[int, ...]:
    """Cover that many registers of pixels by tiles of ``sizes`` at the least cost, largest tiles first."""
    large = max(0, registers // sizes[0] - 2) * (sizes[0],)
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, registers - len(large) * sizes[0] + 1):
        options = [(best[n - v][0] + step_cycles(rows, v) + 1.0, (v, *best[n - v][1])) for v in sizes if v <= n]
        best.append(min(options))
    return large + tuple(sorted(best[-1][1], reverse=True))


def even_parts(count: int, most: int) -> list[int]:
    """Return nearly equal parts of ``count``, ``most`` at most."""
    parts = -(-count // most)
    return [(count + part) // parts for part in range(parts)]


@dataclass(frozen=True, slots=True)
class Run:
    """The inner loop over a tap: all channels, or the taps of a kernel row where these are more."""

    along_columns: bool
    length: int
    taps: int


def run_of(lattice: Lattice, channels: int) -> Run:
    """Return how the numbers of a phase's taps are gone through."""
    columns = lattice.columns.phase
    taps = math.prod(len(axis.phase.taps) for axis in lattice.axes)
    steps = {second[0] - first[0] for first, second in itertools.pairwise(columns.taps)}
    if taps and columns.stride == 1 and len(columns.taps) > channels and len(steps) == 1:
        return Run(True, len(columns.taps), taps // len(columns.taps) * channels)
    return Run(False, channels, taps)


def phases(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> list[Lattice]:
    """Return the phases of a pass as they are, with their padding."""
    kernel = kernel_strides(spec)[:-2]
    return lattices(spec.batch, pass_axes(spec, direction), x_strides[:-1], y_strides[:-1], kernel)


def plane_pitch(lattice: Lattice, covered: int) -> int:
    """Return how far apart planes lie of which registers read ``covered`` pixels from every tap on."""
    columns = lattice.columns.phase
    return spread_pitch(covered + -(-columns.reach // columns.stride))


def spread_pitch(pixels: int) -> int:
    """Return a distance of planes of so many pixels: an odd number of 64-byte lines of float32.

    So the same pixel of many planes, which a transpose writes and a tile reads, lies in all sets of L1.
    """
    return (-(-pixels // 16) | 1) * 16


def number_cycles(pixel_step: int, channels: int) -> float:
    """Return what it costs to gather a number from pixels ``pixel_step`` apart."""
    if pixel_step == 1:
        return COPY_CYCLES
    if channels == 1:
        return SCALAR_CYCLES
    is_spread = channels < pixel_step and channels < SPREAD_CHANNELS
    return (SPREAD_CYCLES if is_spread else TRANSPOSE_CYCLES) + CHANNEL_CYCLES * channels


def describe_taps(record: Record, lattice: Lattice, block: Block, channels: int, kernel_channel: int) -> None:
    """Fill in where each tap's run lies in the gathered planes and in the kernel."""
    columns, run = lattice.columns.phase, run_of(lattice, channels)
    kernel, row_size = kernel_offsets(lattice, all_taps=False), block.row_size
    starts = []
    for position in itertools.product(*(range(len(axis.phase.taps)) for axis in lattice.axes)):
        *outer, row, column = position
        plane = 0
        for axis, tap in zip(lattice.planes, outer, strict=True):
            plane = plane * len(axis.phase.taps) + tap
        residue, pixel = column * columns.dilation % columns.stride, column * columns.dilation // columns.stride
        tap_row = plane * record.fields[at.TAP_ROWS] + row * lattice.rows.phase.dilation
        starts.append(tap_row * row_size + residue * channels * block.pitch + pixel)
    record.fields |= {at.RUN_STRIDE: block.pitch, at.KERNEL_CHANNEL: kernel_channel}
    if run.along_columns:
        width = run.length
        record.fields |= {at.RUN_STRIDE: columns.dilation, at.KERNEL_CHANNEL: kernel[1] - kernel[0]}
        starts = [start + c * block.pitch for start in starts[::width] for c in range(channels)]
        kernel = [offset + c * kernel_channel for offset in kernel[::width] for c in range(channels)]
    record.fields |= {at.RUN: run.length, at.TAPS: len(starts)}
    record.tables |= {at.TAP_OFFSETS: starts, at.KERNEL_TAPS: kernel}
