"""Reductions over axes, for tensors and arrays.

``axis`` is an int, a tuple of ints or None for all axes; ``keepdims`` keeps reduced axes with length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.autograd.tensor import Axis, TensorLike, apply

__all__ = ["max", "mean", "min", "sum", "var"]


def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over axes.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, tuple of int or None
        Axes to reduce; None for all.
    keepdims : bool
        Whether reduced axes stay, with length 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0).tolist()
    [4.0, 6.0]
    """
    return apply("sum", np.sum, (x,), axis=axis, keepdims=keepdims)


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Average over axes.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, tuple of int or None
        Axes to reduce; None for all.
    keepdims : bool
        Whether reduced axes stay, with length 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.mean([[1.0, 2.0], [3.0, 4.0]], axis=-1).tolist()
    [1.5, 3.5]
    """
    return apply("mean", np.mean, (x,), axis=axis, keepdims=keepdims)


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Take the maximum over axes; elements that attain it together share the gradient equally.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, tuple of int or None
        Axes to reduce; None for all.
    keepdims : bool
        Whether reduced axes stay, with length 1.

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
    """Take the minimum over axes; elements that attain it together share the gradient equally.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, tuple of int or None
        Axes to reduce; None for all.
    keepdims : bool
        Whether reduced axes stay, with length 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.min([[1.0, 2.0], [3.0, 4.0]], keepdims=True).tolist()
    [[1.0]]
    """
    return apply("min", np.min, (x,), axis=axis, keepdims=keepdims)


def var(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Compute the variance ``mean((x - mean(x)) ** 2)`` over axes.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, tuple of int or None
        Axes to reduce; None for all.
    keepdims : bool
        Whether reduced axes stay, with length 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.var([[1.0, 3.0], [2.0, 6.0]], axis=1).tolist()
    [1.0, 4.0]
    """
    return apply("var", np.var, (x,), axis=axis, keepdims=keepdims)
