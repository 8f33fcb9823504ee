"""Sliding windows over padded arrays, as tables of indices: the geometry under the oracle.

Padding is a table per axis that says which input sample each padded position shows, so that the gradient of any
padding mode is the same table read backwards. Arrays are channels last: `(batch, *spatial, channels)`.
"""

from __future__ import annotations

import numpy as np

ZERO = -1  # entry of a padding table: this position shows a zero


# --- forms of the options --------------------------------------------------------------------------------------------


def per_axis(value, ndim):
    """Give `value` once per spatial axis."""
    return (value,) * ndim if np.isscalar(value) or value is None else tuple(value)


def per_axis_padding(padding, ndim):
    """Give one of `"valid"`, `"same"`, `"causal"`, `n` or `(lo, hi)` per spatial axis."""
    return (padding,) * ndim if isinstance(padding, str | int | np.integer) else tuple(padding)


def padding_amounts(padding, size, kernel, stride, dilation):
    """Zeros before and after one axis of an ordinary convolution or pooling window.

    "same" is TensorFlow's: the output has ceil(size / stride) samples and an odd unit of padding goes to the end.
    """
    extent = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return extent - 1, 0
    if padding == "same":
        out = -(-size // stride)
        total = max((out - 1) * stride + extent - size, 0)
        return total // 2, total - total // 2
    if isinstance(padding, int | np.integer):
        return int(padding), int(padding)
    lo, hi = padding
    return int(lo), int(hi)


def output_size(size, kernel, stride, dilation, lo, hi):
    """Number of positions a dilated kernel takes on a padded axis."""
    return (size + lo + hi - ((kernel - 1) * dilation + 1)) // stride + 1


def padding_table(size, lo, hi, mode):
    """Index of the input sample that each padded position shows, or ZERO."""
    table = []
    for position in range(-lo, size + hi):
        if 0 <= position < size:
            table.append(position)
        elif mode == "zeros":
            table.append(ZERO)
        elif mode == "replicate":
            table.append(0 if position < 0 else size - 1)
        elif mode == "circular":
            table.append(position % size)
        elif mode == "reflect":
            table.append(-position if position < 0 else 2 * (size - 1) - position)
        else:
            raise ValueError(mode)
    return np.array(table, dtype=np.int64)


# --- padding and its adjoint -----------------------------------------------------------------------------------------


def pad(x, tables, fill=0.0):
    """Build the padded array: position p of axis a shows `x` at `tables[a][p]`."""
    for axis, table in enumerate(tables, start=1):
        x = np.moveaxis(x, axis, 0)
        padded = np.full((len(table), *x.shape[1:]), fill)
        shown = table != ZERO
        padded[shown] = x[table[shown]]
        x = np.moveaxis(padded, 0, axis)
    return x


def pad_adjoint(grad, tables, sizes):
    """Add every padded position's gradient to the sample it shows."""
    for axis, (table, size) in enumerate(zip(tables, sizes, strict=True), start=1):
        grad = np.moveaxis(grad, axis, 0)
        total = np.zeros((size, *grad.shape[1:]))
        for position, sample in enumerate(table):
            if sample != ZERO:
                total[sample] += grad[position]
        grad = np.moveaxis(total, 0, axis)
    return grad


class Window:
    """The geometry of one sliding window over a padded, channels-last array."""

    def __init__(self, spatial, kernel_size, strides, padding, dilation_rate=1, padding_mode="zeros"):
        ndim = len(spatial)
        self.spatial = tuple(spatial)
        self.kernel_size = tuple(kernel_size)
        self.strides = per_axis(strides, ndim)
        self.dilation = per_axis(dilation_rate, ndim)
        modes = (padding_mode,) * ndim if isinstance(padding_mode, str) else tuple(padding_mode)
        axes = list(zip(self.spatial, self.kernel_size, self.strides, self.dilation, strict=True))
        self.amounts = [padding_amounts(p, *a) for p, a in zip(per_axis_padding(padding, ndim), axes, strict=True)]
        self.tables = [padding_table(n, lo, hi, m) for n, (lo, hi), m in zip(spatial, self.amounts, modes, strict=True)]
        self.out = tuple(output_size(*a, lo, hi) for a, (lo, hi) in zip(axes, self.amounts, strict=True))

    def taps(self):
        """Yield each tap and the slices of the padded array it touches, one sample per output position."""
        for tap in np.ndindex(*self.kernel_size):
            slices = [
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, o, s in zip(tap, self.dilation, self.out, self.strides, strict=True)
            ]
            yield tap, (slice(None), *slices)
