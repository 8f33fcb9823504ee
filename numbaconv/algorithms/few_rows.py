"""Product of a few rows with a matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.arrays import DTYPES
from numbaconv.kernels.few_rows import FOUR, few_rows_product
from numbaconv.kernels.sparse_row import sparse_row_product

# Numbers of the matrix that a task reads, at least, and how many tasks there are at most. A power of two of tasks has
# equal shares for as many cores; partial sums and the count of tasks done come from other cores.
_CHUNK = 1 << 16
_MOST_TASKS = 64
# Numbers of the matrix that are read for all its columns and all rows while the next ones are fetched: both fit L1.
_BLOCK = 1 << 11
SMALL_PRODUCTS = 1 << 18
"""Products of fewer multiply-adds take about as long as waking the threads does."""


@lru_cache(maxsize=256)
def launch(
    rows: int, depth: int, units: int, dtype: str, has_bias: bool, is_relu: bool, is_finite: bool = False
) -> parallel.Launch:
    """Return a launch on (x, matrix, y), or (x, matrix, y, bias); of a single row it may be known ``is_finite``."""
    is_sparse = is_finite and rows == 1
    chunks = 1 << min(_MOST_TASKS, max(1, depth * units // _CHUNK)).bit_length() - 1
    chunk, block = max(1, -(-depth // (FOUR * chunks)) * FOUR), max(1, _BLOCK // units)
    tasks, item = -(-depth // chunk), np.dtype(dtype).itemsize
    # Positions of eight bytes and numbers, of which there are two more fours than a chunk has.
    workspace = (chunk + 2 * FOUR) * (8 // item + 1) * is_sparse
    workspace = -(-workspace // 16) * 16
    geometry = np.array([workspace, rows, depth, units, chunk, block, tasks, is_relu], np.int64)
    partial = parallel.Uninitialised(tasks * rows * units * np.dtype(dtype).itemsize)
    bias = 3 if has_bias else np.zeros(units, dtype)
    buffers = (0, 1, bias, 2, partial, np.zeros(1, np.int64))
    small = rows * depth * units < SMALL_PRODUCTS
    arguments = 4 if has_bias else 3
    kernel = sparse_row_product if is_sparse else few_rows_product
    return parallel.Launch(kernel, dtype, tasks, geometry, buffers, arguments, workspace, small=small)


def product(
    x: NDArray,
    matrix: NDArray,
    bias: NDArray | None = None,
    is_relu: bool = False,
    make: Callable[..., parallel.Launch] = launch,
) -> NDArray:
    """Return x matrix + bias, or relu of that, for arrays in C order of one float dtype; chunks are added in order.

    ``make`` gives the launch, as `launch` does.
    """
    (rows, depth), units = x.shape, matrix.shape[1]
    y = memory.empty((rows, units), x.dtype)
    run = make(rows, depth, units, DTYPES[x.dtype.char], bias is not None, is_relu)
    if bias is None:
        run(x, matrix, y)
    else:
        run(x, matrix, y, bias)
    return y
