"""What layers launch: for each `call` the rule that records it in a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from numbaconv import functional, planner
from numbaconv.algorithms import pooling
from numbaconv.algorithms.channel_map import record_normalization, record_relu
from numbaconv.algorithms.cross_entropy import FEW_CLASSES, record_softmax
from numbaconv.autograd import ops
from numbaconv.autograd.dense_rules import record_dense
from numbaconv.kernels import pooling as pooling_kernels
from numbaconv.layers.activations import Activation, ReLU, Softmax, linear
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv
from numbaconv.layers.conv_transpose import ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import DepthwiseConv, SeparableConv
from numbaconv.layers.dropout import Dropout
from numbaconv.layers.normalization import BatchNormalization
from numbaconv.layers.pooling import GlobalPooling, Pooling
from numbaconv.layers.reshaping import Flatten
from numbaconv.program import Buffer, Recorder
from numbaconv.spec import ConvSpec, PoolSpec, resolve_conv, resolve_pool


@dataclass(frozen=True)
class Value:
    """What one layer hands to the next, and what is left to do to it in Python, after which no launch can follow."""

    buffer: Buffer
    shape: tuple[int, ...]
    activation: Callable[[Any], Any] | None = None


def _read(weight: Any, shape: tuple[int, ...], dtype: str) -> tuple[bool, Any]:
    """Return whether kernels can read a weight, or there is none, and its array."""
    if weight is None:
        return True, None
    array = weight.data
    is_plain = array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    return is_plain, array


def _product(
    recorder: Recorder,
    x: Value,
    direction: str,
    spec: ConvSpec,
    kernel: tuple[bool, Any],
    given_bias: Any = None,
    fused: Any = None,
) -> Value | None:
    spec = replace(spec, batch=x.shape[0])
    if direction == "forward":
        shape, filters = spec.y_shape, spec.out_channels
    else:
        shape, filters = spec.x_shape, spec.in_channels
    bias = _read(given_bias, (filters,), recorder.dtype)
    if not (kernel[0] and bias[0]):
        return None
    y = recorder.result(math.prod(shape))
    recorded = planner.record(recorder, spec, direction, x.buffer, kernel[1], bias[1], fused, y)
    return Value(y, shape) if recorded else None


def _activated(layer: Any, recorder: Recorder, y: Value | None, fused: Any) -> Value | None:
    """Return the layer's outputs, which a launch has computed but for the activation that it has not fused."""
    if y is None or fused is not None or layer.activation is linear:
        return y
    if layer.activation is ops.softmax:
        return _normalized_exponentials(recorder, y, -1) or replace(y, activation=layer.activation)
    return replace(y, activation=layer.activation)


def _normalized_exponentials(recorder: Recorder, x: Value, axis: int) -> Value | None:
    """Return the softmax of x along an axis, None where it is no launch or its gradient is wanted."""
    classes = x.shape[-1]
    if recorder.wants_gradients or axis not in (-1, len(x.shape) - 1) or classes > FEW_CLASSES:
        return None
    y = recorder.result(x.buffer.size)
    record_softmax(recorder, x.buffer, classes, y)
    return Value(y, x.shape)


def _conv(layer: Conv | ConvTranspose, recorder: Recorder, x: Value) -> Value | None:
    spec, fused = layer.resolve(x.shape), layer.fused_activation()
    direction = "input_grad" if isinstance(layer, ConvTranspose) else "forward"
    kernel = _read(layer.kernel, spec.kernel_shape, recorder.dtype)
    return _activated(layer, recorder, _product(recorder, x, direction, spec, kernel, layer.bias, fused), fused)


def _depthwise_kernel(layer: DepthwiseConv, recorder: Recorder, x: Value) -> tuple[bool, Any]:
    return _read(layer.kernel, (*layer.kernel_size, layer.channels(x.shape), layer.depth_multiplier), recorder.dtype)


def _depthwise_conv(layer: DepthwiseConv, recorder: Recorder, x: Value) -> Value | None:
    kernel, fused = _depthwise_kernel(layer, recorder, x), layer.fused_activation()
    y = _product(recorder, x, "forward", layer.resolve(x.shape), kernel, layer.bias, fused)
    return _activated(layer, recorder, y, fused)


def _separable_conv(layer: SeparableConv, recorder: Recorder, x: Value) -> Value | None:
    kernel, fused = _depthwise_kernel(layer, recorder, x), layer.fused_activation()
    y = _product(recorder, x, "forward", layer.resolve(x.shape), kernel)
    if y is None:
        return None
    shape = (*(1,) * layer.rank, layer.channels(y.shape), layer.filters)
    spec = resolve_conv(y.shape, shape, data_format=layer.data_format, dtype=recorder.dtype)
    pointwise = _read(layer.pointwise_kernel, shape, recorder.dtype)
    return _activated(layer, recorder, _product(recorder, y, "forward", spec, pointwise, layer.bias, fused), fused)


def _dense(layer: Dense, recorder: Recorder, x: Value) -> Value | None:
    *outer, depth = x.shape
    rows, is_relu = math.prod(outer), layer.activation is ops.relu
    (fits, kernel), (bias_fits, bias) = (
        _read(layer.kernel, (depth, layer.units), recorder.dtype),
        _read(layer.bias, (layer.units,), recorder.dtype),
    )
    if not (fits and bias_fits):
        return None
    y = recorder.result(rows * layer.units)
    if not record_dense(recorder, x.buffer, kernel, bias, y, rows, is_relu):
        return None
    return _activated(layer, recorder, Value(y, (*outer, layer.units)), "relu" if is_relu else None)


