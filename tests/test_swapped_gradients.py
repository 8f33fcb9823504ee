"""Kernel gradients of 1x1 layers whose operands are exchanged: exact, and taken where output channels are few."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaconv import planner
from numbaconv.algorithms import direct_gradient
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET


def clear():
    planner.clear_plans()
    for function in (direct_gradient.gradient_plan, direct_gradient.swaps):
        function.cache_clear()


@pytest.fixture
def always(monkeypatch):
    """Exchange the operands wherever that can be done."""
    monkeypatch.setattr(direct_gradient, "SWAP_GAIN", 0.0)
    clear()
    yield
    clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spatial", [(3, 30, 31), (1, 5), (2, 5, 6, 7), (1, 1, 1), (2, 5000)])
@pytest.mark.parametrize("channels", [(64, 2), (33, 5), (100, 20), (70, 33), (300, 1), (3, 2)])
def test_swapped_gradients_are_exact(always, dtype, spatial, channels, rng):
    ones, (of_input, of_output) = (1,) * (len(spatial) - 1), channels
    spec = resolve_conv((*spatial, of_input), (*ones, of_input, of_output), dtype=dtype)
    assert direct_gradient.swaps(spec, array_strides(spec)[0])
    x, grad_y = (rng.integers(-3, 4, shape).astype(dtype) for shape in (spec.x_shape, spec.y_shape))
    expected = x.reshape(-1, of_input).T @ grad_y.reshape(-1, of_output)
    most = numba.get_num_threads()
    for threads in {1, most}:
        numba.set_num_threads(threads)
        result = planner.kernel_grad(spec, x, grad_y, algorithm="direct")
        assert_array_equal(result.reshape(of_input, of_output), expected)
    numba.set_num_threads(most)


def test_input_whose_channels_lie_apart_stays_where_it_is(always, rng):
    spec = resolve_conv((2, 9, 11, 20), (1, 1, 20, 3))
    x = rng.integers(-3, 4, (2, 20, 9, 11)).astype("float32").transpose(0, 2, 3, 1)
    grad_y = rng.integers(-3, 4, spec.y_shape).astype("float32")
    result = planner.kernel_grad(spec, x, grad_y, algorithm="direct")
    assert_array_equal(result[0, 0], np.einsum("nhwc,nhwk->ck", x, grad_y))


@pytest.mark.parametrize("x_shape, kernel_shape, options", [
    ((2, 9, 9, 16), (1, 3, 16, 2), {}),
    ((2, 9, 9, 16), (1, 1, 8, 2), {"groups": 2}),
    ((2, 9, 9, 16), (1, 1, 16, 2), {"strides": 2}),
    ((2, 9, 9, 16), (1, 1, 16, 2), {"padding": 1}),
    ((2, 9, 9, 2), (1, 1, 2, 16), {}),
    ((0, 9, 9, 16), (1, 1, 16, 2), {}),
])  # fmt: skip
def test_other_layers_are_not_swapped(always, x_shape, kernel_shape, options):
    spec = resolve_conv(x_shape, kernel_shape, **options)
    assert not direct_gradient.swaps(spec, array_strides(spec)[0])


@pytest.mark.skipif(TARGET.vector_bytes < 64, reason="what is estimated to be faster depends on the registers")
def test_few_output_channels_are_swapped():
    few, many = resolve_conv((2, 256, 256, 64), (1, 1, 64, 2)), resolve_conv((8, 14, 14, 1024), (1, 1, 1024, 256))
    assert direct_gradient.swaps(few, array_strides(few)[0])
    assert not direct_gradient.swaps(many, array_strides(many)[0])
