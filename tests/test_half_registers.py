"""Panels of channels that end in half a register, and groups that fill one: exact whatever their channels are."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from test_simd import DTYPES, numbers
from test_simd import run as run_kernel

import numbaconv as nc
from numbaconv.algorithms.blocking import panel_vectors
from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.tile_sizes import HALVES, PANEL_VECTORS, PRODUCT_TILES, split_rows, tile_parts
from numbaconv.simd import groups, mixed, pointers, scattered, tiles, transposes, vectors
from numbaconv.target import TARGET

ROWS = 5


def make_operations(whole, half):
    """Return a helper that runs the operations on a tile of ROWS rows."""

    @inline
    def operations(a, row, out, stride, offsets):
        size = ROWS * stride
        width = (2 * whole + half) * vectors.lanes_of(a) // 2
        weights = pointers.advance(row, width)
        tiles.tile_store(mixed.mixed_zeros(ROWS, whole, half, a), out, stride)
        acc = mixed.mixed_read(ROWS, whole, half, row, 0)
        tiles.tile_prefetch(acc, out, stride)
        product = tiles.tile_fma(acc, a, 2, weights)
        tiles.tile_store(product, pointers.advance(out, size), stride)
        apart = mixed.tile_fma_apart(acc, a, 2, weights)
        tiles.tile_store(tiles.tile_relu(apart), pointers.advance(out, 2 * size), stride)
        tiles.tile_add(product, pointers.advance(out, 2 * size), stride)
        anywhere = scattered.tile_fma_rows(acc, a, offsets, weights)
        scattered.tile_store_rows(anywhere, pointers.advance(out, 3 * size), pointers.advance(offsets, ROWS))
        tiles.tile_store(mixed.tile_plus(acc, a, 2), pointers.advance(out, 4 * size), stride)
        tiles.tile_store(mixed.tile_plus_first(acc, a, 2, width - 1), pointers.advance(out, 5 * size), stride)

    return operations


half_alone, one_and_half = make_operations(0, 1), make_operations(1, 1)


@task_kernel
def mixed_operations(worker, task, geometry, buffers):
    a, row, out, offsets = buffers[1], buffers[2], buffers[3], pointers.advance(geometry, 3)
    if geometry[1] == 1:
        half_alone(a, row, out, geometry[2], offsets)
    else:
        one_and_half(a, row, out, geometry[2], offsets)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("halves", [1, 3])
def test_operations_on_mixed_tiles(dtype, halves):
    width = halves * TARGET.lanes(dtype) // 2
    stride, reads = width + 3, [7, 0, 3, 9, 1]
    a, row = numbers(2 * ROWS + width, dtype), numbers(2 * width, dtype, 1)
    out = np.full((6, ROWS, stride), 77, dtype)
    writes = [m * stride for m in (2, 0, 1, 4, 3)]
    run_kernel(mixed_operations, dtype, a, row, out, numbers=(halves, stride, *reads, *writes))
    bias, weights = row[:width], row[width:]
    product = bias + a[: 2 * ROWS : 2, None] * weights
    beside = np.lib.stride_tricks.sliding_window_view(a, width)[: 2 * ROWS : 2]
    assert_array_equal(out[0, :, :width], 0)
    assert_array_equal(out[1, :, :width], product)
    assert_array_equal(out[2, :, :width], np.maximum(product, 0) + product)
    assert_array_equal(out[3, [2, 0, 1, 4, 3], :width], bias + a[reads][:, None] * weights)
    assert_array_equal(out[4, :, :width], bias + beside)
    assert_array_equal(out[5, :, : width - 1], bias[:-1] + beside[:, :-1])
    assert_array_equal(out[5, :, width - 1], bias[-1])
    assert_array_equal(out[:, :, width:], 77)


@task_kernel
def half_transposes(worker, task, geometry, buffers):
    transposes.transpose_half_square(buffers[1], geometry[1], buffers[2], geometry[2])
    vectors.store(vectors.load_half(buffers[1]), buffers[3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_registers_move_and_are_transposed(dtype):
    half = TARGET.lanes(dtype) // 2
    x, out, moved = numbers((half, half + 3), dtype), np.full((half, half + 5), 77, dtype), np.full(half + 1, 77, dtype)
    run_kernel(half_transposes, dtype, x, out, moved, numbers=(half + 3, half + 5))
    assert_array_equal(out[:, :half], x[:, :half].T)
    assert_array_equal(out[:, half:], 77)
    assert_array_equal(moved, [*x[0, :half], 77])


@task_kernel
def products_of_groups(worker, task, geometry, buffers):
    a, row, out = buffers[1], buffers[2], buffers[3]
    lanes = vectors.lanes_of(a)
    four = groups.group_rows(3, 2, 4, row)
    weights = pointers.advance(row, 2 * lanes)
    four = groups.tile_fma_groups(four, a, 2 * lanes + 1, weights, 4 * lanes, 4)
    tiles.tile_store(four, out, 2 * lanes)
    if lanes >= 8:
        eight = groups.tile_fma_groups(groups.group_rows(3, 2, 8, row), a, 2 * lanes + 1, weights, 8 * lanes, 8)
        tiles.tile_store(eight, pointers.advance(out, 6 * lanes), 2 * lanes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_groups(dtype):
    """A group of half the lanes is a register of its own where halves take half the time."""
    lanes = TARGET.lanes(dtype)
    a, row, out = numbers((3, 2 * lanes + 1), dtype), numbers(18 * lanes, dtype, 1), np.zeros((2, 3, 2 * lanes), dtype)
    run_kernel(products_of_groups, dtype, a, row, out)
    for result, size in zip(out, (4, 8) if lanes >= 8 else (4,), strict=False):
        weights = row[2 * lanes :][: 2 * size * lanes].reshape(2, size, lanes)
        spread = a[:, : 2 * lanes].reshape(3, 2, lanes // size, size).repeat(size, axis=2).reshape(3, 2, lanes, size)
        expected = row[: 2 * lanes] + np.einsum("mvli,vil->mvl", spread, weights).reshape(3, -1)
        assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_panels_cover_the_channels(dtype):
    lanes = TARGET.lanes(dtype)
    for channels in range(1, 5 * lanes):
        widths = panel_vectors(channels, dtype)
        assert set(widths) <= set(PANEL_VECTORS)
        assert widths[:-1] == [2] * (len(widths) - 1)
        assert 0 <= sum(widths) * lanes - channels < lanes // HALVES


def test_tiles_cover_all_pixels():
    for vectors_wide in PANEL_VECTORS:
        for count in range(1, 100):
            assert sum(split_rows(count, vectors_wide)) == sum(split_rows(count, vectors_wide, True)) == count
        rows, whole, half = tile_parts(int(64 * vectors_wide) + PRODUCT_TILES[vectors_wide][0])
        assert (rows, whole + half / 2) == (PRODUCT_TILES[vectors_wide][0], vectors_wide)


CHANNELS = [1, 3, 4, 5, 8, 11, 12, 17, 20, 24, 25, 33, 36, 40, 41]


@pytest.mark.usefixtures("direct_only")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(
    ("of_input", "kernel_size", "options"),
    [
        (3, (3, 3), {"padding": "same"}),
        (8, (5,), {"padding": "causal"}),
        (16, (3, 3), {"strides": 2, "padding": 1}),
        (9, (1, 1), {}),
        (5, (2, 3), {"groups": 2, "padding": "same"}),
        (40, (1, 1), {"groups": 3}),
    ],
    ids=str,
)
def test_any_number_of_channels_is_exact(of_input, kernel_size, options, channels, dtype, rng):
    groups_of = options.get("groups", 1)
    spatial = (23, 9)[: len(kernel_size)]
    x = rng.integers(-3, 4, (2, *spatial, groups_of * of_input)).astype(dtype)
    kernel = rng.integers(-3, 4, (*kernel_size, of_input, groups_of * channels)).astype(dtype)
    bias = rng.integers(-3, 4, groups_of * channels).astype(dtype)
    y = nc.conv(x, kernel, bias, activation="relu", **options)
    assert_array_equal(y, oracle.conv(x, kernel, bias, activation="relu", **options))
    grad_y = rng.integers(-3, 4, y.shape).astype(dtype)
    assert_array_equal(
        nc.conv_input_grad(grad_y, kernel, x.shape, **options),
        oracle.conv_input_grad(grad_y, kernel, x.shape, **options),
    )
    assert_array_equal(
        nc.conv_kernel_grad(x, grad_y, kernel.shape, **options),
        oracle.conv_kernel_grad(x, grad_y, kernel.shape, **options),
    )


@pytest.mark.usefixtures("direct_only")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_groups_of_half_a_register_are_exact(count, size, dtype, rng):
    x = rng.integers(-3, 4, (2, 7, 19, count * size)).astype(dtype)
    kernel = rng.integers(-3, 4, (3, 3, size, count * size)).astype(dtype)
    options = {"groups": count, "padding": "same"}
    y = nc.conv(x, kernel, **options)
    assert_array_equal(y, oracle.conv(x, kernel, **options))
    grad_x = nc.conv_input_grad(y, kernel, x.shape, **options)
    assert_array_equal(grad_x, oracle.conv_input_grad(y, kernel, x.shape, **options))
