"""Adam, and Adam with weight decay apart from the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

from numbaconv.jit import TaskKernel
from numbaconv.kernels import updates
from numbaconv.optimizers.base import KernelOptimizer, check_beta


class Adam(KernelOptimizer):
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
        self.beta_1 = check_beta("beta_1", beta_1)
        self.beta_2 = check_beta("beta_2", beta_2)
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.slots = ("momentum", "velocity", "velocity_hat") if amsgrad else ("momentum", "velocity")

    def rule(self, rate: float) -> tuple[TaskKernel, Sequence[float]]:
        """Return the kernel and its constants."""
        correction = math.sqrt(1.0 - self.beta_2**self.iterations) / (1.0 - self.beta_1**self.iterations)
        constants = (1.0 - self.beta_1, 1.0 - self.beta_2, self.epsilon, rate * correction)
        return updates.amsgrad if self.amsgrad else updates.adam, constants


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
