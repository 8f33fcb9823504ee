"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence

from numbaconv.jit import TaskKernel
from numbaconv.kernels import updates
from numbaconv.optimizers.base import KernelOptimizer, check_beta, check_fraction


class RMSprop(KernelOptimizer):
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
        self.slots = ("mean_square", "velocity", "mean") if momentum or centered else ("mean_square",)

    def rule(self, rate: float) -> tuple[TaskKernel, Sequence[float]]:
        """Return the kernel and its constants."""
        constants = (self.rho, 1.0 - self.rho, self.epsilon, rate)
        if len(self.slots) == 1:
            return updates.rmsprop, constants
        return updates.rmsprop_momentum, (*constants, self.momentum, 1.0 - self.rho if self.centered else 0.0)
