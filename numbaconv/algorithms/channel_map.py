"""Normalisation by given statistics and relu as launches of a program.

They do what NumPy does in layers that are called, in the same order of operations.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.channel_sums import CHUNK, SERIAL_NUMBERS, chunk_of
from numbaconv.kernels import channel_map as kernels
from numbaconv.program import Operand, Recorder


@lru_cache(maxsize=256)
def normalization(
    size: int,
    channels: int,
    dtype: str,
    epsilon: float,
    has_scale: bool,
    has_offset: bool,
    is_relu: bool = False,
) -> parallel.Launch:
    """Return a launch on (x, mean, variance, y[, scale][, offset])."""
    row, chunk = chunk_of(channels)
    workspace = -(-3 * row // 16) * 16
    scale = 4 if has_scale else np.ones(channels, dtype)
    offset = 4 + has_scale if has_offset else np.zeros(channels, dtype)
    buffers = (0, 1, 2, 3, scale, offset, np.array([epsilon, 1], dtype))
    geometry = np.array([workspace, channels, row, chunk, size, is_relu], np.int64)
    tasks, arguments, small = -(-size // chunk), 4 + has_scale + has_offset, size < SERIAL_NUMBERS
    return parallel.Launch(kernels.normalize, dtype, tasks, geometry, buffers, arguments, workspace, small=small)


def record_normalization(
    recorder: Recorder,
    x: Operand,
    mean: np.ndarray,
    variance: np.ndarray,
    scale: np.ndarray | None,
    offset: np.ndarray | None,
    epsilon: float,
    y: Operand,
    is_relu: bool = False,
) -> None:
    """Record y = scale * (x - mean) / sqrt(variance + epsilon) + offset per channel, the last axis, or relu of that."""
    launch = normalization(x.size, mean.size, recorder.dtype, epsilon, scale is not None, offset is not None, is_relu)
    recorder.launch(launch, x, mean, variance, y, *(array for array in (scale, offset) if array is not None))


@lru_cache(maxsize=256)
def _relu(size: int, dtype: str) -> parallel.Launch:
    """Return a launch on (x, y)."""
    geometry, small = np.array([0, 1, 1, CHUNK, size], np.int64), size < SERIAL_NUMBERS
    return parallel.Launch(kernels.rectify, dtype, -(-size // CHUNK), geometry, (0, 1), 2, small=small)


def record_relu(recorder: Recorder, x: Operand, y: Operand) -> None:
    """Record y = max(x, 0)."""
    recorder.launch(_relu(x.size, recorder.dtype), x, y)
