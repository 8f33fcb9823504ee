"""Gradients of pooling: kernels of their own where windows lie side by side, as they mostly do."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.algorithms import pooling
from numbaconv.algorithms.channel_sums import record_addition
from numbaconv.jit import TaskKernel
from numbaconv.kernels import adjacent_pooling as kernels
from numbaconv.program import Buffer, Operand, Recorder
from numbaconv.spec import PoolSpec
from numbaconv.target import TARGET

Array = NDArray[np.floating]

# Numbers of the input that a task takes at least: much more than starting it costs.
_TASK_NUMBERS = 1 << 13


def max_pool_grad(spec: PoolSpec, x: Array, y: Array, grad_y: Array) -> Array:
    """Return the gradient of `pooling.max_pool`: each window's goes to the first of its maxima in row-major order."""
    return pooling.max_pool_grad(spec, x, y, grad_y, max_gradient)


def average_pool_grad(spec: PoolSpec, grad_y: Array) -> Array:
    """Return the gradient of `pooling.average_pool`: each window's in equal parts to its positions inside x."""
    return pooling.average_pool_grad(spec, grad_y, average_gradient)


def max_gradient(spec: PoolSpec) -> parallel.Launch:
    """Return the launch on (x, y, grad_y, grad_x)."""
    if spec.strides != spec.pool_size:
        return pooling.max_gradient(spec)
    return _prepared(kernels.adjacent_max_pool_grad, 4, spec)


def takes_relu(spec: PoolSpec) -> bool:
    """Whether `record_relu_gradient` is faster than two launches: channels that fill a register, or windows of 2x2."""
    if spec.strides != spec.pool_size:
        return False
    return spec.channels >= TARGET.lanes(spec.dtype) or (spec.pool_size == (2, 2) and not any(map(any, spec.padding)))


def takes_x(spec: PoolSpec) -> bool:
    """Whether grad_x may be x: adjacent windows, channels in whole registers, so that no place is read twice."""
    return spec.strides == spec.pool_size and spec.channels % TARGET.lanes(spec.dtype) == 0


def record_relu_gradient(
    recorder: Recorder, spec: PoolSpec, x: Buffer, y: Buffer, grad_y: Buffer, grad_x: Buffer, sums: Operand
) -> None:
    """Record the gradient of adjacent maxima and of the relu that gave x, and the sums of the latter per channel."""
    launch = _prepared(kernels.adjacent_max_pool_relu_grad, 5, spec)
    partial = sums if launch.tasks == 1 else recorder.buffer(launch.tasks * spec.channels)
    recorder.launch(launch, x, y, grad_y, grad_x, partial)
    record_addition(recorder, partial, launch.tasks, spec.channels, sums)


def average_gradient(spec: PoolSpec) -> parallel.Launch:
    """Return the launch on (grad_y, grad_x)."""
    if spec.strides != spec.pool_size:
        return pooling.average_gradient(spec)
    return _prepared(kernels.adjacent_average_pool_grad, 2, spec)


@lru_cache(maxsize=512)
def _prepared(kernel: TaskKernel, arguments: int, spec: PoolSpec) -> parallel.Launch:
    """Return the launch on so many arrays."""
    windows, channels = pooling.window_rows(spec), spec.channels
    size = spec.in_spatial[-1]
    row = size * channels
    bare = np.setdiff1d(np.arange(prod(spec.in_spatial[:-1])), np.concatenate(windows))
    end = min(size, spec.out_spatial[-1] * spec.pool_size[-1] - spec.padding[-1][0])
    image = prod(spec.in_spatial) * channels
    outers = min(len(windows), max(1, _TASK_NUMBERS * len(windows) // image))
    parts = -(-len(windows) // outers)
    lanes, window = TARGET.lanes(spec.dtype), spec.pool_size[-1] * channels
    block = min(spec.out_spatial[-1], max(1, pooling.LINE // window))
    # Where a register holds all channels: one for each output of a block, and a line whose last position is whole too.
    # Before that, sums of all channels, and of a register that ends with them.
    sums = -(-(channels + lanes) // 16) * 16
    line = block * (lanes + window) + lanes if channels < lanes else 0
    workspace = sums + -(-line // 16) * 16
    first = np.concatenate([[0], np.cumsum([len(window) for window in windows])])
    bare_at = kernels.HEADER
    first_at = bare_at + len(bare)
    rows_at = first_at + len(first)
    header = [
        workspace, len(windows), outers, parts, channels, size, end, spec.out_spatial[-1], spec.pool_size[-1],
        spec.padding[-1][0], image, prod(spec.out_spatial) * channels, bare_at, len(bare), first_at, rows_at,
        block, spec.batch, sums,
    ]  # fmt: skip
    geometry = np.concatenate([header, bare * row, first, np.concatenate(windows) * row]).astype(np.int64)
    small, tasks = spec.batch * image < pooling.SERIAL_NUMBERS, spec.batch * parts
    arrays = tuple(range(arguments))
    return parallel.Launch(kernel, spec.dtype, tasks, geometry, arrays, arguments, workspace, small=small)
