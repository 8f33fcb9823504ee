"""Activation functions, for tensors and arrays; Keras's names and defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv import activations as forward
from numbaconv.autograd import rules
from numbaconv.autograd.elementwise import abs, add, clip, divide, exp, multiply
from numbaconv.autograd.tensor import TensorLike, apply

__all__ = [
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "leaky_relu",
    "log_softmax",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]

# Klambauer et al., arXiv:1706.02515, section 2: the fixed point with mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def relu(x: TensorLike) -> Any:
    """Compute ``max(x, 0)``; the gradient at 0 is 0.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return apply("relu", rules.relu, (x,))


def relu6(x: TensorLike) -> Any:
    """Compute ``min(max(x, 0), 6)``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.relu6([-1.0, 2.0, 8.0]).tolist()
    [0.0, 2.0, 6.0]
    """
    return clip(x, 0.0, 6.0)


def leaky_relu(x: TensorLike, negative_slope: float = 0.2) -> Any:
    """Compute ``x`` where positive, else ``negative_slope * x``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    negative_slope : float, default 0.2
        Also the slope at 0.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.leaky_relu([-1.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    return apply("leaky_relu", forward.leaky_relu, (x,), negative_slope=float(negative_slope))


def elu(x: TensorLike, alpha: float = 1.0) -> Any:
    """Compute ``x`` where positive, else ``alpha * (exp(x) - 1)`` (Clevert et al., arXiv:1511.07289).

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    alpha : float, default 1.0
        Minus the limit for large negative x.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.elu([-1000.0, 2.0]).tolist()
    [-1.0, 2.0]
    """
    return apply("elu", forward.elu, (x,), alpha=float(alpha))


def selu(x: TensorLike) -> Any:
    """Compute ``scale * elu(x, alpha)`` with the constants of arXiv:1706.02515.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.selu([0.0]).tolist()
    [0.0]
    """
    return multiply(elu(x, SELU_ALPHA), SELU_SCALE)


def sigmoid(x: TensorLike) -> Any:
    """Compute ``1 / (1 + exp(-x))`` without overflow.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    return apply("sigmoid", forward.sigmoid, (x,))


def hard_sigmoid(x: TensorLike) -> Any:
    """Compute ``relu6(x + 3) / 6``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.hard_sigmoid([-4.0, 0.0, 4.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    return divide(relu6(add(x, 3.0)), 6.0)


def hard_silu(x: TensorLike) -> Any:
    """Compute ``x * hard_sigmoid(x)``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.hard_silu([-4.0, 0.0, 4.0]).tolist()
    [-0.0, 0.0, 4.0]
    """
    return multiply(x, hard_sigmoid(x))


def tanh(x: TensorLike) -> Any:
    """Compute the hyperbolic tangent.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.tanh([0.0, 100.0]).tolist()
    [0.0, 1.0]
    """
    return apply("tanh", np.tanh, (x,))


def softsign(x: TensorLike) -> Any:
    """Compute ``x / (1 + |x|)``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.softsign([-1.0, 3.0]).tolist()
    [-0.5, 0.75]
    """
    return divide(x, add(abs(x), 1.0))


def silu(x: TensorLike) -> Any:
    """Compute ``x * sigmoid(x)``.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.silu([-1000.0, 0.0, 1000.0]).tolist()
    [-0.0, 0.0, 1000.0]
    """
    return apply("silu", forward.silu, (x,))


def softplus(x: TensorLike) -> Any:
    """Compute ``log(1 + exp(x))`` without overflow.

    Parameters
    ----------
    x : Tensor or array of float32 or float64

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.softplus([-1000.0, 1000.0]).tolist()
    [0.0, 1000.0]
    """
    return apply("softplus", forward.softplus, (x,))


def gelu(x: TensorLike, approximate: bool = False) -> Any:
    """Compute ``x * Phi(x)`` with the normal distribution function ``Phi`` (Hendrycks & Gimpel, arXiv:1606.08415).

    Parameters
    ----------
    x : Tensor or array
    approximate : bool, default False
        Use ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``, faster and within 5e-4.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.gelu([-1.0, 0.0, 1.0]).round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    return apply("gelu", rules.gelu, (x,), approximate=bool(approximate))


def softmax(x: TensorLike, axis: int = -1) -> Any:
    """Compute ``exp(x) / sum(exp(x))`` along an axis without overflow.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, default -1
        The axis whose elements sum to 1.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.softmax([1000.0, 1000.0]).tolist()
    [0.5, 0.5]
    """
    return apply("softmax", rules.softmax, (x,), axis=axis)


def log_softmax(x: TensorLike, axis: int = -1) -> Any:
    """Compute ``x - log(sum(exp(x)))`` along an axis without overflow.

    Parameters
    ----------
    x : Tensor or array of float32 or float64
    axis : int, default -1
        The axis of classes.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.log_softmax([1000.0, 0.0]).tolist()
    [0.0, -1000.0]
    """
    return apply("log_softmax", rules.log_softmax, (x,), axis=axis)


# The names that `numbaconv.activations` knows for arrays.
RECORDED_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softplus": softplus,
    "softsign": softsign,
    "silu": silu,
    "swish": silu,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "exponential": exp,
    "gelu": gelu,
}
