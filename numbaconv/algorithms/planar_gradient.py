"""Kernel gradient with few channels: pixels in the lanes of registers."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.blocking import FMA_PER_CYCLE, L2_BYTES_PER_CYCLE, STRETCH_CYCLES, TILE_CYCLES
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    describe_reads,
    round_up,
    task_counts,
    with_taps,
)
from numbaconv.algorithms.lattice import Lattice
from numbaconv.algorithms.plan_parts import GradientPlan, is_small, launch_gradient
from numbaconv.algorithms.planes import (
    ROW_CYCLES,
    Block,
    RowPrice,
    cheapest_block,
    describe_taps,
    even_parts,
    number_cycles,
    phases,
    plane_pitch,
    run_of,
)
from numbaconv.kernels import layout as at
from numbaconv.kernels.planar_gradient import planar_kernel_gradient
from numbaconv.kernels.tile_sizes import CHAINS_IN_FLIGHT, OUTER_VECTORS
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

MAX_CHANNELS = 64
"""Channels of a group, read and written together, whose planes a block may hold."""

MAX_SUMS = 4096
"""Numbers of a group's gradient of which a task may keep a register of sums each."""

MAX_CHUNKS = 32
CHUNK_CYCLES = 100_000  # chunks take about as long at least


def refuses(spec: ConvSpec) -> str | None:
    """Return why the algorithm cannot run a kernel gradient, None if it can."""
    of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
    if of_input + of_output > MAX_CHANNELS:
        return f"a group has {of_input + of_output} channels, and planes of more than {MAX_CHANNELS} are not gathered"
    sums = spec.taps * of_input * of_output
    if sums > MAX_SUMS:
        return f"a group's gradient has {sums} numbers, and registers of sums are kept of {MAX_SUMS} at most"
    return None


