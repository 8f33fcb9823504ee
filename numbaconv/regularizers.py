"""Penalties on weights that are added to the training loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbaconv.autograd import Tensor, ops
from numbaconv.lookup import find


class L1L2:
    """Penalise the absolute values and the squares of a weight.

    `penalty = l1 * sum(|w|) + l2 * sum(w ** 2)`

    Parameters
    ----------
    l1, l2 : float
        Non-negative factors of the two sums.

    Raises
    ------
    ValueError
        When a factor is negative, NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> L1L2(l1=0.5, l2=0.1)(Tensor(np.array([1.0, -2.0]))).item()
    2.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _check_factor("l1", l1)
        self.l2 = _check_factor("l2", l2)

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the penalty as a scalar."""
        penalty: Any = 0.0
        if self.l1:
            penalty = penalty + self.l1 * ops.abs(weight).sum()
        if self.l2:
            penalty = penalty + self.l2 * ops.square(weight).sum()
        return penalty

    def __repr__(self) -> str:
        return f"{type(self).__name__}(l1={self.l1}, l2={self.l2})"


class L1(L1L2):
    """Penalise absolute values: `l1 * sum(|w|)`.

    Parameters
    ----------
    l1 : float
        Non-negative factor.
    """

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """Penalise squares: `l2 * sum(w ** 2)`.

    Parameters
    ----------
    l2 : float
        Non-negative factor.
    """

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


def _check_factor(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
        raise ValueError(
            f"Invalid value for argument {name}: expected a non-negative float. Received: {name}={value!r}. "
            "Pass for example 0.01."
        )
    return float(value)


_TABLE: dict[str, Callable[..., Any]] = {
    "l1": L1,
    "l2": L2,
    "l1l2": lambda: L1L2(l1=0.01, l2=0.01),
    "l1_l2": lambda: L1L2(l1=0.01, l2=0.01),
}


def get(identifier: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the regularizer a name, a class or a callable stands for; None stands for none.

    Parameters
    ----------
    identifier : str, type, callable or None
        A name such as `"l2"`, an `L1L2` class or object, or a function from a weight to a scalar.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object cannot be called.
    """
    return None if identifier is None else find("regularizer", identifier, _TABLE)
