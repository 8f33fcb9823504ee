"""Arrays of other dtypes, unknown names and unusable `out` arrays: every message in full."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import assert_refused, misaligned, read_only, repeated, z

import numbaconv as nc

X = z(1, 5, 5, 4)

DTYPES = [
    (
        lambda: nc.conv(z(1, 5, 5, 4).astype(np.int64), z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype int64, but computations are in float32 or float64. Write x.astype(np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8).astype(np.float16)),
        TypeError,
        "`kernel` has dtype float16, but computations are in float32 or float64. Write kernel.astype(np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4) > 0, z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype bool, but computations are in float32 or float64. Write x.astype(np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4).astype(complex), z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype complex128, but computations are in float32 or float64. Pass x.real and x.imag one after "
        "the other.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4).astype(object), z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype object, but computations are in float32 or float64. If it holds numbers of one shape, "
        "write np.asarray(x, dtype=np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4).astype(str), z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype <U32, but computations are in float32 or float64. Values of this type are not numbers.",
    ),
    (
        lambda: nc.conv(np.ma.array(z(1, 5, 5, 4)), z(3, 3, 4, 8)),
        TypeError,
        "`x` is a masked array, and masks are not supported. Write x.filled(0).",
    ),
    (
        lambda: nc.conv(None, z(3, 3, 4, 8)),
        TypeError,
        "`x` must be an array. Received None.",
    ),
    (
        lambda: nc.conv("image.png", z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype <U9, but computations are in float32 or float64. Values of this type are not numbers.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8).astype(np.float64)),
        TypeError,
        "`x` has dtype float32 and `kernel` has dtype float64, but both must have the same. Write "
        "kernel.astype(np.float32), or x.astype(np.float64) for double precision.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4).astype(np.float64), z(3, 3, 4, 8)),
        TypeError,
        "`x` has dtype float64 and `kernel` has dtype float32, but both must have the same. Write "
        "x.astype(np.float32), or kernel.astype(np.float64) for double precision.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), np.zeros(8)),
        TypeError,
        "`x` has dtype float32 and `bias` has dtype float64, but both must have the same. Write "
        "bias.astype(np.float32), or x.astype(np.float64) for double precision.",
    ),
    (
        lambda: nc.conv_kernel_grad(z(1, 5, 5, 4), np.zeros((1, 3, 3, 8)), (3, 3, 4, 8)),
        TypeError,
        "`x` has dtype float32 and `grad_y` has dtype float64, but both must have the same. Write "
        "grad_y.astype(np.float32), or x.astype(np.float64) for double precision.",
    ),
    (
        lambda: nc.average_pool(z(1, 5, 4).astype(np.int32), 2),
        TypeError,
        "`x` has dtype int32, but computations are in float32 or float64. Write x.astype(np.float32).",
    ),
]

ACTIVATIONS_AND_NAMES = [
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), activation="rellu"),
        ValueError,
        "Unknown activation: 'rellu'. Did you mean 'relu'? Known names: linear, relu, relu6, leaky_relu, elu, "
        "selu, sigmoid, tanh, softplus, softsign, silu, swish, hard_sigmoid, hard_silu, hard_swish, exponential, "
        "gelu.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), activation=3),
        TypeError,
        "`activation` must be None, a name or a callable. Received 3 of type int.",
    ),
    (
        lambda: nc.explain((1, 5, 5, 4), (3, 3, 4, 8), operation="pool"),
        ValueError,
        "`operation` must be one of 'conv', 'conv_transpose', 'depthwise_conv'. Received: operation='pool'",
    ),
    (
        lambda: nc.explain((1, 5, 5, 4), (3, 3, 4, 8), dtype="float16"),
        ValueError,
        "`dtype` must be 'float32' or 'float64'. Received: dtype='float16'",
    ),
    (
        lambda: nc.explain("5x5", (3, 3, 4, 8)),
        TypeError,
        "`x.shape` must be a tuple of integers. Received x.shape='5x5'",
    ),
    (
        lambda: nc.ConvSpec.parse("ic3oc8"),
        ValueError,
        "`problem` must read like 'mb2_ic4oc8_g2_32x30_k5x3_s2x1_d1x2_p2:2x1:1_mzeros:reflect_ncx_f64', where "
        "the parts g, s, d, p, m, ncx and f64 may be absent. Received 'ic3oc8'",
    ),
]

OUT = [
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=[0]),
        TypeError,
        "`out` must be a NumPy array. Received list.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=z(1, 5, 5, 4)),
        ValueError,
        "`out` has shape (1, 5, 5, 4), but the result has (1, 3, 3, 4). Write np.empty((1, 3, 3, 4), np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=np.zeros((1, 3, 3, 4))),
        TypeError,
        "`out` has dtype float64, but the result has float32. Write np.empty((1, 3, 3, 4), np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=read_only(z(1, 3, 3, 4))),
        ValueError,
        "`out` is read-only. Pass a writeable array, such as a copy of it.",
    ),
    (
        lambda: nc.conv(X, z(3, 3, 4, 4), out=X[:, 1:4, 1:4]),
        ValueError,
        "`out` shares memory with `x`, which is read while `out` is written. Pass another array.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=repeated(1, 3, 3, 4)),
        ValueError,
        "`out` has elements that share memory (strides (0, 0, 0, 4)). Write np.empty((1, 3, 3, 4), np.float32).",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 4), out=misaligned(1, 3, 3, 4)),
        ValueError,
        "`out` is not aligned to its dtype float32. Write np.empty((1, 3, 3, 4), np.float32).",
    ),
    (
        lambda: nc.max_pool(X, 1, out=X),
        ValueError,
        "`out` shares memory with `x`, which is read while `out` is written. Pass another array.",
    ),
]


@pytest.mark.parametrize("call, error, message", [*DTYPES, *ACTIVATIONS_AND_NAMES, *OUT])
def test_message(call, error, message, monkeypatch):
    assert_refused(monkeypatch, call, error, message)


def test_ragged_lists_are_no_arrays():
    with pytest.raises(TypeError, match=r"^`x` of type list could not be read as an array: setting an array element"):
        nc.conv([[1.0], [1.0, 2.0]], z(3, 3, 4, 8))


@pytest.mark.skipif(np.longdouble == np.float64, reason="long double is double here")
def test_long_double_goes_to_double():
    with pytest.raises(TypeError, match=r"Write x\.astype\(np\.float64\)\.$"):
        nc.conv(z(1, 5, 5, 4).astype(np.longdouble), z(3, 3, 4, 8))
