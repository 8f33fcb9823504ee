"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

from numbaconv.jit import TaskKernel
from numbaconv.kernels import updates
from numbaconv.optimizers.base import KernelOptimizer


class SGD(KernelOptimizer):
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
    >>> import numpy as np
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

    def rule(self, rate: float) -> tuple[TaskKernel, Sequence[float]]:
        """Return the kernel and its constants."""
        if not self.momentum:
            return updates.sgd, (rate,)
        return updates.nesterov if self.nesterov else updates.momentum, (rate, self.momentum)
