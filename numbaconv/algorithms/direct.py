"""Direct convolution with register tiles: every spec, every pass. The general algorithm, last in every table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.algorithms.blocking import (
    Block,
    choose_block,
    own_panel_count,
    panel_count,
    panel_vectors,
    taps_per_pass,
)
from numbaconv.algorithms.cache_sets import is_crowded
from numbaconv.algorithms.clearing import CLEARED_BYTES_PER_CYCLE, Cleared, clears, skips_half
from numbaconv.algorithms.direct_gradient import gradient_cycles, gradient_launch
from numbaconv.algorithms.finite import Checked
from numbaconv.algorithms.geometry import (
    Record,
    assemble,
    block_count,
    bounce_size,
    describe_reads,
    gathered_size,
    has_merged_run,
    is_in_place,
    kernel_offsets,
    packed_offsets,
    round_up,
    segments,
    task_counts,
    tile_list,
)
from numbaconv.algorithms.lattice import Lattice, orientations
from numbaconv.algorithms.plan_parts import (
    MAX_KEPT_BYTES,
    BiasPart,
    Plan,
    array_strides,
    kernel_strides,
    lattice_extent,
    lattice_variants,
    launch_product,
    product_channels,
    stores_past_caches,
)
from numbaconv.algorithms.shares import deal, task_count
from numbaconv.algorithms.short_sums import describe_numbers, has_short_sums, table_size
from numbaconv.fusing import Ending, FusedActivation
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import direct_forward
from numbaconv.kernels.register_tile import BOUNCED_TILES
from numbaconv.kernels.short_sums import short_forward
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import CACHE_LINE, TARGET

NAME = "direct"
OWN_CYCLES = 0.4  # more than a block's estimate says, for a number that it packs itself
MIN_GROUPS_WHOLE = 4
"""Groups from which a task that packs its own kernel takes as many panels as it packs at once."""


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass: it always can."""
    return None


@dataclass(frozen=True, slots=True)
class ProductPlan(Plan):
    """The plan of a forward pass or an input gradient."""

    packed_size: int
    states: int
    bias_parts: tuple[BiasPart, ...]
    is_widened: bool  # whether products with absent taps are among the sums
    has_short_sums: bool
    shares: NDArray[np.int64] | None


@lru_cache(maxsize=512)
def product_plan(
    spec: ConvSpec,
    direction: str,
    x_strides: Strides,
    y_strides: Strides,
    widen: bool = True,
    is_constant: bool = False,
    is_cleared: bool = False,
) -> ProductPlan:
    """Plan a forward pass or an input gradient; strides, in elements, of (batch, *spatial, channels).

    Of the phases with their padding and the phases that keep padded borders apart, the cheaper ones are taken. A
    constant kernel is packed once, as a whole and for all workers. Outputs without taps are left as they are where they
    have been cleared.
    """
    phases = _product_phases(spec, direction, x_strides, y_strides, widen)
    if is_cleared:
        phases = [phase for phase in phases if phase.lattice.has_taps]
    return _assembled(spec, direction, phases, x_strides, is_constant)


SPREAD_CYCLES, SPREAD_SHARE = (8, 0.4) if TARGET.has_two_wide_units else (0, 0.0)
"""More cycles of a pixel that does not fill a register where outputs of several phases, made by several threads, share
cache lines: 5 to 12 with 3 to 5 channels (a Zen 5). Long sums hide them, a part of their own cycles."""


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    if direction == "kernel_grad":
        return gradient_cycles(spec)
    x, y = array_strides(spec)
    strides = (x, y) if direction == "forward" else (y, x)
    phases = _product_phases(spec, direction, *strides, True)
    if skips_half(spec, direction):
        cleared = math.prod(spec.x_shape) * np.dtype(spec.dtype).itemsize / CLEARED_BYTES_PER_CYCLE
        return cleared + sum(phase.block.cycles for phase in phases if phase.lattice.has_taps)
    packed = [_own_depth(spec, direction, phase) * product_channels(spec, direction)[1] for phase in phases]
    cycles = sum(phase.block.cycles for phase in phases) + spec.groups * sum(packed) * OWN_CYCLES
    if len(phases) > 1 and product_channels(spec, direction)[1] < TARGET.lanes(spec.dtype):
        pixels = math.prod(spec.result_shape(direction)[:-1])
        cycles += max(0.0, pixels * SPREAD_CYCLES - SPREAD_SHARE * cycles)
    return cycles


