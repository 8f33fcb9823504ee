"""Values and shapes of dense, reshaping, merging, pooling, normalisation, dropout and activation layers."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import numbaconv as nc
from numbaconv import layers

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_dense_by_hand():
    layer = layers.Dense(2, activation="relu")
    layer.build((None, 2))
    layer.set_weights([[[1, -1], [2, 3]], [0.5, -20]])
    np.testing.assert_array_equal(layer(np.array([[1.0, 2.0], [3.0, 4.0]])).numpy(), [[5.5, 0], [11.5, 0]])


def test_dense_acts_on_the_last_axis():
    layer = layers.Dense(5)
    y = layer(X)
    assert y.shape == layer.compute_output_shape(X.shape) == (2, 3, 5)
    np.testing.assert_allclose(y.numpy(), X @ layer.kernel.data, rtol=1e-5, atol=1e-5)


def test_flatten():
    np.testing.assert_array_equal(layers.Flatten()(X).numpy(), X.reshape(2, 12))
    first = layers.Flatten(data_format="channels_first")(X)
    np.testing.assert_array_equal(first.numpy(), np.swapaxes(X, 1, 2).reshape(2, 12))
    assert layers.Flatten().compute_output_shape((None, 3, None)) == (None, None)
    assert layers.Flatten()(X[:, 0, 0]).shape == (2, 1)


@pytest.mark.parametrize(
    ("padding", "widths"), [(1, (1, 1)), ((1, 2), (1, 2)), (((0, 3),), (0, 3)), (np.int64(2), (2, 2))]
)
def test_zero_padding_of_one_axis(padding, widths):
    layer = layers.ZeroPadding1D(padding)
    y = layer(X)
    np.testing.assert_array_equal(y.numpy(), np.pad(X, ((0, 0), widths, (0, 0))))
    assert layer.compute_output_shape((None, 3, 4)) == (None, *y.shape[1:])


def test_zero_padding_of_more_axes(rng):
    x = rng.normal(size=(2, 3, 4, 5))
    y = layers.ZeroPadding2D((1, 2))(x)
    np.testing.assert_array_equal(y.numpy(), np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0))))
    y = layers.ZeroPadding2D(((0, 1), (2, 0)), data_format="channels_first")(x)
    np.testing.assert_array_equal(y.numpy(), np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0))))
    assert layers.ZeroPadding3D(1).compute_output_shape((None, 3, None, 5, 2)) == (None, 5, None, 7, 2)


def test_up_sampling(rng):
    x = rng.normal(size=(2, 3, 4, 5))
    layer = layers.UpSampling2D((2, 3))
    np.testing.assert_array_equal(layer(x).numpy(), x.repeat(2, axis=1).repeat(3, axis=2))
    assert layer.compute_output_shape((None, 3, None, 5)) == (None, 6, None, 5)
    first = layers.UpSampling2D(2, data_format="channels_first")(x)
    np.testing.assert_array_equal(first.numpy(), x.repeat(2, axis=2).repeat(2, axis=3))
    assert layers.UpSampling1D(3)(X).shape == (2, 9, 4)
    assert layers.UpSampling3D().compute_output_shape((None, 1, 2, 3, 4)) == (None, 2, 4, 6, 4)


def test_add_broadcasts_and_concatenate_joins():
    total = layers.Add()([X, X, X[:, :1]])
    np.testing.assert_array_equal(total.numpy(), X + X + X[:, :1])
    assert layers.Add().compute_output_shape([(None, 3, 4), (None, 1, 4)]) == (None, 3, 4)
    joined = layers.Concatenate(axis=1)([X, X[:, :2]])
    np.testing.assert_array_equal(joined.numpy(), np.concatenate([X, X[:, :2]], axis=1))
    assert layers.Concatenate().compute_output_shape([(None, 3, 4), (None, 3, None)]) == (None, 3, None)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"padding": "same", "strides": 1}, {"data_format": "channels_first"}], ids=str)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_is_the_oracle(kind, rank, options, rng):
    x = rng.integers(-9, 10, (2, 6, 7, 5, 4)[: rank + 2]).astype(np.float32)
    layer = getattr(layers, f"{kind.title()}Pooling{rank}D")(2, **options)
    expected = getattr(oracle, f"{kind}_pool")(x, 2, **options)
    np.testing.assert_array_equal(layer(x).numpy(), expected.astype(np.float32))
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(rank, keepdims, rng):
    x = rng.integers(-9, 10, (2, 4, 8, 2, 4)[: rank + 2]).astype(np.float32)
    axes = tuple(range(1, rank + 1))
    for name, reduce in (("Max", np.max), ("Average", np.mean)):
        layer = getattr(layers, f"Global{name}Pooling{rank}D")(keepdims=keepdims)
        expected = reduce(x, axis=axes, keepdims=keepdims)
        np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-6)
        assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *expected.shape[1:])


def test_batch_normalization_uses_the_batch_in_training_and_moving_averages_after(rng):
    x = rng.normal(3.0, 2.0, (8, 5, 3))
    layer = layers.BatchNormalization(momentum=0.9, dtype="float64")
    y = layer(x, training=True).numpy()
    mean, variance = x.mean(axis=(0, 1)), x.var(axis=(0, 1))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(layer.moving_mean.data, 0.1 * mean)
    np.testing.assert_allclose(layer.moving_variance.data, 0.9 + 0.1 * variance)
    layer.gamma.assign([2, 3, 4])
    layer.beta.assign([5, 6, 7])
    expected = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-3) * [2, 3, 4] + [5, 6, 7]
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-9)
    assert list(layer.named_weights()) == ["gamma", "beta", "moving_mean", "moving_variance"]


def test_frozen_batch_normalization_keeps_its_averages(rng):
    layer = layers.BatchNormalization(axis=1, trainable=False)
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    y = layer(x, training=True)
    np.testing.assert_allclose(y.numpy(), x / np.sqrt(1.001), rtol=1e-5)
    assert (layer.moving_variance.data == 1).all()
    assert layer.trainable_weights == []


def test_batch_normalization_without_scale_and_center(rng):
    layer = layers.BatchNormalization(scale=False, center=False)
    layer(rng.normal(size=(4, 3)).astype(np.float32), training=True)
    assert list(layer.named_weights()) == ["moving_mean", "moving_variance"]


@pytest.mark.parametrize("axis", [-1, (1, 2), (-1, 1), [1]])
def test_layer_normalization(axis, rng):
    x = rng.normal(size=(4, 3, 5))
    layer = layers.LayerNormalization(axis=axis, dtype="float64")
    layer.build(x.shape)
    axes = tuple(sorted(a % 3 for a in ([axis] if isinstance(axis, int) else axis)))
    shape = tuple(x.shape[a] for a in axes)
    gamma, beta = rng.normal(size=shape), rng.normal(size=shape)
    layer.set_weights([gamma, beta])
    wide = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    expected = expected * gamma.reshape(wide) + beta.reshape(wide)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_dropout_drops_in_training_only():
    x = np.ones((100, 100), np.float32)
    layer = layers.Dropout(0.25, seed=1)
    assert layer(x).numpy() is not None
    np.testing.assert_array_equal(layer(x).numpy(), x)
    y = layer(x, training=True).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert 0.7 < (y > 0).mean() < 0.8
    assert (layer(x, training=True).numpy() != y).any()
    np.testing.assert_array_equal(layers.Dropout(0.25, seed=1)(x, training=True).numpy(), y)
    assert not layers.Dropout(1.0)(x, training=True).numpy().any()


def test_dropout_of_whole_channels():
    y = layers.Dropout(0.5, noise_shape=(None, 1, None), seed=0)(np.ones((8, 6, 8), np.float32), training=True)
    assert (y.numpy() == y.numpy()[:, :1]).all()
    assert 0 < y.numpy().mean() < 2


NEGATIVE = np.array([[-2.0, -0.5, 0.0, 0.5, 8.0]])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.ReLU(), [[0, 0, 0, 0.5, 8]]),
        (layers.ReLU(max_value=6), [[0, 0, 0, 0.5, 6]]),
        (layers.ReLU(negative_slope=0.1), [[-0.2, -0.05, 0, 0.5, 8]]),
        (layers.ReLU(threshold=1.0, negative_slope=0.5, max_value=6.0), [[-1.5, -0.75, -0.5, -0.25, 6]]),
        (layers.LeakyReLU(), [[-0.6, -0.15, 0, 0.5, 8]]),
        (layers.ELU(2.0), [[2 * np.expm1(-2), 2 * np.expm1(-0.5), 0, 0.5, 8]]),
        (layers.PReLU(nc.initializers.Constant(0.25), dtype="float64"), [[-0.5, -0.125, 0, 0.5, 8]]),
        (layers.Activation("leaky_relu"), [[-0.4, -0.1, 0, 0.5, 8]]),
        (layers.Activation("relu6"), [[0, 0, 0, 0.5, 6]]),
        (layers.Activation("exponential"), np.exp(NEGATIVE)),
        (layers.Activation(None), NEGATIVE),
        (layers.Softmax(), np.exp(NEGATIVE) / np.exp(NEGATIVE).sum()),
        (layers.Softmax(axis=0), np.ones((1, 5))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_activation_layers(layer, expected):
    np.testing.assert_allclose(layer(NEGATIVE).numpy(), expected, rtol=1e-6)
    assert layer.compute_output_shape((None, 5)) == (None, 5)


def test_prelu_shares_slopes_along_axes():
    layer = layers.PReLU(shared_axes=[1, 2])
    layer.build((None, 8, 8, 3))
    assert layer.alpha.shape == (1, 1, 3)


def test_input_checks_and_passes():
    layer = layers.Input((None, 3), batch_size=4)
    assert layer.batch_shape == (4, None, 3)
    assert layer.compute_output_shape((None, 7, 3)) == (None, 7, 3)
