"""Winograd convolution F(m, r), m + r = 7, for forward passes and input gradients.

Every phase of a pass whose taps are neighbours along an axis is transformed along that axis: along two axes
where there are two, F(4x4, 3x3) for a kernel of 3 x 3, and summed over the taps of any others. Phases with one tap
along an axis stay as they are there, so strided input gradients and kernels like 1x3 and 3x1x1 run as well. Blocks are
fused: a worker transforms some tiles, multiplies them and transforms them back. `numbaconv.kernels.winograd_points`
has the transforms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.blocking import panel_count
from numbaconv.algorithms.calibration import STARTING_CYCLES, share
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
from numbaconv.algorithms.winograd_blocks import KernelPlace, deal, kernel_key
from numbaconv.algorithms.winograd_gradient import Gradient, gradient_cycles
from numbaconv.algorithms.winograd_tiles import (
    MAX_KERNEL_BYTES,
    MAX_TAPS,
    TilePhase,
    covers,
    tile_kinds,
    tile_phases,
    tile_record,
)
from numbaconv.constants import is_constant, made_once
from numbaconv.fusing import Ending
from numbaconv.kernels import layout as head
from numbaconv.kernels import winograd_layout as at
from numbaconv.kernels.winograd import COPIED, KEPT, winograd_kernel, winograd_product
from numbaconv.kernels.winograd_tall import TALL_POINTS, TILE_REGISTERS
from numbaconv.program import Operand, Recorder
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import CACHE_LINE, TARGET

NAME = "winograd"


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None when it can."""
    if spec.dtype != "float32":
        return "float64 asks for more accuracy than the transforms have"
    if spec.batch == 0:
        return "the batch is empty"
    phases = _phases(spec, direction)
    if not all(phase.lattice.has_taps for phase in phases):
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


MIN_SUMMED = 12
"""Numbers that are summed besides those of the transforms: with fewer, the direct sum's error is far smaller."""

PRECISE_SUMMED, TALL_PRECISE_SUMMED = 32, 64
"""With fewer numbers than this the kernel is transformed in float64: it is small, and its rounding weighs more."""


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
        return gradient_cycles(spec) + STARTING_CYCLES
    cycles = deal(spec, direction, *((x, y) if direction == "forward" else (y, x))).cycles
    return cycles * share(NAME, direction) + STARTING_CYCLES


@dataclass(frozen=True, slots=True)
class ProductPlan(Plan):
    """The plan of a forward pass or an input gradient."""

    kernel_geometry: NDArray[np.int64]
    kernel_tasks: int
    kernel_workspace: int
    packed_size: int
    kernels: int
    states: int  # of all workers, and the numbers that they keep
    kept_size: int
    bias_parts: tuple[BiasPart, ...]


