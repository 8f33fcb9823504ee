"""Pixels in the lanes of registers: exact for every spec with few output channels."""

from __future__ import annotations

import dataclasses

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
from numbaconv.algorithms import planar, planes
from numbaconv.spec import resolve_conv

DIRECTIONS = {
    "forward": ("x", "kernel", "conv"),
    "input_grad": ("grad_y", "kernel", "conv_input_grad"),
    "kernel_grad": ("x", "grad_y", "conv_kernel_grad"),
}


def check(problem, dtype, rng):
    """Compare every pass that the algorithm takes with the oracle; return how many these are."""
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    arrays, passes = draw(problem, rng, dtype), 0
    for direction, (first, second, reference) in DIRECTIONS.items():
        if planar.refuses(spec, direction) is None:
            passes += 1
            result = getattr(planner, direction)(spec, arrays[first], arrays[second], algorithm="planar")
            assert_array_equal(result, run(oracle, reference, problem, arrays), f"{problem} {direction}")
    return passes


def test_random_problems_are_exact():
    rng = np.random.default_rng(0)
    choose = numpy_choice(rng)
    passes = sum(check(any_convolution(choose), choose(["float32", "float64"]), rng) for _ in range(120))
    assert passes > 200


@pytest.mark.parametrize("out_channels", [*range(1, 14), 16, 17, 25, planar.MAX_CHANNELS])
@pytest.mark.parametrize("in_channels", [1, 3, 8, 13])
def test_all_channel_counts_are_exact(in_channels, out_channels, rng):
    """Rows of many lengths, so that every size of tile ends some row; channels that do and do not fill a register."""
    for columns in (1, 7, 8, 30, 67, 150):
        options = {"padding": "same", "strides": 1 + columns % 2}
        problem = Problem("few", (2, 5, columns, in_channels), (3, 3, in_channels, out_channels), options)
        check(problem, "float32", rng)


def test_long_rows_are_cut_into_blocks(rng):
    check(Problem("long", (2, 3000, 2), (5, 2, 3), {"padding": "causal"}), "float32", rng)


def test_results_have_the_same_bits_for_any_number_of_threads(rng):
    x, kernel = rng.standard_normal((3, 70, 70, 5)), rng.standard_normal((5, 5, 5, 3))
    grad_y, most = rng.standard_normal((3, 70, 70, 3)), numba.get_num_threads()
    results, options = [], {"padding": "same", "algorithm": "planar"}
    for threads in {1, most}:
        numba.set_num_threads(threads)
        gradient = nc.conv_kernel_grad(x, grad_y, kernel.shape, **options)
        results.append((nc.conv(x, kernel, **options), gradient))
    numba.set_num_threads(most)
    for one, other in zip(*(results[0], results[-1]), strict=True):
        assert_array_equal(one, other)


FEW = {
    "forward": ((8, 256, 256, 1), (3, 3, 1, 1)),
    "input_grad": ((8, 256, 256, 1), (3, 3, 1, 1)),
    "kernel_grad": ((8, 256, 256, 1), (3, 3, 1, 1)),
}


@pytest.mark.parametrize("direction", FEW)
def test_few_channels_are_planar(direction):
    shape, kernel = FEW[direction]
    assert planner.choose(resolve_conv(shape, kernel, padding="same"), direction) == "planar"


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
def test_channels_that_leave_lanes_of_two_registers_idle_are_planar(direction):
    """17 channels are padded to 24 or 32; Winograd's estimate has to be below that of planes as well."""
    spec = resolve_conv((8, 1000, 17), (9, 17, 17), padding="same")
    assert planner.choose(spec, direction) == "planar"
    assert "the planar algorithm" in dict(planner.reasons(spec, direction))["winograd"]
    assert planner.choose(resolve_conv((8, 32, 32, 25), (3, 3, 25, 25), padding="same"), direction) == "winograd"


