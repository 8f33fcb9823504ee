"""What layers do with inputs of one shape, and the way back, recorded as launches.

A rule records a layer's outputs and returns a `Step`, which can record the gradients. The programs work on arguments:
the inputs, the outputs of all layers but the last, those of the last, the outputs' gradient, the gradients of the
weights, those of the inputs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numbaconv import planner
from numbaconv.algorithms import adjacent_pooling, pooling
from numbaconv.algorithms.channel_sums import record_channel_sums, record_relu_gradient_sums
from numbaconv.autograd import ops
from numbaconv.autograd.dense_rules import record_dense
from numbaconv.kernels import pooling as pooling_kernels
from numbaconv.layers.activations import linear
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv, ConvLayer
from numbaconv.layers.conv_transpose import ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import DepthwiseConv
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.pooling import GlobalPooling, Pooling
from numbaconv.layers.recording import POOL_KERNELS, Value, pool_problem
from numbaconv.layers.reshaping import Flatten
from numbaconv.layers.snapshots import is_plain
from numbaconv.program import Buffer, Recorder
from numbaconv.spec import ConvSpec, PoolSpec, resolve_conv

X, KEPT, Y, GRAD_Y, GRADIENTS, GRAD_X = range(6)
ALIGNED = 16
"""Numbers that parts of an argument are a multiple of apart: a cache line."""


def aligned(size: int) -> int:
    """Return the room for so many numbers."""
    return -(-size // ALIGNED) * ALIGNED


class Forward:
    """The way forward, being recorded.

    Attributes
    ----------
    kept : int
        Numbers of the outputs that the way back needs.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.recorder = Recorder(math.prod(shape), dtype)
        self.kept = 0

    def output(self, shape: tuple[int, ...]) -> Buffer:
        """Return the buffer of a layer's outputs."""
        size = math.prod(shape)
        buffer = self.recorder.argument(KEPT, size, self.kept)
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
    """

    def __init__(self, forward: Forward, parameters: list[Parameter]) -> None:
        recorder = forward.recorder
        self.recorder = Recorder(recorder.x.size, recorder.dtype)
        self.places: dict[Parameter, int] = {}
        self.size = 0
        for parameter in parameters:
            if parameter.requires_grad:
                self.places[parameter] = self.size
                self.size += aligned(parameter.size)

    def gradient(self, parameter: Parameter | None) -> Buffer | None:
        """Return the buffer of a weight's gradient, None where none is wanted."""
        if parameter is None or parameter not in self.places:
            return None
        return self.recorder.argument(GRADIENTS, parameter.size, self.places[parameter])

    def mask(self, g: Buffer, y: Buffer, step: Step) -> Buffer:
        """Record the gradient of relu, which gave y, and that of the bias before it."""
        recorder, kept = self.recorder, self.recorder.buffer(g.size)
        sums = self.gradient(step.bias) or recorder.buffer(step.channels)
        record_relu_gradient_sums(recorder, g, y, step.channels, kept, sums)
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
            first, second = (g, self.x) if self.is_transposed else (self.x, g)
            _record(recorder, self.spec, "kernel_grad", first, second, grad_kernel)
        if grad_x is not None:
            direction = "forward" if self.is_transposed else "input_grad"
            _record(recorder, self.spec, direction, g, self.kernel.data, grad_x)
        return False


class NotRecordable(Exception):
    """A pass is more than launches."""


def _record(recorder: Recorder, spec: ConvSpec, direction: str, first: Any, second: Any, result: Buffer) -> None:
    if not planner.record(recorder, spec, direction, first, second, None, None, result):
        raise NotRecordable


class _Pool(Step):
    """Maxima or means over windows."""

    def __init__(self, spec: PoolSpec, is_max: bool, x: Buffer, y: Buffer) -> None:
        super().__init__(y, spec.channels)
        self.spec, self.is_max, self.x = spec, is_max, x

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
            g = back.mask(g, self.y, before)
        recorder.launch(adjacent_pooling.max_gradient(self.spec), self.x, self.y, g, grad_x)
        return is_after_relu


Rule = Callable[[Any, Forward, Value], "tuple[Value, Step | None] | None"]


def _ending(layer: Any) -> tuple[bool, Callable[[Any], Any] | None]:
    """Return whether a layer ends with relu, and the activation that is left to do."""
    is_relu = layer.activation is ops.relu
    return is_relu, None if is_relu or layer.activation is linear else layer.activation


