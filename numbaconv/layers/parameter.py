"""`Parameter`: a weight of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor


class Parameter(Tensor):
    """A weight of a layer.

    Parameters
    ----------
    data : numpy.ndarray
        Its values, float32 or float64. Optimizers write into this array.
    name : str
        Name within its layer, such as `"kernel"`.
    trainable : bool
        Whether the optimizer updates it; moving averages are not trainable.
    regularizer : callable, optional
        Penalty added to the training loss.
    """

    __slots__ = ("name", "regularizer", "trainable")

    def __init__(
        self,
        data: np.ndarray,
        name: str = "parameter",
        trainable: bool = True,
        regularizer: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(data, requires_grad=trainable)
        self.name = name
        self.trainable = trainable
        self.regularizer = regularizer

    def assign(self, value: Any) -> None:
        """Overwrite the values in place.

        Raises ValueError when `value` has another shape.
        """
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(
                f"The shape of the target variable and the shape of the target value in `variable.assign(value)` must "
                f"match. Received: value.shape={array.shape}; variable.shape={self.shape}. "
                f"Pass an array of shape {self.shape} for '{self.name}'."
            )
        np.copyto(self.data, array, casting="same_kind")

    def __repr__(self) -> str:
        return f"Parameter(name={self.name!r}, shape={self.shape}, dtype={self.dtype}, trainable={self.trainable})"
