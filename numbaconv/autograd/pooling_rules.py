"""Gradients of pooling: by the engine's passes where windows are regular, window by window where they are adaptive."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from numbaconv.algorithms import adjacent_pooling as engine
from numbaconv.autograd.convolution_rules import bias_relu_grad
from numbaconv.padding import sizes
from numbaconv.spec import resolve_pool

Shape = tuple[int, ...]


def max_pool_grad(
    g: np.ndarray, x: np.ndarray, y: np.ndarray, pool_size: Any, strides: Any, padding: Any, data_format: str
) -> np.ndarray:
    """Send each gradient to the first element of its window that attains the maximum."""
    spec = resolve_pool(
        x.shape, pool_size, strides=strides, padding=padding, data_format=data_format, dtype=str(x.dtype)
    )
    return engine.max_pool_grad(spec, x, y, g) if spec.batch else np.zeros_like(x)


def bias_relu_max_pool_grad(
    g: np.ndarray, x: np.ndarray, y: np.ndarray, pool_size: Any, strides: Any, padding: Any, data_format: str
) -> tuple[np.ndarray, np.ndarray]:
    """With x = relu(u + bias), y = max_pool(x): du and the bias's gradient.

    Only places that hold y get a gradient, so that relu can be dealt with in y's size: du goes where y > 0. Each
    gradient goes to one place, so that its sums over all places are those of the windows.
    """
    kept, sums = bias_relu_grad(g, y, data_format)
    return max_pool_grad(kept, x, y, pool_size, strides, padding, data_format), sums


def average_pool_grad(
    g: np.ndarray, x_shape: Shape, pool_size: Any, strides: Any, padding: Any, data_format: str
) -> np.ndarray:
    """Divide each gradient equally among the elements of its window, padding not counted."""
    spec = resolve_pool(
        x_shape, pool_size, strides=strides, padding=padding, data_format=data_format, dtype=str(g.dtype)
    )
    return engine.average_pool_grad(spec, g) if spec.batch else np.zeros(x_shape, g.dtype)


def spatial_axes(x_shape: Shape, data_format: str) -> tuple[int, ...]:
    """Return the numbers of the spatial axes."""
    return tuple(range(2, len(x_shape)) if data_format == "channels_first" else range(1, len(x_shape) - 1))


def global_max_pool_grad(g: np.ndarray, x: np.ndarray, y: np.ndarray, data_format: str) -> np.ndarray:
    """Send each gradient to the first maximum: a pooling with one window."""
    axes = spatial_axes(x.shape, data_format)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    window = tuple(x.shape[i] for i in axes)
    return max_pool_grad(g.reshape(shape), x, y.reshape(shape), window, None, "valid", data_format)


def global_average_pool_grad(g: np.ndarray, x_shape: Shape, data_format: str) -> np.ndarray:
    """Divide each gradient equally among all elements: a read-only view that repeats it."""
    axes = spatial_axes(x_shape, data_format)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x_shape))
    return np.broadcast_to((g / math.prod(x_shape[i] for i in axes)).reshape(shape), x_shape)


def adaptive_windows(x_shape: Shape, output_size: Any, data_format: str) -> Iterator[tuple[Any, Any]]:
    """Yield for each position of the result its index in y and its window's index in x.

    Window i of an axis of n inputs and o outputs is [floor(i n / o), ceil((i + 1) n / o)).
    """
    axes = spatial_axes(x_shape, data_format)
    outputs = sizes(output_size, len(axes), "output_size")
    before = (slice(None),) * axes[0]
    for position in itertools.product(*map(range, outputs)):
        bounds = [
            slice(i * n // o, -(-(i + 1) * n // o)) for i, n, o in zip(position, (x_shape[a] for a in axes), outputs)
        ]
        yield (*before, *(slice(i, i + 1) for i in position)), (*before, *bounds)


def adaptive_average_pool_grad(g: np.ndarray, x_shape: Shape, output_size: Any, data_format: str) -> np.ndarray:
    """Divide each gradient equally among the elements of its window; windows may overlap."""
    axes = spatial_axes(x_shape, data_format)
    gradient = np.zeros(x_shape, g.dtype)
    for position, window in adaptive_windows(x_shape, output_size, data_format):
        part = gradient[window]
        part += g[position] / math.prod(part.shape[i] for i in axes)
    return gradient


def adaptive_max_pool_grad(g: np.ndarray, x: np.ndarray, output_size: Any, data_format: str) -> np.ndarray:
    """Send each gradient to the first element of its window that attains the maximum; windows may overlap."""
    axes = spatial_axes(x.shape, data_format)
    gradient = np.zeros(x.shape, g.dtype)
    for position, window in adaptive_windows(x.shape, output_size, data_format):
        part = gradient[window]
        # The window's axes are joined, in C order, to find the first maximum of each sample and channel.
        values = x[window].reshape(*part.shape[: axes[0]], -1, *part.shape[axes[-1] + 1 :])
        first = np.expand_dims(values.argmax(axis=axes[0]), axes[0])
        share = np.zeros_like(values)
        np.put_along_axis(share, first, g[position].reshape(first.shape), axes[0])
        part += share.reshape(part.shape)
    return gradient
