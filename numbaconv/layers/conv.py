"""Convolution layers: `ConvLayer`, what all of them share, and `Conv` with `Conv1D`, `Conv2D`, `Conv3D`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from numbaconv import functional, initializers, regularizers
from numbaconv.autograd import Tensor, ops
from numbaconv.fusing import FusedActivation
from numbaconv.layers import activations
from numbaconv.layers.base import Shape
from numbaconv.layers.spatial import SpatialLayer
from numbaconv.padding import Ints, Modes, Padding, index_or_none, padding_forms, padding_modes, sizes
from numbaconv.shapes import check_filter_groups, check_input_groups, checked_groups
from numbaconv.spec import ConvSpec, resolve_conv


class ConvLayer(SpatialLayer):
    """Base of all convolution layers: the checked options and the bias.

    Sizes, strides and the like take an int for all axes or one per axis. Arguments are those of `Conv`.
    """

    kernel: Any = None
    bias: Any = None

    def __init__(
        self,
        *,
        rank: int | None,
        kernel_size: Ints,
        strides: Ints,
        padding: Padding,
        data_format: str | None,
        dilation_rate: Ints,
        padding_mode: Modes,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        **options: Any,
    ) -> None:
        super().__init__(rank, data_format, **options)
        self.kernel_size = sizes(kernel_size, self.rank, "kernel_size")
        self.strides = sizes(strides, self.rank, "strides")
        self.dilation_rate = sizes(dilation_rate, self.rank, "dilation_rate")
        self.padding = padding_forms(padding, self.rank)
        self.padding_mode = padding_modes(padding_mode, self.rank)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.in_channels: int | None = None

    @abstractmethod
    def resolve(self, input_shape: Shape) -> ConvSpec:
        """Return the problem that one sample of `input_shape` makes, or raise ValueError."""

    def options(self) -> dict[str, Any]:
        """Return the options that every convolution function takes."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "data_format": self.data_format,
            "activation": self.fused_activation(),
        }

    def fused_activation(self) -> Any:
        """Return the activation where it is a part of the convolution's own loop: relu, a user's function."""
        if self.activation is ops.relu:
            return "relu"
        return self.activation if isinstance(self.activation, FusedActivation) else None

    def activate(self, outputs: Tensor) -> Tensor:
        """Apply the activation unless the convolution has."""
        return outputs if self.fused_activation() is not None else self.activation(outputs)

    def add_bias(self, filters: int) -> None:
        """Make the bias, if the layer has one."""
        if self.use_bias:
            self.bias = self.add_weight(
                (filters,), self.bias_initializer, name="bias", regularizer=self.bias_regularizer
            )

    def build(self, input_shape: Shape) -> None:
        """Check the inputs and note their channels."""
        self.check_ndim(input_shape)
        self.in_channels = self.channels(input_shape)
        self.resolve(input_shape)

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when rank or channels are not those the layer was built for."""
        self.check_ndim(input_shape)
        if input_shape[self.channel_axis] != self.in_channels:
            raise ValueError(
                f"Input 0 of layer '{self.name}' is incompatible with the layer: expected axis {self.channel_axis} of "
                f"input shape to have value {self.in_channels}, but received input with shape {tuple(input_shape)}. "
                f"The kernel was built for {self.in_channels} channels; pass inputs with {self.in_channels}, or make a "
                f"new layer."
            )

    def macs(self, input_shape: Shape) -> int:
        """Return the multiply-accumulates of one sample."""
        return self.resolve(input_shape).macs


class Conv(ConvLayer):
    """Convolve over any number of spatial axes.

    `y[n, p, f] = activation(bias[f] + sum over taps t and channels c of x[n, p * strides + t * dilation_rate, c] *
    kernel[t, c, f])`, a cross-correlation, as in all networks.

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel_size : int or tuple of int
        Taps per axis.
    strides : int or tuple of int
        Step per axis. May be combined with `dilation_rate`.
    padding : str, int, pair or tuple
        `"valid"`, `"same"`, `"causal"`, an int, a pair `(lo, hi)`, or one of these per axis; see `numbaconv.conv`.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    dilation_rate : int or tuple of int
        Distance between taps per axis.
    groups : int
        Number of groups; divides the input channels and `filters`.
    activation : str or callable, optional
        Applied to the outputs. `"relu"` costs nothing; a `numba.njit` function of one number next to nothing
        (`numbaconv.fused_activation`).
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or callable
        First values of the weights (`numbaconv.initializers`).
    kernel_regularizer, bias_regularizer : str or callable, optional
        Penalties added to the training loss (`numbaconv.regularizers`).
    padding_mode : str or tuple of str
        What the padding holds, per axis: `"zeros"`, `"reflect"`, `"replicate"`, `"circular"`.
    rank : int, optional
        Number of spatial axes, for `Conv` itself; `Conv1D`, `Conv2D` and `Conv3D` fix it.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When an argument is impossible; at the first call, when the inputs do not fit.

    Notes
    -----
    Inputs `(batch, *spatial, channels)` or, channels first, `(batch, channels, *spatial)`; outputs alike with `filters`
    channels. Kernel `(*kernel_size, channels // groups, filters)`, bias `(filters,)`.

    Examples
    --------
    >>> layer = Conv(8, 3, padding=("causal", "same", "same", "same"), rank=4)
    >>> layer.compute_output_shape((None, 5, 6, 7, 8, 2))
    (None, 5, 6, 7, 8, 8)
    >>> Conv2D(16, 3, strides=2, dilation_rate=2, padding="same").compute_output_shape((None, 32, 32, 3))
    (None, 16, 16, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Ints,
        strides: Ints = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: Ints = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        *,
        padding_mode: Modes = "zeros",
        rank: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            rank=rank,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            padding_mode=padding_mode,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            **options,
        )
        self.filters = positive("filters", filters)
        self.groups = check_groups(groups, self.filters)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def resolve(self, input_shape: Shape) -> ConvSpec:
        """Return the problem that one sample of `input_shape` makes, or raise ValueError."""
        x_shape = self.known_shape(input_shape)
        check_input_groups(self.groups, self.channels(input_shape), x_shape, self.filters)
        return resolve_conv(
            x_shape,
            (*self.kernel_size, self.channels(input_shape) // self.groups, self.filters),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
            padding_mode=self.padding_mode,
            dtype=self.dtype,
        )

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        super().build(input_shape)
        shape = (*self.kernel_size, self.channels(input_shape) // self.groups, self.filters)
        self.kernel = self.add_weight(
            shape, self.kernel_initializer, name="kernel", regularizer=self.kernel_regularizer
        )
        self.add_bias(self.filters)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the convolution of the inputs."""
        outputs = functional.conv(
            inputs, self.kernel, self.bias, groups=self.groups, padding_mode=self.padding_mode, **self.options()
        )
        return self.activate(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs; sizes that cannot be known are None."""
        return self.output_shape_of(input_shape, self.resolve(input_shape).y_shape)


class Conv1D(Conv):
    """`Conv` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class Conv2D(Conv):
    """`Conv` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class Conv3D(Conv):
    """`Conv` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


def positive(name: str, value: Any) -> int:
    """Return `value` as an int, or raise ValueError unless it is a positive integer."""
    count = index_or_none(value)
    if count is None or count <= 0:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a strictly positive value. Received {name}={value!r}. "
            f"Pass an integer >= 1."
        )
    return count


def check_groups(groups: Any, filters: int) -> int:
    """Return `groups` as an int, or raise ValueError unless it is positive and divides `filters`."""
    count = checked_groups(groups)
    check_filter_groups(count, filters, filters)
    return count
