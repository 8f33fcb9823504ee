"""Pooling of arrays in either data format: what each pass reads, how it is cut into tasks, and its launch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.jit import TaskKernel
from numbaconv.kernels import narrow_pooling
from numbaconv.kernels import pooling as kernels
from numbaconv.spec import PoolSpec
from numbaconv.target import TARGET

Array = NDArray[np.floating]

# Windows that read fewer numbers than this together take about as long as waking the threads does.
SERIAL_NUMBERS = 1 << 16
# Numbers that a task's windows read at least: much more than starting it costs.
_TASK_NUMBERS = 1 << 13
# Channels of fewer registers than this are combined line by line: the loops over so few are longer than their work.
_FULL_REGISTERS = 4
_NARROW = {
    kernels.max_pool: narrow_pooling.narrow_max_pool,
    kernels.average_pool: narrow_pooling.narrow_average_pool,
}
# Numbers of a line in the workspace at most, unless one window is longer: half of L1.
LINE = 1 << 12
# Channels of a chunk: one cache line of float32, so that tasks do not share lines of aligned arrays.
_CHUNK_UNIT = 16


def max_pool(spec: PoolSpec, x: Array) -> Array:
    """Return the maximum of every window; a NaN in a window makes it NaN."""
    return _reduce(kernels.max_pool, spec, x)


def average_pool(spec: PoolSpec, x: Array) -> Array:
    """Return the mean of every window over its positions inside x."""
    return _reduce(kernels.average_pool, spec, x)


def max_pool_grad(
    spec: PoolSpec, x: Array, y: Array, grad_y: Array, launch_of: Callable[[PoolSpec], parallel.Launch] | None = None
) -> Array:
    """Return the gradient of `max_pool`: each window's goes to the first of its maxima in row-major order.

    ``launch_of`` makes the launch, by default `max_gradient`.
    """
    x, y, grad_y = (channels_last(spec, array) for array in (x, y, grad_y))
    grad_x = memory.empty(x.shape, spec.dtype)
    (launch_of or max_gradient)(spec)(x, y, grad_y, grad_x)
    return in_format(spec, grad_x)


def average_pool_grad(
    spec: PoolSpec, grad_y: Array, launch_of: Callable[[PoolSpec], parallel.Launch] | None = None
) -> Array:
    """Return the gradient of `average_pool`: each window's in equal parts to its positions inside x.

    ``launch_of`` makes the launch, by default `average_gradient`.
    """
    grad_x = memory.empty((spec.batch, *spec.in_spatial, spec.channels), spec.dtype)
    (launch_of or average_gradient)(spec)(channels_last(spec, grad_y), grad_x)
    return in_format(spec, grad_x)


@lru_cache(maxsize=512)
def max_gradient(spec: PoolSpec) -> parallel.Launch:
    """Return the launch on (x, y, grad_y, grad_x)."""
    return _gradient(kernels.max_pool_grad, spec, spec.batch, 4)


@lru_cache(maxsize=512)
def average_gradient(spec: PoolSpec) -> parallel.Launch:
    """Return the launch on (grad_y, grad_x)."""
    return _gradient(kernels.average_pool_grad, spec, spec.batch * prod(spec.in_spatial[:-1]), 2)


def _gradient(kernel: TaskKernel, spec: PoolSpec, pieces: int, arguments: int) -> parallel.Launch:
    chunks, chunk = _chunks(spec, pieces)
    geometry = _geometry(spec, chunks, chunk, kernel is kernels.average_pool_grad)
    arrays, small = tuple(range(arguments)), _work(spec) < SERIAL_NUMBERS
    return parallel.Launch(kernel, spec.dtype, pieces * chunks, geometry, arrays, arguments, small=small)


def _reduce(kernel: TaskKernel, spec: PoolSpec, x: Array) -> Array:
    allocate, launch = reduction(kernel, spec)
    y = allocate()
    launch(channels_last(spec, x), y)
    return in_format(spec, y)


@lru_cache(maxsize=512)
def reduction(kernel: TaskKernel, spec: PoolSpec) -> tuple[Callable[[], Array], parallel.Launch]:
    """Return what makes the result, with channels last, and the launch on (x, y) that fills it."""
    shape = spec.batch, *spec.out_spatial, spec.channels
    rows, small = spec.batch * prod(spec.out_spatial[:-1]), _work(spec) < SERIAL_NUMBERS
    lanes, workspace = TARGET.lanes(spec.dtype), 0
    if spec.channels < _FULL_REGISTERS * lanes:
        kernel, chunks, chunk = _NARROW[kernel], 1, spec.channels
        window, step = (extent[-1] * spec.channels for extent in (spec.pool_size, spec.strides))
        block = min(spec.out_spatial[-1], max(1, 1 + (LINE - window) // step))
        # Registers may be written and read that begin with the last number.
        workspace = -(-((block - 1) * step + window + lanes) // 16) * 16
    else:
        (chunks, chunk), block = _chunks(spec, rows), spec.out_spatial[-1]
    blocks = -(-spec.out_spatial[-1] // block)
    pieces = rows * blocks
    task_pieces = max(1, min(pieces, _TASK_NUMBERS * pieces // _work(spec)))
    geometry = _geometry(spec, chunks, chunk, False).copy()
    geometry[[kernels.WORKSPACE, kernels.PIECES, kernels.TASK_PIECES]] = workspace, pieces, task_pieces
    geometry[[kernels.BLOCK, kernels.BLOCKS]] = block, blocks
    tasks = -(-pieces // task_pieces) * chunks
    launch = parallel.Launch(kernel, spec.dtype, tasks, geometry, (0, 1), 2, workspace, small=small)
    return memory.allocator(shape, spec.dtype), launch


def _work(spec: PoolSpec) -> int:
    """Return how many numbers all windows read together."""
    return spec.batch * spec.channels * prod(spec.out_spatial) * prod(spec.pool_size)


def channels_last(spec: PoolSpec, array: Array) -> Array:
    """Return an array with channels last in C order."""
    if spec.data_format == "channels_first":
        array = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(array)


def in_format(spec: PoolSpec, array: Array) -> Array:
    """Return a view in the data format of the problem."""
    return np.moveaxis(array, -1, 1) if spec.data_format == "channels_first" else array


def _chunks(spec: PoolSpec, pieces: int) -> tuple[int, int]:
    """Return (chunks of channels, channels per chunk) so that `pieces` images or rows keep all threads busy.

    Chunks are at least a unit long where there are several, the last one too.
    """
    threads = TARGET.threads if _work(spec) >= SERIAL_NUMBERS else 1
    wanted = -(-2 * threads // max(pieces, 1)) if threads > 1 else 1
    chunk = -(-spec.channels // wanted)
    chunk = -(-chunk // _CHUNK_UNIT) * _CHUNK_UNIT
    while chunk < spec.channels and 0 < spec.channels % chunk < _CHUNK_UNIT:
        chunk += _CHUNK_UNIT
    chunk = min(spec.channels, chunk)
    return -(-spec.channels // chunk), chunk


def window_rows(spec: PoolSpec) -> list[NDArray[np.int64]]:
    """Return for each outer output the input rows under its window: indices over all spatial axes but the last."""
    rows = [np.zeros(1, np.int64)]
    for a in range(spec.ndim - 1):
        size, low = spec.in_spatial[a], spec.padding[a][0]
        starts = [o * spec.strides[a] - low for o in range(spec.out_spatial[a])]
        spans = [np.arange(max(i, 0), min(i + spec.pool_size[a], size), dtype=np.int64) for i in starts]
        rows = [(outer[:, None] * size + span).ravel() for outer in rows for span in spans]
    return rows


@lru_cache(maxsize=128)
def _geometry(spec: PoolSpec, chunks: int, chunk: int, by_input: bool) -> NDArray[np.int64]:
    """Return the geometry of a launch; `by_input` lists the output rows over each input row instead."""
    rows = window_rows(spec)
    covered = [len(window) for window in rows]
    x_row = spec.in_spatial[-1] * spec.channels
    if by_input:
        over: list[list[int]] = [[] for _ in range(prod(spec.in_spatial[:-1]))]
        for output, window in enumerate(rows):
            for row in window.tolist():
                over[row].append(output)
        lists = [np.array(outputs, np.int64) for outputs in over]
    else:
        lists = [window * x_row for window in rows]
    first = np.concatenate([[0], np.cumsum([len(entries) for entries in lists])])
    rows_at = kernels.HEADER + len(first)
    covered_at = rows_at + int(first[-1])
    header = np.zeros(kernels.HEADER, np.int64)
    header[:] = [
        0,
        len(lists),
        chunks,
        chunk,
        spec.channels,
        spec.in_spatial[-1],
        spec.out_spatial[-1],
        spec.pool_size[-1],
        spec.strides[-1],
        spec.padding[-1][0],
        prod(spec.in_spatial) * spec.channels,
        prod(spec.out_spatial) * spec.channels,
        kernels.HEADER,
        rows_at,
        covered_at,
        *(0,) * 4,
    ]
    geometry = np.concatenate([header, first, *lists, covered]).astype(np.int64)
    geometry.setflags(write=False)
    return geometry
