"""Inference of layers in a row: the same values as with gradients, the same errors, and no call of a user left out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc

layers = nc.layers


def network(**options):
    return nc.Sequential(
        [
            layers.Conv2D(6, 5, padding="same", activation="relu", **options),
            layers.MaxPooling2D(2, **options),
            layers.Conv2D(8, 3, activation="tanh", use_bias=False, padding_mode="reflect", **options),
            layers.AveragePooling2D(2, **options),
            layers.Flatten(**options),
            layers.Dense(20, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def both_ways(model, x):
    with nc.no_grad():
        quick = [model(x).numpy() for _ in range(3)]
    return model(x).numpy(), quick


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("batch", [1, 5, 0])
def test_values_are_those_of_a_recorded_call(batch, data_format, rng):
    model = network(data_format=data_format)
    shape = (batch, 12, 14, 3) if data_format == "channels_last" else (batch, 3, 12, 14)
    recorded, quick = both_ways(model, rng.standard_normal(shape, np.float32))
    for y in quick:
        assert_array_equal(y, recorded)


def test_new_weights_options_and_shapes_are_seen(rng):
    model = network()
    x = rng.standard_normal((2, 12, 14, 3), np.float32)
    both_ways(model, x)
    model.set_weights([rng.standard_normal(w.shape).astype(np.float32) for w in model.get_weights()])
    recorded, quick = both_ways(model, x)
    assert_array_equal(quick[-1], recorded)
    model.layers[0].activation = nc.ops.tanh
    recorded, quick = both_ways(model, x)
    assert_array_equal(quick[-1], recorded)
    recorded, quick = both_ways(model, x[:1])
    assert_array_equal(quick[-1], recorded)
    with nc.no_grad(), pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        model(x[..., :2])


def test_float64_inputs_are_converted_each_time(rng):
    model = network()
    x = rng.standard_normal((2, 12, 14, 3))
    recorded, quick = both_ways(model, x)
    for y in quick:
        assert y.dtype == np.float32
        assert_array_equal(y, recorded)


def test_calls_of_a_user_are_made():
    class Doubled(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    class Counted(layers.Flatten):
        count = 0

        def __call__(self, inputs, training=None):
            Counted.count += 1
            return super().__call__(inputs, training)

    model = nc.Sequential([Counted(), Doubled(3), layers.Dropout(0.5)])
    x = np.ones((2, 2, 2), np.float32)
    recorded, quick = both_ways(model, x)
    for y in quick:
        assert_array_equal(y, recorded)
    assert Counted.count == 4


def test_training_inside_no_grad_trains():
    model = nc.Sequential([layers.Dense(50), layers.Dropout(0.5)])
    x = np.ones((4, 3), np.float32)
    with nc.no_grad():
        assert (model(x, training=True).numpy() == 0).any()
        assert not (model(x).numpy() == 0).any()
