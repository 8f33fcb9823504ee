"""Launches in which outputs side by side share products: an absent tap is a zero there.

Zero times infinity or NaN is NaN, so what is not all finite is computed again without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.kernels.finite import CHUNK, require_finite
from numbaconv.program import Operand, Recorder
from numbaconv.target import TARGET

MAX_DOT_SIZE = 8192
"""BLAS libraries start threads for the product of vectors longer than this."""

# A check of fewer numbers takes less time than waking the threads does.
_SMALL_SIZE = 1 << 16


@lru_cache(maxsize=256)
def _check(size: int, dtype: str) -> parallel.Launch:
    """Return a launch on (x, status word)."""
    workspace = TARGET.lanes(dtype)
    geometry = np.array([workspace, size], np.int64)
    tasks, small = -(-size // CHUNK), size < _SMALL_SIZE
    return parallel.Launch(require_finite, dtype, tasks, geometry, (0, 1), 2, workspace, small=small)


def is_finite(y: NDArray) -> bool:
    """Whether all numbers are finite; a sum of their squares that overflows counts as not."""
    if y.size <= MAX_DOT_SIZE:
        return math.isfinite(np.vdot(y, y))
    if not y.flags.c_contiguous:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(y.sum()))
    status = np.zeros(1, np.int64)
    _check(y.size, y.dtype.name)(y, status)
    return not status[0]


def record_check(recorder: Recorder, x: Operand) -> None:
    """Record a check that fails whenever `is_finite` is false."""
    recorder.launch(_check(x.size, recorder.dtype), x, recorder.status)


class Checked:
    """A launch on (x, kernel, y[, bias]) and another one in its place where its result might not be finite.

    The inputs are looked at beforehand where they are the fewer numbers, else the result, where all of it shows.
    A user's function after the sums may hide a NaN: then the inputs must be finite (``hides``).
    """

    __slots__ = ("_hides", "_launch", "_other")

    def __init__(self, launch: parallel.Launch, other: Callable[[], parallel.Launch], hides: bool = False) -> None:
        self._launch = launch
        self._other = other
        self._hides = hides

    def _looks_at_inputs(self, x: Operand, kernel: Operand, y: Operand) -> bool:
        return self._hides or (y.size > MAX_DOT_SIZE and x.size + kernel.size < y.size)

    def __call__(self, x: NDArray, kernel: NDArray, y: NDArray, *bias: NDArray) -> None:
        if self._looks_at_inputs(x, kernel, y):
            launch = self._launch if is_finite(x) and is_finite(kernel) else self._other()
            launch(x, kernel, y, *bias)
            return
        self._launch(x, kernel, y, *bias)
        if not is_finite(y):
            self._other()(x, kernel, y, *bias)

    def record(self, recorder: Recorder, x: Operand, kernel: Operand, y: Operand, *bias: Operand) -> None:
        """Record the first launch and that what is looked at must be finite."""
        looks_at_inputs = self._looks_at_inputs(x, kernel, y)
        if looks_at_inputs:
            record_check(recorder, x)
            record_check(recorder, kernel)
        recorder.launch(self._launch, x, kernel, y, *bias)
        if not looks_at_inputs:
            record_check(recorder, y)
