"""Layers that take several inputs: `Add` and `Concatenate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv.autograd import Tensor, ops
from numbaconv.layers.base import Layer, Shape


class _MergingLayer(Layer):
    """Base of the layers that take a list of inputs and have no weights: what cannot be merged has no output shape."""

    def build(self, input_shape: Any) -> None:
        """Check the shapes."""
        self.check_input_shape(input_shape)

    def check_input_shape(self, input_shape: Any) -> None:
        """Raise ValueError when the inputs are not a list or their shapes do not fit."""
        self.compute_output_shape(input_shape)


class Add(_MergingLayer):
    """Add the inputs, a list of two or more, element by element with broadcasting.

    Parameters
    ----------
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        At a call, when the inputs are not a list or their shapes do not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> Add()([np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]])]).numpy()
    array([[11., 22.]])
    """

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum of the inputs."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Return the broadcast shape of the inputs."""
        if not is_list_of_shapes(input_shape):
            raise ValueError(
                "A merge layer should be called on a list of inputs. "
                f"Received: input_shape={input_shape} (not a list of shapes). Call it as Add()([a, b])."
            )
        shapes = [tuple(shape) for shape in input_shape]
        # An unknown size is compatible with any, as 1 is.
        known = [tuple(1 if size is None else size for size in shape) for shape in shapes]
        try:
            result = np.broadcast_shapes(*known)
        except ValueError:
            raise ValueError(
                "Inputs have incompatible shapes. "
                f"Received shapes {' and '.join(str(shape) for shape in shapes)}. Sizes must be equal, or 1 on one "
                "side; change strides or filters of one branch, or project it with a convolution of 1 tap."
            ) from None
        unknown = {axis - len(shape) for shape in shapes for axis, size in enumerate(shape) if size is None}
        return tuple(None if axis - len(result) in unknown and size == 1 else size for axis, size in enumerate(result))


class Concatenate(_MergingLayer):
    """Join the inputs, a list of one or more, along an axis.

    Parameters
    ----------
    axis : int
        The axis, batch included.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        At a call, when the inputs are not a list or differ in another axis.

    Examples
    --------
    >>> Concatenate().compute_output_shape([(None, 8, 8, 3), (None, 8, 8, 5)])
    (None, 8, 8, 8)
    """

    def __init__(self, axis: int = -1, **options: Any) -> None:
        super().__init__(**options)
        self.axis = axis

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Return the joined inputs."""
        return ops.concatenate(inputs, axis=self.axis)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Return the shape of the joined inputs."""
        if not is_list_of_shapes(input_shape):
            raise ValueError(
                "A `Concatenate` layer should be called on a list of at least 1 input. "
                f"Received: input_shape={input_shape}. Call it as Concatenate()([a, b])."
            )
        shapes = [tuple(shape) for shape in input_shape]
        ndim = len(shapes[0])
        if not -ndim <= self.axis < ndim:
            raise ValueError(
                f"Axis {self.axis} of layer '{self.name}' is out of range for inputs with {ndim} axes. "
                f"Received: input_shape={shapes}. Pass axis from {-ndim} to {ndim - 1}."
            )
        axis = self.axis % ndim
        message = "A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis. "
        if any(len(shape) != ndim for shape in shapes):
            raise ValueError(f"{message}Received: input_shape={shapes}, whose ranks differ.")
        result: list[int | None] = []
        for position, found in enumerate(zip(*shapes, strict=True)):
            known = [size for size in found if size is not None]
            if position == axis:
                result.append(sum(known) if len(known) == len(found) else None)
                continue
            if len(set(known)) > 1:
                raise ValueError(
                    f"{message}Received: input_shape={shapes}, which differ at axis {position}. Only axis {self.axis} "
                    "may differ; crop, pad or up-sample one input."
                )
            result.append(known[0] if known else None)
        return tuple(result)


def is_list_of_shapes(input_shape: Any) -> bool:
    """Return whether `input_shape` is a non-empty list of shapes rather than one shape."""
    return (
        isinstance(input_shape, Sequence)
        and len(input_shape) > 0
        and all(isinstance(shape, Sequence) for shape in input_shape)
    )
