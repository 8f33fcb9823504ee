"""Stochastic gradient descent."""

from __future__ import annotations

import numpy as np

from numbaconv.optimizers.base import Optimizer


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
    >>> from numbaconv.autograd import Tensor
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
