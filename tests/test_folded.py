"""Products folded along the columns, side by side or as planes: exact for every input gradient with few channels."""

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
from numbaconv.algorithms import folded, folded_planes
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

MODULES = {module.NAME: module for module in (folded, folded_planes)}
MAX_CHANNELS = max(module.MAX_CHANNELS for module in MODULES.values())


@pytest.fixture(params=MODULES)
def algorithm(request):
    return request.param


def check(algorithm, problem, dtype, rng):
    """Compare the input gradient with the oracle; return whether the algorithm takes it."""
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    if MODULES[algorithm].refuses(spec, "input_grad") is not None:
        return False
    arrays = draw(problem, rng, dtype)
    result = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"], algorithm=algorithm)
    assert_array_equal(result, run(oracle, "conv_input_grad", problem, arrays), str(problem))
    return True


def test_random_problems_are_exact(algorithm):
    rng = np.random.default_rng(0)
    choose = numpy_choice(rng)
    taken = sum(check(algorithm, any_convolution(choose), choose(["float32", "float64"]), rng) for _ in range(400))
    assert taken > 25


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", range(1, MAX_CHANNELS + 1))
def test_all_channel_counts_are_exact(algorithm, channels, dtype, rng):
    """Kernel rows that fill panels and do not, strides up to more than the taps, padding of one side and of two."""
    for taps, stride, padding in ((2, 1, 0), (3, 1, "same"), (4, 2, 1), (5, 2, "same"), (2, 3, 0), (7, 4, 3)):
        options = {"padding": padding, "strides": (1 + stride % 2, stride)}
        assert check(algorithm, Problem("few", (2, 9, 23, channels), (3, taps, channels, 5), options), dtype, rng)


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
        ((1, 3, 1500, 1), (3, 5, 1, 200), {"padding": "same"}),
        ((1, 300, 70, 1), (5, 5, 1, 90), {"padding": "same", "strides": (2, 1)}),
        ((1, 4, 5, 6, 17, 2), (2, 3, 3, 3, 2, 4), {"strides": (2, 3, 1, 2), "padding": "same"}),
        ((9, 8, 8, 3), (3, 3, 3, 20), {"padding": 5}),
    ],
)
def test_other_ranks_and_outer_axes_are_exact(algorithm, x_shape, kernel_shape, options, rng):
    assert check(algorithm, Problem("axes", x_shape, kernel_shape, options), "float32", rng)


def test_dilated_columns_are_exact_as_planes(rng):
    options = {"dilation_rate": (3, 5), "strides": (1, 2), "padding": 2}
    assert check("folded_planes", Problem("dilated", (2, 20, 45, 3), (3, 3, 3, 8), options), "float32", rng)


