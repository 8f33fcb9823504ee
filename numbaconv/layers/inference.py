"""Layers in a row where neither training nor gradients are wanted: a program in the place of their calls.

What the layers do with inputs of one shape is recorded once as launches in a row (`numbaconv.program`), which later
calls run without Python in between. A layer without a rule here, or with a `call` of its own, is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numbaconv import functional, planner
from numbaconv.algorithms import pooling
from numbaconv.autograd import Tensor, is_recording, ops
from numbaconv.autograd.dense_rules import record_dense
from numbaconv.autograd.tensor import wrap
from numbaconv.kernels import pooling as pooling_kernels
from numbaconv.layers.activations import linear
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv, ConvLayer
from numbaconv.layers.conv_transpose import ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import DepthwiseConv
from numbaconv.layers.dropout import Dropout
from numbaconv.layers.pooling import GlobalPooling, Pooling
from numbaconv.layers.reshaping import Flatten
from numbaconv.layers.tracing import TRACE, TRAINING
from numbaconv.program import Buffer, Program, Recorder
from numbaconv.spec import ConvSpec, resolve_pool

MAX_STAGES = 32
"""Stages kept for one model; one more, and all of them go: whoever has so many shapes does not call one often."""


@dataclass(frozen=True)
class Value:
    """What one layer hands to the next, and what is left to do to it in Python, after which no launch can follow."""

    buffer: Buffer
    shape: tuple[int, ...]
    activation: Callable[[Any], Any] | None = None


def _is_plain(array: np.ndarray | None, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a weight is what a kernel can read, or there is none."""
    return array is None or (
        array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    )


