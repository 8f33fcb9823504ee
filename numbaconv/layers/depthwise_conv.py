"""Depthwise and separable convolution layers, for any number of axes and for one, two and three."""

from __future__ import annotations

from typing import Any

from numbaconv import functional, initializers, regularizers
from numbaconv.autograd import Tensor
from numbaconv.layers.base import Shape
from numbaconv.layers.conv import ConvLayer, positive
from numbaconv.padding import Ints, Modes, Padding
from numbaconv.spec import ConvSpec, resolve_depthwise


class DepthwiseConv(ConvLayer):
    """Convolve every input channel with kernels of its own.

    `y[n, p, c * depth_multiplier + m] = sum over taps t of x[n, p * strides + t * dilation_rate, c] * kernel[t, c, m]`

    Parameters
    ----------
    kernel_size : int or tuple of int
        Taps per axis.
    strides : int or tuple of int
        Step per axis. May differ between axes and be combined with `dilation_rate`.
    padding : str, int, pair or tuple
        `"valid"`, `"same"`, `"causal"`, an int, a pair `(lo, hi)`, or one of these per axis.
    depth_multiplier : int
        Output channels per input channel.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    dilation_rate : int or tuple of int
        Distance between taps per axis.
    activation : str or callable, optional
        Applied to the outputs. `"relu"` costs nothing.
    use_bias : bool
        Whether a bias is added.
    depthwise_initializer, bias_initializer : str or callable
        First values of the weights (`numbaconv.initializers`).
    depthwise_regularizer, bias_regularizer : str or callable, optional
        Penalties added to the training loss (`numbaconv.regularizers`).
    padding_mode : str or tuple of str
        What the padding holds, per axis: `"zeros"`, `"reflect"`, `"replicate"`, `"circular"`.
    rank : int, optional
        Number of spatial axes, for `DepthwiseConv` itself.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When an argument is impossible; at the first call, when the inputs do not fit.

    Notes
    -----
    Kernel `(*kernel_size, channels, depth_multiplier)`, bias `(channels * depth_multiplier,)`.

    Examples
    --------
    >>> DepthwiseConv3D(3, depth_multiplier=2).compute_output_shape((None, 8, 8, 8, 4))
    (None, 6, 6, 6, 8)
    """

    def __init__(
        self,
        kernel_size: Ints,
        strides: Ints = 1,
        padding: Padding = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Ints = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
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
        self.depth_multiplier = positive("depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)

    def resolve(self, input_shape: Shape) -> ConvSpec:
        """Return the depthwise problem that one sample of `input_shape` makes, or raise ValueError."""
        x_shape = self.known_shape(input_shape)
        return resolve_depthwise(
            x_shape,
            (*self.kernel_size, self.channels(input_shape), self.depth_multiplier),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
            padding_mode=self.padding_mode,
            dtype=self.dtype,
        )

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        super().build(input_shape)
        self.add_depthwise_kernel(self.channels(input_shape))
        self.add_bias(self.channels(input_shape) * self.depth_multiplier)

    def add_depthwise_kernel(self, channels: int) -> None:
        """Make the kernel `(*kernel_size, channels, depth_multiplier)`."""
        self.kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            name="kernel",
            regularizer=self.depthwise_regularizer,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """Return the depthwise convolution of the inputs."""
        outputs = functional.depthwise_conv(
            inputs, self.kernel, self.bias, padding_mode=self.padding_mode, **self.options()
        )
        return self.activate(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs; sizes that cannot be known are None."""
        return self.output_shape_of(input_shape, self.resolve(input_shape).y_shape)


class SeparableConv(DepthwiseConv):
    """Convolve every input channel with kernels of its own, then mix the channels with a 1-tap convolution.

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel_size : int or tuple of int
        Taps per axis.
    strides : int or tuple of int
        Step per axis. May be combined with `dilation_rate`.
    padding : str, int, pair or tuple
        `"valid"`, `"same"`, `"causal"`, an int, a pair `(lo, hi)`, or one of these per axis.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    dilation_rate : int or tuple of int
        Distance between taps per axis.
    depth_multiplier : int
        Channels between the two convolutions, per input channel.
    activation : str or callable, optional
        Applied to the outputs. `"relu"` costs nothing.
    use_bias : bool
        Whether a bias is added.
    depthwise_initializer, pointwise_initializer, bias_initializer : str or callable
        First values of the weights (`numbaconv.initializers`).
    depthwise_regularizer, pointwise_regularizer, bias_regularizer : str or callable, optional
        Penalties added to the training loss (`numbaconv.regularizers`).
    padding_mode : str or tuple of str
        What the padding holds, per axis: `"zeros"`, `"reflect"`, `"replicate"`, `"circular"`.
    rank : int, optional
        Number of spatial axes, for `SeparableConv` itself.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When an argument is impossible; at the first call, when the inputs do not fit.

    Notes
    -----
    Kernels `(*kernel_size, channels, depth_multiplier)` and `(1, ..., channels * depth_multiplier, filters)`, bias
    `(filters,)`.

    Examples
    --------
    >>> SeparableConv2D(16, 3, padding="same").compute_output_shape((None, 8, 8, 4))
    (None, 8, 8, 16)
    """

    pointwise_kernel: Any = None

    def __init__(
        self,
        filters: int,
        kernel_size: Ints,
        strides: Ints = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: Ints = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        *,
        padding_mode: Modes = "zeros",
        rank: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            depthwise_initializer,
            bias_initializer,
            depthwise_regularizer,
            bias_regularizer,
            padding_mode=padding_mode,
            rank=rank,
            **options,
        )
        self.filters = positive("filters", filters)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)

    def build(self, input_shape: Shape) -> None:
        """Make both kernels and the bias."""
        ConvLayer.build(self, input_shape)
        channels = self.channels(input_shape)
        self.add_depthwise_kernel(channels)
        self.pointwise_kernel = self.add_weight(
            (*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            self.pointwise_initializer,
            name="pointwise_kernel",
            regularizer=self.pointwise_regularizer,
        )
        self.add_bias(self.filters)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the separable convolution of the inputs."""
        outputs = functional.separable_conv(
            inputs,
            self.kernel,
            self.pointwise_kernel,
            self.bias,
            padding_mode=self.padding_mode,
            **self.options(),
        )
        return self.activate(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs; sizes that cannot be known are None."""
        shape = list(super().compute_output_shape(input_shape))
        shape[self.channel_axis] = self.filters
        return tuple(shape)

    def macs(self, input_shape: Shape) -> int:
        """Return the multiply-accumulates of one sample in both convolutions."""
        depthwise = self.resolve(input_shape)
        positions = depthwise.macs // (depthwise.out_channels * depthwise.taps)
        return depthwise.macs + positions * depthwise.out_channels * self.filters


class DepthwiseConv1D(DepthwiseConv):
    """`DepthwiseConv` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """`DepthwiseConv` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class DepthwiseConv3D(DepthwiseConv):
    """`DepthwiseConv` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


class SeparableConv1D(SeparableConv):
    """`SeparableConv` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class SeparableConv2D(SeparableConv):
    """`SeparableConv` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class SeparableConv3D(SeparableConv):
    """`SeparableConv` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3
