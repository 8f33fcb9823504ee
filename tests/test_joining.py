"""Layers that become part of the product before them: fewer launches, the same results."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_frozen import launches_of
from test_layers_inference import eagerly

import numbaconv as nc

layers = nc.layers

PRODUCTS = {
    "conv": lambda **options: layers.Conv2D(40, 3, **options),
    "grouped": lambda **options: layers.Conv2D(24, 3, groups=2, **options),
    "transposed": lambda **options: layers.Conv2DTranspose(20, 4, strides=2, **options),
    "depthwise": lambda **options: layers.DepthwiseConv2D(3, depth_multiplier=2, **options),
    "separable": lambda **options: layers.SeparableConv2D(20, 3, **options),
    "dense": lambda **options: layers.Dense(30, **options),
}
RELUS = {"ReLU": layers.ReLU, "Activation": lambda: layers.Activation("relu"), "none": lambda: None}


def normalization(**options):
    return layers.BatchNormalization(
        beta_initializer="random_normal",
        gamma_initializer="random_normal",
        moving_mean_initializer="random_normal",
        moving_variance_initializer=nc.initializers.RandomUniform(0.1, 2),
        **options,
    )


def model_of(*rows, shape=(9, 9, 12), **options):
    return nc.Sequential([layers.Input(shape), *(layer for layer in rows if layer is not None)], seed=3, **options)


def quickly(model, x):
    """Return the outputs and the number of launches that they take."""
    with nc.no_grad():
        results = [model(x).numpy() for _ in range(2)]
    assert_array_equal(*results)
    return results[0], len(launches_of(model))


def launches_of_product(make, shape=(9, 9, 12)):
    model = model_of(make(activation="relu"), shape=shape)
    model.freeze()
    return quickly(model, np.zeros((2, *shape), np.float32))[1]


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 9, 9, 12), np.float32)


@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("product", PRODUCTS)
def test_frozen_normalization_is_a_part_of_the_product(product, use_bias, relu, x):
    make = PRODUCTS[product]
    model = model_of(make(use_bias=use_bias, bias_initializer="random_normal"), normalization(), RELUS[relu]())
    expected = eagerly(model, x)
    model.freeze()
    found, launches = quickly(model, x)
    assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * float(np.abs(expected).max()))
    assert launches == launches_of_product(make)
    model.unfreeze()
    assert_allclose(quickly(model, x)[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"axis": 3}, {"epsilon": 0.5}])
def test_normalization_with_other_options(options, x):
    model = model_of(layers.Conv2D(40, 3), normalization(**options))
    expected = eagerly(model, x)
    model.freeze()
    found, launches = quickly(model, x)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert launches == 1


@pytest.mark.parametrize("relu", ["ReLU", "Activation"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_relu_is_a_part_of_the_product(product, relu, x):
    make = PRODUCTS[product]
    model, alone = model_of(make(), RELUS[relu]()), model_of(make())
    found, launches = quickly(model, x)
    assert_array_equal(found, eagerly(model, x))
    assert launches == quickly(alone, x)[1]


@pytest.mark.parametrize("channels", [3, 70])
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_relu_is_a_part_of_normalization(channels, value, rng):
    model = model_of(normalization(), layers.ReLU(), shape=(5, 5, channels))
    x = rng.standard_normal((1, 5, 5, channels), np.float32)
    x[0, 2, 2] = value
    found, launches = quickly(model, x)
    assert_array_equal(found, eagerly(model, x))
    assert launches == 1


def other_norm(**options):
    class Other(layers.BatchNormalization):
        def call(self, inputs, training=False):
            return 2 * super().call(inputs, training)

    return Other(**options)


REFUSED = {
    "an activation between": lambda: (layers.Conv2D(9, 3, activation="relu"), normalization()),
    "another axis": lambda: (layers.Conv2D(9, 3), normalization(axis=1)),
    "channels first": lambda: (
        layers.Conv2D(9, 3, data_format="channels_first"),
        layers.BatchNormalization(axis=1),
    ),
    "groups of a transposed layer": lambda: (layers.Conv2DTranspose(8, 3, groups=4), normalization()),
    "a user's layer": lambda: (layers.Conv2D(9, 3), other_norm()),
    "another dtype": lambda: (layers.Conv2D(9, 3), normalization(dtype="float64")),
    "a bounded relu": lambda: (layers.Conv2D(9, 3), layers.ReLU(max_value=1)),
    "a dense layer's second axis": lambda: (layers.Dense(9), normalization(axis=1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_same_stays_apart(name, x):
    model = model_of(*REFUSED[name]())
    expected = eagerly(model, x)
    model.freeze()
    assert_allclose(quickly_or_not(model, x), expected, rtol=1e-5, atol=1e-5)


def quickly_or_not(model, x):
    with nc.no_grad():
        return model(x).numpy()


def test_normalization_that_is_not_frozen_is_computed_as_ever(x):
    model = model_of(layers.Conv2D(40, 3), normalization())
    model.layers[-2].freeze()
    expected = eagerly(model, x)
    found, launches = quickly(model, x)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert launches == 2
    model.layers[-1].moving_mean.data[...] += 1
    assert np.abs(quickly(model, x)[0] - expected).max() > 0.01


def test_variances_that_have_no_root_are_left_to_the_layer(x):
    model = model_of(layers.Conv2D(40, 3), layers.BatchNormalization())
    model.layers[-1].moving_variance.data[2] = -1
    model.freeze()
    with np.errstate(all="ignore"):
        found, launches = quickly(model, x)
    assert launches == 2
    assert np.isnan(found[..., 2]).all() and np.isfinite(np.delete(found, 2, axis=-1)).all()


def test_shapes_that_the_following_layer_refuses_are_refused(x):
    model = nc.Sequential([layers.Conv2D(40, 3), layers.BatchNormalization()])
    model.build((None, 9, 9, 12))
    model.layers[1] = other = layers.BatchNormalization()
    other.build((None, 7, 7, 5))
    model._layers[1] = other
    model.freeze()
    with nc.no_grad(), pytest.raises(ValueError, match="incompatible with the layer"):
        model(x)


def test_programs_of_several_shapes_share_a_scaled_kernel(rng):
    model = nc.Sequential([layers.Input((None, None, 12)), layers.Conv2D(32, 3), normalization(), layers.ReLU()])
    model.freeze()
    with nc.no_grad():
        for size in (24, 30):
            model(rng.standard_normal((1, size, size, 12), np.float32))
    (scaled,) = model.layers[-3].kernel.data.base.made.values()
    assert scaled.shape == (3, 3, 12, 32)
    assert scaled.base.made


def test_a_layer_is_not_changed_by_what_is_made_of_it(x):
    model = model_of(layers.Conv2D(40, 3), normalization(), layers.ReLU())
    model.freeze()
    before = [dict(vars(layer)) for layer in model.layers]
    weights = model.get_weights()
    quickly(model, x)
    assert [dict(vars(layer)) for layer in model.layers] == before
    for after, weight in zip(model.get_weights(), weights, strict=True):
        assert_array_equal(after, weight)
