"""Metrics against counted examples, gathered over batches of different sizes."""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv import Tensor, metrics
from numbaconv.metrics import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)

SCORES = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.4, 0.5, 0.1]])
LABELS = np.array([1, 2, 2, 0])


@pytest.mark.parametrize(
    ("metric", "target", "prediction", "expected"),
    [
        (Accuracy(), [1, 2, 3, 4], [0, 2, 3, 4], 0.75),
        (BinaryAccuracy(), [[1], [1], [0], [0]], [[0.98], [1.0], [0.0], [0.6]], 0.75),
        (BinaryAccuracy(), [1, 1, 0, 0], [[0.98], [1.0], [0.0], [0.6]], 0.75),
        (BinaryAccuracy(threshold=0.0), [[1], [0]], [[0.1], [-3.0]], 1.0),
        (SparseCategoricalAccuracy(), LABELS, SCORES, 0.5),
        (SparseCategoricalAccuracy(), LABELS[:, np.newaxis], SCORES, 0.5),
        (CategoricalAccuracy(), np.eye(3)[LABELS], SCORES, 0.5),
        (SparseTopKCategoricalAccuracy(k=2), LABELS, SCORES, 1.0),
        (SparseTopKCategoricalAccuracy(k=1), LABELS, SCORES, 0.5),
        (TopKCategoricalAccuracy(k=2), np.eye(3)[[0, 1, 1, 2]], SCORES, 0.25),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(metric, target, prediction, expected):
    target, prediction = np.asarray(target), np.asarray(prediction)
    metric.update_state(target, Tensor(prediction) if prediction.dtype.kind == "f" else prediction)
    assert metric.result() == expected
    metric.reset_state()
    assert metric.result() == 0
    # Batches of 3 and 1: a mean over samples, not over batches.
    metric.update_state(target[:3], prediction[:3])
    metric.update_state(target[3:], prediction[3:])
    assert metric.result() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "prediction", "from_logits", "kind"),
    [
        (LABELS, SCORES, False, SparseCategoricalAccuracy),
        (LABELS[:, np.newaxis], SCORES, True, SparseCategoricalAccuracy),
        (np.eye(3)[LABELS], SCORES, False, CategoricalAccuracy),
        (LABELS, SCORES[:, :1], False, BinaryAccuracy),
    ],
)
def test_accuracy_takes_the_form_that_fits(target, prediction, from_logits, kind):
    metric = metrics.accuracy_for("accuracy", target, prediction, from_logits)
    assert type(metric) is kind
    assert metric.name == "accuracy"


def test_binary_accuracy_of_logits_has_its_threshold_at_zero():
    assert metrics.accuracy_for("acc", LABELS, SCORES[:, :1], True).threshold == 0.0
    assert metrics.accuracy_for("acc", LABELS, SCORES[:, :1], False).threshold == 0.5
    assert metrics.accuracy_for("binary_accuracy", LABELS, SCORES[:, :1], False) is None


def test_names():
    assert isinstance(metrics.get("categorical_accuracy"), CategoricalAccuracy)
    given = BinaryAccuracy()
    assert metrics.get(given) is given


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: SparseCategoricalAccuracy().update_state([1, 2, 3], SCORES),
            ValueError,
            "Integer targets for predictions of shape (4, 3) must have shape (4,). Received: y_true.shape=(3,).",
        ),
        (
            lambda: metrics.get("acuracy"),
            ValueError,
            "Unknown metric: 'acuracy'. Did you mean 'accuracy'? Names that work: 'acc', 'accuracy', "
            "'binary_accuracy', 'categorical_accuracy', 'sparse_categorical_accuracy', "
            "'sparse_top_k_categorical_accuracy', 'top_k_categorical_accuracy'.",
        ),
        (
            lambda: TopKCategoricalAccuracy(k=0),
            ValueError,
            "Argument `k` must be a positive integer. Received: k=0. Pass for example k=5.",
        ),
    ],
)
def test_error_text(make, kind, text):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
