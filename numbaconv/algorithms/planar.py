"""Convolution with few output channels: pixels in the lanes of registers, not channels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms import planar_gradient
from numbaconv.algorithms.blocking import (
    STRETCH_CYCLES,
    TAP_CYCLES,
    TILE_CYCLES,
)
from numbaconv.algorithms.calibration import COPIED_PLANES, WIDE_PLANES, share
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    describe_reads,
    round_up,
    task_counts,
)
from numbaconv.algorithms.lattice import Lattice
from numbaconv.algorithms.plan_parts import (
    BiasPart,
    Plan,
    array_strides,
    is_small,
    kernel_strides,
    launch_product,
    product_channels,
)
from numbaconv.algorithms.planes import (
    COPY_CYCLES,
    ROW_CYCLES,
    Block,
    PixelTile,
    RowPrice,
    cheapest_block,
    describe_taps,
    even_parts,
    number_cycles,
    phases,
    plane_pitch,
    run_of,
    split_registers,
    step_cycles,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as at
from numbaconv.kernels.planar import planar_forward
from numbaconv.kernels.tile_sizes import PLANAR_VECTORS
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "planar"

MAX_CHANNELS = 31
"""Output channels of a group up to which many lanes of registers of channels may be idle."""

CACHE_BYTES_PER_CYCLE = 10.0
"""Of a block and a kernel that do not fit L2 together."""

LEAVING_CYCLES, TRANSPOSED_CYCLES = 1.25, 0.5  # a number that is brought from a plane to the output, by transposes


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None if it can."""
    if spec.batch == 0:
        return "the batch is empty"
    if direction == "kernel_grad":
        return planar_gradient.refuses(spec)
    _, channels = product_channels(spec, direction)
    if channels > MAX_CHANNELS:
        return f"a group writes {channels} channels, and with more than {MAX_CHANNELS} registers of channels are full"
    return None


