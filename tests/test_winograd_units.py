"""Kernel gradients whose sums never leave a core's cache: all tiles first, then some rows of a panel at a time."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
from passes import normal

from numbaconv import planner
from numbaconv.algorithms import winograd_gradient
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.algorithms.winograd_tiles import tile_phases
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

RELATIVE_ERROR = 4e-6

LAYERS = [
    ((2, 7, 7, 64), (3, 3, 64, 64), {}),
    ((1, 9, 10, 83), (3, 3, 83, 37), {}),
    ((1, 9, 10, 30), (3, 3, 15, 44), {"groups": 2}),
    ((2, 13, 17, 24), (3, 3, 24, 40), {"dilation_rate": 3}),
    ((2, 6, 6, 20), (5, 5, 20, 8), {"padding": "valid"}),
    ((2, 9, 9, 16), (7, 7, 16, 33), {}),
    ((3, 8, 8, 300), (1, 3, 300, 40), {}),
    ((1, 3, 7, 7, 24), (3, 3, 3, 24, 40), {}),
    # More tiles than are summed at a time.
    ((3, 24, 20, 16), (3, 3, 16, 16), {}),
]


def plan_of(spec):
    return winograd_gradient.split_gradient(spec, tile_phases(spec, "kernel_grad", *array_strides(spec)))


@pytest.fixture
def units(monkeypatch):
    """Let sums of any size stay in L2."""

    def forget() -> None:
        planner.clear_plans()
        winograd_gradient.gradient_plan.cache_clear()
        winograd_gradient.gradient_cycles.cache_clear()

    monkeypatch.setattr(winograd_gradient, "MIN_SUMS_BYTES", 0)
    monkeypatch.setattr(winograd_gradient, "unit_tiles", lambda depth, points: 2)
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(("x_shape", "kernel_shape", "options"), LAYERS)
def test_values(x_shape, kernel_shape, options, units, rng):
    options = {"padding": "same", **options}
    spec = resolve_conv(x_shape, kernel_shape, **options)
    assert plan_of(spec).unit_tiles > 0
    x, grad_y = normal(rng, spec.x_shape, "float32"), normal(rng, spec.y_shape, "float32")
    result = planner.kernel_grad(spec, x, grad_y, algorithm="winograd")
    wide = (x.astype(np.float64), grad_y.astype(np.float64))
    reference = oracle.conv_kernel_grad(*wide, kernel_shape, **options)
    assert np.sqrt(np.mean((result - reference) ** 2) / np.mean(reference**2)) < RELATIVE_ERROR
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert np.array_equal(planner.kernel_grad(spec, x, grad_y, algorithm="winograd"), result)
    finally:
        numba.set_num_threads(before)


def test_units_are_for_large_sums_over_few_tiles():
    def unit(batch, size, channels):
        spec = resolve_conv((batch, size, size, channels), (3, 3, channels, channels), padding="same")
        return plan_of(spec).unit_tiles

    if TARGET.l2_bytes <= 1 << 20 and TARGET.l3_bytes >= 8 << 20:
        assert unit(1, 14, 512) > 0
    assert unit(1, 56, 16) == 0
    assert unit(64, 56, 512) == 0
