"""Chooses how a pass runs: for each direction an ordered table of algorithms, the general one last.

All that a call needs besides its arrays is prepared once for a spec and the strides of its operands, as a `Pass`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from operator import methodcaller
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory
from numbaconv.algorithms import (
    depthwise,
    direct,
    dot,
    folded,
    folded_planes,
    padding_modes,
    planar,
    winograd,
)
from numbaconv.program import Operand, Recorder
from numbaconv.settings import config, on_change
from numbaconv.shapes import Strides, contiguous_strides
from numbaconv.spec import ConvSpec

DIRECTIONS = ("forward", "input_grad", "kernel_grad")

ALGORITHMS: dict[str, tuple[ModuleType, ...]] = {
    "forward": (depthwise, winograd, dot, planar, direct),
    "input_grad": (depthwise, winograd, folded_planes, folded, planar, direct),
    "kernel_grad": (depthwise, winograd, planar, direct),
}
"""Per direction, the first algorithm that does not refuse runs."""


def reasons(spec: ConvSpec, direction: str) -> list[tuple[str, str | None]]:
    """Return every algorithm of a direction in order, with the reason why it does not run by itself, or None."""
    return [
        (algorithm.NAME, algorithm.refuses(spec, direction) or _declines(algorithm, spec, direction))
        for algorithm in ALGORITHMS[direction]
    ]


GAINS: dict[ModuleType, float] = {winograd: 1.05, folded_planes: 1.03, folded: 1.0, dot: 1.0, planar: 0.97}
"""An algorithm is taken where its estimate, times this, is below the direct algorithm's and, where both are for few
channels, below those of the algorithms after it, times theirs. With these Winograd is compared on equal terms.

Of Winograd's estimate no less is certain. With few channels the direct algorithm takes longer beside its estimate than
the others.
"""


def _declines(algorithm: ModuleType, spec: ConvSpec, direction: str) -> str | None:
    """Return why an algorithm that can run a pass leaves it to the next one unless it is asked for by name."""
    if algorithm is winograd:
        reason = winograd.declines(spec, direction) if config.winograd else "numbaconv.config.winograd is False"
        if reason is not None:
            return reason
    rivals_planar = depthwise.rivals_planar(spec, direction)
    if algorithm is depthwise and rivals_planar and not planar.refuses(spec, direction):
        own = depthwise.estimate(spec, direction)
        other = planar.estimate(spec, direction) * depthwise.PLANAR_SHARES[direction]
        return None if own < other else _beaten(own, other, planar.NAME)
    # Beside few depthwise channels the direct algorithm takes longer than it is estimated to.
    if algorithm not in GAINS or (algorithm is planar and rivals_planar):
        return None
    own, (other, name) = algorithm.estimate(spec, direction), (direct.estimate(spec, direction), direct.NAME)
    table = ALGORITHMS[direction]
    for rival in table[table.index(algorithm) + 1 :]:
        if rival in GAINS and rival.refuses(spec, direction) is None:
            gain = GAINS[winograd if algorithm is winograd else rival]
            other, name = min((other, name), (rival.estimate(spec, direction) * gain, rival.NAME))
    if own * GAINS[algorithm] < other:
        return None
    return _beaten(own, other, name)


def _beaten(own: float, other: float, name: str) -> str:
    return f"it is estimated to take {own / 1e6:.3g} million cycles, the {name} algorithm {other / 1e6:.3g}"


def choose(spec: ConvSpec, direction: str) -> str:
    """Return the name of the algorithm that runs."""
    return str(_algorithm(spec, direction, None, generation).NAME)


generation = 0
"""Key of all that keeps a choice of algorithm: `clear_plans` changes it."""


def clear_plans() -> None:
    """Choose algorithms anew from now on, as when a setting has changed that the choice depends on."""
    global generation
    generation += 1
    _algorithm.cache_clear()
    _prepared.cache_clear()


@lru_cache(maxsize=4096)
def _algorithm(spec: ConvSpec, direction: str, name: str | None, generation: int) -> ModuleType:
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


on_change(clear_plans)


class Run(Protocol):
    """What an algorithm's `prepare` returns: it runs a pass on (first, second, result[, bias])."""

    def __call__(self, first: NDArray, second: NDArray, result: NDArray, *bias: NDArray) -> None:
        """Run the pass."""


