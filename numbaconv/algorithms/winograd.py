"""Winograd convolution F(m, r), m + r = 7, for forward passes and input gradients.

Every phase of a pass whose taps are neighbours along an axis is transformed along that axis: along two axes
where there are two, F(4x4, 3x3) for a kernel of 3 x 3, and summed over the taps of any others. Phases with one tap
along an axis stay as they are there, so strided input gradients and kernels like 1x3 and 3x1x1 run as well. Blocks are
fused: a worker transforms some tiles, multiplies them and transforms them back. `numbaconv.kernels.winograd_points`
has the transforms.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.blocking import panel_count, tile_cycles
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    round_up,
)
from numbaconv.algorithms.plan_parts import (
    BiasPart,
    Plan,
    array_strides,
    is_small,
    kernel_strides,
    launch_product,
    leaves_caches,
    product_channels,
)
from numbaconv.algorithms.winograd_gradient import Gradient, gradient_cycles
from numbaconv.algorithms.winograd_tiles import (
    CACHE_BYTES_PER_CYCLE,
    FAR_KERNEL_BYTES_PER_CYCLE,
    KERNEL_BYTES_PER_CYCLE,
    KERNEL_CYCLES,
    MAX_KERNEL_BYTES,
    MAX_TAPS,
    OUTPUT_CYCLES,
    POINT_CYCLES,
    TilePhase,
    covers,
    input_cycles,
    kernel_taps,
    tile_kinds,
    tile_phases,
    tile_record,
    wide_panels,
)
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.kernels.winograd import winograd_kernel, winograd_product
from numbaconv.kernels.winograd_points import POINTS
from numbaconv.program import Operand, Recorder
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "winograd"


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None when it can."""
    if spec.dtype != "float32":
        return "float64 asks for more accuracy than the transforms have"
    if spec.batch == 0:
        return "the batch is empty"
    phases = _phases(spec, direction)
    if any(not axis.phase.taps for phase in phases for axis in phase.lattice.axes):
        return "some outputs have no tap"
    if all(phase.points == 1 for phase in phases):
        return f"no axis has 2 to {MAX_TAPS} neighbouring taps at stride 1 and outputs side by side"
    if direction == "kernel_grad" and len({(phase.row_points, phase.column_points) for phase in phases}) > 1:
        return "the phases of the dilation are not all tiles of the same kind"
    channels, outs = product_channels(spec, direction)
    size = max(phase.points * phase.summed_taps for phase in phases) * channels * round_up(outs, 16) * spec.groups * 4
    if size > MAX_KERNEL_BYTES:
        return f"its transformed kernel would take {size >> 20} MiB, more than {MAX_KERNEL_BYTES >> 20}"
    return None


def _phases(spec: ConvSpec, direction: str) -> list[TilePhase]:
    """Return the phases of a pass on contiguous arrays."""
    x, y = array_strides(spec)
    return tile_phases(spec, direction, *((y, x) if direction == "input_grad" else (x, y)))


MIN_SUMMED = 16
"""Numbers that are summed besides those of the transforms: with fewer, the direct sum's error is far smaller."""


