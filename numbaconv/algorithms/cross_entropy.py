"""Softmax, and cross-entropy of labels from logits with what its gradient needs, each in one launch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.arrays import DTYPES
from numbaconv.jit import TaskKernel
from numbaconv.kernels import cross_entropy as kernels
from numbaconv.program import Buffer, Recorder

# NumPy's exponentials are vector code, the C library's, which kernels call, are not. On one core a kernel takes half of
# NumPy's time for 10 classes, as long for 64, and twice as long for 1,000.
FEW_CLASSES = 64
# Numbers of a task: some ten microseconds of exponentials.
_CHUNK = 1 << 11
# Less than this takes about as long as waking the threads does.
_SERIAL_NUMBERS = 1 << 12


@lru_cache(maxsize=256)
def _launch(kernel: TaskKernel, arguments: int, samples: int, classes: int, dtype: str) -> parallel.Launch:
    """Return the launch on so many arrays."""
    chunk = max(1, _CHUNK // classes)
    geometry = np.array([0, samples, classes, chunk], np.int64)
    small = samples * classes < _SERIAL_NUMBERS
    tasks, arrays = -(-samples // chunk), tuple(range(arguments))
    return parallel.Launch(kernel, dtype, tasks, geometry, arrays, arguments, small=small)


def softmax(x: NDArray) -> NDArray:
    """Return exp(x - m) / sum exp(x - m), m = max x, along the last axis of an array in C order that is not empty."""
    y, classes = memory.empty(x.shape, x.dtype), x.shape[-1]
    _launch(kernels.softmax, 2, x.size // classes, classes, DTYPES[x.dtype.char])(x, y)
    return y


def record_softmax(recorder: Recorder, x: Buffer, classes: int, y: Buffer) -> None:
    """Record y = softmax(x)."""
    recorder.launch(_launch(kernels.softmax, 2, x.size // classes, classes, recorder.dtype), x, y)


def label_cross_entropy(logits: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """Return -log softmax(logits)[label] of each sample, and its gradient: p, less 1 at the label.

    Logits are (samples, classes) in C order, labels int64 numbers in [0, classes) in C order.
    """
    samples, classes = logits.shape
    losses, slopes = np.empty(samples, logits.dtype), memory.empty(logits.shape, logits.dtype)
    if samples:
        launch = _launch(kernels.label_cross_entropy, 4, samples, classes, DTYPES[logits.dtype.char])
        launch(logits, labels, losses, slopes)
    return losses, slopes


@lru_cache(maxsize=256)
def _mean_launch(samples: int, classes: int, dtype: str) -> parallel.Launch:
    """Return the launch on (logits, labels, losses, slopes, status word)."""
    chunk = max(1, _CHUNK // classes)
    geometry, share = np.array([0, samples, classes, chunk], np.int64), np.zeros(2, dtype)
    share[0] = np.ones(1, dtype)[0] / np.dtype(dtype).type(samples)
    small, buffers = samples * classes < _SERIAL_NUMBERS, (0, 1, 2, 3, share, 4)
    tasks = -(-samples // chunk)
    return parallel.Launch(kernels.mean_label_cross_entropy, dtype, tasks, geometry, buffers, 5, small=small)


def record_mean_label_cross_entropy(
    recorder: Recorder, logits: Buffer, labels: Buffer, losses: Buffer, slopes: Buffer, classes: int
) -> None:
    """Record the losses of `label_cross_entropy` and the gradient of their mean; a label out of range makes it void."""
    launch = _mean_launch(logits.size // classes, classes, recorder.dtype)
    recorder.launch(launch, logits, labels, losses, slopes, recorder.status)
