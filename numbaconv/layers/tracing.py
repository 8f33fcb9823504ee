"""What the layers of one call know of each other: training or not, and shapes found by running on an empty batch."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from numbaconv.autograd import no_grad

if TYPE_CHECKING:
    from numbaconv.layers.base import Layer

#: Whether the outermost layer was called for training; layers inside it follow.
TRAINING: ContextVar[bool] = ContextVar("numbaconv_training", default=False)

#: Every layer call made while a list is set here is noted in it as (layer, input shape, output shape).
TRACE: ContextVar[list[tuple[Any, Any, Any]] | None] = ContextVar("numbaconv_trace", default=None)


def trace_shapes(layer: Layer, input_shape: Any) -> list[tuple[Layer, Any, Any]]:
    """Run `layer` on an empty batch and return (layer, input shape, output shape) of every call, `layer`'s own last."""

    def empty(shape: tuple[int | None, ...]) -> np.ndarray:
        known = [size for size in shape[1:] if size is not None]
        if len(known) < len(shape) - 1:
            raise ValueError(
                f"Layer '{layer.name}' needs every size but the batch to know its output shape. Received: "
                f"input_shape={tuple(shape)}. Replace None by the sizes of your data."
            )
        return np.empty((0, *known), layer.dtype)

    is_list = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
    inputs: Any = [empty(shape) for shape in input_shape] if is_list else empty(input_shape)
    calls: list[tuple[Layer, Any, Any]] = []
    token = TRACE.set(calls)
    try:
        with no_grad():
            layer(inputs, training=False)
    finally:
        TRACE.reset(token)
    return calls


def without_batch(input_shape: Any) -> Any:
    """Return the shape (or list of shapes) with an unknown batch size."""
    if input_shape and isinstance(input_shape[0], (tuple, list)):
        return [without_batch(shape) for shape in input_shape]
    return (None, *input_shape[1:])
