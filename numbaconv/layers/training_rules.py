"""What layers do with inputs of one shape, and the way back, recorded as launches.

The way forward is recorded by the rules of `recording`; each layer's `Step` records its gradients. The programs work on
arguments: the inputs, the outputs of all layers but the last, those of the last, the outputs' gradient, the gradients
of the weights, those of the inputs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from numbaconv import planner
from numbaconv.algorithms import adjacent_pooling
from numbaconv.algorithms.channel_sums import record_channel_sums, record_relu_gradient_sums
from numbaconv.autograd import ops
from numbaconv.autograd.dense_rules import record_input_gradient, record_kernel_gradient
from numbaconv.fusing import FusedActivation
from numbaconv.kernels import pooling as pooling_kernels
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv, ConvLayer
from numbaconv.layers.conv_transpose import ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import DepthwiseConv
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.pooling import GlobalPooling, Pooling
from numbaconv.layers.recording import POOL_KERNELS, Value, pool_problem, record_layer, rule_of
from numbaconv.layers.reshaping import Flatten
from numbaconv.program import Buffer, Operand, Recorder
from numbaconv.simd.driver import BETWEEN
from numbaconv.spec import ConvSpec, PoolSpec, resolve_conv

X, KEPT, Y, GRAD_Y, GRADIENTS, GRAD_X = range(6)
ALIGNED = 16
"""Numbers that parts of an argument are a multiple of apart: a cache line."""


def aligned(size: int) -> int:
    """Return the room for so many numbers."""
    return -(-size // ALIGNED) * ALIGNED


class Forward(Recorder):
    """The way forward, being recorded.

    Attributes
    ----------
    kept : int
        Numbers of the outputs that the way back needs.
    """

    wants_gradients = True

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(math.prod(shape), dtype)
        self.kept = 0

    def result(self, size: int) -> Buffer:
        """Return the buffer of a layer's outputs, which are kept."""
        buffer = self.argument(KEPT, size, self.kept)
        self.kept += aligned(size)
        return buffer


class Back:
    """The way back, being recorded.

    Attributes
    ----------
    places : dict of Parameter to int
        Numbers of the gradients of weights before each one that wants a gradient.
    size : int
        Numbers of them all.
    is_last : bool
        Whether nothing needs the layers' outputs afterwards, so that gradients may be written over them.
    """

    is_last = False

    def __init__(self, recorder: Recorder, parameters: Sequence[Parameter]) -> None:
        self.recorder = recorder
        self.places: dict[Parameter, int] = {}
        self.size = 0
        for parameter in parameters:
            if parameter.requires_grad:
                self.places[parameter] = self.size
                self.size += aligned(parameter.size)

    def gradient(self, parameter: Parameter | None) -> Operand | None:
        """Return where a weight's gradient belongs, None where none is wanted."""
        if parameter is None or parameter not in self.places:
            return None
        return self._place(parameter)

    def _place(self, parameter: Parameter) -> Operand:
        return self.recorder.argument(GRADIENTS, parameter.size, self.places[parameter])

    def sums(self, step: Step) -> Operand:
        """Return where the gradient of a step's bias belongs, or memory for as many numbers."""
        sums = self.gradient(step.bias)
        return self.recorder.buffer(step.channels) if sums is None else sums

    def mask(self, g: Buffer, y: Buffer, step: Step) -> Buffer:
        """Record the gradient of relu, which gave y, and that of the bias before it."""
        # What lies between launches is nobody else's: cache lines that are there already are written again.
        kept = g if g.base == BETWEEN else self.recorder.buffer(g.size)
        record_relu_gradient_sums(self.recorder, g, y, step.channels, kept, self.sums(step))
        return kept


class Step(ABC):
    """A layer's part of the way back.

    Attributes
    ----------
    y : Buffer
        Its outputs.
    channels : int
        Size of their last axis.
    is_relu : bool
        Whether they end with relu.
    bias : Parameter or None
        What was added before that, one number per channel.
    parameters : tuple of Parameter
        The layer's weights.
    """

    is_relu: bool = False
    bias: Parameter | None = None
    parameters: tuple[Parameter, ...] = ()

    def __init__(self, y: Buffer, channels: int) -> None:
        self.y, self.channels = y, channels

    def takes_inputs(self, before: Step) -> bool:
        """Whether the gradient of the inputs, the outputs of ``before``, may be written over them."""
        return False

    @abstractmethod
    def back(self, back: Back, g: Buffer, grad_x: Buffer | None, is_masked: bool, before: Step | None) -> bool:
        """Record the gradients of the weights and, where ``grad_x`` is given, of the inputs.

        ``is_masked`` says that the gradient of relu and of the bias is recorded already. Returns whether it now is for
        the step ``before``, whose outputs these inputs are.
        """


