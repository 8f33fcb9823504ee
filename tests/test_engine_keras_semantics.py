"""Meanings that Keras and TensorFlow gave the options, pinned by numbers worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc

pytestmark = pytest.mark.usefixtures("direct_only")


def line(*values):
    """One batch and one channel of 1-D samples."""
    return np.array(values, dtype=np.float32).reshape(1, -1, 1)


TAPS = np.array([1, 10, 100], dtype=np.float32).reshape(3, 1, 1)


@pytest.mark.parametrize(
    ("samples", "options", "expected"),
    [
        # out = ceil(n / s); total = max((out - 1) * s + k - n, 0); the odd unit goes to the end.
        ([1, 2, 3, 4, 5], {"padding": "same"}, [210, 321, 432, 543, 54]),
        ([1, 2, 3, 4, 5], {"padding": "same", "strides": 2}, [210, 432, 54]),
        ([1, 2, 3, 4], {"padding": "same", "strides": 2}, [321, 43]),
        ([1, 2, 3, 4], {"padding": "same", "strides": 4}, [321]),
        ([1, 2, 3, 4], {"padding": "same", "dilation_rate": 2}, [310, 420, 31, 42]),
        ([1, 2, 3, 4, 5, 6], {"padding": "same", "strides": 3}, [321, 654]),
        # Causal: dilation * (k - 1) zeros in front, none behind; floor((n - 1) / s) + 1 outputs.
        ([1, 2, 3, 4, 5], {"padding": "causal"}, [100, 210, 321, 432, 543]),
        ([1, 2, 3, 4, 5], {"padding": "causal", "strides": 2}, [100, 321, 543]),
        ([1, 2, 3, 4], {"padding": "causal", "dilation_rate": 2}, [100, 200, 310, 420]),
        ([1, 2, 3, 4, 5, 6], {"padding": "valid", "strides": 2}, [321, 543]),
        ([1, 2, 3, 4, 5, 6], {"padding": "valid", "strides": 2, "dilation_rate": 2}, [531]),
    ],
)
def test_convolution(samples, options, expected):
    assert_array_equal(nc.conv(line(*samples), TAPS, **options).ravel(), expected)


def test_same_with_an_even_kernel_pads_the_end():
    kernel = np.array([1, 10], dtype=np.float32).reshape(2, 1, 1)
    assert_array_equal(nc.conv(line(1, 2, 3), kernel, padding="same").ravel(), [21, 32, 3])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # "valid": (n - 1) * s + max(k, s) outputs.
        ({}, [1, 12, 120, 200]),
        ({"strides": 2}, [1, 10, 102, 20, 200]),
        ({"strides": 4}, [1, 10, 100, 0, 2, 20, 200, 0]),
        ({"strides": 2, "output_padding": 1}, [1, 10, 102, 20, 200, 0]),
        # "same": n * s outputs, each where a "same" convolution of that stride would read it.
        ({"padding": "same"}, [12, 120]),
        ({"padding": "same", "strides": 2}, [1, 10, 102, 20]),
        ({"padding": "same", "strides": 3}, [1, 10, 100, 2, 20, 200]),
        ({"padding": "same", "strides": 5}, [1, 10, 100, 0, 0, 2, 20, 200, 0, 0]),
        # "same" with output_padding: (n - 1) * s + k % 2 + output_padding outputs.
        ({"padding": "same", "strides": 2, "output_padding": 0}, [10, 102, 20]),
        ({"padding": "same", "strides": 2, "output_padding": 1}, [1, 10, 102, 20]),
        # Explicit padding cuts the output, as in PyTorch and ONNX.
        ({"padding": 1, "strides": 2}, [10, 102, 20]),
        ({"padding": 1, "strides": 2, "output_padding": 1}, [10, 102, 20, 200]),
        ({"padding": ((0, 2),), "strides": 2}, [1, 10, 102]),
    ],
)
def test_transposed_convolution(options, expected):
    assert_array_equal(nc.conv_transpose(line(1, 2), TAPS, **options).ravel(), expected)


def test_transposed_same_with_an_even_kernel():
    kernel = np.array([1, 10, 100, 1000], dtype=np.float32).reshape(4, 1, 1)
    y = nc.conv_transpose(line(1, 2), kernel, strides=2, padding="same")
    assert_array_equal(y.ravel(), [10, 100 + 2, 1000 + 20, 200])


def test_depthwise_channel_order_is_channel_times_multiplier_plus_m():
    x = np.array([1, 2], dtype=np.float32).reshape(1, 1, 2)
    kernel = np.array([[3, 5], [7, 11]], dtype=np.float32).reshape(1, 2, 2)
    assert_array_equal(nc.depthwise_conv(x, kernel).ravel(), [3, 5, 14, 22])


def test_average_pool_does_not_count_padding():
    x = line(3, 1, -2, -5, 4)
    assert_array_equal(nc.average_pool(x, 2, padding="same").ravel(), [2, -3.5, 4])
    assert_array_equal(nc.average_pool(x, 3, strides=2, padding=1).ravel(), [2, -2, -0.5])
    plane = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    assert_array_equal(nc.average_pool(plane, 2, padding="same").ravel(), [2, 3.5, 6.5, 8])


def test_max_pool_ignores_padding():
    assert_array_equal(nc.max_pool(line(-3, -1, -2), 2, padding="same").ravel(), [-1, -2])
    assert_array_equal(nc.max_pool(line(-3, -1, -2), 3, strides=1, padding="same").ravel(), [-1, -1, -1])


def test_pool_strides_default_to_the_pool_size():
    assert nc.max_pool(np.zeros((1, 9, 7, 2), np.float32), (3, 2)).shape == (1, 3, 3, 2)