def declines(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm should not run the pass unless it is asked for by name."""
    phases = _phases(spec, direction)
    if direction == "kernel_grad":
        summed = sum(phase.tiles for phase in phases)
    else:
        summed = product_channels(spec, direction)[0] * min(phase.summed_taps for phase in phases)
    if summed < MIN_SUMMED:
        return f"sums over {summed} numbers, fewer than {MIN_SUMMED}, lose too much accuracy"
    return None


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    x, y = array_strides(spec)
    if direction == "kernel_grad":
        return gradient_cycles(spec)
    return deal(spec, direction, *((x, y) if direction == "forward" else (y, x))).cycles


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles of a block and the parts that output channels are dealt into; ``cycles`` are those on one thread."""

    tiles: int
    panel_chunks: int
    cycles: float


def choose_block(phase: TilePhase, channels: int, outs: int, groups: int, whole: bool) -> Block:
    """Return how many tiles a block takes and into how many parts the output channels are dealt.

    With ``whole`` all tiles are one block, whose workers transform the kernel themselves.
    """
    lanes, points, depth = TARGET.lanes("float32"), phase.points, phase.summed_taps * channels
    panels, tiles, unit = panel_count(outs, "float32"), phase.tiles, WIDE_SIZES[0]
    kernel_bytes, share = points * depth * outs * 4, tile_kinds(phase).share
    is_far = not whole and kernel_bytes > TARGET.l3_bytes / 2
    best, least, choice = math.inf, math.inf, Block(1, 1, math.inf)
    steps = () if whole else (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
    for size in sorted({min(tiles, n * unit) for n in steps} or {tiles}):
        blocks = -(-tiles // size) * groups
        input_bytes = points * size * depth * 4
        if whole and input_bytes > min(MAX_WHOLE_BYTES, kernel_bytes):
            break
        for chunks in sorted({1, min(2, panels), min(4, panels), panels}):
            count = panels / chunks
            transformed = size * input_cycles(phase, channels, groups)
            of_point = tile_cycles(size, 2) * depth + -(-size // unit) * POINT_CYCLES
            products = points * share * wide_panels(outs) / chunks * of_point
            result = size * -(-outs // lanes) / chunks * OUTPUT_CYCLES[points]
            weights = kernel_bytes / chunks / (FAR_KERNEL_BYTES_PER_CYCLE if is_far else KERNEL_BYTES_PER_CYCLE)
            if whole:
                weights += own_kernel_cost(points * depth * 2 * lanes * 4) * KERNEL_CYCLES[points] * depth * count
            # Behind L2, and what L3 holds beside the kernel and other threads: read for each panel, written back.
            spilled = max(0.0, input_bytes - TARGET.l2_bytes / 2) + 2 * max(0.0, input_bytes - TARGET.l3_bytes / 4)
            spilled *= count / CACHE_BYTES_PER_CYCLE
            cycles = (transformed + products + result + weights + spilled) * blocks * chunks
            least = min(least, cycles)
            tasks, threads = blocks * chunks, TARGET.threads
            balance = math.ceil(tasks / threads) * threads / tasks
            if cycles * balance < best:
                best, choice = cycles * balance, Block(size, chunks, cycles)
    return dataclasses.replace(choice, cycles=least)


def own_kernel_cost(panel_bytes: int) -> float:
    """Return what a worker's own transform of a panel costs beside one that is written to memory."""
    return 0.65 if panel_bytes < 1.5 * TARGET.l2_bytes else 1.25


MAX_WHOLE_BYTES = 8 << 20
"""Transformed input of a block of all tiles: more would not stay in L3 beside that of other threads.

Nor may it be larger than the transformed kernel, whose way to memory and back it saves.
"""


@dataclass(frozen=True, slots=True)
class ProductPlan(Plan):
    """The plan of a forward pass or an input gradient."""

    kernel_geometry: NDArray[np.int64]
    kernel_tasks: int
    kernel_workspace: int
    packed_size: int
    bias_parts: tuple[BiasPart, ...]


@dataclass(frozen=True, slots=True)
class Deal:
    """The phases of a pass, a block of each, whether that is all of its tiles, and the cycles on one thread."""

    phases: tuple[TilePhase, ...]
    blocks: tuple[Block, ...]
    whole: bool
    cycles: float


@lru_cache(maxsize=512)
def deal(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Deal:
    """Choose the blocks of a pass, whose workers find the kernel transformed or transform it themselves."""
    phases = tuple(tile_phases(spec, direction, x_strides, y_strides))
    channels, outs = product_channels(spec, direction)
    panels = panel_count(outs, spec.dtype) * spec.groups
    deals = []
    for whole in (False, True):
        blocks = tuple(choose_block(phase, channels, outs, spec.groups, whole) for phase in phases)
        cycles = sum(block.cycles for block in blocks)
        if not whole:
            for phase in {_kernel_key(phase): phase for phase in phases}.values():
                depth = phase.summed_taps * channels
                is_large = phase.points * depth * outs * spec.groups * 4 > TARGET.l3_bytes / 2
                cycles += KERNEL_CYCLES[phase.points] * depth * panels * (2.4 if is_large else 1.0)
        deals.append(Deal(phases, blocks, whole, cycles))
    return min(deals, key=lambda each: each.cycles)


def _kernel_key(phase: TilePhase) -> tuple[tuple[int, ...], int, int]:
    """Return what phases have in common that share one transformed kernel."""
    return tuple(kernel_taps(phase)), phase.row_points, phase.column_points


@lru_cache(maxsize=512)
def product_plan(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> ProductPlan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels)."""
    channels, outs = product_channels(spec, direction)
    lanes, groups = TARGET.lanes(spec.dtype), spec.groups
    panels, width = panel_count(outs, spec.dtype), round_up(outs, lanes)
    records: list[Record] = []
    kernels: dict[tuple[tuple[int, ...], int, int], Record] = {}
    tasks = kernel_tasks = packed = workspace = kernel_workspace = 0
    dealt = deal(spec, direction, x_strides, y_strides)
    whole = dealt.whole
    past_caches = leaves_caches(spec, direction)
    x_shape = spec.x_shape if direction == "forward" else spec.y_shape
    for phase, block in zip(dealt.phases, dealt.blocks, strict=True):
        depth = phase.summed_taps * channels
        kernel_plane = depth * 2 * lanes + at.PLANE_PADDING
        size = phase.points * kernel_plane
        key = _kernel_key(phase)
        if key not in kernels:
            kernel = _kernel_record(spec, direction, phase, key[0])
            kernel.fields |= {
                at.GROUPS: groups, at.PANELS: panels, at.OUT_CHANNELS: outs, at.KERNEL_PLANE: kernel_plane,
                at.PACKED_PANEL: size, at.PACKED_GROUP: panels * size, at.FIRST_TASK: kernel_tasks, at.PACKED: packed,
            }  # fmt: skip
            kernels[key] = kernel
            taps_size = kernel.fields[at.ROW_TAPS] * kernel.fields[at.COLUMN_TAPS] * at.KERNEL_CHANNELS * 2 * lanes
            kernel_workspace = max(kernel_workspace, round_up(taps_size + POINTS * POINTS * lanes, 16))
            if not whole:
                kernel_tasks += groups * panels * kernel.fields[at.CHANNEL_CHUNKS]
                packed += groups * panels * size
        chunk = -(-panels // block.panel_chunks)
        record = tile_record(phase, x_shape, x_strides, channels, block.tiles)
        kinds = tile_kinds(phase)
        product_plane = block.tiles * 2 * lanes + at.PLANE_PADDING
        products = phase.points * record.fields[at.INPUT_PLANE]
        own = round_up(products + phase.points * product_plane, 16)
        scratch = own + round_up(size, 16) * whole
        record.tables |= kernels[key].tables | {
            at.WIDE_COVER: covers(kinds, block.tiles, 2), at.NARROW_COVER: covers(kinds, block.tiles, 1),
        }  # fmt: skip
        record.fields |= kernels[key].fields | {
            at.PRODUCT_PLANE: product_plane, at.PRODUCTS: products, at.SCRATCH: scratch, at.OWN_KERNEL: own * whole,
            at.FIRST_TASK: tasks, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS_PER_CHUNK: chunk,
            at.BIAS_GROUP: width, at.Y_GROUP: outs, at.PAST_CACHES: past_caches,
        }  # fmt: skip
        records.append(record)
        tasks += -(-phase.tiles // block.tiles) * groups * record.fields[at.PANEL_CHUNKS]
        used = phase.points * record.fields[at.GATHERED] + (POINTS * POINTS + POINTS) * lanes
        workspace = max(workspace, scratch + max(round_up(used, 16), kernel_workspace))
    return ProductPlan(
        assemble({head.WORKSPACE: workspace}, records),
        tasks,
        workspace,
        assemble({head.WORKSPACE: kernel_workspace}, list(kernels.values())),
        kernel_tasks,
        kernel_workspace,
        packed,
        (BiasPart(0, 1, width),),
    )


def _kernel_record(spec: ConvSpec, direction: str, phase: TilePhase, taps: tuple[int, ...]) -> Record:
    """Describe where the taps of a phase lie in the kernel."""
    channels, _ = product_channels(spec, direction)
    forward, strides = direction == "forward", kernel_strides(spec)
    record = Record()
    record.fields = {
        at.SUMMED_TAPS: phase.summed_taps, at.CHANNELS: channels, at.ROW_POINTS: phase.row_points,
        at.COLUMN_POINTS: phase.column_points, at.ROW_TAPS: phase.taps[0], at.COLUMN_TAPS: phase.taps[1],
        at.KERNEL_GROUP: spec.out_channels_per_group, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
        at.KERNEL_COLUMN: 1 if forward else strides[-2], at.CHANNEL_CHUNKS: -(-channels // at.KERNEL_CHANNELS),
    }  # fmt: skip
    record.tables = {at.KERNEL_TAPS: taps}
    return record


def prepare(
    spec: ConvSpec,
    direction: str,
    first_strides: Strides,
    second_strides: Strides,
    activation: Ending = None,
    has_bias: bool = False,
) -> Callable[..., None]:
    """Return what runs a pass: `run(x, kernel, y[, bias])`, for input gradients with grad_y as x and grad_x as y.

    For kernel gradients `run(x, grad_y, grad_kernel)`. Strides are in elements, with channels last; the kernel and the
    result are contiguous.
    """
    if direction == "kernel_grad":
        return Gradient(spec, first_strides, second_strides)
    return _Product(spec, direction, first_strides, activation, has_bias)


class _Product:
    """A forward pass or an input gradient: one launch transforms the kernel, unless workers do, the next the tiles."""

    __slots__ = ("_packed_size", "_product", "_transform", "_transformed")

    def __init__(self, spec: ConvSpec, direction: str, x_strides: Strides, activation: Ending, has_bias: bool) -> None:
        shape = spec.result_shape(direction)
        plan = product_plan(spec, direction, x_strides, contiguous_strides(shape))
        self._packed_size = plan.packed_size
        self._transformed = memory.allocator((plan.packed_size,), spec.dtype)
        self._transform = None if plan.kernel_tasks == 0 else parallel.Launch(
            winograd_kernel, spec.dtype, plan.kernel_tasks, plan.kernel_geometry, (0, 1), 2, plan.kernel_workspace,
            (), is_small(spec),
        )  # fmt: skip
        self._product = launch_product(
            winograd_product, spec, plan, shape, plan.bias_parts, activation, has_bias, (0, 1), (2,), spec.groups
        )

    def __call__(self, x: NDArray, kernel: NDArray, y: NDArray, *bias: NDArray) -> None:
        if self._transform is not None:
            transformed = self._transformed()
            self._transform(kernel, transformed)
            kernel = transformed
        self._product(x, kernel, y, *bias)

    def record(self, recorder: Recorder, x: Operand, kernel: Operand, y: Operand, *bias: Operand) -> None:
        """Record both launches."""
        if self._transform is not None:
            transformed = recorder.buffer(self._packed_size)
            recorder.launch(self._transform, kernel, transformed)
            kernel = transformed
        recorder.launch(self._product, x, kernel, y, *bias)
