"""Every vector and tile operation alone, in a kernel of its own, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv import parallel
from numbaconv.inlining import inline
from numbaconv.jit import task_kernel
from numbaconv.simd import groups, pointers, tiles, transposes, vectors
from numbaconv.target import TARGET

DTYPES = ("float32", "float64")
ROWS = 3


def run(kernel, dtype, *arrays, numbers=()):
    geometry = np.array([0, *numbers], np.int64)
    parallel.launch(kernel, dtype, 1, geometry, arrays, serial=True)


def numbers(count, dtype, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, count).astype(dtype)


@task_kernel
def arithmetic(worker, task, geometry, buffers):
    x, y, out = buffers[1], buffers[2], buffers[3]
    lanes = vectors.lanes_of(x)
    a, b = vectors.load(x), vectors.load(y)
    vectors.store(a + b, out)
    vectors.store(a - b, pointers.advance(out, lanes))
    vectors.store(a * b, pointers.advance(out, 2 * lanes))
    vectors.store(vectors.fma(a, b, a), pointers.advance(out, 3 * lanes))
    vectors.store(vectors.maximum(a, b), pointers.advance(out, 4 * lanes))
    vectors.store(vectors.minimum(a, b), pointers.advance(out, 5 * lanes))
    vectors.store(vectors.splat(x, x[1]), pointers.advance(out, 6 * lanes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanewise_arithmetic(dtype):
    lanes = TARGET.lanes(dtype)
    x, y, out = numbers(lanes, dtype), numbers(lanes, dtype, 1), np.zeros((7, lanes), dtype)
    run(arithmetic, dtype, x, y, out)
    expected = [x + y, x - y, x * y, x * y + x, np.maximum(x, y), np.minimum(x, y), np.full(lanes, x[1])]
    np.testing.assert_array_equal(out, expected)


@task_kernel
def stores_past_the_caches(worker, task, geometry, buffers):
    x, out = buffers[1], buffers[2]
    if pointers.is_aligned(out, 64):
        vectors.store_past_caches(vectors.load(x), out)
        pointers.fence()


@pytest.mark.parametrize("dtype", DTYPES)
def test_store_past_the_caches(dtype):
    lanes = TARGET.lanes(dtype)
    memory = np.zeros(200, dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize
    run(stores_past_the_caches, dtype, numbers(lanes, dtype), memory[start + 1 :])
    assert not memory.any()
    run(stores_past_the_caches, dtype, numbers(lanes, dtype), memory[start:])
    np.testing.assert_array_equal(memory[start : start + lanes], numbers(lanes, dtype))
    assert np.count_nonzero(memory) == np.count_nonzero(numbers(lanes, dtype))


@task_kernel
def transposes_a_square(worker, task, geometry, buffers):
    transposes.transpose_square(buffers[1], geometry[1], buffers[2], geometry[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_of_a_square(dtype):
    lanes = TARGET.lanes(dtype)
    x, out = numbers(lanes * (lanes + 3), dtype).reshape(lanes, -1), np.zeros((lanes, lanes + 1), dtype)
    run(transposes_a_square, dtype, x, out, numbers=(lanes + 3, lanes + 1))
    np.testing.assert_array_equal(out[:, :lanes], x[:, :lanes].T)
    assert not out[:, lanes:].any()


@task_kernel
def transposes_a_few_rows(worker, task, geometry, buffers):
    transposes.transpose_narrow(buffers[1], geometry[1], buffers[2], geometry[2])
    buffers[3][0] = transposes.part_of(buffers[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_of_a_few_rows(dtype):
    lanes, part = TARGET.lanes(dtype), 16 // np.dtype(dtype).itemsize
    x, out = numbers(part * (lanes + 3), dtype).reshape(part, -1), np.zeros((lanes, part + 1), dtype)
    parts = np.zeros(1, dtype)
    run(transposes_a_few_rows, dtype, x, out, parts, numbers=(lanes + 3, part + 1))
    np.testing.assert_array_equal(out[:, :part], x[:, :lanes].T)
    assert not out[:, part:].any()
    assert parts == [part]


def interleaves(rows):
    """Return a kernel that interleaves so many rows."""

    @task_kernel
    def interleaves_rows(worker, task, geometry, buffers):
        transposes.interleave(rows, buffers[1], geometry[1], buffers[2])

    return interleaves_rows


def takes_apart(rows):
    """Return a kernel that takes so many rows apart."""

    @task_kernel
    def takes_rows_apart(worker, task, geometry, buffers):
        transposes.deinterleave(rows, buffers[1], buffers[2], geometry[1])

    return takes_rows_apart


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [5, 6])
def test_dense_rows_are_taken_apart(rows, dtype):
    lanes = TARGET.lanes(dtype)
    x, out = numbers(rows * lanes, dtype).reshape(lanes, rows), np.zeros((rows, lanes + 3), dtype)
    run(takes_apart(rows), dtype, x, out, numbers=(lanes + 3, 0))
    np.testing.assert_array_equal(out[:, :lanes], x.T)
    assert not out[:, lanes:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [3, 6, 8])
def test_rows_are_interleaved_densely(rows, dtype):
    lanes = TARGET.lanes(dtype)
    x, out = numbers(rows * (lanes + 3), dtype).reshape(rows, -1), np.zeros((lanes + 1, rows), dtype)
    run(interleaves(rows), dtype, x, out, numbers=(lanes + 3, 0))
    np.testing.assert_array_equal(out[:lanes], x[:, :lanes].T)
    assert not out[lanes:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nan_in_first", [True, False])
def test_extremes_keep_nan(dtype, nan_in_first):
    lanes = TARGET.lanes(dtype)
    x, y, out = numbers(lanes, dtype), numbers(lanes, dtype, 1), np.zeros((7, lanes), dtype)
    (x if nan_in_first else y)[0] = np.nan
    run(arithmetic, dtype, x, y, out)
    np.testing.assert_array_equal(out[4], np.maximum(x, y))
    np.testing.assert_array_equal(out[5], np.minimum(x, y))


@task_kernel
def partial_moves(worker, task, geometry, buffers):
    x, out, count = buffers[1], buffers[2], geometry[1]
    value = vectors.load_first(x, count)
    vectors.store(value, out)
    vectors.store_first(value, pointers.advance(out, vectors.lanes_of(x)), count)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_load_and_store_touch_only_the_first_lanes(dtype):
    lanes = TARGET.lanes(dtype)
    for count in range(lanes + 1):
        x = numbers(lanes, dtype) + 20
        out = np.full((2, lanes), -1, dtype)
        run(partial_moves, dtype, x, out, numbers=(count,))
        inside = np.arange(lanes) < count
        np.testing.assert_array_equal(out[0], np.where(inside, x, 0))
        np.testing.assert_array_equal(out[1], np.where(inside, x, -1))


@task_kernel
def memory_moves(worker, task, geometry, buffers):
    x, out, count = buffers[1], buffers[2], geometry[1]
    pointers.clear(out, count)
    pointers.copy(pointers.advance(out, count), x, count)
    pointers.prefetch(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_copy_and_clear(dtype, count):
    x, out = numbers(count + 1, dtype), np.full(2 * count + 1, 5, dtype)
    run(memory_moves, dtype, x, out, numbers=(count,))
    np.testing.assert_array_equal(out, [0] * count + list(x[:count]) + [5])


@task_kernel
def comparison(worker, task, geometry, buffers):
    buffers[3][0] = 1 if pointers.is_equal(buffers[1], buffers[2], geometry[1]) else 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_equal_by_their_bits(dtype):
    x, found = numbers(33, dtype), np.zeros(1, dtype)
    x[7] = np.nan
    other = x.copy()
    for count, place, value, expected in [
        (33, 0, x[0], 1), (33, 32, 5, 0), (32, 32, 5, 1), (0, 0, 5, 1), (33, 0, np.nextafter(x[0], 9), 0),
    ]:  # fmt: skip
        other[:] = x
        other[place] = value
        run(comparison, dtype, x, other, found, numbers=(count,))
        assert found[0] == expected
    x[3], other[:] = 0, x
    other[3] = -0.0
    run(comparison, dtype, x, other, found, numbers=(33,))
    assert found[0] == 0


def make_tile_operations(vectors_wide):
    """Return a helper that runs every tile operation on a ROWS x vectors_wide tile."""

    @inline
    def operations(a, row, loaded, out, stride, valid):
        lanes = vectors.lanes_of(a)
        width = vectors_wide * lanes
        size = ROWS * stride
        zeros = tiles.tile_zeros(ROWS, vectors_wide, a)
        tiles.tile_store(zeros, out, stride)
        rows = groups.group_rows(ROWS, vectors_wide, 1, row)
        product = tiles.tile_fma(rows, a, 2, pointers.advance(row, width))
        tiles.tile_store(product, pointers.advance(out, size), stride)
        lanewise = groups.tile_fma_groups(rows, a, width + 1, pointers.advance(row, width), lanes, 1)
        tiles.tile_store(lanewise, pointers.advance(out, 2 * size), stride)
        partial = tiles.tile_load(ROWS, vectors_wide, loaded, stride, valid)
        tiles.tile_store(partial, pointers.advance(out, 3 * size), stride)
        bounded = tiles.tile_relu(lanewise)
        tiles.tile_store_first(bounded, pointers.advance(out, 4 * size), stride, valid)
        tiles.tile_prefetch_run(rows, a, 1, 3)
        window = tiles.tile_fma_window(rows, a, width + 1, pointers.advance(row, width), 3 * lanes, 3, 2)
        tiles.tile_store(window, pointers.advance(out, 5 * size), stride)

    return operations


one_vector, two_vectors = make_tile_operations(1), make_tile_operations(2)


@task_kernel
def tile_operations(worker, task, geometry, buffers):
    a, row, loaded, out = buffers[1], buffers[2], buffers[3], buffers[4]
    if geometry[1] == 1:
        one_vector(a, row, loaded, out, geometry[2], geometry[3])
    else:
        two_vectors(a, row, loaded, out, geometry[2], geometry[3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [1, 2])
def test_tile_operations(dtype, wide):
    width = wide * TARGET.lanes(dtype)
    stride = width + 3
    for valid in range(width + 1):
        a, row = numbers((2 * ROWS + 1) * (width + 1), dtype), numbers(4 * width, dtype, 1)
        loaded = numbers((ROWS, stride), dtype, 2)
        out = np.full((6, ROWS, stride), 77, dtype)
        run(tile_operations, dtype, a, row, loaded, out, numbers=(wide, stride, valid))
        bias, weights = row[:width], row[width : 2 * width]
        pixels, taps = a.reshape(2 * ROWS + 1, width + 1)[:, :width], row[width:].reshape(wide, 3, -1)
        lanewise = bias + pixels[:ROWS] * weights
        window = bias + sum(pixels[t : t + 2 * ROWS - 1 : 2] * taps[:, t].ravel() for t in range(3))
        inside = np.arange(width) < valid
        np.testing.assert_array_equal(out[0, :, :width], 0)
        np.testing.assert_array_equal(out[1, :, :width], bias + a[: 2 * ROWS : 2, None] * weights)
        np.testing.assert_array_equal(out[2, :, :width], lanewise)
        np.testing.assert_array_equal(out[3, :, :width], np.where(inside, loaded[:, :width], 0))
        np.testing.assert_array_equal(out[4, :, :width], np.where(inside, np.maximum(lanewise, 0), 77))
        np.testing.assert_array_equal(out[5, :, :width], window)
        np.testing.assert_array_equal(out[:, :, width:], 77)


@task_kernel
def planar_tiles(worker, task, geometry, buffers):
    a, b, out = buffers[1], buffers[2], buffers[3]
    lanes = vectors.lanes_of(a)
    acc = tiles.tile_fma_outer(tiles.tile_splat(3, 4, b, geometry[1]), a, 2 * lanes, b, 2 * lanes + 1, 2)
    tiles.tile_store(acc, out, 4 * lanes)
    tiles.tile_add_folded(acc, pointers.advance(out, 12 * lanes), 2 * lanes, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_outer_products_lane_by_lane(dtype):
    lanes = TARGET.lanes(dtype)
    a, b = numbers(6 * lanes, dtype).reshape(3, 2, lanes), numbers(4 * lanes + 1, dtype, 1)
    out = np.concatenate([np.zeros(12 * lanes, dtype), numbers(6 * lanes, dtype, 2)])
    before = out[12 * lanes :].reshape(3, 2, lanes).copy()
    run(planar_tiles, dtype, a, b, out, numbers=(3,))
    columns = np.stack([b[: 2 * lanes], b[2 * lanes + 1 :]]).reshape(2, 2, lanes)
    expected = b[:9:3][:, None, None, None] + a[:, None] * columns
    np.testing.assert_array_equal(out[: 12 * lanes].reshape(expected.shape), expected)
    np.testing.assert_array_equal(out[12 * lanes :].reshape(3, 2, lanes), before + expected.sum(axis=2))


@task_kernel
def spread(worker, task, geometry, buffers):
    x, lanes = buffers[1], vectors.lanes_of(buffers[1])
    vectors.store(vectors.load_spread(x, 2, 0), buffers[2])
    vectors.store(vectors.load_spread(x, 4, 0), pointers.advance(buffers[2], lanes))
    vectors.store(vectors.load_spread(x, 3, 1), pointers.advance(buffers[2], 2 * lanes))
    vectors.store(vectors.load_spread(x, 3, 2), pointers.advance(buffers[2], 3 * lanes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_load_spread(dtype):
    lanes = TARGET.lanes(dtype)
    x, out = numbers(lanes, dtype), np.zeros((4, lanes), dtype)
    run(spread, dtype, x, out)
    thrice = np.repeat(x, 3)
    np.testing.assert_array_equal(out[:2], [np.repeat(x, 2)[:lanes], np.repeat(x, 4)[:lanes]])
    np.testing.assert_array_equal(out[2:], [thrice[1:][:lanes], thrice[2:][:lanes]])
