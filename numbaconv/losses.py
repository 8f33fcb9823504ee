"""Losses with Keras's names and formulas: the mean over the batch, as a scalar Tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor, ops
from numbaconv.autograd.crossentropy import are_labels, mean_label_cross_entropy
from numbaconv.lookup import find

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "get",
]

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken, as in Keras.
EPSILON = 1e-7


class Loss(ABC):
    """Distance between targets and predictions, averaged over the batch.

    Parameters
    ----------
    name : str, optional
        Name in messages.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    @abstractmethod
    def __call__(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss of predictions `y_pred` for targets `y_true`, as a scalar."""


class MeanSquaredError(Loss):
    """Mean of squared differences: `mean((y_true - y_pred) ** 2)`.

    Parameters
    ----------
    name : str, optional
        Name in messages.

    Examples
    --------
    >>> MeanSquaredError()(np.array([[1.0, 2.0]]), Tensor(np.array([[1.0, 4.0]]))).item()
    2.0
    """

    def __call__(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        y_true : array_like
            Targets of the shape of `y_pred`; a last axis of size 1 may be missing.
        y_pred : Tensor
            Predictions.

        Raises
        ------
        ValueError
            When the shapes differ.
        """
        target = shaped_targets(y_true, y_pred, self.name)
        return ops.mean(ops.square(y_pred - target))


class CategoricalCrossentropy(Loss):
    """Cross-entropy between two distributions over classes: `mean(-sum(y_true * log(p)))`.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits; then `p = softmax(y_pred)`, else predictions divided by their sum.
    label_smoothing : float
        Fraction of every target, in [0, 1], spread over all classes.
    axis : int
        The axis of the classes.
    name : str, optional
        Name in messages.

    Raises
    ------
    ValueError
        When `label_smoothing` is out of range.

    Examples
    --------
    >>> loss = CategoricalCrossentropy()
    >>> round(loss(np.array([[0.0, 1.0]]), Tensor(np.array([[0.5, 0.5]]))).item(), 4)
    0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.from_logits = from_logits
        self.label_smoothing = _check_smoothing(label_smoothing)
        self.axis = axis

    def __call__(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        y_true : array_like
            Probabilities of the shape of `y_pred`, such as one-hot rows.
        y_pred : Tensor
            Probabilities or logits.

        Raises
        ------
        ValueError
            When the shapes differ.
        """
        array = np.asarray(y_true)
        if array.shape != y_pred.shape:
            raise ValueError(
                "Arguments `target` and `output` must have the same shape. "
                f"Received: target.shape={array.shape}, output.shape={y_pred.shape}. Categorical cross-entropy takes "
                "one-hot rows; for integer labels use 'sparse_categorical_crossentropy'."
            )
        target = array.astype(y_pred.dtype, copy=False)
        if self.label_smoothing:
            target = target * (1.0 - self.label_smoothing) + self.label_smoothing / y_pred.shape[self.axis]
        if self.from_logits:
            return ops.mean(ops.softmax_cross_entropy(y_pred, target, axis=self.axis))
        probabilities = y_pred / ops.sum(y_pred, axis=self.axis, keepdims=True)
        logarithms = ops.log(ops.clip(probabilities, EPSILON, 1.0 - EPSILON))
        return -ops.mean(ops.sum(target * logarithms, axis=self.axis))


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy of integer labels: `mean(-log(p[label]))`.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits; then `p = softmax(y_pred)`, else `y_pred` itself.
    axis : int
        The axis of the classes.
    name : str, optional
        Name in messages.

    Examples
    --------
    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> round(loss(np.array([2]), Tensor(np.zeros((1, 4)))).item(), 4)
    1.3863
    """

    def __init__(self, from_logits: bool = False, axis: int = -1, name: str | None = None) -> None:
        super().__init__(name)
        self.from_logits = from_logits
        self.axis = axis

    def __call__(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        y_true : array_like of int
            Labels in `[0, classes)`, of the shape of `y_pred` without its class axis, or with size 1 there.
        y_pred : Tensor
            Probabilities or logits.

        Raises
        ------
        ValueError
            When the shapes do not fit or a label is out of range.
        TypeError
            When the labels are not integers.
        """
        axis = self.axis % y_pred.ndim
        labels = self._labels(y_true, y_pred.shape, axis)
        if self.from_logits:
            return mean_label_cross_entropy(y_pred, labels, axis)
        index: list[np.ndarray] = list(np.indices(labels.shape, sparse=True))
        index.insert(axis, labels)
        return -ops.mean(ops.log(ops.clip(y_pred[tuple(index)], EPSILON, 1.0 - EPSILON)))

    def _labels(self, y_true: Any, shape: tuple[int, ...], axis: int) -> np.ndarray:
        labels = np.asarray(y_true)
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"`{self.name}` takes integer labels. Received: y_true of dtype {labels.dtype}, shape {labels.shape}. "
                "Pass y.astype(np.int64), or one-hot rows with 'categorical_crossentropy'."
            )
        expected = (*shape[:axis], *shape[axis + 1 :])
        if labels.ndim == len(shape) and labels.shape[axis] == 1:
            labels = labels.squeeze(axis)
        if labels.shape != expected:
            raise ValueError(
                "Arguments `target` and `output` must have the same shape up until the last dimension: "
                f"target.shape={np.shape(y_true)}, output.shape={shape}. Labels for these predictions have shape "
                f"{expected}; for one-hot rows use 'categorical_crossentropy'."
            )
        if not are_labels(labels, shape[axis]):
            wrong = int(labels[(labels < 0) | (labels >= shape[axis])].flat[0])
            remedy = (
                f"Give the last layer at least {wrong + 1} units, or check the labels."
                if wrong >= 0
                else "Number the classes from 0."
            )
            raise ValueError(
                f"Labels must be in [0, {shape[axis]}), one per class that the model predicts. Received: label "
                f"{wrong}. {remedy}"
            )
        return labels


