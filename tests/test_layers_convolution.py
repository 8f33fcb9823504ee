"""Convolution layers: values against the oracle, shapes, weights, defaults."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import numbaconv as nc
from numbaconv import layers

pytestmark = pytest.mark.usefixtures("direct_only")

CHANNELS = 4
SPATIAL = {1: (9,), 2: (8, 7), 3: (6, 5, 7), 4: (4, 5, 4, 5)}

# One row per option of `Conv`, applied at every rank.
CONV_OPTIONS = [
    {},
    {"padding": "same", "strides": 2},
    {"padding": "causal", "dilation_rate": 2},
    {"padding": "same", "strides": 2, "dilation_rate": 2},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": "same", "padding_mode": "circular", "groups": 2},
    {"padding": "same", "activation": "relu", "use_bias": False},
    {"data_format": "channels_first", "padding": "same"},
]


def integers(rng, shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def inputs_for(rng, rank, data_format="channels_last", channels=CHANNELS):
    x = integers(rng, (2, *SPATIAL[rank], channels))
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if data_format == "channels_first" else x


def fill_with_integers(layer, rng):
    for weight in layer.weights:
        weight.assign(integers(rng, weight.shape))


def oracle_options(options):
    return {name: value for name, value in options.items() if name != "use_bias"}


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("options", CONV_OPTIONS, ids=str)
def test_conv_is_the_oracle_with_its_weights(rank, options, rng):
    layer = layers.Conv(6, 3, rank=rank, **options)
    x = inputs_for(rng, rank, options.get("data_format"))
    layer.build(x.shape)
    fill_with_integers(layer, rng)
    y = layer(x)
    bias = None if layer.bias is None else layer.bias.data
    expected = oracle.conv(x, layer.kernel.data, bias, **oracle_options(options))
    np.testing.assert_array_equal(y.numpy(), expected)
    assert y.dtype == np.float32
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])


@pytest.mark.parametrize("name", ["Conv1D", "Conv2D", "Conv3D"])
def test_conv_classes_fix_the_rank(name, rng):
    rank = int(name[4])
    layer = getattr(layers, name)(5, 3, padding="same")
    x = inputs_for(rng, rank)
    assert layer(x).shape == (2, *SPATIAL[rank], 5)
    assert layer.kernel.shape == (3,) * rank + (CHANNELS, 5)
    assert layer.bias.shape == (5,)
    assert layer.count_params() == 3**rank * CHANNELS * 5 + 5


TRANSPOSE_OPTIONS = [
    {},
    {"strides": 2, "padding": "same"},
    {"strides": 2, "output_padding": 1},
    {"strides": 2, "dilation_rate": 2, "padding": "same"},
    {"strides": 2, "padding": 1},
    {"groups": 2, "activation": "relu"},
    {"data_format": "channels_first", "strides": 2, "use_bias": False},
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", TRANSPOSE_OPTIONS, ids=str)
def test_conv_transpose_is_the_oracle_with_its_weights(rank, options, rng):
    layer = getattr(layers, f"Conv{rank}DTranspose")(6, 3, **options)
    x = inputs_for(rng, rank, options.get("data_format"))
    layer.build(x.shape)
    fill_with_integers(layer, rng)
    bias = None if layer.bias is None else layer.bias.data
    expected = oracle.conv_transpose(x, layer.kernel.data, bias, **oracle_options(options))
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])
    assert layer.kernel.shape == (3,) * rank + (6 // layer.groups, CHANNELS)


DEPTHWISE_OPTIONS = [
    {"depth_multiplier": 1},
    {"depth_multiplier": 3, "padding": "same", "strides": 2},
    {"depth_multiplier": 2, "padding": "causal", "dilation_rate": 2, "strides": 2},
    {"padding": "same", "padding_mode": "replicate", "activation": "relu"},
    {"data_format": "channels_first", "depth_multiplier": 2},
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", DEPTHWISE_OPTIONS, ids=str)
def test_depthwise_conv_is_the_oracle_with_its_weights(rank, options, rng):
    layer = getattr(layers, f"DepthwiseConv{rank}D")(3, **options)
    x = inputs_for(rng, rank, options.get("data_format"))
    layer.build(x.shape)
    fill_with_integers(layer, rng)
    options = {name: value for name, value in options.items() if name != "depth_multiplier"}
    expected = oracle.depthwise_conv(x, layer.kernel.data, layer.bias.data, **options)
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", DEPTHWISE_OPTIONS, ids=str)
def test_separable_conv_is_the_oracle_with_its_weights(rank, options, rng):
    layer = getattr(layers, f"SeparableConv{rank}D")(5, 3, **options)
    x = inputs_for(rng, rank, options.get("data_format"))
    layer.build(x.shape)
    fill_with_integers(layer, rng)
    options = {name: value for name, value in options.items() if name != "depth_multiplier"}
    expected = oracle.separable_conv(x, layer.kernel.data, layer.pointwise_kernel.data, layer.bias.data, **options)
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])
    assert layer.pointwise_kernel.shape == (1,) * rank + (CHANNELS * layer.depth_multiplier, 5)


def test_causal_layer_never_sees_the_future(rng):
    layer = layers.Conv2D(3, 3, padding=("causal", "same"))
    x = inputs_for(rng, 2)
    changed = x.copy()
    changed[:, 5:] += 1
    before, after = layer(x).numpy(), layer(changed).numpy()
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sigmoid", lambda x: x * 2.0])
def test_other_activations_follow_the_convolution(activation, rng):
    x = inputs_for(rng, 2)
    layer = layers.Conv2D(3, 3, activation=activation)
    layer.build(x.shape)
    plain = nc.conv(x, layer.kernel.data, layer.bias.data)
    function = layers.Activation(activation)
    np.testing.assert_array_equal(layer(x).numpy(), function(plain).numpy())


def test_gradients_reach_input_kernel_and_bias(rng):
    layer = layers.Conv2D(3, 3, strides=2, dilation_rate=2, padding="same", activation="relu", dtype="float64")
    x = rng.normal(size=(2, 7, 6, 2))
    layer(x)

    def run(x, kernel, bias):
        layer.kernel, layer.bias = kernel, bias
        return layer(x)

    nc.grad_check(run, x, layer.kernel.data.copy(), rng.normal(size=3))


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (layers.Conv2D(5, 3), 6 * 5 * 5 * 9 * 4),
        (layers.Conv2D(6, 3, groups=2), 6 * 5 * 6 * 9 * 2),
        (layers.Conv2DTranspose(6, 2, strides=2), 8 * 7 * 4 * 4 * 6),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 5 * 8 * 9),
        (layers.SeparableConv2D(7, 3, depth_multiplier=2), 6 * 5 * (8 * 9 + 8 * 7)),
        (layers.Dense(3), 8 * 7 * 4 * 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_macs_of_one_sample(layer, macs):
    assert layer.macs((None, 8, 7, 4)) == macs
    assert layer.macs((16, 8, 7, 4)) == macs


def test_unknown_spatial_sizes_stay_unknown():
    assert layers.Conv2D(5, 3, strides=2, padding="same").compute_output_shape((None, None, 9, 3)) == (None, None, 5, 5)
    assert layers.Conv2DTranspose(5, 3).compute_output_shape((4, None, None, 3)) == (4, None, None, 5)
    assert layers.MaxPooling2D().compute_output_shape((None, None, 9, 3)) == (None, None, 4, 3)
    layer = layers.Conv2D(5, 3, padding=2, padding_mode="reflect")
    layer.build((None, None, None, 3))
    assert layer(np.zeros((1, 6, 8, 3), np.float32)).shape == (1, 8, 10, 5)


def test_defaults_are_keras_defaults():
    layer = layers.Conv2D(8, 3)
    assert (layer.strides, layer.padding, layer.dilation_rate, layer.groups) == ((1, 1), ("valid",) * 2, (1, 1), 1)
    assert layer.data_format == "channels_last"
    layer.build((None, 8, 8, 4))
    limit = (6 / (9 * 4 + 9 * 8)) ** 0.5
    assert limit * 0.9 < np.abs(layer.kernel.data).max() <= limit
    assert not layer.bias.data.any()


@pytest.mark.parametrize("integer", [np.int64(3), np.int8(3), 3])
def test_numpy_integers_are_integers(integer):
    layer = layers.Conv2D(integer, kernel_size=(integer, integer), strides=integer, groups=integer)
    assert layer.compute_output_shape((None, 9, 9, 3)) == (None, 3, 3, 3)


def test_regularizers_reach_the_losses(rng):
    layer = layers.Conv1D(2, 3, kernel_regularizer=nc.regularizers.L2(0.1), bias_regularizer="l1")
    layer.build((None, 9, 4))
    fill_with_integers(layer, rng)
    kernel, bias = (penalty.item() for penalty in layer.losses)
    assert kernel == pytest.approx(0.1 * float((layer.kernel.data**2).sum()), rel=1e-6)
    assert bias == pytest.approx(0.01 * float(np.abs(layer.bias.data).sum()), rel=1e-6)


def test_empty_batch_gives_empty_result():
    assert layers.Conv2D(8, 3)(np.empty((0, 8, 8, 3), np.float32)).shape == (0, 6, 6, 8)
