"""Transposed convolutions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.activations import Activation
from numbaconv.arrays import dtype_name
from numbaconv.dispatch import tensor_function
from numbaconv.functional.calls import find
from numbaconv.functional.convolution import read_arrays, run_engine
from numbaconv.padding import Ints, Padding
from numbaconv.spec import resolve_conv_transpose


@tensor_function
def conv_transpose(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints | None = None,
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    activation: Activation = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Run a convolution backwards, from its result's size to its input's.

    y[n, q, f] = activation(bias[f] + sum of x[n, p, c] * kernel[t, f, c] over the positions p, taps t and channels c
    with q = p * strides + t * dilation_rate - lo): the input gradient of the mirrored convolution, which maps y's size
    to x's. Often called deconvolution.

    With k' = dilation_rate * (k - 1) + 1, an axis of n inputs has these numbers of outputs:

    ============  =============================  ===================================
    padding       output_padding=None            output_padding=op
    ============  =============================  ===================================
    "valid"       (n - 1) * s + max(k', s)       (n - 1) * s + k' + op
    "same"        n * s                          (n - 1) * s + k' % 2 + op
    "causal"      n * s                          (n - 1) * s + 1 + op
    (lo, hi)      (n - 1) * s + k' - lo - hi     (n - 1) * s + k' - lo - hi + op
    ============  =============================  ===================================

    Parameters
    ----------
    x : array or Tensor
        `(batch, *spatial, in_channels)`, or `(batch, in_channels, *spatial)` with `channels_first`, float32 or float64.
    kernel : array or Tensor
        `(*kernel_size, filters // groups, in_channels)` in both data formats, of x's dtype.
    bias : array or Tensor, optional
        `(filters,)`, of x's dtype.
    strides, dilation_rate : int or tuple of int
        One value, or one per spatial axis.
    padding : str, int or tuple
        In the forms of `conv`, but cropping the result: "valid" keeps all of it; "same" crops as TensorFlow and Keras
        do; "causal" crops at the end, so that output q depends on no input after q // strides; a pair (lo, hi) crops
        lo values at the start and hi at the end, as in PyTorch and ONNX.
    output_padding : int or tuple of int, optional
        Further outputs at the end, fewer than `strides`.
    groups : int
        Divides channels and filters into groups that are convolved apart from each other.
    data_format : {"channels_last", "channels_first"}
        Where the channels of `x` and of the result are.
    activation, out
        As in `conv`.

    Returns
    -------
    ndarray or Tensor
        `(batch, *out_spatial, filters)` or `(batch, filters, *out_spatial)`, of x's dtype.

    Raises
    ------
    TypeError, ValueError
        As `conv` does, and where `output_padding` is negative or not below `strides`.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.array([1, 10], np.float32).reshape(1, 2, 1)
    >>> kernel = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    >>> nc.conv_transpose(x, kernel, strides=2).ravel().tolist()
    [1.0, 2.0, 13.0, 20.0, 30.0]
    >>> nc.conv_transpose(x, kernel, strides=2, padding="same").ravel().tolist()
    [1.0, 2.0, 13.0, 20.0]
    >>> nc.conv_transpose(x, kernel, strides=2, padding=1, output_padding=1).ravel().tolist()
    [2.0, 13.0, 20.0, 30.0]
    """
    options = (strides, padding, output_padding, dilation_rate, groups, data_format)
    key, call = find("conv_transpose", x, kernel, bias, options, activation)
    if call is not None and out is None:
        return call(x, kernel, bias)
    x, kernel = read_arrays(x, kernel)
    spec = resolve_conv_transpose(
        x.shape,
        kernel.shape,
        strides=strides,
        padding=padding,
        output_padding=output_padding,
        dilation_rate=dilation_rate,
        groups=groups,
        data_format=data_format,
        dtype=dtype_name(x),
    )
    return run_engine("input_grad", spec, x, kernel, bias, activation, out, key)
