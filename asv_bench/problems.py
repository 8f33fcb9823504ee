"""The layers that are measured: files of shapes read into `Layer`s, and numbaconv's three passes on one of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = Path(__file__).with_name("shapes.json")
# Further layers of other networks and filters, which tell how far results on the first list carry.
MORE_SHAPES = Path(__file__).with_name("more_shapes.json")
PASSES = ("forward", "input_grad", "kernel_grad")

Ints = tuple[int, ...]

_PAGE, _BEHIND_PAGE = 4096, 16


@dataclass(frozen=True)
class Layer:
    """One convolution of a network people use; sizes as the source gives them, float32, no bias.

    Arrays are channels last and kernels in Keras's layouts: `(*kernel, in_channels // groups, out_channels)`, and
    `(*kernel, out_channels // groups, in_channels)` where the layer is transposed.
    """

    name: str
    source: str
    batch: int
    in_channels: int
    out_channels: int
    in_size: Ints
    kernel: Ints
    stride: Ints
    dilation: Ints
    padding: tuple[tuple[int, int], ...]
    groups: int
    transposed: bool
    output_padding: Ints

    @property
    def ndim(self) -> int:
        return len(self.in_size)

    @property
    def out_size(self) -> Ints:
        sizes = []
        for n, k, s, d, (lo, hi), extra in zip(
            self.in_size, self.kernel, self.stride, self.dilation, self.padding, self.output_padding
        ):
            reach = d * (k - 1)
            if self.transposed:
                sizes.append((n - 1) * s - lo - hi + reach + 1 + extra)
            else:
                sizes.append((n + lo + hi - reach - 1) // s + 1)
        return tuple(sizes)

    @property
    def x_shape(self) -> Ints:
        return (self.batch, *self.in_size, self.in_channels)

    @property
    def y_shape(self) -> Ints:
        return (self.batch, *self.out_size, self.out_channels)

    @property
    def kernel_shape(self) -> Ints:
        if self.transposed:
            return (*self.kernel, self.out_channels // self.groups, self.in_channels)
        return (*self.kernel, self.in_channels // self.groups, self.out_channels)

    @property
    def gflop(self) -> float:
        """Thousands of millions of multiplications and additions of one pass, taps on padding included."""
        pixels = math.prod(self.in_size if self.transposed else self.out_size)
        return 2e-9 * self.batch * pixels * math.prod(self.kernel_shape)

    @property
    def is_wide(self) -> bool:
        """Ungrouped with at least 16 channels in and out: the layers no engine has an excuse for."""
        return self.groups == 1 and min(self.in_channels, self.out_channels) >= 16

    def __str__(self) -> str:
        """Name the problem in one line, in the manner of oneDNN's benchdnn."""

        def join(values: Iterable[int]) -> str:
            return "x".join(map(str, values))

        pads = ",".join(f"{lo}:{hi}" for lo, hi in self.padding)
        kind = "deconv" if self.transposed else "conv"
        return (
            f"{kind}{self.ndim}d mb{self.batch} g{self.groups} ic{self.in_channels} i{join(self.in_size)} "
            f"oc{self.out_channels} o{join(self.out_size)} k{join(self.kernel)} s{join(self.stride)} "
            f"d{join(self.dilation)} p{pads}"
        )

    def scaled(self, gflop: float) -> Layer:
        """The same layer with the batch cut so that one pass stays near `gflop`, never below one image."""
        return replace(self, batch=max(1, min(self.batch, int(self.batch * gflop / self.gflop))))


def _ints(value: Any, ndim: int) -> Ints:
    return (int(value),) * ndim if isinstance(value, int) else tuple(int(v) for v in value)


