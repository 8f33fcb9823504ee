"""The public functions against the oracle, their activations, and how they hand over to tensors."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from exact import assert_same, integers

import numbaconv as nc

DTYPES = [np.float32, np.float64]


# --- every function against the oracle -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_conv(rng, dtype):
    x, kernel, bias = (integers(rng, *s, dtype=dtype) for s in [(2, 7, 8, 4), (3, 2, 2, 6), (6,)])
    options = dict(strides=(2, 1), padding=("causal", (1, 2)), dilation_rate=(1, 2), groups=2)
    options |= dict(padding_mode=("reflect", "circular"))
    assert_same(nc.conv(x, kernel, bias, **options), oracle.conv(x, kernel, bias, **options), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(rng, dtype):
    x, kernel = integers(rng, 2, 4, 7, 8, dtype=dtype), integers(rng, 3, 2, 2, 6, dtype=dtype)
    options = dict(strides=(2, 1), padding=("same", 1), groups=2, data_format="channels_first")
    grad_y = integers(rng, *nc.conv(x, kernel, **options).shape, dtype=dtype)
    grad_x = nc.conv_input_grad(grad_y, kernel, x.shape, **options)
    assert_same(grad_x, oracle.conv_input_grad(grad_y, kernel, x.shape, **options), dtype)
    grad_kernel = nc.conv_kernel_grad(x, grad_y, kernel.shape, **options)
    assert_same(grad_kernel, oracle.conv_kernel_grad(x, grad_y, kernel.shape, **options), dtype)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["valid", "same", "causal", 1, ((0, 2), "same")])
@pytest.mark.parametrize("output_padding", [None, 0, (1, 0)])
def test_conv_transpose(rng, data_format, padding, output_padding):
    x = integers(rng, 2, 4, 4, 4)
    kernel, bias = integers(rng, 3, 4, 3, 4), integers(rng, 6)
    options = dict(strides=(3, 2), padding=padding, output_padding=output_padding, groups=2, data_format=data_format)
    y = nc.conv_transpose(x, kernel, bias, activation="relu", **options)
    assert_same(y, oracle.conv_transpose(x, kernel, bias, activation="relu", **options))


@pytest.mark.parametrize("n, k, s", [(4, 3, 2), (4, 4, 2), (5, 5, 3), (3, 2, 3), (3, 1, 2)])
def test_transposed_same_is_the_gradient_of_tensorflows_same_convolution(rng, n, k, s):
    x, kernel = integers(rng, 1, n, 2), integers(rng, k, 3, 2)
    y = nc.conv_transpose(x, kernel, strides=s, padding="same")
    assert_same(y, nc.conv_input_grad(x, kernel, (1, n * s, 3), strides=s, padding="same"))


def test_transposed_causal_output_depends_on_no_later_input(rng):
    x, kernel = integers(rng, 1, 6, 2), integers(rng, 5, 3, 2)
    changed = x.copy()
    changed[:, 4:] += 1
    first, second = (nc.conv_transpose(a, kernel, strides=2, padding="causal") for a in (x, changed))
    np.testing.assert_array_equal(first[:, :8], second[:, :8])
    assert (first[:, 8:] != second[:, 8:]).any()


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_depthwise_conv(rng, data_format):
    x = integers(rng, 2, 6, 6, 6)
    kernel, bias = integers(rng, 3, 2, 6, 2), integers(rng, 12)
    options = dict(padding="same", strides=2, dilation_rate=2, data_format=data_format)
    y = nc.depthwise_conv(x, kernel, bias, **options)
    assert_same(y, oracle.depthwise_conv(x, kernel, bias, **options))
    grouped = kernel.reshape(3, 2, 1, 12)
    assert_same(nc.conv(x, grouped, bias, groups=6, **options), y)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_separable_conv(rng, data_format):
    x = integers(rng, 2, 5, 5, 5)
    kernels = integers(rng, 3, 3, 5, 2), integers(rng, 1, 1, 10, 4)
    bias = integers(rng, 4)
    options = dict(padding="causal", strides=2, data_format=data_format, activation="relu")
    y = nc.separable_conv(x, *kernels, bias, **options)
    assert_same(y, oracle.separable_conv(x, *kernels, bias, **options))


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize(
    "options", [{}, {"padding": "same"}, {"strides": 1, "padding": ((1, 0), 1)}, {"strides": (3, 1)}]
)
def test_pooling(rng, name, options):
    # Counts of window elements are 1, 2, 4: means of integers are exact.
    x = integers(rng, 2, 7, 6, 3)
    assert_same(getattr(nc, name)(x, 2, **options), getattr(oracle, name)(x, 2, **options))


@pytest.mark.parametrize("name", ["global_max_pool", "global_average_pool"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_global_pooling(rng, name, data_format):
    x = integers(rng, 2, 4, 4, 4)
    expected = getattr(oracle, name)(x, data_format=data_format)
    assert_same(getattr(nc, name)(x, data_format=data_format), expected)
    kept = getattr(nc, name)(x, data_format=data_format, keepdims=True)
    spatial = (2, 3) if data_format == "channels_first" else (1, 2)
    assert_same(kept, np.expand_dims(expected, spatial))


@pytest.mark.parametrize("name, reduce", [("adaptive_max_pool", np.max), ("adaptive_average_pool", np.mean)])
@pytest.mark.parametrize("outputs", [(2, 3), (7, 5), (3, 1), (10, 6), (4, 9)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_adaptive_pooling(rng, name, reduce, outputs, data_format):
    x = integers(rng, 2, 7, 6, 3, dtype=np.float64)
    expected = np.empty((2, *outputs, 3))
    for i in range(outputs[0]):
        for j in range(outputs[1]):
            rows = slice(i * 7 // outputs[0], -(-(i + 1) * 7 // outputs[0]))
            columns = slice(j * 6 // outputs[1], -(-(j + 1) * 6 // outputs[1]))
            expected[:, i, j] = reduce(x[:, rows, columns], axis=(1, 2))
    if data_format == "channels_first":
        x, expected = np.moveaxis(x, -1, 1), np.moveaxis(expected, -1, 1)
    y = getattr(nc, name)(x, outputs, data_format=data_format)
    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-14)


# --- activations -----------------------------------------------------------------------------------------------------


def reference_activations():
    from scipy import special

    def leaky(v):
        return np.where(v > 0, v, 0.2 * v)

    def elu(v):
        return np.where(v > 0, v, np.exp(np.minimum(v, 0)) - 1)

    return {
        "linear": lambda v: v,
        "relu": lambda v: np.maximum(v, 0),
        "relu6": lambda v: np.clip(v, 0, 6),
        "leaky_relu": leaky,
        "elu": elu,
        "selu": lambda v: 1.05070098 * np.where(v > 0, v, 1.67326324 * elu(v)),
        "sigmoid": special.expit,
        "tanh": np.tanh,
        "softplus": lambda v: np.log1p(np.exp(v)),
        "softsign": lambda v: v / (1 + abs(v)),
        "silu": lambda v: v * special.expit(v),
        "swish": lambda v: v * special.expit(v),
        "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
        "hard_silu": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "hard_swish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "exponential": np.exp,
        "gelu": lambda v: v * special.ndtr(v),
    }


def test_every_activation_has_a_reference():
    from numbaconv.activations import ACTIVATIONS

    assert {"linear", *ACTIVATIONS} == set(reference_activations())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(reference_activations()))
def test_named_activations(name, dtype):
    x = np.linspace(-8, 8, 65, dtype=dtype).reshape(1, 65, 1)
    y = nc.conv(x, np.ones((1, 1, 1), dtype), activation=name)
    expected = reference_activations()[name](x.astype(np.float64))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=2e-6 if dtype == np.float32 else 2e-8, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in reference_activations() if name != "exponential"])
def test_activations_neither_overflow_nor_warn(name):
    x = np.array([-1e30, -200, 200, 1e30], np.float32).reshape(1, 4, 1)
    y = nc.conv(x, np.ones((1, 1, 1), np.float32), activation=name)
    assert np.isfinite(y).all()


def test_a_callable_activation_gets_the_result(rng):
    x, kernel, bias = integers(rng, 2, 6, 3), integers(rng, 3, 3, 4), integers(rng, 4)
    assert_same(nc.conv(x, kernel, bias, activation=np.square), oracle.conv(x, kernel, bias) ** 2)
    y = nc.conv_transpose(x, kernel.swapaxes(1, 2), bias, activation=lambda v: v + 1)
    assert_same(y, oracle.conv_transpose(x, kernel.swapaxes(1, 2), bias) + 1)


# --- handing over to a tensor's class --------------------------------------------------------------------------------


class Box:
    calls: list = []

    def __init__(self, value):
        self.value = value

    @classmethod
    def __tensor_function__(cls, function, args, options):
        cls.calls.append(function.__name__)
        open_box = lambda value: value.value if isinstance(value, Box) else value  # noqa: E731
        args = [open_box(argument) for argument in args]
        return Box(function.array_function(*args, **{key: open_box(value) for key, value in options.items()}))


def test_a_class_with_the_hook_takes_the_call_over(rng):
    x, kernel, bias = integers(rng, 2, 6, 3), integers(rng, 3, 3, 4), integers(rng, 4)
    expected = oracle.conv(x, kernel, bias)
    Box.calls.clear()
    for call in [
        lambda: nc.conv(Box(x), kernel, bias),
        lambda: nc.conv(x, Box(kernel), bias),
        lambda: nc.conv(x, kernel, bias=Box(bias)),
        lambda: nc.conv(x=x, kernel=Box(kernel), bias=bias),
    ]:
        result = call()
        assert type(result) is Box
        assert_same(result.value, expected)
    nc.max_pool(Box(x), 2)
    nc.conv_kernel_grad(Box(x), Box(np.zeros((2, 4, 4), np.float32)), (3, 3, 4))
    assert Box.calls == ["conv"] * 4 + ["max_pool", "conv_kernel_grad"]
