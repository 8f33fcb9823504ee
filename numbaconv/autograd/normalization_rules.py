"""Normalisation forward and backward in NumPy, each as one step with analytic gradients.

With x_hat = (x - mean) / sqrt(variance + epsilon) and statistics taken from x over some axes, a gradient h with
respect to x_hat gives (Ioffe & Szegedy, arXiv:1502.03167, section 3, the paths through mean and variance gathered)

    dL/dx = (h - mean(h) - x_hat mean(h x_hat)) / sqrt(variance + epsilon)

Only x and the per-group statistics are saved; x_hat is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def reduce_sum(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Sum over ``axes``, which stay with length 1; leading axes of contiguous arrays by a product with ones (BLAS)."""
    count = len(axes)
    if axes == tuple(range(count)) and 0 < count < a.ndim and a.flags.c_contiguous:
        rows = math.prod(a.shape[:count])
        ones = np.ones(rows, a.dtype)
        return (ones @ a.reshape(rows, math.prod(a.shape[count:]))).reshape((1,) * count + a.shape[count:])
    return a.sum(axis=axes, keepdims=True)


def count_over(shape: Sequence[int], axes: tuple[int, ...]) -> int:
    """Return how many elements share one mean; at least 1, so that empty batches divide by something."""
    return max(math.prod(shape[i] for i in axes), 1)


def standardize(
    x: np.ndarray, scale: np.ndarray | None, offset: np.ndarray | None, axes: tuple[int, ...], epsilon: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return scale * x_hat + offset, and the statistics of ``x`` over ``axes``: mean, variance, inverse deviation.

    ``scale`` and ``offset`` broadcast against ``x``.  One array of the size of x is made besides the result.
    """
    n = count_over(x.shape, axes)
    mean = reduce_sum(x, axes) / x.dtype.type(n)
    y = x - mean
    variance = reduce_sum(y * y, axes) / x.dtype.type(n)
    inverse_deviation = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    y *= inverse_deviation
    if scale is not None:
        y *= scale
    if offset is not None:
        y += offset
    return y, {"mean": mean, "variance": variance, "inverse_deviation": inverse_deviation}


def batch_standardize_gradient(
    g: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray | None,
    mean: np.ndarray,
    inverse_deviation: np.ndarray,
    axes: tuple[int, ...],
    wanted: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Scale and offset are constant along ``axes``: the two sums for their gradients are those that dL/dx needs.

    dL/doffset = sum(g),  dL/dscale = sum(g x_hat),  dL/dx = scale / deviation (g - sum(g)/n - x_hat sum(g x_hat)/n)
    """
    x_hat = (x - mean) * inverse_deviation
    offset_gradient = reduce_sum(g, axes)
    scale_gradient = reduce_sum(g * x_hat, axes)
    if not wanted[0]:
        return None, scale_gradient, offset_gradient
    n = x.dtype.type(count_over(x.shape, axes))
    x_hat *= scale_gradient / n
    np.subtract(g, x_hat, out=x_hat)
    x_hat -= offset_gradient / n
    x_hat *= inverse_deviation if scale is None else inverse_deviation * scale
    return x_hat, scale_gradient, offset_gradient


def layer_standardize_gradient(
    g: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray | None,
    mean: np.ndarray,
    inverse_deviation: np.ndarray,
    axes: tuple[int, ...],
    wanted: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Scale and offset vary along ``axes`` and are shared by all samples: h = g scale, then the formula above."""
    x_hat = (x - mean) * inverse_deviation
    samples = tuple(i for i in range(x.ndim) if i not in axes)
    scale_gradient = reduce_sum(g * x_hat, samples) if wanted[1] else None
    offset_gradient = reduce_sum(g, samples) if wanted[2] else None
    if not wanted[0]:
        return None, scale_gradient, offset_gradient
    n = x.dtype.type(count_over(x.shape, axes))
    h = g if scale is None else g * scale
    x_hat *= reduce_sum(h * x_hat, axes) / n
    np.subtract(h, x_hat, out=x_hat)
    x_hat -= reduce_sum(h, axes) / n
    x_hat *= inverse_deviation
    return x_hat, scale_gradient, offset_gradient


def normalize(x: np.ndarray, mean: Any, variance: Any, scale: Any, offset: Any, epsilon: float) -> np.ndarray:
    """Return scale (x - mean) / sqrt(variance + epsilon) + offset for given statistics."""
    factor = 1 / np.sqrt(variance + epsilon)
    y = x - mean
    y *= factor if scale is None else factor * scale
    if offset is not None:
        y += offset
    return y


def normalize_gradient(
    g: np.ndarray, x: np.ndarray, mean: Any, variance: Any, scale: Any, epsilon: float, shapes: Any, wanted: Any
) -> list[Any]:
    """Write r = 1 / sqrt(variance + epsilon), so that y = scale (x - mean) r + offset; per channel then.

    dx = g scale r,  dmean = -sum dx,  dvariance = -r**2 / 2 sum g scale (x - mean) r,  dscale = sum g (x - mean) r
    """
    r = 1 / np.sqrt(variance + epsilon)
    axes = tuple(i for i, n in enumerate(shapes[1]) if n == 1 and x.shape[i] != 1)
    gradients: list[Any] = [None] * 5
    if wanted[0]:
        gradients[0] = g * (r if scale is None else r * scale)
    if any(wanted[1:]):
        total = reduce_sum(g, axes)
        moment = reduce_sum(g * (x - mean), axes) * r if wanted[2] or wanted[3] else None
        factor = r if scale is None else r * scale
        gradients[1] = -factor * total if wanted[1] else None
        gradients[2] = -0.5 * r * factor * moment if wanted[2] else None
        gradients[3] = moment if wanted[3] else None
        gradients[4] = total if wanted[4] else None
    return gradients


def dropout(x: np.ndarray, mask: np.ndarray, factor: float) -> np.ndarray:
    """Return ``x * mask * factor``; also the gradient, as this is linear in ``x``."""
    y = x * mask
    y *= factor
    return y
