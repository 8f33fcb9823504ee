"""Depthwise convolution, one input channel a group: channels in the lanes instead of a product over channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.axes import AxisPhase, pass_axes
from numbaconv.algorithms.blocking import choose_depthwise_block
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    bounce_size,
    describe_reads,
    gathered_size,
    is_in_place,
    kernel_taps,
    round_up,
    task_counts,
    tile_list,
)
from numbaconv.algorithms.lattice import Axis, Lattice, lattices
from numbaconv.algorithms.plan_parts import (
    SERIAL_MACS,
    Strides,
    element_strides,
    kernel_strides,
    lattice_extent,
    padded_bias,
)
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise import depthwise_forward
from numbaconv.kernels.depthwise_gradient import depthwise_kernel_gradient
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "depthwise"
MAX_PIXEL_CHUNKS = 32
PIXELS_PER_CHUNK = 256


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, or None."""
    if spec.in_channels_per_group != 1 or spec.groups == 1:
        return f"a group has {spec.in_channels_per_group} input channels, not one of several groups' single channel"
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a call needs besides its arrays."""

    geometry: NDArray[np.int64]
    tasks: int
    workspace: int
    bias_width: int
    partial_size: int
    counters: int
    serial: bool


def _with_multiplier(lattice: Lattice, multiplier: int, x_channel: int) -> Lattice:
    """Return the lattice of an input gradient with the outputs of one channel as one more axis of taps.

    grad_y's channel c * multiplier + j reaches input channel c through tap j of that axis.
    """
    if multiplier == 1:
        return lattice
    taps = tuple(range(multiplier))
    axis = Axis(AxisPhase(1, 0, 1, 1, 1, taps, taps), x_channel, 0, 1)
    planes = (*lattice.planes, axis)
    return Lattice(
        lattice.batch, lattice.x_batch, lattice.y_batch, planes, lattice.rows, lattice.columns, lattice.y_start
    )


def _record(
    lattice: Lattice, dtype: str, x_channel: int, channels: int, repeat: int, kernel_column: int
) -> tuple[Record, int]:
    """Return the record of one phase and its number of pixel blocks."""
    lanes = TARGET.lanes(dtype)
    in_place = repeat == 1 and channels % lanes == 0 and is_in_place(lattice, x_channel, 1)
    block = choose_depthwise_block(lattice_extent(lattice, 1, channels, 1, in_place, dtype))
    record = Record(task_counts(lattice, block.rows, block.columns))
    describe_reads(record, lattice, block.rows, block.columns, block.channels, in_place, merged=False)
    taps, _ = kernel_taps(lattice, merged=False)
    fields = record.fields
    run_taps = max(len(lattice.columns.phase.taps), 1)
    pixel = lattice.columns.position_step if in_place else block.channels
    last = lattice.columns.phase.count - (fields[at.COLUMN_BLOCKS] - 1) * block.columns
    fields |= {
        at.GROUPS: 1, at.PANEL_CHUNKS: -(-channels // block.channels), at.X_CHANNEL: x_channel,
        at.OUT_CHANNELS: channels, at.KERNEL_COLUMN: kernel_column, at.REPEAT: repeat, at.RUN_TAPS: run_taps,
        at.KERNEL_RUN_TAP: lattice.columns.phase.dilation * pixel,
    }  # fmt: skip
    record.tables |= {
        at.KERNEL_TAPS: taps,
        at.WIDE_FULL: tile_list(block.columns, 2),
        at.WIDE_LAST: tile_list(last, 2),
        at.NARROW_FULL: tile_list(block.columns, 1),
        at.NARROW_LAST: tile_list(last, 1),
    }
    counts = (at.BATCH, at.PLANES, at.ROW_BLOCKS, at.COLUMN_BLOCKS)
    return record, math.prod(fields[count] for count in counts)


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    forward = direction == "forward"
    multiplier = spec.depth_multiplier
    channels = spec.out_channels if forward else spec.in_channels
    repeat = multiplier if forward else 1
    x_channel = x_strides[-1] if forward else x_strides[-1] * multiplier
    records, tasks, gathered, packed, width = [], 0, 0, 0, 0
    axes, strides = pass_axes(spec, direction), kernel_strides(spec)
    for lattice in lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], strides[:-2]):
        if not forward:
            lattice = _with_multiplier(lattice, multiplier, x_strides[-1])
        record, blocks = _record(lattice, spec.dtype, x_channel, channels, repeat, 1 if forward else multiplier)
        fields = record.fields
        fields[at.FIRST_TASK] = tasks
        tasks += blocks * fields[at.PANEL_CHUNKS]
        gathered = max(gathered, gathered_size(record))
        packed = max(packed, fields[at.TAPS] * fields[at.CHANNELS])
        width = max(width, fields[at.PANEL_CHUNKS] * fields[at.CHANNELS])
        records.append(record)
    first = round_up(gathered, 16)
    bounce = first + round_up(packed, 16)
    workspace = bounce + bounce_size(spec.dtype)
    header = {at.WORKSPACE: workspace, at.PACKED_GRADIENT: first, at.BOUNCE: bounce}
    serial = spec.macs < SERIAL_MACS
    return Plan(assemble(header, records), tasks, workspace, width, 0, 0, serial)


def _run(
    spec: ConvSpec,
    direction: str,
    x: NDArray,
    kernel: NDArray,
    bias: NDArray | None,
    activation: str | None,
    y: NDArray,
) -> None:
    plan = product_plan(spec, direction, element_strides(x), element_strides(y))
    bound = padded_bias(spec.dtype, bias, activation, 1, plan.bias_width)
    arrays = (x, kernel, kernel, bound, y)
    parallel.launch(depthwise_forward, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial)


def forward(
    spec: ConvSpec, x: NDArray, kernel: NDArray, bias: NDArray | None, activation: str | None, y: NDArray
) -> None:
    """Fill ``y`` (contiguous, channels last) with the convolution of ``x``."""
    _run(spec, "forward", x, kernel, bias, activation, y)


def input_grad(
    spec: ConvSpec, grad_y: NDArray, kernel: NDArray, bias: NDArray | None, activation: str | None, grad_x: NDArray
) -> None:
    """Fill ``grad_x`` (contiguous, channels last) with the gradient of zero-padded input."""
    _run(spec, "input_grad", grad_y, kernel, bias, activation, grad_x)


@lru_cache(maxsize=512)
def gradient_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> Plan:
    """Plan a kernel gradient; strides, in elements, of (batch, *spatial, channels)."""
    axes, strides = pass_axes(spec, "forward"), kernel_strides(spec)
    (lattice,) = lattices(spec.batch, axes, x_strides[:-1], y_strides[:-1], strides[:-2])
    record, blocks = _record(lattice, spec.dtype, x_strides[-1], spec.out_channels, spec.depth_multiplier, 1)
    fields = record.fields
    run = fields[at.RUN_TAPS]
    record.tables |= {at.WIDE_FULL: tile_list(run, 2), at.NARROW_FULL: tile_list(run, 1)}
    pixels = spec.batch * math.prod(spec.out_spatial)
    chunks = min(MAX_PIXEL_CHUNKS, blocks, max(1, pixels // PIXELS_PER_CHUNK))
    packed = round_up(gathered_size(record), 16)
    total = packed + round_up(fields[at.BLOCK_ROWS] * fields[at.BLOCK_COLUMNS] * fields[at.CHANNELS], 16)
    workspace = total + round_up(fields[at.TAPS] * fields[at.CHANNELS], 16)
    size = math.prod(spec.kernel_shape)
    header = {
        at.WORKSPACE: workspace, at.PACKED_GRADIENT: packed, at.BOUNCE: total, at.CHUNKS: chunks, at.BLOCKS: blocks,
        at.GRADIENT_SIZE: size,
    }  # fmt: skip
    counters = fields[at.PANEL_CHUNKS]
    geometry = assemble(header, [record])
    serial = spec.macs < SERIAL_MACS
    return Plan(geometry, counters * chunks, workspace, 0, size * chunks if chunks > 1 else 0, counters, serial)


def kernel_grad(spec: ConvSpec, x: NDArray, grad_y: NDArray, grad_kernel: NDArray) -> None:
    """Fill ``grad_kernel`` (contiguous) with the gradient; ``x`` and ``grad_y`` have channels last."""
    plan = gradient_plan(spec, element_strides(x), element_strides(grad_y))
    partial = memory.empty((plan.partial_size,), spec.dtype)
    counters = np.zeros(plan.counters, np.int64)
    arrays = (x, grad_kernel, partial, partial, grad_y, counters)
    parallel.launch(
        depthwise_kernel_gradient, spec.dtype, plan.tasks, plan.geometry, arrays, plan.workspace, plan.serial
    )
