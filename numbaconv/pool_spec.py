"""One pooling problem as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from numbaconv.padding import Ints, Padding, axis_padding, check_data_format, padding_forms, sizes
from numbaconv.shapes import axis_arithmetic, check_not_empty, checked_shape, remembered, shape_of


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pooling without its arrays; padded positions belong to no window's values."""

    batch: int
    channels: int
    in_spatial: tuple[int, ...]
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    data_format: str = "channels_last"
    dtype: str = "float32"
    out_spatial: tuple[int, ...] = field(init=False, repr=False, compare=False)
    x_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    y_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        axes = zip(self.in_spatial, self.padding, self.pool_size, self.strides, strict=True)
        out = tuple((n + lo + hi - k) // s + 1 for n, (lo, hi), k, s in axes)
        object.__setattr__(self, "out_spatial", out)
        object.__setattr__(self, "x_shape", shape_of(self.batch, self.in_spatial, self.channels, self.data_format))
        object.__setattr__(self, "y_shape", shape_of(self.batch, out, self.channels, self.data_format))

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.pool_size)


def pooled_axes(x_shape: Sequence[int], data_format: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Return the shape as ints, its channels and its spatial sizes; check its rank and that only the batch is empty."""
    x = checked_shape(x_shape, "x.shape")
    check_data_format(data_format)
    if len(x) < 3:
        raise ValueError(
            f"`x` must have at least one spatial axis beside batch and channels. Received x.shape={x}, with {len(x)} "
            f"axes; pooling needs 3 or more."
        )
    check_not_empty("x", x, first_axis=1)
    return (x, x[1], x[2:]) if data_format == "channels_first" else (x, x[-1], x[1:-1])


@remembered
def resolve_pool(
    x_shape: Sequence[int],
    pool_size: Ints,
    *,
    strides: Ints | None = None,
    padding: Padding = "valid",
    data_format: str = "channels_last",
    dtype: str = "float32",
) -> PoolSpec:
    """Return the PoolSpec of windows of `pool_size` every `strides` (None: one window beside the next)."""
    x, channels, spatial = pooled_axes(x_shape, data_format)
    ndim = len(spatial)
    window = sizes(pool_size, ndim, "pool_size")
    steps = window if strides is None else sizes(strides, ndim, "strides")
    forms = padding_forms(padding, ndim)
    pads = tuple(axis_padding(*axis) for axis in zip(forms, spatial, window, steps, strict=True))
    spec = PoolSpec(x[0], channels, spatial, window, steps, pads, data_format, dtype)
    for axis, (out, pair) in enumerate(zip(spec.out_spatial, pads, strict=True)):
        if max(pair) >= window[axis]:
            raise ValueError(
                f"`padding` of a pooling must be smaller than its `pool_size`, or a window would hold no value. "
                f"Received padding={padding!r}, which is {pair} at spatial axis {axis} where pool_size is "
                f"{window[axis]}. Pad by at most {window[axis] - 1} there."
            )
        if out < 1:
            raise ValueError(
                f"Computed output size would be zero or negative. Received `inputs shape={x}`, "
                f"`pool_size={pool_size}`, `strides={strides}`, `padding={padding}`. At spatial axis {axis}: "
                f"{axis_arithmetic(spatial[axis], pair, window[axis], steps[axis])}. The window must be at most the "
                f"padded input, {sum(pair, spatial[axis])}: use padding='same' or a pool_size of at most "
                f"{sum(pair, spatial[axis])} there."
            )
    return spec
