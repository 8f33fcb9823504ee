"""Products of some dozens of rows with a large matrix, and their gradients: what a dense layer does with a batch."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from numbaconv import parallel
from numbaconv.algorithms.few_rows import SMALL_PRODUCTS
from numbaconv.algorithms.geometry import round_up, tile_list
from numbaconv.jit import TaskKernel
from numbaconv.kernels import many_rows as at
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.target import CACHE_LINE, TARGET

# Tasks of a product, each with sums of its own, at most; each of at least so many rows of the matrix for one of x, that
# adding the sums takes little.
_FEWEST_CHUNKS, _MOST_CHUNKS, _CHUNK_ROWS = 4, 16, 8
# Sums of fewer products than this are not worth the transposition of what they add up to.
_FEWEST_UNITS = 32
# Rows of the matrix that are multiplied together: a panel of them takes a quarter of L1.
_BLOCK = 128
# Numbers of the gradient that a task makes at least.
_GRADIENT_NUMBERS = 1 << 13
# Products that the matrix' gradient adds up one after the other; more belong into sums of their own.
_MOST_SUMMED = 512


def is_product_wanted(rows: int, depth: int, units: int, dtype: str) -> bool:
    """Whether `product_launch` is faster than a convolution of one tap: the matrix comes from beyond L2, in chunks."""
    return _bytes(depth, units, dtype) > TARGET.l2_bytes and _chunks(rows, depth) >= _FEWEST_CHUNKS


def is_gradient_wanted(rows: int, depth: int, units: int, dtype: str) -> bool:
    """Whether `gradient_launch` is faster than one: g stays in L2, and its rows fill the panels' columns."""
    panels = round_up(rows, 2 * TARGET.lanes(dtype))
    return _is_small_beside_matrix(rows, depth, units, dtype) and 16 * rows >= 15 * panels


def is_matrix_gradient_wanted(rows: int, depth: int, units: int, dtype: str) -> bool:
    """Whether `matrix_gradient_launch` is faster than one: sums so short that they need no place but registers."""
    return rows <= _MOST_SUMMED and _is_small_beside_matrix(rows, depth, units, dtype)


def _is_small_beside_matrix(rows: int, depth: int, units: int, dtype: str) -> bool:
    """Whether grad_y in panels stays in L2 and has fewer numbers than the matrix."""
    return _FEWEST_UNITS <= units and rows <= depth // 2 and 4 * _bytes(rows, units, dtype) <= TARGET.l2_bytes


def _bytes(rows: int, columns: int, dtype: str) -> int:
    return rows * columns * np.dtype(dtype).itemsize


def _chunks(rows: int, depth: int) -> int:
    """Return how many tasks a product is cut into."""
    return max(1, min(_MOST_CHUNKS, depth // (_CHUNK_ROWS * max(rows, 1))))


def _header(workspace: int, rows: int, depth: int, units: int, chunk: int, block: int, is_relu: bool, width: int,
            dtype: str, full: int, last: int, runs: int = 1) -> np.ndarray:  # fmt: skip
    """Return the geometry of a kernel whose tiles cover `full` rows, those of the last block `last`.

    Products are summed over so many runs, which begin a block apart.
    """
    tiles, rest = tile_list(full, 2), tile_list(last, 2)
    line = CACHE_LINE // np.dtype(dtype).itemsize
    tasks = -(-depth // chunk)
    places = np.cumsum([at.HEADER, len(tiles), len(rest), runs])
    header = [workspace, rows, depth, units, chunk, block, tasks, is_relu, width, line, runs, *places]
    return np.array([*header, *tiles, *rest, *range(0, runs * block, block), *range(runs)], np.int64)


@lru_cache(maxsize=256)
def product_launch(rows: int, depth: int, units: int, dtype: str, has_bias: bool, is_relu: bool) -> parallel.Launch:
    """Return a launch on (x, matrix, y), or (x, matrix, y, bias)."""
    width = round_up(units, 2 * TARGET.lanes(dtype))
    chunk = round_up(-(-depth // _chunks(rows, depth)), 8)
    block = round_up(-(-chunk // -(-chunk // _BLOCK)), 8)
    workspace = round_up(rows * block + at.TOGETHER * (2 * TARGET.lanes(dtype) * block + 16), 16)
    geometry = _header(workspace, rows, depth, units, chunk, block, is_relu, width, dtype, rows, 0)
    tasks = int(geometry[at.TASKS])
    partial = parallel.Uninitialised(tasks * rows * width * np.dtype(dtype).itemsize)
    bias = 3 if has_bias else np.zeros(units, dtype)
    buffers = (0, 1, bias, 2, partial, np.zeros(1, np.int64))
    small = rows * depth * units < SMALL_PRODUCTS
    arguments = 4 if has_bias else 3
    return parallel.Launch(at.many_rows_product, dtype, tasks, geometry, buffers, arguments, workspace, small=small)


@lru_cache(maxsize=256)
def gradient_launch(rows: int, depth: int, units: int, dtype: str) -> parallel.Launch:
    """Return a launch on (grad_y, matrix, grad_x)."""
    return _gradient(at.many_rows_gradient, (rows, depth, units), dtype, (units, rows), 0)


@lru_cache(maxsize=256)
def matrix_gradient_launch(rows: int, depth: int, units: int, dtype: str) -> parallel.Launch:
    """Return a launch on (x, grad_y, gradient of the matrix)."""
    return _gradient(at.many_rows_matrix_gradient, (rows, depth, units), dtype, (rows, units), rows)


def _gradient(
    kernel: TaskKernel, sizes: tuple[int, int, int], dtype: str, packed_sizes: tuple[int, int], kept: int
) -> parallel.Launch:
    """Return the launch of a gradient that packs the columns of ``packed_sizes`` rows and columns in panels.

    A worker has room for a row of zeros, a block of a panel's results, and a block of each of the ``kept`` rows of x.
    """
    rows, depth, units = sizes
    panel_rows, columns = packed_sizes
    panel = 2 * TARGET.lanes(dtype)
    width = round_up(columns, panel)
    block = round_up(48, math.lcm(WIDE_SIZES[0], panel // 2))
    chunk = block * max(1, _GRADIENT_NUMBERS // (block * rows))
    workspace = round_up(panel + block * (panel + kept), 16)
    tiles = block, depth % block
    geometry = _header(workspace, rows, depth, units, chunk, block, False, width, dtype, *tiles, max(1, kept))
    packed = parallel.Uninitialised(width * panel_rows * np.dtype(dtype).itemsize)
    buffers = (0, 1, 2, packed, np.zeros(width // panel, np.int64))
    tasks, small = int(geometry[at.TASKS]), rows * depth * units < SMALL_PRODUCTS
    return parallel.Launch(kernel, dtype, tasks, geometry, buffers, 3, workspace, small=small)
