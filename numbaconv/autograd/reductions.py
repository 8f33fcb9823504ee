"""Reductions over axes, for tensors and arrays.

``axis`` is an int, a tuple of ints or None for all axes; ``keepdims`` keeps reduced axes with length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.autograd.tensor import Axis, TensorLike, apply

__all__ = ["max", "mean", "min", "sum", "var"]


def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over axes."""
    return apply("sum", np.sum, (x,), axis=axis, keepdims=keepdims)


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Average over axes."""
    return apply("mean", np.mean, (x,), axis=axis, keepdims=keepdims)


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Take the maximum over axes; elements that attain it together share the gradient equally.

    Examples
    --------
    >>> from numbaconv.autograd import Tensor, ops
    >>> x = Tensor([3.0, 1.0, 3.0], requires_grad=True)
    >>> ops.max(x).backward()
    >>> x.grad.tolist()
    [0.5, 0.0, 0.5]
    """
    return apply("max", np.max, (x,), axis=axis, keepdims=keepdims)


def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Take the minimum over axes; elements that attain it together share the gradient equally."""
    return apply("min", np.min, (x,), axis=axis, keepdims=keepdims)


def var(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Compute the variance ``mean((x - mean(x)) ** 2)`` over axes."""
    return apply("var", np.var, (x,), axis=axis, keepdims=keepdims)
