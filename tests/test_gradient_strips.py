"""Kernel gradients of depthwise layers that take several rows of grad_y at once are exact, and other ones too."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import conv

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import depthwise_gradient
from numbaconv.algorithms.depthwise_gradient import gradient_plan
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_gradient_tiles import STRIP_ROWS, strip_rows, tile_number
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

SIZES = [(1, 9), (2, 3), (3, 7), (7, 15), (8, 29), (13, 30), (16, 57)]


def layer(spatial, channels, kernel_size=(3, 3), **options):
    return conv(spatial, channels, channels, kernel_size, groups=channels, **{"padding": "same", **options})


def plan_of(problem, dtype="float32"):
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    return gradient_plan(spec, contiguous_strides(problem.x_shape), contiguous_strides(spec.y_shape)).geometry


def tile_of(problem, dtype="float32"):
    """Return the number of the first tile of a problem's kernel gradient."""
    geometry = plan_of(problem, dtype)
    record = geometry[geometry[at.RECORDS] :]
    return record[record[at.VISIT_TABLE] + at.VISIT_TILE]


@pytest.fixture(params=["from the caches", "from memory"])
def place(request, monkeypatch):
    """Set where input and grad_y count as being."""
    if request.param == "from memory":
        monkeypatch.setattr(depthwise_gradient, "STREAMED_PART", 1 << 60)
    planner.clear_plans()
    gradient_plan.cache_clear()
    yield request.param
    monkeypatch.undo()
    planner.clear_plans()
    gradient_plan.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_taken_together_are_exact(size, dtype, place, rng):
    lanes = TARGET.lanes(dtype)
    for channels in (2 * lanes, lanes + 1, 3):
        for padding in (((1, 1), (1, 1)), ((2, 0), (0, 2)), ((0, 3), (2, 1))):
            problem = layer(size, channels, padding=padding)
            arrays = draw(problem, rng, dtype)
            expected = run(oracle, "conv_kernel_grad", problem, arrays)
            assert_array_equal(run(nc, "conv_kernel_grad", problem, arrays), expected, str(problem))


@pytest.mark.parametrize(
    "problem",
    [
        layer((4, 9, 16), 32, (3, 3, 3)),
        layer((9, 16), 512),
        layer((9, 16), 33, strides=(2, 1)),
        layer((9, 16), 33, strides=(1, 2)),
        layer((9, 16), 33, dilation_rate=(2, 1)),
        layer((9, 16), 33, dilation_rate=(1, 2)),
        layer((9, 16), 32, padding_mode="circular"),
        conv((9, 16), 16, 32, (3, 3), groups=16, padding="same"),
    ],
    ids=str,
)
def test_other_layers_with_such_kernels_are_exact(problem, rng):
    arrays = draw(problem, rng, "float32")
    expected = run(oracle, "conv_kernel_grad", problem, arrays)
    assert_array_equal(run(nc, "conv_kernel_grad", problem, arrays), expected)


def test_padding_is_not_read_as_grad_y_or_input(rng):
    """What is not finite stays with the taps that read it."""
    problem = layer((7, 9), 32)
    arrays = draw(problem, rng, "float32")
    arrays["x"][0, 0, 0] = np.inf
    grad = run(nc, "conv_kernel_grad", problem, arrays)
    assert np.isfinite(grad[2]).all() and np.isfinite(grad[:, 2]).all()
    assert not np.isfinite(grad[:2, :2]).any()


def test_strips_are_of_neighbours_in_the_caches(place):
    strips = strip_rows(3, 3, 1) > 1 and place == "from the caches"
    assert tile_of(layer((14, 14), 32)) == tile_number(3, 3, STRIP_ROWS if strips else 1)
    for other in ({"strides": 2}, {"dilation_rate": 2}):
        assert tile_of(layer((14, 14), 32, **other)) == tile_number(3, 3)


@pytest.mark.skipif(strip_rows(3, 3, 1) == 1, reason="strips need 32 registers")
def test_blocks_of_strips_are_whole_rows_and_fetch_nothing():
    geometry = plan_of(layer((112, 112), 32))
    record = geometry[geometry[at.RECORDS] :]
    assert record[at.BLOCK_ROWS] % STRIP_ROWS == 0
    assert record[at.BLOCK_COLUMNS] == 112
    assert record[at.AHEAD_STEP] == 0


@pytest.mark.skipif(TARGET.l2_bytes > 1 << 20, reason="as many private sums as there are have blocks of all channels")
def test_blocks_have_more_rows_than_they_share_with_the_next():
    """If need be of some of the channels."""
    geometry = plan_of(layer((64, 64), 240, (5, 5), batch=1))
    record = geometry[geometry[at.RECORDS] :]
    assert record[at.BLOCK_ROWS] >= 8
    assert record[at.BLOCK_ROWS] * record[at.PANEL_CHUNKS] >= 16
