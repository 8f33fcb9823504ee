"""Depthwise layers made by strips of rows, and by stores past the caches, are exact; the planar algorithm takes few."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem, conv

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import depthwise, plan_parts
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_strip_tiles import HAS_STRIPS, NUMBERS, strip_taps, tile_number
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

KERNELS = [(3, 3), (2, 3), (5, 5), (4, 7), (9, 9), (3, 10), (3, 3, 3), (2, 3, 5)]
SIZES = [(2, 4), (4, 7), (5, 10), (7, 19)]


def layer(spatial, channels, kernel_size, **options) -> Problem:
    return conv(spatial, channels, channels, kernel_size, groups=channels, **{"padding": "same", **options})


def record_of(problem: Problem, dtype: str = "float32"):
    """Return header and first record of a forward pass."""
    spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
    strides = contiguous_strides(problem.x_shape), contiguous_strides(spec.result_shape("forward"))
    geometry = depthwise.product_plan(spec, "forward", *strides).geometry
    return geometry, geometry[geometry[at.RECORDS] :]


def clear():
    planner.clear_plans()
    depthwise.product_plan.cache_clear()


@pytest.fixture(params=["as planned", "gathered", "fetched ahead", "past the caches"])
def way(request, monkeypatch):
    """Set how input is read and outputs are written."""
    if request.param == "gathered":
        monkeypatch.setattr(depthwise, "is_gathered", lambda *arguments: True)
    if request.param == "fetched ahead":
        monkeypatch.setattr(depthwise, "STREAMED_PART", 1 << 60)
    if request.param == "past the caches":
        monkeypatch.setattr(plan_parts, "CACHED_RESULT", 0)
    clear()
    yield request.param
    monkeypatch.undo()
    clear()


@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strips_are_exact(kernel_size, dtype, way, rng):
    lanes = TARGET.lanes(dtype)
    for size, channels in zip(SIZES, [2 * lanes, lanes + 1, lanes, 2 * lanes + 3], strict=True):
        spatial = (3,) * (len(kernel_size) - 2) + size
        around, behind = (
            tuple((k // 2, k - 1 - k // 2) for k in kernel_size),
            tuple((0, min(k, 3)) for k in kernel_size),
        )
        for padding in (around, behind):
            if any(s + sum(p) < k for s, p, k in zip(spatial, padding, kernel_size, strict=True)):
                continue
            problem = layer(spatial, channels, kernel_size, padding=padding)
            arrays = draw(problem, rng, dtype)
            for name in ("conv", "conv_input_grad"):
                assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays), str(problem))
            expected = run(oracle, "conv", problem, arrays, bias=True, activation="relu")
            assert_array_equal(run(nc, "conv", problem, arrays, bias=True, activation="relu"), expected)


@pytest.mark.parametrize(
    "problem",
    [
        *(layer((14, 15), 32, (3, 3), dilation_rate=(d, e)) for d, e in ((2, 1), (1, 2), (3, 3))),
        *(layer((14, 15), 32, (5, 5), strides=s) for s in ((2, 1), (1, 2), (3, 3))),
        *(layer((15, 30), 33, (k, k), strides=2, padding=p) for k in (3, 5, 7, 9) for p in ("same", ((0, 2), (3, 1)))),
        *(layer((9, 10), 32, (3, 3), padding_mode=mode) for mode in ("reflect", "replicate", "circular")),
        conv((9, 10), 16, 32, (3, 3), groups=16, padding="same"),
        conv((9, 10), 8, 32, (5, 5), groups=8, padding="same"),
    ],
    ids=str,
)
def test_other_steps_paddings_and_multipliers_are_exact(problem, way, rng):
    arrays = draw(problem, rng, "float32")
    names = ("conv", "conv_input_grad") if "padding_mode" not in problem.options else ("conv",)
    for name in names:
        assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays))


@nc.fused_activation
def affine(value):
    return value * 2 + 1


@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5)], ids=str)
def test_a_function_of_the_user_ends_strips(kernel_size, way, rng):
    problem = layer((8, 13), 2 * TARGET.lanes("float32") + 1, kernel_size)
    arrays = draw(problem, rng, "float32")
    result = run(nc, "conv", problem, arrays, bias=True, activation=affine)
    assert_array_equal(result, run(oracle, "conv", problem, arrays, bias=True) * 2 + 1)


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "between cache lines"])
@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (1, 4)], ids=str)
def test_an_output_between_cache_lines_is_stored_as_any_other(kernel_size, shift, way, rng):
    problem = layer((6, 19), 32, kernel_size)
    arrays = draw(problem, rng, "float32")
    expected = run(oracle, "conv", problem, arrays)
    memory = np.full(expected.size + 32, np.nan, np.float32)
    start = -memory.ctypes.data % 64 // 4 + shift
    out = memory[start : start + expected.size].reshape(expected.shape)
    assert run(nc, "conv", problem, arrays, out=out) is out
    assert_array_equal(out, expected)
    assert np.isnan(memory).sum() == 32


def test_padding_is_not_read_as_the_input(rng):
    """What is not finite stays with the outputs that read it."""
    problem = layer((6, 9), 32, (3, 3))
    arrays = draw(problem, rng, "float32")
    arrays["x"][0, 0, 0] = np.nan
    result = run(nc, "conv", problem, arrays)
    assert np.isnan(result[0, :2, :2]).all()
    assert np.isnan(result).sum() == 4 * 32


def test_only_large_results_of_whole_cache_lines_are_stored_past_the_caches():
    lines = TARGET.vector_bytes == 64
    side = math.isqrt(plan_parts.CACHED_RESULT * TARGET.l2_bytes // 4 // 32 // 2) + 1
    assert record_of(layer((side, side), 32, (3, 3)))[0][at.PAST_CACHES] == lines
    assert not record_of(layer((side - 1, side - 1), 32, (3, 3)))[0][at.PAST_CACHES]
    assert not record_of(layer((side, side), 33, (3, 3)))[0][at.PAST_CACHES]


@pytest.mark.skipif(not HAS_STRIPS, reason="strips need 32 registers")
@pytest.mark.parametrize(
    ("problem", "taps"),
    [
        (layer((14, 14), 32, (3, 3)), 0), (layer((14, 14), 32, (5, 5)), 5), (layer((14, 14), 32, (7, 7)), 7),
        (layer((14, 14), 32, (9, 9)), 3), (layer((14, 14), 32, (4, 4)), -1), (layer((14,), 32, (3,)), -1),
        (layer((14, 14), 32, (3, 3), strides=2), -1), (layer((14, 14), 32, (5, 5), strides=2), 5),
        (layer((14, 14), 32, (5, 5), strides=(1, 2)), -1), (layer((14, 14), 32, (5, 5), strides=3), -1),
        (layer((14, 14), 32, (3, 3), dilation_rate=(1, 2)), -1),
        (layer((14, 14), 32, (3, 3), padding_mode="circular"), -1), (layer((14, 3), 32, (3, 3)), -1),
    ],
    ids=str,
)  # fmt: skip
def test_which_layers_have_strips(problem, taps):
    assert record_of(problem)[1][at.STRIP_TAPS] == taps


def test_every_kernel_with_strips_has_its_tiles():
    for rows in range(1, 12):
        for columns in range(1, 32):
            taps = strip_taps(rows, columns)
            assert taps is None or {tile_number(taps, 2, width) for width in (4, 7)} <= set(NUMBERS)
            taps = strip_taps(rows, columns, 2)
            assert taps is None or {tile_number(taps, 2, width, 2) for width in (4, 7)} <= set(NUMBERS)
            taps = strip_taps(rows, columns)
            assert taps != 0 or {tile_number(0, 3, width) for width in (4, 7)} <= set(NUMBERS)


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
def test_few_channels_and_many_taps_have_pixels_in_the_lanes(direction):
    def chosen(channels, kernel_size, **options):
        problem = layer((128, 128), channels, kernel_size, **options)
        return planner.choose(resolve_conv(problem.x_shape, problem.kernel_shape, **problem.options), direction)

    assert chosen(3, (9, 9)) == "planar"
    assert chosen(3, (3, 3)) == chosen(TARGET.lanes("float32") - 1, (9, 9)) == depthwise.NAME
    assert chosen(3, (9, 9), strides=2) == chosen(3, (9, 9), dilation_rate=2) == depthwise.NAME


@pytest.mark.parametrize("group", [2, 4, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strips_of_groups_are_exact(group, stride, dtype, way, rng):
    lanes = TARGET.lanes(dtype)
    for size, channels in zip([(4, 9), (9, 14), (13, 31)], [lanes, 2 * lanes, lanes + group], strict=True):
        channels = max(2 * group, -(-channels // group) * group)
        for kernel_size, padding in (((3, 3), 1), ((3, 3), ((0, 2), (3, 1))), ((2, 3, 3), (1, 1, 1))):
            spatial = (3,) * (len(kernel_size) - 2) + size
            options = {"groups": channels // group, "strides": stride, "padding": padding}
            problem = conv(spatial, channels, channels, kernel_size, **options)
            arrays = draw(problem, rng, dtype)
            for name in ("conv", "conv_input_grad"):
                assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays), str(problem))
            expected = run(oracle, "conv", problem, arrays, bias=True, activation="relu")
            assert_array_equal(run(nc, "conv", problem, arrays, bias=True, activation="relu"), expected)


@pytest.mark.skipif(not HAS_STRIPS, reason="strips need 32 registers")
def test_groups_have_strips_for_three_taps_a_row():
    assert [strip_taps(3, 3, stride, group) for group in (2, 4, 8) for stride in (1, 2)] == [3, 3, 3, 3, 0, 3]
    assert strip_taps(5, 5, 1, 4) is None
    for group in (4, 8):
        _, record = record_of(conv((28, 28), 64, 64, (3, 3), groups=64 // group, padding="same"))
        assert (record[at.STRIP_ROWS], record[at.STRIP_TAPS]) == (2, strip_taps(3, 3, 1, group))
