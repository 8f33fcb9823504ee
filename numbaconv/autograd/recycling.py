"""Element-wise results in recycled memory: a fresh large array costs more than the arithmetic that fills it."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv import memory


def like(x: np.ndarray) -> np.ndarray:
    """Return an uninitialised array of x's shape and dtype, recycled where x is in C order; else in x's own order."""
    return memory.empty(x.shape, x.dtype) if x.flags.c_contiguous else np.empty_like(x)


def compute(operate: np.ufunc, *operands: Any) -> Any:
    """Return ``operate(*operands)``, in recycled memory where one large array has the shape and dtype of the result."""
    arrays = [operand for operand in operands if isinstance(operand, np.ndarray)]
    large = max(arrays, key=lambda array: array.size, default=None)
    if large is None or large.nbytes < memory.MIN_POOLED_BYTES or any(a.dtype != large.dtype for a in arrays):
        return operate(*operands)
    if np.broadcast_shapes(*[a.shape for a in arrays]) != large.shape:
        return operate(*operands)
    return operate(*operands, out=like(large))