POOL_KERNELS = {
    functional.max_pool: pooling_kernels.max_pool,
    functional.average_pool: pooling_kernels.average_pool,
    functional.global_max_pool: pooling_kernels.max_pool,
    functional.global_average_pool: pooling_kernels.average_pool,
}


def pool_problem(
    layer: Pooling | GlobalPooling, shape: tuple[int, ...], dtype: str
) -> tuple[PoolSpec, tuple[int, ...]]:
    """Return the problem that inputs of a shape make, and the shape of the outputs."""
    if isinstance(layer, GlobalPooling):
        spec = resolve_pool(shape, shape[1:-1], dtype=dtype)
        return spec, spec.y_shape if layer.keepdims else (shape[0], shape[-1])
    spec = resolve_pool(shape, layer.pool_size, strides=layer.strides, padding=layer.padding, dtype=dtype)
    return spec, spec.y_shape


def _pool(layer: Pooling | GlobalPooling, recorder: Recorder, x: Value) -> Value | None:
    kernel = POOL_KERNELS.get(type(layer).pool)
    if kernel is None or layer.data_format == "channels_first":
        return None
    spec, shape = pool_problem(layer, x.shape, recorder.dtype)
    y = recorder.result(math.prod(shape))
    recorder.launch(pooling.reduction(kernel, spec)[1], x.buffer, y)
    return Value(y, shape)


def _normalize(layer: BatchNormalization, recorder: Recorder, x: Value, is_relu: bool = False) -> Value | None:
    given = (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
    weights = [_read(weight, x.shape[-1:], recorder.dtype) for weight in given]
    if layer.axis not in (-1, len(x.shape) - 1) or not all(fits for fits, _ in weights):
        return None
    mean, variance, scale, offset = (array for _, array in weights)
    y = recorder.result(x.buffer.size)
    record_normalization(recorder, x.buffer, mean, variance, scale, offset, layer.epsilon, y, is_relu)
    return Value(y, x.shape)


def _rectify(recorder: Recorder, x: Value) -> Value:
    y = recorder.result(x.buffer.size)
    record_relu(recorder, x.buffer, y)
    return Value(y, x.shape)


def is_relu(layer: Layer) -> bool:
    """Whether a layer is max(x, 0) and nothing else."""
    if isinstance(layer, ReLU):
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return isinstance(layer, Activation) and layer.activation is ops.relu


def _relu(layer: ReLU, recorder: Recorder, x: Value) -> Value | None:
    return _rectify(recorder, x) if is_relu(layer) else None


def _activation(layer: Activation, recorder: Recorder, x: Value) -> Value | None:
    return _rectify(recorder, x) if is_relu(layer) else _activated(layer, recorder, x, None)


def _softmax(layer: Softmax, recorder: Recorder, x: Value) -> Value | None:
    return _normalized_exponentials(recorder, x, layer.axis)


def _flatten(layer: Flatten, recorder: Recorder, x: Value) -> Value | None:
    if layer.data_format == "channels_first" and len(x.shape) > 2:
        return None
    return Value(x.buffer, (x.shape[0], math.prod(x.shape[1:])))


def _dropout(layer: Dropout, recorder: Recorder, x: Value) -> Value:
    return x


_Rule: TypeAlias = Callable[[Any, Recorder, Value], "Value | None"]

_RULES: dict[Callable[..., Any], _Rule] = {
    Activation.call: _activation,
    BatchNormalization.call: _normalize,
    Conv.call: _conv,
    ConvTranspose.call: _conv,
    Dense.call: _dense,
    DepthwiseConv.call: _depthwise_conv,
    Dropout.call: _dropout,
    Flatten.call: _flatten,
    GlobalPooling.call: _pool,
    Pooling.call: _pool,
    ReLU.call: _relu,
    SeparableConv.call: _separable_conv,
    Softmax.call: _softmax,
}
"""By `call`, so that a subclass with a `call` of its own is called."""


def rule_of(layer: Layer) -> _Rule | None:
    """Return what records a layer, or None where it must be called."""
    kind = type(layer)
    return _RULES.get(kind.call) if kind.__call__ is Layer.__call__ else None


def record_rectified(layer: Layer, recorder: Recorder, value: Value) -> Value | None:
    """Record a normalisation with relu behind it, and return the outputs; None where it must be called."""
    return record_layer(layer, recorder, value, partial(_normalize, is_relu=True))


def record_layer(layer: Layer, recorder: Recorder, value: Value, rule: _Rule | None = None) -> Value | None:
    """Record a layer, by its own rule or another one, and return its outputs; None where it must be called."""
    rule = rule or rule_of(layer)
    # A layer with weights converts inputs to their dtype.
    if rule is None or not layer.built or (layer.dtype != recorder.dtype and layer._parameters()):
        return None
    before = len(recorder)
    try:
        layer.check_input_shape(value.shape)
        result = rule(layer, recorder, value)
    except (TypeError, ValueError):  # the call will raise it
        result = None
    if result is None:
        recorder.keep(before)
    return result
