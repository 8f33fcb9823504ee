"""Element-wise arithmetic and the matrix product, for tensors and arrays."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from numbaconv.autograd import rules
from numbaconv.autograd.tensor import TensorLike, apply, values

__all__ = [
    "abs",
    "add",
    "clip",
    "divide",
    "exp",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "sqrt",
    "square",
    "subtract",
    "where",
]


def add(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a + b`` with broadcasting."""
    return apply("add", np.add, (a, b))


def subtract(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a - b`` with broadcasting."""
    return apply("subtract", np.subtract, (a, b))


def multiply(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a * b`` with broadcasting."""
    return apply("multiply", np.multiply, (a, b))


def divide(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a / b`` with broadcasting."""
    return apply("divide", np.divide, (a, b))


def power(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a ** b`` with broadcasting.

    The gradient with respect to ``b`` is ``a ** b * log(a)``, taken as 0 at ``a = 0``.
    """
    return apply("power", operator.pow, (a, b))


def negative(x: TensorLike) -> Any:
    """Compute ``-x``."""
    return apply("negative", np.negative, (x,))


def exp(x: TensorLike) -> Any:
    """Compute the exponential."""
    return apply("exp", np.exp, (x,))


def log(x: TensorLike) -> Any:
    """Compute the natural logarithm."""
    return apply("log", np.log, (x,))


def sqrt(x: TensorLike) -> Any:
    """Compute the square root; its gradient at 0 is infinite."""
    return apply("sqrt", np.sqrt, (x,))


def square(x: TensorLike) -> Any:
    """Compute ``x * x``."""
    return apply("square", np.square, (x,))


def abs(x: TensorLike) -> Any:
    """Compute the absolute value; its gradient at 0 is 0."""
    return apply("abs", np.abs, (x,))


def maximum(a: TensorLike, b: TensorLike) -> Any:
    """Take the larger of ``a`` and ``b``; where they are equal each gets half of the gradient.

    Examples
    --------
    >>> from numbaconv.autograd import Tensor, ops
    >>> a = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> ops.maximum(a, 2.0).sum().backward()
    >>> a.grad.tolist()
    [0.0, 0.5, 1.0]
    """
    return apply("maximum", np.maximum, (a, b))


def minimum(a: TensorLike, b: TensorLike) -> Any:
    """Take the smaller of ``a`` and ``b``; where they are equal each gets half of the gradient."""
    return apply("minimum", np.minimum, (a, b))


def where(condition: Any, a: TensorLike, b: TensorLike) -> Any:
    """Take ``a`` where ``condition`` holds and ``b`` elsewhere.

    Parameters
    ----------
    condition : array_like of bool
        No gradient flows to it.
    a, b : Tensor, array or float
    """
    return apply("where", rules.where, (a, b), condition=np.asarray(values(condition), dtype=bool))


def clip(x: TensorLike, low: Any = None, high: Any = None) -> Any:
    """Limit ``x`` to ``[low, high]``.

    Elements inside the closed interval get the gradient unchanged, those outside 0.

    Parameters
    ----------
    x : Tensor or array
    low, high : float, array or None
        Constant bounds; None leaves that side open.
    """
    return apply("clip", rules.clip, (x,), low=values(low), high=values(high))


def matmul(a: TensorLike, b: TensorLike) -> Any:
    """Compute the matrix product ``a @ b``, batched and with vectors as in NumPy.

    Parameters
    ----------
    a : Tensor or array, shape (..., m, k) or (k,)
    b : Tensor or array, shape (..., k, n) or (k,)

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import ops
    >>> ops.matmul(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    return apply("matmul", rules.matmul, (a, b))
