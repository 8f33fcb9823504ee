"""Tall tiles: five taps along both axes, four rows of outputs from eight points."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from passes import normal
from test_winograd import engine, expected, operands, rms

import numbaconv as nc
from numbaconv.algorithms import winograd
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.algorithms.winograd_tiles import TALL_SUMMED, tile_phases
from numbaconv.kernels.winograd_tall import TALL_POINTS
from numbaconv.planner import DIRECTIONS
from numbaconv.spec import resolve_conv

RELATIVE_ERROR = 5e-6

MAX_ERROR_RATIO = {"forward": 3.0, "input_grad": 3.0, "kernel_grad": 10.0}
"""What the documentation promises. The direct kernel gradient is closer to the truth than most: it adds short sums."""

CASES = {
    "whole tiles": ((2, 12, 14, 32), (5, 5, 32, 32), {"padding": "same"}),
    "one row of tiles": ((3, 8, 40, 48), (5, 5, 48, 32), {}),
    "two outputs left": ((1, 14, 11, 32), (5, 5, 32, 64), {"padding": "same"}),
    "tails of channels": ((2, 15, 13, 37), (5, 5, 37, 43), {"padding": "same"}),
    "one register": ((2, 12, 12, 40), (5, 5, 40, 33), {"padding": ((1, 3), (0, 4))}),
    "groups": ((2, 11, 9, 96), (5, 5, 32, 96), {"padding": "same", "groups": 3}),
    "dilated": ((1, 23, 26, 32), (5, 5, 32, 32), {"padding": "same", "dilation_rate": (2, 3)}),
    "planes": ((1, 4, 9, 13, 16), (3, 5, 5, 16, 32), {"padding": "same"}),
    "channels first": ((2, 32, 12, 13), (5, 5, 32, 48), {"padding": "same", "data_format": "channels_first"}),
    "reflect": ((1, 12, 11, 32), (5, 5, 32, 32), {"padding": "same", "padding_mode": "reflect"}),
    "many tiles": ((5, 40, 37, 32), (5, 5, 32, 64), {"padding": "same"}),
}


def phases(spec, direction):
    x, y = array_strides(spec)
    return tile_phases(spec, direction, *((y, x) if direction == "input_grad" else (x, y)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_values(case, direction, rng):
    x_shape, kernel_shape, options = CASES[case]
    spec = resolve_conv(x_shape, kernel_shape, **options)
    assert {phase.row_points for phase in phases(spec, direction)} == {TALL_POINTS}
    arrays = operands(spec, rng)
    result = engine(spec, direction, arrays, "winograd")
    reference = expected(spec, direction, arrays, options)
    assert result.shape == reference.shape
    assert rms(result - reference) < RELATIVE_ERROR * rms(reference)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("filters", [20, 32, 48])
def test_bias_and_activation(filters, activation, rng):
    spec = resolve_conv((2, 13, 14, 32), (5, 5, 32, filters), padding="same")
    arrays, bias = operands(spec, rng), normal(rng, (filters,), "float32")
    result = engine(spec, "forward", arrays, "winograd", bias=bias, activation=activation)
    reference = expected(spec, "forward", arrays, {"padding": "same"}) + bias
    if activation == "relu":
        reference = np.maximum(reference, 0)
        assert (result == 0).any()
    assert rms(result - reference) < RELATIVE_ERROR * rms(reference)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape"),
    [((2, 24, 24, 32), (5, 5, 32, 64)), ((2, 20, 20, 192), (5, 5, 192, 32)), ((2, 27, 27, 48), (5, 5, 48, 128))],
)
def test_error_beside_the_direct_algorithm(x_shape, kernel_shape, direction, rng):
    spec, wide = (resolve_conv(x_shape, kernel_shape, padding="same", dtype=t) for t in ("float32", "float64"))
    arrays = operands(spec, rng)
    truth = engine(wide, direction, {name: a.astype(np.float64) for name, a in arrays.items()}, "direct")
    errors = {name: rms(engine(spec, direction, arrays, name) - truth) for name in ("winograd", "direct")}
    assert errors["winograd"] < MAX_ERROR_RATIO[direction] * errors["direct"]


def test_few_channels_and_few_rows_take_six_points():
    few = resolve_conv((2, 24, 24, TALL_SUMMED - 1), (5, 5, TALL_SUMMED - 1, TALL_SUMMED), padding="same")
    assert [p.row_points for d in DIRECTIONS for p in phases(few, d)] == [6, TALL_POINTS, TALL_POINTS]
    low = resolve_conv((2, 6, 24, 64), (5, 5, 64, 64))
    assert [phase.row_points for phase in phases(low, "forward")] == [6]
    assert winograd.refuses(low, "forward") is None


def test_threads_do_not_change_the_numbers(rng):
    x, kernel = normal(rng, (3, 20, 21, 32), "float32"), normal(rng, (5, 5, 32, 40), "float32")
    together = nc.conv(x, kernel, padding="same", algorithm="winograd")
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = nc.conv(x, kernel, padding="same", algorithm="winograd")
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(together, alone)