@runtime_checkable
class Recordable(Protocol):
    """A `Run` that is nothing but launches, which a program can take over."""

    def record(self, recorder: Recorder, first: Operand, second: Operand, result: Operand, *bias: Operand) -> None:
        """Record the launches."""


def prepare(
    spec: ConvSpec,
    direction: str,
    first: NDArray,
    second: NDArray,
    bias: NDArray | None = None,
    activation: Hashable = None,
    algorithm: str | None = None,
) -> Pass:
    """Return what runs a pass on arrays of the layouts of these, as long as `generation` stays what it is."""
    layouts = _layout(first), _layout(second)
    return _prepared(spec, direction, *layouts, bias is not None, activation, algorithm, generation)


def record(
    recorder: Recorder,
    spec: ConvSpec,
    direction: str,
    first: Operand,
    second: Operand,
    bias: NDArray | None,
    activation: Hashable,
    result: Operand,
) -> bool:
    """Record a pass on contiguous operands as `prepare` runs it, or return False where it is more than launches."""
    run = _prepared(spec, direction, None, None, bias is not None, activation, None, generation)
    return run.record(recorder, first, second, result, () if bias is None else (bias,))


def _layout(array: NDArray) -> Strides | None:
    """Return an array's strides in bytes, None where it is contiguous: axes of size 1 may have any then."""
    return None if array.flags.c_contiguous else array.strides


@lru_cache(maxsize=1024)
def _prepared(
    spec: ConvSpec,
    direction: str,
    first: Strides | None,
    second: Strides | None,
    has_bias: bool,
    activation: Hashable,
    algorithm: str | None,
    generation: int,
) -> Pass:
    return Pass(
        spec, direction, _algorithm(spec, direction, algorithm, generation), first, second, has_bias, activation
    )


class Pass:
    """One pass of a spec on operands of fixed strides: (x, kernel), (grad_y, kernel) or (x, grad_y).

    Operands arrive validated, in the spec's data format; algorithms see all arrays with channels last.
    """

    __slots__ = ("_allocate", "_arrange_first", "_arrange_second", "_from_last", "_run", "_to_last")

    def __init__(
        self,
        spec: ConvSpec,
        direction: str,
        algorithm: ModuleType,
        first: Strides | None,
        second: Strides | None,
        has_bias: bool,
        activation: Hashable,
    ) -> None:
        x, y = spec.result_shape("input_grad"), spec.result_shape("forward")
        shape = spec.result_shape(direction)
        self._allocate = memory.allocator(shape, spec.dtype)
        axes = range(spec.ndim + 2)
        self._to_last = self._from_last = None
        to_last = (0, *axes[2:], 1) if spec.data_format == "channels_first" else None
        if to_last is not None and direction != "kernel_grad":
            self._to_last, self._from_last = to_last, (0, axes[-1], *axes[1:-1])
        item = np.dtype(spec.dtype).itemsize
        self._arrange_first, first = _arrangement(y if direction == "input_grad" else x, first, to_last, item)
        if direction == "kernel_grad":
            self._arrange_second, second = _arrangement(y, second, to_last, item, is_dense=True)
        else:
            self._arrange_second = None if second is None else np.ascontiguousarray
            second = contiguous_strides(spec.kernel_shape)
        self._run = _runner(spec, direction, algorithm, first, second, activation, has_bias)

    def __call__(
        self, first: NDArray, second: NDArray, bias: NDArray | None = None, out: NDArray | None = None
    ) -> NDArray:
        """Return the result, in ``out`` where that is given."""
        if self._arrange_first is not None:
            first = self._arrange_first(first)
        if self._arrange_second is not None:
            second = self._arrange_second(second)
        result = self._allocate() if out is None else self._place(out)
        if bias is None:
            self._run(first, second, result)
        else:
            self._run(first, second, result, np.ascontiguousarray(bias))
        if out is None:
            return result if self._from_last is None else result.transpose(self._from_last)
        return self._finish(result, out)

    def record(
        self, recorder: Recorder, first: Operand, second: Operand, result: Operand, bias: tuple[Operand, ...]
    ) -> bool:
        """Record the pass where its operands are read and written as they are; return whether they are."""
        is_plain = self._arrange_first is None and self._arrange_second is None and self._from_last is None
        if not is_plain or not isinstance(self._run, Recordable):
            return False
        self._run.record(recorder, first, second, result, *bias)
        return True

    def _place(self, out: NDArray) -> NDArray:
        """Return a contiguous channels-last array to compute in: ``out`` itself where it has that layout."""
        view = out if self._to_last is None else out.transpose(self._to_last)
        return view if view.flags.c_contiguous else self._allocate()

    def _finish(self, result: NDArray, out: NDArray) -> NDArray:
        """Return ``out``, to which a result that was computed elsewhere is copied."""
        if out.__array_interface__["data"] != result.__array_interface__["data"]:
            np.copyto(out, result if self._from_last is None else result.transpose(self._from_last))
        return out