def test_results_have_the_same_bits_for_any_number_of_threads(algorithm, rng):
    kernel, grad_y, most = (
        rng.standard_normal((5, 5, 3, 16)),
        rng.standard_normal((3, 70, 70, 16)),
        numba.get_num_threads(),
    )
    results = []
    for threads in {1, most}:
        numba.set_num_threads(threads)
        results.append(nc.conv_input_grad(grad_y, kernel, (3, 70, 70, 3), padding="same", algorithm=algorithm))
    numba.set_num_threads(most)
    assert_array_equal(results[0], results[-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_stays_where_it_is_read(algorithm, dtype, rng):
    """A NaN or an infinity reaches the inputs that its output reads, and no others."""
    grad_y, kernel = rng.standard_normal((2, 12, 40, 8)).astype(dtype), np.ones((3, 3, 3, 8), dtype)
    grad_y[0, 5, 20, 1], grad_y[1, 11, 39, 2] = np.nan, np.inf
    x = nc.conv_input_grad(grad_y, kernel, (2, 12, 40, 3), padding="same", algorithm=algorithm)
    expected = np.ones((2, 12, 40), bool)
    expected[0, 4:7, 19:22] = expected[1, 10:12, 38:40] = False
    assert_array_equal(np.isfinite(x).all(axis=-1), expected)


@pytest.mark.parametrize("channels", [1, 3, 6, 11])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_transposed_layer_ends_with_bias_and_activation(algorithm, channels, activation, rng):
    spec = resolve_conv((2, 18, 42, channels), (4, 4, channels, 4), strides=2, padding=1)
    x, kernel = rng.integers(-2, 3, spec.y_shape).astype("float32"), rng.integers(-1, 2, spec.kernel_shape)
    kernel, bias = kernel.astype("float32"), rng.integers(-2, 3, channels).astype("float32")
    y = planner.input_grad(spec, x, kernel, bias=bias, activation=activation, algorithm=algorithm)
    expected = oracle.conv_transpose(x, kernel, bias, strides=2, padding=1)
    assert_array_equal(y, np.maximum(expected, 0) if activation else expected)


@pytest.mark.parametrize("channels", [3, 6])
def test_a_users_function_ends_a_transposed_layer(algorithm, channels, rng):
    def cube(v):
        return v * v * v

    x, kernel = rng.integers(-2, 3, (16, 16, 16, 64)).astype("float32"), rng.integers(-1, 2, (4, 4, channels, 64))
    kernel, bias = kernel.astype("float32"), rng.integers(-2, 3, channels).astype("float32")
    spec = resolve_conv((16, 32, 32, channels), kernel.shape, strides=2, padding=1)
    y = planner.input_grad(spec, x, kernel, bias=bias, activation=nc.fused_activation(cube), algorithm=algorithm)
    expected = oracle.conv_transpose(x, kernel, bias, strides=2, padding=1).astype("float32")
    assert_array_equal(y, expected * expected * expected)


@pytest.mark.skipif(TARGET.vector_bytes < 32, reason="what is estimated to be faster depends on the registers")
def test_short_rows_of_wide_kernels_are_folded():
    spec = resolve_conv((64, 14, 14, 6), (5, 5, 6, 16))
    assert planner.choose(spec, "input_grad") == "folded"


@pytest.mark.parametrize("x_shape, kernel_shape, strides, padding, algorithm", [
    ((4, 64, 64, 3), (3, 3, 3, 64), 1, 1, "folded_planes"),
    ((16, 64, 64, 3), (4, 4, 3, 64), 2, 1, "folded"),
    ((1, 256, 256, 1), (9, 9, 1, 64), 1, 4, "folded_planes"),
    ((1, 32, 64, 64, 1), (3, 3, 3, 1, 64), 2, 1, "folded_planes"),
])  # fmt: skip
def test_first_layers_are_folded(x_shape, kernel_shape, strides, padding, algorithm):
    spec = resolve_conv(x_shape, kernel_shape, strides=strides, padding=padding)
    # Which of the two is faster differs by little and from CPU to CPU; that rows are folded does not.
    assert planner.choose(spec, "input_grad").split("_")[0] == algorithm.split("_")[0]


COMMON_REFUSALS = [
    ((1, 9, 9, 2), (3, 3, 2, 16), {}, "forward", "only input gradients are folded"),
    ((0, 9, 9, 2), (3, 3, 2, 16), {}, "input_grad", "the batch is empty"),
    ((1, 9, 9, 2), (3, 3, 1, 16), {"groups": 2}, "input_grad", "groups are not folded"),
    ((1, 9, 9, 2), (3, 1, 2, 16), {}, "input_grad", "the last axis has no neighbouring taps to fold"),
    ((1, 9, 9, 16), (3, 3, 16, 16), {}, "input_grad", "the input has 16 channels, and with more than 12 "),
]
REFUSALS = {
    "folded": [
        ((1, 9, 9, 2), (3, 3, 2, 16), {"dilation_rate": 2}, "input_grad", "the last axis has no neighbouring taps"),
    ],
    "folded_planes": [
        ((1, 9, 300, 2), (3, 150, 2, 16), {}, "input_grad", "a kernel row has 300 numbers, and planes of products"),
        (
            *((1, 9, 300, 2), (3, 3, 2, 16), {"dilation_rate": (1, 64)}, "input_grad"),
            "an output reads pixels further than",
        ),
        (
            *((1, 600, 9, 2), (3, 3, 2, 512), {"dilation_rate": (256, 1)}, "input_grad"),
            "of the rows that an output reads, 32 pixels take 32832 KB, more than L2",
        ),
    ],
}


def test_other_problems_are_refused(algorithm):
    for x_shape, kernel_shape, options, direction, reason in COMMON_REFUSALS + REFUSALS[algorithm]:
        refused = MODULES[algorithm].refuses(resolve_conv(x_shape, kernel_shape, **options), direction)
        assert refused is not None and refused.startswith(reason)
