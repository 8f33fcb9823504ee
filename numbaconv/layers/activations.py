"""Activation functions by name, and the layers that apply them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numbaconv import initializers, regularizers
from numbaconv.autograd import Tensor, ops
from numbaconv.fusing import is_jitted, of_jitted
from numbaconv.layers.base import Layer, Shape
from numbaconv.padding import index_or_none

ActivationFunction = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """Return `x`."""
    return x


def exponential(x: Tensor) -> Tensor:
    """Return `exp(x)`."""
    return ops.exp(x)


ACTIVATIONS: dict[str, ActivationFunction] = {
    "linear": linear,
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "selu": ops.selu,
    "gelu": ops.gelu,
    "silu": ops.silu,
    "swish": ops.silu,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_silu": ops.hard_silu,
    "hard_swish": ops.hard_silu,
    "tanh": ops.tanh,
    "softplus": ops.softplus,
    "softsign": ops.softsign,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "exponential": exponential,
}


def get(identifier: Any) -> ActivationFunction:
    """Return the activation function a name or a callable stands for; None stands for the identity.

    Parameters
    ----------
    identifier : str, callable or None
        A name such as `"relu"`, a function from Tensor to Tensor, or a `numba.njit` function of one number, which
        stands for `numbaconv.fused_activation` of it.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object cannot be called.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str) and identifier.lower() in ACTIVATIONS:
        return ACTIVATIONS[identifier.lower()]
    if is_jitted(identifier):
        return of_jitted(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    names = ", ".join(repr(name) for name in sorted(ACTIVATIONS))
    kind = ValueError if isinstance(identifier, str) else TypeError
    raise kind(
        f"Could not interpret activation function identifier: {identifier!r}. Pass one of {names}, or a function."
    )


class ElementwiseLayer(Layer):
    """Base of layers whose outputs have the shape of their inputs."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return tuple(input_shape)


class Activation(ElementwiseLayer):
    """Apply an activation function.

    Parameters
    ----------
    activation : str or callable
        A name such as `"relu"`, or a function from Tensor to Tensor.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("relu")(np.array([[-1.0, 2.0]])).numpy()
    array([[0., 2.]])
    """

    def __init__(self, activation: Any, **options: Any) -> None:
        super().__init__(**options)
        self.activation = get(activation)

    def call(self, inputs: Tensor) -> Tensor:
        """Return `activation(inputs)`."""
        return self.activation(inputs)


class ReLU(ElementwiseLayer):
    """Rectify: `x` above the threshold, `negative_slope * (x - threshold)` below it, at most `max_value`.

    Parameters
    ----------
    max_value : float, optional
        Non-negative upper bound; None for none.
    negative_slope : float
        Non-negative slope below the threshold.
    threshold : float
        Non-negative value below which the slope is `negative_slope`.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When an argument is negative.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU(max_value=1.5)(np.array([[-1.0, 1.0, 2.0]])).numpy()
    array([[0. , 1. , 1.5]])
    """

    def __init__(self, max_value: Any = None, negative_slope: Any = 0.0, threshold: Any = 0.0, **options: Any) -> None:
        super().__init__(**options)
        for argument, value in (("max_value", max_value), ("negative_slope", negative_slope), ("threshold", threshold)):
            if (argument != "max_value" and value is None) or (value is not None and value < 0.0):
                raise ValueError(
                    f"{argument} of a ReLU layer cannot be a negative value. Received: {argument}={value}. "
                    f"Pass a number >= 0."
                )
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rectified inputs."""
        if self.threshold:
            above = inputs.data > self.threshold
            outputs = ops.where(above, inputs, (inputs - self.threshold) * self.negative_slope)
        elif self.negative_slope:
            outputs = ops.leaky_relu(inputs, self.negative_slope)
        elif self.max_value is not None:
            return ops.clip(inputs, 0.0, self.max_value)
        else:
            return ops.relu(inputs)
        return outputs if self.max_value is None else ops.clip(outputs, None, self.max_value)


class LeakyReLU(ElementwiseLayer):
    """Rectify leaving a slope: `x` where positive, else `negative_slope * x`.

    Parameters
    ----------
    negative_slope : float
        Non-negative slope of negative inputs.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When `negative_slope` is negative.
    """

    def __init__(self, negative_slope: Any = 0.3, **options: Any) -> None:
        super().__init__(**options)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(
                "The negative_slope value of a Leaky ReLU layer cannot be None or negative value. Expected a float. "
                f"Received: negative_slope={negative_slope}"
            )
        self.negative_slope = negative_slope

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rectified inputs."""
        return ops.leaky_relu(inputs, self.negative_slope)


class ELU(ElementwiseLayer):
    """Rectify exponentially: `x` where positive, else `alpha * (exp(x) - 1)`.

    Parameters
    ----------
    alpha : float
        Limit of the negative part.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    References
    ----------
    Clevert et al., "Fast and accurate deep network learning by exponential linear units" (2016), equation 15.
    """

    def __init__(self, alpha: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = alpha

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rectified inputs."""
        return ops.elu(inputs, self.alpha)


class PReLU(ElementwiseLayer):
    """Rectify with learned slopes: `x` where positive, else `alpha * x`.

    Parameters
    ----------
    alpha_initializer : str or callable
        First values of the slopes.
    alpha_regularizer : str or callable, optional
        Penalty on the slopes.
    shared_axes : sequence of int, optional
        Axes (batch is 0) along which one slope serves all positions, such as `[1, 2]` for one slope per channel.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    References
    ----------
    He et al., "Delving deep into rectifiers" (2015), section 2.1.
    """

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        shared_axes: Sequence[int] | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        single = index_or_none(shared_axes)
        self.shared_axes = (single,) if single is not None else tuple(shared_axes or ())  # type: ignore[arg-type]
        self.alpha: Any = None

    def build(self, input_shape: Shape) -> None:
        """Make one slope per position, but one for all along `shared_axes`."""
        shape = [1 if axis in self.shared_axes else size for axis, size in enumerate(input_shape)][1:]
        self.alpha = self.add_weight(
            shape,  # type: ignore[arg-type]
            self.alpha_initializer,
            name="alpha",
            regularizer=self.alpha_regularizer,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rectified inputs."""
        return ops.relu(inputs) - self.alpha * ops.relu(-inputs)


class Softmax(ElementwiseLayer):
    """Normalise to probabilities: `exp(x) / sum(exp(x))` along an axis.

    Parameters
    ----------
    axis : int
        The axis whose values sum to one.
    **options
        `name`, `dtype` and `trainable` of `Layer`.
    """

    def __init__(self, axis: int = -1, **options: Any) -> None:
        super().__init__(**options)
        self.axis = axis

    def call(self, inputs: Tensor) -> Tensor:
        """Return the probabilities."""
        return ops.softmax(inputs, axis=self.axis)
