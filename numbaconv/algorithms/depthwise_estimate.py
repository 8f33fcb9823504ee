"""What depthwise layers of few channels take, whose registers have idle lanes: the planar algorithm may be faster."""

from __future__ import annotations

import math

from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET

PIXEL_CYCLES = 22.0
"""Cycles of an output pixel with fewer channels than a register has lanes, besides a multiply-add a tap."""

PLANAR_SHARES = {"forward": 0.5, "input_grad": 0.5, "kernel_grad": 0.8}
"""What such layers take of the planar algorithm's estimate. Measured with 2 to 15 channels and 3x3 to 9x9 taps."""

MULTIPLIED_CYCLES = 3.75
"""Cycles of a register of input channels for each tap and output channel of an input gradient with a multiplier whose
channels are not summed across lanes, where the planar algorithm's estimate counts half."""

GRADIENT_TAPS = 49
"""More taps take a kernel gradient twice the time for each, up to so many 0.68 cycles besides 8 (a Zen 5)."""


def rivals_planar(spec: ConvSpec, direction: str) -> bool:
    """Whether a register has so many idle lanes that one of pixels may be faster."""
    steps = (*spec.strides, *spec.dilation)
    if spec.groups != spec.in_channels or not 1 < spec.in_channels < TARGET.lanes(spec.dtype):
        return False
    if _is_multiplied(spec, direction):
        return True
    is_known = direction != "kernel_grad" or TARGET.has_two_wide_units
    return is_known and spec.depth_multiplier == 1 and set(steps) == {1}


def _is_multiplied(spec: ConvSpec, direction: str) -> bool:
    """Whether an input gradient sums over the outputs of each channel as over taps."""
    return direction == "input_grad" and spec.depth_multiplier > 1 and lanes_summed_of(spec, direction, 1) == 1


def estimate(spec: ConvSpec, direction: str) -> float:
    """Return about how many cycles a pass takes on one thread if it `rivals_planar`."""
    taps = math.prod(spec.kernel_size)
    if _is_multiplied(spec, direction):
        return math.prod(spec.y_shape[:-1]) * taps * spec.depth_multiplier * MULTIPLIED_CYCLES
    if direction == "kernel_grad":
        return math.prod(spec.y_shape[:-1]) * (8 + 0.68 * taps if taps <= GRADIENT_TAPS else 1.15 * taps)
    return math.prod(spec.result_shape(direction)[:-1]) * (PIXEL_CYCLES + taps / TARGET.fma_per_cycle)


def lanes_summed_of(spec: ConvSpec, direction: str, x_channel: int) -> int:
    """Return how many neighbouring channels of the products are summed to one of the result.

    The products of an input gradient with a multiplier are those of a layer with as many channels as grad_y.
    """
    multiplier, lanes = spec.depth_multiplier, TARGET.lanes(spec.dtype)
    is_whole = spec.in_channels_per_group == 1 == x_channel and lanes % multiplier == 0 and spec.out_channels >= lanes
    return multiplier if direction == "input_grad" and is_whole else 1
