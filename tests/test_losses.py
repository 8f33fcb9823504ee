"""Losses against hand-computed values, their gradients, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import Tensor, losses
from numbaconv.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = np.array([2, 1])
ONE_HOT = np.eye(3)[LABELS]
BY_HAND = -(np.log(PROBABILITIES[0, 2]) + np.log(PROBABILITIES[1, 1])) / 2
BINARY = np.array([[1.0], [0.0], [1.0]])
SCORES = np.array([[2.0], [-1.0], [-3.0]])
SIGMOID = 1 / (1 + np.exp(-SCORES))
BINARY_BY_HAND = -(np.log(SIGMOID[0, 0]) + np.log(1 - SIGMOID[1, 0]) + np.log(SIGMOID[2, 0])) / 3


@pytest.mark.parametrize(
    ("loss", "target", "prediction", "expected"),
    [
        (MeanSquaredError(), [[1.0, 2.0], [3.0, 5.0]], [[0.0, 2.0], [3.0, 3.0]], 5 / 4),
        (SparseCategoricalCrossentropy(), LABELS, PROBABILITIES, BY_HAND),
        (SparseCategoricalCrossentropy(), LABELS[:, np.newaxis], PROBABILITIES, BY_HAND),
        (SparseCategoricalCrossentropy(), LABELS.astype(np.uint8), PROBABILITIES, BY_HAND),
        (SparseCategoricalCrossentropy(from_logits=True), LABELS, LOGITS, BY_HAND),
        (SparseCategoricalCrossentropy(axis=1), np.stack([LABELS] * 4, 1), np.stack([PROBABILITIES] * 4, 2), BY_HAND),
        (
            SparseCategoricalCrossentropy(from_logits=True, axis=1),
            np.stack([LABELS] * 4, 1),
            np.stack([LOGITS] * 4, 2),
            BY_HAND,
        ),
        (CategoricalCrossentropy(), ONE_HOT, PROBABILITIES, BY_HAND),
        (CategoricalCrossentropy(), ONE_HOT, 7 * PROBABILITIES, BY_HAND),
        (CategoricalCrossentropy(from_logits=True), ONE_HOT.astype(int), LOGITS, BY_HAND),
        (
            CategoricalCrossentropy(label_smoothing=0.3),
            ONE_HOT,
            PROBABILITIES,
            -np.sum((ONE_HOT * 0.7 + 0.1) * np.log(PROBABILITIES)) / 2,
        ),
        (BinaryCrossentropy(), BINARY, SIGMOID, BINARY_BY_HAND),
        (BinaryCrossentropy(), BINARY[:, 0].astype(bool), SIGMOID, BINARY_BY_HAND),
        (BinaryCrossentropy(from_logits=True), BINARY, SCORES, BINARY_BY_HAND),
        (
            BinaryCrossentropy(label_smoothing=0.2),
            BINARY,
            SIGMOID,
            -np.mean((0.8 * BINARY + 0.1) * np.log(SIGMOID) + (0.9 - 0.8 * BINARY) * np.log(1 - SIGMOID)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_by_hand_and_gradients(loss, target, prediction, expected):
    prediction = np.asarray(prediction)
    assert loss(target, Tensor(prediction)).item() == pytest.approx(expected, rel=1e-9)
    nc.grad_check(lambda y: loss(target, y), prediction)


def test_certain_and_wrong_predictions_stay_finite():
    certain = Tensor(np.array([[0.0, 1.0]], np.float32))
    assert SparseCategoricalCrossentropy()([0], certain).item() == pytest.approx(-np.log(1e-7), rel=1e-5)
    assert CategoricalCrossentropy()([[1, 0]], certain).item() == pytest.approx(-np.log(1e-7), rel=1e-5)
    assert np.isfinite(BinaryCrossentropy()([[1.0, 0.0]], certain).item())
    extreme = Tensor(np.array([[-1000.0, 1000.0]], np.float32))
    assert SparseCategoricalCrossentropy(from_logits=True)([0], extreme).item() == 2000
    assert BinaryCrossentropy(from_logits=True)([[1.0, 0.0]], extreme).item() == 1000


def test_losses_keep_the_predictions_dtype():
    for loss in (MeanSquaredError(), BinaryCrossentropy(), BinaryCrossentropy(from_logits=True)):
        assert loss(BINARY, Tensor(SIGMOID.astype(np.float32))).dtype == np.float32
    for loss in (CategoricalCrossentropy(), CategoricalCrossentropy(from_logits=True)):
        assert loss(ONE_HOT, Tensor(PROBABILITIES.astype(np.float32))).dtype == np.float32


def test_agreement_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    logits, labels, target = rng.normal(size=(6, 5)), rng.integers(0, 5, 6), rng.random((6, 5))
    ours = SparseCategoricalCrossentropy(from_logits=True)(labels, Tensor(logits)).item()
    assert ours == pytest.approx(torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item())
    ours = BinaryCrossentropy(from_logits=True)(target, Tensor(logits)).item()
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(target))
    assert ours == pytest.approx(theirs.item())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mse", MeanSquaredError),
        ("mean_squared_error", MeanSquaredError),
        ("bce", BinaryCrossentropy),
        ("binary_crossentropy", BinaryCrossentropy),
        ("categorical_crossentropy", CategoricalCrossentropy),
        ("sparse_categorical_crossentropy", SparseCategoricalCrossentropy),
        (MeanSquaredError, MeanSquaredError),
    ],
)
def test_names(name, kind):
    assert isinstance(losses.get(name), kind)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: MeanSquaredError()(np.zeros((3, 2)), Tensor(np.zeros((3, 1)))),
            ValueError,
            "Arguments `target` and `output` must have the same shape. Received: target.shape=(3, 2), "
            "output.shape=(3, 1). Pass targets of shape (3, 1) to `MeanSquaredError`.",
        ),
        (
            lambda: MeanSquaredError()(np.array(["a"]), Tensor(np.zeros(1))),
            TypeError,
            "Targets must be numbers. Received: y_true of dtype <U1 for `MeanSquaredError`.",
        ),
        (
            lambda: CategoricalCrossentropy()([1, 2], Tensor(PROBABILITIES)),
            ValueError,
            "Arguments `target` and `output` must have the same shape. Received: target.shape=(2,), output.shape=(2, "
            "3). Categorical cross-entropy takes one-hot rows; for integer labels use "
            "'sparse_categorical_crossentropy'.",
        ),
        (
            lambda: SparseCategoricalCrossentropy()(ONE_HOT.astype(int), Tensor(PROBABILITIES)),
            ValueError,
            "Arguments `target` and `output` must have the same shape up until the last dimension: target.shape=(2, "
            "3), output.shape=(2, 3). Labels for these predictions have shape (2,); for one-hot rows use "
            "'categorical_crossentropy'.",
        ),
        (
            lambda: SparseCategoricalCrossentropy()([0.0, 1.0], Tensor(PROBABILITIES)),
            TypeError,
            "`SparseCategoricalCrossentropy` takes integer labels. Received: y_true of dtype float64, shape (2,). Pass "
            "y.astype(np.int64), or one-hot rows with 'categorical_crossentropy'.",
        ),
        (
            lambda: SparseCategoricalCrossentropy()([0, 3], Tensor(PROBABILITIES)),
            ValueError,
            "Labels must be in [0, 3), one per class that the model predicts. Received: label 3. Give the last layer "
            "at least 4 units, or check the labels.",
        ),
        (
            lambda: SparseCategoricalCrossentropy(from_logits=True)([-1, 0], Tensor(PROBABILITIES)),
            ValueError,
            "Labels must be in [0, 3), one per class that the model predicts. Received: label -1. Number the classes "
            "from 0.",
        ),
        (
            lambda: BinaryCrossentropy(label_smoothing=2),
            ValueError,
            "`label_smoothing` must be in [0, 1]. Received: label_smoothing=2. Pass for example 0.1",
        ),
        (
            lambda: losses.get("crossentropy"),
            ValueError,
            "Unknown loss: 'crossentropy'. Did you mean 'binary_crossentropy'? Names that work: 'bce', "
            "'binary_crossentropy', 'categorical_crossentropy', 'mean_squared_error', 'mse', "
            "'sparse_categorical_crossentropy'.",
        ),
    ],
)
def test_error_text(make, kind, text):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
