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

from numbaconv.algorithms import batch_norm
from numbaconv.algorithms.channel_sums import MOST_CHANNELS, channel_sums
from numbaconv.autograd.recycling import like

# NumPy's inner loops are as long as the axis that a vector of channels is broadcast along; rows are joined up to this
# length, which took element-wise steps on 16 channels from 1.3 to 0.6 ms per 1.6 million numbers.
LONG_ROW = 1024
# Below this size of the array, repeating the vector costs more than the long rows save.
LARGE = 1 << 15


def joined_rows(a: np.ndarray) -> np.ndarray:
    """See a contiguous (..., channels) as a matrix of fewer, longer rows, a power of two of the old rows in each."""
    channels = a.shape[-1]
    rows = math.prod(a.shape[:-1])
    repeats = 1
    while rows % (2 * repeats) == 0 and 2 * repeats * channels <= LONG_ROW:
        repeats *= 2
    return a.reshape(rows // repeats, repeats * channels)


def is_per_last_axis(vector: np.ndarray, a: np.ndarray) -> bool:
    """Tell whether ``vector`` holds one number per element of the last axis of ``a``."""
    return vector.ndim == a.ndim and vector.size == a.shape[-1] == vector.shape[-1]


def broadcast(operate: np.ufunc, a: np.ndarray, vector: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write ``operate(a, vector)`` to ``out``, in long rows where the vector belongs to the last axis."""
    if a.size >= LARGE and is_per_last_axis(vector, a) and a.flags.c_contiguous and out.flags.c_contiguous:
        rows = joined_rows(a)
        operate(rows, np.tile(vector.reshape(-1), rows.shape[1] // vector.size), out=out.reshape(rows.shape))
    else:
        operate(a, vector, out=out)
    return out


def reduce_sum(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Sum over ``axes``, which stay with length 1; leading axes of contiguous arrays by a compiled kernel."""
    count = len(axes)
    if axes == tuple(range(count)) and 0 < count < a.ndim and a.flags.c_contiguous:
        channels = math.prod(a.shape[count:])
        if 0 < channels <= MOST_CHANNELS:
            rows = a.reshape(math.prod(a.shape[:count]), channels)
            return channel_sums(rows).reshape((1,) * count + a.shape[count:])
    return a.sum(axis=axes, keepdims=True)


def reduce_product(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Sum ``a * b`` over ``axes``, which stay with length 1; over all but the last without making the product."""
    if axes == tuple(range(a.ndim - 1)) and a.flags.c_contiguous and b.flags.c_contiguous:
        sums = np.einsum("ij,ij->j", joined_rows(a), joined_rows(b))
        return sums.reshape(-1, a.shape[-1]).sum(axis=0).reshape((1,) * (a.ndim - 1) + a.shape[-1:])
    return reduce_sum(a * b, axes)


def count_over(shape: Sequence[int], axes: tuple[int, ...]) -> int:
    """Return how many elements share one mean; at least 1, so that empty batches divide by something."""
    return max(math.prod(shape[i] for i in axes), 1)


def centre(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return ``x - mean`` in recycled memory."""
    return broadcast(np.subtract, x, mean, like(x))


def standardize(
    x: np.ndarray, scale: np.ndarray | None, offset: np.ndarray | None, axes: tuple[int, ...], epsilon: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return scale * x_hat + offset, and the statistics of ``x`` over ``axes``: mean, variance, inverse deviation.

    ``scale`` and ``offset`` broadcast against ``x``.  The variance is taken of centred values, which keeps its digits
    where the mean is large.
    """
    n = x.dtype.type(count_over(x.shape, axes))
    mean = reduce_sum(x, axes) / n
    if is_per_channel(x, axes, mean.size, scale, offset):
        vectors = [None if v is None else np.ascontiguousarray(v.reshape(-1)) for v in (scale, offset)]
        flat = mean.reshape(-1)
        variance = batch_norm.centred_squares(x, flat) / n
        y = batch_norm.normalize(x, flat, variance, vectors[0], vectors[1], epsilon)
        variance = variance.reshape(mean.shape)
        return y, statistics(mean, variance, epsilon)
    y = centre(x, mean)
    variance = reduce_product(y, y, axes) / n
    found = statistics(mean, variance, epsilon)
    inverse_deviation = found["inverse_deviation"]
    if scale is None:
        broadcast(np.multiply, y, inverse_deviation, y)
    elif scale.shape == inverse_deviation.shape:
        broadcast(np.multiply, y, inverse_deviation * scale, y)
    else:
        broadcast(np.multiply, y, inverse_deviation, y)
        broadcast(np.multiply, y, scale, y)
    if offset is not None:
        broadcast(np.add, y, offset, y)
    return y, found


def statistics(mean: np.ndarray, variance: np.ndarray, epsilon: float) -> dict[str, np.ndarray]:
    """Return mean, variance and inverse deviation by name."""
    inverse_deviation = 1 / np.sqrt(variance + variance.dtype.type(epsilon))
    return {"mean": mean, "variance": variance, "inverse_deviation": inverse_deviation}


def is_per_channel(x: np.ndarray, axes: tuple[int, ...], channels: int, *vectors: np.ndarray | None) -> bool:
    """Whether compiled kernels can normalise x over all axes but the last."""
    is_last = axes == tuple(range(x.ndim - 1)) and batch_norm.is_possible(x, channels)
    return is_last and all(v is None or (v.size == channels and v.dtype == x.dtype) for v in vectors)


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
    if is_per_channel(x, axes, mean.size, scale) and g.dtype == x.dtype:
        return _gradients_per_channel(np.ascontiguousarray(g), x, scale, mean, inverse_deviation, wanted[0])
    centred = centre(x, mean)
    offset_gradient = reduce_sum(g, axes)
    scale_gradient = reduce_product(g, centred, axes) * inverse_deviation
    if not wanted[0]:
        return None, scale_gradient, offset_gradient
    n = x.dtype.type(count_over(x.shape, axes))
    gradient = broadcast(np.multiply, centred, scale_gradient * inverse_deviation / n, centred)
    np.subtract(g, gradient, out=gradient)
    broadcast(np.subtract, gradient, offset_gradient / n, gradient)
    broadcast(np.multiply, gradient, inverse_deviation if scale is None else inverse_deviation * scale, gradient)
    return gradient, scale_gradient, offset_gradient


def _gradients_per_channel(
    g: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray | None,
    mean: np.ndarray,
    inverse_deviation: np.ndarray,
    wants_x: bool,
) -> tuple[Any, Any, Any]:
    """Compute the same by compiled kernels."""
    flat, inverse, n = mean.reshape(-1), inverse_deviation.reshape(-1), x.dtype.type(x.size // mean.size)
    offset_gradient, products = batch_norm.centred_products(g, x, flat)
    scale_gradient = products * inverse
    gradient = None
    if wants_x:
        slope, factor = scale_gradient * inverse / n, inverse if scale is None else inverse * scale.reshape(-1)
        gradient = batch_norm.batch_gradient(g, x, flat, slope, offset_gradient / n, factor)
    return gradient, scale_gradient.reshape(mean.shape), offset_gradient.reshape(mean.shape)


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
    x_hat = centre(x, mean)
    x_hat *= inverse_deviation
    samples = tuple(i for i in range(x.ndim) if i not in axes)
    scale_gradient = reduce_product(g, x_hat, samples) if wanted[1] else None
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
    y = centre(x, mean)
    broadcast(np.multiply, y, factor if scale is None else factor * scale, y)
    return y if offset is None else broadcast(np.add, y, offset, y)


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
    y = np.multiply(x, mask, out=like(x))
    y *= factor
    return y
