"""Layers in a row on arrays, where neither training nor gradients are wanted: one image costs little more than kernels.

A layer that has let inputs of one shape and dtype pass checks no more like them, and passes arrays on, not tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from numbaconv import functional
from numbaconv.autograd import Tensor, is_recording, ops
from numbaconv.autograd.dense_rules import dense as dense_product
from numbaconv.autograd.tensor import wrap
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv
from numbaconv.layers.dense import Dense
from numbaconv.layers.pooling import Pooling
from numbaconv.layers.reshaping import Flatten
from numbaconv.layers.tracing import TRACE, TRAINING


def _conv(layer: Conv, x: np.ndarray) -> Any:
    bias = None if layer.bias is None else layer.bias.data
    options = layer.options()
    y = functional.conv.array_function(
        x, layer.kernel.data, bias, groups=layer.groups, padding_mode=layer.padding_mode, **options
    )
    return y if options["activation"] is not None else layer.activation(y)


def _dense(layer: Dense, x: np.ndarray) -> Any:
    is_relu = layer.activation is ops.relu
    y: Any = dense_product(x, layer.kernel.data, None if layer.bias is None else layer.bias.data, is_relu)
    return y if is_relu else layer.activation(y)


def _pool(layer: Pooling, x: np.ndarray) -> Any:
    pool: Any = type(layer).pool
    return pool.array_function(
        x, layer.pool_size, strides=layer.strides, padding=layer.padding, data_format=layer.data_format
    )


def _flatten(layer: Flatten, x: np.ndarray) -> np.ndarray:
    if layer.data_format == "channels_first" and x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


_RULES: dict[Callable[..., Any], Callable[[Any, np.ndarray], Any]] = {
    Conv.call: _conv,
    Dense.call: _dense,
    Pooling.call: _pool,
    Flatten.call: _flatten,
}
"""By `call`, so that a subclass with a `call` of its own is called."""


def is_wanted() -> bool:
    """Whether calls on this thread are for their values alone."""
    return not is_recording() and not TRAINING.get() and TRACE.get() is None


def infer(layers: Iterable[Layer], x: Any) -> Any:
    """Return what the layers return one after the other."""
    for layer in layers:
        kind = type(layer)
        rule = _RULES.get(kind.call) if kind.__call__ is Layer.__call__ else None
        if rule is None or type(x) is not Tensor:
            x = layer(x, training=False)
            continue
        array = x.data
        key = array.shape, array.dtype
        if layer._passed == key:
            x = wrap(rule(layer, array))
        else:
            x = layer(x, training=False)
            # Other dtypes are converted by the layer at each call.
            layer._passed = key if array.dtype == layer.dtype else None
    return x
