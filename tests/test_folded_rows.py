"""Kernel rows that are folded, or summed, rows of pixels joined to one, or not: exact, whichever costs less."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import folded, folded_planes
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

DTYPES = ["float32", "float64"]
PROBLEMS = [
    ((3, 9, 23, 3), (3, 3, 3, 5), {"padding": "same"}),
    ((2, 28, 28, 1), (5, 5, 1, 6), {"padding": "same"}),
    ((2, 17, 31, 4), (4, 5, 4, 20), {"strides": (3, 2), "padding": 2}),
    ((2, 12, 40, 9), (2, 3, 9, 3), {"strides": (1, 3)}),
    ((1, 30, 33, 12), (5, 7, 12, 2), {"strides": 2, "padding": (4, 5)}),
    ((2, 25, 41, 2), (3, 4, 2, 33), {"dilation_rate": (4, 1), "strides": (2, 1), "padding": 3}),
    ((3, 12, 12, 2), (3, 3, 2, 24), {"padding": "same"}),
    ((2, 13, 17, 1), (5, 5, 1, 16), {"strides": (1, 2)}),
    ((2, 9, 11, 1), (2, 2, 1, 1), {"strides": (5, 4)}),
    ((2, 8, 8, 3), (3, 3, 3, 20), {"padding": 5}),
    ((1, 64, 120, 1), (7, 2, 1, 40), {"strides": (2, 2), "padding": ((3, 0), (1, 1))}),
]
VOLUMES = [
    ((1, 5, 6, 17, 3), (3, 3, 3, 3, 8), {"strides": (1, 2, 2), "padding": "same"}),
    ((2, 4, 9, 30, 1), (2, 3, 5, 1, 16), {"strides": (2, 1, 1)}),
]


def clear():
    planner.clear_plans()
    for module in (folded, folded_planes):
        module.product_plan.cache_clear()
        module._launch.cache_clear()
    folded._phases.cache_clear()
    folded_planes._block.cache_clear()


@pytest.fixture(params=["folded rows", "summed rows", "joined rows", "single rows"])
def way(request, monkeypatch):
    """Make one way of an algorithm cost nothing beside the other; return the algorithm and which way it is."""
    first = request.param in ("folded rows", "joined rows")
    if request.param.split()[0] in ("folded", "summed"):
        monkeypatch.setattr(folded, "_fold_cycles", lambda spec, folds: 0.0 if (folds is None) != first else 1e12)
        algorithm = folded
    else:
        original = folded_planes._joined_block
        found = (lambda *args: (original(*args)[0], 0.0) if original(*args) else None) if first else lambda *args: None
        monkeypatch.setattr(folded_planes, "_joined_block", found)
        algorithm = folded_planes
    clear()
    yield algorithm, first
    clear()


def takes_first(algorithm, spec) -> bool:
    x, y = array_strides(spec)
    if algorithm is folded:
        return folded._phases(spec, y, x)[0].folds is not None
    return folded_planes._block(spec, y, x)[1].joined > 0


def check(algorithm, problem, dtype, rng):
    arrays = draw(problem, rng, dtype)
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    result = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"], algorithm=algorithm.NAME)
    assert_array_equal(result, run(oracle, "conv_input_grad", problem, arrays), str(problem))
    return spec


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_shape, kernel_shape, options", PROBLEMS)
def test_each_way_is_exact(way, dtype, x_shape, kernel_shape, options, rng):
    algorithm, first = way
    spec = check(algorithm, Problem("rows", x_shape, kernel_shape, options), dtype, rng)
    assert takes_first(algorithm, spec) == first


@pytest.mark.parametrize("x_shape, kernel_shape, options", VOLUMES)
def test_each_way_is_exact_with_planes(way, x_shape, kernel_shape, options, rng):
    check(way[0], Problem("planes", x_shape, kernel_shape, options), "float32", rng)


@pytest.mark.parametrize("channels", range(1, 13))
def test_all_channel_counts_are_exact(way, channels, rng):
    for taps, stride in ((3, 1), (5, 2), (2, 3)):
        options = {"padding": 1, "strides": stride}
        check(way[0], Problem("few", (2, 13, 21, channels), (3, taps, channels, 4), options), "float32", rng)


def test_grad_y_need_not_be_contiguous(way, rng):
    """Channels that lie apart are gathered: then no rows are folded."""
    spec = resolve_conv((2, 20, 30, 3), (3, 3, 3, 16), padding="same")
    grad_y = rng.integers(-3, 4, (16, 2, 20, 60)).astype("float32")[..., ::2].transpose(1, 2, 3, 0)
    kernel = rng.integers(-2, 3, (3, 3, 3, 16)).astype("float32")
    result = planner.input_grad(spec, grad_y, kernel, algorithm=way[0].NAME)
    assert_array_equal(result, oracle.conv_input_grad(grad_y, kernel, (2, 20, 30, 3), padding="same"))


def test_what_is_not_finite_stays_where_it_is_read(way, rng):
    grad_y, kernel = rng.standard_normal((2, 24, 26, 8)).astype("float32"), np.ones((3, 3, 3, 8), "float32")
    grad_y[0, 5, 20, 1], grad_y[1, 23, 25, 2], grad_y[1, 0, 0, 7] = np.nan, np.inf, -np.inf
    x = nc.conv_input_grad(grad_y, kernel, (2, 24, 26, 3), padding="same", algorithm=way[0].NAME)
    expected = np.ones((2, 24, 26), bool)
    expected[0, 4:7, 19:22] = expected[1, 22:24, 24:26] = expected[1, :2, :2] = False
    assert_array_equal(np.isfinite(x).all(axis=-1), expected)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("channels", [1, 3, 9])
def test_a_transposed_layer_ends_with_bias_and_activation(way, channels, activation, rng):
    spec = resolve_conv((2, 18, 42, channels), (4, 5, channels, 4), strides=2, padding=1)
    x, kernel = rng.integers(-2, 3, spec.y_shape).astype("float32"), rng.integers(-1, 2, spec.kernel_shape)
    kernel, bias = kernel.astype("float32"), rng.integers(-2, 3, channels).astype("float32")
    y = planner.input_grad(spec, x, kernel, bias=bias, activation=activation, algorithm=way[0].NAME)
    expected = oracle.conv_transpose(x, kernel, bias, strides=2, padding=1, output_padding=(0, 1))
    assert_array_equal(y, np.maximum(expected, 0) if activation else expected)


@pytest.mark.skipif(TARGET.vector_bytes < 64, reason="what is estimated to be faster depends on the registers")
def test_large_gradients_fold_rows_and_small_images_join_theirs():
    assert takes_first(folded, resolve_conv((4, 224, 224, 3), (3, 3, 3, 64), padding=1))
    assert takes_first(folded, resolve_conv((64, 64, 64, 3), (4, 4, 3, 64), strides=2, padding=1))
    assert not takes_first(folded, resolve_conv((64, 14, 14, 6), (5, 5, 6, 16)))
    assert takes_first(folded_planes, resolve_conv((64, 28, 28, 1), (5, 5, 1, 6), padding=2))
    assert not takes_first(folded_planes, resolve_conv((1, 256, 256, 1), (9, 9, 1, 64), padding=4))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_ends_of_a_row_do_not_reach_the_next_one(padding):
    spec = resolve_conv((2, 28, 28, 1), (5, 5, 1, 6), padding=padding)
    if not takes_first(folded_planes, spec):
        pytest.skip("rows are joined where an estimate says so")
    grad_y, kernel = np.zeros(spec.y_shape, np.float32), np.ones(spec.kernel_shape, np.float32)
    grad_y[:, 10, [0, -1]] = np.nan
    reached = np.isnan(planner.input_grad(spec, grad_y, kernel, algorithm="folded_planes"))[..., 0]
    columns, left, top = spec.out_spatial[-1], spec.padding[-1][0], 10 - spec.padding[0][0]
    expected = np.zeros_like(reached)
    for column in (0, columns - 1):
        first = column - left
        expected[:, top : top + 5, max(first, 0) : first + 5] = True
    assert_array_equal(reached, expected)
