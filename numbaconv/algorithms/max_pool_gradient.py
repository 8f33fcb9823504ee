"""The gradient of maxima: a kernel of its own where windows lie side by side, as they mostly do."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms import pooling
from numbaconv.kernels import max_pool_gradient as kernels
from numbaconv.spec import PoolSpec

Array = NDArray[np.floating]

# Numbers of the input that a task takes at least: much more than starting it costs.
_TASK_NUMBERS = 1 << 13


def max_pool_grad(spec: PoolSpec, x: Array, y: Array, grad_y: Array) -> Array:
    """Return the gradient of `pooling.max_pool`: each window's goes to the first of its maxima in row-major order."""
    if spec.strides != spec.pool_size:
        return pooling.max_pool_grad(spec, x, y, grad_y)
    x, y, grad_y = (pooling.channels_last(spec, array) for array in (x, y, grad_y))
    grad_x = memory.empty(x.shape, spec.dtype)
    geometry, parts = _geometry(spec)
    is_small = x.size < pooling.SERIAL_NUMBERS
    arrays = (x, y, grad_y, grad_x)
    parallel.launch(kernels.adjacent_max_pool_grad, spec.dtype, spec.batch * parts, geometry, arrays, serial=is_small)
    return pooling.in_format(spec, grad_x)


@lru_cache(maxsize=128)
def _geometry(spec: PoolSpec) -> tuple[NDArray[np.int64], int]:
    """Return the geometry and the tasks of an image."""
    windows, channels = pooling.window_rows(spec), spec.channels
    size = spec.in_spatial[-1]
    row = size * channels
    bare = np.setdiff1d(np.arange(prod(spec.in_spatial[:-1])), np.concatenate(windows))
    end = min(size, spec.out_spatial[-1] * spec.pool_size[-1] - spec.padding[-1][0])
    image = prod(spec.in_spatial) * channels
    outers = min(len(windows), max(1, _TASK_NUMBERS * len(windows) // image))
    parts = -(-len(windows) // outers)
    first = np.concatenate([[0], np.cumsum([len(window) for window in windows])])
    bare_at = kernels.HEADER
    first_at = bare_at + len(bare)
    rows_at = first_at + len(first)
    header = [
        0, len(windows), outers, parts, channels, size, end, spec.out_spatial[-1], spec.pool_size[-1],
        spec.padding[-1][0], image, prod(spec.out_spatial) * channels, bare_at, len(bare), first_at, rows_at,
    ]  # fmt: skip
    geometry = np.concatenate([header, bare * row, first, np.concatenate(windows) * row]).astype(np.int64)
    geometry.setflags(write=False)
    return geometry, parts
