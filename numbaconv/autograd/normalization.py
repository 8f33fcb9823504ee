"""Batch and layer normalisation and dropout, for tensors and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from numbaconv.autograd import normalization_rules as formulas
from numbaconv.autograd.shaping import reshape
from numbaconv.autograd.tensor import TensorLike, apply, record, to_arrays, values

__all__ = ["batch_normalization", "batch_normalization_training", "dropout", "layer_normalization"]


def per_channel(value: Any, shape: tuple[int, ...]) -> Any:
    """Give a vector of channels a shape that broadcasts against the data; None stays None."""
    return None if value is None else reshape(value, shape)


def batch_normalization(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    offset: TensorLike | None = None,
    scale: TensorLike | None = None,
    epsilon: float = 1e-3,
    axis: int = -1,
) -> Any:
    """Normalise each channel by given statistics: ``scale * (x - mean) / sqrt(variance + epsilon) + offset``.

    Parameters
    ----------
    x : Tensor or array
    mean, variance, offset, scale : Tensor or array, shape (channels,)
        ``offset`` and ``scale`` may be None for 0 and 1.  Gradients flow to all of them.
    epsilon : float, default 1e-3
        Added to the variance.
    axis : int, default -1
        The axis of channels.

    References
    ----------
    Ioffe & Szegedy, arXiv:1502.03167, algorithm 2.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.batch_normalization([[1.0], [3.0]], mean=[2.0], variance=[4.0], epsilon=0.0).tolist()
    [[-0.5], [0.5]]
    """
    shape = channel_shape(x, axis)
    operands = (x, *(per_channel(v, shape) for v in (mean, variance, scale, offset)))
    return apply("normalize", formulas.normalize, operands, epsilon=float(epsilon))


def channel_shape(x: Any, axis: int) -> tuple[int, ...]:
    """Return the shape of one number per channel that broadcasts against ``x``."""
    shape = np.shape(values(x))
    axis = normalize_axis_index(axis, len(shape))
    return tuple(n if i == axis else 1 for i, n in enumerate(shape))


def batch_normalization_training(
    x: TensorLike,
    offset: TensorLike | None = None,
    scale: TensorLike | None = None,
    epsilon: float = 1e-3,
    axis: int = -1,
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Normalise each channel by its mean and variance over all other axes.

    The gradient includes the paths through both statistics.

    Parameters
    ----------
    x : Tensor or array
    offset, scale : Tensor or array, shape (channels,), or None for 0 and 1
    epsilon : float, default 1e-3
        Added to the variance.
    axis : int, default -1
        The axis of channels.

    Returns
    -------
    y : Tensor or array
        ``scale * (x - mean) / sqrt(variance + epsilon) + offset``
    mean, variance : ndarray, shape (channels,)
        The statistics, for moving averages; the variance is the biased one (divided by the count).

    References
    ----------
    Ioffe & Szegedy, arXiv:1502.03167, algorithm 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> y, mean, variance = ops.batch_normalization_training([[1.0], [3.0]], epsilon=0.0)
    >>> y.tolist(), mean.tolist(), variance.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    shape = channel_shape(x, axis)
    axis = normalize_axis_index(axis, len(shape))
    axes = tuple(i for i in range(len(shape)) if i != axis)
    operands = (x, per_channel(scale, shape), per_channel(offset, shape))
    y, statistics = standardize("batch_standardize", operands, axes, epsilon)
    return y, statistics["mean"].reshape(-1), statistics["variance"].reshape(-1)


def layer_normalization(
    x: TensorLike,
    offset: TensorLike | None = None,
    scale: TensorLike | None = None,
    epsilon: float = 1e-3,
    axis: int | tuple[int, ...] = -1,
) -> Any:
    """Normalise each sample by its mean and variance over ``axis``.

    Parameters
    ----------
    x : Tensor or array
    offset, scale : Tensor or array, or None for 0 and 1
        Shape of ``x`` along ``axis``, axes in ascending order.
    epsilon : float, default 1e-3
        Added to the variance.
    axis : int or tuple of int, default -1
        The axes to normalise over.

    References
    ----------
    Ba et al., arXiv:1607.06450, section 3.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.layer_normalization([[1.0, 3.0], [5.0, 5.0]], epsilon=1e-9).round(3).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    shape = np.shape(values(x))
    axes = tuple(sorted(normalize_axis_tuple(axis, len(shape))))
    inner = tuple(n if i in axes else 1 for i, n in enumerate(shape))
    operands = (x, per_channel(scale, inner), per_channel(offset, inner))
    return standardize("layer_standardize", operands, axes, epsilon)[0]


def standardize(
    name: str, operands: tuple[Any, ...], axes: tuple[int, ...], epsilon: float
) -> tuple[Any, dict[str, np.ndarray]]:
    """Run and record a normalisation by the statistics of its input."""
    arrays = to_arrays(name, operands)
    y, statistics = formulas.standardize(arrays[0], arrays[1], arrays[2], axes, epsilon)
    return record(name, y, operands, arrays, axes=axes, **statistics), statistics


def dropout(x: TensorLike, rate: float, rng: np.random.Generator, noise_shape: tuple[int, ...] | None = None) -> Any:
    """Set a random part of ``x`` to 0 and scale the rest by ``1 / (1 - rate)``, so that the mean stays.

    Parameters
    ----------
    x : Tensor or array
    rate : float, 0 <= rate < 1
        Probability of each element to be dropped.
    rng : numpy.random.Generator
        Source of the choice.
    noise_shape : tuple of int, optional
        Shape of the choice, broadcast against ``x``: 1 along axes that share it.

    Raises
    ------
    ValueError
        If ``rate`` is not in [0, 1).

    References
    ----------
    Srivastava et al., JMLR 15 (2014), section 10: the inverted form.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import ops
    >>> y = ops.dropout(np.ones(1000), 0.5, np.random.default_rng(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1. Received: rate={rate}")
    shape = np.shape(values(x)) if noise_shape is None else noise_shape
    mask = rng.random(shape, dtype=np.float32) >= rate
    return apply("dropout", formulas.dropout, (x,), mask=mask, factor=1.0 / (1.0 - rate))
