"""What the gate measures: single calls of about a millisecond, each dominated by one kernel or by the call itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from asv_bench.problems import PASSES, Layer, load_layers, make_arrays, make_pass, placed
from asv_bench.roofline import least_bytes

Call = Callable[[], Any]

# Calls of a millisecond or so: most of them fit between two interruptions of a busy machine. What moves more than it
# computes stays within the second-level cache, since the time of the levels behind it hangs on what others do.
DENSE_GFLOP, DEPTHWISE_GFLOP = 0.12, 0.012
DENSE_BYTES, DEPTHWISE_BYTES = 2 << 20, 480 << 10

# In the order of the groups: every kernel once, then more of the shapes that people use.
QUICK_PASSES = (
    "rn18_l1_bs1.forward", "rn18_l1_bs1.input_grad", "rn18_l1_bs1.kernel_grad", "mbv1_pw7.forward",
    "mbv1_pw7.kernel_grad", "rn18_l2_s2.kernel_grad", "mbv2_dw_144.forward", "mbv2_dw_144.kernel_grad",
    "effdet_dw5x5.kernel_grad", "dcgan_g5.forward", "rn20_cifar_16.forward", "lenet5_c1_bs1.forward",
)  # fmt: skip
MORE_LAYERS = (
    "rn18_l1_bs1", "rn18_l2_s2", "mbv1_pw7", "mbv2_dw_144", "x3d_dw", "resnext101_g32", "tcn_k3_d16", "speech_s2",
    "rn20_cifar_16", "dcgan_g5", "convT3d_op1", "lenet5_c1_bs1", "effdet_dw5x5", "rn50_conv1", "rn50_3_3x3",
    "genomics_k51_d8",
)  # fmt: skip
DOUBLE_PASSES = ("rn18_l1_bs1.forward", "rn18_l1_bs1.kernel_grad", "mbv2_dw_144.forward")


@dataclass(frozen=True)
class Case:
    """A call to measure: `build` makes its operands and returns it."""

    name: str
    build: Callable[[], Call]


def shrink(layer: Layer, gflop: float, size: int) -> Layer:
    """Cut the batch, then the longest spatial axis by halves, until work and bytes are within limits.

    An axis keeps at least twice the reach of the kernel, and a layer with large weights stays above the limit of bytes.
    """
    layer = layer.scaled(gflop)
    if least_bytes(layer) > size:
        layer = replace(layer, batch=max(1, layer.batch * size // least_bytes(layer)))
    while layer.gflop > gflop or least_bytes(layer) > size:
        room = [
            n if n // 2 >= 2 * (d * (k - 1) + 1) else 0 for n, k, d in zip(layer.in_size, layer.kernel, layer.dilation)
        ]
        if not any(room):
            break
        axis = room.index(max(room))
        layer = replace(layer, in_size=tuple(n // 2 if i == axis else n for i, n in enumerate(layer.in_size)))
    return layer


def _layer_pass(name: str, dtype: str = "float32") -> Call:
    layer_name, direction = name.split(".")
    (layer,) = load_layers(only=[layer_name])
    is_depthwise = layer.groups == layer.in_channels
    limits = (DEPTHWISE_GFLOP, DEPTHWISE_BYTES) if is_depthwise and layer.groups > 1 else (DENSE_GFLOP, DENSE_BYTES)
    layer = shrink(layer, *limits)
    return make_pass(layer, direction, make_arrays(layer, direction, dtype))


def _images() -> np.ndarray:
    return placed(np.random.default_rng(0).standard_normal((1, 34, 34, 64), dtype=np.float32))


def _pool(kind: str) -> Call:
    import numbaconv as nc

    pool, x = getattr(nc, f"{kind}_pool"), _images()
    return lambda: pool(x, 3, strides=2, padding="same")


def _pool_gradient(kind: str) -> Call:
    import numbaconv as nc

    x = nc.Tensor(_images(), requires_grad=True)
    y = getattr(nc, f"{kind}_pool")(x, 3, strides=2, padding="same")
    gradient = placed(np.ones(y.shape, np.float32))

    def call() -> None:
        x.grad = None
        getattr(nc, f"{kind}_pool")(x, 3, strides=2, padding="same").backward(gradient)

    return call


def _fold() -> Call:
    """The gradient of reflecting padding: its border is folded back by a kernel of its own."""
    import numbaconv as nc

    rng = np.random.default_rng(0)
    grad_y = placed(rng.standard_normal((2, 40, 40, 16), dtype=np.float32))
    kernel = placed(rng.standard_normal((3, 3, 1, 16), dtype=np.float32))
    options = {"padding": "same", "padding_mode": "reflect", "groups": 16}
    return lambda: nc.conv_input_grad(grad_y, kernel, (2, 40, 40, 16), **options)


def all_cases(quick: bool = False) -> list[Case]:
    """List the cases in the order in which they are measured."""
    passes = list(QUICK_PASSES)
    if not quick:
        passes += [f"{layer}.{direction}" for layer in MORE_LAYERS for direction in PASSES]
    cases = [Case(name, partial(_layer_pass, name)) for name in dict.fromkeys(passes)]
    cases += [Case(f"pool.{kind}", partial(_pool, kind)) for kind in ("max", "average")]
    cases += [Case(f"pool.{kind}_gradient", partial(_pool_gradient, kind)) for kind in ("max", "average")]
    if not quick:
        cases.append(Case("padding.reflect_gradient", _fold))
        cases += [Case(f"{name}.float64", partial(_layer_pass, name, "float64")) for name in DOUBLE_PASSES]
    return cases


def choose_cases(only: Sequence[str], quick: bool) -> list[Case]:
    """Return the cases whose name starts with one of `only` (of all), or the quick or the full list."""
    cases = all_cases(quick and not only)
    if not only:
        return cases
    chosen = [case for case in cases if case.name.startswith(tuple(only))]
    unknown = [start for start in only if not any(case.name.startswith(start) for case in cases)]
    if unknown:
        raise ValueError(f"no case starts with {', '.join(unknown)}; there are {', '.join(c.name for c in cases)}")
    return chosen
