"""1x1 layers to few output channels by sums across lanes: exact for all sizes, chosen where the caches hold x."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import integers
from test_simd import DTYPES, numbers
from test_simd import run as run_kernel

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import dot
from numbaconv.jit import task_kernel
from numbaconv.kernels.tile_sizes import DOT_PIXELS
from numbaconv.simd import lanewise, tiles
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

needs_tiles = pytest.mark.skipif(not DOT_PIXELS, reason="the tiles need 32 registers of 64 bytes")


@task_kernel
def lane_sums(worker, task, geometry, buffers):
    lanewise.tile_store_sums(tiles.tile_read(5, 3, buffers[1], geometry[1]), buffers[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_the_lanes_of_a_tile(dtype):
    lanes = TARGET.lanes(dtype)
    size = -(-15 // lanes) * lanes
    x, out = numbers(5 * (3 * lanes + 1), dtype), np.full(size + 1, 77, dtype)
    run_kernel(lane_sums, dtype, x, out, numbers=(3 * lanes + 1,))
    sums = x.reshape(5, -1)[:, :-1].reshape(15, lanes).sum(1)
    assert_array_equal(out, [*sums, *np.zeros(size - 15), 77])


@needs_tiles
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", DOT_PIXELS)
@pytest.mark.parametrize("shape", [(16,), (1, 17), (2, 7, 9), (3, 50, 61), (1, 4, 5, 6)])
def test_results_are_exact(shape, channels, dtype, rng):
    for depth in (16, 48, 304):
        x_shape, kernel_shape = (*shape, depth), (*(1 for _ in shape[1:]), depth, channels)
        if len(shape) == 1:
            x_shape, kernel_shape = (2, *x_shape), (1, *kernel_shape)
        x, kernel, bias = (integers(rng, size, dtype) for size in (x_shape, kernel_shape, (channels,)))
        y = nc.conv(x, kernel, bias, activation="relu", algorithm="dot")
        assert_array_equal(y, np.maximum(oracle.conv(x, kernel, bias), 0))
        assert_array_equal(nc.conv(x, kernel, algorithm="dot"), oracle.conv(x, kernel))


@needs_tiles
def test_other_activations_and_input_with_gaps(rng):
    x, kernel, bias = (integers(rng, size, "float32") for size in ((2, 9, 11, 32), (1, 1, 32, 3), (3,)))
    expected = oracle.conv(x, kernel, bias)

    square = numba.njit(lambda value: value * value)
    assert_array_equal(nc.conv(x, kernel, bias, activation=square, algorithm="dot"), expected**2)
    apart = np.zeros((2, 9, 22, 32), "float32")[:, :, ::2]
    apart[...] = x
    assert_array_equal(nc.conv(apart, kernel, bias, algorithm="dot"), expected)


@needs_tiles
def test_results_have_the_same_bits_for_any_number_of_threads(rng):
    x, kernel = rng.standard_normal((3, 90, 90, 64), "float32"), rng.standard_normal((1, 1, 64, 2), "float32")
    most, results = numba.get_num_threads(), []
    for threads in {1, most}:
        numba.set_num_threads(threads)
        results.append(nc.conv(x, kernel, algorithm="dot"))
    numba.set_num_threads(most)
    assert_array_equal(results[0], results[-1])


@needs_tiles
def test_chosen_where_the_caches_hold_the_input_or_loads_are_fast():
    small, large = ((n, 64, 64, 64) for n in (1, 1 + TARGET.l3_bytes // (64 * 64 * 64 * 4)))
    assert planner.choose(resolve_conv(small, (1, 1, 64, 2)), "forward") == "dot"
    of_large = "dot" if TARGET.has_two_wide_units else "direct"
    assert planner.choose(resolve_conv(large, (1, 1, 64, 2)), "forward") == of_large


@pytest.mark.parametrize(
    ("kernel_shape", "options", "reason"),
    [
        ((1, 1, 32, 64), {}, "there are tiles of "),
        ((3, 3, 32, 2), {}, "only layers that see pixels one by one "),
        ((1, 1, 32, 2), {"strides": 2}, "only layers that see pixels one by one "),
        ((1, 1, 32, 2), {"padding": 1}, "only layers that see pixels one by one "),
        ((1, 1, 16, 2), {"groups": 2}, "only layers that see pixels one by one "),
    ],
)
def test_refusals(kernel_shape, options, reason):
    spec = resolve_conv((1, 9, 9, 32), kernel_shape, **options)
    assert dot.refuses(spec, "forward").startswith(reason if DOT_PIXELS else "there are tiles of 0 ")
    assert dot.refuses(spec, "input_grad") == "only results are sums across lanes"


@needs_tiles
def test_channels_and_pixels_that_fill_no_tile_are_refused():
    first = resolve_conv((1, 32, 9, 9), (1, 1, 32, 2), data_format="channels_first")
    assert dot.refuses(first, "forward") == "a pixel's channels lie apart"
    assert dot.refuses(resolve_conv((1, 9, 9, 20), (1, 1, 20, 2)), "forward") == (
        "20 input channels are no whole registers"
    )
    assert dot.refuses(resolve_conv((1, 3, 5, 32), (1, 1, 32, 2)), "forward") == "15 pixels are fewer than a tile's"
    assert dot.refuses(resolve_conv((0, 3, 5, 32), (1, 1, 32, 2)), "forward") == "0 pixels are fewer than a tile's"
