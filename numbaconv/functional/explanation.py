"""What a convolution will do, as numbers and as text, without doing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numbaconv import planner
from numbaconv.shapes import axis_arithmetic, checked_shape
from numbaconv.spec import ConvSpec, resolve_conv, resolve_conv_transpose, resolve_depthwise

#: The engine's direction behind each pass. A transposed convolution is its mirrored convolution's input gradient, its
#: input gradient that convolution's forward pass, and both share the kernel gradient with x and grad_y exchanged.
_DIRECTIONS = {
    "conv": {"forward": "forward", "input gradient": "input_grad", "kernel gradient": "kernel_grad"},
    "conv_transpose": {"forward": "input_grad", "input gradient": "forward", "kernel gradient": "kernel_grad"},
}


@dataclass(frozen=True)
class Explanation:
    """A convolution's sizes, costs and algorithms; `str()` of it is a readable page.

    Attributes
    ----------
    operation : str
        "conv", "conv_transpose" or "depthwise_conv".
    spec : ConvSpec
        The resolved problem; of a transposed convolution, the mirrored one.
    input_shape, kernel_shape, output_shape : tuple of int
        Shapes as the function takes and returns them.
    axes : tuple of str
        The arithmetic of each spatial axis's output size.
    macs : int
        Multiply-accumulates of one pass.
    bytes_moved : int
        Bytes of input, kernel and output, each counted once.
    arithmetic_intensity : float
        Floating-point operations per byte moved, two per multiply-accumulate.
    algorithms : dict of str to str
        The algorithm chosen for "forward", "input gradient" and "kernel gradient"; empty where the batch is.
    reasons : dict of str to dict of str to str
        For each pass, why each of the other algorithms is not taken.
    """

    operation: str
    spec: ConvSpec
    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    axes: tuple[str, ...]
    macs: int
    bytes_moved: int
    arithmetic_intensity: float
    algorithms: dict[str, str]
    reasons: dict[str, dict[str, str]]

    def __str__(self) -> str:
        spec = self.spec
        lines = [
            f"{self.operation}, {spec.dtype}, {spec.data_format}: {spec}",
            f"  x       {self.input_shape}",
            f"  kernel  {self.kernel_shape}" + (f", {spec.groups} groups" if spec.groups > 1 else ""),
            f"  output  {self.output_shape}",
            *(f"    axis {axis}: {text}" for axis, text in enumerate(self.axes)),
            f"  {_short(self.macs)} multiply-accumulates, {_short(self.bytes_moved)}B moved when each array is moved "
            f"once, {self.arithmetic_intensity:.3g} FLOP per byte",
        ]
        if not self.algorithms:
            lines.append("  the batch is empty: nothing runs")
        for name, algorithm in self.algorithms.items():
            lines.append(f"  {name + ':':<17}{algorithm}")
            lines += [f"    not {other}: {reason}" for other, reason in self.reasons[name].items()]
        return "\n".join(lines)


def explain(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    operation: str = "conv",
    dtype: str = "float32",
    **options: Any,
) -> Explanation:
    """Say what a convolution will do without doing it.

    Parameters
    ----------
    x_shape, kernel_shape : tuple of int
        Shapes of the arrays that would be passed.
    operation : {"conv", "conv_transpose", "depthwise_conv"}
        The function that would be called.
    dtype : {"float32", "float64"}
        Dtype of the arrays.
    **options
        That function's options: strides, padding, dilation_rate, groups, data_format, padding_mode, output_padding.

    Returns
    -------
    Explanation
        Its `str()` is a page to read: the output's shape with the arithmetic of each axis, multiply-accumulates, bytes
        moved, and for each pass the algorithm taken and why the others are not. The same as attributes.

    Raises
    ------
    TypeError, ValueError
        As the operation does, and for an unknown operation, dtype or option.

    Examples
    --------
    >>> import numbaconv as nc
    >>> page = nc.explain((1, 28, 28, 16), (3, 3, 16, 32), strides=2, padding="same")
    >>> page.output_shape
    (1, 14, 14, 32)
    >>> print(page.axes[0])
    floor((28 + 0 + 1 - 3) / 2) + 1 = 14
    >>> page.macs
    903168
    """
    resolvers: dict[str, Callable[..., ConvSpec]] = {
        "conv": resolve_conv,
        "conv_transpose": resolve_conv_transpose,
        "depthwise_conv": resolve_depthwise,
    }
    if operation not in resolvers:
        names = ", ".join(repr(name) for name in resolvers)
        raise ValueError(f"`operation` must be one of {names}. Received: operation={operation!r}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"`dtype` must be 'float32' or 'float64'. Received: dtype={dtype!r}")
    spec = resolvers[operation](x_shape, kernel_shape, dtype=dtype, **options)
    return _explanation(operation, spec, checked_shape(kernel_shape, "kernel_shape"))


def _short(number: int) -> str:
    """Return a number with an SI prefix and three digits, ending in the space or the prefix of its unit."""
    for prefix, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number} "


def _conv_axis(spec: ConvSpec, axis: int) -> str:
    pair, extent = spec.padding[axis], spec.dilated_kernel_size[axis]
    text = axis_arithmetic(spec.in_spatial[axis], pair, extent, spec.strides[axis])
    mode = spec.padding_mode[axis]
    if pair != (0, 0) and mode != "zeros":
        text += f", padding by '{mode}'"
    return text + _dilation(spec, axis)


def _transposed_axis(spec: ConvSpec, axis: int) -> str:
    size, stride, extent = spec.out_spatial[axis], spec.strides[axis], spec.dilated_kernel_size[axis]
    (lo, hi), out = spec.padding[axis], spec.in_spatial[axis]
    extra = out - ((size - 1) * stride + extent - lo - hi)
    text = f"({size} - 1) * {stride} + {extent} - {lo} - {hi} + {extra} = {out}"
    return text + _dilation(spec, axis)


def _dilation(spec: ConvSpec, axis: int) -> str:
    dilation, taps = spec.dilation[axis], spec.kernel_size[axis]
    if dilation == 1 or taps == 1:
        return ""
    return f", the kernel spanning {dilation} * ({taps} - 1) + 1 = {spec.dilated_kernel_size[axis]}"


def _explanation(operation: str, spec: ConvSpec, kernel_shape: tuple[int, ...]) -> Explanation:
    """Return the explanation of a resolved problem, asking the planner which algorithms it would take."""
    transposed = operation == "conv_transpose"
    directions = _DIRECTIONS["conv_transpose" if transposed else "conv"] if spec.batch else {}
    algorithms, reasons = {}, {}
    for name, direction in directions.items():
        chosen = planner.choose(spec, direction)
        algorithms[name] = chosen
        reasons[name] = {
            other: reason or f"it would fit, but comes after {chosen} in the planner's table"
            for other, reason in planner.reasons(spec, direction)
            if other != chosen
        }
    itemsize = 4 if spec.dtype == "float32" else 8
    elements = math.prod(spec.x_shape) + math.prod(kernel_shape) + math.prod(spec.y_shape)
    describe = _transposed_axis if transposed else _conv_axis
    return Explanation(
        operation=operation,
        spec=spec,
        input_shape=spec.y_shape if transposed else spec.x_shape,
        kernel_shape=kernel_shape,
        output_shape=spec.x_shape if transposed else spec.y_shape,
        axes=tuple(describe(spec, axis) for axis in range(spec.ndim)),
        macs=spec.macs,
        bytes_moved=elements * itemsize,
        arithmetic_intensity=2 * spec.macs / (elements * itemsize),
        algorithms=algorithms,
        reasons=reasons,
    )