def _weights(
    layer: Any, kernel_shape: tuple[int, ...], filters: int, dtype: str
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return kernel and bias, the bias None where there is none; None for both where kernels cannot read them."""
    kernel = layer.kernel.data
    bias = None if layer.bias is None else layer.bias.data
    fits = layer.dtype == dtype and _is_plain(kernel, kernel_shape, dtype) and _is_plain(bias, (filters,), dtype)
    return (kernel, bias) if fits else None


def _convolution(
    layer: ConvLayer, recorder: Recorder, x: Value, direction: str, spec: ConvSpec, kernel_shape: tuple[int, ...]
) -> Value | None:
    spec = replace(spec, batch=x.shape[0])
    if direction == "forward":
        shape, filters = spec.y_shape, spec.out_channels
    else:
        shape, filters = spec.x_shape, spec.in_channels
    y, fused = recorder.buffer(math.prod(shape)), layer.fused_activation()
    weights = _weights(layer, kernel_shape, filters, recorder.dtype)
    if weights is None or not planner.record(recorder, spec, direction, x.buffer, *weights, fused, y):
        return None
    return Value(y, shape, None if fused is not None or layer.activation is linear else layer.activation)


def _conv(layer: Conv, recorder: Recorder, x: Value) -> Value | None:
    spec = layer.resolve(x.shape)
    return _convolution(layer, recorder, x, "forward", spec, spec.kernel_shape)


def _conv_transpose(layer: ConvTranspose, recorder: Recorder, x: Value) -> Value | None:
    spec = layer.resolve(x.shape)
    return _convolution(layer, recorder, x, "input_grad", spec, spec.kernel_shape)


def _depthwise_conv(layer: DepthwiseConv, recorder: Recorder, x: Value) -> Value | None:
    shape = *layer.kernel_size, layer.channels(x.shape), layer.depth_multiplier
    return _convolution(layer, recorder, x, "forward", layer.resolve(x.shape), shape)


def _dense(layer: Dense, recorder: Recorder, x: Value) -> Value | None:
    *outer, depth = x.shape
    rows, is_relu = math.prod(outer), layer.activation is ops.relu
    y = recorder.buffer(rows * layer.units)
    weights = _weights(layer, (depth, layer.units), layer.units, recorder.dtype)
    if weights is None or not record_dense(recorder, x.buffer, *weights, y, rows, is_relu):
        return None
    return Value(y, (*outer, layer.units), None if is_relu or layer.activation is linear else layer.activation)


_POOLS = {
    functional.max_pool: pooling_kernels.max_pool,
    functional.average_pool: pooling_kernels.average_pool,
    functional.global_max_pool: pooling_kernels.max_pool,
    functional.global_average_pool: pooling_kernels.average_pool,
}


def _pool(layer: Pooling | GlobalPooling, recorder: Recorder, x: Value) -> Value | None:
    kernel = _POOLS.get(type(layer).pool)
    if kernel is None or layer.data_format == "channels_first":
        return None
    if isinstance(layer, GlobalPooling):
        spec = resolve_pool(x.shape, x.shape[1:-1], dtype=recorder.dtype)
        shape = spec.y_shape if layer.keepdims else (x.shape[0], x.shape[-1])
    else:
        spec = resolve_pool(
            x.shape, layer.pool_size, strides=layer.strides, padding=layer.padding, dtype=recorder.dtype
        )
        shape = spec.y_shape
    y = recorder.buffer(math.prod(shape))
    recorder.launch(pooling.reduction(kernel, spec)[1], x.buffer, y)
    return Value(y, shape)


def _flatten(layer: Flatten, recorder: Recorder, x: Value) -> Value | None:
    if layer.data_format == "channels_first" and len(x.shape) > 2:
        return None
    return Value(x.buffer, (x.shape[0], math.prod(x.shape[1:])))


def _dropout(layer: Dropout, recorder: Recorder, x: Value) -> Value:
    return x


_RULES: dict[Callable[..., Any], Callable[[Any, Recorder, Value], Value | None]] = {
    Conv.call: _conv,
    ConvTranspose.call: _conv_transpose,
    Dense.call: _dense,
    DepthwiseConv.call: _depthwise_conv,
    Dropout.call: _dropout,
    Flatten.call: _flatten,
    GlobalPooling.call: _pool,
    Pooling.call: _pool,
}
"""By `call`, so that a subclass with a `call` of its own is called."""


def _rule(layer: Layer) -> Callable[[Any, Recorder, Value], Value | None] | None:
    kind = type(layer)
    return _RULES.get(kind.call) if kind.__call__ is Layer.__call__ else None


class Stage:
    """Some layers of a row as a program for one shape, as long as they stay what they are.

    A stage without a program is one layer that has none, and says so until the layer changes.

    Attributes
    ----------
    stop : int
        Number of the layer after the stage's last one.
    """

    def __init__(self, layers: Sequence[Layer], start: int, shape: tuple[int, ...], dtype: str) -> None:
        recorder = Recorder(math.prod(shape), dtype)
        value = Value(recorder.x, shape)
        stop = start
        while stop < len(layers) and value.activation is None:
            following = _recorded(layers[stop], recorder, value)
            if following is None:
                break
            value = following
            stop += 1
        program: Program | None = recorder.program(value.buffer, value.shape)
        self.program = program
        self.activation = value.activation
        self.stop = stop if program is not None else start + 1
        # The layer at which a stage ends is watched too: it may come to have a program.
        seen = layers[start : stop + 1]
        self._layers = [layer for layer in seen if _rule(layer) is not None]
        self._watched = slice(start, start + len(self._layers))
        self._states = [dict(vars(layer)) for layer in self._layers]
        self._parameters = [p for layer in layers[start : self.stop] for p in layer._parameters().values()]
        self._arrays = [p.data for p in self._parameters]
        self._places = [id(array) for array in self._arrays]

    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers have the attributes, and their weights the arrays, that were recorded."""
        try:
            return (
                layers[self._watched] == self._layers
                and [layer.__dict__ for layer in self._layers] == self._states
                and [id(p.data) for p in self._parameters] == self._places
            )
        except ValueError:  # an array among the attributes has changed
            return False


def _recorded(layer: Layer, recorder: Recorder, value: Value) -> Value | None:
    """Record a layer and return its outputs; None where it must be called."""
    rule = _rule(layer)
    if rule is None or not layer.built:
        return None
    try:
        layer.check_input_shape(value.shape)
        return rule(layer, recorder, value)
    except (TypeError, ValueError):  # the call will raise it
        return None


class Stages:
    """The stages of a model's layers, found by where they start and by their inputs."""

    def __init__(self) -> None:
        self._stages: dict[Any, Stage] = {}

    def __reduce__(self) -> Any:
        return Stages, ()

    def find(self, layers: Sequence[Layer], start: int, x: np.ndarray) -> Stage:
        """Return the stage that begins with layer ``start`` for inputs like ``x``."""
        key = start, x.shape, x.dtype, planner.generation
        stage = self._stages.get(key)
        if stage is None or not stage.is_current(layers):
            if len(self._stages) >= MAX_STAGES:
                self._stages.clear()
            stage = self._stages[key] = Stage(layers, start, x.shape, x.dtype.name)
        return stage


def is_wanted() -> bool:
    """Whether calls on this thread are for their values alone."""
    return not is_recording() and not TRAINING.get() and TRACE.get() is None


def _is_readable(x: np.ndarray) -> bool:
    """Whether launches can read inputs where they lie."""
    return x.size > 0 and (x.flags.carray or (x.flags.c_contiguous and x.flags.aligned))


def infer(layers: Sequence[Layer], x: Any, stages: Stages) -> Any:
    """Return what the layers return one after the other."""
    position = 0
    while position < len(layers):
        stop = position + 1
        if type(x) is Tensor and _is_readable(x.data) and _rule(layers[position]) is not None:
            stage = stages.find(layers, position, x.data)
            y = None if stage.program is None else stage.program(x.data)
            stop = stage.stop
            if y is not None:
                x = wrap(y) if stage.activation is None else stage.activation(wrap(y))
                position = stop
                continue
        for layer in layers[position:stop]:
            x = layer(x, training=False)
        position = stop
    return x
