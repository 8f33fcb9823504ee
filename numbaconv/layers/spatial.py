"""What convolution, pooling, padding and up-sampling layers share: a number of spatial axes and a data format."""

from __future__ import annotations

from typing import Any, ClassVar

from numbaconv.layers.base import Layer, Shape
from numbaconv.padding import check_data_format, index_or_none

# Stands for an unknown spatial size while an output shape is computed: larger than any kernel, so that no rule about
# sizes applies to it.
_UNKNOWN_SIZE = 1 << 24


class SpatialLayer(Layer):
    """Base of layers over `rank` spatial axes.

    `rank` is fixed by a subclass (`Conv2D`), or given (`Conv(rank=4, ...)`).

    Parameters
    ----------
    rank : int, optional
        Number of spatial axes, where the class does not fix it.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes of inputs and outputs; None stands for `"channels_last"`.
    **options
        `name`, `dtype` and `trainable` of `Layer`.

    Raises
    ------
    ValueError, TypeError
        When `rank` is missing, not positive, or not the one the class fixes; when `data_format` is unknown.
    """

    fixed_rank: ClassVar[int | None] = None

    def __init__(self, rank: int | None = None, data_format: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        kind = type(self).__name__
        if rank is None:
            rank = self.fixed_rank
        count = index_or_none(rank)
        if count is None or count < 1:
            raise ValueError(
                f"The `rank` argument of {kind} must be a positive integer, the number of spatial axes. "
                f"Received: rank={rank!r}. Pass for example rank=2 for images."
            )
        if self.fixed_rank not in (None, count):
            raise ValueError(
                f"{kind} has rank {self.fixed_rank}. Received: rank={rank!r}. Leave `rank` out, or use the class that "
                f"takes any rank."
            )
        self.rank = count
        self.data_format = check_data_format("channels_last" if data_format is None else data_format)

    @property
    def channel_axis(self) -> int:
        """Axis of the channels, counted from the end where they are last."""
        return 1 if self.data_format == "channels_first" else -1

    def spatial_axes(self) -> range:
        """Return the spatial axes of inputs."""
        start = 2 if self.data_format == "channels_first" else 1
        return range(start, start + self.rank)

    def check_ndim(self, input_shape: Shape) -> None:
        """Raise ValueError unless inputs have batch, channels and `rank` spatial axes."""
        expected, found = self.rank + 2, len(input_shape)
        if found == expected:
            return
        rule = f"min_ndim={expected}" if found < expected else f"ndim={expected}"
        order = "batch, channels, spatial" if self.data_format == "channels_first" else "batch, spatial, channels"
        remedy = (
            " Add a missing batch axis with x[np.newaxis], a missing channel axis with x[..., np.newaxis]."
            if found == expected - 1
            else f" Use the layer for {found - 2} spatial axes."
            if found > expected
            else ""
        )
        raise ValueError(
            f"Input 0 of layer '{self.name}' is incompatible with the layer: expected {rule}, found ndim={found}. "
            f"Full shape received: {tuple(input_shape)}. {type(self).__name__} takes {self.rank} spatial "
            f"{'axis' if self.rank == 1 else 'axes'} ({order}).{remedy}"
        )

    def check_input_shape(self, input_shape: Shape) -> None:
        """Raise ValueError when the inputs' rank is wrong."""
        self.check_ndim(input_shape)

    def channels(self, input_shape: Shape) -> int:
        """Return the number of input channels, which must be known."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                "The channel dimension of the inputs should be defined. Found `None`. "
                f"Full input shape received: {tuple(input_shape)}. Give the number of channels at axis "
                f"{self.channel_axis}."
            )
        return channels

    def known_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the shape of one sample with a stand-in for every unknown spatial size."""
        self.check_ndim(input_shape)
        return (1, *(_UNKNOWN_SIZE if size is None else size for size in input_shape[1:]))

    def output_shape_of(self, input_shape: Shape, y_shape: tuple[int, ...]) -> Shape:
        """Return `y_shape`, the outputs for `known_shape`, with None where the size cannot be known."""
        shape: list[int | None] = list(y_shape)
        shape[0] = input_shape[0]
        for axis in self.spatial_axes():
            if input_shape[axis] is None:
                shape[axis] = None
        return tuple(shape)