def test_blocks_and_kernels_that_do_not_fit_l2_together_cost_more(monkeypatch):
    def estimate(kernel_size, stride, l2_bytes):
        for module in (planar, planes):
            monkeypatch.setattr(module, "TARGET", dataclasses.replace(module.TARGET, l2_bytes=l2_bytes))
        planar.estimate.cache_clear()
        spec = resolve_conv((1, 224, 224, 21), (kernel_size, kernel_size, 21, 21), strides=stride, dtype="float32")
        return planar.estimate(spec, "forward")

    assert estimate(3, 1, 512 << 10) < 1.1 * estimate(3, 1, 8 << 20)
    assert estimate(16, 8, 512 << 10) > 1.5 * estimate(16, 8, 8 << 20)
    planar.estimate.cache_clear()


def test_more_channels_are_refused(rng):
    spec = resolve_conv((1, 9, 9, 2), (3, 3, 2, 32))
    x, kernel = np.zeros(spec.x_shape, "float32"), np.zeros(spec.kernel_shape, "float32")
    with pytest.raises(ValueError, match=r"'planar' cannot run the pass 'forward' .*: a group writes 32 channels, "):
        planner.forward(spec, x, kernel, algorithm="planar")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_empty_batches_are_left_to_the_next_algorithm(direction):
    spec = resolve_conv((0, 9, 2), (3, 2, 1))
    assert planar.refuses(spec, direction) == "the batch is empty"
    assert planner.choose(spec, direction) == "direct"


def test_what_is_not_finite_stays_where_it_is_read(rng):
    """A NaN or an infinity reaches the outputs whose window holds it, and no others."""
    x, kernel = rng.standard_normal((2, 12, 40, 3)).astype("float32"), np.ones((3, 3, 3, 2), "float32")
    x[0, 5, 20, 1], x[1, 11, 39, 2] = np.nan, np.inf
    y = nc.conv(x, kernel, padding="same", algorithm="planar")
    expected = np.ones((2, 12, 40), bool)
    expected[0, 4:7, 19:22] = expected[1, 10:12, 38:40] = False
    assert_array_equal(np.isfinite(y).all(axis=-1), expected)


def test_a_number_that_no_tap_reads_spoils_no_gradient(rng):
    """Registers reach over the ends of rows, where blocks before have left numbers."""
    x, grad_y = rng.standard_normal((2, 12, 40, 2)).astype("float32"), np.ones((2, 10, 19, 3), "float32")
    expected = nc.conv_kernel_grad(x, grad_y, (3, 3, 2, 3), strides=(1, 2), algorithm="planar")
    assert np.isfinite(expected).all()
    x[0, :, 39:] = np.nan
    result = nc.conv_kernel_grad(x, grad_y, (3, 3, 2, 3), strides=(1, 2), algorithm="planar")
    assert_array_equal(result, expected)


@pytest.mark.parametrize("filters", [1, 4])
def test_a_users_function_ends_the_pass(filters, rng):
    cube = numba.njit(lambda v: v * v * v)
    x = rng.integers(-2, 3, (2, 9, 21, 2)).astype("float32")
    kernel = rng.integers(-1, 2, (3, 3, 2, filters)).astype("float32")
    bias = rng.integers(-2, 3, filters).astype("float32")
    y = nc.conv(x, kernel, bias, padding="same", activation=cube, algorithm="planar")
    assert_array_equal(y, oracle.conv(x, kernel, bias, padding="same").astype("float32") ** 3)


@pytest.mark.parametrize("filters", [1, 2, 3, 5, 6, 9, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_given_output_array_is_filled_and_nothing_else(dtype, filters, rng):
    """Rows end anywhere in a tile or a transpose: the numbers behind the output keep their values."""
    x, kernel = rng.integers(-3, 4, (1, 6, 19, 1)).astype(dtype), rng.integers(-2, 3, (3, 3, 1, filters)).astype(dtype)
    size = 6 * 19 * filters
    memory = np.full(size + 64, 7, dtype)
    out = memory[:size].reshape(1, 6, 19, filters)
    nc.conv(x, kernel, padding="same", out=out, algorithm="planar")
    assert_array_equal(out, oracle.conv(x, kernel, padding="same"))
    assert (memory[size:] == 7).all()
