"""`Parameter`: a weight of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor
from numbaconv.constants import constant, is_constant
from numbaconv.layers.changes import note_change


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

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "data":
            note_change()

    def assign(self, value: Any) -> None:
        """Overwrite the values in place.

        Raises ValueError when `value` has another shape, or the weight is frozen.
        """
        if is_constant(self.data):
            raise ValueError(f"'{self.name}' is frozen. Call `unfreeze()` on its layer or model before overwriting it.")
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(
                f"The shape of the target variable and the shape of the target value in `variable.assign(value)` must "
                f"match. Received: value.shape={array.shape}; variable.shape={self.shape}. "
                f"Pass an array of shape {self.shape} for '{self.name}'."
            )
        np.copyto(self.data, array, casting="same_kind")

    def freeze(self) -> None:
        """Move the values to an array that nobody can write to; see `Layer.freeze`."""
        if not is_constant(self.data):
            self.data = constant(self.data)

    def unfreeze(self) -> None:
        """Move the values of a frozen weight to an array that can be written to."""
        if is_constant(self.data):
            self.data = self.data.copy()

    def __repr__(self) -> str:
        return f"Parameter(name={self.name!r}, shape={self.shape}, dtype={self.dtype}, trainable={self.trainable})"
