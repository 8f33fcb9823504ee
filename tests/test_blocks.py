"""Blocks of the direct algorithm: how many pixels meet a part of the kernel at once."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from exact import integers
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv.algorithms import direct
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.kernels.register_tile import BOUNCED_TILES
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

LANES = TARGET.lanes("float32")


@numba.njit
def twice(x):
    return 2 * x


@pytest.mark.parametrize("pixels", [3, 16])
def test_pixels_larger_together_than_l2_are_one_block_that_reads_the_kernel_once(pixels):
    channels = TARGET.l2_bytes // 4 // min(pixels, WIDE_SIZES[0]) + 1
    spec = resolve_conv((1, pixels, channels), (1, channels, 64), dtype="float32")
    (phase,) = direct._product_phases(spec, "forward", *array_strides(spec), True)
    assert phase.is_one_block


def test_many_channels_are_exact(rng):
    channels = TARGET.l2_bytes // 4 // WIDE_SIZES[0] + 5
    x = rng.integers(-2, 3, (1, 30, channels)).astype(np.float32)
    kernel = rng.integers(-2, 3, (1, channels, 37)).astype(np.float32)
    assert_array_equal(nc.conv(x, kernel, algorithm="direct")[0], x[0] @ kernel[0])


@pytest.mark.parametrize("tiles", [1, BOUNCED_TILES, BOUNCED_TILES + 1, 2 * BOUNCED_TILES + 1])
@pytest.mark.parametrize("channels", [3, 4, 2 * LANES, 2 * LANES + 5])
@pytest.mark.parametrize("activation", ["relu", twice])
def test_tiles_of_one_size_follow_one_another(tiles, channels, activation, rng):
    """Tiles that write to the output, and those whose channels are copied to it, as many as the buffer holds."""
    pixels = tiles * WIDE_SIZES[0] + 1
    x, kernel = integers(rng, 1, pixels, 40), integers(rng, 1, 40, channels)
    bias, memory = integers(rng, channels), np.full((2, pixels, channels), 99, np.float32)
    nc.conv(x, kernel, bias=bias, activation=activation, algorithm="direct", out=memory[:1])
    sums = x[0] @ kernel[0] + bias
    assert_array_equal(memory[0], np.maximum(sums, 0) if activation == "relu" else 2 * sums)
    assert (memory[1] == 99).all()