@lru_cache(maxsize=1024)
def _tiles(run: int, channels: int, registers: int) -> list[tuple[int, int, int, int, int]]:
    """Return numbers, channels and registers of the tiles that cover a run, with its first number and channel.

    Rows have so many ``registers`` of pixels: tiles cover them with the least waste.
    """
    tiles, i = [], 0
    for numbers in even_parts(run, max(numbers for numbers, _ in OUTER_VECTORS)):
        channel = 0
        for count in even_parts(channels, max(count for _, count in OUTER_VECTORS)):
            vectors = min(OUTER_VECTORS[numbers, count], key=lambda many: -(-registers // many) * many)
            tiles.append((numbers, count, vectors, i, channel))
            channel += count
        i += numbers
    return tiles


def _registers(columns: int, dtype: str) -> int:
    return -(-columns // TARGET.lanes(dtype))


def _covered(run: int, channels: int, columns: int, dtype: str) -> int:
    """Return how many pixels of a row the registers of any tile read."""
    registers = _registers(columns, dtype)
    return max(round_up(registers, each[2]) for each in _tiles(run, channels, registers)) * TARGET.lanes(dtype)


@lru_cache(maxsize=256)
def _row_cycles(run: int, channels: int, columns: int, lanes: int) -> float:
    """Return the cycles of one row of pixels for one tap."""
    cycles = 0.0
    for numbers, count, registers, _, _ in _tiles(run, channels, -(-columns // lanes)):
        fmas, loads = numbers * count * registers, (numbers + count) * registers
        cycles += -(-columns // (registers * lanes)) * max(fmas, CHAINS_IN_FLIGHT, loads) / FMA_PER_CYCLE + 4
    return cycles


def _block(spec: ConvSpec, lattice: Lattice) -> Block:
    """Return the block of a phase."""
    of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
    lanes, item = TARGET.lanes(spec.dtype), np.dtype(spec.dtype).itemsize
    columns, run = lattice.columns.phase, run_of(lattice, of_input)
    of_x = number_cycles(lattice.columns.x_stride * columns.stride, of_input)
    of_grad = number_cycles(lattice.columns.y_stride, of_output)
    stretch = STRETCH_CYCLES if spec.groups > 1 else 0.0

    def price(length: int) -> tuple[int, int, RowPrice]:
        pitch = plane_pitch(lattice, _covered(run.length, of_output, length, spec.dtype))
        tiles = _tiles(run.length, of_output, _registers(length, spec.dtype))
        visit = sum(TILE_CYCLES + 4 * numbers * count for numbers, count, *_ in tiles) * run.taps
        row_size = columns.stride * of_input * pitch
        of_row = run.taps * _row_cycles(run.length, of_output, length, lanes)

        def price_rows(block_rows: int, in_rows: int) -> tuple[int, float]:
            size = (in_rows * row_size + block_rows * of_output * pitch) * item
            pixels, outputs = in_rows * ((length - 1) * columns.stride + columns.reach), block_rows * length
            gathering = pixels * (of_input * of_x + stretch) + outputs * (of_output * of_grad + stretch)
            gathering += (in_rows * columns.stride * of_input + block_rows * of_output) * ROW_CYCLES
            beyond = max(0.0, size - TARGET.l1_bytes * 0.75) / L2_BYTES_PER_CYCLE * run.taps
            return size, gathering + visit + block_rows * of_row + beyond

        return pitch, row_size, price_rows

    return cheapest_block(lattice, spec.groups, is_small(spec), price)


def estimate(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> float:
    """Return about how many cycles a kernel gradient takes on one thread."""
    lattices = with_taps(phases(spec, "forward", x_strides, y_strides))
    return sum(_block(spec, lattice).cycles for lattice in lattices)


@lru_cache(maxsize=512)
def _plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> GradientPlan:
    of_input, of_output, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    lanes, records = TARGET.lanes(spec.dtype), []
    blocks, gathered, grads, cycles = 0, 0, 0, 0.0
    for lattice in with_taps(phases(spec, "forward", x_strides, y_strides)):
        block = _block(spec, lattice)
        record = Record(task_counts(lattice, block.rows, block.columns))
        describe_reads(record, lattice, block.rows, block.columns, of_input, False, False, block.images, block.pitch)
        describe_taps(record, lattice, block, of_input, 0)
        run, fields = run_of(lattice, of_input), record.fields
        # Offsets in the kernel are numbered by rows of the gradient: taps x channels of a group.
        tap_rows = [offset // (groups * of_output) for offset in record.tables[at.KERNEL_TAPS]]
        if run.along_columns:
            tap_rows = [row + c for row, c in zip(tap_rows, itertools.cycle(range(of_input)))]
        tiles = _tiles(run.length, of_output, _registers(block.columns, spec.dtype))
        fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.X_GROUP: of_input * x_strides[-1], at.X_CHANNEL: x_strides[-1],
            at.Y_GROUP: of_output, at.OUT_CHANNELS: of_output, at.KERNEL_TAP_COUNT: spec.taps,
            at.GRADIENT_CHANNELS: of_input, at.ROW_STRIDE: lattice.rows.phase.stride * block.row_size,
            at.GRADIENT_STRIDE: of_input if run.along_columns else 1, at.GRAD_PITCH: block.pitch,
        }  # fmt: skip
        numbers = [(64 * n + 8 * count + registers, i, channel) for n, count, registers, i, channel in tiles]
        record.tables |= {
            at.PACKED_TAPS: tap_rows,
            at.WIDE_FULL: [len(tiles), *itertools.chain.from_iterable(numbers)],
        }
        records.append(record)
        blocks += block_count(record)
        cycles += block.cycles
        # A transpose of a last plane's pixels reaches over as many planes as a register has lanes.
        rows = fields[at.PLANE_TAPS] * fields[at.TAP_ROWS]
        gathered = max(gathered, rows * block.row_size + lanes * block.pitch)
        grads = max(grads, (block.rows * of_output + lanes) * block.pitch)
    size = math.prod(spec.kernel_shape)
    chunks = min(MAX_CHUNKS, blocks, max(1, int(cycles / groups / CHUNK_CYCLES)))
    second = round_up(gathered, 16)
    sums = second + round_up(grads, 16)
    workspace = sums + round_up(spec.taps * of_input * of_output * lanes, 16)
    header = {
        at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: sums, at.CHUNKS: chunks, at.BLOCKS: blocks,
        at.GRADIENT_SIZE: size,
    }  # fmt: skip
    partial = size * chunks if chunks > 1 else 0
    return GradientPlan(assemble(header, records), chunks * groups, workspace, partial, groups)


def launch(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> parallel.Launch:
    """Return a launch on (x, grad_y, grad_kernel)."""
    plan = _plan(spec, x_strides, y_strides)
    return launch_gradient(planar_kernel_gradient, spec, plan)