def parse_layer(entry: dict[str, Any]) -> Layer:
    """Read one entry of `shapes.json`; a missing stride, dilation or output padding is 1, 1 or 0."""
    in_size = _ints(entry["in_size"], 1)
    ndim = len(in_size)
    padding = tuple((p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in entry.get("padding", [0] * ndim))
    layer = Layer(
        name=entry["name"],
        source=entry.get("source", ""),
        batch=entry["batch"],
        in_channels=entry["in_channels"],
        out_channels=entry["out_channels"],
        in_size=in_size,
        kernel=_ints(entry["kernel"], ndim),
        stride=_ints(entry.get("stride", 1), ndim),
        dilation=_ints(entry.get("dilation", 1), ndim),
        padding=padding,
        groups=entry.get("groups", 1),
        transposed=entry.get("transposed", False),
        output_padding=_ints(entry.get("output_padding") or 0, ndim),
    )
    stated = entry.get("out_size")
    if stated is not None and tuple(stated) != layer.out_size:
        raise ValueError(
            f"layer {layer.name!r}: out_size {tuple(stated)} should be {layer.out_size} by its other sizes"
        )
    return layer


def load_layers(path: str | Path = SHAPES, only: Iterable[str] = ()) -> list[Layer]:
    """Read the layers of a file in the format of `shapes.json`, in its order; `only` keeps those named."""
    layers = [parse_layer(entry) for entry in json.loads(Path(path).read_text())]
    wanted = set(only)
    unknown = sorted(wanted - {layer.name for layer in layers})
    if unknown:
        names = ", ".join(layer.name for layer in layers)
        raise ValueError(f"no layer named {', '.join(unknown)} in {path}; there are {names}")
    return [layer for layer in layers if not wanted or layer.name in wanted]


@dataclass
class Arrays:
    """What one pass reads: two of the three are set, in channels-last layout."""

    x: np.ndarray | None
    kernel: np.ndarray | None
    grad_y: np.ndarray | None


def placed(values: np.ndarray) -> np.ndarray:
    """Return a copy that lies where the system puts large arrays of NumPy: 16 bytes behind the begin of a page.

    Smaller arrays come from the heap, on a cache line or 16, 32 or 48 bytes behind one as the program's earlier
    allocations have it. Loads of a register that cross two lines make some calls a sixth longer, and two commits would
    differ by that for nothing.
    """
    memory = np.empty(values.nbytes + _PAGE, np.uint8)
    start = (_BEHIND_PAGE - memory.ctypes.data) % _PAGE
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def make_arrays(layer: Layer, direction: str, dtype: str = "float32") -> Arrays:
    """Draw the operands of one pass from a standard normal distribution, the same at every call and `placed`."""
    rng = np.random.default_rng(list(layer.name.encode()))

    def draw(wanted: bool, shape: Ints) -> np.ndarray | None:
        return placed(rng.standard_normal(shape, dtype=np.dtype(dtype))) if wanted else None  # type: ignore[arg-type]

    return Arrays(
        x=draw(direction != "input_grad", layer.x_shape),
        kernel=draw(direction != "kernel_grad", layer.kernel_shape),
        grad_y=draw(direction != "forward", layer.y_shape),
    )


def make_pass(layer: Layer, direction: str, arrays: Arrays) -> Callable[[], np.ndarray]:
    """Return numbaconv's call of one pass, through the public functions.

    A transposed layer is the input gradient of its mirrored convolution, which reads `y` and writes `x`; so its own
    input gradient is that convolution, and its kernel gradient is that convolution's with the roles swapped.
    """
    import numbaconv as nc

    x, kernel, grad_y = arrays.x, arrays.kernel, arrays.grad_y
    options = {
        "strides": layer.stride,
        "padding": layer.padding,
        "dilation_rate": layer.dilation,
        "groups": layer.groups,
    }
    if direction == "forward":
        if layer.transposed:
            return lambda: nc.conv_transpose(x, kernel, output_padding=layer.output_padding, **options)
        return lambda: nc.conv(x, kernel, **options)
    if direction == "input_grad":
        if layer.transposed:
            return lambda: nc.conv(grad_y, kernel, **options)
        return lambda: nc.conv_input_grad(grad_y, kernel, layer.x_shape, **options)
    if layer.transposed:
        return lambda: nc.conv_kernel_grad(grad_y, x, layer.kernel_shape, **options)
    return lambda: nc.conv_kernel_grad(x, grad_y, layer.kernel_shape, **options)
