"""Optimizers with Keras's defaults and formulas.

Weights and moments are updated in place; what a step needs beyond them lives in at most two scratch arrays per dtype,
as large as the largest weight and kept between steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor
from numbaconv.lookup import find


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
        self.weight_decay = None if weight_decay is None else _check_fraction("weight_decay", weight_decay)
        self.iterations = 0
        self._state: dict[int, tuple[Tensor, dict[str, np.ndarray]]] = {}
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
        known = self._state.get(id(parameter))
        if known is None:
            # The parameter is kept beside its arrays so that its id cannot come to name another one.
            known = (parameter, {name: np.zeros_like(parameter.data) for name in self.slots})
            self._state[id(parameter)] = known
        return known[1]

    def scratch(self, like: np.ndarray, number: int = 0) -> np.ndarray:
        """Return an uninitialised array of the shape and dtype of `like`, valid until the next request of `number`."""
        key = (like.dtype.name, number)
        block = self._scratch.get(key)
        if block is None or block.size < like.size:
            block = self._scratch[key] = np.empty(like.size, like.dtype)
        return block[: like.size].reshape(like.shape)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Without momentum `w -= rate * g`; with it `velocity = momentum * velocity - rate * g`, and `w += velocity` or, with
    `nesterov`, `w += momentum * velocity - rate * g`.

    Parameters
    ----------
    learning_rate : float
        Size of a step.
    momentum : float
        Fraction of the velocity kept, in [0, 1].
    nesterov : bool
        Whether to use Nesterov's form.
    weight_decay : float, optional
        Fraction of every weight, times the learning rate, taken away before each step.

    Raises
    ------
    ValueError
        When an argument is out of range.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), equations 1 to 4.

    Examples
    --------
    >>> w = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SGD(0.1).apply([w])
    >>> w.data
    array([0.8, 1.6])
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        if not isinstance(momentum, float | int) or not 0 <= momentum <= 1:
            raise ValueError(
                f"`momentum` must be a float between [0, 1]. Received: momentum={momentum!r} "
                f"(of type {type(momentum).__name__}). Pass for example momentum=0.9."
            )
        self.momentum = momentum
        self.nesterov = nesterov
        if momentum:
            self.slots = ("velocity",)

    def update(self, weight: np.ndarray, gradient: np.ndarray, rate: float, **slots: np.ndarray) -> None:
        """Update one weight and its velocity in place."""
        step = self.scratch(weight)
        np.multiply(gradient, rate, out=step)
        if not self.momentum:
            weight -= step
            return
        velocity = slots["velocity"]
        velocity *= self.momentum
        velocity -= step
        if self.nesterov:
            weight -= step
            np.multiply(velocity, self.momentum, out=step)
            weight += step
        else:
            weight += velocity


class Adam(Optimizer):
    """Adaptive moments.

    `m += (1 - beta_1) * (g - m)`, `v += (1 - beta_2) * (g ** 2 - v)`,
    `w -= rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)` at step t.

    Parameters
    ----------
    learning_rate : float
        Size of a step.
    beta_1, beta_2 : float
        Weights of the past in the two moments, in [0, 1).
    epsilon : float
        Added to the root of the second moment.
    amsgrad : bool
        Whether the greatest second moment so far is used instead of the current one.
    weight_decay : float, optional
        Fraction of every weight, times the learning rate, taken away before each step.

    Raises
    ------
    ValueError
        When an argument is out of range.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), section 2, with `epsilon` their epsilon-hat;
    Reddi et al., "On the convergence of Adam and beyond" (2018) for `amsgrad`.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.beta_1 = _check_beta("beta_1", beta_1)
        self.beta_2 = _check_beta("beta_2", beta_2)
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.slots = ("momentum", "velocity", "velocity_hat") if amsgrad else ("momentum", "velocity")

    def update(self, weight: np.ndarray, gradient: np.ndarray, rate: float, **slots: np.ndarray) -> None:
        """Update one weight and its moments in place."""
        first, second = slots["momentum"], slots["velocity"]
        step = self.scratch(weight)
        np.subtract(gradient, first, out=step)
        step *= 1.0 - self.beta_1
        first += step
        np.multiply(gradient, gradient, out=step)
        step -= second
        step *= 1.0 - self.beta_2
        second += step
        if self.amsgrad:
            greatest = slots["velocity_hat"]
            second = np.maximum(greatest, second, out=greatest)
        np.sqrt(second, out=step)
        step += self.epsilon
        np.divide(first, step, out=step)
        step *= rate * math.sqrt(1.0 - self.beta_2**self.iterations) / (1.0 - self.beta_1**self.iterations)
        weight -= step


