"""What the plans of several algorithms have in common: strides, the padded bias, the extents of a lattice."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.algorithms.axes import AxisPhase, interleaved, pass_axes, widened, without_padding
from numbaconv.algorithms.blocking import Extent
from numbaconv.algorithms.cache_sets import pixels_in_l1
from numbaconv.algorithms.lattice import Lattice, lattices
from numbaconv.fusing import Ending, ending
from numbaconv.jit import TaskKernel
from numbaconv.kernels import layout as at
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import CACHE_LINE, TARGET

SMALL_WORK = 1_000_000
"""Work, as `is_small` counts it, that one core does in about the 20 microseconds from which two threads are faster.

Measured on layers of 1 to 64 channels with two cores of 100 GFLOP/s each: they broke even at 0.8 to 0.9 million.
A launch costs 4 microseconds while the cores are idle, and milliseconds when they are not.
"""

ELEMENT_WORK = 12
"""Multiply-adds in the time of reading or writing one element: layers with few channels are bound by these."""


def is_small(spec: ConvSpec) -> bool:
    """Whether a pass takes less time than a launch of threads would save."""
    elements = math.prod(spec.x_shape) + math.prod(spec.y_shape)
    return spec.macs + ELEMENT_WORK * elements < SMALL_WORK


def waited_cycles(spec: ConvSpec, cycles: float, blocks: int) -> float:
    """Return the cycles of all blocks with those for which threads wait for the last one's, if there are threads."""
    return cycles if is_small(spec) else cycles * (1 + 1 / blocks)


def kernel_strides(spec: ConvSpec) -> Strides:
    """Return the strides, in elements, of a contiguous kernel."""
    return contiguous_strides(spec.kernel_shape)


def array_strides(spec: ConvSpec) -> tuple[Strides, Strides]:
    """Return the strides, in elements, of contiguous input and output with channels last."""
    return contiguous_strides(spec.result_shape("input_grad")), contiguous_strides(spec.result_shape("forward"))


