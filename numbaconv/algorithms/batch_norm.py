"""Batch normalisation in training over all axes but the last, of arrays in C order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.channel_map import normalization
from numbaconv.algorithms.channel_sums import MOST_CHANNELS, SERIAL_NUMBERS, chunk_of
from numbaconv.arrays import DTYPES
from numbaconv.jit import TaskKernel
from numbaconv.kernels import batch_norm as kernels

# Arguments of each kernel, and its lines in the workspace.
_ARGUMENTS = {kernels.centred_squares: (3, 2), kernels.centred_products: (4, 3), kernels.batch_gradient: (7, 4)}


@lru_cache(maxsize=256)
def _prepared(kernel: TaskKernel, size: int, channels: int, dtype: str) -> tuple[int, parallel.Launch]:
    """Return the tasks for `size` numbers and the launch."""
    row, chunk = chunk_of(channels)
    arguments, lines = _ARGUMENTS[kernel]
    workspace, tasks = -(-lines * row // 16) * 16, -(-size // chunk)
    geometry, arrays = np.array([workspace, channels, row, chunk, size], np.int64), tuple(range(arguments))
    small = size < SERIAL_NUMBERS
    return tasks, parallel.Launch(kernel, dtype, tasks, geometry, arrays, arguments, workspace, small=small)


def is_possible(x: NDArray, channels: int) -> bool:
    """Whether kernels read an array as it is."""
    return x.size > 0 and x.shape[-1] == channels <= MOST_CHANNELS and x.flags.carray and x.dtype.char in DTYPES


def centred_squares(x: NDArray, mean: NDArray) -> NDArray:
    """Return the sums of (x - mean)**2 over all axes but the last."""
    tasks, launch = _prepared(kernels.centred_squares, x.size, mean.size, DTYPES[x.dtype.char])
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
    tasks, launch = _prepared(kernels.centred_products, x.size, mean.size, DTYPES[x.dtype.char])
    partial = np.empty((tasks, 2, mean.size), x.dtype)
    launch(g, x, mean, partial)
    sums = partial.sum(axis=0)
    return sums[0], sums[1]


def batch_gradient(g: NDArray, x: NDArray, mean: NDArray, slope: NDArray, share: NDArray, factor: NDArray) -> NDArray:
    """Return (g - (x - mean) slope - share) factor, one number per channel of all but g and x."""
    gx = memory.empty(x.shape, x.dtype)
    _prepared(kernels.batch_gradient, x.size, mean.size, DTYPES[x.dtype.char])[1](g, x, mean, slope, share, factor, gx)
    return gx
