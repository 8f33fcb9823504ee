"""Direct convolution with register tiles: every spec, every pass. The general algorithm, last in every table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.axes import pass_axes
from numbaconv.algorithms.blocking import choose_block, choose_gradient_block, panel_count
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
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
from numbaconv.algorithms.lattice import lattices
from numbaconv.algorithms.plan_parts import (
    SERIAL_MACS,
    Strides,
    element_strides,
    kernel_strides,
    lattice_extent,
    padded_bias,
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
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    forward = direction == "forward"
    of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
    channels, out_channels = (of_input, of_output) if forward else (of_output, of_input)
    strides, lanes, groups = kernel_strides(spec), TARGET.lanes(spec.dtype), spec.groups
    panels = panel_count(out_channels, spec.dtype)
    panel_width = [min(2 * lanes, round_up(out_channels - p * 2 * lanes, lanes)) for p in range(panels)]
    width = sum(panel_width)

    records: list[Record] = []
    tasks = packed = states = gathered = 0
    phases = lattices(spec.batch, pass_axes(spec, direction), x_strides[:-1], y_strides[:-1], strides[:-2])
    for lattice in phases:
        in_place = is_in_place(lattice, x_strides[-1], groups)
        extent = lattice_extent(lattice, channels, out_channels, groups, in_place, spec.dtype)
        block = choose_block(extent)
        record = Record(task_counts(lattice, block.rows, block.columns))
        merged = has_merged_run(lattice, channels, in_place)
        describe_reads(record, lattice, block.rows, block.columns, channels, in_place, merged)
        taps, run_tap = kernel_taps(lattice, merged)
        chunk = -(-panels // block.panel_chunks)
        last = lattice.columns.phase.count - (record.fields[at.COLUMN_BLOCKS] - 1) * block.columns
        record.fields |= {
            at.FIRST_TASK: tasks, at.GROUPS: groups, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS: panels,
            at.PANELS_PER_CHUNK: chunk, at.X_GROUP: channels * x_strides[-1], at.X_CHANNEL: x_strides[-1],
            at.Y_GROUP: out_channels, at.OUT_CHANNELS: out_channels, at.PACKED: packed,
            at.PACKED_GROUP: width * extent.depth, at.STATES: states, at.KERNEL_RUN_TAP: run_tap,
            at.KERNEL_GROUP: of_output, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
            at.KERNEL_COLUMN: 1 if forward else strides[-2], at.BIAS_GROUP: width,
        }  # fmt: skip
        record.tables |= {
            at.KERNEL_TAPS: taps,
            at.WIDE_FULL: tile_list(block.columns, 2),
            at.WIDE_LAST: tile_list(last, 2),
            at.NARROW_FULL: tile_list(block.columns, 1),
            at.NARROW_LAST: tile_list(last, 1),
        }
        records.append(record)
        counts = (at.BATCH, at.PLANES, at.ROW_BLOCKS, at.COLUMN_BLOCKS, at.GROUPS, at.PANEL_CHUNKS)
        tasks += math.prod(record.fields[count] for count in counts)
        packed += width * extent.depth * groups
        states += panels * groups
        gathered = max(gathered, gathered_size(record))
    bounce = round_up(gathered, 16)
    workspace = bounce + bounce_size(spec.dtype)
    geometry = assemble({at.WORKSPACE: workspace, at.BOUNCE: bounce}, records)
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
    channels, out_channels, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    axes = pass_axes(spec, "forward")
    (lattice,) = lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], kernel_strides(spec)[:-2])
    in_place = is_in_place(lattice, x_strides[-1], groups)
    extent = lattice_extent(lattice, channels, out_channels, 1, in_place, spec.dtype)
    merged = has_merged_run(lattice, channels, in_place)
    run = max(len(lattice.columns.phase.taps), 1) * channels if merged else channels
    block = choose_gradient_block(extent, run, groups)
    panels = panel_count(out_channels, spec.dtype)
    chunk = -(-panels // block.panel_chunks)
    record = Record(task_counts(lattice, block.rows, block.columns))
    describe_reads(record, lattice, block.rows, block.columns, channels, in_place, merged)
    record.fields |= {
        at.GROUPS: groups, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS: panels, at.PANELS_PER_CHUNK: chunk,
        at.X_GROUP: channels * x_strides[-1], at.X_CHANNEL: x_strides[-1], at.Y_GROUP: out_channels,
        at.OUT_CHANNELS: out_channels,
    }  # fmt: skip
    record.tables |= {at.WIDE_FULL: tile_list(run, 2), at.NARROW_FULL: tile_list(run, 1)}
    fields = record.fields
    packed = round_up(gathered_size(record), 16)
    bounce = packed + round_up(block.rows * block.columns * 2 * TARGET.lanes(spec.dtype), 16)
    workspace = bounce + bounce_size(spec.dtype)
    size = math.prod(spec.kernel_shape)
    header = {
        at.WORKSPACE: workspace,
        at.BOUNCE: bounce,
        at.PACKED_GRADIENT: packed,
        at.CHUNKS: block.pixel_chunks,
        at.BLOCKS: extent.images * fields[at.ROW_BLOCKS] * fields[at.COLUMN_BLOCKS],
        at.GRADIENT_SIZE: size,
    }
    counters = fields[at.PANEL_CHUNKS] * groups
    partial = size * block.pixel_chunks if block.pixel_chunks > 1 else 0
    tasks = counters * block.pixel_chunks
    geometry = assemble(header, [record])
    return GradientPlan(geometry, tasks, workspace, partial, counters, spec.macs < SERIAL_MACS)


def kernel_grad(spec: ConvSpec, x: NDArray, grad_y: NDArray, grad_kernel: NDArray) -> None:
    """Fill ``grad_kernel`` (contiguous) with the gradient; ``x`` and ``grad_y`` have channels last."""
    plan = gradient_plan(spec, element_strides(x), element_strides(grad_y))
    partial = memory.empty((plan.partial_size,), spec.dtype)
    counters = np.zeros(plan.counters, np.int64)
    arrays = (x, grad_kernel, partial, partial, grad_y, counters)
    parallel.launch(direct_kernel_gradient, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial)
