"""A step of training as one program: weights and losses are those of the step on the tape, all rules hold."""

from __future__ import annotations

import copy

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numbaconv as nc
from numbaconv.layers.training_program import TrainingProgram
from numbaconv.model.steps import TrainingSteps

layers = nc.layers
CLASSES = 5


def narrow(dtype="float32"):
    return [
        layers.Conv2D(6, 5, padding="same", activation="relu", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 3, activation="relu", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(12, activation="relu", dtype=dtype),
        layers.Dense(CLASSES, dtype=dtype),
    ]


def pooled(dtype="float32"):
    """Maxima of maxima, without relu, of channels that do not fill registers, over windows that overlap."""
    return [
        layers.Conv2D(16, 3, padding="same", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.MaxPooling2D((1, 2)),
        layers.Conv2D(20, 3, padding="same", activation="relu", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 1, activation="relu", dtype=dtype),
        layers.MaxPooling2D(3, strides=2, padding="same"),
        layers.Conv2D(8, 1, activation="relu", dtype=dtype),
        layers.AveragePooling2D((2, 1)),
        layers.Flatten(),
        layers.Dense(CLASSES, dtype=dtype),
    ]


def compiled(row, optimizer=None, loss=None, shape=(16, 14, 3)):
    model = nc.Sequential([layers.Input(shape), *row], seed=3)
    model.compile(
        nc.optimizers.Adam(0.01) if optimizer is None else optimizer,
        nc.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss,
    )
    return model


def batch(rng, size=8, dtype="float32"):
    return rng.standard_normal((size, 16, 14, 3)).astype(dtype), rng.integers(0, CLASSES, size)


@pytest.fixture
def runs(monkeypatch):
    """Count the steps that programs did, and those whose results were void."""
    counts = {"valid": 0, "void": 0}
    run = TrainingProgram.run

    def counted(self, x, labels):
        results = run(self, x, labels)
        counts["void" if results is None else "valid"] += 1
        return results

    monkeypatch.setattr(TrainingProgram, "run", counted)
    return counts


def on_the_tape(model, x, y):
    """Do a step as it is done without programs of whole steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingSteps, "run", lambda *arguments: None)
        return model.train_step(x, y)


def assert_same_steps(model, x, y, steps=3):
    other = copy.deepcopy(model)
    for _ in range(steps):
        loss, outputs = model.train_step(x, y)
        expected_loss, expected = on_the_tape(other, x, y)
        assert_array_equal(loss, expected_loss)
        assert_array_equal(outputs, expected)
        for a, b in zip(model.weights, other.weights, strict=True):
            assert_array_equal(a.data, b.data)
            assert a.grad is None
    assert model.optimizer.iterations == other.optimizer.iterations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 32])
@pytest.mark.parametrize("row", [narrow, pooled])
def test_steps_are_those_on_the_tape(row, size, dtype, rng, runs):
    assert_same_steps(compiled(row(dtype)), *batch(rng, size, dtype))
    assert runs == {"valid": 3, "void": 0}


@pytest.mark.parametrize(
    "optimizer",
    [
        nc.optimizers.SGD(0.1),
        nc.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        nc.optimizers.RMSprop(0.01),
        nc.optimizers.AdamW(0.01, weight_decay=0.1),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_optimizers(optimizer, rng, runs):
    assert_same_steps(compiled(narrow(), optimizer), *batch(rng))
    assert runs["valid"] == 3


def test_any_number_of_threads(rng):
    x, y = batch(rng, 64)
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        with_threads = compiled(pooled())
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            found.append([with_threads.train_step(x, y)[1] for _ in range(2)] + with_threads.get_weights())
        finally:
            numba.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "form", [lambda y: y[:, None], lambda y: y.astype(np.uint8), lambda y: np.repeat(y, 2)[::2]], ids=range(3)
)
def test_labels_of_any_form(form, rng, runs):
    x, y = batch(rng)
    assert_same_steps(compiled(narrow()), x, form(y))
    assert runs["valid"] == 3


@pytest.mark.parametrize("wrong", [-1, CLASSES, 1 << 40])
def test_labels_out_of_range(wrong, rng, runs):
    x, y = batch(rng)
    model = compiled(narrow())
    model.train_step(x, y)
    before = model.get_weights()
    y[3] = wrong
    with pytest.raises(ValueError, match=rf"Labels must be in \[0, {CLASSES}\)"):
        model.train_step(x, y)
    assert runs == {"valid": 1, "void": 1}
    assert model.optimizer.iterations == 1
    for a, b in zip(before, model.weights, strict=True):
        assert_array_equal(a, b.data)


def test_outputs_are_the_users(rng):
    x, y = batch(rng)
    model = compiled(narrow())
    _, first = model.train_step(x, y)
    kept = first.copy()
    _, second = model.train_step(x, y)
    assert_array_equal(first, kept)
    assert not np.array_equal(first, second)
    assert first.flags.writeable


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(value, rng, runs):
    x, y = rng.standard_normal((2, 32, 32, 32)).astype("float32"), np.array([1, 4])
    row = [layers.Conv2D(32, 3), layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(CLASSES)]
    model = compiled(row, shape=x.shape[1:])
    assert_same_steps(model, x, y, 1)
    x[1, 2, 3, 4] = value
    with np.errstate(all="ignore"):
        assert_same_steps(model, x, y, 1)


def test_frozen_layers_and_what_is_changed_between_steps(rng, runs):
    x, y = batch(rng)
    model = compiled(narrow())
    assert_same_steps(model, x, y, 1)
    model.layers[0].trainable = False
    frozen = model.layers[0].kernel.data.copy()
    assert_same_steps(model, x, y, 1)
    assert_array_equal(model.layers[0].kernel.data, frozen)
    model.layers[0].trainable = True
    model.layers[2].kernel.data = model.layers[2].kernel.data * 2
    assert_same_steps(model, x, y, 1)
    model.optimizer.learning_rate = 0.5
    assert_same_steps(model, x, y, 1)
    model.add(layers.Dense(CLASSES))
    assert_same_steps(model, x, y, 1)
    assert runs == {"valid": 5, "void": 0}
    model.layers[5].activation = nc.autograd.ops.tanh
    assert_same_steps(model, x, y, 1)
    model.trainable = False
    with pytest.raises(ValueError, match="has no trainable weights"):
        model.train_step(x, y)
    assert runs == {"valid": 5, "void": 0}


class OwnCall(nc.Sequential):
    def call(self, inputs, training=False):
        return 2 * super().call(inputs, training)


class OwnUpdate(nc.optimizers.Adam):
    def update(self, weight, gradient, rate, **slots):
        weight -= gradient


def own_call():
    model = OwnCall([layers.Input((16, 14, 3)), *narrow()], seed=3)
    model.compile("adam", nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def regularized():
    model = compiled(narrow())
    model.layers[2].kernel.regularizer = nc.regularizers.get("l2")
    return model


def with_gradient():
    model = compiled(narrow())
    model.layers[2].kernel.grad = np.ones_like(model.layers[2].kernel.data)
    return model


@pytest.mark.parametrize(
    "make",
    [
        own_call,
        regularized,
        with_gradient,
        lambda: compiled(narrow(), OwnUpdate(0.01)),
        lambda: compiled([*narrow(), layers.Softmax()], loss=nc.losses.SparseCategoricalCrossentropy()),
        lambda: compiled([layers.BatchNormalization(), *narrow()]),
        lambda: compiled([*narrow()[:-1], layers.Dense(80)]),
        lambda: compiled(narrow("float64")),
    ],
    ids=["call", "regularizer", "gradient", "update", "probabilities", "normalized", "many_classes", "cast"],
)
def test_steps_that_are_no_program(make, rng, runs):
    model, (x, y) = make(), batch(rng)
    assert_same_steps(model, x, y, 1)
    assert runs["valid"] == 0


def test_gradients_that_a_weight_has_already_count(rng):
    x, y = batch(rng)
    model = compiled(narrow(), nc.optimizers.SGD(1.0))
    other = copy.deepcopy(model)
    weight = model.layers[2].kernel
    weight.grad = np.full_like(weight.data, 3)
    model.train_step(x, y)
    other.train_step(x, y)
    assert_allclose(other.layers[2].kernel.data - weight.data, np.full(weight.shape, 3), rtol=1e-4)


def test_no_gradients_inside_no_grad(rng):
    x, y = batch(rng)
    model = compiled(narrow())
    model.train_step(x, y)
    with nc.no_grad(), pytest.raises(RuntimeError, match=r"backward\(\) needs a tensor that requires gradients"):
        model.train_step(x, y)


def test_errors_are_those_of_the_layers(rng):
    x, y = batch(rng)
    model = compiled(narrow())
    model.train_step(x, y)
    for wrong in ((8, 16, 14, 4), (8, 18, 14, 3)):
        with pytest.raises(ValueError, match=r"layer 'input' is incompatible with the layer: expected shape="):
            model.train_step(np.zeros(wrong, "float32"), y)
    with pytest.raises(ValueError, match="same shape up until the last dimension"):
        model.train_step(x, y[:-1])