class AdamW(Adam):
    """`Adam` with weight decay apart from the gradient.

    Parameters
    ----------
    learning_rate : float
        Size of a step.
    weight_decay : float
        Fraction of every weight, times the learning rate, taken away before each step.
    beta_1, beta_2 : float
        Weights of the past in the two moments, in [0, 1).
    epsilon : float
        Added to the root of the second moment.
    amsgrad : bool
        Whether the greatest second moment so far is used instead of the current one.

    Raises
    ------
    ValueError
        When an argument is out of range.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay)
        if weight_decay is None:
            raise ValueError(
                "Argument `weight_decay` must be a float. Received: weight_decay=None. Use Adam for no weight decay."
            )


class RMSprop(Optimizer):
    """Divide the gradient by a running average of its magnitude.

    `v = rho * v + (1 - rho) * g ** 2`, `step = rate * g / sqrt(v + epsilon)`; with `centered`, v is reduced by the
    square of the running mean of g; with momentum, `velocity = momentum * velocity + step` is subtracted instead.

    Parameters
    ----------
    learning_rate : float
        Size of a step.
    rho : float
        Weight of the past in the averages.
    momentum : float
        Fraction of the velocity kept.
    epsilon : float
        Added to the average under the root.
    centered : bool
        Whether the variance of the gradient is used instead of its mean square.
    weight_decay : float, optional
        Fraction of every weight, times the learning rate, taken away before each step.

    Raises
    ------
    ValueError
        When an argument is out of range.

    References
    ----------
    Hinton, "Neural networks for machine learning" (2012), lecture 6e.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.rho = _check_beta("rho", rho)
        self.momentum = _check_fraction("momentum", momentum)
        self.epsilon = epsilon
        self.centered = centered
        self.slots = (
            "mean_square",
            *(("velocity",) if momentum else ()),
            *(("mean",) if centered else ()),
        )

    def update(self, weight: np.ndarray, gradient: np.ndarray, rate: float, **slots: np.ndarray) -> None:
        """Update one weight and its averages in place."""
        mean_square, step = slots["mean_square"], self.scratch(weight)
        np.multiply(gradient, gradient, out=step)
        step *= 1.0 - self.rho
        mean_square *= self.rho
        mean_square += step
        if self.centered:
            mean, square = slots["mean"], self.scratch(weight, 1)
            np.multiply(gradient, 1.0 - self.rho, out=step)
            mean *= self.rho
            mean += step
            np.multiply(mean, mean, out=square)
            np.subtract(mean_square, square, out=step)
            step += self.epsilon
        else:
            np.add(mean_square, self.epsilon, out=step)
        np.sqrt(step, out=step)
        np.divide(gradient, step, out=step)
        step *= rate
        if self.momentum:
            velocity = slots["velocity"]
            velocity *= self.momentum
            velocity += step
            weight -= velocity
        else:
            weight -= step


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


def _check_beta(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"Argument `{name}` must be in [0, 1). Received: {name}={value!r}. Pass for example 0.9.")
    return float(value)


def _check_fraction(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"Argument `{name}` must be in [0, 1]. Received: {name}={value!r}. Pass for example 0.01.")
    return float(value)


_TABLE: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer a name, a class or an object stands for.

    Parameters
    ----------
    identifier : str, type or Optimizer
        A name such as `"adam"`, an `Optimizer` class or object.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object is no optimizer.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    found = find("optimizer", identifier, _TABLE)
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"Could not interpret optimizer identifier: {identifier!r}. Pass a name (one of "
            f"{', '.join(repr(name) for name in sorted(_TABLE))}), or an Optimizer."
        )
    return found
