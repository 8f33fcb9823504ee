"""What models say about impossible arguments and data, by full text."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers

X, Y = np.ones((4, 2), np.float32), np.zeros(4)


def model(compiled=True, **options):
    net = nc.Sequential([layers.Input((2,)), layers.Dense(1)], **options)
    if compiled:
        net.compile("sgd", "mse")
    return net


class Pair(nc.Model):
    def call(self, x):
        return x, x


def pair():
    net = Pair()
    net.compile("sgd", "mse")
    return net


COMPILE = "For example model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])."

ERRORS = {
    "fit before compile": (
        lambda: model(False).fit(X, Y),
        ValueError,
        f"You must call `compile()` before calling `fit()`. {COMPILE}",
    ),
    "evaluate before compile": (
        lambda: model(False).evaluate(X, Y),
        ValueError,
        f"You must call `compile()` before calling `evaluate()`. {COMPILE}",
    ),
    "no loss": (
        lambda: model().compile("sgd"),
        ValueError,
        "`loss` is missing. Pass for example loss='sparse_categorical_crossentropy' or 'mse'.",
    ),
    "metrics": (
        lambda: model().compile("sgd", "mse", metrics="accuracy"),
        TypeError,
        "`metrics` must be a list. Received: metrics='accuracy'. Pass ['accuracy'].",
    ),
    "lengths": (
        lambda: model().fit(X, Y[:3]),
        ValueError,
        "Data cardinality is ambiguous. Make sure all arrays contain the same number of samples. 'x' sizes: 4, 'y' "
        "sizes: 3.",
    ),
    "no samples": (
        lambda: model().fit(X[:0], Y[:0]),
        ValueError,
        "`fit` needs at least one sample. Received: x with 0 samples.",
    ),
    "batch size": (
        lambda: model().fit(X, Y, batch_size=0),
        ValueError,
        "`batch_size` must be a positive integer. Received: batch_size=0. Pass 32.",
    ),
    "verbose": (
        lambda: model().fit(X, Y, verbose=3),
        ValueError,
        "`verbose` must be 0 (silent), 1 (a progress bar) or 2 (a line per epoch). Received: verbose=3.",
    ),
    "validation split": (
        lambda: model().fit(X, Y, validation_split=1.0),
        ValueError,
        "`validation_split` must be in [0, 1). Received: validation_split=1.0. Pass for example 0.1.",
    ),
    "too few to split": (
        lambda: model().fit(X[:1], Y[:1], validation_split=0.5),
        ValueError,
        "Training data contains 1 samples, which is not sufficient to split it into a validation and training set as "
        "specified by `validation_split=0.5`. Either provide more data, or a different value for the "
        "`validation_split` argument.",
    ),
    "validation data": (
        lambda: model().fit(X, Y, validation_data=X),
        ValueError,
        "Data is expected to be in format `(x, y)`. Received: validation_data of type ndarray. Pass "
        "validation_data=(x_val, y_val).",
    ),
    "no array": (
        lambda: model().fit("data", Y),
        TypeError,
        "`x` must be an array of samples. Received: str. Pass a NumPy array.",
    ),
    "a number": (
        lambda: model().fit(X, np.float32(3)),
        ValueError,
        "`y` must have a batch axis. Received one number: array(3., dtype=float32). Pass an array of samples.",
    ),
    "images as integers": (
        lambda: model().predict(X.astype(np.uint8)),
        TypeError,
        "Input 0 of layer 'sequential' must hold float32 or float64 numbers. Received dtype uint8, shape (4, 2). Pass "
        "x.astype(np.float32) (images: x.astype(np.float32) / 255).",
    ),
    "nothing trainable": (
        lambda: model(trainable=False).fit(X, Y, verbose=0),
        ValueError,
        "'sequential' has no trainable weights, so there is nothing to fit. Set `trainable = True` on some layers, or "
        "call `evaluate`.",
    ),
    "two outputs": (
        lambda: pair().predict(X),
        TypeError,
        "A model in fit, evaluate or predict must return one Tensor. Received: tuple. Join several outputs with "
        "Concatenate, or write the loop with `model(x)` and `backward`.",
    ),
    "no layer": (
        lambda: nc.Sequential([layers.Dense]),
        TypeError,
        "Only instances of `Layer` can be added to a Sequential model. Received: "
        "<class 'numbaconv.layers.dense.Dense'> (of type type). Pass an object: Dense(...).",
    ),
    "empty": (
        lambda: nc.Sequential()(X),
        ValueError,
        "Sequential model 'sequential' has no layers. Pass some, or call `add`.",
    ),
    "input not first": (
        lambda: nc.Sequential([layers.Dense(2), layers.Input((3,))]),
        ValueError,
        "`Input` must come first in a Sequential model. Received: <Input name='input', built=False> at position 1.",
    ),
    "names": (
        lambda: nc.Sequential([layers.Dense(2, name="a"), layers.Dense(2, name="a")]),
        ValueError,
        "All layers added to a Sequential model should have unique names. Name 'a' is already the name of a layer in "
        "this model. Pass another `name`.",
    ),
    "pop": (lambda: nc.Sequential().pop(), ValueError, "There are no layers in the model to remove."),
    "layer's name": (
        lambda: model().get_layer("conv"),
        ValueError,
        "No such layer: conv. Existing layers are: dense.",
    ),
    "layer's index": (
        lambda: model().get_layer(index=3),
        ValueError,
        "Was asked to retrieve layer at index 3 but model only has 1 layers.",
    ),
    "neither": (
        lambda: model().get_layer(),
        ValueError,
        "Provide either a layer name or layer index. Received: name=None, index=None",
    ),
    "summary": (
        lambda: nc.Sequential([layers.Dense(2)]).summary(),
        ValueError,
        "'sequential' isn't built, so its shapes are unknown. Call it on data first, put Input(shape) first, or pass "
        "summary(input_shape=(None, ...)).",
    ),
    "seed": (
        lambda: nc.Sequential(seed="zero"),
        TypeError,
        "`seed` must be a non-negative integer. Received: seed='zero'. Pass for example seed=0.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_text(case):
    make, kind, text = ERRORS[case]
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text


def test_a_failed_compile_keeps_the_one_before():
    net = model()
    optimizer = net.optimizer
    with pytest.raises(ValueError):
        net.compile("adam", "mse", metrics=["acuracy"])
    assert net.optimizer is optimizer


def test_wrong_labels_change_no_weight():
    net = nc.Sequential([layers.Input((2,)), layers.Dense(3, activation="softmax")])
    net.compile("sgd", "sparse_categorical_crossentropy")
    before = net.get_weights()
    with pytest.raises(ValueError):
        net.fit(X, np.array([0, 1, 2, 3]), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
