"""`Input`: the shape of a sequential model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numbaconv.autograd import Tensor
from numbaconv.layers.base import Layer, Shape
from numbaconv.padding import index_or_none


class Input(Layer):
    """State the shape of the inputs, first in a `Sequential`, so that the model is built at once.

    Parameters
    ----------
    shape : sequence of int or None
        Shape of one sample, without the batch axis; None for a size that varies.
    batch_size : int, optional
        Size of the batch axis, where it is fixed.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When a size is not a positive integer or None.

    Examples
    --------
    >>> Input((32, 32, 3)).batch_shape
    (None, 32, 32, 3)
    """

    def __init__(self, shape: Sequence[int | None], batch_size: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        try:
            sizes = (batch_size, *shape)
        except TypeError:
            sizes = (-1,)
        for size in sizes:
            if size is not None and ((index_or_none(size) or 0) < 1):
                raise ValueError(
                    "`shape` must be a tuple of positive integers or None, without the batch axis. "
                    f"Received: shape={shape!r}, batch_size={batch_size!r}. Pass for example shape=(28, 28, 1)."
                )
        self.batch_shape: Shape = tuple(None if size is None else int(size) for size in sizes)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the inputs."""
        return inputs

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when the inputs do not have the stated shape."""
        wanted, given = self.batch_shape[1:], input_shape[1:]
        fits = len(input_shape) == len(self.batch_shape) and (
            given == wanted
            or all(want is None or found is None or want == found for want, found in zip(wanted, given, strict=True))
        )
        if not fits:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected shape={self.batch_shape}, "
                f"found shape={tuple(input_shape)}. Pass data of the stated shape, or change `Input`."
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        self.check_input_shape(input_shape)
        return tuple(input_shape)
