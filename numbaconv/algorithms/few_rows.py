"""Product of a few rows with a matrix."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.kernels.few_rows import few_rows_product

# dtype.name takes longer than a small launch.
_NAMES = {"f": "float32", "d": "float64"}
# Numbers of the matrix that a task reads: they stay in L2 for every row, and there are enough tasks for the threads.
_CHUNK = 1 << 15
# Products below this take about as long as waking the threads does.
_SMALL_PRODUCTS = 1 << 18


@lru_cache(maxsize=256)
def _prepared(rows: int, depth: int, units: int, dtype: str) -> tuple[int, parallel.Launch]:
    """Return the number of tasks and the launch."""
    chunk = max(1, _CHUNK // units)
    tasks = -(-depth // chunk)
    geometry = np.array([0, rows, depth, units, chunk], np.int64)
    small = rows * depth * units < _SMALL_PRODUCTS
    return tasks, parallel.Launch(few_rows_product, dtype, tasks, geometry, (0, 1, 2), 3, small=small)


def product(x: NDArray, matrix: NDArray) -> NDArray:
    """Return x @ matrix for arrays in C order of one float dtype; chunks are added in order."""
    (rows, depth), units = x.shape, matrix.shape[1]
    tasks, launch = _prepared(rows, depth, units, _NAMES[x.dtype.char])
    partial = np.empty((tasks, rows, units), x.dtype)
    launch(x, matrix, partial)
    return partial[0] if tasks == 1 else partial.sum(axis=0)
