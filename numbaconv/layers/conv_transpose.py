"""Transposed convolution layers: `ConvTranspose` and its classes for one, two and three axes."""

from __future__ import annotations

from typing import Any

from numbaconv import functional, initializers, regularizers
from numbaconv.autograd import Tensor
from numbaconv.layers.base import Shape
from numbaconv.layers.conv import ConvLayer, check_groups, positive
from numbaconv.padding import Ints, Padding
from numbaconv.shapes import check_input_groups, checked_output_padding
from numbaconv.spec import ConvSpec, resolve_conv_transpose


class ConvTranspose(ConvLayer):
    """Transposed convolution over any number of spatial axes: the input gradient of a convolution, used forwards.

    `out = size * stride` with `padding="same"`, `(size - 1) * stride + max(dilated kernel, stride)` with `"valid"`;
    with `output_padding` p, `(size - 1) * stride + dilated kernel % 2 + p` and `(size - 1) * stride + dilated kernel +
    p`. Explicit padding crops the outputs.

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel_size : int or tuple of int
        Taps per axis.
    strides : int or tuple of int
        Factor per axis by which the outputs are larger. May be combined with `dilation_rate`.
    padding : str, int, pair or tuple
        `"valid"`, `"same"`, `"causal"`, an int, a pair `(lo, hi)`, or one of these per axis.
    output_padding : int or tuple of int, optional
        Rows added at the end of each axis; smaller than the stride. None lets the formulas above decide.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    dilation_rate : int or tuple of int
        Distance between taps per axis.
    activation : str or callable, optional
        Applied to the outputs. `"relu"` costs nothing.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or callable
        First values of the weights (`numbaconv.initializers`).
    kernel_regularizer, bias_regularizer : str or callable, optional
        Penalties added to the training loss (`numbaconv.regularizers`).
    groups : int
        Number of groups; divides the input channels and `filters`.
    rank : int, optional
        Number of spatial axes, for `ConvTranspose` itself.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When an argument is impossible; at the first call, when the inputs do not fit.

    Notes
    -----
    Kernel `(*kernel_size, filters // groups, channels)`, bias `(filters,)`.

    Examples
    --------
    >>> Conv2DTranspose(16, 4, strides=2, padding="same").compute_output_shape((None, 8, 8, 32))
    (None, 16, 16, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Ints,
        strides: Ints = 1,
        padding: Padding = "valid",
        output_padding: Ints | None = None,
        data_format: str | None = None,
        dilation_rate: Ints = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        *,
        groups: int = 1,
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
            padding_mode="zeros",
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            **options,
        )
        self.filters = positive("filters", filters)
        self.groups = check_groups(groups, self.filters)
        checked_output_padding(output_padding, self.strides)
        self.output_padding = output_padding
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def resolve(self, input_shape: Shape) -> ConvSpec:
        """Return the mirrored convolution, whose input is this layer's output, or raise ValueError."""
        x_shape = self.known_shape(input_shape)
        check_input_groups(self.groups, self.channels(input_shape), x_shape, self.filters)
        return resolve_conv_transpose(
            x_shape,
            (*self.kernel_size, self.filters // self.groups, self.channels(input_shape)),
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
            dtype=self.dtype,
        )

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        super().build(input_shape)
        shape = (*self.kernel_size, self.filters // self.groups, self.channels(input_shape))
        self.kernel = self.add_weight(
            shape, self.kernel_initializer, name="kernel", regularizer=self.kernel_regularizer
        )
        self.add_bias(self.filters)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the transposed convolution of the inputs."""
        outputs = functional.conv_transpose(
            inputs,
            self.kernel,
            self.bias,
            output_padding=self.output_padding,
            groups=self.groups,
            **self.options(),
        )
        return self.activate(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs; sizes that cannot be known are None."""
        return self.output_shape_of(input_shape, self.resolve(input_shape).x_shape)


class Conv1DTranspose(ConvTranspose):
    """`ConvTranspose` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class Conv2DTranspose(ConvTranspose):
    """`ConvTranspose` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class Conv3DTranspose(ConvTranspose):
    """`ConvTranspose` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3