@dataclass(frozen=True, slots=True)
class _Phase:
    """A phase in the form that was chosen, with its block."""

    lattice: Lattice
    in_place: bool
    block: Block

    @property
    def is_one_block(self) -> bool:
        """Whether the block holds all outputs of a group, and these have taps."""
        lattice, block = self.lattice, self.block
        if not lattice.has_taps:
            return False
        sizes = lattice.batch, lattice.rows.phase.count, lattice.columns.phase.count
        planes = math.prod(axis.phase.count for axis in lattice.planes)
        return planes == 1 and sizes == (block.images, block.rows, block.columns)


def _own_depth(spec: ConvSpec, direction: str, phase: _Phase) -> int:
    """Return the numbers of each output channel that the phase's only block packs itself, 0 where it packs none."""
    channels, out_channels = product_channels(spec, direction)
    depth = math.prod(len(axis.phase.taps) for axis in phase.lattice.axes) * channels
    panels = panel_count(out_channels * phase.lattice.width, spec.dtype)
    return depth if phase.is_one_block and own_panel_count(channels, depth, panels, spec.dtype) else 0


@lru_cache(maxsize=64)
def _product_phases(
    spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides, widen: bool
) -> list[_Phase]:
    """Return the phases of the cheapest variant, each in its cheapest form."""
    variants = lattice_variants(spec, direction, x_strides, y_strides, widen)
    choices = [[_chosen_form(spec, direction, lattice, x_strides) for lattice in each] for each in variants]
    return min(choices, key=lambda choice: sum(phase.block.cycles for phase in choice))


def _chosen_form(spec: ConvSpec, direction: str, lattice: Lattice, x_strides: Strides) -> _Phase:
    """Return the cheapest form of a phase."""
    channels, out_channels = product_channels(spec, direction)
    forms = []
    for form in orientations(lattice):
        in_place = _reads_in_place(form, x_strides[-1], spec)
        extent = lattice_extent(form, channels, out_channels * form.width, spec.groups, in_place, spec.dtype)
        forms.append(_Phase(form, in_place, choose_block(extent)))
    return min(forms, key=lambda phase: phase.block.cycles)


def _reads_in_place(lattice: Lattice, channel_stride: int, spec: ConvSpec) -> bool:
    """Whether the products of a phase read the input where it lies."""
    columns = lattice.columns
    if is_crowded(columns.phase.stride * columns.position_step, spec.dtype):
        return False
    return is_in_place(lattice, channel_stride, spec.groups)


def _gathered_pitch(lattice: Lattice, channels: int, dtype: str) -> int:
    """Return how far apart gathered pixels lie, in numbers: one cache line further than needed where they crowd."""
    crowded = is_crowded(lattice.columns.phase.stride * channels, dtype)
    return channels + CACHE_LINE // np.dtype(dtype).itemsize if crowded else channels


def _met_columns(lattice: Lattice) -> list[int]:
    """Return of each tap the first column and the one behind the last that it does not meet in padding alone."""
    phase = lattice.columns.phase
    outputs = np.arange(phase.count) * phase.stride
    met: list[int] = []
    for j in range(len(phase.taps)):
        inside = np.flatnonzero(phase.table[outputs + j * phase.dilation] >= 0)
        met += [int(inside[0]), int(inside[-1]) + 1] if inside.size else [0, 0]
    return met * math.prod(len(axis.phase.taps) for axis in lattice.axes[:-1])


GROUP_TASKS, GROUPS_PART = 4, 0.75
"""Tasks for each thread, at least, where a task takes all groups, and the part of L2 that these may gather."""


