"""Convolutions and pooling written as plainly as NumPy allows, in float64.

Nothing of numbaconv is imported here: the tests compare the engine with these functions. Every one is a loop over the
taps of the kernel. Gradients are the written-out adjoints (scatter where the forward pass gathers), never another
convolution. Inside, arrays are always channels last: `(batch, *spatial, channels)`.
"""

from __future__ import annotations

import numpy as np
from oracle_windows import Window, pad, pad_adjoint, padding_amounts, per_axis, per_axis_padding

# --- layouts ---------------------------------------------------------------------------------------------------------


def to_channels_last(x, data_format):
    """Copy to float64, channels last."""
    x = np.array(x, dtype=np.float64)
    return np.moveaxis(x, 1, -1) if data_format == "channels_first" else x


def from_channels_last(y, data_format):
    """Give a channels-last result in the caller's layout."""
    return np.moveaxis(y, -1, 1) if data_format == "channels_first" else y


def by_group(a, groups):
    """Split channels into groups: `(..., groups * c)` to `(groups, positions, c)`."""
    return a.reshape(-1, groups, a.shape[-1] // groups).transpose(1, 0, 2)


def from_groups(a, leading):
    """Undo `by_group`: `(groups, positions, c)` to `(*leading, groups * c)`."""
    groups, _, channels = a.shape
    return a.transpose(1, 0, 2).reshape(*leading, groups * channels)


def tap_matrices(weights, groups):
    """One tap's weights as a matrix per group: `(cin / groups, cout)` to `(groups, cin / groups, cout / groups)`."""
    cin, cout = weights.shape
    return weights.reshape(cin, groups, cout // groups).transpose(1, 0, 2)


def finish(y, bias, activation):
    """Add the bias and apply the activation."""
    if bias is not None:
        y = y + np.asarray(bias, dtype=np.float64)
    if activation == "relu":
        y = np.where(y < 0, 0.0, y)
    return y


# --- convolution -----------------------------------------------------------------------------------------------------


def conv(
    x,
    kernel,
    bias=None,
    *,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
    padding_mode="zeros",
    activation=None,
):
    """y[p, o] = sum over taps t and channels i of the group of o: x[p * stride + t * dilation, i] * kernel[t, i, o]."""
    x = to_channels_last(x, data_format)
    kernel = np.asarray(kernel, dtype=np.float64)
    window = Window(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation_rate, padding_mode)
    padded = pad(x, window.tables)
    leading = (x.shape[0], *window.out)
    y = np.zeros((*leading, kernel.shape[-1]))
    for tap, touched in window.taps():
        y += from_groups(by_group(padded[touched], groups) @ tap_matrices(kernel[tap], groups), leading)
    return from_channels_last(finish(y, bias, activation), data_format)


def conv_input_grad(
    grad_y,
    kernel,
    input_shape,
    *,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
    padding_mode="zeros",
):
    """Scatter: each output position gives kernel[t, i, o] * grad_y[p, o] to every input sample it read."""
    grad_y = to_channels_last(grad_y, data_format)
    kernel = np.asarray(kernel, dtype=np.float64)
    spatial = input_shape[2:] if data_format == "channels_first" else input_shape[1:-1]
    window = Window(spatial, kernel.shape[:-2], strides, padding, dilation_rate, padding_mode)
    channels = kernel.shape[-2] * groups
    padded = np.zeros((grad_y.shape[0], *(len(t) for t in window.tables), channels))
    for tap, touched in window.taps():
        transposed = tap_matrices(kernel[tap], groups).transpose(0, 2, 1)
        padded[touched] += from_groups(by_group(grad_y, groups) @ transposed, grad_y.shape[:-1])
    return from_channels_last(pad_adjoint(padded, window.tables, spatial), data_format)


def conv_kernel_grad(
    x,
    grad_y,
    kernel_shape,
    *,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
    padding_mode="zeros",
):
    """Sum over positions: kernel[t, i, o] collects x[p * stride + t * dilation, i] * grad_y[p, o]."""
    x = to_channels_last(x, data_format)
    grad_y = to_channels_last(grad_y, data_format)
    window = Window(x.shape[1:-1], kernel_shape[:-2], strides, padding, dilation_rate, padding_mode)
    padded = pad(x, window.tables)
    grad = np.zeros(kernel_shape)
    for tap, touched in window.taps():
        product = by_group(padded[touched], groups).transpose(0, 2, 1) @ by_group(grad_y, groups)
        grad[tap] = product.transpose(1, 0, 2).reshape(kernel_shape[-2:])
    return grad


# --- transposed convolution ------------------------------------------------------------------------------------------


def transposed_axis(size, kernel, stride, dilation, padding, output_padding):
    """Samples cut before the first output sample, and the output size, of one axis of a transposed convolution.

    The full scatter has (size - 1) * stride + extent samples. Keras's "same" and "valid" without `output_padding`
    and its "same" with one are the three cases of its `compute_conv_transpose_padding_args`; explicit padding cuts
    the full scatter at both ends, as PyTorch and ONNX do.
    """
    extent = (kernel - 1) * dilation + 1
    full = (size - 1) * stride + extent
    if padding == "valid":
        extra = max(stride - extent, 0) if output_padding is None else output_padding
        return 0, full + extra
    if padding == "same":
        if output_padding is None:
            out, total = size * stride, extent + stride - 2
        else:
            out, total = full - extent + extent % 2 + output_padding, extent + extent % 2 - 2 + output_padding
        before = min((total + 1) // 2, extent - 1)  # padding before the zero-stuffed input
        return extent - 1 - before, out
    if padding == "causal":  # nothing before, and what reaches beyond the last input's own samples is cut
        return 0, size * stride if output_padding is None else (size - 1) * stride + 1 + output_padding
    lo, hi = padding_amounts(padding, size, kernel, stride, dilation)
    return lo, full - lo - hi + (output_padding or 0)


def conv_transpose(
    x,
    kernel,
    bias=None,
    *,
    strides=1,
    padding="valid",
    output_padding=None,
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
    activation=None,
):
    """Scatter: each input position p adds x[p, i] * kernel[t, o, i] at p * stride + t * dilation; then cut."""
    x = to_channels_last(x, data_format)
    kernel = np.asarray(kernel, dtype=np.float64)
    ndim = x.ndim - 2
    kernel_size, strides, dilation = kernel.shape[:-2], per_axis(strides, ndim), per_axis(dilation_rate, ndim)
    axes = list(zip(x.shape[1:-1], kernel_size, strides, dilation, strict=True))
    cuts = [
        transposed_axis(*axis, p, q)
        for axis, p, q in zip(axes, per_axis_padding(padding, ndim), per_axis(output_padding, ndim), strict=True)
    ]
    full = [max((n - 1) * s + (k - 1) * d + 1, lo + out) for (n, k, s, d), (lo, out) in zip(axes, cuts, strict=True)]
    scattered = np.zeros((x.shape[0], *full, kernel.shape[-2] * groups))
    for tap in np.ndindex(*kernel_size):
        touched = tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, (n, _, s, d) in zip(tap, axes, strict=True))
        transposed = tap_matrices(kernel[tap], groups).transpose(0, 2, 1)
        scattered[(slice(None), *touched)] += from_groups(by_group(x, groups) @ transposed, x.shape[:-1])
    y = scattered[(slice(None), *(slice(lo, lo + out) for lo, out in cuts))]
    return from_channels_last(finish(y, bias, activation), data_format)


# --- depthwise and separable -----------------------------------------------------------------------------------------


def depthwise_conv(
    x,
    kernel,
    bias=None,
    *,
    strides=1,
    padding="valid",
    dilation_rate=1,
    data_format="channels_last",
    padding_mode="zeros",
    activation=None,
):
    """Convolve each channel c with its own kernels m; output channel c * multiplier + m."""
    x = to_channels_last(x, data_format)
    kernel = np.asarray(kernel, dtype=np.float64)
    channels, multiplier = kernel.shape[-2:]
    window = Window(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation_rate, padding_mode)
    padded = pad(x, window.tables)
    y = np.zeros((x.shape[0], *window.out, channels, multiplier))
    for tap, touched in window.taps():
        y += padded[touched][..., np.newaxis] * kernel[tap]
    y = y.reshape(*y.shape[:-2], channels * multiplier)
    return from_channels_last(finish(y, bias, activation), data_format)


def separable_conv(
    x,
    depthwise_kernel,
    pointwise_kernel,
    bias=None,
    *,
    strides=1,
    padding="valid",
    dilation_rate=1,
    data_format="channels_last",
    padding_mode="zeros",
    activation=None,
):
    """Depthwise convolution, then a 1x1 convolution that mixes the channels."""
    middle = depthwise_conv(
        x,
        depthwise_kernel,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        data_format=data_format,
        padding_mode=padding_mode,
    )
    return conv(middle, pointwise_kernel, bias, data_format=data_format, activation=activation)


# --- pooling ---------------------------------------------------------------------------------------------------------


def pool_window(x, pool_size, strides, padding):
    """Geometry of a pooling window; strides default to the pool size."""
    ndim = x.ndim - 2
    pool_size = per_axis(pool_size, ndim)
    return Window(x.shape[1:-1], pool_size, pool_size if strides is None else strides, padding)


def max_pool(x, pool_size, *, strides=None, padding="valid", data_format="channels_last"):
    """Largest sample of each window; padding never wins; NaN wins."""
    x = to_channels_last(x, data_format)
    window = pool_window(x, pool_size, strides, padding)
    padded = pad(x, window.tables, fill=-np.inf)
    y = np.full((x.shape[0], *window.out, x.shape[-1]), -np.inf)
    for _, touched in window.taps():
        y = np.maximum(y, padded[touched])
    return from_channels_last(y, data_format)


def max_pool_grad(x, grad_y, pool_size, *, strides=None, padding="valid", data_format="channels_last"):
    """Give each output's gradient to the first sample, in row-major order of the window, that equals the maximum."""
    x = to_channels_last(x, data_format)
    grad_y = to_channels_last(grad_y, data_format)
    window = pool_window(x, pool_size, strides, padding)
    y = max_pool(x, pool_size, strides=strides, padding=padding)
    padded = pad(x, window.tables, fill=-np.inf)
    inside = pad(np.ones_like(x), window.tables) > 0
    grad = np.zeros_like(padded)
    waiting = np.ones(grad_y.shape, dtype=bool)
    for _, touched in window.taps():
        chosen = waiting & inside[touched] & (padded[touched] == y)
        grad[touched] += np.where(chosen, grad_y, 0.0)
        waiting &= ~chosen
    return from_channels_last(pad_adjoint(grad, window.tables, x.shape[1:-1]), data_format)


def average_pool(x, pool_size, *, strides=None, padding="valid", data_format="channels_last"):
    """Mean of the samples of each window that are not padding."""
    x = to_channels_last(x, data_format)
    window = pool_window(x, pool_size, strides, padding)
    padded = pad(x, window.tables)
    total = np.zeros((x.shape[0], *window.out, x.shape[-1]))
    for _, touched in window.taps():
        total += padded[touched]
    return from_channels_last(total / samples_in_window(window), data_format)


def average_pool_grad(input_shape, grad_y, pool_size, *, strides=None, padding="valid", data_format="channels_last"):
    """Share each output's gradient equally among the samples of its window that are not padding."""
    grad_y = to_channels_last(grad_y, data_format)
    x = to_channels_last(np.zeros(input_shape), data_format)
    window = pool_window(x, pool_size, strides, padding)
    share = grad_y / samples_in_window(window)
    grad = np.zeros((x.shape[0], *(len(t) for t in window.tables), x.shape[-1]))
    for _, touched in window.taps():
        grad[touched] += share
    return from_channels_last(pad_adjoint(grad, window.tables, x.shape[1:-1]), data_format)


def samples_in_window(window):
    """Count, per output position, the samples that are not padding; shape `(1, *out, 1)`."""
    inside = pad(np.ones((1, *window.spatial, 1)), window.tables)
    return sum(inside[touched] for _, touched in window.taps())


def global_max_pool(x, *, data_format="channels_last"):
    """Largest sample of each channel."""
    x = to_channels_last(x, data_format)
    return x.max(axis=tuple(range(1, x.ndim - 1)))


def global_average_pool(x, *, data_format="channels_last"):
    """Mean of each channel."""
    x = to_channels_last(x, data_format)
    return x.mean(axis=tuple(range(1, x.ndim - 1)))