class BinaryCrossentropy(Loss):
    """Cross-entropy of independent yes-or-no targets: `mean(-y log(p) - (1 - y) log(1 - p))`.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits; then `p = sigmoid(y_pred)`, else `y_pred` itself.
    label_smoothing : float
        Fraction of every target, in [0, 1], drawn to one half.
    name : str, optional
        Name in messages.

    Raises
    ------
    ValueError
        When `label_smoothing` is out of range.

    Examples
    --------
    >>> round(BinaryCrossentropy()(np.array([[1.0]]), Tensor(np.array([[0.5]]))).item(), 4)
    0.6931
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        self.from_logits = from_logits
        self.label_smoothing = _check_smoothing(label_smoothing)

    def __call__(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        y_true : array_like
            Probabilities of the shape of `y_pred`; a last axis of size 1 may be missing.
        y_pred : Tensor
            Probabilities or logits.

        Raises
        ------
        ValueError
            When the shapes differ.
        """
        target = shaped_targets(y_true, y_pred, self.name)
        if self.label_smoothing:
            target = target * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            return ops.mean(ops.sigmoid_cross_entropy(y_pred, target))
        probabilities = ops.clip(y_pred, EPSILON, 1.0 - EPSILON)
        return -ops.mean(target * ops.log(probabilities) + (1.0 - target) * ops.log(1.0 - probabilities))


def shaped_targets(y_true: Any, y_pred: Tensor | np.ndarray, name: str) -> np.ndarray:
    """Return the targets in the predictions' shape and dtype, a missing last axis of size 1 put back."""
    target = np.asarray(y_true)
    if target.shape != y_pred.shape:
        if target.shape == y_pred.shape[:-1] and y_pred.shape[-1] == 1:
            target = target[..., np.newaxis]
        else:
            raise ValueError(
                f"Arguments `target` and `output` must have the same shape. Received: target.shape={target.shape}, "
                f"output.shape={y_pred.shape}. Pass targets of shape {y_pred.shape} to `{name}`."
            )
    if target.dtype.kind not in "biuf":
        raise TypeError(f"Targets must be numbers. Received: y_true of dtype {target.dtype} for `{name}`.")
    return target.astype(y_pred.dtype, copy=False)


def _check_smoothing(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"`label_smoothing` must be in [0, 1]. Received: label_smoothing={value}. Pass for example 0.1"
        )
    return float(value)


_TABLE: dict[str, Callable[..., Any]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "bce": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
}


def get(identifier: Any) -> Callable[[Any, Tensor], Tensor]:
    """Return the loss a name, a class or a callable stands for.

    Parameters
    ----------
    identifier : str, type or callable
        A name such as `"mse"`, a `Loss` class or object, or a function of `(y_true, y_pred)` to a scalar Tensor.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object cannot be called.
    """
    return find("loss", identifier, _TABLE)
