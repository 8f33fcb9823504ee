"""Gradients of convolutions, written as convolutions.

A convolution y = conv(x, k) is linear in x and in k.  With g the gradient with respect to y, the two backward passes
are its input gradient and its kernel gradient, and these are linear in turn: every row below is one of the three
again, with the roles of the arrays exchanged.  A transposed convolution is the input gradient of its mirrored
convolution, a depthwise one a grouped convolution with one group per channel.

``options`` holds strides, padding, dilation_rate, groups, data_format and padding_mode as the call had them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv import functional
from numbaconv.algorithms.channel_sums import channel_sums, relu_gradient_sums
from numbaconv.spec import ConvSpec, resolve_conv_transpose

Options = dict[str, Any]
Shape = tuple[int, ...]


def conv(x: np.ndarray, kernel: np.ndarray, options: Options) -> np.ndarray:
    """Convolve."""
    return functional.conv.array_function(x, kernel, **options)


def conv_input_grad(g: np.ndarray, kernel: np.ndarray, x_shape: Shape, options: Options) -> np.ndarray:
    """With y = conv(x, k): dx."""
    return functional.conv_input_grad.array_function(g, kernel, x_shape, **options)


def conv_kernel_grad(g: np.ndarray, x: np.ndarray, kernel_shape: Shape, options: Options) -> np.ndarray:
    """With y = conv(x, k): dk."""
    return functional.conv_kernel_grad.array_function(x, g, kernel_shape, **options)


def channels_last(array: np.ndarray, data_format: str) -> np.ndarray:
    """Return an array with channels last in C order, a view where it lies so."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if data_format == "channels_first" else array)


def bias_grad(g: np.ndarray, options: Options) -> np.ndarray:
    """Sum over everything but the channels."""
    return channel_sums(channels_last(g, options["data_format"]))


def bias_relu_grad(g: np.ndarray, y: np.ndarray, data_format: str) -> tuple[np.ndarray, np.ndarray]:
    """With y = relu(x + bias): dx = g where y > 0, else 0, and its sum over everything but the channels."""
    kept, sums = relu_gradient_sums(channels_last(g, data_format), channels_last(y, data_format))
    return np.moveaxis(kept, -1, 1) if data_format == "channels_first" else kept, sums


# ---- depthwise: kernel (*k, channels, multiplier) is the grouped kernel (*k, 1, channels * multiplier) --------------


def grouped(kernel_shape: Shape, options: Options) -> tuple[Shape, Options]:
    """Return the kernel shape and the options of the equal grouped convolution."""
    *taps, channels, multiplier = kernel_shape
    return (*taps, 1, channels * multiplier), {**options, "groups": channels}


def depthwise_input_grad(g: np.ndarray, kernel: np.ndarray, x_shape: Shape, options: Options) -> np.ndarray:
    """With y = depthwise_conv(x, k): dx."""
    shape, options = grouped(kernel.shape, options)
    return conv_input_grad(g, kernel.reshape(shape), x_shape, options)


def depthwise_kernel_grad(g: np.ndarray, x: np.ndarray, kernel_shape: Shape, options: Options) -> np.ndarray:
    """With y = depthwise_conv(x, k): dk."""
    shape, options = grouped(kernel_shape, options)
    return conv_kernel_grad(g, x, shape, options).reshape(kernel_shape)


# ---- transposed: y = conv_input_grad of the mirrored convolution, which maps the shape of y to that of x ------------


def mirrored(x_shape: Shape, kernel_shape: Shape, dtype: np.dtype, output_padding: Any, options: Options) -> Options:
    """Return the options of the mirrored convolution."""
    spec: ConvSpec = resolve_conv_transpose(
        x_shape, kernel_shape, output_padding=output_padding, dtype=str(dtype), **options
    )
    return {
        "strides": spec.strides,
        "padding": spec.padding,
        "dilation_rate": spec.dilation,
        "groups": spec.groups,
        "data_format": spec.data_format,
    }


def transposed_input_grad(
    g: np.ndarray, kernel: np.ndarray, x_shape: Shape, output_padding: Any, options: Options
) -> np.ndarray:
    """With y = conv_transpose(x, k): dx = conv(g, k)."""
    return conv(g, kernel, mirrored(x_shape, kernel.shape, g.dtype, output_padding, options))


def transposed_kernel_grad(
    g: np.ndarray, x: np.ndarray, kernel_shape: Shape, output_padding: Any, options: Options
) -> np.ndarray:
    """With y = conv_transpose(x, k): dk = conv_kernel_grad with g as the input and x as the gradient."""
    return conv_kernel_grad(x, g, kernel_shape, mirrored(x.shape, kernel_shape, g.dtype, output_padding, options))
