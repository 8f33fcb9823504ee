"""Operands whose sums are exact in any order, and equality to the letter."""

from __future__ import annotations

import numpy as np


def integers(rng, *shape, dtype=np.float32):
    """Small integers, so that sums in any order are exact."""
    return rng.integers(-4, 5, shape).astype(dtype)


def assert_same(y, expected, dtype=np.float32):
    assert type(y) is np.ndarray
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected, strict=False)
    assert y.shape == np.shape(expected)
