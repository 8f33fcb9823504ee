"""Blocks of the direct algorithm: how many pixels meet a part of the kernel at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv.algorithms import direct
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET


@pytest.mark.parametrize("pixels", [3, 32])
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