class _Convolution(Step):
    """y = conv(x, kernel) + bias, perhaps relu of that; with "input_grad" as direction, the transposed form."""

    def __init__(
        self, layer: Any, spec: ConvSpec, direction: str, x: Buffer, y: Buffer, channels: int, is_relu: bool
    ) -> None:
        super().__init__(y, channels)
        self.kernel, self.bias, self.is_relu = layer.kernel, layer.bias, is_relu
        self.parameters = (self.kernel,) if self.bias is None else (self.kernel, self.bias)
        self.x, self.spec, self.is_transposed = x, spec, direction == "input_grad"

    def back(self, back: Back, g: Buffer, grad_x: Buffer | None, is_masked: bool, before: Step | None) -> bool:
        """Record the gradients."""
        recorder, sums, grad_kernel = back.recorder, back.gradient(self.bias), back.gradient(self.kernel)
        if self.is_relu and not is_masked:
            g = back.mask(g, self.y, self)
        elif sums is not None and not is_masked:
            record_channel_sums(recorder, g, self.channels, sums)
        if grad_kernel is not None:
            self.record_kernel_gradient(recorder, g, grad_kernel)
        if grad_x is not None:
            self.record_input_gradient(recorder, g, grad_x)
        return False

    def record_kernel_gradient(self, recorder: Recorder, g: Buffer, grad_kernel: Operand) -> None:
        """Record the gradient of the kernel."""
        first, second = (g, self.x) if self.is_transposed else (self.x, g)
        _record(recorder, self.spec, "kernel_grad", first, second, grad_kernel)

    def record_input_gradient(self, recorder: Recorder, g: Buffer, grad_x: Buffer) -> None:
        """Record the gradient of the inputs."""
        direction = "forward" if self.is_transposed else "input_grad"
        _record(recorder, self.spec, direction, g, self.kernel.data, grad_x)


class _Dense(_Convolution):
    """y = x kernel + bias, perhaps relu of that, as a convolution with one tap of one image."""

    def record_kernel_gradient(self, recorder: Recorder, g: Buffer, grad_kernel: Operand) -> None:
        """Record the gradient of the kernel."""
        if not record_kernel_gradient(recorder, self.x, g, grad_kernel, self.spec):
            raise NotRecordable

    def record_input_gradient(self, recorder: Recorder, g: Buffer, grad_x: Buffer) -> None:
        """Record the gradient of the inputs."""
        rows = self.spec.in_spatial[0]
        if not record_input_gradient(recorder, g, self.kernel.data, grad_x, rows):
            raise NotRecordable


class NotRecordable(Exception):
    """A pass is more than launches."""


def _record(recorder: Recorder, spec: ConvSpec, direction: str, first: Any, second: Any, result: Operand) -> None:
    if not planner.record(recorder, spec, direction, first, second, None, None, result):
        raise NotRecordable


class _Pool(Step):
    """Maxima or means over windows."""

    def __init__(self, spec: PoolSpec, is_max: bool, x: Buffer, y: Buffer) -> None:
        super().__init__(y, spec.channels)
        self.spec, self.is_max, self.x = spec, is_max, x

    def takes_inputs(self, before: Step) -> bool:
        """Whether the gradient of the inputs may be written over them."""
        return self.is_max and isinstance(before, _Convolution) and adjacent_pooling.takes_x(self.spec)

    def back(self, back: Back, g: Buffer, grad_x: Buffer | None, is_masked: bool, before: Step | None) -> bool:
        """Record the gradient of the inputs.

        Of relu's outputs only places that hold a maximum get a gradient: relu is dealt with in the maxima's size.
        """
        if grad_x is None:
            return False
        recorder = back.recorder
        if not self.is_max:
            recorder.launch(adjacent_pooling.average_gradient(self.spec), g, grad_x)
            return False
        is_after_relu = before is not None and before.is_relu
        if before is not None and is_after_relu:
            if adjacent_pooling.takes_relu(self.spec):
                sums = back.sums(before)
                adjacent_pooling.record_relu_gradient(recorder, self.spec, self.x, self.y, g, grad_x, sums)
                return True
            g = back.mask(g, self.y, before)
        recorder.launch(adjacent_pooling.max_gradient(self.spec), self.x, self.y, g, grad_x)
        return is_after_relu


