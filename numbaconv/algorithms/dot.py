"""1x1 convolution to few output channels whose input the caches hold: input channels in the lanes of registers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.blocking import FMA_PER_CYCLE, TASK_CYCLES
from numbaconv.algorithms.geometry import round_up
from numbaconv.algorithms.plan_parts import BiasPart, Plan, launch_product
from numbaconv.fusing import Ending
from numbaconv.kernels import dot as at
from numbaconv.kernels.tile_sizes import DOT_PIXELS
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

NAME = "dot"

LEAVING_CYCLES = 45.0 / FMA_PER_CYCLE  # the sums across lanes of a tile's registers and the way of its outputs
# Of input that L3 holds or does not hold.
NEAR_BYTES_PER_CYCLE, FAR_BYTES_PER_CYCLE = 32, 6 if TARGET.has_two_wide_units else 3.5
CHUNK_BYTES = 1 << 18  # of input for a task


def refuses(spec: ConvSpec, direction: str) -> str | None:
    """Return why the algorithm cannot run the pass, None if it can."""
    if direction != "forward":
        return "only results are sums across lanes"
    if spec.out_channels not in DOT_PIXELS:
        return (
            f"there are tiles of {max(DOT_PIXELS, default=0)} output channels at most, and {spec.out_channels} of them"
        )
    if spec.groups > 1 or math.prod(spec.kernel_size) > 1 or math.prod(spec.strides) > 1 or np.any(spec.padding):
        return "only layers that see pixels one by one are sums of neighbouring numbers"
    if spec.data_format == "channels_first":
        return "a pixel's channels lie apart"
    if spec.in_channels % TARGET.lanes(spec.dtype):
        return f"{spec.in_channels} input channels are no whole registers"
    if _pixels(spec) < max(DOT_PIXELS.values()):
        return f"{_pixels(spec)} pixels are fewer than a tile's"
    return None


def _pixels(spec: ConvSpec) -> int:
    return spec.batch * math.prod(spec.out_spatial)


def _tasks(spec: ConvSpec) -> tuple[int, int]:
    """Return how many pixels a task has and how many tasks there are."""
    item = np.dtype(spec.dtype).itemsize
    chunk = round_up(max(1, CHUNK_BYTES // (spec.in_channels * item)), max(DOT_PIXELS.values()))
    return chunk, max(1, _pixels(spec) // chunk)


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass on contiguous arrays takes on one thread."""
    channels, together = spec.out_channels, DOT_PIXELS[spec.out_channels]
    size = _pixels(spec) * spec.in_channels * np.dtype(spec.dtype).itemsize
    # A pixel's registers cross cache lines: each of them is two loads, of which a core starts as many as products.
    of_step = max(together * channels, 2 * together + channels) / FMA_PER_CYCLE
    tiles = _pixels(spec) / together
    cycles = tiles * (spec.in_channels / TARGET.lanes(spec.dtype) * of_step + LEAVING_CYCLES)
    cycles += size / NEAR_BYTES_PER_CYCLE
    if size > TARGET.l3_bytes * 0.75:
        cycles = max(cycles, size / FAR_BYTES_PER_CYCLE)
    return cycles + _tasks(spec)[1] * (TASK_CYCLES + spec.in_channels * channels)


def prepare(
    spec: ConvSpec,
    direction: str,
    first_strides: Strides,
    second_strides: Strides,
    activation: Ending = None,
    has_bias: bool = False,
) -> Callable[..., None]:
    """Return what runs a pass: `run(x, kernel, y[, bias])`. Input that has gaps is copied."""
    launch = _launch(spec, activation, has_bias)
    if first_strides == contiguous_strides(spec.result_shape("input_grad")):
        return launch
    return lambda x, *others: launch(np.ascontiguousarray(x), *others)


@lru_cache(maxsize=512)
def _launch(spec: ConvSpec, activation: Ending, has_bias: bool) -> parallel.Launch:
    channels, together = spec.out_channels, DOT_PIXELS[spec.out_channels]
    chunk, tasks = _tasks(spec)
    bounce = round_up(spec.in_channels * channels, 16)
    workspace = bounce + at.BOUNCE_SIZE
    geometry = [workspace, spec.in_channels, channels, _pixels(spec), chunk, tasks, together, bounce]
    plan = Plan(np.array(geometry, np.int64), tasks, workspace)
    parts = (BiasPart(0, together, round_up(together * channels, 16)),)
    shape = spec.result_shape("forward")
    return launch_product(at.dot_forward, spec, plan, shape, parts, activation, has_bias, (0, 1, 1), (2,), 1)
