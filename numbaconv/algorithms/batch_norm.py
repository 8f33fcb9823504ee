"""Batch normalisation in training over all axes but the last, of arrays in C order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory
from numbaconv.algorithms.channel_map import normalization
from numbaconv.algorithms.channel_sums import MOST_CHANNELS, prepared
from numbaconv.arrays import DTYPES
from numbaconv.kernels import batch_norm as kernels


def is_possible(x: NDArray, channels: int) -> bool:
    """Whether kernels read an array as it is."""
    return x.size > 0 and x.shape[-1] == channels <= MOST_CHANNELS and x.flags.carray and x.dtype.char in DTYPES


def centred_squares(x: NDArray, mean: NDArray) -> NDArray:
    """Return the sums of (x - mean)**2 over all axes but the last."""
    tasks, launch = prepared(kernels.centred_squares, 3, x.size, mean.size, DTYPES[x.dtype.char], 2)
    partial = np.empty((tasks, mean.size), x.dtype)
    launch(x, mean, partial)
    return partial.sum(axis=0)


def normalize(
    x: NDArray, mean: NDArray, variance: NDArray, scale: NDArray | None, offset: NDArray | None, epsilon: float
) -> NDArray:
    """Return scale (x - mean) / sqrt(variance + epsilon) + offset, one number of each per channel."""
    y, arrays = memory.empty(x.shape, x.dtype), [array for array in (scale, offset) if array is not None]
    launch = normalization(x.size, mean.size, DTYPES[x.dtype.char], epsilon, scale is not None, offset is not None)
    launch(x, mean, variance, y, *arrays)
    return y


def centred_products(g: NDArray, x: NDArray, mean: NDArray) -> tuple[NDArray, NDArray]:
    """Return the sums of g and of g (x - mean) over all axes but the last."""
    tasks, launch = prepared(kernels.centred_products, 4, x.size, mean.size, DTYPES[x.dtype.char], 3)
    partial = np.empty((tasks, 2, mean.size), x.dtype)
    launch(g, x, mean, partial)
    sums = partial.sum(axis=0)
    return sums[0], sums[1]


def batch_gradient(g: NDArray, x: NDArray, mean: NDArray, slope: NDArray, share: NDArray, factor: NDArray) -> NDArray:
    """Return (g - (x - mean) slope - share) factor, one number per channel of all but g and x."""
    gx = memory.empty(x.shape, x.dtype)
    _, launch = prepared(kernels.batch_gradient, 7, x.size, mean.size, DTYPES[x.dtype.char], 4)
    launch(g, x, mean, slope, share, factor, gx)
    return gx
