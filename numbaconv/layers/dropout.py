"""`Dropout`: random zeros in training."""

from __future__ import annotations

from typing import Any

from numbaconv import seeding
from numbaconv.autograd import Tensor, ops
from numbaconv.layers.activations import ElementwiseLayer


class Dropout(ElementwiseLayer):
    """Set a random fraction of the inputs to zero in training and scale the others by `1 / (1 - rate)`.

    Parameters
    ----------
    rate : float
        Fraction from 0 to 1.
    noise_shape : tuple of int or None, optional
        Shape of the mask, broadcast to the inputs: `(None, 1, 1, None)` drops whole channels. None in it stands for the
        inputs' size.
    seed : int, optional
        Seed of this layer's masks alone; None draws them from the run's stream.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When `rate` is out of range.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014).
    """

    def __init__(
        self,
        rate: float,
        noise_shape: tuple[int | None, ...] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 <= rate <= 1:
            raise ValueError(
                "Invalid value received for argument `rate`. Expected a float value between 0 and 1. "
                f"Received: rate={rate}. Pass for example rate=0.5."
            )
        self.rate = float(rate)
        self.noise_shape = noise_shape
        self.seed = seed
        self._stream = None if seed is None else seeding.make_generator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return the inputs, thinned out in training."""
        if not training or self.rate == 0.0:
            return inputs
        shape = None
        if self.noise_shape is not None:
            shape = tuple(
                size if given is None else given for given, size in zip(self.noise_shape, inputs.shape, strict=True)
            )
        if self.rate == 1.0:
            return inputs * 0.0
        return ops.dropout(inputs, self.rate, self._stream or seeding.generator(), noise_shape=shape)
