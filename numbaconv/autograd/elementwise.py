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
    """Compute ``a + b`` with broadcasting.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.add([1.0, 2.0], 3.0).tolist()
    [4.0, 5.0]
    """
    return apply("add", np.add, (a, b))


def subtract(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a - b`` with broadcasting.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.subtract([1.0, 2.0], 3.0).tolist()
    [-2.0, -1.0]
    """
    return apply("subtract", np.subtract, (a, b))


def multiply(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a * b`` with broadcasting.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.multiply([1.0, 2.0], 3.0).tolist()
    [3.0, 6.0]
    """
    return apply("multiply", np.multiply, (a, b))


def divide(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a / b`` with broadcasting.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.divide([1.0, 2.0], 4.0).tolist()
    [0.25, 0.5]
    """
    return apply("divide", np.divide, (a, b))


def power(a: TensorLike, b: TensorLike) -> Any:
    """Compute ``a ** b`` with broadcasting.

    The gradient with respect to ``b`` is ``a ** b * log(a)``, taken as 0 at ``a = 0``.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.power([1.0, 2.0], 3).tolist()
    [1.0, 8.0]
    """
    return apply("power", operator.pow, (a, b))


def negative(x: TensorLike) -> Any:
    """Compute ``-x``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.negative([1.0, -2.0]).tolist()
    [-1.0, 2.0]
    """
    return apply("negative", np.negative, (x,))


def exp(x: TensorLike) -> Any:
    """Compute the exponential.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.exp([0.0]).tolist()
    [1.0]
    """
    return apply("exp", np.exp, (x,))


def log(x: TensorLike) -> Any:
    """Compute the natural logarithm.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.log([1.0]).tolist()
    [0.0]
    """
    return apply("log", np.log, (x,))


def sqrt(x: TensorLike) -> Any:
    """Compute the square root; its gradient at 0 is infinite.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.sqrt([4.0, 9.0]).tolist()
    [2.0, 3.0]
    """
    return apply("sqrt", np.sqrt, (x,))


def square(x: TensorLike) -> Any:
    """Compute ``x * x``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.square([2.0, -3.0]).tolist()
    [4.0, 9.0]
    """
    return apply("square", np.square, (x,))


def abs(x: TensorLike) -> Any:
    """Compute the absolute value; its gradient at 0 is 0.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.abs([2.0, -3.0]).tolist()
    [2.0, 3.0]
    """
    return apply("abs", np.abs, (x,))


def maximum(a: TensorLike, b: TensorLike) -> Any:
    """Take the larger of ``a`` and ``b``; where they are equal each gets half of the gradient.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

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
    """Take the smaller of ``a`` and ``b``; where they are equal each gets half of the gradient.

    Parameters
    ----------
    a, b : Tensor, array or float
        Shapes that broadcast against each other.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.minimum([1.0, 2.0, 3.0], 2.0).tolist()
    [1.0, 2.0, 2.0]
    """
    return apply("minimum", np.minimum, (a, b))


def where(condition: Any, a: TensorLike, b: TensorLike) -> Any:
    """Take ``a`` where ``condition`` holds and ``b`` elsewhere.

    Parameters
    ----------
    condition : array_like of bool
        No gradient flows to it.
    a, b : Tensor, array or float

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.where([True, False], [1.0, 2.0], 0.0).tolist()
    [1.0, 0.0]
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

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.clip([-2.0, 0.5, 2.0], -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
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
