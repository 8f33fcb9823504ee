"""`Optimizer`: weights and moments updated in place; `KernelOptimizer`: all of them in one launch of a kernel."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np

from numbaconv.algorithms.updates import UpdateTable
from numbaconv.autograd import Tensor
from numbaconv.constants import is_constant
from numbaconv.jit import TaskKernel


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


class KernelOptimizer(Optimizer):
    """An optimizer whose rule is a compiled kernel."""

    def __init__(self, learning_rate: float, weight_decay: float | None = None) -> None:
        super().__init__(learning_rate, weight_decay)
        self._tables: dict[tuple[int, ...], UpdateTable] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the tables: they hold addresses of the weights of this optimizer and this process."""
        return {**vars(self), "_tables": {}}

    @abstractmethod
    def rule(self, rate: float) -> tuple[TaskKernel, Sequence[float]]:
        """Return the kernel and its constants behind the factor of weight decay."""

    def apply(self, parameters: Sequence[Tensor]) -> None:
        """Update every parameter that has a gradient, in place.

        Parameters
        ----------
        parameters : sequence of Tensor
            Weights after `backward`; those whose `grad` is None are left alone.
        """
        if type(self).update is not KernelOptimizer.update:
            super().apply(parameters)
            return
        wanted = [parameter for parameter in parameters if parameter.grad is not None]
        self.update_all(wanted, [_gradient_of(parameter) for parameter in wanted])

    def update_all(self, parameters: Sequence[Tensor], gradients: Sequence[np.ndarray]) -> None:
        """Update parameters in place by gradients in C order, each of its parameter's shape and dtype."""
        self.iterations += 1
        rate = self._learning_rate
        kernel, own = self.rule(rate)
        constants = (1.0 - self.weight_decay * rate if self.weight_decay else 1.0, *own)
        dtypes = {parameter.data.dtype for parameter in parameters}
        if len(dtypes) == 1:
            self._launch(kernel, constants, parameters, gradients)
            return
        for dtype in dtypes:
            places = [i for i, parameter in enumerate(parameters) if parameter.data.dtype == dtype]
            self._launch(kernel, constants, [parameters[i] for i in places], [gradients[i] for i in places])

    def _launch(
        self,
        kernel: TaskKernel,
        constants: Sequence[float],
        group: Sequence[Tensor],
        gradients: Sequence[np.ndarray],
    ) -> None:
        """Update parameters of one dtype."""
        key = tuple(map(id, group))
        table = self._tables.get(key)
        if table is None or not all(map(is_, [p.data for p in group], table.weights)):
            for parameter in group:
                # Kernels write where the weight lies: it must be an array, in C order, and writeable.
                if not isinstance(parameter.data, np.ndarray) or not parameter.data.flags.c_contiguous:
                    parameter.data = np.array(parameter.data, order="C")
                if is_constant(parameter.data):
                    raise ValueError(
                        f"A weight of shape {parameter.shape} is frozen and cannot be trained. "
                        "Call `unfreeze()` on its layer or model first."
                    )
                if not parameter.data.flags.writeable:
                    raise ValueError(
                        f"A weight of shape {parameter.shape} is read-only, and optimizers change weights in place. "
                        "Make it of a copy: Tensor(array.copy(), requires_grad=True)."
                    )
            slots = [list(self._slots_of(parameter).values()) for parameter in group]
            table = UpdateTable([parameter.data for parameter in group], slots)
            # Training goes on with the same weights, or with others for good.
            self._tables = {key: table}
        table.apply(kernel, gradients, constants)

    def update(self, weight: np.ndarray, gradient: np.ndarray, rate: float, **slots: np.ndarray) -> None:
        """Update one weight and its arrays in place."""
        kernel, constants = self.rule(rate)
        UpdateTable([weight], [list(slots.values())]).apply(kernel, [gradient], (1.0, *constants))


def takes_gradients(optimizer: Any) -> bool:
    """Whether `update_all` does what an optimizer's `apply` does."""
    kind = type(optimizer)
    return (
        isinstance(optimizer, KernelOptimizer)
        and kind.apply is KernelOptimizer.apply
        and kind.update is KernelOptimizer.update
    )


def _gradient_of(parameter: Tensor) -> np.ndarray:
    """Return a gradient in C order, of the shape and dtype of its parameter."""
    gradient, weight = parameter.grad, parameter.data
    assert gradient is not None
    if (
        type(gradient) is np.ndarray
        and gradient.shape == weight.shape
        and gradient.dtype == weight.dtype
        and gradient.flags.c_contiguous
    ):
        return gradient
    return np.ascontiguousarray(np.broadcast_to(gradient, weight.shape), weight.dtype)


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
