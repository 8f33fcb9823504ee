"""Cross-entropy from logits, each one step that neither overflows nor takes the logarithm of 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from numbaconv.autograd import rules
from numbaconv.autograd.joint import Gradients, record_joint
from numbaconv.autograd.recycling import like
from numbaconv.autograd.tensor import Tensor, TensorLike, apply, record, to_arrays, values

__all__ = ["sigmoid_cross_entropy", "softmax_cross_entropy"]


def softmax_cross_entropy(logits: TensorLike, target: Any, axis: int = -1) -> Any:
    """Compute ``-sum(target * log_softmax(logits))`` along an axis: one loss per sample.

    Parameters
    ----------
    logits : Tensor or array
    target : array
        Integers: labels, in the shape of ``logits`` without ``axis``.  Floats: probabilities, in the shape of
        ``logits``.  No gradient flows to it.
    axis : int, default -1
        The axis of classes.

    Raises
    ------
    ValueError
        If ``target`` has another shape, or a label is not in [0, classes).

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import Tensor, ops
    >>> logits = Tensor(np.zeros((1, 4)), requires_grad=True)
    >>> loss = ops.softmax_cross_entropy(logits, np.array([2]))
    >>> loss.sum().backward()
    >>> logits.grad.tolist()
    [[0.25, 0.25, -0.75, 0.25]]
    """
    operands = (logits,)
    arrays = to_arrays("softmax_cross_entropy", operands)
    x = arrays[0]
    axis = normalize_axis_index(axis, x.ndim)
    target = np.asarray(values(target))
    if target.dtype.kind == "b":
        target = target.astype(x.dtype)
    labels = target.dtype.kind in "iu"
    shape = x.shape[:axis] + x.shape[axis + 1 :] if labels else x.shape
    if target.shape != shape:
        raise ValueError(
            f"target must have shape {shape} for {'integer labels' if labels else 'probabilities'} and logits of shape "
            f"{x.shape}. Received: target.shape={target.shape}, target.dtype={target.dtype}"
        )
    if labels:
        check_labels(target, x.shape[axis])
        loss, slopes = rules.label_cross_entropy(x, target, axis)
        return record("label_cross_entropy", loss, operands, arrays, slopes=slopes, axis=axis)
    log_probabilities = rules.log_softmax(x, axis)
    target = target.astype(x.dtype, copy=False)
    loss = -(target * log_probabilities).sum(axis=axis)
    context = {"log_probabilities": log_probabilities, "target": target, "axis": axis}
    return record("softmax_cross_entropy", loss, operands, arrays, **context)


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raise ValueError where a label is not in [0, classes)."""
    if are_labels(labels, classes):
        return
    wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
    raise ValueError(f"target labels must be in [0, {classes}), the number of classes. Received: {wrong}")


def are_labels(labels: np.ndarray, classes: int) -> bool:
    """Whether all integers are in [0, classes)."""
    if labels.dtype == np.int64:
        # Negative numbers are the largest of unsigned ones: one sweep sees to both bounds.
        return not labels.size or bool(labels.view(np.uint64).max() < classes)
    return not labels.size or bool(labels.min() >= 0 and labels.max() < classes)


def mean_label_cross_entropy(logits: Tensor, labels: np.ndarray, axis: int) -> Any:
    """Compute the mean of `softmax_cross_entropy` for labels of the right shape in [0, classes)."""
    losses, slopes = rules.label_cross_entropy(logits.data, labels, axis)
    count = losses.dtype.type(losses.size)

    def compute(g: np.ndarray) -> Gradients:
        # d(-log p[label])/dx = p, less 1 at the label
        gradient = np.multiply(slopes, g / count, out=like(slopes))
        return [(0, gradient if axis == gradient.ndim - 1 else np.moveaxis(gradient, -1, axis))]

    with np.errstate(invalid="ignore"):  # the mean of no samples is NaN
        loss = np.add.reduce(losses, axis=None) / count
    return record_joint("mean_label_cross_entropy", np.asarray(loss), (logits,), compute)


def sigmoid_cross_entropy(logits: TensorLike, target: Any) -> Any:
    """Compute ``-target * log(s) - (1 - target) * log(1 - s)`` with ``s = sigmoid(logits)``, element by element.

    Parameters
    ----------
    logits : Tensor or array
    target : array
        Probabilities, of a shape that broadcasts against ``logits``.  No gradient flows to it.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.sigmoid_cross_entropy([0.0, 1000.0], [1.0, 1.0]).round(4)
    array([0.6931, 0.    ], dtype=float32)
    """
    arrays = to_arrays("sigmoid_cross_entropy", (logits,))
    target = np.asarray(values(target), arrays[0].dtype)
    return apply("sigmoid_cross_entropy", rules.sigmoid_cross_entropy, (logits,), target=target)
