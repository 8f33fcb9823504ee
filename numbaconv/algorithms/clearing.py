"""Input gradients of strides that leave half of the pixels or more without a tap: all are cleared first.

Stored one by one the zeros between other pixels take as long as these, and the cache lines that they share are written
more than once.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.algorithms.axes import pass_axes
from numbaconv.algorithms.plan_parts import is_small, leaves_caches, waits_for_memory
from numbaconv.kernels.clearing import clear_part
from numbaconv.program import Operand, Recorder
from numbaconv.spec import ConvSpec

CLEARED_BYTES_PER_CYCLE = 16
"""Of a result, and what is read again of it."""

_CHUNK_BYTES = 1 << 17


def skips_half(spec: ConvSpec, direction: str) -> bool:
    """Whether half of the pixels of an input gradient or more have no tap, and others have some."""
    if direction != "input_grad":
        return False
    axes = pass_axes(spec, direction)
    pixels = math.prod(sum(phase.count for phase in axis) for axis in axes)
    tapped = math.prod(sum(phase.count for phase in axis if phase.taps) for axis in axes)
    return 0 < 2 * tapped <= pixels


def clears(spec: ConvSpec, direction: str) -> bool:
    """Whether a result is cleared first: what is stored past the caches is stored once.

    No sum depends on it, so that it may depend on the threads, as `waits_for_memory` does.
    """
    leaves = leaves_caches(spec, direction) and not waits_for_memory(spec, direction)
    return skips_half(spec, direction) and not leaves


class Cleared:
    """A launch on (x, kernel, y) that writes some pixels of y, and before it one that clears y."""

    __slots__ = ("_clear", "_launch")

    def __init__(self, launch: parallel.Launch, spec: ConvSpec) -> None:
        self._launch = launch
        self._clear = _clear(math.prod(spec.x_shape), spec.dtype, is_small(spec))

    def __call__(self, x: NDArray, kernel: NDArray, y: NDArray) -> None:
        self._clear(y)
        self._launch(x, kernel, y)

    def record(self, recorder: Recorder, x: Operand, kernel: Operand, y: Operand) -> None:
        """Record both launches."""
        recorder.launch(self._clear, y)
        recorder.launch(self._launch, x, kernel, y)


@lru_cache(maxsize=256)
def _clear(size: int, dtype: str, small: bool) -> parallel.Launch:
    """Return a launch on (y)."""
    chunk = _CHUNK_BYTES // np.dtype(dtype).itemsize
    return parallel.Launch(clear_part, dtype, -(-size // chunk), np.array([0, size, chunk]), (0,), 1, small=small)
