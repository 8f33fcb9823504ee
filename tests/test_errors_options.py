"""Sizes, padding and padding modes that make no sense: every message in full."""

from __future__ import annotations

import pytest
from refusals import assert_refused, z

import numbaconv as nc

SIZES = [
    (
        lambda: nc.conv(z(1, 0, 5, 4), z(3, 3, 4, 8)),
        ValueError,
        "`x` must not be empty except in its batch axis. Received x.shape=(1, 0, 5, 4), with size 0 at axis 1. "
        "Every other size must be >= 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 0), z(3, 3, 4, 8)),
        ValueError,
        "`x` must not be empty except in its batch axis. Received x.shape=(1, 5, 5, 0), with size 0 at axis 3. "
        "Every other size must be >= 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 0, 4, 8)),
        ValueError,
        "`kernel` must not be empty. Received kernel.shape=(3, 0, 4, 8), with size 0 at axis 1. Every size must "
        "be >= 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 0)),
        ValueError,
        "`kernel` must not be empty. Received kernel.shape=(3, 3, 4, 0), with size 0 at axis 3. Every size must "
        "be >= 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), strides=0),
        ValueError,
        "The `strides` argument must be a tuple of 2 integers. Received strides=0, including values {0} that do "
        "not satisfy `value > 0`. Pass one integer >= 1, or a tuple of 2, one per spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), strides=(1, -2)),
        ValueError,
        "The `strides` argument must be a tuple of 2 integers. Received strides=(1, -2), including values {-2} "
        "that do not satisfy `value > 0` at spatial axis 1. Pass one integer >= 1, or a tuple of 2, one per "
        "spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), strides=(1, 2, 3)),
        ValueError,
        "The `strides` argument must be a tuple of 2 integers. Received strides=(1, 2, 3), which has 3 elements. "
        "Pass one integer >= 1, or a tuple of 2, one per spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), strides=1.5),
        TypeError,
        "The `strides` argument must be a tuple of 2 integers. Received strides=1.5, of type float. Pass one "
        "integer >= 1, or a tuple of 2, one per spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), strides="2"),
        TypeError,
        "The `strides` argument must be a tuple of 2 integers. Received strides='2', of type str. Pass one "
        "integer >= 1, or a tuple of 2, one per spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), dilation_rate=0),
        ValueError,
        "The `dilation_rate` argument must be a tuple of 2 integers. Received dilation_rate=0, including values "
        "{0} that do not satisfy `value > 0`. Pass one integer >= 1, or a tuple of 2, one per spatial axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), dilation_rate=(1, 2.0)),
        TypeError,
        "The `dilation_rate` argument must be a tuple of 2 integers. Received dilation_rate=(1, 2.0), including "
        "element 2.0 of type float at spatial axis 1. Pass one integer >= 1, or a tuple of 2, one per spatial "
        "axis.",
    ),
    (
        lambda: nc.conv_transpose(z(1, 5, 5, 4), z(3, 3, 8, 4), strides=2, output_padding=(1, 2)),
        ValueError,
        "`output_padding` must be strictly less than `strides` for all dimensions. At dimension 1, "
        "`output_padding` is 2 but `strides` is 2. Received: output_padding=(1, 2), strides=(2, 2). Use 0 to 1 "
        "there, or None.",
    ),
    (
        lambda: nc.conv_transpose(z(1, 5, 5, 4), z(3, 3, 8, 4), strides=2, output_padding=-1),
        ValueError,
        "The `output_padding` argument must be a tuple of 2 integers. Received output_padding=-1, including "
        "values {-1} that do not satisfy `value >= 0`. Pass one integer >= 0, or a tuple of 2, one per spatial "
        "axis.",
    ),
    (
        lambda: nc.conv_input_grad(z(1, 3, 3, 8), z(3, 3, 4, 8), (1, 5.0, 5, 4)),
        TypeError,
        "`input_shape` must be a tuple of integers. Received input_shape=(1, 5.0, 5, 4)",
    ),
    (
        lambda: nc.conv_input_grad(z(1, 3, 3, 8), z(3, 3, 4, 8), (1, -5, 5, 4)),
        ValueError,
        "`input_shape` must hold sizes >= 0. Received input_shape=(1, -5, 5, 4), with -5 at axis 1.",
    ),
    (
        lambda: nc.max_pool(z(1, 5, 0), 2),
        ValueError,
        "`x` must not be empty except in its batch axis. Received x.shape=(1, 5, 0), with size 0 at axis 2. "
        "Every other size must be >= 1.",
    ),
    (
        lambda: nc.max_pool(z(1, 5, 4), 0),
        ValueError,
        "The `pool_size` argument must be a tuple of 1 integers. Received pool_size=0, including values {0} that "
        "do not satisfy `value > 0`. Pass one integer >= 1, or a tuple of 1, one per spatial axis.",
    ),
    (
        lambda: nc.max_pool(z(1, 5, 4), 2, strides=0),
        ValueError,
        "The `strides` argument must be a tuple of 1 integers. Received strides=0, including values {0} that do "
        "not satisfy `value > 0`. Pass one integer >= 1, or a tuple of 1, one per spatial axis.",
    ),
    (
        lambda: nc.adaptive_max_pool(z(1, 5, 4), 0),
        ValueError,
        "The `output_size` argument must be a tuple of 1 integers. Received output_size=0, including values {0} "
        "that do not satisfy `value > 0`. Pass one integer >= 1, or a tuple of 1, one per spatial axis.",
    ),
]

