"""Cross-entropy of labels from logits, with what its gradient needs, in one launch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.arrays import DTYPES
from numbaconv.kernels import cross_entropy as kernels

# Numbers of a task: some ten microseconds of exponentials.
_CHUNK = 1 << 11
# Less than this takes about as long as waking the threads does.
_SERIAL_NUMBERS = 1 << 12


@lru_cache(maxsize=256)
def _launch(samples: int, classes: int, dtype: str) -> parallel.Launch:
    """Return the launch on (logits, labels, losses, slopes)."""
    chunk = max(1, _CHUNK // classes)
    geometry = np.array([0, samples, classes, chunk], np.int64)
    small = samples * classes < _SERIAL_NUMBERS
    kernel, arrays = kernels.label_cross_entropy, (0, 1, 2, 3)
    return parallel.Launch(kernel, dtype, -(-samples // chunk), geometry, arrays, 4, small=small)


def label_cross_entropy(logits: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """Return -log softmax(logits)[label] of each sample, and its gradient: p, less 1 at the label.

    Logits are (samples, classes) in C order, labels int64 numbers in [0, classes) in C order.
    """
    samples, classes = logits.shape
    losses, slopes = np.empty(samples, logits.dtype), memory.empty(logits.shape, logits.dtype)
    if samples:
        _launch(samples, classes, DTYPES[logits.dtype.char])(logits, labels, losses, slopes)
    return losses, slopes
