"""Products of dense layers: exact on integers whichever way they are computed, with bias, relu and gradients."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaconv import planner
from numbaconv.algorithms import few_rows, many_rows
from numbaconv.autograd import dense_rules
from numbaconv.target import TARGET

# Rows, depth and units on both sides of every limit, with tails of registers and of chunks.
SHAPES = [
    (1, 3, 5),
    (1, 200, 97),
    (1, 3000, 77),
    (3, 1200, 130),
    (7, 500, 200),
    (8, 500, 201),
    (64, 120, 84),
    (65, 400, 120),
    (0, 500, 200),
    (40, 9000, 1),
    (40, 9000, 37),
    (17, 4099, 150),
]


def integers(rng, shape, dtype):
    return rng.integers(-2, 3, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "depth", "units"), SHAPES)
@pytest.mark.parametrize("is_relu", [False, True], ids=["linear", "relu"])
def test_products_are_exact(rows, depth, units, is_relu, dtype, rng):
    x, kernel = integers(rng, (rows, depth), dtype), integers(rng, (depth, units), dtype)
    bias, g = integers(rng, (units,), dtype), integers(rng, (rows, units), dtype)
    expected = (x.astype(np.float64) @ kernel + bias).astype(dtype)
    if is_relu:
        expected = np.maximum(expected, 0)
    y = dense_rules.dense(x, kernel, bias, is_relu)
    assert y.dtype == dtype
    assert_array_equal(y, expected)
    assert_array_equal(dense_rules.dense(x, kernel, bias * 0, False), dense_rules.dense(x, kernel, None, False))
    rectified = y if is_relu else None
    inner = (g * (y > 0) if is_relu else g).astype(np.float64)
    dx, dkernel, dbias = dense_rules.dense_gradient(g, x, kernel, rectified, x.shape, (True, True, True))
    assert_array_equal(dx, inner @ kernel.T)
    assert_array_equal(dkernel, x.T @ inner)
    assert_array_equal(dbias, inner.sum(axis=0))


def test_leading_axes_and_operands_in_other_orders(rng):
    x, kernel = integers(rng, (4, 5, 300), "float32"), integers(rng, (70, 300), "float32").T
    g = integers(rng, (4, 5, 70), "float32")
    assert_array_equal(dense_rules.dense(x, kernel, None, False), x @ kernel)
    dx, dkernel, _ = dense_rules.dense_gradient(g, x, kernel, None, x.shape, (True, True, False))
    assert dx.shape == x.shape
    assert_array_equal(dx, g @ kernel.T)
    assert_array_equal(dkernel, x.reshape(20, 300).T @ g.reshape(20, 70))


@pytest.mark.parametrize(("rows", "depth", "units", "way"), [(1, 3000, 77, "few rows"), (64, 400, 120, "engine")])
def test_larger_products_do_not_go_to_blas(rows, depth, units, way, rng, monkeypatch):
    ways = []
    product, prepare = few_rows.product, planner.prepare
    monkeypatch.setattr(few_rows, "product", lambda *a: ways.append("few rows") or product(*a))
    monkeypatch.setattr(planner, "prepare", lambda *a, **o: ways.append("engine") or prepare(*a, **o))
    monkeypatch.setattr(dense_rules.np, "matmul", None)
    planner.clear_plans()
    x, kernel = integers(rng, (rows, depth), "float32"), integers(rng, (depth, units), "float32")
    dense_rules.dense(x, kernel, None, False)
    assert ways == [way]


# Tails of register tiles in rows, depth and units, of blocks and of chunks; one chunk and several.
MANY_ROWS = [(8, 1, 1), (9, 2050, 5), (33, 97, 150), (64, 1000, 32), (67, 4608, 129)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "depth", "units"), MANY_ROWS)
def test_many_rows(rows, depth, units, dtype, rng):
    x, kernel = integers(rng, (rows, depth), dtype), integers(rng, (depth, units), dtype)
    bias, g = integers(rng, (units,), dtype), integers(rng, (rows, units), dtype)
    y, gx = np.full((rows, units), np.nan, dtype), np.full((rows, depth), np.nan, dtype)
    gk = np.full((depth, units), np.nan, dtype)
    expected = (x.astype(np.float64) @ kernel + bias).astype(dtype)
    many_rows.product_launch(rows, depth, units, dtype, True, False)(x, kernel, y, bias)
    assert_array_equal(y, expected)
    many_rows.product_launch(rows, depth, units, dtype, False, True)(x, kernel, y)
    assert_array_equal(y, np.maximum(expected - bias, 0))
    many_rows.gradient_launch(rows, depth, units, dtype)(g, kernel, gx)
    assert_array_equal(gx, g.astype(np.float64) @ kernel.T)
    many_rows.matrix_gradient_launch(rows, depth, units, dtype)(x, g, gk)
    assert_array_equal(gk, x.T.astype(np.float64) @ g)


@pytest.mark.parametrize("rows", [16, 64])
def test_large_gradients_are_computed_by_kernels_of_their_own_where_these_pay(rows, rng, monkeypatch):
    made = []
    for name in ("gradient_launch", "matrix_gradient_launch"):
        launch = getattr(many_rows, name)
        monkeypatch.setattr(many_rows, name, lambda *a, name=name, launch=launch: made.append(name) or launch(*a))
    x, kernel = integers(rng, (rows, 700), "float32"), integers(rng, (700, 64), "float32")
    g = integers(rng, (rows, 64), "float32")
    dx, dkernel, _ = dense_rules.dense_gradient(g, x, kernel, None, x.shape, (True, True, False))
    assert_array_equal(dx, g @ kernel.T)
    assert_array_equal(dkernel, x.T @ g)
    # With AVX2 and without vectors 16 rows fill panels.
    fills = rows % (2 * TARGET.lanes("float32")) == 0
    assert made == ["gradient_launch"] * fills + ["matrix_gradient_launch"]


def test_what_is_not_finite_stays_in_its_row_and_column(rng):
    x, kernel = rng.standard_normal((9, 2050), np.float32), rng.standard_normal((2050, 37), np.float32)
    g, y, gx = rng.standard_normal((9, 37), np.float32), np.empty((9, 37), np.float32), np.empty((9, 2050), np.float32)
    gk = np.empty((2050, 37), np.float32)
    x[8, 2049], kernel[7, 36], g[0, 0] = np.inf, np.nan, np.nan
    many_rows.product_launch(9, 2050, 37, "float32", False, False)(x, kernel, y)
    many_rows.gradient_launch(9, 2050, 37, "float32")(g, kernel, gx)
    assert_array_equal(np.isfinite(y), np.isfinite(x @ kernel))
    assert_array_equal(np.isfinite(gx), np.isfinite(g @ kernel.T))
    many_rows.matrix_gradient_launch(9, 2050, 37, "float32")(x, g, gk)
    assert_array_equal(np.isfinite(gk), np.isfinite(x.T @ g))


def test_many_rows_are_the_same_for_any_number_of_threads(rng):
    before = numba.get_num_threads()
    if before < 2:
        pytest.skip("one thread")
    x, kernel = rng.standard_normal((64, 3000), np.float32), rng.standard_normal((3000, 200), np.float32)
    g, found = rng.standard_normal((64, 200), np.float32), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        try:
            y, gx, gk = np.empty_like(g), np.empty_like(x), np.empty_like(kernel)
            many_rows.product_launch(64, 3000, 200, "float32", False, False)(x, kernel, y)
            many_rows.gradient_launch(64, 3000, 200, "float32")(g, kernel, gx)
            many_rows.matrix_gradient_launch(64, 3000, 200, "float32")(x, g, gk)
        finally:
            numba.set_num_threads(before)
        found.append((y, gx, gk))
    for one, two in zip(*found, strict=True):
        assert_array_equal(one, two)


# Units on both sides of every panel's width with AVX-512, AVX2 and NEON; chunks and matrices that end in a tail.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("units", [1, 2, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 100, 127, 129, 255, 257, 300, 1000])
@pytest.mark.parametrize(("rows", "depth"), [(1, 1), (1, 3), (1, 301), (1, 3001), (3, 301)])
def test_few_rows_of_any_width_are_exact(rows, depth, units, dtype, rng):
    x, kernel = integers(rng, (rows, depth), dtype), integers(rng, (depth, units), dtype)
    y = np.full((rows, units), np.nan, dtype)
    few_rows.launch(rows, depth, units, dtype, False, False)(x, kernel, y)
    assert_array_equal(y, x @ kernel)


@pytest.mark.parametrize("threads", [1, 2])
def test_few_rows_add_their_chunks_in_order(threads, rng):
    x, kernel = rng.standard_normal((3, 2000), np.float32), rng.standard_normal((2000, 130), np.float32)
    before = numba.get_num_threads()
    if threads > before:
        pytest.skip("one thread")
    expected = few_rows.product(x, kernel)
    numba.set_num_threads(threads)
    try:
        assert_array_equal(few_rows.product(x, kernel), expected)
    finally:
        numba.set_num_threads(before)
