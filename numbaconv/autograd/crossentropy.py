"""Cross-entropy from logits, each one step that neither overflows nor takes the logarithm of 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from numbaconv.autograd import rules
from numbaconv.autograd.tensor import TensorLike, apply, record, to_arrays, values

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
        if target.size and (target.min() < 0 or target.max() >= x.shape[axis]):
            wrong = target[(target < 0) | (target >= x.shape[axis])].flat[0]
            raise ValueError(f"target labels must be in [0, {x.shape[axis]}), the number of classes. Received: {wrong}")
        loss, weights, total, place = rules.label_cross_entropy(x, target, axis)
        kept = {"weights": weights, "total": total, "place": place, "axis": axis}
        return record("label_cross_entropy", loss, operands, arrays, **kept)
    log_probabilities = rules.log_softmax(x, axis)
    target = target.astype(x.dtype, copy=False)
    loss = -(target * log_probabilities).sum(axis=axis)
    context = {"log_probabilities": log_probabilities, "target": target, "axis": axis}
    return record("softmax_cross_entropy", loss, operands, arrays, **context)


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
