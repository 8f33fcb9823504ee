"""`Dense`: a linear map of the last axis."""

from __future__ import annotations

import math
from typing import Any

from numbaconv import initializers, regularizers
from numbaconv.autograd import Tensor, ops
from numbaconv.autograd.dense import dense
from numbaconv.layers import activations
from numbaconv.layers.base import Layer, Shape
from numbaconv.padding import index_or_none


class Dense(Layer):
    """Apply `activation(x @ kernel + bias)` to the last axis.

    Parameters
    ----------
    units : int
        Size of the last axis of the outputs.
    activation : str or callable, optional
        Applied to the outputs.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or callable
        First values of the weights (`numbaconv.initializers`).
    kernel_regularizer, bias_regularizer : str or callable, optional
        Penalties added to the training loss (`numbaconv.regularizers`).
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When `units` is not a positive integer.

    Notes
    -----
    Inputs `(batch, ..., features)`, outputs `(batch, ..., units)`; kernel `(features, units)`, bias `(units,)`.

    Examples
    --------
    >>> import numpy as np
    >>> Dense(4, activation="relu")(np.ones((2, 3), np.float32)).shape
    (2, 4)
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        count = index_or_none(units)
        if count is None or count <= 0:
            raise ValueError(
                "Received an invalid value for `units`, expected a positive integer. "
                f"Received: units={units!r}. Pass for example units=10."
            )
        self.units = count
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel: Any = None
        self.bias: Any = None

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        self._check_rank(input_shape)
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                "The last dimension of the inputs to a Dense layer should be defined. Found None. "
                f"Full input shape received: {tuple(input_shape)}. Give its size, for example Input((64,))."
            )
        self.kernel = self.add_weight(
            (features, self.units), self.kernel_initializer, name="kernel", regularizer=self.kernel_regularizer
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,), self.bias_initializer, name="bias", regularizer=self.bias_regularizer
            )

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when the last axis is not the one the kernel was built for."""
        self._check_rank(input_shape)
        features = self.kernel.shape[0]
        if input_shape[-1] != features:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected axis -1 of input shape to "
                f"have value {features}, but received input with shape {tuple(input_shape)}. The kernel was built for "
                f"{features} features; pass inputs with {features}, or make a new layer."
            )

    def _check_rank(self, input_shape: Shape) -> None:
        if len(input_shape) < 2:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected min_ndim=2, found "
                f"ndim={len(input_shape)}. Full shape received: {tuple(input_shape)}. Dense takes (batch, ..., "
                "features): add a batch axis with x[np.newaxis]."
            )

    def call(self, inputs: Tensor) -> Tensor:
        """Return `activation(inputs @ kernel + bias)`."""
        is_relu = self.activation is ops.relu
        outputs = dense(inputs, self.kernel, self.bias, is_relu)
        return outputs if is_relu else self.activation(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape` with `units` as its last size."""
        self._check_rank(input_shape)
        return (*input_shape[:-1], self.units)

    def macs(self, input_shape: Shape) -> int:
        """Return `features * units` times the positions of one sample."""
        return math.prod(input_shape[1:]) * self.units  # type: ignore[arg-type]
