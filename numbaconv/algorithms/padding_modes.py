"""Input gradient of reflect, replicate and circular padding.

The gradient with respect to the padded input is that of a convolution without padding; then every padded position gives
its share to the position that it was copied from (the adjoint of the copy), axis by axis.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.algorithms.axes import source_positions
from numbaconv.kernels.fold import fold_axis
from numbaconv.spec import ConvSpec


def padded_spec(spec: ConvSpec) -> ConvSpec:
    """Return the convolution that reads the padded input."""
    return dataclasses.replace(
        spec,
        in_spatial=spec.padded_spatial,
        padding=((0, 0),) * spec.ndim,
        padding_mode=("zeros",) * spec.ndim,
        data_format="channels_last",
    )


def fold(spec: ConvSpec, grad_padded: NDArray, grad_x: NDArray) -> None:
    """Fill ``grad_x`` with the sums over the padded positions copied from each position; both channels last."""
    current = grad_padded
    for axis in range(spec.ndim):
        (lo, _), size, mode = spec.padding[axis], spec.in_spatial[axis], spec.padding_mode[axis]
        positions = np.arange(spec.padded_spatial[axis]) - lo
        sources = source_positions(positions, size, mode).tolist()
        if sources == list(range(size)) and axis < spec.ndim - 1:
            continue
        shape = (*current.shape[: axis + 1], size, *current.shape[axis + 2 :])
        target = grad_x if axis == spec.ndim - 1 else memory.empty(shape, spec.dtype)
        _fold_axis(spec.dtype, current, axis + 1, sources, target)
        current = target


def _fold_axis(dtype: str, source: NDArray, axis: int, sources: list[int], target: NDArray) -> None:
    outer, inner = math.prod(source.shape[:axis]), math.prod(source.shape[axis + 1 :])
    size = target.shape[axis]
    readers: list[list[int]] = [[] for _ in range(size)]
    for position, index in enumerate(sources):
        if index >= 0:
            readers[index].append(position)
    first = np.cumsum([0] + [len(positions) for positions in readers])
    listed = [position for positions in readers for position in positions]
    geometry = np.array([0, size, len(sources), inner, *first, *listed], np.int64)
    parallel.launch(fold_axis, dtype, outer, geometry, (source, target), serial=source.size < 50_000)
