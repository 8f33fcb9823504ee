"""Normalisation layers: by the batch's statistics, and by each sample's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numbaconv import initializers, regularizers
from numbaconv.autograd import Tensor, ops
from numbaconv.layers.activations import ElementwiseLayer
from numbaconv.layers.base import Shape
from numbaconv.layers.parameter import Parameter
from numbaconv.padding import index_or_none


class BatchNormalization(ElementwiseLayer):
    """Normalise every channel by mean and variance over the batch.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`

    In training, mean and variance are the batch's, and moving averages follow them:
    `moving = momentum * moving + (1 - momentum) * batch's`. Otherwise, and when the layer is not trainable, the moving
    averages are used.

    Parameters
    ----------
    axis : int
        The channel axis; 1 after a layer with `data_format="channels_first"`.
    momentum : float
        Weight of the past in the moving averages.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether `beta` is added and `gamma` multiplied.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer : str or callable
        First values of the weights.
    beta_regularizer, gamma_regularizer : str or callable, optional
        Penalties added to the training loss.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        At the first call, when `axis` is out of range.

    Notes
    -----
    Weights of shape `(channels,)`, in the order gamma, beta, moving_mean, moving_variance. The variance is the biased
    one, as in Keras.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization" (2015), algorithms 1 and 2.
    """

    gamma: Any = None
    beta: Any = None
    moving_mean: Parameter
    moving_variance: Parameter

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.axis = int(axis)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)

    def build(self, input_shape: Shape) -> None:
        """Make the four weights."""
        shape = _axis_sizes(self.name, (self.axis,), input_shape)
        if self.scale:
            self.gamma = self.add_weight(
                shape, self.gamma_initializer, name="gamma", regularizer=self.gamma_regularizer
            )
        if self.center:
            self.beta = self.add_weight(shape, self.beta_initializer, name="beta", regularizer=self.beta_regularizer)
        self.moving_mean = self.add_weight(shape, self.moving_mean_initializer, name="moving_mean", trainable=False)
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, name="moving_variance", trainable=False
        )

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when the channel axis is not the one the weights were built for."""
        found = _axis_sizes(self.name, (self.axis,), input_shape)
        if found != self.moving_mean.shape:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected axis {self.axis} of input "
                f"shape to have value {self.moving_mean.shape[0]}, but received input with shape {tuple(input_shape)}. "
                f"The weights were built for {self.moving_mean.shape[0]} channels."
            )

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return the normalised inputs."""
        if not (training and self.trainable):
            return ops.batch_normalization(
                inputs,
                self.moving_mean,
                self.moving_variance,
                self.beta,
                self.gamma,
                epsilon=self.epsilon,
                axis=self.axis,
            )
        outputs, mean, variance = ops.batch_normalization_training(
            inputs, self.beta, self.gamma, epsilon=self.epsilon, axis=self.axis
        )
        if inputs.size:
            for moving, batch in ((self.moving_mean.data, mean), (self.moving_variance.data, variance)):
                moving *= self.momentum
                moving += (1.0 - self.momentum) * batch
        return outputs


class LayerNormalization(ElementwiseLayer):
    """Normalise every position by mean and variance over its own channels.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`

    Parameters
    ----------
    axis : int or sequence of int
        The axes over which mean and variance are taken, and along which gamma and beta vary.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether `beta` is added and `gamma` multiplied.
    beta_initializer, gamma_initializer : str or callable
        First values of the weights.
    beta_regularizer, gamma_regularizer : str or callable, optional
        Penalties added to the training loss.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        At the first call, when an axis is out of range.

    References
    ----------
    Ba et al., "Layer normalization" (2016), equation 4.
    """

    gamma: Any = None
    beta: Any = None

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        single = index_or_none(axis)
        self.axis = (single,) if single is not None else tuple(axis)  # type: ignore[arg-type]
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.normalized_shape: tuple[int, ...] = ()

    def build(self, input_shape: Shape) -> None:
        """Make gamma and beta."""
        self.normalized_shape = self._sizes(input_shape)
        if self.scale:
            self.gamma = self.add_weight(
                self.normalized_shape, self.gamma_initializer, name="gamma", regularizer=self.gamma_regularizer
            )
        if self.center:
            self.beta = self.add_weight(
                self.normalized_shape, self.beta_initializer, name="beta", regularizer=self.beta_regularizer
            )

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when the normalised axes are not those the weights were built for."""
        if self._sizes(input_shape) != self.normalized_shape:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected axes {self.axis} of input "
                f"shape to have values {self.normalized_shape}, but received input with shape {tuple(input_shape)}."
            )

    def _sizes(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the sizes of the normalised axes, in the order in which they lie in memory."""
        return _axis_sizes(self.name, tuple(sorted(self.axis, key=lambda axis: axis % len(input_shape))), input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the normalised inputs."""
        return ops.layer_normalization(inputs, self.beta, self.gamma, epsilon=self.epsilon, axis=self.axis)


def _axis_sizes(name: str, axes: tuple[int, ...], input_shape: Shape) -> tuple[int, ...]:
    """Return the sizes of `axes`, which must be in range and known."""
    ndim = len(input_shape)
    for axis in axes:
        if not -ndim <= axis < ndim or axis % ndim == 0:
            raise ValueError(
                f"Input 0 of layer '{name}' is incompatible with the layer: axis {axis} is out of bounds for an input "
                f"with ndim={ndim}. Full shape received: {tuple(input_shape)}. Pass an axis from 1 to {ndim - 1}; "
                f"axis 0 is the batch."
            )
        if input_shape[axis] is None:
            raise ValueError(
                f"Layer '{name}' needs the size of axis {axis}. Full shape received: {tuple(input_shape)}. "
                "Give its size, for example in Input(shape)."
            )
    return tuple(input_shape[axis] for axis in axes)  # type: ignore[misc]