def _groups_together(spec: ConvSpec, records: list[Record]) -> int:
    """Return how many groups a task takes: all where L2 holds what they gather, and there are enough tasks.

    Together they read whole pixels in the order of memory. No sum depends on it.
    """
    item, sizes = np.dtype(spec.dtype).itemsize, [gathered_size(record) for record in records]
    tasks = sum(block_count(record) * record.fields[at.PANEL_CHUNKS] for record in records)
    fits = 0 < max(sizes) * spec.groups * item <= GROUPS_PART * TARGET.l2_bytes
    is_dense = all(record.fields[at.X_CHANNEL] == 1 for record in records)
    return spec.groups if fits and is_dense and tasks >= GROUP_TASKS * TARGET.threads else 1


def _assembled(
    spec: ConvSpec, direction: str, phases: list[_Phase], x_strides: Strides, is_constant: bool
) -> ProductPlan:
    """Write the geometry of the chosen phases."""
    forward, of_output = direction == "forward", spec.out_channels_per_group
    channels, out_channels = product_channels(spec, direction)
    strides, lanes, groups = kernel_strides(spec), TARGET.lanes(spec.dtype), spec.groups
    records: list[Record] = []
    kernels: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}
    parts: dict[int, BiasPart] = {}
    tasks = packed = states = gathered = sums = own = table = 0
    is_widened = False
    # Phases with the same taps share one packed kernel.
    keys = [(phase.lattice.width, tuple(kernel_offsets(phase.lattice, all_taps=True))) for phase in phases]
    for phase, key in zip(phases, keys, strict=True):
        lattice, in_place, block = phase.lattice, phase.in_place, phase.block
        beside = lattice.width
        outs = out_channels * beside
        vectors = panel_vectors(outs, spec.dtype)
        panels, width = len(vectors), int(sum(vectors) * lanes)
        if beside not in parts:
            parts[beside] = BiasPart(sum(groups * part.width for part in parts.values()), beside, width)
        record = Record(task_counts(lattice, block.rows, block.columns))
        taps = key[1]
        depth = len(taps) // beside * channels
        own_panels = 0
        if phase.is_one_block and keys.count(key) == 1 and not is_constant:
            own_panels = own_panel_count(channels, depth, panels, spec.dtype)
        pitch = _gathered_pitch(lattice, channels, spec.dtype)
        merged = own_panels == 0 and has_merged_run(lattice, channels, in_place, pitch)
        describe_reads(record, lattice, block.rows, block.columns, channels, in_place, merged, block.images, pitch)
        # A tap packed by itself: of a few groups' rows all that a task can use, side by side in memory.
        together = min(own_panels, panels) if groups >= MIN_GROUPS_WHOLE else 1
        chunk = max(-(-panels // block.panel_chunks), together)
        last = lattice.columns.phase.count - (record.fields[at.COLUMN_BLOCKS] - 1) * block.columns
        is_widened |= -1 in taps
        own = max(own, own_panels * channels * 2 * lanes)
        if key not in kernels:
            kernels[key] = packed, states
            if own_panels == 0:
                packed += width * depth * groups
                states += panels * groups
        record.fields |= {
            at.GROUPS: groups, at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS: panels,
            at.PANELS_PER_CHUNK: chunk, at.X_GROUP: channels * x_strides[-1], at.X_CHANNEL: x_strides[-1],
            at.Y_GROUP: outs, at.OUT_CHANNELS: outs, at.PACKED: kernels[key][0],
            at.PACKED_GROUP: width * depth, at.STATES: kernels[key][1], at.KERNEL_TAP_COUNT: len(taps) // beside,
            at.BESIDE: beside, at.SEGMENTS: len(segments(lattice, out_channels)),
            at.KERNEL_GROUP: of_output, at.KERNEL_CHANNEL: strides[-2] if forward else 1,
            at.KERNEL_COLUMN: 1 if forward else strides[-2], at.BIAS_GROUP: width,
            at.BIAS_START: parts[beside].start, at.OWN_PANELS: own_panels,
            at.TAPS_PER_PASS: 1 if own_panels else taps_per_pass(record.fields[at.RUN], spec.dtype),
        }  # fmt: skip
        record.tables |= {
            at.KERNEL_TAPS: taps,
            at.SEGMENT_TABLE: segments(lattice, out_channels),
            at.PACKED_TAPS: packed_offsets(lattice, merged, channels),
            at.WIDE_FULL: tile_list(block.columns, 2),
            at.WIDE_LAST: tile_list(last, 2),
            at.NARROW_FULL: tile_list(block.columns, vectors[-1]),
            at.NARROW_LAST: tile_list(last, vectors[-1]),
            at.MET_COLUMNS: _met_columns(lattice) if own_panels else [],
        }
        table = max(table, table_size(block.rows * block.columns, spec.dtype))
        records.append(record)
        sums = max(sums, block.images * block.rows * block.columns * 2 * lanes * max(1, own_panels))
    is_short = all(has_short_sums(record, spec.dtype) for record in records)
    if is_short:
        for record in records:
            describe_numbers(record)
    together = 1 if is_short else _groups_together(spec, records)
    for record in records:
        record.fields[at.GROUPS_TOGETHER] = together
        gathered = max(gathered, gathered_size(record) * together)
    records, shares = deal(records)
    for record in records:
        record.fields[at.FIRST_TASK] = tasks
        tasks += task_count(record)
    second = round_up(gathered, 16)
    third = second + round_up(table if is_short else sums, 16)
    bounce = third + round_up(own, 16)
    workspace = bounce + bounce_size(spec.dtype, BOUNCED_TILES)
    header = {
        at.WORKSPACE: workspace, at.SECOND: second, at.OWN_KERNEL: third, at.BOUNCE: bounce,
        at.PAST_CACHES: int(stores_past_caches(spec, direction, is_short)),
    }  # fmt: skip
    if not (is_short or is_constant) and 0 < packed * np.dtype(spec.dtype).itemsize <= MAX_KEPT_BYTES:
        packed, states = round_up(packed, 16), round_up(states, CACHE_LINE // 8)
        header |= {at.KEPT_KERNEL: packed, at.KEPT_STATES: states}
        packed, states = packed * TARGET.threads, states * TARGET.threads
    geometry = assemble(header, records)
    return ProductPlan(geometry, tasks, workspace, packed, states, tuple(parts.values()), is_widened, is_short, shares)


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
        return gradient_launch(spec, first_strides, second_strides)
    key = spec, direction, first_strides, activation, has_bias
    if activation is None and not has_bias and clears(spec, direction):
        return Cleared(_product_launch(*key, False, is_cleared=True)[0], spec)
    launch, is_widened = _product_launch(*key, True)
    if not is_widened:
        return launch
    return Checked(launch, lambda: _product_launch(*key, False)[0], isinstance(activation, FusedActivation))


PACKED, STATES = 2, 5
"""Numbers of the buffers of the packed kernel and of what of it is packed."""


@lru_cache(maxsize=512)
def _product_launch(
    spec: ConvSpec,
    direction: str,
    x_strides: Strides,
    activation: Ending,
    has_bias: bool,
    widen: bool,
    is_constant: bool = False,
    is_cleared: bool = False,
) -> tuple[parallel.Launch, bool]:
    """Return a launch on (x, kernel, y) or (x, kernel, y, bias), and whether absent taps are among its products."""
    shape = spec.result_shape(direction)
    plan = product_plan(spec, direction, x_strides, contiguous_strides(shape), widen, is_constant, is_cleared)
    packed = parallel.Uninitialised(plan.packed_size * np.dtype(spec.dtype).itemsize)
    launch = launch_product(
        short_forward if plan.has_short_sums else direct_forward, spec, plan, shape, plan.bias_parts, activation,
        has_bias, (0, 1, packed), (2, np.zeros(plan.states, np.int64)), spec.groups, plan.shares,
        (PACKED, STATES) if is_constant else (),
    )  # fmt: skip
    if not is_constant:
        key = spec, direction, x_strides, activation, has_bias, widen
        launch.of_constant = lambda: _product_launch(*key, True, is_cleared)[0]
    return launch, plan.is_widened
