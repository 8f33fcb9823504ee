"""`Layer`: weights found by attribute, building, dtypes, freezing, copying."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers
from numbaconv.layers.options import snake_case


class Block(layers.Layer):
    """Layers in an attribute, a list and a dict, weights of its own, and one layer twice."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3)
        self.rest = [layers.Dense(3, use_bias=False), layers.Dense(3, use_bias=False)]
        self.by_name = {"last": layers.Dense(2, use_bias=False)}
        self.again = self.first

    def build(self, input_shape):
        self.scale = self.add_weight((3,), "ones")
        self.pair = [self.add_weight((1,), "zeros"), self.add_weight((1,), "ones", trainable=False)]

    def call(self, x):
        x = self.first(x) * self.scale + self.pair[0] * self.pair[1]
        for layer in self.rest:
            x = layer(x)
        return self.by_name["last"](x)


def test_weights_are_found_by_attribute_once():
    block = Block()
    block(np.ones((2, 3), np.float32))
    assert {path: weight.shape for path, weight in block.named_weights().items()} == {
        "scale": (3,),
        "pair/0": (1,),
        "pair/1": (1,),
        "first/kernel": (3, 3),
        "first/bias": (3,),
        "rest/0/kernel": (3, 3),
        "rest/1/kernel": (3, 3),
        "by_name/last/kernel": (3, 2),
    }
    assert block.weights == list(block.named_weights().values())
    assert block.count_params() == 3 + 2 + 12 + 9 + 9 + 6
    assert len(block.trainable_weights) == 7
    assert block.non_trainable_weights == [block.pair[1]]


def test_layer_needs_no_constructor_of_its_base():
    class Double(layers.Layer):
        def __init__(self):
            self.factor = 2.0

        def call(self, x):
            return x * self.factor

    np.testing.assert_array_equal(Double()(np.ones((1, 2), np.float32)).numpy(), [[2, 2]])
    assert Double().name == "double"


def test_training_reaches_all_layers_inside_and_only_calls_that_take_it():
    class Flagged(layers.Layer):
        def call(self, x, training=False):
            return x * float(training)

    class Around(layers.Layer):
        def __init__(self):
            self.inside = Flagged()

        def call(self, x):
            return self.inside(x)

    x = np.ones((1, 2), np.float32)
    assert Around()(x, training=True).numpy().sum() == 2
    assert Around()(x).numpy().sum() == 0
    assert Flagged()(x, training=True).numpy().sum() == 2
    assert Flagged()(x).numpy().sum() == 0


def test_build_marks_the_layer_as_built_and_runs_once():
    layer = layers.Dense(2)
    layer.build((None, 3))
    kernel = layer.kernel
    layer(np.ones((1, 3), np.float32))
    assert layer.built
    assert layer.kernel is kernel


def test_output_shape_of_a_layer_without_a_rule_comes_from_an_empty_batch():
    assert Block().compute_output_shape((None, 3)) == (None, 2)
    assert Block().macs((None, 3)) == 9 + 9 + 9 + 6
    with pytest.raises(ValueError) as error:
        Block().compute_output_shape((None, None))
    assert str(error.value) == (
        "Layer 'block' needs every size but the batch to know its output shape. Received: input_shape=(None, None). "
        "Replace None by the sizes of your data."
    )


def test_freezing_reaches_layers_inside_and_weights_built_later():
    block = Block()
    block.trainable = False
    block(np.ones((2, 3), np.float32))
    assert block.trainable_weights == []
    block.trainable = True
    assert len(block.trainable_weights) == 7


def test_double_precision_layers_keep_double_precision():
    layer = layers.Dense(2, dtype="float64")
    assert layer(np.ones((1, 3), np.float32)).dtype == np.float64
    assert layer.kernel.dtype == np.float64


def test_layers_with_weights_cast_to_their_dtype_and_others_do_not():
    x = np.ones((1, 3))
    assert layers.Dense(2)(x).dtype == np.float32
    assert layers.ReLU()(x).dtype == np.float64


def test_the_cast_has_a_gradient():
    x = nc.Tensor(np.ones((1, 3)), requires_grad=True)
    layer = layers.Dense(2)
    layer(x).sum().backward()
    np.testing.assert_allclose(x.grad, layer.kernel.data.sum(axis=1)[np.newaxis], rtol=1e-6)


def test_get_and_set_weights_copy():
    layer = layers.Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    before[0][:] = 7
    assert not (layer.kernel.data == 7).any()
    array = layer.kernel.data
    layer.set_weights(before)
    assert (layer.kernel.data == 7).all()
    assert layer.kernel.data is array


def test_set_weights_changes_nothing_when_one_does_not_fit():
    layer = layers.Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ValueError):
        layer.set_weights([np.ones((3, 2)), np.ones(5)])
    np.testing.assert_array_equal(layer.kernel.data, before[0])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_layers_can_be_copied_and_pickled(clone, rng):
    layer = nc.Sequential([layers.Conv1D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Dense(2)])
    x = rng.normal(size=(3, 8, 2)).astype(np.float32)
    y = layer(x).numpy()
    twin = clone(layer)
    np.testing.assert_array_equal(twin(x).numpy(), y)
    twin.weights[0].data[:] = 0
    np.testing.assert_array_equal(layer(x).numpy(), y)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Conv2DTranspose", "conv2d_transpose"),
        ("MaxPooling2D", "max_pooling2d"),
        ("BatchNormalization", "batch_normalization"),
        ("ReLU", "re_lu"),
        ("Dense", "dense"),
    ],
)
def test_names_are_keras_snake_case(name, expected):
    assert snake_case(name) == expected


def test_every_layer_is_exported_once_under_its_own_name():
    aliases = {name for name in layers.__all__ if getattr(layers, name).__name__ != name}
    assert aliases == {
        *(f"{kind}Pool{rank}D" for kind in ("Max", "Avg", "GlobalMax", "GlobalAvg") for rank in (1, 2, 3))
    }


def test_inputs_are_not_modified_and_may_be_read_only(rng):
    x = rng.normal(size=(2, 6, 6, 3)).astype(np.float32)
    before = x.copy()
    x.flags.writeable = False
    model = nc.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.ReLU(), layers.Flatten()]
    )
    model(x, training=True)
    np.testing.assert_array_equal(x, before)