def _are_plain(layer: Any, kernel_shape: tuple[int, ...], filters: int, dtype: str) -> bool:
    """Whether kernels can read the weights as they are."""
    bias = None if layer.bias is None else layer.bias.data
    is_fit = layer.dtype == dtype and is_plain(layer.kernel.data, kernel_shape, dtype)
    return is_fit and is_plain(bias, (filters,), dtype)


def _convolution(
    layer: ConvLayer, forward: Forward, x: Value, direction: str, spec: ConvSpec, kernel_shape: tuple[int, ...]
) -> tuple[Value, Step] | None:
    spec = replace(spec, batch=x.shape[0])
    is_forward = direction == "forward"
    shape, filters = (spec.y_shape, spec.out_channels) if is_forward else (spec.x_shape, spec.in_channels)
    recorder, (is_relu, activation) = forward.recorder, _ending(layer)
    is_fused = is_relu or layer.fused_activation() is None
    if layer.data_format == "channels_first" or not is_fused:
        return None
    if not _are_plain(layer, kernel_shape, filters, recorder.dtype):
        return None
    y, bias = forward.output(shape), None if layer.bias is None else layer.bias.data
    fused = "relu" if is_relu else None
    if not planner.record(recorder, spec, direction, x.buffer, layer.kernel.data, bias, fused, y):
        return None
    step = _Convolution(layer, spec, direction, x.buffer, y, filters, is_relu)
    return Value(y, shape, activation), step


def _conv(layer: Conv, forward: Forward, x: Value) -> tuple[Value, Step] | None:
    spec = layer.resolve(x.shape)
    return _convolution(layer, forward, x, "forward", spec, spec.kernel_shape)


def _conv_transpose(layer: ConvTranspose, forward: Forward, x: Value) -> tuple[Value, Step] | None:
    spec = layer.resolve(x.shape)
    return _convolution(layer, forward, x, "input_grad", spec, spec.kernel_shape)


def _depthwise_conv(layer: DepthwiseConv, forward: Forward, x: Value) -> tuple[Value, Step] | None:
    shape = *layer.kernel_size, layer.channels(x.shape), layer.depth_multiplier
    return _convolution(layer, forward, x, "forward", layer.resolve(x.shape), shape)


def _dense(layer: Dense, forward: Forward, x: Value) -> tuple[Value, Step] | None:
    *outer, depth = x.shape
    rows, units, recorder = math.prod(outer), layer.units, forward.recorder
    is_relu, activation = _ending(layer)
    if not _are_plain(layer, (depth, units), units, recorder.dtype):
        return None
    y, bias = forward.output((rows, units)), None if layer.bias is None else layer.bias.data
    if not record_dense(recorder, x.buffer, layer.kernel.data, bias, y, rows, is_relu):
        return None
    spec = resolve_conv((1, rows, depth), (1, depth, units), dtype=recorder.dtype)
    step = _Convolution(layer, spec, "forward", x.buffer, y, units, is_relu)
    return Value(y, (*outer, units), activation), step


def _pool(layer: Pooling | GlobalPooling, forward: Forward, x: Value) -> tuple[Value, Step] | None:
    kernel = POOL_KERNELS.get(type(layer).pool)
    if kernel is None or layer.data_format == "channels_first":
        return None
    spec, shape = pool_problem(layer, x.shape, forward.recorder.dtype)
    y = forward.output(shape)
    forward.recorder.launch(pooling.reduction(kernel, spec)[1], x.buffer, y)
    return Value(y, shape), _Pool(spec, kernel is pooling_kernels.max_pool, x.buffer, y)


def _flatten(layer: Flatten, forward: Forward, x: Value) -> tuple[Value, None] | None:
    if layer.data_format == "channels_first" and len(x.shape) > 2:
        return None
    return Value(x.buffer, (x.shape[0], math.prod(x.shape[1:]))), None


_RULES: dict[Callable[..., Any], Rule] = {
    Conv.call: _conv,
    ConvTranspose.call: _conv_transpose,
    Dense.call: _dense,
    DepthwiseConv.call: _depthwise_conv,
    Flatten.call: _flatten,
    GlobalPooling.call: _pool,
    Pooling.call: _pool,
}
"""By `call`, so that a subclass with a `call` of its own is called."""


def rule_of(layer: Layer) -> Rule | None:
    """Return the rule of a layer, None where it must be called."""
    kind = type(layer)
    return _RULES.get(kind.call) if kind.__call__ is Layer.__call__ else None
