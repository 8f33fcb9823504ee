"""Rules that arrays' shapes must satisfy, and the sentences that say how they do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

from numbaconv.padding import axes_text, check_data_format, index_or_none, sizes

P = ParamSpec("P")
R = TypeVar("R")

Strides: TypeAlias = tuple[int, ...]


_SCALARS = frozenset((int, str, type(None)))


def are_plain(values: Iterable[Any]) -> bool:
    """Whether arguments equal to these are the same arguments: 1 == True == 1.0, but only the first is plain."""
    for value in values:
        kind = type(value)
        if kind not in _SCALARS and not (kind is tuple and are_plain(value)):
            return False
    return True


def remembered(resolve: Callable[P, R]) -> Callable[P, R]:
    """Keep the results of a resolver for arguments made of ints, strings and tuples."""
    cached = lru_cache(maxsize=4096)(resolve)

    @wraps(resolve)
    def resolver(*args: P.args, **options: P.kwargs) -> R:
        if are_plain(args) and are_plain(options.values()):
            return cached(*args, **options)  # type: ignore[arg-type]
        return resolve(*args, **options)

    return resolver


def shape_of(batch: int, spatial: tuple[int, ...], channels: int, data_format: str) -> tuple[int, ...]:
    """Return an array's shape in the given data format."""
    if data_format == "channels_first":
        return (batch, channels, *spatial)
    return (batch, *spatial, channels)


def contiguous_strides(shape: tuple[int, ...]) -> Strides:
    """Return the strides, in elements, of a contiguous array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def checked_shape(shape: Any, name: str, ndim: int | None = None) -> tuple[int, ...]:
    """Return `shape` as ints, none negative, with `ndim` spatial axes where that is known."""
    try:
        numbers = tuple(index_or_none(size) for size in shape)
    except TypeError:
        raise TypeError(f"`{name}` must be a tuple of integers. Received {name}={shape!r}") from None
    if None in numbers:
        raise TypeError(f"`{name}` must be a tuple of integers. Received {name}={shape!r}")
    result = tuple(int(size) for size in numbers if size is not None)
    for axis, size in enumerate(result):
        if size < 0:
            raise ValueError(f"`{name}` must hold sizes >= 0. Received {name}={result}, with {size} at axis {axis}.")
    return result


def check_not_empty(name: str, shape: tuple[int, ...], first_axis: int) -> None:
    """Raise ValueError where an axis from `first_axis` on, 0 or the one after the batch, has size 0."""
    exception, others = (" except in its batch axis", " other") if first_axis else ("", "")
    for axis in range(first_axis, len(shape)):
        if shape[axis] == 0:
            raise ValueError(
                f"`{name}` must not be empty{exception}. Received {name}.shape={shape}, with size 0 at axis {axis}. "
                f"Every{others} size must be >= 1."
            )


def problem_axes(
    x_shape: Any, kernel_shape: Any, data_format: Any, layout: str
) -> tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]:
    """Return both shapes as ints, the input channels and the spatial sizes; check ranks and empty axes."""
    x, kernel = checked_shape(x_shape, "x.shape"), checked_shape(kernel_shape, "kernel.shape")
    check_data_format(data_format)
    if len(kernel) < 3:
        raise ValueError(
            f"`kernel` must have at least one spatial axis and the shape {layout}. Received kernel.shape={kernel}, "
            f"with {len(kernel)} axes; reshape it to 3 or more."
        )
    if len(kernel) != len(x):
        forms = {"channels_first": "(batch, channels, *spatial)", "channels_last": "(batch, *spatial, channels)"}
        raise ValueError(
            f"Kernel shape must have the same length as input, but received kernel of shape {kernel} and input of "
            f"shape {x}. A kernel {layout} with {axes_text(len(kernel) - 2)} needs an x {forms[data_format]} of "
            f"{len(kernel)} axes, not {len(x)}."
        )
    channel_axis = 1 if data_format == "channels_first" else len(x) - 1
    check_not_empty("x", x, first_axis=1)
    check_not_empty("kernel", kernel, first_axis=0)
    spatial = tuple(size for axis, size in enumerate(x) if axis not in (0, channel_axis))
    return x, kernel, x[channel_axis], spatial


def checked_groups(groups: Any) -> int:
    """Return `groups` as an int >= 1."""
    number = index_or_none(groups)
    if number is None:
        raise TypeError(
            f"The number of groups must be a positive integer. Received: groups={groups!r}, of type "
            f"{type(groups).__name__}."
        )
    if number < 1:
        raise ValueError(f"The number of groups must be a positive integer. Received: groups={number}.")
    return number


def _divisors(*numbers: int) -> str:
    common = math.gcd(*numbers)
    return ", ".join(str(g) for g in range(1, common + 1) if common % g == 0)


def check_input_groups(groups: int, channels: int, x: tuple[int, ...], *others: int) -> None:
    """Raise ValueError where `groups` does not divide the input channels; `others` must be divisible too."""
    if channels % groups:
        raise ValueError(
            f"The number of input channels must be evenly divisible by the number of groups. Received groups={groups}, "
            f"but the input has {channels} channels (full input shape is {x}). Groups that fit: "
            f"{_divisors(channels, *others)}."
        )


def check_filter_groups(groups: int, filters: int, channels: int) -> None:
    """Raise ValueError where `groups` does not divide the filters."""
    if filters % groups:
        raise ValueError(
            f"The number of filters must be evenly divisible by the number of groups. Received: groups={groups}, "
            f"filters={filters}. Groups that fit: {_divisors(filters, channels)}."
        )


def channel_mismatch(
    x: tuple[int, ...],
    channels: int,
    kernel: tuple[int, ...],
    needed: int,
    rule: str,
    data_format: str,
    remedy: str | None = None,
) -> ValueError:
    """Return the error for an x whose channels the kernel does not fit, with the nearest thing that would work."""
    axis = 1 if data_format == "channels_first" else len(x) - 1
    other_axis = len(x) - 1 if axis == 1 else 1
    message = (
        f"`x` of shape {x} has {channels} channels (axis {axis}, data_format='{data_format}'), but `kernel` of shape "
        f"{kernel} needs {needed}: {rule}. "
    )
    if x[other_axis] == needed and other_axis != axis:
        other = "channels_last" if data_format == "channels_first" else "channels_first"
        message += f"Axis {other_axis} of x has {needed}: data_format='{other}' would fit."
    else:
        message += remedy or f"Pass an x with {needed} channels or a kernel made for {channels}."
    return ValueError(message)


def axis_arithmetic(size: int, pair: tuple[int, int], extent: int, stride: int) -> str:
    """Return the output size of one axis spelled out."""
    lo, hi = pair
    return f"floor(({size} + {lo} + {hi} - {extent}) / {stride}) + 1 = {(size + lo + hi - extent) // stride + 1}"


def checked_output_padding(value: Any, strides: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return one output padding per spatial axis, each below its stride, or None for the default size."""
    if value is None:
        return (None,) * len(strides)
    extras = sizes(value, len(strides), "output_padding", minimum=0)
    for axis, (extra, stride) in enumerate(zip(extras, strides, strict=True)):
        if extra >= stride:
            raise ValueError(
                f"`output_padding` must be strictly less than `strides` for all dimensions. At dimension {axis}, "
                f"`output_padding` is {extra} but `strides` is {stride}. Received: output_padding={value!r}, "
                f"strides={strides}. Use 0 to {stride - 1} there, or None."
            )
    return extras
