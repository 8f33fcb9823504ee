"""Product of a few rows with a matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.arrays import DTYPES
from numbaconv.kernels.few_rows import WIDTHS, few_rows_product
from numbaconv.kernels.sparse_row import FOLLOWING, sparse_row_product
from numbaconv.target import TARGET

# Numbers of the matrix that a task reads, at least, and how many tasks there are at most. A power of two of tasks has
# equal shares for as many cores; partial sums and the count of tasks done come from other cores.
_CHUNK = 1 << 16
_MOST_TASKS = 64
# Numbers of the matrix that several rows meet, one after the other, while the next ones are fetched: both fit L1.
_BLOCK = 1 << 11
# Rows of the matrix that a panel of columns meets at least before the next one, and as many where there is one only,
# whose sums stay in registers; bytes, and rows at most, from what a single row meets to what is fetched.
_FOUR, _MANY = 4, 256
_BYTES_AHEAD, _MOST_AHEAD = 2048, 16
SMALL_PRODUCTS = 1 << 18
"""Products of fewer multiply-adds take about as long as waking the threads does."""


@lru_cache(maxsize=256)
def launch(
    rows: int, depth: int, units: int, dtype: str, has_bias: bool, is_relu: bool, is_finite: bool = False
) -> parallel.Launch:
    """Return a launch on (x, matrix, y), or (x, matrix, y, bias); of a single row it may be known ``is_finite``."""
    is_sparse = is_finite and rows == 1
    chunks = 1 << min(_MOST_TASKS, max(1, depth * units // _CHUNK)).bit_length() - 1
    chunk = max(1, -(-depth // (_FOUR * chunks)) * _FOUR)
    tasks, item = -(-depth // chunk), np.dtype(dtype).itemsize
    block, ahead = _block(rows, units, dtype)
    # Where rows begin takes eight bytes each, behind it are the numbers; one more of both may be written.
    workspace = ((chunk + 1 + FOLLOWING) * (8 // item) + chunk + 1) * is_sparse
    workspace = -(-workspace // 16) * 16
    width = _width(units, dtype)
    inside = max(0, depth - -(-(width - units) // units))
    numbers = workspace, rows, depth, units, chunk, block, tasks, is_relu, ahead, width, inside
    geometry = np.array(numbers, np.int64)
    partial = parallel.Uninitialised(tasks * rows * width * item)
    bias = 3 if has_bias else np.zeros(units, dtype)
    buffers = (0, 1, bias, 2, partial, np.zeros(1, np.int64))
    small = rows * depth * units < SMALL_PRODUCTS
    arguments = 4 if has_bias else 3
    kernel = sparse_row_product if is_sparse else few_rows_product
    return parallel.Launch(kernel, dtype, tasks, geometry, buffers, arguments, workspace, small=small)


def _block(rows: int, units: int, dtype: str) -> tuple[int, int]:
    """Return how many rows of the matrix meet one panel of columns, and how far ahead of them numbers are fetched."""
    if rows > 1:
        block = max(_FOUR, _BLOCK // units)
        return block, block * units
    row_bytes = units * np.dtype(dtype).itemsize
    ahead = min(_MOST_AHEAD, max(_FOUR, _BYTES_AHEAD // row_bytes)) * row_bytes
    ahead = ahead if ahead <= TARGET.l1_bytes // 2 else _BYTES_AHEAD
    return _MANY if units <= WIDTHS[0] * TARGET.lanes(dtype) else _FOUR, ahead // np.dtype(dtype).itemsize


def _width(units: int, dtype: str) -> int:
    """Return the columns of all panels: as many of the widest as there are, and the narrowest that holds the rest."""
    lanes = TARGET.lanes(dtype)
    whole, rest = divmod(units, WIDTHS[0] * lanes)
    return whole * WIDTHS[0] * lanes + (min(v * lanes for v in WIDTHS if v * lanes >= rest) if rest else 0)


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
