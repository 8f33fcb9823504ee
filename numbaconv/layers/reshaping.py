"""Layers that move values: `Flatten`, zero padding and nearest-neighbour up-sampling."""

from __future__ import annotations

import math
from typing import Any

from numbaconv.autograd import Tensor, ops
from numbaconv.layers.base import Layer, Shape
from numbaconv.layers.spatial import SpatialLayer
from numbaconv.padding import Ints, check_data_format, index_or_none, sizes


class Flatten(Layer):
    """Flatten every sample to one axis.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        With `"channels_first"` the channels are moved last before flattening, so that weights after it serve both
        formats, as in Keras.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Examples
    --------
    >>> Flatten().compute_output_shape((None, 4, 4, 8))
    (None, 128)
    """

    def __init__(self, data_format: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.data_format = check_data_format("channels_last" if data_format is None else data_format)

    def call(self, inputs: Tensor) -> Tensor:
        """Return inputs of shape `(batch, product of the other sizes)`."""
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = ops.transpose(inputs, (0, *range(2, inputs.ndim), 1))
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, product of the other sizes)`."""
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))  # type: ignore[arg-type]


class ZeroPadding(SpatialLayer):
    """Surround the spatial axes with zeros.

    Parameters
    ----------
    padding : int or tuple
        Zeros at both ends of every axis, or per axis an int or a pair `(before, after)`. For one axis a tuple of two
        ints is `(before, after)`.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    rank : int, optional
        Number of spatial axes, for `ZeroPadding` itself.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When `padding` is none of these.

    Examples
    --------
    >>> ZeroPadding2D(((1, 0), (2, 2))).compute_output_shape((None, 8, 8, 3))
    (None, 9, 12, 3)
    """

    def __init__(
        self, padding: Any = 1, data_format: str | None = None, *, rank: int | None = None, **options: Any
    ) -> None:
        super().__init__(rank, data_format, **options)
        self.padding = self._pairs(padding)

    def _pairs(self, padding: Any) -> tuple[tuple[int, int], ...]:
        forms = padding if isinstance(padding, (tuple, list)) else (padding,) * self.rank
        if self.rank == 1 and len(forms) == 2 and all(index_or_none(form) is not None for form in forms):
            forms = (forms,)
        pairs = [(form, form) if index_or_none(form) is not None else form for form in forms]
        if len(pairs) != self.rank or not all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(index_or_none(end) is not None and end >= 0 for end in pair)
            for pair in pairs
        ):
            raise ValueError(
                f"`padding` should be either an int, a tuple of {self.rank} ints, or a tuple of {self.rank} tuples of "
                f"2 ints (before, after), all >= 0. Received: padding={padding!r}. Pass for example padding=1."
            )
        return tuple((int(lo), int(hi)) for lo, hi in pairs)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the padded inputs."""
        widths = [(0, 0)] * inputs.ndim
        for axis, pair in zip(self.spatial_axes(), self.padding, strict=True):
            widths[axis] = pair
        return ops.pad(inputs, tuple(widths))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape` with the padding added."""
        self.check_ndim(input_shape)
        shape = list(input_shape)
        for axis, pair in zip(self.spatial_axes(), self.padding, strict=True):
            size = shape[axis]
            shape[axis] = None if size is None else size + sum(pair)
        return tuple(shape)


class ZeroPadding1D(ZeroPadding):
    """`ZeroPadding` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class ZeroPadding2D(ZeroPadding):
    """`ZeroPadding` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class ZeroPadding3D(ZeroPadding):
    """`ZeroPadding` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


class UpSampling(SpatialLayer):
    """Repeat every value along the spatial axes (nearest-neighbour up-sampling).

    Parameters
    ----------
    size : int or tuple of int
        Repeats per axis.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    interpolation : {"nearest"}
        How values in between are found.
    rank : int, optional
        Number of spatial axes, for `UpSampling` itself.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError
        When `interpolation` is not `"nearest"` or `size` not positive.

    Examples
    --------
    >>> UpSampling2D((2, 3)).compute_output_shape((None, 8, 8, 3))
    (None, 16, 24, 3)
    """

    def __init__(
        self,
        size: Ints = 2,
        data_format: str | None = None,
        interpolation: str = "nearest",
        *,
        rank: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(rank, data_format, **options)
        if interpolation != "nearest":
            raise ValueError(
                f"The `interpolation` argument must be 'nearest'. Received: interpolation={interpolation!r}. "
                f"For smooth up-sampling use ConvTranspose with strides."
            )
        self.size = sizes(size, self.rank, "size")
        self.interpolation = interpolation

    def call(self, inputs: Tensor) -> Tensor:
        """Return the repeated inputs."""
        # Innermost axis first: the longest copies are made last.
        for axis, repeats in reversed(list(zip(self.spatial_axes(), self.size, strict=True))):
            if repeats > 1:
                inputs = ops.repeat(inputs, repeats, axis)
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape` with the spatial sizes multiplied."""
        self.check_ndim(input_shape)
        shape = list(input_shape)
        for axis, repeats in zip(self.spatial_axes(), self.size, strict=True):
            size = shape[axis]
            shape[axis] = None if size is None else size * repeats
        return tuple(shape)


class UpSampling1D(UpSampling):
    """`UpSampling` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class UpSampling2D(UpSampling):
    """`UpSampling` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class UpSampling3D(UpSampling):
    """`UpSampling` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3
