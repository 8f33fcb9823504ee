"""`Optimizer`: weights and moments updated in place.

What a step needs beyond them lives in at most two scratch arrays per dtype, as large as the largest weight and kept
between steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor


class Optimizer(ABC):
    """Rule that turns gradients into new weights.

    Parameters
    ----------
    learning_rate : float
        Size of a step; may be set between steps.
    weight_decay : float, optional
        Fraction of every weight, times the learning rate, taken away before each step.

    Raises
    ------
    ValueError
        When `learning_rate` is not a finite number >= 0.
    """

    #: Names of the arrays kept per weight.
    slots: tuple[str, ...] = ()

    def __init__(self, learning_rate: float, weight_decay: float | None = None) -> None:
        self._learning_rate = check_learning_rate(learning_rate)
        self.weight_decay = None if weight_decay is None else check_fraction("weight_decay", weight_decay)
        self.iterations = 0
        self._state: dict[Tensor, dict[str, np.ndarray]] = {}
        self._scratch: dict[tuple[str, int], np.ndarray] = {}

    @property
    def learning_rate(self) -> float:
        """Size of a step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = check_learning_rate(value)

    def apply(self, parameters: Sequence[Tensor]) -> None:
        """Update every parameter that has a gradient, in place.

        Parameters
        ----------
        parameters : sequence of Tensor
            Weights after `backward`; those whose `grad` is None are left alone.
        """
        self.iterations += 1
        rate = self._learning_rate
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            weight = parameter.data
            if self.weight_decay:
                weight *= 1.0 - self.weight_decay * rate
            self.update(weight, gradient, rate, **self._slots_of(parameter))

    @abstractmethod
    def update(self, weight: np.ndarray, gradient: np.ndarray, rate: float, **slots: np.ndarray) -> None:
        """Update one weight and its arrays in place."""

    def _slots_of(self, parameter: Tensor) -> dict[str, np.ndarray]:
        """Return the arrays kept for a parameter, zeros at first."""
        slots = self._state.get(parameter)
        if slots is None:
            slots = self._state[parameter] = {name: np.zeros_like(parameter.data) for name in self.slots}
        return slots

    def scratch(self, like: np.ndarray, number: int = 0) -> np.ndarray:
        """Return an uninitialised array of the shape and dtype of `like`, valid until the next request of `number`."""
        key = (like.dtype.name, number)
        block = self._scratch.get(key)
        if block is None or block.size < like.size:
            block = self._scratch[key] = np.empty(like.size, like.dtype)
        return block[: like.size].reshape(like.shape)


def check_learning_rate(value: Any) -> float:
    """Return `value` as a float, or raise ValueError unless it is a finite number >= 0."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(value, (str, bool)) or not 0.0 <= rate < math.inf:
        raise ValueError(
            f"Argument `learning_rate` should be float. Received instead: learning_rate={value!r}. Pass a finite "
            f"number >= 0, for example 0.001; callbacks.LearningRateScheduler changes it during training."
        )
    return rate


def check_beta(name: str, value: float) -> float:
    """Return `value` as a float, or raise ValueError unless it is in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"Argument `{name}` must be in [0, 1). Received: {name}={value!r}. Pass for example 0.9.")
    return float(value)


def check_fraction(name: str, value: float) -> float:
    """Return `value` as a float, or raise ValueError unless it is in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"Argument `{name}` must be in [0, 1]. Received: {name}={value!r}. Pass for example 0.01.")
    return float(value)
