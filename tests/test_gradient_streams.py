"""Kernel gradients of depthwise layers with a short row of taps that take all channels of a few pixels together."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, normal, run
from problems import conv

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import depthwise_gradient
from numbaconv.algorithms.depthwise_gradient import gradient_plan
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_gradient_streams import STREAM_PIXELS, STREAM_TAPS
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET


def layer(spatial, channels, kernel_size, **options):
    return conv(spatial, channels, channels, kernel_size, groups=channels, **options)


def streamed_taps(problem, dtype="float32"):
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    strides = contiguous_strides(problem.x_shape), contiguous_strides(spec.y_shape)
    geometry = gradient_plan(spec, *strides).geometry
    return geometry[geometry[at.RECORDS] + at.STREAMED]


@pytest.fixture
def beyond_l2(monkeypatch):
    """Count every problem's arrays as larger than L2."""
    bytes_of = depthwise_gradient._all_bytes
    monkeypatch.setattr(depthwise_gradient, "_all_bytes", lambda spec: bytes_of(spec) + TARGET.l2_bytes)
    planner.clear_plans()
    gradient_plan.cache_clear()
    yield
    monkeypatch.undo()
    planner.clear_plans()
    gradient_plan.cache_clear()


@pytest.mark.usefixtures("beyond_l2")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps", STREAM_TAPS)
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "causal"}, {"padding": "same"}, {"padding": "valid"}, {"padding": "causal", "dilation_rate": 3},
        {"padding": "same", "dilation_rate": 8}, {"padding": ((0, 9),)},
        {"padding": "same", "padding_mode": "circular"},
    ],
    ids=str,
)  # fmt: skip
def test_rows_of_any_length_are_exact(taps, options, dtype, rng):
    lanes = TARGET.lanes(dtype)
    for length in (taps * 8, 40, 75):
        for channels in (lanes, 2 * lanes + 1, 5 * lanes):
            problem = layer((length,), channels, (taps,), **options)
            arrays = draw(problem, rng, dtype)
            expected = run(oracle, "conv_kernel_grad", problem, arrays)
            assert_array_equal(run(nc, "conv_kernel_grad", problem, arrays), expected, str(problem))


@pytest.mark.usefixtures("beyond_l2")
@pytest.mark.parametrize("padding", [((0, 0), (1, 1)), ((2, 1), (3, 0))], ids=str)
def test_rows_of_images_are_exact(padding, rng):
    problem = layer((5, 21), 40, (1, 3), padding=padding)
    assert streamed_taps(problem) == 3
    arrays = draw(problem, rng, "float32")
    assert_array_equal(run(nc, "conv_kernel_grad", problem, arrays), run(oracle, "conv_kernel_grad", problem, arrays))


@pytest.mark.usefixtures("beyond_l2")
def test_padding_is_not_read_as_the_input(rng):
    """What is not finite stays with the taps that read it."""
    problem = layer((STREAM_PIXELS * 3,), 32, (4,), padding="causal")
    arrays = draw(problem, rng, "float32")
    arrays["x"][:, -1] = np.nan
    result = run(nc, "conv_kernel_grad", problem, arrays)
    assert np.isnan(result[3]).all()
    assert not np.isnan(result[:3]).any()


def test_large_layers_with_a_short_row_of_taps_are_streamed():
    length = TARGET.l2_bytes // 4 // 64
    assert streamed_taps(layer((length,), 64, (4,), padding="causal")) == 4
    assert streamed_taps(layer((length,), 64, (3,), padding="same", dilation_rate=4)) == 3
    assert not streamed_taps(layer((length // 8,), 64, (4,), padding="causal"))
    assert not streamed_taps(layer((length,), 64, (7,), padding="causal"))
    assert not streamed_taps(layer((2 * length,), 64, (4,), padding="causal", strides=2))
    assert not streamed_taps(layer((64, length // 32), 64, (3, 3), padding="same"))


@pytest.mark.usefixtures("beyond_l2")
def test_threads_change_nothing(rng):
    problem = layer((3000,), 64, (4,), padding="causal")
    arrays = draw(problem, rng, "float32", normal)
    expected = run(nc, "conv_kernel_grad", problem, arrays)
    try:
        numba.set_num_threads(1)
        assert_array_equal(run(nc, "conv_kernel_grad", problem, arrays), expected)
    finally:
        numba.set_num_threads(TARGET.threads)
