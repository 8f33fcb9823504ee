"""What layers say about impossible arguments and inputs, by full text."""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv import Sequential, layers
from numbaconv.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv1D,
    Dropout,
    Input,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    SeparableConv2D,
    UpSampling2D,
    ZeroPadding2D,
)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def built(layer, *shape):
    layer.build(shape)
    return layer


NAMES = (
    "'elu', 'exponential', 'gelu', 'hard_sigmoid', 'hard_silu', 'hard_swish', 'leaky_relu', 'linear', 'log_softmax', "
    "'relu', 'relu6', 'selu', 'sigmoid', 'silu', 'softmax', 'softplus', 'softsign', 'swish', 'tanh', or a function."
)
BAD_INPUT = "Input 0 of layer '{}' is incompatible with the layer: "

ERRORS = {
    "filters": (
        lambda: Conv2D(0, 3),
        ValueError,
        "Invalid value for argument `filters`. Expected a strictly positive value. Received filters=0. "
        "Pass an integer >= 1.",
    ),
    "filters of a separable convolution": (
        lambda: SeparableConv2D(2.5, 3),
        ValueError,
        "Invalid value for argument `filters`. Expected a strictly positive value. Received filters=2.5. "
        "Pass an integer >= 1.",
    ),
    "depth multiplier": (
        lambda: DepthwiseConv1D(3, depth_multiplier=-1),
        ValueError,
        "Invalid value for argument `depth_multiplier`. Expected a strictly positive value. Received "
        "depth_multiplier=-1. Pass an integer >= 1.",
    ),
    "no rank": (
        lambda: Conv(8, 3),
        ValueError,
        "The `rank` argument of Conv must be a positive integer, the number of spatial axes. Received: rank=None. "
        "Pass for example rank=2 for images.",
    ),
    "another rank": (
        lambda: Conv2D(8, 3, rank=3),
        ValueError,
        "Conv2D has rank 2. Received: rank=3. Leave `rank` out, or use the class that takes any rank.",
    ),
    "missing axis": (
        lambda: Conv2D(8, 3)(zeros(8, 8, 3)),
        ValueError,
        BAD_INPUT.format("conv2d")
        + "expected min_ndim=4, found ndim=3. Full shape received: (8, 8, 3). Conv2D takes 2 "
        "spatial axes (batch, spatial, channels). Add a missing batch axis with x[np.newaxis], a missing channel axis "
        "with x[..., np.newaxis].",
    ),
    "two missing axes": (
        lambda: MaxPooling2D(data_format="channels_first", name="pool")(zeros(8, 8)),
        ValueError,
        BAD_INPUT.format("pool")
        + "expected min_ndim=4, found ndim=2. Full shape received: (8, 8). MaxPooling2D takes 2 "
        "spatial axes (batch, channels, spatial).",
    ),
    "an axis too many": (
        lambda: Conv2D(8, 3)(zeros(1, 8, 8, 8, 3)),
        ValueError,
        BAD_INPUT.format("conv2d")
        + "expected ndim=4, found ndim=5. Full shape received: (1, 8, 8, 8, 3). Conv2D takes "
        "2 spatial axes (batch, spatial, channels). Use the layer for 3 spatial axes.",
    ),
    "channels changed": (
        lambda: built(Conv2D(8, 3), None, 8, 8, 3)(zeros(1, 8, 8, 4)),
        ValueError,
        BAD_INPUT.format("conv2d") + "expected axis -1 of input shape to have value 3, but received input with shape "
        "(1, 8, 8, 4). The kernel was built for 3 channels; pass inputs with 3, or make a new layer.",
    ),
    "channels changed, channels first": (
        lambda: built(Conv2DTranspose(8, 3, data_format="channels_first"), None, 3, 8, 8)(zeros(1, 4, 8, 8)),
        ValueError,
        BAD_INPUT.format("conv2d_transpose")
        + "expected axis 1 of input shape to have value 3, but received input with "
        "shape (1, 4, 8, 8). The kernel was built for 3 channels; pass inputs with 3, or make a new layer.",
    ),
    "channels unknown": (
        lambda: Conv2D(8, 3).build((None, 8, 8, None)),
        ValueError,
        "The channel dimension of the inputs should be defined. Found `None`. Full input shape received: "
        "(None, 8, 8, None). Give the number of channels at axis -1.",
    ),
    "integer input": (
        lambda: Conv2D(8, 3)(zeros(1, 8, 8, 3, dtype=np.uint8)),
        TypeError,
        "Input 0 of layer 'conv2d' must hold float32 or float64 numbers. Received dtype uint8, shape (1, 8, 8, 3). "
        "Pass x.astype(np.float32) (images: x.astype(np.float32) / 255).",
    ),
    "half precision": (
        lambda: Dense(3)(zeros(1, 8, dtype=np.float16)),
        TypeError,
        "Input 0 of layer 'dense' must hold float32 or float64 numbers. Received dtype float16, shape (1, 8). "
        "Pass x.astype(np.float32) (images: x.astype(np.float32) / 255).",
    ),
    "text": (
        lambda: Dense(3)("abc"),
        TypeError,
        "Inputs to a layer should be tensors. Got ''abc'' (of type str) as input 0 for layer 'dense'. Pass a NumPy "
        "array or a numbaconv.Tensor, for example np.asarray(x, np.float32).",
    ),
    "activation": (
        lambda: Conv2D(8, 3, activation="rellu"),
        ValueError,
        "Could not interpret activation function identifier: 'rellu'. Pass one of " + NAMES,
    ),
    "activation of another type": (
        lambda: Dense(8, activation=3),
        TypeError,
        "Could not interpret activation function identifier: 3. Pass one of " + NAMES,
    ),
    "unknown keyword": (
        lambda: Dense(8, kernal_initializer="ones"),
        TypeError,
        "Unrecognized keyword arguments passed to Dense: {'kernal_initializer': 'ones'}. Did you mean "
        "`kernel_initializer`? It takes units, activation, use_bias, kernel_initializer, bias_initializer, "
        "kernel_regularizer, bias_regularizer, name, dtype, trainable.",
    ),
    "units": (
        lambda: Dense(0),
        ValueError,
        "Received an invalid value for `units`, expected a positive integer. Received: units=0. "
        "Pass for example units=10.",
    ),
    "dense on a vector": (
        lambda: Dense(3)(zeros(8)),
        ValueError,
        BAD_INPUT.format("dense") + "expected min_ndim=2, found ndim=1. Full shape received: (8,). Dense takes "
        "(batch, ..., features): add a batch axis with x[np.newaxis].",
    ),
    "features changed": (
        lambda: built(Dense(3), None, 8)(zeros(2, 9)),
        ValueError,
        BAD_INPUT.format("dense") + "expected axis -1 of input shape to have value 8, but received input with shape "
        "(2, 9). The kernel was built for 8 features; pass inputs with 8, or make a new layer.",
    ),
    "features unknown": (
        lambda: Dense(3).build((None, None)),
        ValueError,
        "The last dimension of the inputs to a Dense layer should be defined. Found None. Full input shape received: "
        "(None, None). Give its size, for example Input((64,)).",
    ),
    "zero padding": (
        lambda: ZeroPadding2D((1, 2, 3)),
        ValueError,
        "`padding` should be either an int, a tuple of 2 ints, or a tuple of 2 tuples of 2 ints (before, after), all "
        ">= 0. Received: padding=(1, 2, 3). Pass for example padding=1.",
    ),
    "interpolation": (
        lambda: UpSampling2D(2, interpolation="bilinear"),
        ValueError,
        "The `interpolation` argument must be 'nearest'. Received: interpolation='bilinear'. For smooth up-sampling "
        "use ConvTranspose with strides.",
    ),
    "dropout": (
        lambda: Dropout(1.5),
        ValueError,
        "Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate=1.5. "
        "Pass for example rate=0.5.",
    ),
    "batch normalisation's axis": (
        lambda: BatchNormalization(axis=4)(zeros(1, 8, 8, 3)),
        ValueError,
        BAD_INPUT.format("batch_normalization") + "axis 4 is out of bounds for an input with ndim=4. Full shape "
        "received: (1, 8, 8, 3). Pass an axis from 1 to 3; axis 0 is the batch.",
    ),
    "batch normalisation's channels changed": (
        lambda: built(BatchNormalization(), None, 8)(zeros(2, 9)),
        ValueError,
        BAD_INPUT.format("batch_normalization") + "expected axis -1 of input shape to have value 8, but received input "
        "with shape (2, 9). The weights were built for 8 channels.",
    ),
    "layer normalisation's shape changed": (
        lambda: built(LayerNormalization(axis=(1, 2)), None, 8, 3)(zeros(2, 9, 3)),
        ValueError,
        BAD_INPUT.format("layer_normalization") + "expected axes (1, 2) of input shape to have values (8, 3), but "
        "received input with shape (2, 9, 3).",
    ),
    "normalisation of an unknown size": (
        lambda: BatchNormalization().build((None, 8, None)),
        ValueError,
        "Layer 'batch_normalization' needs the size of axis -1. Full shape received: (None, 8, None). Give its size, "
        "for example in Input(shape).",
    ),
    "add of one": (
        lambda: Add()(zeros(2, 3)),
        ValueError,
        "A merge layer should be called on a list of inputs. Received: input_shape=(2, 3) (not a list of shapes). "
        "Call it as Add()([a, b]).",
    ),
    "add of different shapes": (
        lambda: Add()([zeros(2, 3), zeros(2, 4)]),
        ValueError,
        "Inputs have incompatible shapes. Received shapes (2, 3) and (2, 4). Sizes must be equal, or 1 on one side; "
        "change strides or filters of one branch, or project it with a convolution of 1 tap.",
    ),
    "concatenate of one": (
        lambda: Concatenate()(zeros(2, 3)),
        ValueError,
        "A `Concatenate` layer should be called on a list of at least 1 input. Received: input_shape=(2, 3). "
        "Call it as Concatenate()([a, b]).",
    ),
    "concatenate of different shapes": (
        lambda: Concatenate()([zeros(2, 3, 3), zeros(2, 4, 4)]),
        ValueError,
        "A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis. Received: "
        "input_shape=[(2, 3, 3), (2, 4, 4)], which differ at axis 1. Only axis -1 may differ; crop, pad or up-sample "
        "one input.",
    ),
    "concatenate of different ranks": (
        lambda: Concatenate()([zeros(2, 3, 3), zeros(2, 4)]),
        ValueError,
        "A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis. Received: "
        "input_shape=[(2, 3, 3), (2, 4)], whose ranks differ.",
    ),
    "concatenate's axis": (
        lambda: Concatenate(axis=3)([zeros(2, 3, 3)]),
        ValueError,
        "Axis 3 of layer 'concatenate' is out of range for inputs with 3 axes. Received: input_shape=[(2, 3, 3)]. "
        "Pass axis from -3 to 2.",
    ),
    "input shape": (
        lambda: Input(8),
        ValueError,
        "`shape` must be a tuple of positive integers or None, without the batch axis. Received: shape=8, "
        "batch_size=None. Pass for example shape=(28, 28, 1).",
    ),
    "another input shape": (
        lambda: Sequential([Input((4,)), Dense(2)])(zeros(2, 5)),
        ValueError,
        BAD_INPUT.format("input") + "expected shape=(None, 4), found shape=(2, 5). Pass data of the stated shape, or "
        "change `Input`.",
    ),
    "name": (
        lambda: Dense(2, name="a/b"),
        ValueError,
        "Argument `name` must be a string and cannot contain character `/`. Received: name='a/b' (of type str). "
        "Pass for example name='dense'.",
    ),
    "dtype": (
        lambda: Dense(2, dtype="float16"),
        ValueError,
        "Argument `dtype` must be 'float32' or 'float64'. Received: dtype='float16'",
    ),
    "relu": (
        lambda: ReLU(negative_slope=-1),
        ValueError,
        "negative_slope of a ReLU layer cannot be a negative value. Received: negative_slope=-1. Pass a number >= 0.",
    ),
    "leaky relu": (
        lambda: LeakyReLU(None),
        ValueError,
        "The negative_slope value of a Leaky ReLU layer cannot be None or negative value. Expected a float. Received: "
        "negative_slope=None",
    ),
    "number of weights": (
        lambda: built(Dense(2), None, 3).set_weights([zeros(3, 2)]),
        ValueError,
        "You called `set_weights(weights)` on layer 'dense' with a weight list of length 1, but the layer was "
        "expecting 2 weights: kernel (3, 2), bias (2,).",
    ),
    "shape of weights": (
        lambda: built(Dense(2), None, 3).set_weights([zeros(3, 3), zeros(2)]),
        ValueError,
        "Layer 'dense' weight shape (3, 2) is not compatible with provided weight shape (3, 3). Pass an array of shape "
        "(3, 2) for 'kernel'.",
    ),
    "weights before they exist": (
        lambda: Dense(2).set_weights([zeros(3, 2), zeros(2)]),
        ValueError,
        "You called `set_weights(weights)` on layer 'dense' with a weight list of length 2, but the layer was "
        "expecting 0 weights. Call the layer on data or build it first.",
    ),
    "parameters before they exist": (
        lambda: Dense(2).count_params(),
        ValueError,
        "You tried to call `count_params` on layer 'dense', but the layer isn't built. You can build it manually via: "
        "`layer.build(input_shape)`, or call it on data first.",
    ),
    "no call": (
        lambda: layers.Layer()(zeros(1, 2)),
        TypeError,
        "Layer Layer does not have a `call()` method implemented. Define `call(self, inputs)` or "
        "`call(self, inputs, training)` in it.",
    ),
    "assign": (
        lambda: built(Dense(2), None, 3).kernel.assign(zeros(3)),
        ValueError,
        "The shape of the target variable and the shape of the target value in `variable.assign(value)` must match. "
        "Received: value.shape=(3,); variable.shape=(3, 2). Pass an array of shape (3, 2) for 'kernel'.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_text(case):
    make, kind, text = ERRORS[case]
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