PADDING = [
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding="full"),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding='full' for 2 spatial axes: 'full' at spatial axis 0 is not a known name. Pass a string, one "
        "integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=("same", "full")),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=('same', 'full') for 2 spatial axes: 'full' at spatial axis 1 is not a known name. Pass a "
        "string, one integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=-1),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: padding=-1 "
        "for 2 spatial axes: -1 at spatial axis 0 is negative. Pass a string, one integer >= 0, or a tuple with "
        "a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=((1, -1), 0)),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=((1, -1), 0) for 2 spatial axes: (1, -1) at spatial axis 0 is negative. Pass a string, one "
        "integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=(1, 1, 1)),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=(1, 1, 1) for 2 spatial axes: it has 3 elements, not 2. Pass a string, one integer >= 0, or a "
        "tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=((1, 1, 1), 0)),
        ValueError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=((1, 1, 1), 0) for 2 spatial axes: (1, 1, 1) at spatial axis 0 is not a pair (lo, hi). Pass a "
        "string, one integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=1.0),
        TypeError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=1.0 for 2 spatial axes: a float is no padding. Pass a string, one integer >= 0, or a tuple with "
        "a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=((1, 1.5), 0)),
        TypeError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=((1, 1.5), 0) for 2 spatial axes: (1, 1.5) at spatial axis 0 is not a pair of integers. Pass a "
        "string, one integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 4), z(3, 4, 8), padding=(None,)),
        TypeError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=(None,) for 1 spatial axis: None of type NoneType at spatial axis 0 is no padding. Pass a "
        "string, one integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=None),
        TypeError,
        "The `padding` argument must be a list/tuple or one of {'valid', 'same', 'causal'}. Received: "
        "padding=None for 2 spatial axes: a NoneType is no padding. Pass a string, one integer >= 0, or a tuple "
        "with a string, an integer or a pair (lo, hi) for each axis.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding_mode="mirror"),
        ValueError,
        "The `padding_mode` argument must be one of {'zeros', 'reflect', 'replicate', 'circular'} or a tuple of "
        "2 of them. Received: padding_mode='mirror', including 'mirror' at spatial axis 0.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding_mode=("zeros", "wrap")),
        ValueError,
        "The `padding_mode` argument must be one of {'zeros', 'reflect', 'replicate', 'circular'} or a tuple of "
        "2 of them. Received: padding_mode=('zeros', 'wrap'), including 'wrap' at spatial axis 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding_mode=("zeros",)),
        ValueError,
        "The `padding_mode` argument must be one of {'zeros', 'reflect', 'replicate', 'circular'} or a tuple of "
        "2 of them. Received: padding_mode=('zeros',), which has 1 elements.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding_mode=None),
        TypeError,
        "The `padding_mode` argument must be one of {'zeros', 'reflect', 'replicate', 'circular'} or a tuple of "
        "2 of them. Received: padding_mode=None, of type NoneType.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=(1, (0, 5)), padding_mode="reflect"),
        ValueError,
        "padding_mode='reflect' needs a padding smaller than the input size. Received padding (0, 5) on an input "
        "of size 5 at spatial axis 1, which has 4 values to copy. Pad by at most 4 there, or use "
        "padding_mode='replicate' or 'zeros', which take any padding.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), padding=((6, 0), 1), padding_mode=("circular", "zeros")),
        ValueError,
        "padding_mode='circular' needs a padding at most the input size. Received padding (6, 0) on an input of "
        "size 5 at spatial axis 0, which has 5 values to copy. Pad by at most 5 there, or use "
        "padding_mode='replicate' or 'zeros', which take any padding.",
    ),
    (
        lambda: nc.conv(z(1, 1, 5, 4), z(1, 3, 4, 8), padding=1, padding_mode="reflect"),
        ValueError,
        "padding_mode='reflect' needs a padding smaller than the input size. Received padding (1, 1) on an input "
        "of size 1 at spatial axis 0, which has 0 values to copy. Pad by at most 0 there, or use "
        "padding_mode='replicate' or 'zeros', which take any padding.",
    ),
]


@pytest.mark.parametrize("call, error, message", [*SIZES, *PADDING])
def test_message(call, error, message, monkeypatch):
    assert_refused(monkeypatch, call, error, message)
