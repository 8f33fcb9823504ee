"""Depthwise layers whose channels come three times, which no register holds evenly."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import oracle
import pytest
from passes import PASSES, draw, run
from problems import conv

import numbaconv as nc

CHANNELS = [5, 6, 11, 22, 24, 30, 43]
"""Chunks of channels begin at the first, the second and the third of a channel's three outputs."""


@pytest.mark.usefixtures("direct_only")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("strides", [1, 3])
def test_three_outputs_of_a_channel_are_exact(channels, strides, dtype, rng):
    problem = conv((9, 11), channels, 3 * channels, (3, 2), groups=channels, strides=strides, padding=1)
    arrays = draw(problem, rng, dtype)
    for name in PASSES:
        npt.assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays), err_msg=name)


def test_what_follows_the_last_channel_is_not_among_the_products(rng):
    """Registers read beyond the channels of a pixel, at the last one beyond what was gathered."""
    problem = conv((4, 5), 7, 21, (2, 2), groups=7)
    arrays = draw(problem, rng, "float32")
    padded = np.full((2, 4, 5, 12), np.nan, np.float32)
    padded[..., :7] = arrays["x"]
    expected = run(oracle, "conv", problem, arrays)
    npt.assert_array_equal(run(nc, "conv", problem, arrays | {"x": padded[..., :7]}), expected)