@lru_cache(maxsize=512)
def product_plan(
    spec: ConvSpec,
    direction: str,
    x_strides: Strides,
    y_strides: Strides,
    is_constant: bool = False,
    is_compared: bool = False,
) -> ProductPlan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels).

    Where a kernel ``is_compared``, what workers keep of it lasts as long as it equals a copy that they keep as well.
    """
    channels, outs = product_channels(spec, direction)
    lanes, groups = TARGET.lanes(spec.dtype), spec.groups
    panels, width = panel_count(outs, spec.dtype), round_up(outs, lanes)
    records: list[Record] = []
    kernels: dict[tuple[tuple[int, ...], int, int], Record] = {}
    tasks = kernel_tasks = packed = workspace = kernel_workspace = 0
    dealt = deal(spec, direction, x_strides, y_strides, is_constant)
    is_kept, whole = dealt.place is KernelPlace.KEPT, dealt.place is KernelPlace.PANELS
    sizes = {kernel_key(phases[0]): _panel_size(phases[0], channels) for phases in dealt.phases}
    kept = copy_at = round_up(sum(sizes.values()) * groups * panels, 16)
    kernel_size = math.prod(spec.kernel_shape)
    if is_compared:
        kept += round_up(kernel_size, 16)
    state_step = round_up(len(sizes) * groups, CACHE_LINE // 8)
    past_caches = leaves_caches(spec, direction)
    x_shape = spec.x_shape if direction == "forward" else spec.y_shape
    for phases, block in zip(dealt.phases, dealt.blocks, strict=True):
        phase = phases[0]
        size = _panel_size(phase, channels)
        key = kernel_key(phase)
        if key not in kernels:
            kernel = _kernel_record(spec, direction, phase, key[0])
            kernel.fields |= {
                at.GROUPS: groups, at.PANELS: panels, at.OUT_CHANNELS: outs, at.KERNEL_PLANE: size // phase.points,
                at.PACKED_PANEL: size, at.PACKED_GROUP: panels * size, at.FIRST_TASK: kernel_tasks, at.PACKED: packed,
            }  # fmt: skip
            kernel.fields |= {
                at.KEPT_KERNEL: (len(kernels) * groups + 1) * is_kept, at.STATE_STEP: state_step, at.KEPT_SIZE: kept,
                at.COPY_AT: copy_at * is_compared, at.KERNEL_SIZE: kernel_size,
            }  # fmt: skip
            kernels[key] = kernel
            packed += groups * panels * size * (not whole)
            kernel_workspace = max(kernel_workspace, round_up(_kernel_registers(kernel) * lanes, 16))
            if dealt.place is KernelPlace.SHARED:
                kernel_tasks += groups * panels * kernel.fields[at.CHANNEL_CHUNKS]
        chunk = -(-panels // block.panel_chunks)
        own, used = 0, 0
        members = [
            tile_record(each, x_shape, x_strides, channels, min(block.tiles, each.tiles), block.is_run)
            for each in phases
        ]
        for each, record in zip(phases, members, strict=True):
            kinds, tiles = tile_kinds(each), record.fields[at.BLOCK_TILES]
            product_plane = tiles * 2 * lanes + at.PLANE_PADDING
            products = own + each.points * record.fields[at.INPUT_PLANE]
            record.tables |= kernels[key].tables | {
                at.WIDE_COVER: covers(kinds, tiles, 2), at.NARROW_COVER: covers(kinds, tiles, 1),
            }  # fmt: skip
            record.fields |= kernels[key].fields | {
                at.INPUT_AT: own, at.PRODUCT_PLANE: product_plane, at.PRODUCTS: products, at.BIAS_GROUP: width,
                at.Y_GROUP: outs, at.PAST_CACHES: past_caches,
            }  # fmt: skip
            own = round_up(products + each.points * product_plane, 16)
            used = max(used, each.points * record.fields[at.GATHERED] + TILE_REGISTERS * lanes)
        scratch = own + round_up(size, 16) * whole
        for record in members:
            record.fields |= {
                at.SCRATCH: scratch, at.OWN_KERNEL: own * whole, at.FIRST_TASK: tasks,
                at.JOINED: len(members), at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS_PER_CHUNK: chunk,
            }  # fmt: skip
        records += members
        tasks += -(-sum(each.tiles for each in phases) // block.tiles) * groups * -(-panels // chunk)
        workspace = max(workspace, scratch + max(round_up(used, 16), kernel_workspace))
    return ProductPlan(
        assemble({head.WORKSPACE: workspace}, records),
        tasks,
        workspace,
        assemble({head.WORKSPACE: kernel_workspace}, list(kernels.values())),
        kernel_tasks,
        kernel_workspace,
        0 if is_kept else packed,
        len(kernels),
        TARGET.threads * state_step if is_kept else 1,
        TARGET.threads * kept if is_kept else 0,
        (BiasPart(0, 1, width),),
    )


def _panel_size(phase: TilePhase, channels: int) -> int:
    """Return the numbers of a panel of a transformed kernel, whose points are planes."""
    return phase.points * (phase.summed_taps * channels * 2 * TARGET.lanes("float32") + at.PLANE_PADDING)


def _kernel_record(spec: ConvSpec, direction: str, phase: TilePhase, taps: tuple[int, ...]) -> Record:
    """Describe where the taps of a phase lie in the kernel."""
    channels, _ = product_channels(spec, direction)
    forward, strides = direction == "forward", kernel_strides(spec)
    precise_summed = TALL_PRECISE_SUMMED if phase.row_points == TALL_POINTS else PRECISE_SUMMED
    record = Record()
    record.fields = {
        at.SUMMED_TAPS: phase.summed_taps, at.CHANNELS: channels, at.ROW_POINTS: phase.row_points,
        at.COLUMN_POINTS: phase.column_points, at.ROW_TAPS: phase.taps[0], at.COLUMN_TAPS: phase.taps[1],
        at.KERNEL_GROUP: spec.out_channels_per_group, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
        at.KERNEL_COLUMN: 1 if forward else strides[-2], at.CHANNEL_CHUNKS: -(-channels // at.KERNEL_CHANNELS),
        at.IS_PRECISE: int(channels * phase.summed_taps < precise_summed),
    }  # fmt: skip
    record.tables = {at.KERNEL_TAPS: taps}
    return record


def _kernel_registers(record: Record) -> int:
    """Return the registers of a worker that transforms the kernel: the taps of some channels, then a tile's numbers."""
    taps = record.fields[at.ROW_TAPS] * record.fields[at.COLUMN_TAPS]
    # In float64 the taps, and the points of both axes: a register's numbers fill two.
    doubles = (taps + record.fields[at.ROW_POINTS] * record.fields[at.COLUMN_POINTS]) * record.fields[at.IS_PRECISE]
    return taps * at.KERNEL_CHANNELS * 2 + 2 * doubles + TILE_REGISTERS


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

    __slots__ = ("_form", "_key", "_packed_size", "_product", "_transform", "_transformed")

    def __init__(
        self,
        spec: ConvSpec,
        direction: str,
        x_strides: Strides,
        activation: Ending,
        has_bias: bool,
        is_constant: bool = False,
        is_compared: bool = False,
    ) -> None:
        shape = spec.result_shape(direction)
        plan = product_plan(spec, direction, x_strides, contiguous_strides(shape), is_constant, is_compared)
        self._key = spec, direction, x_strides, activation, has_bias
        self._packed_size = plan.packed_size
        self._form = plan.kernel_geometry.tobytes()
        self._transformed = memory.allocator((plan.packed_size,), spec.dtype)
        self._transform = None if plan.kernel_tasks == 0 else parallel.Launch(
            winograd_kernel, spec.dtype, plan.kernel_tasks, plan.kernel_geometry, (0, 1), 2, plan.kernel_workspace,
            (), is_small(spec),
        )  # fmt: skip
        states = np.zeros(plan.states, np.int64)
        self._product = launch_product(
            winograd_product, spec, plan, shape, plan.bias_parts, activation, has_bias, (0, 1),
            (2, states, parallel.Uninitialised(4 * plan.kept_size), *([states] if is_compared else [])), spec.groups,
            kept=(KEPT - 1, COPIED - 1) if is_compared else (),
        )  # fmt: skip
        # One group has its kernel in one piece, and one transform of it.
        is_alone = plan.kept_size > 0 and spec.groups == plan.kernels == 1
        if is_alone and not (is_constant or is_compared or self._product.is_small):
            self._product.of_compared = lambda: _Product(*self._key, is_compared=True)._product

    def __call__(self, x: NDArray, kernel: NDArray, y: NDArray, *bias: NDArray) -> None:
        if self._transform is not None:
            kernel = self._transform_now(kernel)
        self._product(x, kernel, y, *bias)

    def record(self, recorder: Recorder, x: Operand, kernel: Operand, y: Operand, *bias: Operand) -> None:
        """Record both launches; a constant kernel is transformed now."""
        product = _Product(*self._key, True) if is_constant(kernel) else self
        product._record(recorder, x, kernel, y, *bias)

    def _record(self, recorder: Recorder, x: Operand, kernel: Operand, y: Operand, *bias: Operand) -> None:
        if self._transform is not None and is_constant(kernel):
            kernel = made_once(kernel, self._form, partial(self._transform_now, kernel))
        elif self._transform is not None:
            transformed = recorder.buffer(self._packed_size)
            recorder.launch(self._transform, kernel, transformed)
            kernel = transformed
        recorder.launch(self._product, x, kernel, y, *bias)

    def _transform_now(self, kernel: NDArray) -> NDArray:
        """Return the transformed kernel."""
        assert self._transform is not None
        transformed = self._transformed()
        self._transform(kernel, transformed)
        return transformed
