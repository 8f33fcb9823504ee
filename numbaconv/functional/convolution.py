"""Convolutions of arrays: ordinary and grouped, depthwise and separable."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np

from numbaconv import planner
from numbaconv.activations import Activation, find_activation, relu
from numbaconv.arrays import as_array, check_bias, check_out, check_same_dtype, dtype_name
from numbaconv.dispatch import tensor_function
from numbaconv.functional.calls import Run, find, keep
from numbaconv.fusing import FusedActivation
from numbaconv.padding import Ints, Modes, Padding
from numbaconv.spec import ConvSpec, resolve_conv, resolve_depthwise


@tensor_function
def conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    activation: Activation = None,
    out: np.ndarray | None = None,
    algorithm: str | None = None,
) -> np.ndarray:
    """Convolve in any number of spatial axes.

    y[n, p, f] = activation(bias[f] + sum over t, c of x[n, p * strides + t * dilation_rate - lo, c] * kernel[t, c, f]),
    with p and t running over positions and taps of all spatial axes, and c over the input channels of f's group. The
    kernel is not flipped, as everywhere in deep learning. An axis of n inputs has
    floor((n + lo + hi - dilation_rate * (k - 1) - 1) / strides) + 1 outputs.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, in_channels)`, or `(batch, in_channels, *spatial)` with `channels_first`, float32 or
        float64. Anything with `__array__` or `__dlpack__` is an array, with any strides, read-only or not.
    kernel : array or Tensor
        `(*kernel_size, in_channels // groups, filters)` in both data formats, of x's dtype. Its rank decides the
        number of spatial axes.
    bias : array or Tensor, optional
        `(filters,)`, of x's dtype.
    strides, dilation_rate : int or tuple of int
        One value, or one per spatial axis. Both may be above 1 at once.
    padding : str, int or tuple
        "valid" (none), "same" (TensorFlow's: ceil(n / strides) outputs, the odd unit at the end), "causal" (all of
        dilation_rate * (k - 1) before), an int for both ends of every axis, or a tuple with one of these or a pair
        (lo, hi) per spatial axis. Elements of a tuple belong to axes: `(1, 2)` on two axes pads the first by 1 and
        the second by 2, at both ends. On a single axis, `(1, 2)` is its pair (lo, hi).
    groups : int
        Divides channels and filters into groups that are convolved apart from each other.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.
    padding_mode : str or tuple of str
        What the padding holds, one or one per spatial axis: "zeros"; "reflect", x mirrored about its first and last
        values; "replicate", these values repeated; "circular", x from its other end.
    activation : str or callable, optional
        A name, such as "relu"; a `numba.njit` function of one number or a `fused_activation`, compiled into the
        convolution; or any other function, applied to the whole result.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, apart from the inputs' memory.
    algorithm : {"direct", "winograd", "depthwise"}, optional
        What to compute with; the fastest by estimate unless given. Gradients of a recorded call use it too. "direct"
        rounds least, see `numbaconv.config`.

    Returns
    -------
    ndarray or Tensor
        `(batch, *out_spatial, filters)` or `(batch, filters, *out_spatial)`, of x's dtype.

    Raises
    ------
    TypeError
        If an array is not of float32 or float64, two are not of the same dtype, or a size is no integer.
    ValueError
        If ranks or channels do not fit, `groups` does not divide them, a size is not positive, the result would be
        empty, a padding mode needs more input than there is, a name is unknown, `out` does not fit, or `algorithm`
        cannot run the call.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, sections 2 and 5.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    >>> kernel = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    >>> nc.conv(x, kernel).ravel().tolist()
    [8.0, 14.0, 20.0]
    >>> nc.conv(x, kernel, strides=2, padding="same").ravel().tolist()
    [3.0, 14.0, 11.0]
    >>> nc.conv(x, kernel, padding="causal", dilation_rate=2).ravel().tolist()
    [0.0, 3.0, 6.0, 11.0, 16.0]
    >>> nc.conv(np.ones((2, 8, 8, 3)), np.ones((3, 3, 3, 4)), padding=("same", (0, 2))).shape
    (2, 8, 8, 4)
    """
    options = (strides, padding, dilation_rate, groups, data_format, padding_mode, algorithm)
    key, call = find("conv", x, kernel, bias, options, activation)
    if call is not None and out is None:
        return call(x, kernel, bias)
    x, kernel = read_arrays(x, kernel)
    spec = resolve_conv(
        x.shape,
        kernel.shape,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        groups=groups,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype_name(x),
    )
    return run_engine("forward", spec, x, kernel, bias, activation, out, key, algorithm)


@tensor_function
def depthwise_conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    activation: Activation = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve every channel with kernels of its own.

    y[n, p, c * depth_multiplier + m] is the convolution of channel c alone with kernel[..., c, m]. Equal to `conv` with
    groups=in_channels and the kernel reshaped to `(*kernel_size, 1, in_channels * depth_multiplier)`, which is also
    how `conv_input_grad` and `conv_kernel_grad` take it.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, in_channels)`, or `(batch, in_channels, *spatial)` with `channels_first`, float32 or float64.
    kernel : array or Tensor
        `(*kernel_size, in_channels, depth_multiplier)` in both data formats, of x's dtype.
    bias : array or Tensor, optional
        `(in_channels * depth_multiplier,)`, of x's dtype.
    strides, padding, dilation_rate, data_format, padding_mode, activation, out
        As in `conv`.

    Returns
    -------
    ndarray or Tensor
        The result with in_channels * depth_multiplier channels, in x's data format and dtype.

    Raises
    ------
    TypeError, ValueError
        As `conv` does.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([[1, 10], [2, 20], [3, 30]], np.float32)[None]
    >>> kernel = np.array([[1, 0], [1, 1]], np.float32).reshape(2, 2, 1)
    >>> nc.depthwise_conv(x, kernel).tolist()
    [[[3.0, 20.0], [5.0, 30.0]]]
    """
    options = (strides, padding, dilation_rate, data_format, padding_mode)
    key, call = find("depthwise_conv", x, kernel, bias, options, activation)
    if call is not None and out is None:
        return call(x, kernel, bias)
    x, kernel = read_arrays(x, kernel)
    spec = resolve_depthwise(
        x.shape,
        kernel.shape,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype_name(x),
    )
    return run_engine("forward", spec, x, kernel, bias, activation, out, key)


@tensor_function
def separable_conv(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    bias: Any = None,
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    activation: Activation = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve every channel with kernels of its own, then mix the channels of each position.

    Equal to `depthwise_conv(x, depthwise_kernel, ...)` followed by `conv(..., pointwise_kernel, bias, activation)`.

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, in_channels)`, or `(batch, in_channels, *spatial)` with `channels_first`, float32 or float64.
    depthwise_kernel : array or Tensor
        `(*kernel_size, in_channels, depth_multiplier)`, of x's dtype.
    pointwise_kernel : array or Tensor
        `(1, ..., 1, in_channels * depth_multiplier, filters)`, of x's dtype.
    bias : array or Tensor, optional
        `(filters,)`, of x's dtype.
    strides, padding, dilation_rate, padding_mode
        As in `conv`, for the depthwise part.
    data_format, activation, out
        As in `conv`.

    Returns
    -------
    ndarray or Tensor
        The result with `filters` channels, in x's data format and dtype.

    Raises
    ------
    TypeError, ValueError
        As `conv` does, and where `pointwise_kernel` has taps or channels that do not fit.

    References
    ----------
    Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, section 1.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([[1, 10], [2, 20], [3, 30]], np.float32)[None]
    >>> depthwise = np.ones((2, 2, 1), np.float32)
    >>> pointwise = np.array([1, 0.5], np.float32).reshape(1, 2, 1)
    >>> nc.separable_conv(x, depthwise, pointwise).ravel().tolist()
    [18.0, 30.0]
    """
    x, depthwise_kernel = read_arrays(x, depthwise_kernel, "depthwise_kernel")
    x, pointwise_kernel = read_arrays(x, pointwise_kernel, "pointwise_kernel")
    spec = resolve_depthwise(
        x.shape,
        depthwise_kernel.shape,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype_name(x),
    )
    expected = (1,) * spec.ndim + (spec.out_channels,)
    if pointwise_kernel.shape[:-1] != expected:
        sizes = ", ".join(str(size) for size in expected)
        raise ValueError(
            f"`pointwise_kernel` must have one tap per spatial axis and in_channels * depth_multiplier input channels: "
            f"shape ({sizes}, filters) for a depthwise_kernel of shape {depthwise_kernel.shape}. Received "
            f"pointwise_kernel.shape={pointwise_kernel.shape}."
        )
    mixing = resolve_conv(spec.y_shape, pointwise_kernel.shape, data_format=data_format, dtype=spec.dtype)
    # Checked here as well, so that the depthwise part does not run for nothing.
    check_bias(bias, mixing.out_channels, x)
    check_out(out, mixing.y_shape, x.dtype, x=x)
    find_activation(activation)
    between = run_engine("forward", spec, x, depthwise_kernel, None, None, None)
    return run_engine("forward", mixing, between, pointwise_kernel, bias, activation, out)


def read_arrays(x: Any, kernel: Any, kernel_name: str = "kernel") -> tuple[np.ndarray, np.ndarray]:
    """Return x and a kernel as arrays of one dtype."""
    x, kernel = as_array(x, "x"), as_array(kernel, kernel_name)
    check_same_dtype(x, "x", kernel, kernel_name)
    return x, kernel


def run_engine(
    direction: str,
    spec: ConvSpec,
    x: np.ndarray,
    kernel: np.ndarray,
    bias: Any,
    activation: Activation,
    out: np.ndarray | None,
    key: Hashable = None,
    algorithm: str | None = None,
) -> np.ndarray:
    """Check what the spec does not know, run the engine, and apply the activation that it does not fuse.

    What ran is kept for calls of the same ``key``.
    """
    shape, filters = (spec.y_shape, spec.out_channels) if direction == "forward" else (spec.x_shape, spec.in_channels)
    bias = check_bias(bias, filters, x)
    check_out(out, shape, x.dtype, x=x, kernel=kernel, bias=bias)
    function = find_activation(activation)
    if spec.batch == 0:
        return np.empty(shape, x.dtype) if out is None else out
    fused = "relu" if function is relu else function if isinstance(function, FusedActivation) else None
    shaped = kernel.reshape(spec.kernel_shape)
    run: Run = planner.prepare(spec, direction, x, shaped, bias, fused, algorithm)
    result = run(x, shaped, bias, out)
    if shaped.shape != kernel.shape:
        run = partial(_run_reshaped, run, spec.kernel_shape)
    if function is not None and not fused:
        run = partial(_run_then, run, function)
        result = function(result)
        if out is not None:
            out[...] = result
            result = out
    keep(key, run)
    return result


def _run_reshaped(
    run: Run, shape: tuple[int, ...], x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    return run(x, kernel.reshape(shape), bias)


def _run_then(
    run: Run,
    function: Callable[[Any], Any],
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None,
) -> np.ndarray:
    return function(run(x, kernel, bias))
