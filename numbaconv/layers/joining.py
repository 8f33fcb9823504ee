"""Layers that follow a product and become part of it: relu, and normalisation of frozen layers.

Normalisation by given statistics scales a product's outputs, channel by channel, and adds to them, which a kernel and
a bias do that are scaled and added to once (as PyTorch's `fuse_conv_bn_weights` and TensorFlow's Grappler do). That
takes weights that never change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbaconv.autograd import ops
from numbaconv.constants import constant, is_constant, made_once
from numbaconv.layers.activations import linear
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv
from numbaconv.layers.conv_transpose import ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import DepthwiseConv, SeparableConv
from numbaconv.layers.normalization import BatchNormalization
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.recording import Value, is_relu, record_layer, record_rectified, rule_of
from numbaconv.program import Recorder

_Outputs = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

# For each product the attribute of the weight that has its outputs as an axis, and how that is scaled.
_SCALED: dict[Callable[..., Any], tuple[str, _Outputs]] = {
    Conv.call: ("kernel", np.multiply),
    ConvTranspose.call: ("kernel", lambda kernel, scale: kernel * scale[:, None]),
    Dense.call: ("kernel", np.multiply),
    DepthwiseConv.call: ("kernel", lambda kernel, scale: kernel * scale.reshape(kernel.shape[-2:])),
    SeparableConv.call: ("pointwise_kernel", np.multiply),
}
"""By `call`, as rules are found."""

_L = TypeVar("_L", bound=Layer)


def record_from(layers: Sequence[Layer], start: int, recorder: Recorder, value: Value) -> tuple[Value | None, int]:
    """Record the layer with number ``start`` and those behind it that become a part of it.

    Returns
    -------
    Value or None, int
        The outputs, None where the layer must be called, and the number of the layer after the last one.
    """
    layer, stop = layers[start], start + 1
    if rule_of(layer) is not None and layer.built:
        before = len(recorder)
        joined, stop = _joined(layers, start)
        if joined is not layer:
            result = record_layer(joined, recorder, value)
            recorder.hold(joined)
            if result is not None and _fits(layers[start + 1 : stop], result.shape):
                return result, stop
            recorder.keep(before)
        elif stop > start + 1:
            result = record_rectified(layer, recorder, value)
            if result is not None:
                return result, stop
    return record_layer(layer, recorder, value), start + 1


def _fits(layers: Sequence[Layer], shape: tuple[int, ...]) -> bool:
    """Whether layers take inputs of a shape."""
    try:
        for layer in layers:
            layer.check_input_shape(shape)
    except (TypeError, ValueError):
        return False
    return True


def _joined(layers: Sequence[Layer], start: int) -> tuple[Layer, int]:
    """Return a layer that does what it and those behind it do, and the number of the layer after these.

    The layer itself with a number behind the next one is a normalisation and the relu of it.
    """
    layer, stop = layers[start], start + 1
    is_product = type(layer).call in _SCALED and getattr(layer, "activation", None) is linear
    if is_product and stop < len(layers) and _is_normalization(layers[stop], layer):
        scaled = _normalized(layer, layers[stop])
        if scaled is not None:
            layer, stop = scaled, stop + 1
    if stop < len(layers) and rule_of(layers[stop]) is not None and is_relu(layers[stop]):
        if is_product:
            return _changed(layer, activation=ops.relu), stop + 1
        if type(layer).call is BatchNormalization.call:
            return layer, stop + 1
    return layer, stop


def _is_normalization(layer: Layer, before: Layer) -> bool:
    """Whether a layer normalises the channels of the outputs of the one before it, in the same precision."""
    if not isinstance(layer, BatchNormalization) or rule_of(layer) is None:
        return False
    last = -1, getattr(before, "rank", -2) + 1
    is_last = layer.axis in last and getattr(before, "data_format", "channels_last") == "channels_last"
    return is_last and layer.built and layer.dtype == before.dtype


def _changed(layer: _L, **attributes: Any) -> _L:
    """Return a copy of a layer with other attributes, of which no program of the layer takes notice."""
    other = copy.copy(layer)
    vars(other).update(attributes)
    return other


def _normalized(layer: Any, norm: Any) -> Layer | None:
    """Return a layer whose outputs are those of a layer normalised, None where weights may change or are not finite."""
    name, scaled = _SCALED[type(layer).call]
    kernel = getattr(layer, name).data
    others = layer.bias, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance
    arrays = [kernel, *(weight.data for weight in others if weight is not None)]
    if not all(map(is_constant, arrays)) or (isinstance(layer, ConvTranspose) and layer.groups > 1):
        return None
    bias, gamma, beta, mean, variance = map(_precise, others, (0, 1, 0, 0, 1))
    # The arrays' bases, as keys, live as long as what is made of them.
    key = *(None if weight is None else weight.data.base for weight in others), norm.epsilon
    try:
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + norm.epsilon)
            offset = (bias - mean) * scale + beta
        kernel = made_once(kernel, key, partial(_constant_of, scaled, kernel, scale))
    except ValueError:  # the normalisation is of another number of channels, and will say so
        return None
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        return None
    return _changed(layer, **{name: Parameter(kernel), "bias": Parameter(constant(offset.astype(kernel.dtype)))})


def _precise(weight: Parameter | None, default: float) -> Any:
    return default if weight is None else weight.data.astype(np.float64)


def _constant_of(scaled: _Outputs, kernel: NDArray[Any], scale: NDArray[Any]) -> NDArray[Any]:
    return constant(scaled(kernel, scale).astype(kernel.dtype))
