"""Depthwise layers and groups of a few channels are exact however a pass is cut, in place or from gathered blocks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem
from random_problems import any_convolution, numpy_choice

from numbaconv import planner
from numbaconv.algorithms import cache_sets, depthwise, depthwise_gradient
from numbaconv.algorithms.axes import forward_axis
from numbaconv.algorithms.depthwise_blocking import choose_product_block, is_gathered, tile_outputs
from numbaconv.algorithms.lattice import Axis
from numbaconv.algorithms.plan_parts import lattice_extent
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise_gradient_tiles import tile_sizes
from numbaconv.kernels.depthwise_tiles import APART, LONG, STREAMED
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

PROBLEMS = 40


def clear():
    planner.clear_plans()
    depthwise.product_plan.cache_clear()
    depthwise_gradient.gradient_plan.cache_clear()


@pytest.fixture
def cut(monkeypatch):
    """Return a function that makes plans with blocks of at most these rows, columns and channels, gathered or not.

    And with tiles of so many outputs.
    """
    smallest, gathers, outputs = [(1, 1, 1)], [False], [LONG]
    original, original_gradient = depthwise.choose_product_block, depthwise_gradient.choose_gradient_block

    def choose(extents, by_choice, strip):
        block, (rows, columns, registers) = original(extents, by_choice, strip), smallest[0]
        lanes = TARGET.lanes(extents[0].dtype)
        channels = min(block.channels, registers * lanes)
        return dataclasses.replace(
            block, rows=min(block.rows, rows), columns=min(block.columns, columns), channels=channels
        )

    def choose_gradient(extents, *arguments):
        block, (rows, columns, registers) = original_gradient(extents, *arguments), smallest[0]
        lanes, channels = TARGET.lanes(extents[0].dtype), block.channels
        if not extents[0].in_place or extents[0].out_channels % lanes == 0:
            channels = min(channels, registers * lanes)
        return dataclasses.replace(
            block, rows=min(block.rows, rows), columns=min(block.columns, columns), channels=channels
        )

    def set_block(rows, columns, registers, gathered, tile):
        smallest[0], gathers[0], outputs[0] = (rows, columns, registers), gathered, tile
        clear()

    monkeypatch.setattr(depthwise, "choose_product_block", choose)
    monkeypatch.setattr(depthwise, "is_gathered", lambda extent, stride, strips: gathers[0])
    monkeypatch.setattr(depthwise, "tile_outputs", lambda extent, dilation, stride: outputs[0])
    monkeypatch.setattr(depthwise_gradient, "choose_gradient_block", choose_gradient)
    monkeypatch.setattr(depthwise_gradient, "_ahead_step", lambda *arguments: int(gathers[0]))
    yield set_block
    clear()


def grouped(problem: Problem, groups: int, size: int, filters: int) -> Problem:
    """Return the problem with other channels."""
    return dataclasses.replace(
        problem,
        x_shape=(*problem.x_shape[:-1], groups * size),
        kernel_shape=(*problem.kernel_shape[:-2], size, groups * filters),
        options={**problem.options, "groups": groups},
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_cut_is_exact(cut, dtype):
    rng = np.random.default_rng(5)
    choose = numpy_choice(rng)
    seen = set()
    for _ in range(PROBLEMS):
        size, filters = choose([(1, 1), (1, 1), (1, 3), (2, 2), (4, 4), (8, 8)])
        problem = grouped(any_convolution(choose, ndims=(1, 2, 2, 3)), choose([3, 8, 17, 33]), size, filters)
        spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)
        arrays = draw(problem, rng, dtype)
        expected = {
            name: run(oracle, name, problem, arrays) for name in ("conv", "conv_input_grad", "conv_kernel_grad")
        }
        if planner.choose(spec, "forward") == depthwise.NAME:
            seen.add(size)
        for block in (
            (1, 1, 1, False, LONG), (3, 9, 2, False, STREAMED), (99, 99, 99, False, LONG), (2, 5, 1, True, LONG),
            (99, 99, 99, True, STREAMED), (99, 99, 99, False, STREAMED), (99, 99, 99, False, APART),
        ):  # fmt: skip
            cut(*block)
            y = planner.forward(spec, arrays["x"], arrays["kernel"])
            assert_array_equal(y, expected["conv"], f"{problem.x_shape} {problem.options} cut {block}")
            grad = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"])
            assert_array_equal(grad, expected["conv_input_grad"], f"{problem.x_shape} {problem.options} cut {block}")
            grad = planner.kernel_grad(spec, arrays["x"], arrays["grad_y"])
            assert_array_equal(grad, expected["conv_kernel_grad"], f"{problem.x_shape} {problem.options} cut {block}")
    assert seen == {1, *(size for size in (2, 4, 8) if size <= TARGET.lanes(dtype))}


@pytest.mark.parametrize("lines", [1, 3, 8, 99])
def test_rows_taken_together_are_exact(monkeypatch, lines):
    rng = np.random.default_rng(lines)
    monkeypatch.setattr(depthwise, "_strip", lambda *arguments: lines)
    clear()
    for channels, mode in ((3, "zeros"), (8, "reflect"), (33, "zeros"), (48, "circular")):
        for strides, dilation in ((1, 1), (2, 1), (1, 3), (3, 2)):
            options = {
                "strides": strides, "dilation_rate": dilation, "padding": [(2, 3), (1, 4)], "padding_mode": mode,
                "groups": channels,
            }  # fmt: skip
            problem = Problem(2, (2, 29, 13, channels), (3, 5, 1, channels), options)
            spec = resolve_conv(problem.x_shape, problem.kernel_shape, dtype="float32", **options)
            arrays = draw(problem, rng, "float32")
            y = planner.forward(spec, arrays["x"], arrays["kernel"])
            assert_array_equal(y, run(oracle, "conv", problem, arrays), f"{options}")
            grad = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"])
            assert_array_equal(grad, run(oracle, "conv_input_grad", problem, arrays), f"{options}")
    clear()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_rows_alike_read_the_same_taps_one_move_apart(stride, dilation, mode):
    size, taps, low, move = 20, 5, 4, 7 * stride
    out = (size + 2 * low - (taps - 1) * dilation - 1) // stride + 1
    axis = Axis(forward_axis(size, out, taps, stride, dilation, low, mode), 7, 7, 1, 1)
    unit = math.gcd(stride, dilation)
    reads = axis.offsets[np.arange(out)[:, None] * (stride // unit) + np.arange(taps) * (dilation // unit)]
    alike, gathered = (depthwise._rows_alike(axis, in_place) for in_place in (True, False))
    for row in range(out):
        for behind in range(row + 1, out):
            moved = np.where(reads[row] >= 0, reads[row] + (behind - row) * move, -1)
            assert (behind < row + alike[row]) <= (moved == reads[behind]).all()
            assert (behind < row + gathered[row]) <= ((reads[row] < 0) == (reads[behind] < 0)).all()
    inside = np.flatnonzero((reads >= 0).all(axis=1) & (np.diff(reads) == 7 * dilation).all(axis=1))
    assert alike[inside[0]] == len(inside) == inside[-1] - inside[0] + 1
    assert gathered[inside[0]] >= len(inside)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_parts_cover_all_columns_with_the_taps_that_meet_the_input(stride, dilation, mode):
    size, taps, low = 20, 5, 4
    out = (size + 2 * low - (taps - 1) * dilation - 1) // stride + 1
    axis = Axis(forward_axis(size, out, taps, stride, dilation, low, mode), 7, 7, 1, 1)
    parts = np.reshape(depthwise._column_parts(axis, in_place=True, has_windows=True), (-1, at.PART_SIZE))
    covered = sorted(u for part in parts for u in range(part[at.PART_FIRST], part[at.PART_LAST]))
    assert covered == list(range(out))
    unit = math.gcd(stride, dilation)
    apart = np.arange(taps) * (dilation // unit)
    for part in parts:
        first = part[at.PART_FIRST]
        for u in range(first, part[at.PART_LAST]):
            offsets, start = axis.offsets[u * stride // unit + apart], axis.offsets[first * stride // unit + apart]
            inside = np.flatnonzero(offsets >= 0)
            assert list(inside) == list(range(part[at.PART_TAP], part[at.PART_TAP] + part[at.PART_TAPS]))
            assert len(set(offsets[inside] - start[inside])) <= 1
            if u > first and inside.size:
                assert abs(offsets[inside[0]] - start[inside[0]]) == (u - first) * stride * 7
            if part[at.PART_WINDOW]:
                assert set(np.diff(offsets[inside])) <= {7 * unit}
                assert part[at.PART_WINDOW] == stride // unit


def extent_of(x_shape, kernel_size, **options):
    channels = x_shape[-1]
    spec = resolve_conv(x_shape, (*kernel_size, 1, channels), groups=channels, padding="same", **options)
    strides = ((x_shape[1] * x_shape[2] * channels, x_shape[2] * channels, channels, 1),) * 2
    lattice = depthwise._product_lattices(spec, "forward", *strides)[0]
    return lattice_extent(lattice, 1, channels, 1, True, "float32")


def test_tasks_take_whole_rows_with_all_channels():
    block = choose_product_block((extent_of((4, 56, 56, 96), (3, 3)),))
    assert (block.columns, block.channels) == (56, 96)
    assert 7 <= block.rows < 56


def test_long_rows_are_cut():
    block = choose_product_block((extent_of((1, 64, 4096, 96), (7, 7)),))
    assert LONG <= block.columns < 4096


@pytest.mark.skipif(TARGET.l1_bytes > 64 << 10, reason="an L1 so large holds them")
def test_pixels_of_a_large_power_of_two_crowd():
    assert is_gathered(extent_of((1, 14, 14, 1024), (3, 3)), 1024, False)
    assert not is_gathered(extent_of((1, 14, 14, 1040), (3, 3)), 1040, False)
    assert not is_gathered(extent_of((1, 1, 2048, 1024), (1, 4)), 1024, False)


def test_many_taps_read_from_gathered_blocks():
    assert is_gathered(extent_of((1, 14, 14, 1040), (5, 5)), 1040, False)
    assert not is_gathered(extent_of((1, 14, 14, 1040), (5, 5), strides=2), 1040, False)
    assert not is_gathered(extent_of((1, 1, 400, 256), (1, 31)), 256, False)


@pytest.mark.parametrize(
    ("x_shape", "kernel_size", "dilation", "outputs"),
    [
        ((1, 1, 2048, 1536), (1, 4), 1, STREAMED),
        ((1, 1, 2048, 1536), (1, 15), 1, LONG),
        ((1, 1, 2048, 512), (1, 4), 1, LONG),
        ((4, 14, 14, 512), (3, 3), 1, STREAMED),
        ((4, 14, 14, 384), (3, 3), 1, LONG),
        ((2, 1, 4000, 512), (1, 3), 8, APART),
        ((2, 1, 4000, 512), (1, 3), 2, LONG),
        ((2, 400, 400, 64), (3, 3), 8, LONG),
    ],
)
def test_tiles_have_few_outputs_where_lines_do_not_stay_in_l1(monkeypatch, x_shape, kernel_size, dilation, outputs):
    monkeypatch.setattr(cache_sets, "TARGET", dataclasses.replace(TARGET, l1_bytes=32 << 10, l1_ways=8))
    extent = extent_of(x_shape, kernel_size, dilation_rate=dilation)
    assert tile_outputs(extent, dilation, x_shape[-1]) == outputs


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 31, 128])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_tiles_cover_all_taps(length, group):
    sizes = tuple({taps for taps, _ in tile_sizes(group)})
    parts = depthwise_gradient._fewest(length, sizes)
    assert sum(parts) == length
    assert set(parts) <= set(sizes)


@pytest.mark.parametrize(("channels", "groups"), [(65, 65), (130, 130), (1032, 1032), (1032, 129), (528, 264)])
def test_no_chunk_of_channels_read_in_place_is_less_than_a_register(channels, groups):
    size = channels // groups
    spec = resolve_conv((1, 9, 9, channels), (3, 3, size, channels), groups=groups, padding="same")
    strides = ((81 * channels, 9 * channels, channels, 1),) * 2
    geometry = depthwise_gradient.gradient_plan(spec, *strides).geometry
    record = geometry[geometry[at.RECORDS] :]
    assert record[at.IN_PLACE]
    assert channels - (record[at.PANEL_CHUNKS] - 1) * record[at.CHANNELS] >= TARGET.lanes("float32")
