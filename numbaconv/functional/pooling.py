"""Maxima and averages over windows of any number of spatial axes."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any

import numpy as np

from numbaconv.algorithms import pooling as engine
from numbaconv.arrays import as_array, check_out, dtype_name
from numbaconv.dispatch import tensor_function
from numbaconv.functional.calls import Run, find, keep
from numbaconv.padding import Ints, Padding, sizes
from numbaconv.pool_spec import pooled_axes
from numbaconv.spec import PoolSpec, resolve_pool


@tensor_function
def max_pool(
    x: Any,
    pool_size: Ints,
    *,
    strides: Ints | None = None,
    padding: Padding = "valid",
    data_format: str = "channels_last",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Take the maximum of every window.

    y[n, p, c] = max over t of x[n, p * strides + t - lo, c], with t from 0 to pool_size - 1 on each spatial axis and
    positions outside of x left out.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, of any number of spatial
        axes, float32 or float64.
    pool_size : int or tuple of int
        Size of the window, one or one per spatial axis.
    strides : int or tuple of int, optional
        Distance between windows, `pool_size` where None.
    padding : str, int or tuple
        As in `conv`; the padding must be smaller than the window.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.
    out : ndarray, optional
        Where to write the result.

    Returns
    -------
    ndarray or Tensor
        The maxima, in the data format and dtype of `x`. A NaN in a window makes its maximum NaN.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64, or a size is no integer.
    ValueError
        If `x` has no spatial axis, a size is not positive, a window would hold no value, or `out` does not fit.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 5, 2, 4, 3], np.float32).reshape(1, 5, 1)
    >>> nc.max_pool(x, 2).ravel().tolist()
    [5.0, 4.0]
    >>> nc.max_pool(x, 2, padding="same").ravel().tolist()
    [5.0, 4.0, 3.0]
    """
    key, call = find("max_pool", x, x, None, (pool_size, strides, padding, data_format))
    if call is not None and out is None:
        return call(x)
    array, spec = _problem(x, pool_size, strides, padding, data_format)
    return _run(engine.max_pool, spec, array, out, key)


