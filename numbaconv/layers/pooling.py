"""Pooling layers over windows and over whole inputs, for any number of axes and for one, two and three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from numbaconv import functional
from numbaconv.autograd import Tensor
from numbaconv.layers.base import Shape
from numbaconv.layers.spatial import SpatialLayer
from numbaconv.padding import Ints, Padding, padding_forms, sizes
from numbaconv.spec import resolve_pool


class Pooling(SpatialLayer):
    """Base of pooling layers: one value per window and channel.

    Parameters
    ----------
    pool_size : int or tuple of int
        Window per axis.
    strides : int or tuple of int, optional
        Step per axis; None steps by the window.
    padding : str, int, pair or tuple
        `"valid"`, `"same"`, an int, a pair `(lo, hi)`, or one of these per axis. Padding never counts as a value.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    rank : int, optional
        Number of spatial axes, for the classes that take any.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When an argument is impossible; at a call, when the inputs do not fit.
    """

    pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        pool_size: Ints = 2,
        strides: Ints | None = None,
        padding: Padding = "valid",
        data_format: str | None = None,
        *,
        rank: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(rank, data_format, **options)
        self.pool_size = sizes(pool_size, self.rank, "pool_size")
        self.strides = self.pool_size if strides is None else sizes(strides, self.rank, "strides")
        self.padding = padding_forms(padding, self.rank)

    def call(self, inputs: Tensor) -> Tensor:
        """Return the pooled inputs."""
        return type(self).pool(
            inputs, self.pool_size, strides=self.strides, padding=self.padding, data_format=self.data_format
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs; sizes that cannot be known are None."""
        spec = resolve_pool(
            self.known_shape(input_shape),
            self.pool_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
        )
        return self.output_shape_of(input_shape, spec.y_shape)


class MaxPooling(Pooling):
    """Take the greatest value of each window; arguments are those of `Pooling`.

    Examples
    --------
    >>> MaxPooling2D().compute_output_shape((None, 9, 8, 3))
    (None, 4, 4, 3)
    """

    pool = staticmethod(functional.max_pool)


class MaxPooling1D(MaxPooling):
    """`MaxPooling` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class MaxPooling2D(MaxPooling):
    """`MaxPooling` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class MaxPooling3D(MaxPooling):
    """`MaxPooling` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


class AveragePooling(Pooling):
    """Take the mean of the values of each window, padding not counted; arguments are those of `Pooling`.

    Examples
    --------
    >>> AveragePooling2D(3, strides=2, padding="same").compute_output_shape((None, 9, 8, 3))
    (None, 5, 4, 3)
    """

    pool = staticmethod(functional.average_pool)


class AveragePooling1D(AveragePooling):
    """`AveragePooling` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class AveragePooling2D(AveragePooling):
    """`AveragePooling` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class AveragePooling3D(AveragePooling):
    """`AveragePooling` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


class GlobalPooling(SpatialLayer):
    """Base of layers that pool all positions to one value per channel.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; None stands for `"channels_last"`.
    keepdims : bool
        Whether the spatial axes stay, with size 1.
    rank : int, optional
        Number of spatial axes, for the classes that take any.
    **options
        `name`, `dtype` and `trainable` of `Layer`.
    """

    pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        data_format: str | None = None,
        keepdims: bool = False,
        *,
        rank: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(rank, data_format, **options)
        self.keepdims = keepdims

    def call(self, inputs: Tensor) -> Tensor:
        """Return one value per channel."""
        return type(self).pool(inputs, keepdims=self.keepdims, data_format=self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, channels)`, or with `keepdims` the input shape with spatial sizes of 1."""
        self.check_ndim(input_shape)
        if not self.keepdims:
            return (input_shape[0], input_shape[self.channel_axis])
        shape = list(input_shape)
        for axis in self.spatial_axes():
            shape[axis] = 1
        return tuple(shape)


class GlobalMaxPooling(GlobalPooling):
    """Take the greatest value of every channel; arguments are those of `GlobalPooling`.

    Examples
    --------
    >>> GlobalMaxPooling2D().compute_output_shape((None, 9, 8, 3))
    (None, 3)
    """

    pool = staticmethod(functional.global_max_pool)


class GlobalMaxPooling1D(GlobalMaxPooling):
    """`GlobalMaxPooling` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class GlobalMaxPooling2D(GlobalMaxPooling):
    """`GlobalMaxPooling` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class GlobalMaxPooling3D(GlobalMaxPooling):
    """`GlobalMaxPooling` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3


class GlobalAveragePooling(GlobalPooling):
    """Take the mean of every channel; arguments are those of `GlobalPooling`.

    Examples
    --------
    >>> GlobalAveragePooling2D(keepdims=True).compute_output_shape((None, 9, 8, 3))
    (None, 1, 1, 3)
    """

    pool = staticmethod(functional.global_average_pool)


class GlobalAveragePooling1D(GlobalAveragePooling):
    """`GlobalAveragePooling` over one spatial axis: inputs `(batch, steps, channels)`."""

    fixed_rank = 1


class GlobalAveragePooling2D(GlobalAveragePooling):
    """`GlobalAveragePooling` over two spatial axes: inputs `(batch, height, width, channels)`."""

    fixed_rank = 2


class GlobalAveragePooling3D(GlobalAveragePooling):
    """`GlobalAveragePooling` over three spatial axes: inputs `(batch, depth, height, width, channels)`."""

    fixed_rank = 3
