"""One convolution or pooling problem as numbers: every user form resolved once, every shape error raised here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from numbaconv.padding import (
    Ints,
    Modes,
    Padding,
    axis_padding,
    check_padding_fits,
    padding_forms,
    padding_modes,
    sizes,
    transposed_axis,
)
from numbaconv.pool_spec import PoolSpec, resolve_pool
from numbaconv.shapes import (
    axis_arithmetic,
    channel_mismatch,
    check_filter_groups,
    check_input_groups,
    checked_groups,
    checked_output_padding,
    problem_axes,
    remembered,
    shape_of,
)

__all__ = [
    "ConvSpec",
    "PoolSpec",
    "resolve_conv",
    "resolve_conv_transpose",
    "resolve_depthwise",
    "resolve_pool",
]

_PROBLEM = re.compile(
    r"mb(?P<batch>\d+)_ic(?P<ic>\d+)oc(?P<oc>\d+)(?:_g(?P<groups>\d+))?_(?P<spatial>[\dx]+)_k(?P<kernel>[\dx]+)"
    r"(?:_s(?P<strides>[\dx]+))?(?:_d(?P<dilation>[\dx]+))?(?:_p(?P<padding>[\d:x]+))?"
    r"(?:_m(?P<modes>[a-z]+(?::[a-z]+)*))?(?P<first>_ncx)?(?P<double>_f64)?"
)


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A convolution without its arrays.

    Output position p of an axis reads the padded input at `p * stride + t * dilation` for each tap t, and
    out = floor((in + lo + hi - dilated_kernel) / stride) + 1. Equal problems are equal and hash alike; `str(spec)`
    names the problem and `ConvSpec.parse` reads the name back. `resolve_conv` and its siblings make specs of what users
    write, and check it.

    Attributes
    ----------
    batch, in_channels, out_channels, groups : int
        Samples, channels of the input and of the result, and groups of channels convolved apart from each other.
    in_spatial, kernel_size, strides, dilation : tuple of int
        Sizes, steps and tap distances, one per spatial axis.
    padding : tuple of (int, int)
        Values added before and after the input, >= 0, one pair per spatial axis.
    padding_mode : tuple of str
        "zeros", "reflect", "replicate" or "circular", one per spatial axis.
    data_format : str
        "channels_last" or "channels_first".
    dtype : str
        "float32" or "float64".
    out_spatial, dilated_kernel_size, padded_spatial : tuple of int
        Sizes that follow, one per spatial axis.
    x_shape, kernel_shape, y_shape : tuple of int
        Shapes of the arrays, x and y in the data format.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    in_spatial: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    padding_mode: tuple[str, ...]
    data_format: str = "channels_last"
    dtype: str = "float32"
    # Derived once because a call reads them several times and its hash keys the caches of plans.
    dilated_kernel_size: tuple[int, ...] = field(init=False, repr=False, compare=False)
    padded_spatial: tuple[int, ...] = field(init=False, repr=False, compare=False)
    out_spatial: tuple[int, ...] = field(init=False, repr=False, compare=False)
    x_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    y_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    kernel_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        extents = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        padded = tuple(n + lo + hi for n, (lo, hi) in zip(self.in_spatial, self.padding, strict=True))
        out = tuple((n - e) // s + 1 for n, e, s in zip(padded, extents, self.strides, strict=True))
        derived = {
            "dilated_kernel_size": extents,
            "padded_spatial": padded,
            "out_spatial": out,
            "x_shape": shape_of(self.batch, self.in_spatial, self.in_channels, self.data_format),
            "y_shape": shape_of(self.batch, out, self.out_channels, self.data_format),
            "kernel_shape": (*self.kernel_size, self.in_channels // self.groups, self.out_channels),
            "_hash": hash(self._values()),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, item.name) for item in fields(self) if item.init)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        # The stored hash holds for one process only: strings hash differently in the next.
        return ConvSpec, self._values()

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def in_channels_per_group(self) -> int:
        """Input channels that one output channel reads."""
        return self.in_channels // self.groups

    @property
    def out_channels_per_group(self) -> int:
        """Output channels that read the same input channels."""
        return self.out_channels // self.groups

    @property
    def is_pointwise(self) -> bool:
        """Whether every kernel axis has one tap."""
        return all(k == 1 for k in self.kernel_size)

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel reads a single input channel of its own group."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def depth_multiplier(self) -> int:
        """Output channels per group; in a depthwise convolution, per input channel."""
        return self.out_channels // self.groups

    @property
    def taps(self) -> int:
        """Number of kernel positions, the product of `kernel_size`."""
        return math.prod(self.kernel_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass, counting the padding as data."""
        return self.batch * math.prod(self.out_spatial) * self.out_channels * self.in_channels_per_group * self.taps

    def result_shape(self, direction: str) -> tuple[int, ...]:
        """Return the shape that a pass computes, with channels last."""
        if direction == "kernel_grad":
            return self.kernel_shape
        if direction == "input_grad":
            return (self.batch, *self.in_spatial, self.in_channels)
        return (self.batch, *self.out_spatial, self.out_channels)

    def __str__(self) -> str:
        def join(values: tuple[Any, ...]) -> str:
            return "x".join(str(value) for value in values)

        parts = [f"mb{self.batch}", f"ic{self.in_channels}oc{self.out_channels}"]
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        parts += [join(self.in_spatial), f"k{join(self.kernel_size)}"]
        if any(s > 1 for s in self.strides):
            parts.append(f"s{join(self.strides)}")
        if any(d > 1 for d in self.dilation):
            parts.append(f"d{join(self.dilation)}")
        if any(pair != (0, 0) for pair in self.padding):
            parts.append("p" + "x".join(f"{lo}:{hi}" for lo, hi in self.padding))
        if any(mode != "zeros" for mode in self.padding_mode):
            parts.append("m" + ":".join(self.padding_mode))
        if self.data_format == "channels_first":
            parts.append("ncx")
        if self.dtype == "float64":
            parts.append("f64")
        return "_".join(parts)

    @classmethod
    def parse(cls, problem: str) -> ConvSpec:
        """Read a problem's name back.

        Raises ValueError where `problem` is no name of a problem, or where the problem it names is impossible.

        >>> spec = ConvSpec.parse("mb2_ic3oc8_32x30_k5x3_s2x1_p2:2x1:1")
        >>> spec.y_shape
        (2, 16, 30, 8)
        >>> str(spec)
        'mb2_ic3oc8_32x30_k5x3_s2x1_p2:2x1:1'
        """
        match = _PROBLEM.fullmatch(problem)
        if match is None:
            raise ValueError(
                f"`problem` must read like 'mb2_ic4oc8_g2_32x30_k5x3_s2x1_d1x2_p2:2x1:1_mzeros:reflect_ncx_f64', "
                f"where the parts g, s, d, p, m, ncx and f64 may be absent. Received {problem!r}"
            )

        def numbers(part: str, absent: int) -> tuple[int, ...]:
            text = match[part]
            return tuple(int(number) for number in text.split("x")) if text else (absent,) * ndim

        ndim = match["kernel"].count("x") + 1
        data_format = "channels_first" if match["first"] else "channels_last"
        groups, out_channels = int(match["groups"] or 1), int(match["oc"])
        pairs = [tuple(int(end) for end in pair.split(":")) for pair in (match["padding"] or "").split("x") if pair]
        return resolve_conv(
            shape_of(int(match["batch"]), numbers("spatial", 1), int(match["ic"]), data_format),
            (*numbers("kernel", 1), int(match["ic"]) // max(groups, 1), out_channels),
            strides=numbers("strides", 1),
            padding=pairs or "valid",  # type: ignore[arg-type]
            dilation_rate=numbers("dilation", 1),
            groups=groups,
            data_format=data_format,
            padding_mode=tuple((match["modes"] or ":".join(["zeros"] * ndim)).split(":")),
            dtype="float64" if match["double"] else "float32",
        )


def _check_not_empty(spec: ConvSpec, shapes: str, options: str) -> None:
    for axis, out in enumerate(spec.out_spatial):
        if out < 1:
            size, pair, extent = spec.in_spatial[axis], spec.padding[axis], spec.dilated_kernel_size[axis]
            raise ValueError(
                f"Computed output size would be zero or negative. Received {shapes}, {options}. At spatial axis "
                f"{axis}: {axis_arithmetic(size, pair, extent, spec.strides[axis])}. The kernel, which spans {extent} "
                f"with its dilation, must be at most the padded input, {sum(pair, size)}: use padding='same', pad by "
                f"{extent - sum(pair, size)} more, or pass an input of size >= {extent - sum(pair)} there."
            )


@remembered
def resolve_conv(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    dtype: str = "float32",
) -> ConvSpec:
    """Return the ConvSpec of a convolution with a kernel `(*kernel_size, in_channels // groups, filters)`."""
    layout = "(*kernel_size, in_channels // groups, filters)"
    x, kernel, channels, spatial = problem_axes(x_shape, kernel_shape, data_format, layout)
    groups = checked_groups(groups)
    filters, needed = kernel[-1], kernel[-2] * groups
    check_input_groups(groups, channels, x, filters)
    check_filter_groups(groups, filters, channels)
    if channels != needed:
        rule = f"kernel.shape[-2] * groups = {kernel[-2]} * {groups}"
        # The kernel decides the number of groups where the channels are a multiple of what it reads.
        fitting = channels // kernel[-2]
        remedy = None
        if channels % kernel[-2] == 0 and filters % fitting == 0:
            remedy = f"With this kernel, groups={fitting} would fit."
        elif groups > 1:
            remedy = f"With groups={groups}, kernel.shape[-2] must be {channels} // {groups} = {channels // groups}."
        raise channel_mismatch(x, channels, kernel, needed, rule, data_format, remedy)
    ndim = len(spatial)
    steps, rates = sizes(strides, ndim, "strides"), sizes(dilation_rate, ndim, "dilation_rate")
    forms, modes = padding_forms(padding, ndim), padding_modes(padding_mode, ndim)
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel[:-2], rates, strict=True))
    pads = tuple(axis_padding(*axis) for axis in zip(forms, spatial, extents, steps, strict=True))
    for axis, pair in enumerate(pads):
        check_padding_fits(modes[axis], pair, spatial[axis], axis)
    spec = ConvSpec(
        x[0], channels, filters, groups, spatial, kernel[:-2], steps, rates, pads, modes, data_format, dtype
    )
    _check_not_empty(
        spec,
        f"`inputs shape={x}`, `kernel shape={kernel}`",
        f"`dilation_rate={dilation_rate}`, `strides={strides}`, `padding={padding}`",
    )
    return spec


