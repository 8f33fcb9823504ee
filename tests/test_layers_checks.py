"""Checks that layers share with the functions are made at construction, or when the inputs' shape is known.

Their full texts are tested with the functions; here the first sentence shows that the layer raises them.
"""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv import Sequential
from numbaconv.layers import Conv2D, Conv2DTranspose, DepthwiseConv1D, Input, MaxPooling2D, SeparableConv2D


def zeros(*shape):
    return np.zeros(shape, np.float32)


FIRST_SENTENCES = {
    "groups": (
        lambda: Conv2D(8, 3, groups=3),
        "The number of filters must be evenly divisible by the number of groups. Received: groups=3, filters=8.",
    ),
    "no groups": (
        lambda: Conv2D(8, 3, groups=0),
        "The number of groups must be a positive integer. Received: groups=0.",
    ),
    "input groups": (
        lambda: Conv2D(8, 3, groups=2).build((None, 8, 8, 3)),
        "The number of input channels must be evenly divisible by the number of groups. Received groups=2, but the "
        "input has 3 channels",
    ),
    "kernel size": (
        lambda: Conv2D(8, 0),
        "The `kernel_size` argument must be a tuple of 2 integers. Received kernel_size=0, including values {0} that "
        "do not satisfy `value > 0`",
    ),
    "strides": (
        lambda: Conv2D(8, 3, strides=(1, 0)),
        "The `strides` argument must be a tuple of 2 integers. Received strides=(1, 0), including values {0} that do "
        "not satisfy `value > 0`",
    ),
    "dilation": (
        lambda: Conv2DTranspose(8, 3, dilation_rate=(1, 2, 3)),
        "The `dilation_rate` argument must be a tuple of 2 integers. Received dilation_rate=(1, 2, 3)",
    ),
    "padding": (
        lambda: SeparableConv2D(8, 3, padding="full"),
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: padding='full'",
    ),
    "padding mode": (
        lambda: DepthwiseConv1D(3, padding_mode="mirror"),
        "The `padding_mode` argument must be one of {'zeros', 'reflect', 'replicate', 'circular'}",
    ),
    "data format": (
        lambda: MaxPooling2D(data_format="NCHW"),
        "The `data_format` argument must be one of {'channels_first', 'channels_last'}. Received: data_format='NCHW'",
    ),
    "output padding": (
        lambda: Conv2DTranspose(8, 3, strides=2, output_padding=2),
        "`output_padding` must be strictly less than `strides` for all dimensions. At dimension 0, `output_padding` is "
        "2 but `strides` is 2.",
    ),
    "pool size": (
        lambda: MaxPooling2D(0),
        "The `pool_size` argument must be a tuple of 2 integers. Received pool_size=0",
    ),
    "too small an input": (
        lambda: Conv2D(8, 5).build((None, 4, 4, 3)),
        "Computed output size would be zero or negative. Received `inputs shape=(1, 4, 4, 3)`, "
        "`kernel shape=(5, 5, 3, 8)`",
    ),
    "too small an input to pool": (
        lambda: MaxPooling2D(9)(zeros(1, 8, 8, 3)),
        "Computed output size would be zero or negative. Received `inputs shape=(1, 8, 8, 3)`, `pool_size=(9, 9)`",
    ),
}


@pytest.mark.parametrize("case", FIRST_SENTENCES)
def test_shared_checks_open_with_keras_sentences(case):
    make, text = FIRST_SENTENCES[case]
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(text)


def test_a_model_says_which_layer_failed():
    with pytest.raises(ValueError) as error:
        Sequential([Input((6, 6, 1)), Conv2D(4, 3), Conv2D(4, 3), Conv2D(4, 3)])
    assert error.value.__notes__ == [
        "Raised by layer 'conv2d_2' of model 'sequential' for inputs of shape (None, 2, 2, 4)."
    ]


@pytest.mark.parametrize("argument", ["kernel_initializer", "bias_initializer"])
def test_unknown_initializers_are_refused_at_construction(argument):
    with pytest.raises(ValueError) as error:
        Conv2D(8, 3, **{argument: "glorot"})
    assert str(error.value) == (
        "Unknown initializer: 'glorot'. Did you mean 'glorot_normal'? Names that work: 'constant', 'glorot_normal', "
        "'glorot_uniform', 'he_normal', 'he_uniform', 'lecun_normal', 'lecun_uniform', 'ones', 'orthogonal', "
        "'random_normal', 'random_uniform', 'truncated_normal', 'variance_scaling', 'zeros'."
    )
