"""Activation functions, for tensors and arrays; Keras's names and defaults."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.autograd import rules
from numbaconv.autograd.elementwise import clip
from numbaconv.autograd.tensor import TensorLike, apply

__all__ = [
    "elu",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "log_softmax",
    "relu",
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
    """Compute ``max(x, 0)``; the gradient at 0 is 0."""
    return apply("relu", rules.relu, (x,))


def leaky_relu(x: TensorLike, negative_slope: float = 0.2) -> Any:
    """Compute ``x`` where positive, else ``negative_slope * x``."""
    return apply("leaky_relu", rules.leaky_relu, (x,), negative_slope=float(negative_slope))


def elu(x: TensorLike, alpha: float = 1.0) -> Any:
    """Compute ``x`` where positive, else ``alpha * (exp(x) - 1)`` (Clevert et al., arXiv:1511.07289)."""
    return apply("elu", rules.elu, (x,), alpha=float(alpha))


def selu(x: TensorLike) -> Any:
    """Compute ``scale * elu(x, alpha)`` with the constants of arXiv:1706.02515."""
    return apply("multiply", np.multiply, (elu(x, SELU_ALPHA), SELU_SCALE))


def sigmoid(x: TensorLike) -> Any:
    """Compute ``1 / (1 + exp(-x))`` without overflow."""
    return apply("sigmoid", rules.sigmoid, (x,))


def hard_sigmoid(x: TensorLike) -> Any:
    """Compute ``x / 6 + 1 / 2`` limited to [0, 1]."""
    scaled = apply("multiply", np.multiply, (x, 1.0 / 6.0))
    return clip(apply("add", np.add, (scaled, 0.5)), 0.0, 1.0)


def tanh(x: TensorLike) -> Any:
    """Compute the hyperbolic tangent."""
    return apply("tanh", np.tanh, (x,))


def softsign(x: TensorLike) -> Any:
    """Compute ``x / (1 + |x|)``."""
    size = apply("abs", np.abs, (x,))
    return apply("divide", np.divide, (x, apply("add", np.add, (size, 1.0))))


def silu(x: TensorLike) -> Any:
    """Compute ``x * sigmoid(x)``."""
    return apply("silu", rules.silu, (x,))


def softplus(x: TensorLike) -> Any:
    """Compute ``log(1 + exp(x))`` without overflow."""
    return apply("softplus", rules.softplus, (x,))


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
    >>> ops.gelu([-1.0, 0.0, 1.0]).round(4).tolist() == ops.gelu([-1.0, 0.0, 1.0], approximate=True).round(3).tolist()
    False
    """
    return apply("gelu", rules.gelu, (x,), approximate=bool(approximate))


def softmax(x: TensorLike, axis: int = -1) -> Any:
    """Compute ``exp(x) / sum(exp(x))`` along an axis without overflow.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.softmax([1000.0, 1000.0]).tolist()
    [0.5, 0.5]
    """
    return apply("softmax", rules.softmax, (x,), axis=axis)


def log_softmax(x: TensorLike, axis: int = -1) -> Any:
    """Compute ``x - log(sum(exp(x)))`` along an axis without overflow."""
    return apply("log_softmax", rules.log_softmax, (x,), axis=axis)