@remembered
def resolve_depthwise(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation_rate: Ints = 1,
    data_format: str = "channels_last",
    padding_mode: Modes = "zeros",
    dtype: str = "float32",
) -> ConvSpec:
    """Return the ConvSpec of a depthwise convolution: groups = in_channels, output channel c * multiplier + m.

    The kernel `(*kernel_size, in_channels, depth_multiplier)` in memory order is the ConvSpec's kernel
    `(*kernel_size, 1, in_channels * depth_multiplier)`.
    """
    layout = "(*kernel_size, in_channels, depth_multiplier)"
    x, kernel, channels, _ = problem_axes(x_shape, kernel_shape, data_format, layout)
    if kernel[-2] != channels:
        rule = "kernel.shape[-2] must be the number of input channels"
        raise channel_mismatch(x, channels, kernel, kernel[-2], rule, data_format)
    return resolve_conv(
        x,
        (*kernel[:-2], 1, channels * kernel[-1]),
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        groups=channels,
        data_format=data_format,
        padding_mode=padding_mode,
        dtype=dtype,
    )


@remembered
def resolve_conv_transpose(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    strides: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints | None = None,
    dilation_rate: Ints = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    dtype: str = "float32",
) -> ConvSpec:
    """Return the ConvSpec of the mirrored convolution, whose input gradient is the transposed convolution.

    Its input has the transposed convolution's output shape and its output has x's. The kernel
    `(*kernel_size, filters // groups, in_channels)` has the mirrored convolution's layout.
    """
    layout = "(*kernel_size, filters // groups, in_channels)"
    x, kernel, channels, spatial = problem_axes(x_shape, kernel_shape, data_format, layout)
    groups = checked_groups(groups)
    check_input_groups(groups, channels, x)
    if channels != kernel[-1]:
        rule = "kernel.shape[-1] must be the number of input channels of a transposed convolution"
        remedy = None
        if channels == kernel[-2]:
            remedy = "kernel.shape[-2] has that many: write np.swapaxes(kernel, -1, -2) for a kernel laid out for conv."
        raise channel_mismatch(x, channels, kernel, kernel[-1], rule, data_format, remedy)
    ndim = len(spatial)
    steps, rates = sizes(strides, ndim, "strides"), sizes(dilation_rate, ndim, "dilation_rate")
    forms, extras = padding_forms(padding, ndim), checked_output_padding(output_padding, steps)
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel[:-2], rates, strict=True))
    axes = [transposed_axis(*axis) for axis in zip(forms, spatial, extents, steps, extras, strict=True)]
    for axis, (out, pair) in enumerate(axes):
        if out < 1:
            full = (spatial[axis] - 1) * steps[axis] + extents[axis]
            raise ValueError(
                f"Computed output size would be zero or negative. Received `inputs shape={x}`, "
                f"`kernel shape={kernel}`, `dilation_rate={dilation_rate}`, `strides={strides}`, `padding={padding}`, "
                f"`output_padding={output_padding}`. At spatial axis {axis}: ({spatial[axis]} - 1) * {steps[axis]} + "
                f"{extents[axis]} = {full} is cropped by {pair[0]} + {pair[1]}, which leaves {out}. Crop less, or "
                f"raise `output_padding`."
            )
    return ConvSpec(
        batch=x[0],
        in_channels=kernel[-2] * groups,
        out_channels=channels,
        groups=groups,
        in_spatial=tuple(out for out, _ in axes),
        kernel_size=kernel[:-2],
        strides=steps,
        dilation=rates,
        padding=tuple(pair for _, pair in axes),
        padding_mode=("zeros",) * ndim,
        data_format=data_format,
        dtype=dtype,
    )