@tensor_function
def average_pool(
    x: Any,
    pool_size: Ints,
    *,
    strides: Ints | None = None,
    padding: Padding = "valid",
    data_format: str = "channels_last",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Take the mean of every window.

    y[n, p, c] = mean over t of x[n, p * strides + t - lo, c], with t from 0 to pool_size - 1 on each spatial axis.
    Positions outside of x are left out: they count neither in the sum nor in the number it is divided by, as in Keras
    and ONNX and unlike PyTorch's default.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, of any number of spatial
        axes, float32 or float64.
    pool_size : int or tuple of int
        Size of the window, one or one per spatial axis.
    strides : int or tuple of int, optional
        Distance between windows, `pool_size` where None.
    padding : str, int or tuple
        As in `conv`; the padding must be smaller than the window.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.
    out : ndarray, optional
        Where to write the result.

    Returns
    -------
    ndarray or Tensor
        The means, in the data format and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64, or a size is no integer.
    ValueError
        If `x` has no spatial axis, a size is not positive, a window would hold no value, or `out` does not fit.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 5, 2, 4, 3], np.float32).reshape(1, 5, 1)
    >>> nc.average_pool(x, 2, padding="same").ravel().tolist()
    [3.0, 3.0, 3.0]
    """
    key, call = find("average_pool", x, x, None, (pool_size, strides, padding, data_format))
    if call is not None and out is None:
        return call(x)
    array, spec = _problem(x, pool_size, strides, padding, data_format)
    return _run(engine.average_pool, spec, array, out, key)


@tensor_function
def global_max_pool(x: Any, *, keepdims: bool = False, data_format: str = "channels_last") -> np.ndarray:
    """Take the maximum over all spatial axes.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, float32 or float64.
    keepdims : bool
        Whether to keep the spatial axes with size 1.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` are.

    Returns
    -------
    ndarray or Tensor
        `(batch, channels)`, or `x`'s shape with spatial sizes of 1.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64.
    ValueError
        If `x` has no spatial axis, or is empty except in its batch.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    >>> nc.global_max_pool(x).tolist()
    [[10.0, 11.0]]
    """
    return _global(max_pool.array_function, x, keepdims, data_format)


@tensor_function
def global_average_pool(x: Any, *, keepdims: bool = False, data_format: str = "channels_last") -> np.ndarray:
    """Take the mean over all spatial axes.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, float32 or float64.
    keepdims : bool
        Whether to keep the spatial axes with size 1.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` are.

    Returns
    -------
    ndarray or Tensor
        `(batch, channels)`, or `x`'s shape with spatial sizes of 1.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64.
    ValueError
        If `x` has no spatial axis, or is empty except in its batch.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    >>> nc.global_average_pool(x).tolist()
    [[5.0, 6.0]]
    """
    return _global(average_pool.array_function, x, keepdims, data_format)


@tensor_function
def adaptive_max_pool(x: Any, output_size: Ints, *, data_format: str = "channels_last") -> np.ndarray:
    """Take the maximum of windows chosen so that the result has a given size.

    Window i of an axis of n inputs and o outputs runs from floor(i * n / o) to ceil((i + 1) * n / o) - 1, as in Keras
    and PyTorch.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, float32 or float64.
    output_size : int or tuple of int
        Size of the result, one or one per spatial axis.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.

    Returns
    -------
    ndarray or Tensor
        The maxima, in the data format and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64, or `output_size` holds no integers.
    ValueError
        If `x` has no spatial axis or is empty except in its batch, or a size is not positive.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 5, 2, 4, 3], np.float32).reshape(1, 5, 1)
    >>> nc.adaptive_max_pool(x, 3).ravel().tolist()
    [5.0, 5.0, 4.0]
    """
    return _adaptive(np.maximum, max_pool.array_function, x, output_size, data_format)


@tensor_function
def adaptive_average_pool(x: Any, output_size: Ints, *, data_format: str = "channels_last") -> np.ndarray:
    """Take the mean of windows chosen so that the result has a given size.

    Window i of an axis of n inputs and o outputs runs from floor(i * n / o) to ceil((i + 1) * n / o) - 1, as in Keras
    and PyTorch.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `channels_first`, float32 or float64.
    output_size : int or tuple of int
        Size of the result, one or one per spatial axis.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.

    Returns
    -------
    ndarray or Tensor
        The means, in the data format and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not of float32 or float64, or `output_size` holds no integers.
    ValueError
        If `x` has no spatial axis or is empty except in its batch, or a size is not positive.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 5, 3, 4, 5], np.float32).reshape(1, 5, 1)
    >>> nc.adaptive_average_pool(x, 2).ravel().tolist()
    [3.0, 4.0]
    """
    return _adaptive(np.add, average_pool.array_function, x, output_size, data_format)


def _problem(x: Any, pool_size: Any, strides: Any, padding: Any, data_format: str) -> tuple[np.ndarray, PoolSpec]:
    array = as_array(x, "x")
    spec = resolve_pool(
        array.shape, pool_size, strides=strides, padding=padding, data_format=data_format, dtype=dtype_name(array)
    )
    return array, spec


def _run(pool: Any, spec: PoolSpec, x: np.ndarray, out: np.ndarray | None, key: Hashable) -> np.ndarray:
    check_out(out, spec.y_shape, x.dtype, x=x)
    if spec.batch:
        run: Run = partial(pool, spec)
        result = run(x)
        keep(key, run)
    else:
        result = np.empty(spec.y_shape, x.dtype)
    if out is None:
        return result
    out[...] = result
    return out


def _global(pool: Any, x: Any, keepdims: bool, data_format: str) -> np.ndarray:
    array = as_array(x, "x")
    shape, channels, spatial = pooled_axes(array.shape, data_format)
    result = pool(array, spatial, data_format=data_format)
    return result if keepdims else result.reshape(shape[0], channels)


def window_bounds(size: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first position of each adaptive window and the one after its last."""
    index = np.arange(outputs)
    return index * size // outputs, -(-(index + 1) * size // outputs)


def _adaptive(combine: np.ufunc, pool: Any, x: Any, output_size: Ints, data_format: str) -> np.ndarray:
    array = as_array(x, "x")
    _, _, spatial = pooled_axes(array.shape, data_format)
    outputs = sizes(output_size, len(spatial), "output_size")
    if all(n % o == 0 for n, o in zip(spatial, outputs)):
        return pool(array, tuple(n // o for n, o in zip(spatial, outputs)), data_format=data_format)
    first = 2 if data_format == "channels_first" else 1
    for axis, (size, count) in enumerate(zip(spatial, outputs), start=first):
        starts, stops = window_bounds(size, count)
        # reduceat reduces from each index to the next, so every second of its results is a window. Indices must lie
        # within the axis; one more position, which no window holds, makes the axis's end an index.
        array = np.concatenate([array, array.take([-1], axis)], axis)
        bounds = np.stack([starts, stops], axis=1).ravel()
        array = combine.reduceat(array, bounds, axis=axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        if combine is np.add:
            lengths = (stops - starts).astype(array.dtype)
            array = array / lengths.reshape((count,) + (1,) * (array.ndim - axis - 1))
    return array
