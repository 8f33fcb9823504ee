"""Direct convolution with register tiles: every spec, every pass. The general algorithm, last in every table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.blocking import (
    Block,
    Extent,
    GradientBlock,
    choose_block,
    choose_gradient_block,
    gradient_chunks,
    panel_count,
    taps_per_pass,
)
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    bounce_size,
    describe_reads,
    gathered_size,
    has_merged_run,
    is_in_place,
    kernel_taps,
    round_up,
    task_counts,
    tile_list,
)
from numbaconv.algorithms.lattice import Lattice
from numbaconv.algorithms.plan_parts import (
    SERIAL_MACS,
    Strides,
    element_strides,
    kernel_strides,
    lattice_extent,
    lattice_variants,
    padded_bias,
    product_channels,
)
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import direct_forward
from numbaconv.kernels.kernel_gradient import direct_kernel_gradient
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "direct"


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass: it always can."""
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a call needs besides its arrays."""

    geometry: NDArray[np.int64]
    tasks: int
    workspace: int
    packed_size: int
    states: int
    bias_groups: int
    bias_width: int  # padded channels of a group
    serial: bool


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels).

    Of the phases with their padding and the phases that keep padded borders apart, the cheaper ones are taken.
    """
    variants = lattice_variants(spec, direction, x_strides, y_strides)
    choices = [
        [(lattice, *_chosen_block(spec, direction, lattice, x_strides)) for lattice in each] for each in variants
    ]
    best = min(choices, key=lambda choice: sum(block.cycles for _, _, _, block in choice))
    return _assembled(spec, direction, best, x_strides)


def _chosen_block(spec: ConvSpec, direction: str, lattice: Lattice, x_strides: Strides) -> tuple[Extent, bool, Block]:
    """Return the extent of a phase, whether it is read in place, and its block."""
    channels, out_channels = product_channels(spec, direction)
    in_place = is_in_place(lattice, x_strides[-1], spec.groups)
    extent = lattice_extent(lattice, channels, out_channels, spec.groups, in_place, spec.dtype)
    return extent, in_place, choose_block(extent)


