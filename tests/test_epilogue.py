"""Activations that users write: the same numbers as NumPy's, in every kernel, on any number of threads."""

from __future__ import annotations

import math
import pickle

import numba
import numpy as np
import pytest

import numbaconv as nc

SLOPE = 0.25


@numba.njit
def affine(x):
    return 3 * x - 2 if x > 0 else x + 5


@numba.njit
def relu6(x):
    return min(max(x, 0), 6)


@numba.njit
def leaky(x):
    return x if x > 0 else SLOPE * x


@numba.njit
def hard_swish(x):
    return x * relu6(x + 3) / 6


@numba.njit
def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@numba.njit
def silu(x):
    return x / (1 + np.exp(-x))


@numba.njit
def first_of_two_returns(x):
    if x < -1:
        return 0
    return x * x


REFERENCES = {
    affine: lambda z: np.where(z > 0, 3 * z - 2, z + 5),
    relu6: lambda z: np.clip(z, 0, 6),
    leaky: lambda z: np.where(z > 0, z, 0.25 * z),
    hard_swish: lambda z: z * np.clip(z + 3, 0, 6) / 6,
    gelu: lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    silu: lambda z: z / (1 + np.exp(-z)),
    first_of_two_returns: lambda z: np.where(z < -1, 0, z * z),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("function", REFERENCES, ids=lambda f: f.py_func.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(rng, function, dtype):
    x = rng.standard_normal(1003).astype(dtype) * 4
    y = nc.fused_activation(function)(x)
    assert y.dtype == dtype
    expected = REFERENCES[function](x.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=4e-6 if dtype == "float32" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_after_a_convolution(rng, dtype):
    x, kernel = rng.standard_normal((2, 7, 9, 5)).astype(dtype), rng.standard_normal((3, 3, 5, 19)).astype(dtype)
    bias = rng.standard_normal(19).astype(dtype)
    y = nc.conv(x, kernel, bias, padding="same", activation=silu)
    z = nc.conv(x, kernel, bias, padding="same")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, nc.fused_activation(silu)(z))


# Each problem takes another way through the kernels; integers make the comparison exact.
PROBLEMS = {
    "one tile": ("conv", (1, 4, 4, 3), (1, 1, 3, 16), {}),
    "part of a register": ("conv", (2, 9, 11, 4), (3, 3, 4, 5), {}),
    "more than a register": ("conv", (2, 9, 11, 4), (3, 3, 4, 13), {"strides": 2, "padding": "same"}),
    "whole panels": ("conv", (2, 8, 8, 16), (3, 3, 16, 48), {"padding": "same"}),
    "depth passes": ("conv", (1, 6, 6, 600), (3, 3, 600, 16), {"padding": "same"}),
    "groups": ("conv", (1, 8, 9, 12), (3, 3, 4, 9), {"groups": 3}),
    "one channel out": ("conv", (1, 20, 33, 1), (5, 5, 1, 1), {"padding": "same"}),
    "few channels out": ("conv", (2, 16, 40, 3), (3, 3, 3, 2), {"padding": "same"}),
    "dilation": ("conv", (1, 30, 6), (3, 6, 10), {"dilation_rate": 3, "padding": "causal"}),
    "three axes": ("conv", (1, 5, 6, 7, 3), (3, 3, 3, 3, 9), {"padding": "same"}),
    "channels first": ("conv", (1, 5, 8, 9), (3, 3, 5, 7), {"data_format": "channels_first"}),
    "depthwise": ("depthwise_conv", (2, 9, 10, 19), (3, 3, 19, 1), {"padding": "same"}),
    "depthwise registers": ("depthwise_conv", (1, 9, 10, 40), (3, 3, 40, 1), {}),
    "depthwise one register": ("depthwise_conv", (1, 9, 10, 8), (3, 3, 8, 1), {"strides": 2}),
    "depth multiplier": ("depthwise_conv", (1, 9, 10, 3), (3, 3, 3, 3), {}),
    "transposed": ("conv_transpose", (1, 5, 6, 4), (4, 4, 7, 4), {"strides": 2, "padding": "same"}),
    "transposed, one channel": ("conv_transpose", (1, 12, 4), (5, 1, 4), {"strides": 2}),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_way_through_the_kernels(rng, problem):
    name, x_shape, kernel_shape, options = PROBLEMS[problem]
    convolve = getattr(nc, name)
    x, kernel = integers(rng, *x_shape), integers(rng, *kernel_shape)
    z = convolve(x, kernel, **options)
    np.testing.assert_array_equal(convolve(x, kernel, activation=affine, **options), REFERENCES[affine](z))


def test_separable(rng):
    x = integers(rng, 1, 8, 8, 3)
    kernels = integers(rng, 3, 3, 3, 2), integers(rng, 1, 1, 6, 5)
    z = nc.separable_conv(x, *kernels)
    np.testing.assert_array_equal(nc.separable_conv(x, *kernels, activation=affine), REFERENCES[affine](z))


def test_out_and_empty_batches(rng):
    x, kernel = integers(rng, 1, 6, 6, 2), integers(rng, 3, 3, 2, 4)
    out = np.empty((1, 4, 4, 4), np.float32)
    assert nc.conv(x, kernel, activation=affine, out=out) is out
    np.testing.assert_array_equal(out, REFERENCES[affine](nc.conv(x, kernel)))
    assert nc.conv(x[:0], kernel, activation=affine).shape == (0, 4, 4, 4)


@pytest.mark.parametrize("depthwise", [False, True], ids=["conv", "depthwise"])
def test_bits_do_not_depend_on_threads(rng, depthwise):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    x = rng.standard_normal((2, 40, 40, 24), dtype=np.float32)
    kernel = rng.standard_normal((3, 3, 24, 1 if depthwise else 24), dtype=np.float32)
    convolve = nc.depthwise_conv if depthwise else nc.conv
    single = convolve(x, kernel, activation=silu)
    numba.set_num_threads(2)
    try:
        double = convolve(x, kernel, activation=silu)
    finally:
        numba.set_num_threads(1)
    np.testing.assert_array_equal(single.view(np.uint32), double.view(np.uint32))


def test_user_relu_gives_the_bits_of_relu(rng):
    x, kernel = (
        rng.standard_normal((1, 9, 9, 8), dtype=np.float32),
        rng.standard_normal((3, 3, 8, 24), dtype=np.float32),
    )
    y = nc.conv(x, kernel, activation=nc.fused_activation(lambda x: x if x > 0 else 0))
    np.testing.assert_array_equal(y, nc.conv(x, kernel, activation="relu"))


@pytest.mark.parametrize("where", ["x", "kernel"])
def test_infinity_stays_where_it_belongs(where):
    """Absent taps of joined outputs make zero times infinity, a NaN that this function would hide as 0."""
    arrays = {"x": np.ones((1, 40, 1), np.float32), "kernel": np.ones((3, 1, 1), np.float32)}
    arrays[where][0, 0, 0] = np.inf
    y = nc.conv(arrays["x"], arrays["kernel"], activation=nc.fused_activation(lambda x: 1 if x > 0 else 0))
    np.testing.assert_array_equal(y, np.ones((1, 38, 1)))


def test_a_function_that_fails_within_gives_nan():
    table = (1.0, 2.0, 4.0)
    look_up = nc.fused_activation(lambda x: table[int(x)])
    assert look_up(np.array([0, 2, 1], np.float32)).tolist() == [1, 4, 2]
    assert np.isnan(look_up(np.array([7.0]))).all()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 100, 1 << 14, (1 << 14) + 3, 70001])
def test_alone_on_arrays(count):
    x = np.arange(count, dtype=np.float32) - 5
    np.testing.assert_array_equal(nc.fused_activation(affine)(x), REFERENCES[affine](x))
    x = np.arange(2 * count, dtype=np.float64).reshape(2, count).T - 5
    np.testing.assert_array_equal(nc.fused_activation(affine)(x), REFERENCES[affine](x))


def test_constants_take_the_precision_of_the_array():
    """Were 0.1, pi or the constant of a called function float64, the result would round differently."""
    third = 1 / 3

    @numba.njit
    def called(x):
        return x * 0.1

    f = nc.fused_activation(lambda x: called(x) + third + math.pi + 1 / 3 * x)
    x = np.linspace(-5, 5, 1001, dtype=np.float32)
    expected = x * np.float32(0.1) + np.float32(third) + np.float32(math.pi) + np.float32(1 / 3) * x
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(f(x), expected)


def test_layers_apply_it(rng):
    x = rng.standard_normal((1, 6, 6, 3), dtype=np.float32)
    for layer in (
        nc.layers.Conv2D(4, 3, activation=leaky),
        nc.layers.Conv2DTranspose(4, 3, activation=leaky),
        nc.layers.DepthwiseConv2D(3, activation=leaky),
        nc.layers.SeparableConv2D(4, 3, activation=leaky),
        nc.layers.Dense(4, activation=leaky),
        nc.layers.Activation(leaky),
    ):
        y = layer(x).numpy()
        function, layer.activation = layer.activation, nc.layers.Activation(None).activation
        assert isinstance(function, type(nc.fused_activation(leaky)))
        np.testing.assert_array_equal(y, REFERENCES[leaky](layer(x).numpy()))


def test_functions_of_whole_arrays_are_left_alone(rng):
    x, kernel = integers(rng, 1, 6, 6, 2), integers(rng, 3, 3, 2, 4)
    y = nc.conv(x, kernel, activation=lambda z: z - z.max())
    assert y.max() == 0


def test_pickled_and_copied():
    again = pickle.loads(pickle.dumps(nc.fused_activation(affine, derivative=relu6)))
    assert again(np.array([1.0, -1.0])).tolist() == [1, 4]
    assert again.gradient(np.ones(2), np.array([9.0, -1.0])).tolist() == [6, 0]
