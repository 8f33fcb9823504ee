"""Models: structure, training, evaluation, prediction, reproducibility."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers, seeding


def blobs(rng, n=120):
    """Three well-separated clouds of points in the plane and their labels."""
    labels = rng.integers(0, 3, n)
    points = np.array([[0, 2], [2, -1], [-2, -1]])[labels] + 0.3 * rng.normal(size=(n, 2))
    return points.astype(np.float32), labels


def classifier(seed=None, **options):
    model = nc.Sequential(
        [layers.Dense(16, activation="relu"), layers.Dropout(0.1), layers.Dense(3)], seed=seed, **options
    )
    model.compile(
        nc.optimizers.Adam(0.01), nc.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model


class TwoInputs(nc.Model):
    def __init__(self):
        super().__init__(seed=0)
        self.left = layers.Dense(3)
        self.right = layers.Dense(3)
        self.join = layers.Concatenate()
        self.head = layers.Dense(1)

    def call(self, inputs):
        return self.head(self.join([self.left(inputs[0]), self.right(inputs[1])]))


def test_training_learns_and_history_tells(rng):
    x, y = blobs(rng)
    history = classifier(seed=1).fit(x, y, epochs=15, validation_split=0.25, verbose=0)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(series) == 15 for series in history.history.values())
    assert history.history["val_accuracy"][-1] > 0.95
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]


def test_one_step_by_hand():
    model = nc.Sequential([layers.Dense(1, kernel_initializer="ones")])
    model.compile(nc.optimizers.SGD(0.1), "mse")
    x, y = np.array([[1.0], [3.0]], np.float32), np.array([0.0, 1.0])
    history = model.fit(x, y, shuffle=False, verbose=0)
    # Predictions 1 and 3, errors 1 and 2: loss 5/2, gradients (1*1 + 2*3) and (1 + 2).
    assert history.history["loss"] == [2.5]
    assert model.get_weights()[0].item() == pytest.approx(1 - 0.1 * 7)
    assert model.get_weights()[1].item() == pytest.approx(-0.1 * 3)


def test_logged_averages_are_over_samples_not_batches():
    model = nc.Sequential([layers.Input((1,)), layers.Dense(1, kernel_initializer="ones", trainable=True)])
    model.compile(nc.optimizers.SGD(0.0), "mse")
    x = np.array([[1.0], [2.0], [3.0]], np.float32)
    history = model.fit(x, np.zeros(3), batch_size=2, verbose=0, validation_data=(x, np.zeros(3)))
    assert history.history["loss"][0] == pytest.approx(14 / 3)
    assert history.history["val_loss"][0] == pytest.approx(14 / 3)
    assert model.evaluate(x, np.zeros(3), batch_size=2) == pytest.approx(14 / 3)


def test_penalties_are_part_of_the_loss_in_training_and_evaluation():
    layer = layers.Dense(1, kernel_initializer="ones", kernel_regularizer=nc.regularizers.L2(0.5))
    model = nc.Sequential([layers.Input((1,)), layer])
    model.compile(nc.optimizers.SGD(0.1), "mse")
    x, y = np.array([[1.0]], np.float32), np.array([1.0])
    assert model.evaluate(x, y) == pytest.approx(0.5)
    assert model.fit(x, y, verbose=0).history["loss"] == [0.5]
    assert layer.kernel.data.item() == pytest.approx(0.9)


def same_weights(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def test_a_models_seed_repeats_the_run_bit_for_bit(rng):
    x, y = blobs(rng)
    runs = []
    for _ in range(2):
        model = classifier(seed=7)
        runs.append((model, model.fit(x, y, epochs=3, verbose=0).history))
    assert runs[0][1] == runs[1][1]
    assert same_weights(runs[0][0], runs[1][0])
    other = classifier(seed=8)
    assert other.fit(x, y, epochs=3, verbose=0).history != runs[0][1]


def test_set_seed_and_fits_seed_repeat_too(rng):
    x, y = blobs(rng)
    runs = []
    for _ in range(2):
        seeding.set_seed(3)
        runs.append(classifier().fit(x, y, epochs=2, verbose=0).history)
    assert runs[0] == runs[1]
    runs = [classifier().fit(x, y, epochs=2, verbose=0, seed=4).history for _ in range(2)]
    assert runs[0] == runs[1]


def test_convolutional_training_repeats_bit_for_bit(rng):
    x = rng.normal(size=(40, 8, 8, 2)).astype(np.float32)
    y = rng.integers(0, 2, 40)
    runs = []
    for _ in range(2):
        model = nc.Sequential(
            [
                layers.Conv2D(6, 3, padding="same", activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Conv2D(6, 3, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, activation="softmax"),
            ],
            seed=0,
        )
        model.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"])
        runs.append((model, model.fit(x, y, epochs=2, verbose=0, batch_size=16).history))
    assert runs[0][1] == runs[1][1]
    assert same_weights(runs[0][0], runs[1][0])


def test_shuffling_changes_the_order_and_misses_nothing():
    seen = []

    class Spy(layers.Layer):
        def call(self, x):
            seen.append(x.data[:, 0].copy())
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    model = nc.Sequential([layers.Input((1,)), Spy(), layers.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    x = np.arange(10, dtype=np.float32)[:, np.newaxis]
    model.fit(x, np.zeros(10), batch_size=4, epochs=2, verbose=0)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    seen.clear()
    model.fit(x, np.zeros(10), batch_size=4, verbose=0, shuffle=False)
    assert list(np.concatenate(seen)) == list(range(10))


def test_validation_split_takes_the_last_samples_before_shuffling():
    model = nc.Sequential([layers.Input((1,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(nc.optimizers.SGD(0.0), "mse")
    x = np.arange(10, dtype=np.float32)[:, np.newaxis]
    history = model.fit(x, np.zeros(10), validation_split=0.2, verbose=0).history
    assert history["val_loss"][0] == pytest.approx((64 + 81) / 2)
    assert history["loss"][0] == pytest.approx(sum(n * n for n in range(8)) / 8)


def test_predict_in_batches_is_predict_at_once(rng):
    x, _ = blobs(rng, 50)
    model = classifier(seed=0)
    at_once = model.predict(x, batch_size=50)
    np.testing.assert_allclose(model.predict(x, batch_size=7), at_once, rtol=1e-5)
    assert isinstance(at_once, np.ndarray)
    assert model.predict(x[:0]).shape == (0, 3)


def test_prediction_and_evaluation_record_nothing_and_leave_weights_alone(rng):
    recorded = []

    class Spy(layers.Layer):
        def call(self, x):
            recorded.append(x.requires_grad)
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    model = nc.Sequential([layers.Dense(3), Spy(), layers.BatchNormalization()])
    model.compile("sgd", "mse")
    x = rng.normal(size=(10, 2)).astype(np.float32)
    model.predict(x)
    before = model.get_weights()
    model.evaluate(x, np.zeros((10, 3)))
    assert recorded == [False, False]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(x, np.zeros((10, 3)), verbose=0)
    assert recorded[2] is True


def test_prediction_of_an_identity_does_not_alias_the_input():
    x = np.ones((3, 2), np.float32)
    y = nc.Sequential([layers.Activation("linear")]).predict(x)
    assert not np.shares_memory(x, y)


def test_evaluate_returns_what_keras_returns(rng):
    x, y = blobs(rng)
    model = classifier(seed=0)
    values = model.evaluate(x, y)
    assert values == list(model.evaluate(x, y, return_dict=True).values())
    assert list(model.evaluate(x, y, return_dict=True)) == ["loss", "accuracy"]
    model.compile("sgd", nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert isinstance(model.evaluate(x, y), float)


def test_models_of_several_inputs(rng):
    a, b = rng.normal(size=(40, 2)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    y = a.sum(axis=1) - b.sum(axis=1)
    model = TwoInputs()
    model.compile(nc.optimizers.Adam(0.05), "mse")
    history = model.fit([a, b], y, epochs=20, verbose=0, validation_split=0.1).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert model.predict([a, b], batch_size=16).shape == (40, 1)
    assert model.compute_output_shape([(None, 2), (None, 5)]) == (None, 1)


def test_a_subclass_may_override_the_step(rng):
    class Counting(nc.Model):
        steps = 0

        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

        def train_step(self, inputs, targets):
            self.steps += 1
            return super().train_step(inputs, targets)

    x, y = blobs(rng)
    model = Counting()
    model.compile("sgd", nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=60, verbose=0)
    assert model.steps == 2


def test_a_custom_loss_is_a_function(rng):
    x, y = blobs(rng)
    model = nc.Sequential([layers.Dense(1)], seed=0)
    model.compile("sgd", lambda target, output: nc.ops.abs(output - target[:, np.newaxis]).mean())
    history = model.fit(x, y.astype(np.float32), epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_like_the_original(clone, rng):
    x, y = blobs(rng)
    model = classifier(seed=2)
    model.fit(x, y, epochs=2, verbose=0)
    twin = clone(model)
    histories = [m.fit(x, y, epochs=2, verbose=0, seed=1).history for m in (model, twin)]
    assert histories[0] == histories[1]
    assert same_weights(model, twin)


def test_memory_mapped_samples_train(tmp_path, rng):
    x, y = blobs(rng)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    histories = [classifier(seed=0).fit(data, y, verbose=0).history for data in (x, mapped)]
    assert histories[0] == histories[1]


def test_double_precision_data_are_cast_like_keras(rng):
    x, y = blobs(rng)
    model = classifier(seed=0)
    model.fit(x.astype(np.float64), y, verbose=0)
    assert model.predict(x.astype(np.float64)).dtype == np.float32


def test_frozen_layers_do_not_change(rng):
    x, y = blobs(rng)
    model = classifier(seed=0)
    model.build((None, 2))
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[2] != after[2]).any()


def test_sequential_add_pop_and_get_layer():
    model = nc.Sequential(name="net")
    model.add(layers.Input((4,)))
    model.add(layers.Dense(3))
    model.add(layers.Dense(2, name="head"))
    model.add(layers.Dense(5))
    assert [path for path, _ in model._children()] == ["dense", "head", "dense_1"]
    assert model.get_layer("dense_1") is model.layers[2] is model.get_layer(index=-1)
    assert model.pop() is not None
    assert model.get_layer("head").kernel.shape == (3, 2)
    assert model.compute_output_shape((None, 4)) == (None, 2)


def test_a_layer_used_twice_keeps_one_set_of_weights():
    shared = layers.Dense(4)
    model = nc.Sequential([layers.Input((4,)), shared, layers.ReLU(), shared])
    assert list(model.named_weights()) == ["dense/kernel", "dense/bias"]
    assert model.count_params() == 20


def test_models_nest(rng):
    x, y = blobs(rng)
    inner = nc.Sequential([layers.Dense(8, "relu"), layers.Dense(4, "relu")], name="features")
    model = nc.Sequential([inner, layers.Dense(3)], seed=0)
    model.compile("adam", nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    assert list(model.named_weights())[:2] == ["features/dense/kernel", "features/dense/bias"]
    assert model.macs((None, 2)) == 2 * 8 + 8 * 4 + 4 * 3
