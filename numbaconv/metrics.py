"""Running averages over the batches of an epoch: how often predictions are right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor
from numbaconv.lookup import find
from numbaconv.losses import shaped_targets

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "get",
]


class Metric(ABC):
    """Mean over samples of a value per sample, gathered batch by batch.

    Parameters
    ----------
    name : str
        Name in logs and histories.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self.total = 0.0
        self.count = 0

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """Add a batch.

        Parameters
        ----------
        y_true, y_pred : array_like
            Targets and predictions with the batch axis first.

        Raises
        ------
        ValueError
            When the shapes do not fit.
        """
        predictions = y_pred.data if isinstance(y_pred, Tensor) else np.asarray(y_pred)
        matches = self.values(np.asarray(y_true), predictions)
        self.total += float(np.sum(matches))
        self.count += matches.size

    def result(self) -> float:
        """Return the mean so far; 0 before the first batch."""
        return self.total / self.count if self.count else 0.0

    @abstractmethod
    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return one value per sample."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}, result={self.result():.4f}>"


class Mean(Metric):
    """Mean of given values, each with a weight; holds the loss of an epoch.

    Parameters
    ----------
    name : str
        Name in logs and histories.
    """

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)

    def update_state(self, y_true: Any, y_pred: Any = 1) -> None:
        """Add the value `y_true` with the weight `y_pred`."""
        self.total += float(y_true) * y_pred
        self.count += y_pred

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the values."""
        return y_true


class Accuracy(Metric):
    """Share of predictions equal to the targets.

    Parameters
    ----------
    name : str
        Name in logs and histories.

    Examples
    --------
    >>> metric = Accuracy()
    >>> metric.update_state([1, 2, 3, 4], [0, 2, 3, 4])
    >>> metric.result()
    0.75
    """

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each prediction is right."""
        return shaped_targets(y_true, y_pred, self.name) == y_pred


class BinaryAccuracy(Metric):
    """Share of predictions on the right side of a threshold.

    Parameters
    ----------
    name : str
        Name in logs and histories.
    threshold : float
        Predictions above it mean 1. For logits pass 0.

    Examples
    --------
    >>> metric = BinaryAccuracy()
    >>> metric.update_state([[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]])
    >>> metric.result()
    0.75
    """

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each prediction is right."""
        return (y_pred > self.threshold) == shaped_targets(y_true, y_pred, self.name)


class CategoricalAccuracy(Metric):
    """Share of samples whose greatest prediction is where the one-hot target is greatest.

    Parameters
    ----------
    name : str
        Name in logs and histories.

    Examples
    --------
    >>> metric = CategoricalAccuracy()
    >>> metric.update_state([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0.0]])
    >>> metric.result()
    0.5
    """

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each prediction is right."""
        return shaped_targets(y_true, y_pred, self.name).argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(Metric):
    """Share of samples whose greatest prediction is at the integer target.

    Parameters
    ----------
    name : str
        Name in logs and histories.

    Examples
    --------
    >>> metric = SparseCategoricalAccuracy()
    >>> metric.update_state([2, 1], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]])
    >>> metric.result()
    0.5
    """

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each prediction is right."""
        return _labels_for(y_true, y_pred) == y_pred.argmax(axis=-1)


class TopKCategoricalAccuracy(Metric):
    """Share of samples whose one-hot target is among the k greatest predictions.

    Parameters
    ----------
    k : int
        How many predictions count.
    name : str
        Name in logs and histories.
    """

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        super().__init__(name)
        self.k = _check_k(k)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each target is among the k greatest predictions."""
        return _in_top_k(shaped_targets(y_true, y_pred, self.name).argmax(axis=-1), y_pred, self.k)


class SparseTopKCategoricalAccuracy(Metric):
    """Share of samples whose integer target is among the k greatest predictions.

    Parameters
    ----------
    k : int
        How many predictions count.
    name : str
        Name in logs and histories.
    """

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(name)
        self.k = _check_k(k)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return whether each target is among the k greatest predictions."""
        return _in_top_k(_labels_for(y_true, y_pred), y_pred, self.k)


def _labels_for(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"Integer targets for predictions of shape {y_pred.shape} must have shape {y_pred.shape[:-1]}. "
            f"Received: y_true.shape={y_true.shape}."
        )
    return y_true


def _in_top_k(labels: np.ndarray, y_pred: np.ndarray, k: int) -> np.ndarray:
    """Return whether fewer than k predictions exceed that of the label, so that ties count as right."""
    own = np.take_along_axis(y_pred, labels[..., np.newaxis].astype(np.intp), axis=-1)
    return (y_pred > own).sum(axis=-1) < k


def _check_k(k: int) -> int:
    if k < 1:
        raise ValueError(f"Argument `k` must be a positive integer. Received: k={k}. Pass for example k=5.")
    return k


_TABLE: dict[str, Callable[..., Metric]] = {
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
}
_ACCURACY_NAMES = ("accuracy", "acc")


def get(identifier: Any) -> Metric:
    """Return the metric a name, a class or an object stands for.

    Parameters
    ----------
    identifier : str, type or Metric
        A name such as `"categorical_accuracy"`, a `Metric` class or object.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object is no metric.
    """
    return find("metric", identifier, _TABLE | dict.fromkeys(_ACCURACY_NAMES, Accuracy), Metric)


def accuracy_for(name: str, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> Metric | None:
    """Return the accuracy that `"accuracy"` means for these targets and predictions; None for another name.

    Keras's rule: one prediction per sample is binary, targets with an axis less than the predictions are labels. Binary
    logits are compared with 0.
    """
    if name not in _ACCURACY_NAMES:
        return None
    if y_pred.shape[-1] == 1:
        return BinaryAccuracy(name, threshold=0.0 if from_logits else 0.5)
    sparse = y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1
    return SparseCategoricalAccuracy(name) if sparse else CategoricalAccuracy(name)
