"""Sums over positions per channel, and the gradient of relu that they are taken of, in one pass over the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.arrays import DTYPES
from numbaconv.jit import TaskKernel
from numbaconv.kernels import channel_sums as kernels
from numbaconv.program import Buffer, Operand, Recorder

# Numbers of a row: long enough that its end costs little, short enough for its sums to stay in L1.
_ROW = 512
# Numbers of a task: a hundred microseconds at most, and so many sums of each that rounding errors stay small.
CHUNK = 1 << 14
# More channels than this are better summed in another way: every task would leave that many sums.
MOST_CHANNELS = 1 << 12
# Less than this takes about as long as waking the threads does.
SERIAL_NUMBERS = 1 << 16


def chunk_of(channels: int) -> tuple[int, int]:
    """Return how many numbers are read as one row, and how many a task takes."""
    row = max(1, _ROW // channels) * channels
    return row, max(1, CHUNK // row) * row


@lru_cache(maxsize=512)
def prepared(
    kernel: TaskKernel, arguments: int, size: int, channels: int, dtype: str, lines: int = 1
) -> tuple[int, parallel.Launch]:
    """Return the tasks for `size` numbers and the launch, with so many lines of a row as workspace."""
    row, chunk = chunk_of(channels)
    workspace = -(-lines * row // 16) * 16
    geometry, tasks = np.array([workspace, channels, row, chunk, size], np.int64), -(-size // chunk)
    small = size < SERIAL_NUMBERS
    return tasks, parallel.Launch(
        kernel, dtype, tasks, geometry, tuple(range(arguments)), arguments, workspace, small=small
    )


@lru_cache(maxsize=512)
def _addition(tasks: int, channels: int, dtype: str) -> parallel.Launch:
    """Return the launch that adds the sums of all tasks."""
    return parallel.Launch(
        kernels.partial_sums, dtype, 1, np.array([0, tasks, channels], np.int64), (0, 1), 2, small=True
    )


def record_addition(recorder: Recorder, partial: Operand, tasks: int, channels: int, sums: Operand) -> None:
    """Record the addition of the sums of all tasks, unless the one task left its own where they belong."""
    if tasks > 1:
        recorder.launch(_addition(tasks, channels, recorder.dtype), partial, sums)


def _record(recorder: Recorder, kernel: TaskKernel, operands: Sequence[Buffer], channels: int, sums: Operand) -> None:
    """Record a kernel that leaves sums of its tasks behind its operands, and their addition."""
    tasks, launch = prepared(kernel, len(operands) + 1, operands[0].size, channels, recorder.dtype)
    partial = sums if tasks == 1 else recorder.buffer(tasks * channels)
    recorder.launch(launch, *operands, partial)
    record_addition(recorder, partial, tasks, channels, sums)


def record_relu_gradient_sums(
    recorder: Recorder, g: Buffer, y: Buffer, channels: int, kept: Buffer, sums: Operand
) -> None:
    """Record what `relu_gradient_sums` computes; ``kept`` may be ``g``."""
    _record(recorder, kernels.relu_gradient_sums, (g, y, kept), channels, sums)


def record_channel_sums(recorder: Recorder, g: Buffer, channels: int, sums: Operand) -> None:
    """Record what `channel_sums` computes."""
    _record(recorder, kernels.channel_sums, (g,), channels, sums)


def relu_gradient_sums(g: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Return g where y is positive and 0 elsewhere, and its sums over all axes but the last; C order both."""
    channels, dtype = g.shape[-1], g.dtype
    tasks, launch = prepared(kernels.relu_gradient_sums, 4, g.size, channels, DTYPES[dtype.char])
    kept, partial = memory.empty(g.shape, dtype), np.empty((tasks, channels), dtype)
    if tasks:
        launch(g, y, kept, partial)
    return kept, partial[0] if tasks == 1 else partial.sum(axis=0)


def channel_sums(g: NDArray) -> NDArray:
    """Return the sums over all axes but the last of an array in C order."""
    channels, dtype = g.shape[-1], g.dtype
    tasks, launch = prepared(kernels.channel_sums, 2, g.size, channels, DTYPES[dtype.char])
    partial = np.empty((tasks, channels), dtype)
    if tasks:
        launch(g, partial)
    return partial[0] if tasks == 1 else partial.sum(axis=0)
