"""Products of dense layers: exact on integers whichever way they are computed, with bias, relu and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaconv import planner
from numbaconv.algorithms import few_rows
from numbaconv.autograd import dense_rules

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


@pytest.mark.parametrize("threads", [1, 2])
def test_few_rows_add_their_chunks_in_order(threads, rng):
    numba = pytest.importorskip("numba")
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
