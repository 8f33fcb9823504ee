"""Gradients of a convolution of arrays with respect to its input and to its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv import planner
from numbaconv.arrays import as_array, check_out, check_same_dtype, dtype_name
from numbaconv.dispatch import tensor_function
from numbaconv.functional.calls import find, keep
from numbaconv.padding import Ints, Modes, Padding
from numbaconv.shapes import axis_arithmetic, checked_shape
from numbaconv.spec import ConvSpec, resolve_conv


@tensor_function
def conv_input_grad(
    grad_y: Any,
    kernel: Any,
    input_shape: Sequence[int],
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    out: np.ndarray | None = None,
    algorithm: str | None = None,
) -> np.ndarray:
    """Return the gradient of a convolution with respect to its input.

    gx[n, q, c] = sum of grad_y[n, p, f] * kernel[t, c, f] over all p, t and f for which `conv` read x[n, q, c] at tap t
    for y[n, p, f], through the padding as well where its mode copies values of x.

    Parameters
    ----------
    grad_y : array or Tensor
        Gradient with respect to the result of `conv(x, kernel, ...)`, of its shape; float32 or float64.
    kernel : array or Tensor
        `(*kernel_size, in_channels // groups, filters)`, of grad_y's dtype. A depthwise kernel is reshaped to
        `(*kernel_size, 1, in_channels * depth_multiplier)` and goes with groups=in_channels.
    input_shape : tuple of int
        Shape of x.
    strides, padding, dilation_rate, groups, data_format, padding_mode
        As they were in `conv`.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, apart from the inputs' memory.
    algorithm : str, optional
        As in `conv`.

    Returns
    -------
    ndarray or Tensor
        The gradient, of shape `input_shape` and of grad_y's dtype.

    Raises
    ------
    TypeError, ValueError
        As `conv` does, and where grad_y has not the shape of the convolution's result.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> grad_y = np.array([1, 10], np.float32).reshape(1, 2, 1)
    >>> kernel = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    >>> nc.conv_input_grad(grad_y, kernel, (1, 4, 1)).ravel().tolist()
    [1.0, 12.0, 23.0, 30.0]
    """
    options = (input_shape, strides, padding, dilation_rate, groups, data_format, padding_mode, algorithm)
    key, call = find("conv_input_grad", grad_y, kernel, None, options)
    if call is not None and out is None:
        return call(grad_y, kernel)
    grad_y, kernel = as_array(grad_y, "grad_y"), as_array(kernel, "kernel")
    check_same_dtype(grad_y, "grad_y", kernel, "kernel")
    spec = resolve_conv(
        checked_shape(input_shape, "input_shape"),
        kernel.shape,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        groups=groups,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype_name(grad_y),
    )
    _check_grad_y(grad_y, spec)
    check_out(out, spec.x_shape, grad_y.dtype, grad_y=grad_y, kernel=kernel)
    if spec.batch == 0:
        return np.empty(spec.x_shape, grad_y.dtype) if out is None else out
    run = planner.prepare(spec, "input_grad", grad_y, kernel, algorithm=algorithm)
    result = run(grad_y, kernel, out=out)
    keep(key, run)
    return result


@tensor_function
def conv_kernel_grad(
    x: Any,
    grad_y: Any,
    kernel_shape: Sequence[int],
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    algorithm: str | None = None,
) -> np.ndarray:
    """Return the gradient of a convolution with respect to its kernel.

    gk[t, c, f] = sum over n and p of x[n, p * strides + t * dilation_rate - lo, c] * grad_y[n, p, f], with x continued
    into the padding by its mode. The sum is taken in an order that does not depend on the number of threads.

    Parameters
    ----------
    x : array or Tensor
        Input of the convolution, float32 or float64.
    grad_y : array or Tensor
        Gradient with respect to the result of `conv(x, kernel, ...)`, of its shape and x's dtype.
    kernel_shape : tuple of int
        `(*kernel_size, in_channels // groups, filters)`. A depthwise kernel's is
        `(*kernel_size, 1, in_channels * depth_multiplier)` and goes with groups=in_channels.
    strides, padding, dilation_rate, groups, data_format, padding_mode
        As they were in `conv`.
    algorithm : str, optional
        As in `conv`.

    Returns
    -------
    ndarray or Tensor
        The gradient, of shape `kernel_shape` and of x's dtype; zeros where the batch is empty.

    Raises
    ------
    TypeError, ValueError
        As `conv` does, and where grad_y has not the shape of the convolution's result.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1)
    >>> grad_y = np.array([1, 10], np.float32).reshape(1, 2, 1)
    >>> nc.conv_kernel_grad(x, grad_y, (3, 1, 1)).ravel().tolist()
    [21.0, 32.0, 43.0]
    """
    options = (kernel_shape, strides, padding, dilation_rate, groups, data_format, padding_mode, algorithm)
    key, call = find("conv_kernel_grad", x, grad_y, None, options)
    if call is not None:
        return call(x, grad_y)
    x, grad_y = as_array(x, "x"), as_array(grad_y, "grad_y")
    check_same_dtype(x, "x", grad_y, "grad_y")
    spec = resolve_conv(
        x.shape,
        checked_shape(kernel_shape, "kernel_shape"),
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        groups=groups,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype_name(x),
    )
    _check_grad_y(grad_y, spec)
    if spec.batch == 0:
        return np.zeros(spec.kernel_shape, x.dtype)
    run = planner.prepare(spec, "kernel_grad", x, grad_y, algorithm=algorithm)
    result = run(x, grad_y)
    keep(key, run)
    return result


def _check_grad_y(grad_y: np.ndarray, spec: ConvSpec) -> None:
    if grad_y.shape != spec.y_shape:
        axes = ", ".join(
            axis_arithmetic(*axis)
            for axis in zip(spec.in_spatial, spec.padding, spec.dilated_kernel_size, spec.strides)
        )
        raise ValueError(
            f"`grad_y` must have the shape of the convolution's result. Received grad_y.shape={grad_y.shape}, but an x "
            f"of shape {spec.x_shape} and a kernel of shape {spec.kernel_shape} give {spec.y_shape} "
            f"(spatial axes: {axes})."
        )
