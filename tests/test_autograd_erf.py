"""erf beside math.erf."""

import math

import numpy as np
import pytest

from numbaconv.erf import BLOCK, erf


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 4e-16), ("float32", 6.1e-8)])
def test_erf_to_the_last_place(dtype, rtol):
    edges = np.array([0.84375, 1.25, 1 / 0.35, 6.0])
    x = np.concatenate([np.linspace(-7, 7, 2 * BLOCK + 5), np.logspace(-30, 0, 500), edges, np.nextafter(edges, 0)])
    x = x.astype(dtype)
    y = erf(x)
    assert y.dtype == dtype
    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=rtol, atol=0)


def test_erf_of_special_values_and_shapes():
    y = erf(np.array([[np.nan, np.inf, -np.inf], [0.0, -0.0, 30.0]]))
    assert np.isnan(y[0, 0]) and y[0, 1:].tolist() == [1, -1]
    assert y[1].tolist() == [0, 0, 1] and np.signbit(y[1, 1])
    assert erf(np.float64(0.0) * np.ones(())).shape == ()
    assert erf(np.zeros((0, 3), np.float32)).shape == (0, 3)
    x = np.linspace(-2, 2, 12).reshape(3, 4)
    assert np.array_equal(erf(x.T), erf(x).T)
