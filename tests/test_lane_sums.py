"""Input gradients of depthwise layers with a multiplier: neighbouring channels of the products are summed."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import conv, transposed

import numbaconv as nc
from numbaconv.algorithms import depthwise
from numbaconv.kernels import layout as at
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

LAYERS = [
    ((14, 15), (3, 3), {"padding": "same"}),
    ((9, 12), (7, 7), {"padding": "same"}),
    ((9, 13), (5, 5), {"padding": "same", "strides": 2}),
    ((9, 13), (3, 3), {"padding": "same", "strides": 2}),
    ((9, 13), (3, 3), {"dilation_rate": 2}),
    ((40,), (4,), {"padding": "causal"}),
    ((4, 5, 9), (3, 3, 3), {"padding": "same"}),
]


@pytest.mark.usefixtures("direct_only")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("multiplier", [2, 3, 4, 8, 16])
@pytest.mark.parametrize(("spatial", "kernel_size", "options"), LAYERS, ids=str)
def test_input_gradients_are_exact(spatial, kernel_size, options, multiplier, dtype, rng):
    for channels in (1, 5, 16, 33):
        problem = conv(spatial, channels, channels * multiplier, kernel_size, groups=channels, **options)
        arrays = draw(problem, rng, dtype)
        for name in ("conv_input_grad", "conv"):
            assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays), str(problem))


@nc.fused_activation
def affine(value):
    return value * 2 + 1


@pytest.mark.parametrize("multiplier", [2, 4])
@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (1, 4)], ids=str)
def test_bias_and_activation_come_after_the_sums(kernel_size, multiplier, rng):
    filters = 19
    problem = transposed((8, 13), filters * multiplier, filters, kernel_size, groups=filters, padding=1)
    arrays = draw(problem, rng, "float32")
    arrays["x"][0, 3, 3] = np.nan
    expected = run(oracle, "conv_transpose", problem, arrays, bias=True)
    assert_array_equal(run(nc, "conv_transpose", problem, arrays, bias=True), expected)
    result = run(nc, "conv_transpose", problem, arrays, bias=True, activation="relu")
    assert_array_equal(result, np.maximum(expected, 0))
    result = run(nc, "conv_transpose", problem, arrays, bias=True, activation=affine)
    assert_array_equal(result, expected * 2 + 1)


def test_registers_of_whole_sums_alone_are_summed():
    def summed(channels, multiplier, x_channel=1):
        spec = resolve_conv((1, 9, 9, channels), (3, 3, 1, channels * multiplier), groups=channels, padding="same")
        shape = spec.result_shape("forward")
        strides = (*contiguous_strides(shape)[:-1], x_channel)
        geometry = depthwise.product_plan(spec, "input_grad", strides, contiguous_strides(spec.x_shape)).geometry
        return geometry[geometry[at.RECORDS] + at.LANES_SUMMED]

    lanes = TARGET.lanes("float32")
    assert summed(lanes, 1) == summed(lanes, 3) == summed(lanes // 2 - 1, 2) == summed(lanes, 2, 2) == 1
    assert summed(lanes // 2, 2) == summed(lanes + 1, 2) == 2
    assert summed(lanes, lanes) == lanes
