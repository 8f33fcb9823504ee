"""Chooses how a pass runs: for each direction an ordered table of algorithms, the general one last.

Arrays arrive validated; here they are only brought to channels-last views that the algorithms read by their strides.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory
from numbaconv.algorithms import depthwise, direct, padding_modes, winograd
from numbaconv.settings import config, on_change
from numbaconv.spec import ConvSpec

DIRECTIONS = ("forward", "input_grad", "kernel_grad")

ALGORITHMS: dict[str, tuple[ModuleType, ...]] = {
    "forward": (depthwise, winograd, direct),
    "input_grad": (depthwise, winograd, direct),
    "kernel_grad": (depthwise, winograd, direct),
}
"""Per direction, the first algorithm that does not refuse runs."""


def reasons(spec: ConvSpec, direction: str) -> list[tuple[str, str | None]]:
    """Return every algorithm of a direction in order, with the reason why it does not run by itself, or None."""
    return [
        (algorithm.NAME, algorithm.refuses(spec, direction) or _declines(algorithm, spec, direction))
        for algorithm in ALGORITHMS[direction]
    ]


WINOGRAD_GAIN = 1.1
"""Winograd is taken where its estimate is that many times below the direct algorithm's: no less is certain."""


def _declines(algorithm: ModuleType, spec: ConvSpec, direction: str) -> str | None:
    """Return why an algorithm that can run a pass leaves it to the next one unless it is asked for by name."""
    if algorithm is not winograd:
        return None
    if not config.winograd:
        return "numbaconv.config.winograd is False"
    reason = winograd.declines(spec, direction)
    if reason is not None:
        return reason
    own, other = winograd.estimate(spec, direction), direct.estimate(spec, direction)
    if own * WINOGRAD_GAIN < other:
        return None
    return f"it is estimated to take {own / 1e6:.3g} million cycles, the direct algorithm {other / 1e6:.3g}"


def choose(spec: ConvSpec, direction: str) -> str:
    """Return the name of the algorithm that runs."""
    return str(_algorithm(spec, direction, None).NAME)


@lru_cache(maxsize=4096)
def _algorithm(spec: ConvSpec, direction: str, name: str | None) -> ModuleType:
    for algorithm in ALGORITHMS[direction]:
        if name in (None, algorithm.NAME):
            reason = algorithm.refuses(spec, direction)
            if reason is None and (name is not None or _declines(algorithm, spec, direction) is None):
                return algorithm
            if name is not None:
                raise ValueError(
                    f"The algorithm {name!r} cannot run the pass {direction!r} of {spec}: {reason}. "
                    f"Pass `algorithm=None` to let the planner choose; it would take {choose(spec, direction)!r}."
                )
    names = [algorithm.NAME for algorithm in ALGORITHMS[direction]]
    raise ValueError(f"Unknown value for argument `algorithm`: {name!r}. Choose one of {names} or None.")


on_change(_algorithm.cache_clear)


def _channels_last(array: NDArray, data_format: str) -> NDArray:
    """Return a view with channels last that has no negative strides (offsets of positions must not be negative)."""
    if data_format == "channels_first":
        array = np.moveaxis(array, 1, -1)
    if min(array.strides, default=0) < 0:
        array = np.ascontiguousarray(array)
    return array


def _result(spec: ConvSpec, shape: tuple[int, ...], out: NDArray | None) -> NDArray:
    """Return a contiguous channels-last array to compute in: ``out`` itself where it has that layout."""
    if spec.data_format == "channels_first":
        shape = (shape[0], *shape[2:], shape[1])
    if out is not None:
        view = np.moveaxis(out, 1, -1) if spec.data_format == "channels_first" else out
        if view.flags.c_contiguous:
            return view
    return memory.empty(shape, spec.dtype)


def _finish(spec: ConvSpec, result: NDArray, out: NDArray | None) -> NDArray:
    """Return the result in the spec's data format, copied to ``out`` where it was computed elsewhere."""
    if spec.data_format == "channels_first":
        result = np.moveaxis(result, -1, 1)
    if out is None:
        return result
    if out.__array_interface__["data"] != result.__array_interface__["data"]:
        np.copyto(out, result)
    return out


def forward(
    spec: ConvSpec,
    x: NDArray,
    kernel: NDArray,
    bias: NDArray | None = None,
    activation: str | None = None,
    out: NDArray | None = None,
    algorithm: str | None = None,
) -> NDArray:
    """Return the convolution of ``x``, with bias and a fused ``"relu"``."""
    chosen = _algorithm(spec, "forward", algorithm)
    y = _result(spec, spec.y_shape, out)
    chosen.forward(spec, _channels_last(x, spec.data_format), np.ascontiguousarray(kernel), bias, activation, y)
    return _finish(spec, y, out)


def input_grad(
    spec: ConvSpec,
    grad_y: NDArray,
    kernel: NDArray,
    out: NDArray | None = None,
    bias: NDArray | None = None,
    activation: str | None = None,
    algorithm: str | None = None,
) -> NDArray:
    """Return the gradient with respect to the input; with ``bias`` and ``activation`` a transposed convolution."""
    chosen = _algorithm(spec, "input_grad", algorithm)
    grad_y, kernel = _channels_last(grad_y, spec.data_format), np.ascontiguousarray(kernel)
    grad_x = _result(spec, spec.x_shape, out)
    if any(mode != "zeros" for mode in spec.padding_mode):
        padded = padding_modes.padded_spec(spec)
        shape = (spec.batch, *padded.in_spatial, spec.in_channels)
        grad_padded = memory.empty(shape, spec.dtype)
        chosen.input_grad(padded, grad_y, kernel, None, None, grad_padded)
        padding_modes.fold(spec, grad_padded, grad_x)
    else:
        chosen.input_grad(spec, grad_y, kernel, bias, activation, grad_x)
    return _finish(spec, grad_x, out)


def kernel_grad(spec: ConvSpec, x: NDArray, grad_y: NDArray, algorithm: str | None = None) -> NDArray:
    """Return the gradient with respect to the kernel, in Keras layout."""
    chosen = _algorithm(spec, "kernel_grad", algorithm)
    grad_kernel = memory.empty(spec.kernel_shape, spec.dtype)
    x, grad_y = _channels_last(x, spec.data_format), _channels_last(grad_y, spec.data_format)
    if grad_y.strides[-1] != grad_y.itemsize:
        grad_y = np.ascontiguousarray(grad_y)
    chosen.kernel_grad(spec, x, grad_y, grad_kernel)
    return grad_kernel
