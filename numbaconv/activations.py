"""Activation functions of arrays by Keras's names and with Keras's defaults."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from numbaconv.erf import erf
from numbaconv.fusing import is_jitted, of_jitted

Activation: TypeAlias = "str | Callable[[Any], Any] | None"


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(x, 0)."""
    return np.maximum(x, 0)


def relu6(x: np.ndarray) -> np.ndarray:
    """Return min(max(x, 0), 6)."""
    return np.clip(x, 0, 6)


def leaky_relu(x: np.ndarray, negative_slope: float = 0.2) -> np.ndarray:
    """Return x where it is positive, else negative_slope * x."""
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def selu(x: np.ndarray) -> np.ndarray:
    """Return scale * elu(x, alpha) with the constants of Klambauer et al. (2017), Self-Normalizing Neural Networks."""
    return x.dtype.type(1.0507009873554804934193349852946) * elu(x, 1.6732632423543772848170429916717)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x: np.ndarray) -> np.ndarray:
    """Return x / (1 + |x|)."""
    return x / (1 + np.abs(x))


def silu(x: np.ndarray) -> np.ndarray:
    """Return x * sigmoid(x)."""
    return x * sigmoid(x)


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """Return relu6(x + 3) / 6."""
    return relu6(x + 3) / 6


def hard_silu(x: np.ndarray) -> np.ndarray:
    """Return x * hard_sigmoid(x)."""
    return x * hard_sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """Return x * Phi(x) with the normal distribution function Phi, not its tanh approximation."""
    return x * (1 + erf(x * x.dtype.type(0.5**0.5))) / 2


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": softplus,
    "softsign": softsign,
    "silu": silu,
    "swish": silu,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "exponential": np.exp,
    "gelu": gelu,
}


def find_activation(activation: Activation) -> Callable[[Any], Any] | None:
    """Return the function of an activation's name or of a callable; None for None and "linear".

    A `numba.njit` function is one of numbers, which convolutions compile into their kernels; others are of arrays.

    Raises ValueError for an unknown name, which says the known ones, and TypeError for anything else.
    """
    if activation is None or activation == "linear":
        return None
    if isinstance(activation, str):
        function = ACTIVATIONS.get(activation)
        if function is None:
            near = get_close_matches(activation, ACTIVATIONS, n=1)
            hint = f"Did you mean '{near[0]}'? " if near else ""
            names = ", ".join(["linear", *ACTIVATIONS])
            raise ValueError(f"Unknown activation: {activation!r}. {hint}Known names: {names}.")
        return function
    if not callable(activation):
        raise TypeError(
            f"`activation` must be None, a name or a callable. Received {activation!r} of type "
            f"{type(activation).__name__}."
        )
    return of_jitted(activation) if is_jitted(activation) else activation
