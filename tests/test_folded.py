"""Kernel rows side by side, folded along the columns: exact for every input gradient with few channels."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem
from random_problems import any_convolution, numpy_choice

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import folded
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET


def check(problem, dtype, rng):
    """Compare the input gradient with the oracle; return whether the algorithm takes it."""
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    if folded.refuses(spec, "input_grad") is not None:
        return False
    arrays = draw(problem, rng, dtype)
    result = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"], algorithm="folded")
    assert_array_equal(result, run(oracle, "conv_input_grad", problem, arrays), str(problem))
    return True


def test_random_problems_are_exact():
    rng = np.random.default_rng(0)
    choose = numpy_choice(rng)
    taken = sum(check(any_convolution(choose), choose(["float32", "float64"]), rng) for _ in range(400))
    assert taken > 25


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", range(1, folded.MAX_CHANNELS + 1))
def test_all_channel_counts_are_exact(channels, dtype, rng):
    """Kernel rows that fill panels and do not, strides up to more than the taps, padding of one side and of two."""
    for taps, stride, padding in ((2, 1, 0), (3, 1, "same"), (4, 2, 1), (5, 2, "same"), (2, 3, 0), (7, 4, 3)):
        options = {"padding": padding, "strides": (1 + stride % 2, stride)}
        assert check(Problem("few", (2, 9, 23, channels), (3, taps, channels, 5), options), dtype, rng)


@pytest.mark.parametrize(
    "x_shape, kernel_shape, options",
    [
        ((3, 40, 2), (5, 2, 7), {"padding": "same"}),
        ((3, 40, 2), (4, 2, 7), {"strides": 3}),
        ((2, 300, 2), (5, 2, 20), {"padding": "causal"}),
        ((2, 9, 30, 3), (1, 3, 3, 4), {"padding": "same"}),
        ((1, 5, 6, 17, 3), (3, 3, 3, 3, 8), {"strides": (1, 2, 2), "padding": "same"}),
        ((2, 20, 17, 3), (3, 3, 3, 8), {"dilation_rate": (3, 1)}),
        ((2, 20, 17, 3), (5, 5, 3, 8), {"strides": (7, 2)}),
    ],
)
def test_other_ranks_and_outer_axes_are_exact(x_shape, kernel_shape, options, rng):
    assert check(Problem("axes", x_shape, kernel_shape, options), "float32", rng)


def test_results_have_the_same_bits_for_any_number_of_threads(rng):
    kernel, grad_y, most = (
        rng.standard_normal((5, 5, 3, 16)),
        rng.standard_normal((3, 70, 70, 16)),
        numba.get_num_threads(),
    )
    results = []
    for threads in {1, most}:
        numba.set_num_threads(threads)
        results.append(nc.conv_input_grad(grad_y, kernel, (3, 70, 70, 3), padding="same", algorithm="folded"))
    numba.set_num_threads(most)
    assert_array_equal(results[0], results[-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_stays_where_it_is_read(dtype, rng):
    """A NaN or an infinity reaches the inputs that its output reads, and no others."""
    grad_y, kernel = rng.standard_normal((2, 12, 40, 8)).astype(dtype), np.ones((3, 3, 3, 8), dtype)
    grad_y[0, 5, 20, 1], grad_y[1, 11, 39, 2] = np.nan, np.inf
    x = nc.conv_input_grad(grad_y, kernel, (2, 12, 40, 3), padding="same", algorithm="folded")
    expected = np.ones((2, 12, 40), bool)
    expected[0, 4:7, 19:22] = expected[1, 10:12, 38:40] = False
    assert_array_equal(np.isfinite(x).all(axis=-1), expected)


@pytest.mark.parametrize("channels", [1, 3, 6, 11])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_transposed_layer_ends_with_bias_and_activation(channels, activation, rng):
    spec = resolve_conv((2, 18, 42, channels), (4, 4, channels, 4), strides=2, padding=1)
    x, kernel = rng.integers(-2, 3, spec.y_shape).astype("float32"), rng.integers(-1, 2, spec.kernel_shape)
    kernel, bias = kernel.astype("float32"), rng.integers(-2, 3, channels).astype("float32")
    y = planner.input_grad(spec, x, kernel, bias=bias, activation=activation, algorithm="folded")
    expected = oracle.conv_transpose(x, kernel, bias, strides=2, padding=1)
    assert_array_equal(y, np.maximum(expected, 0) if activation else expected)


@pytest.mark.parametrize("channels", [3, 6])
def test_a_users_function_ends_a_transposed_layer(channels, rng):
    def cube(v):
        return v * v * v

    x, kernel = rng.integers(-2, 3, (16, 16, 16, 64)).astype("float32"), rng.integers(-1, 2, (4, 4, channels, 64))
    kernel, bias = kernel.astype("float32"), rng.integers(-2, 3, channels).astype("float32")
    spec = resolve_conv((16, 32, 32, channels), kernel.shape, strides=2, padding=1)
    y = planner.input_grad(spec, x, kernel, bias=bias, activation=nc.fused_activation(cube), algorithm="folded")
    expected = oracle.conv_transpose(x, kernel, bias, strides=2, padding=1).astype("float32")
    assert_array_equal(y, expected * expected * expected)


@pytest.mark.skipif(TARGET.vector_bytes < 32, reason="what is estimated to be faster depends on the registers")
def test_short_rows_of_wide_kernels_are_folded():
    spec = resolve_conv((64, 14, 14, 6), (5, 5, 6, 16))
    assert planner.choose(spec, "input_grad") == "folded"


@pytest.mark.parametrize(
    "x_shape, kernel_shape, options, direction, reason",
    [
        ((1, 9, 9, 2), (3, 3, 2, 16), {}, "forward", "only input gradients are folded"),
        ((0, 9, 9, 2), (3, 3, 2, 16), {}, "input_grad", "the batch is empty"),
        ((1, 9, 9, 2), (3, 3, 1, 16), {"groups": 2}, "input_grad", "groups are not folded"),
        ((1, 9, 9, 2), (3, 1, 2, 16), {}, "input_grad", "the last axis has no neighbouring taps to fold"),
        ((1, 9, 9, 2), (3, 3, 2, 16), {"dilation_rate": 2}, "input_grad", "the last axis has no neighbouring taps"),
        ((1, 9, 9, 16), (3, 3, 16, 16), {}, "input_grad", "the input has 16 channels, and with more than 12 "),
    ],
)
def test_other_problems_are_refused(x_shape, kernel_shape, options, direction, reason):
    refused = folded.refuses(resolve_conv(x_shape, kernel_shape, **options), direction)
    assert refused is not None and refused.startswith(reason)