@lru_cache(maxsize=256)
def _tiles(channels: int, columns: int, dtype: str) -> list[PixelTile]:
    """Return the tiles that cover a row of pixels; the last one may reach over its end."""
    lanes, tiles, channel = TARGET.lanes(dtype), [], 0
    for count in even_parts(channels, max(PLANAR_VECTORS)):
        pixel = 0
        for vectors in split_registers(PLANAR_VECTORS[count], count, -(-columns // lanes)):
            tiles.append(PixelTile(count, vectors, channel, pixel))
            pixel += vectors * lanes
        channel += count
    return tiles


def _covered(channels: int, columns: int, dtype: str) -> int:
    """Return how many pixels the tiles of a row compute."""
    return max(tile.pixel + tile.vectors * TARGET.lanes(dtype) for tile in _tiles(channels, columns, dtype))


def _tile_table(channels: int, columns: int, dtype: str) -> list[int]:
    tiles = _tiles(channels, columns, dtype)
    numbers = [(tile.size, tile.row, tile.pixel) for tile in tiles]
    return [len(tiles), *itertools.chain.from_iterable(numbers)]


def _block(spec: ConvSpec, direction: str, lattice: Lattice) -> Block:
    """Return the block of a phase."""
    channels, out_channels = product_channels(spec, direction)
    lanes, item = TARGET.lanes(spec.dtype), np.dtype(spec.dtype).itemsize
    columns, run = lattice.columns.phase, run_of(lattice, channels)
    of_number = number_cycles(lattice.columns.x_stride * columns.stride, channels)
    leaving = TRANSPOSED_CYCLES
    if lattice.columns.y_stride != out_channels:
        leaving = LEAVING_CYCLES
    elif out_channels == 1:
        leaving = COPY_CYCLES
    kernel_bytes = run.length * run.taps * out_channels * item
    passes = len(even_parts(out_channels, max(PLANAR_VECTORS)))
    # A group's channels of a pixel are a stretch of memory of their own.
    stretch = STRETCH_CYCLES if spec.groups > 1 else 0.0

    def price(length: int) -> tuple[int, int, RowPrice]:
        tiles = _tiles(out_channels, length, spec.dtype)
        # The last tile reaches over the row's end.
        pitch = plane_pitch(lattice, _covered(out_channels, length, spec.dtype))
        row_size = columns.stride * channels * pitch
        of_row = sum(
            run.taps * (run.length * step_cycles(tile.rows, tile.vectors) + TAP_CYCLES)
            + TILE_CYCLES
            + tile.rows * tile.vectors * lanes * leaving
            for tile in tiles
        )

        def price_rows(block_rows: int, in_rows: int) -> tuple[int, float]:
            pixels = in_rows * ((length - 1) * columns.stride + columns.reach)
            gathering = pixels * (channels * of_number + stretch) + in_rows * ROW_CYCLES
            gathering += block_rows * length * stretch
            size = in_rows * row_size * item
            # All tiles of the same channels pass over the block and the kernel.
            spilled = min(size + kernel_bytes, 2 * max(0, size + kernel_bytes - TARGET.l2_bytes // 2))
            return size, gathering + block_rows * of_row + passes * spilled / CACHE_BYTES_PER_CYCLE

        return pitch, row_size, price_rows

    return cheapest_block(lattice, spec.groups, is_small(spec), price)


@lru_cache(maxsize=512)
def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    x, y = array_strides(spec)
    of_pass = share(NAME, direction)
    if direction == "kernel_grad":
        return planar_gradient.estimate(spec, x, y) * of_pass
    strides = (x, y) if direction == "forward" else (y, x)
    cycles = sum(_block(spec, direction, lattice).cycles for lattice in phases(spec, direction, *strides))
    channels, outs = product_channels(spec, direction)
    if direction == "forward" and of_pass < 1:
        of_pass = COPIED_PLANES if channels == 1 else WIDE_PLANES if outs > TARGET.lanes(spec.dtype) else of_pass
    return cycles * of_pass


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    channels, out_channels = product_channels(spec, direction)
    lanes, strides, forward = TARGET.lanes(spec.dtype), kernel_strides(spec), direction == "forward"
    records, tasks, gathered, leaving = [], 0, 0, 0
    for lattice in phases(spec, direction, x_strides, y_strides):
        block = _block(spec, direction, lattice)
        record = Record(task_counts(lattice, block.rows, block.columns))
        describe_reads(record, lattice, block.rows, block.columns, channels, False, False, block.images, block.pitch)
        describe_taps(record, lattice, block, channels, strides[-2] if forward else 1)
        last = lattice.columns.phase.count - (record.fields[at.COLUMN_BLOCKS] - 1) * block.columns
        # 16 more: planes a multiple of 4 KB apart would crowd in few sets of L1.
        out_pitch = round_up(_covered(out_channels, block.columns, spec.dtype), 16) + 16
        record.fields |= {
            at.OUT_CHANNELS: out_channels, at.OUT_PITCH: out_pitch,
            at.FIRST_TASK: tasks, at.GROUPS: spec.groups, at.X_GROUP: channels * x_strides[-1],
            at.X_CHANNEL: x_strides[-1], at.Y_GROUP: out_channels, at.BIAS_GROUP: out_channels,
            at.ROW_STRIDE: lattice.rows.phase.stride * block.row_size, at.KERNEL_GROUP: spec.out_channels_per_group,
            at.KERNEL_COLUMN: 1 if forward else strides[-2],
        }  # fmt: skip
        record.tables |= {
            at.WIDE_FULL: _tile_table(out_channels, block.columns, spec.dtype),
            at.WIDE_LAST: _tile_table(out_channels, last, spec.dtype),
        }
        records.append(record)
        tasks += block_count(record) * spec.groups
        gathered = max(
            gathered, record.fields[at.PLANE_TAPS] * record.fields[at.TAP_ROWS] * block.row_size + lanes * block.pitch
        )
        # A register of pixels, the planes and those that a transpose reads behind them.
        leaving = max(leaving, lanes * (out_channels + 1) + max(out_channels, lanes) * out_pitch)
    bounce = round_up(gathered, 16)
    workspace = bounce + round_up(leaving, 16)
    return Plan(assemble({at.WORKSPACE: workspace, at.BOUNCE: bounce}, records), tasks, workspace)


def prepare(
    spec: ConvSpec,
    direction: str,
    first_strides: Strides,
    second_strides: Strides,
    activation: Ending = None,
    has_bias: bool = False,
) -> Callable[..., None]:
    """Return what runs a pass: `run(x, kernel, y[, bias])`, for input gradients with grad_y as x and grad_x as y.

    For kernel gradients `run(x, grad_y, grad_kernel)`.
    """
    if direction == "kernel_grad":
        return planar_gradient.launch(spec, first_strides, second_strides)
    return _launch(spec, direction, first_strides, activation, has_bias)


@lru_cache(maxsize=512)
def _launch(spec: ConvSpec, direction: str, x_strides: Strides, activation: Ending, has_bias: bool) -> parallel.Launch:
    shape = spec.result_shape(direction)
    plan = product_plan(spec, direction, x_strides, contiguous_strides(shape))
    parts = (BiasPart(0, 1, shape[-1] // spec.groups),)
    return launch_product(planar_forward, spec, plan, shape, parts, activation, has_bias, (0, 1, 1), (2,), spec.groups)