def _arrangement(
    shape: tuple[int, ...],
    strides: Strides | None,
    to_last: tuple[int, ...] | None,
    item: int,
    is_dense: bool = False,
) -> tuple[Callable[[NDArray], NDArray] | None, Strides]:
    """Return what brings an operand to the form that algorithms read, None where it has it, and its element strides.

    ``shape`` has channels last, ``strides`` are those of the operand in bytes. Algorithms read by strides, but not by
    negative ones, as offsets of positions are counted up from zero, and with ``is_dense`` by contiguous channels.
    """
    if strides is None:
        strides = contiguous_strides(shape if to_last is None else (shape[0], shape[-1], *shape[1:-1]))
    else:
        strides = tuple(stride // item for stride in strides)
    if to_last is not None:
        strides = tuple(strides[axis] for axis in to_last)
    if min(strides) < 0 or (is_dense and strides[-1] != 1):
        return partial(_contiguous, to_last), contiguous_strides(shape)
    return None if to_last is None else methodcaller("transpose", to_last), strides


def _contiguous(order: tuple[int, ...] | None, array: NDArray) -> NDArray:
    return np.ascontiguousarray(array if order is None else array.transpose(order))


def _runner(
    spec: ConvSpec,
    direction: str,
    algorithm: ModuleType,
    first: Strides,
    second: Strides,
    activation: Hashable,
    has_bias: bool,
) -> Run:
    """Return what runs a pass on operands of these element strides, all with channels last."""
    if direction == "input_grad" and any(mode != "zeros" for mode in spec.padding_mode):
        padded = padding_modes.padded_spec(spec)
        return partial(_run_folded, spec, _runner(padded, direction, algorithm, first, second, None, False))
    run: Run = algorithm.prepare(spec, direction, first, second, activation, has_bias)
    return run


def _run_folded(spec: ConvSpec, run: Run, grad_y: NDArray, kernel: NDArray, grad_x: NDArray) -> None:
    """Run the input gradient of the padded input, then add up what its positions were copied from."""
    grad_padded = memory.empty((spec.batch, *spec.padded_spatial, spec.in_channels), spec.dtype)
    run(grad_y, kernel, grad_padded)
    padding_modes.fold(spec, grad_padded, grad_x)


def forward(
    spec: ConvSpec,
    x: NDArray,
    kernel: NDArray,
    bias: NDArray | None = None,
    activation: Hashable = None,
    out: NDArray | None = None,
    algorithm: str | None = None,
) -> NDArray:
    """Return the convolution of ``x``, with bias and a fused ``"relu"``."""
    return prepare(spec, "forward", x, kernel, bias, activation, algorithm)(x, kernel, bias, out)


def input_grad(
    spec: ConvSpec,
    grad_y: NDArray,
    kernel: NDArray,
    out: NDArray | None = None,
    bias: NDArray | None = None,
    activation: Hashable = None,
    algorithm: str | None = None,
) -> NDArray:
    """Return the gradient with respect to the input; with ``bias`` and ``activation`` a transposed convolution."""
    return prepare(spec, "input_grad", grad_y, kernel, bias, activation, algorithm)(grad_y, kernel, bias, out)


def kernel_grad(spec: ConvSpec, x: NDArray, grad_y: NDArray, algorithm: str | None = None) -> NDArray:
    """Return the gradient with respect to the kernel, in Keras layout."""
    return prepare(spec, "kernel_grad", x, grad_y, algorithm=algorithm)(x, grad_y)
