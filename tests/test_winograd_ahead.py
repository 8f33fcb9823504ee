"""Blocks of a Winograd gradient's tiles fetch what the next one reads: the same values wherever that lies."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from passes import normal

from numbaconv import planner
from numbaconv.algorithms import winograd_gradient
from numbaconv.spec import resolve_conv

RELATIVE_ERROR = 4e-6

CASES = [
    ((3, 9, 70, 16), (3, 3, 16, 40), {}),  # one row of tiles is more than a block
    ((9, 7, 6, 8), (3, 3, 8, 16), {}),  # many rows are less than one
    ((2, 21, 23, 32), (3, 3, 32, 32), {"dilation_rate": 3}),  # phases of their own
    ((3, 15, 13, 24), (3, 3, 8, 48), {"groups": 3}),  # others lie between the pixels
    ((3, 14, 14, 64), (3, 3, 16, 64), {"groups": 4, "dilation_rate": 2}),
    ((2, 6, 9, 11, 16), (3, 3, 3, 16, 32), {}),  # planes, some of them padding
    ((5, 33, 8, 16), (3, 1, 16, 16), {}),  # tiles along the rows alone
    ((4, 60, 16), (7, 16, 32), {}),  # parts of taps
    ((3, 20, 20, 16), (5, 5, 16, 16), {}),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(winograd_gradient, "BLOCK_TILES", (5,))
    planner.clear_plans()
    winograd_gradient.gradient_plan.cache_clear()
    yield
    planner.clear_plans()
    winograd_gradient.gradient_plan.cache_clear()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("x_shape", "kernel_shape", "options"), CASES)
def test_values(x_shape, kernel_shape, options, padding, rng):
    spec = resolve_conv(x_shape, kernel_shape, padding=padding, **options)
    x, grad_y = normal(rng, spec.x_shape, "float32"), normal(rng, spec.y_shape, "float32")
    result = planner.kernel_grad(spec, x, grad_y, algorithm="winograd")
    wide_x, wide_grad = x.astype(np.float64), grad_y.astype(np.float64)
    reference = oracle.conv_kernel_grad(wide_x, wide_grad, kernel_shape, padding=padding, **options)
    assert np.sqrt(np.mean((result - reference) ** 2) / np.mean(reference**2)) < RELATIVE_ERROR


def test_operands_that_are_views(rng):
    spec = resolve_conv((3, 12, 40, 16), (3, 3, 16, 32), padding="same")
    x, grad_y = normal(rng, spec.x_shape, "float32"), normal(rng, spec.y_shape, "float32")
    plain = planner.kernel_grad(spec, x, grad_y, algorithm="winograd")
    wide = np.repeat(x, 2, axis=2)[:, :, ::2]
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    for view in (wide, np.moveaxis(first, 1, -1), x[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(planner.kernel_grad(spec, view, grad_y, algorithm="winograd"), plain)
