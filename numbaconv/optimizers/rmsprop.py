"""RMSprop."""

from __future__ import annotations

import numpy as np

from numbaconv.optimizers.base import Optimizer, check_beta, check_fraction


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
        self.rho = check_beta("rho", rho)
        self.momentum = check_fraction("momentum", momentum)
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