def gradient_sizes(spec: ConvSpec) -> tuple[int, int]:
    """Return how many pixels a kernel gradient sums over, and its bytes."""
    return spec.batch * math.prod(spec.out_spatial), math.prod(spec.kernel_shape) * np.dtype(spec.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Plan:
    """What every launch needs besides its arrays: the numbers that the kernel reads, its tasks, a worker's memory."""

    geometry: NDArray[np.int64]
    tasks: int
    workspace: int


@dataclass(frozen=True, slots=True)
class GradientPlan(Plan):
    """The plan of a kernel gradient; finished chunks are counted by ``counters`` counters."""

    partial_size: int
    counters: int


def launch_gradient(kernel: TaskKernel, spec: ConvSpec, plan: GradientPlan) -> parallel.Launch:
    """Return a launch on (x, grad_y, grad_kernel)."""
    partial = parallel.Uninitialised(plan.partial_size * np.dtype(spec.dtype).itemsize)
    buffers = (0, 2, partial, 0, 1, np.zeros(plan.counters, np.int64))
    geometry, workspace = plan.geometry, plan.workspace
    return parallel.Launch(kernel, spec.dtype, plan.tasks, geometry, buffers, 3, workspace, small=is_small(spec))


@dataclass(frozen=True, slots=True)
class BiasPart:
    """Where the bias of some phases lies: repeated for outputs side by side, padded to ``width`` in each group."""

    start: int
    repeats: int
    width: int


def bias_template(dtype: str, activation: Ending, groups: int, parts: tuple[BiasPart, ...]) -> NDArray:
    """Return 0 where there is an activation, else -inf, then zeros for each part's bias, padded to whole registers."""
    size = max(part.start + groups * part.width for part in parts)
    values = np.zeros(at.BIAS_HEADER + size, dtype)
    values[0] = -np.inf if activation is None else 0
    return values


def bias_copies(
    dtype: str, channels: int, groups: int, parts: tuple[BiasPart, ...], argument: int, buffer: int
) -> list[tuple[int, int, int, int, int]]:
    """Return where a launch copies the bias of `channels` numbers to in its copy of `bias_template`."""
    of_group, item = channels // groups, np.dtype(dtype).itemsize
    copies = []
    for part in parts:
        for group in range(groups):
            for repeat in range(part.repeats):
                target = at.BIAS_HEADER + part.start + group * part.width + repeat * of_group
                copies.append((argument, group * of_group * item, buffer, target * item, of_group * item))
    return copies


Buffers: TypeAlias = "tuple[int | NDArray | parallel.Uninitialised, ...]"


def launch_product(
    kernel: TaskKernel,
    spec: ConvSpec,
    plan: Plan,
    result: tuple[int, ...],
    parts: tuple[BiasPart, ...],
    activation: Ending,
    has_bias: bool,
    before: Buffers,
    after: Buffers,
    groups: int,
    shares: NDArray[np.int64] | None = None,
    kept: tuple[int, ...] = (),
) -> parallel.Launch:
    """Return a launch on (x, kernel, y) or (x, kernel, y, bias), y of shape ``result``.

    The kernel's buffers are those ``before`` the bias, the bias in ``parts``, and those ``after`` it. ``shares`` of the
    threads are equal numbers of tasks by default. Buffers ``kept`` last from call to call.
    """
    bias = bias_template(spec.dtype, activation, groups, parts)
    copies = bias_copies(spec.dtype, result[-1], groups, parts, 3, len(before)) if has_bias else ()
    buffers, arguments = (*before, bias, *after), 4 if has_bias else 3
    return parallel.Launch(
        ending(kernel, activation), spec.dtype, plan.tasks, plan.geometry, buffers, arguments, plan.workspace, copies,
        is_small(spec), shares, kept,
    )  # fmt: skip


def lattice_extent(
    lattice: Lattice, channels: int, out_channels: int, groups: int, in_place: bool, dtype: str
) -> Extent:
    """Return the sizes that the choice of a block depends on."""
    rows, columns = lattice.rows.phase, lattice.columns.phase
    planes, plane_taps = 1, 1
    for axis in lattice.planes:
        planes *= axis.phase.count
        plane_taps *= len(axis.phase.taps)
    taps = plane_taps * len(rows.taps) * len(columns.taps)
    # Of outputs that lie apart in any order none is the better one.
    along_rows, along_columns = lattice.rows.y_stride, lattice.columns.y_stride
    is_scattered = 0 < along_rows <= 2 * out_channels < along_columns
    return Extent(
        lattice.batch, planes * groups, rows.count, columns.count, rows.stride, rows.reach, columns.stride,
        columns.reach, len(rows.taps), len(columns.taps), plane_taps, channels, taps * channels, out_channels,
        in_place, dtype, is_scattered, groups,
    )  # fmt: skip


def product_channels(spec: ConvSpec, direction: str) -> tuple[int, int]:
    """Return the channels of a group that a pass reads and writes."""
    if direction != "input_grad":
        return spec.in_channels_per_group, spec.out_channels_per_group
    return spec.out_channels_per_group, spec.in_channels_per_group


MAX_KEPT_BYTES = min(4 * TARGET.l2_bytes, (64 << 20) // TARGET.threads)
"""Packed or transformed kernel that each worker keeps for itself, at most: what others write comes over slowly."""

MAX_PHASES = 64
"""Borders are not kept apart where that would take more phases."""


def lattice_variants(
    spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides, widen: bool = False
) -> list[list[Lattice]]:
    """Return the phases of a pass in the ways that are worth comparing.

    Besides the phases as they are: padded borders as phases of their own. Inside the borders the taps can be read where
    the input lies; a border is gathered, or each of its outputs read in place with only the taps that meet the input,
    which also saves the multiplications by zero. And, with ``widen``, neighbouring outputs as channels of one. Rows
    that are dilated stay one phase in a variant of their own: its borders are few, however large the dilation.
    """
    axes, kernel = pass_axes(spec, direction), kernel_strides(spec)[:-2]
    bases = [axes]
    if spec.ndim > 1 and spec.dilation[-2] > 1 and spec.kernel_size[-2] > 1:
        bases.append(pass_axes(spec, direction, keep_dilation=True))
    if widen:
        bases += _widened_axes(spec, direction, axes)
    variants = []
    for base in bases:
        variants.append(base)
        for singly in (True, False):
            bordered = [[part for phase in axis for part in without_padding(phase, singly)] for axis in base]
            count = math.prod(map(len, bordered))
            if math.prod(map(len, base)) < count <= MAX_PHASES:
                variants.append(bordered)
    return [lattices(spec.batch, each, x_strides[:-1], y_strides[:-1], kernel) for each in variants]


_Phases = list[AxisPhase]


def _widened_axes(spec: ConvSpec, direction: str, axes: list[_Phases]) -> list[list[_Phases]]:
    """Return the axes of a pass with few output channels with neighbouring outputs joined in several ways."""
    _, channels = product_channels(spec, direction)
    most = 2 * TARGET.lanes(spec.dtype) // channels
    if spec.groups > 1 or most < 2:
        return []
    choices = []
    for a, phases in enumerate(axes):
        size = spec.in_spatial[a] if direction == "forward" else spec.out_spatial[a]
        mode = spec.padding_mode[a] if direction == "forward" else "zeros"
        is_dense = all(phase.dilation == 1 for phase in phases) and math.gcd(spec.strides[a], spec.dilation[a]) == 1
        ways = [phases]
        if is_dense and spec.kernel_size[a] > 1:
            if a == len(axes) - 1:
                ways += _joined_columns(phases, size, mode, most)
            elif len(phases) > 1 and spec.dilation[a] == 1:
                ways.append(widened(phases, size, mode))
        choices.append(ways)
    result = []
    for way in itertools.product(*choices):
        *outer, last = (phases[0].width for phases in way)
        # Outputs in several stretches of memory must fit one register tile; a stretch along the last axis need not.
        if math.prod(outer) * last > 1 and (math.prod(outer) == 1 or math.prod(outer) * last <= most):
            result.append(list(way))
    return result


def _joined_columns(phases: _Phases, size: int, mode: str, most: int) -> list[_Phases]:
    """Return the last axis's phases with outputs joined: all of a stride, and neighbours of these."""
    ways: list[_Phases] = []
    rest: _Phases = []
    if len(phases) > 1:
        ways.append(widened(phases, size, mode))
        phases, rest = ways[0][:1], ways[0][1:]
    joined = phases[0]
    for part in (2, 3, 4, 5, 8):
        if part * joined.width <= most and part <= joined.count:
            ways.append([*widened(interleaved(joined, part), size, mode), *rest])
    return ways


CACHED_RESULT = 3 if TARGET.is_intel else 4
"""Results of up to so many times L2's bytes are left in the caches for their reader. Intel's servers read a line from
memory in order to write it as slowly as they write it: past the caches layers alone were up to 1.35 times as fast from
2 MB on, but networks, whose next layer reads the result, 0.95 times."""


def exceeds_caches(spec: ConvSpec, direction: str) -> bool:
    """Whether a result is too large for its reader to find it in the caches."""
    total = math.prod(spec.result_shape(direction)) * np.dtype(spec.dtype).itemsize
    return total > CACHED_RESULT * TARGET.l2_bytes


def leaves_caches(spec: ConvSpec, direction: str) -> bool:
    """Whether a result is so large that it is stored past the caches: in whole cache lines alone that is faster.

    A line that is written whole need not be read first. Panels of two registers, and a last one of a single register,
    are whole lines where the channels are.
    """
    line = CACHE_LINE // np.dtype(spec.dtype).itemsize
    is_whole = product_channels(spec, direction)[1] % line == 0 and 2 * TARGET.lanes(spec.dtype) % line == 0
    return is_whole and exceeds_caches(spec, direction)


CROWDED_SETS = 4
"""Sets of L1 that all output pixels share, at most, where short sums in narrow registers stay in the caches."""

BYTES_PAST_CACHES = 15
"""Bytes that memory takes past the caches for each cycle of a core, from one core and from two (a Zen 5: 42 GB/s)."""


def waits_for_memory(spec: ConvSpec, direction: str) -> bool:
    """Whether outputs that L3 holds would be made faster than memory takes them: sums are short, or threads many.

    Two cores then took 1.2 to 1.9 times as long past the caches; with longer sums they took 0.92 to 0.97 of the time.
    """
    shape, item = spec.result_shape(direction), np.dtype(spec.dtype).itemsize
    summed = product_channels(spec, direction)[0] * spec.taps
    if direction == "input_grad":
        summed = max(1, summed // math.prod(spec.strides))
    made = TARGET.threads * TARGET.fma_per_cycle * TARGET.vector_bytes / summed
    return math.prod(shape) * item <= TARGET.l3_bytes // 2 and made > BYTES_PAST_CACHES


def stores_past_caches(spec: ConvSpec, direction: str, is_short: bool) -> bool:
    """Whether results are stored past the caches.

    Short sums store lines of six pixels at once. In registers smaller than a line they took up to 1.8 times as long
    that way where the pixels lie a large power of two apart.
    """
    if not leaves_caches(spec, direction) or waits_for_memory(spec, direction):
        return False
    crowd = pixels_in_l1(spec.result_shape(direction)[-1], spec.dtype) <= CROWDED_SETS * TARGET.l1_ways
    return not (is_short and crowd and TARGET.vector_bytes < CACHE_LINE)