def _assembled(
    spec: ConvSpec, direction: str, phases: list[tuple[Lattice, Extent, bool, Block]], x_strides: Strides
) -> Plan:
    """Write the geometry of the chosen phases."""
    forward, of_output = direction == "forward", spec.out_channels_per_group
    channels, out_channels = product_channels(spec, direction)
    strides, lanes, groups = kernel_strides(spec), TARGET.lanes(spec.dtype), spec.groups
    panels = panel_count(out_channels, spec.dtype)
    width = round_up(out_channels, lanes)
    records: list[Record] = []
    kernels: dict[tuple[tuple[int, ...], ...], tuple[int, int]] = {}
    tasks = packed = states = gathered = sums = 0
    for lattice, extent, in_place, block in phases:
        record = Record(task_counts(lattice, block.rows, block.columns))
        merged = has_merged_run(lattice, channels, in_place)
        describe_reads(record, lattice, block.rows, block.columns, channels, in_place, merged, block.images)
        taps, run_tap = kernel_taps(lattice, merged)
        chunk = -(-panels // block.panel_chunks)
        last = lattice.columns.phase.count - (record.fields[at.COLUMN_BLOCKS] - 1) * block.columns
        # Phases with the same taps share one packed kernel.
        key = tuple(axis.phase.taps for axis in (*lattice.planes, lattice.rows, lattice.columns))
        if key not in kernels:
            kernels[key] = packed, states
            packed += width * extent.depth * groups
            states += panels * groups
        record.fields |= {
            at.FIRST_TASK: tasks, at.GROUPS: groups, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS: panels,
            at.PANELS_PER_CHUNK: chunk, at.X_GROUP: channels * x_strides[-1], at.X_CHANNEL: x_strides[-1],
            at.Y_GROUP: out_channels, at.OUT_CHANNELS: out_channels, at.PACKED: kernels[key][0],
            at.PACKED_GROUP: width * extent.depth, at.STATES: kernels[key][1], at.KERNEL_RUN_TAP: run_tap,
            at.KERNEL_GROUP: of_output, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
            at.KERNEL_COLUMN: 1 if forward else strides[-2], at.BIAS_GROUP: width,
            at.TAPS_PER_PASS: taps_per_pass(record.fields[at.RUN], spec.dtype),
        }  # fmt: skip
        record.tables |= {
            at.KERNEL_TAPS: taps,
            at.WIDE_FULL: tile_list(block.columns, 2),
            at.WIDE_LAST: tile_list(last, 2),
            at.NARROW_FULL: tile_list(block.columns, 1),
            at.NARROW_LAST: tile_list(last, 1),
        }
        records.append(record)
        tasks += block_count(record) * groups * record.fields[at.PANEL_CHUNKS]
        gathered = max(gathered, gathered_size(record))
        sums = max(sums, block.images * block.rows * block.columns * 2 * lanes)
    second = round_up(gathered, 16)
    bounce = second + round_up(sums, 16)
    workspace = bounce + bounce_size(spec.dtype)
    geometry = assemble({at.WORKSPACE: workspace, at.SECOND: second, at.BOUNCE: bounce}, records)
    return Plan(geometry, tasks, workspace, packed, states, groups, width, spec.macs < SERIAL_MACS)


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
    states = np.zeros(max(plan.states, 1), np.int64)
    bound = padded_bias(spec.dtype, bias, activation, plan.bias_groups, plan.bias_width)
    arrays = (x, kernel, packed, bound, y, states)
    parallel.launch(direct_forward, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial)


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


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """All that a kernel gradient needs besides its arrays."""

    geometry: NDArray[np.int64]
    tasks: int
    workspace: int
    partial_size: int
    counters: int
    serial: bool


@lru_cache(maxsize=512)
def gradient_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> GradientPlan:
    """Plan a kernel gradient; strides, in elements, of (batch, *spatial, channels)."""
    choices = []
    for phases in lattice_variants(spec, "forward", x_strides, y_strides):
        in_place = [is_in_place(lattice, x_strides[-1], spec.groups) for lattice in phases]
        merged = all(
            has_merged_run(lattice, spec.in_channels_per_group, here)
            for lattice, here in zip(phases, in_place, strict=True)
        )
        taps = len(phases[0].columns.phase.taps) if merged else 1
        blocks = []
        for lattice, here in zip(phases, in_place, strict=True):
            of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
            extent = lattice_extent(lattice, of_input, of_output, spec.groups, here, spec.dtype)
            blocks.append(choose_gradient_block(extent, taps))
        choices.append((list(zip(phases, in_place, blocks, strict=True)), merged))
    chosen, merged = min(choices, key=lambda choice: sum(block.cycles for _, _, block in choice[0]))
    return _assembled_gradient(spec, chosen, merged, x_strides)


def _assembled_gradient(
    spec: ConvSpec, phases: list[tuple[Lattice, bool, GradientBlock]], merged: bool, x_strides: Strides
) -> GradientPlan:
    """Write the geometry of the chosen phases; all of them deal the input channels as the largest one does."""
    largest = max(phases, key=lambda phase: phase[2].cycles)[2]
    of_input, of_output, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    channels, lanes = largest.channels, TARGET.lanes(spec.dtype)
    parts = of_input // channels
    merged = merged and parts == 1
    panels = panel_count(of_output, spec.dtype)
    records: list[Record] = []
    blocks = gathered = pixels = 0
    for lattice, in_place, block in phases:
        record = Record(task_counts(lattice, block.rows, block.columns))
        describe_reads(record, lattice, block.rows, block.columns, channels, in_place, merged, block.images)
        run = record.fields[at.RUN]
        record.fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.PANELS: panels, at.X_GROUP: of_input * x_strides[-1],
            at.X_CHANNEL: x_strides[-1], at.Y_GROUP: of_output, at.OUT_CHANNELS: of_output,
            at.CHANNEL_CHUNKS: parts, at.GRADIENT_TAP: run * parts,
        }  # fmt: skip
        record.tables |= {at.WIDE_FULL: tile_list(run, 2), at.NARROW_FULL: tile_list(run, 1)}
        records.append(record)
        blocks += block_count(record)
        gathered = max(gathered, gathered_size(record))
        pixels = max(pixels, block.images * block.rows * block.columns)
    size = math.prod(spec.kernel_shape)
    gradient_bytes = size * np.dtype(spec.dtype).itemsize
    all_pixels = spec.batch * math.prod(spec.out_spatial)
    chunks, panel_chunks = gradient_chunks(all_pixels, blocks, gradient_bytes, parts * groups, panels)
    chunk = -(-panels // panel_chunks)
    for record in records:
        record.fields |= {at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS_PER_CHUNK: chunk}
    packed = round_up(gathered, 16)
    bounce = packed + round_up(pixels * 2 * lanes, 16)
    workspace = bounce + bounce_size(spec.dtype)
    header = {
        at.WORKSPACE: workspace, at.BOUNCE: bounce, at.SECOND: packed, at.CHUNKS: chunks, at.BLOCKS: blocks,
        at.GRADIENT_SIZE: size,
    }  # fmt: skip
    counters = records[0].fields[at.PANEL_CHUNKS] * parts * groups
    partial = size * chunks if chunks > 1 else 0
    geometry = assemble(header, records)
    return GradientPlan(geometry, counters * chunks, workspace, partial, counters, spec.macs < SERIAL_MACS)


def kernel_grad(spec: ConvSpec, x: NDArray, grad_y: NDArray, grad_kernel: NDArray) -> None:
    """Fill ``grad_kernel`` (contiguous) with the gradient; ``x`` and ``grad_y`` have channels last."""
    plan = gradient_plan(spec, element_strides(x), element_strides(grad_y))
    partial = memory.empty((plan.partial_size,), spec.dtype)
    counters = np.zeros(plan.counters, np.int64)
    arrays = (x, grad_kernel, partial, partial, grad_y, counters)
    parallel.launch(direct_kernel_gradient, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial)
