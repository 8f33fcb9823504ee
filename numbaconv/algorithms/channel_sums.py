"""Sums over positions per channel, and the gradient of relu that they are taken of, in one pass over the numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.kernels import channel_sums as kernels

# Numbers of a row: long enough that its end costs little, short enough for its sums to stay in L1.
_ROW = 512
# Numbers of a task: a hundred microseconds at most, and so many sums of each that rounding errors stay small.
_CHUNK = 1 << 14
# More channels than this are better summed in another way: every task would leave that many sums.
MOST_CHANNELS = 1 << 12
# Less than this takes about as long as waking the threads does.
SERIAL_NUMBERS = 1 << 16


@lru_cache(maxsize=256)
def sums_geometry(size: int, channels: int) -> tuple[NDArray[np.int64], int, int]:
    """Return the geometry for `size` numbers, the tasks and the workspace."""
    row = max(1, _ROW // channels) * channels
    chunk = max(1, _CHUNK // row) * row
    workspace = -(-row // 16) * 16
    geometry = np.array([workspace, channels, row, chunk, size], np.int64)
    geometry.setflags(write=False)
    return geometry, -(-size // chunk), workspace


def relu_gradient_sums(g: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Return g where y is positive and 0 elsewhere, and its sums over all axes but the last; C order both."""
    channels, dtype = g.shape[-1], g.dtype.name
    geometry, tasks, workspace = sums_geometry(g.size, channels)
    kept, partial = memory.empty(g.shape, g.dtype), np.empty((tasks, channels), g.dtype)
    parallel.launch(
        kernels.relu_gradient_sums, dtype, tasks, geometry, (g, y, kept, partial), workspace, g.size < SERIAL_NUMBERS
    )
    return kept, partial[0] if tasks == 1 else partial.sum(axis=0)


def channel_sums(g: NDArray) -> NDArray:
    """Return the sums over all axes but the last of an array in C order."""
    channels = g.shape[-1]
    geometry, tasks, workspace = sums_geometry(g.size, channels)
    partial = np.empty((tasks, channels), g.dtype)
    parallel.launch(
        kernels.channel_sums, g.dtype.name, tasks, geometry, (g, partial), workspace, g.size < SERIAL_NUMBERS
    )
    return partial[0] if tasks == 1 else partial.sum(axis=0)