def _convolution(layer: Conv | ConvTranspose | DepthwiseConv, dtype: str, x: Value, y: Value) -> Step:
    spec = replace(layer.resolve(x.shape), batch=x.shape[0])
    direction = "input_grad" if isinstance(layer, ConvTranspose) else "forward"
    return _Convolution(layer, spec, direction, x.buffer, y.buffer, y.shape[-1], layer.activation is ops.relu)


def _dense(layer: Dense, dtype: str, x: Value, y: Value) -> Step:
    *outer, depth = x.shape
    spec = resolve_conv((1, math.prod(outer), depth), (1, depth, layer.units), dtype=dtype)
    return _Dense(layer, spec, "forward", x.buffer, y.buffer, layer.units, layer.activation is ops.relu)


def _pool(layer: Pooling | GlobalPooling, dtype: str, x: Value, y: Value) -> Step:
    spec, _ = pool_problem(layer, x.shape, dtype)
    return _Pool(spec, POOL_KERNELS[type(layer).pool] is pooling_kernels.max_pool, x.buffer, y.buffer)


_STEPS: dict[Callable[..., Any], Callable[[Any, str, Value, Value], Step] | None] = {
    Conv.call: _convolution,
    ConvTranspose.call: _convolution,
    Dense.call: _dense,
    DepthwiseConv.call: _convolution,
    Flatten.call: None,
    GlobalPooling.call: _pool,
    Pooling.call: _pool,
}
"""What makes a layer's step, None where the gradient needs none; by `call`, as in `recording`."""


def has_rule(layer: Layer) -> bool:
    """Whether a layer's gradients can be recorded."""
    return rule_of(layer) is not None and type(layer).call in _STEPS


def record_step(layer: Layer, forward: Recorder, x: Value) -> tuple[Value, Step | None] | None:
    """Record a layer and return its outputs and its step; None where it must be called."""
    # A user's function is fused in the convolution, which does not keep what its derivative needs.
    is_fused = isinstance(layer, ConvLayer) and isinstance(layer.fused_activation(), FusedActivation)
    y = None if is_fused or not has_rule(layer) else record_layer(layer, forward, x)
    if y is None:
        return None
    make = _STEPS[type(layer).call]
    return y, None if make is None else make(layer, forward.dtype, x, y)


def record_row(
    layers: Sequence[Layer], start: int, forward: Recorder, shape: tuple[int, ...]
) -> tuple[Value, list[Step], list[Parameter], int]:
    """Record layers from number ``start`` on; return outputs, steps, weights and the number of the first one left."""
    value, steps, stop = Value(forward.x, shape), [], start
    parameters: list[Parameter] = []
    while stop < len(layers) and value.activation is None:
        own = list(layers[stop]._parameters().values())
        # A layer that comes twice would have two gradients.
        found = None if any(p in parameters for p in own) else record_step(layers[stop], forward, value)
        if found is None:
            break
        value, step = found
        if step is not None:
            steps.append(step)
        parameters += own
        stop += 1
    return value, steps, parameters, stop


def record_gradients(back: Back, steps: Sequence[Step], g: Buffer, grad_x: Buffer | None) -> None:
    """Record the way back from the gradient of the last outputs, to that of the inputs where it is wanted."""
    is_masked = False
    for i in range(len(steps) - 1, -1, -1):
        before = steps[i - 1] if i else None
        if before is None:
            target = grad_x
        elif grad_x is None and not any(p in back.places for step in steps[:i] for p in step.parameters):
            target = None
        elif back.is_last and steps[i].takes_inputs(before):
            target = before.y
        else:
            target = back.recorder.buffer(before.y.size)
        is_masked = steps[i].back(back, g, target, is_masked, before)
        if target is None:
            return
        g = target
