"""Shapes that do not fit each other: every message in full, raised before the engine is reached."""

from __future__ import annotations

import pytest
from refusals import assert_refused, z

import numbaconv as nc

RANKS_AND_CHANNELS = [
    (
        lambda: nc.conv(z(1, 5, 5), z(3, 3, 3, 8)),
        ValueError,
        "Kernel shape must have the same length as input, but received kernel of shape (3, 3, 3, 8) and input of "
        "shape (1, 5, 5). A kernel (*kernel_size, in_channels // groups, filters) with 2 spatial axes needs an x "
        "(batch, *spatial, channels) of 4 axes, not 3.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 3), z(3, 3, 8)),
        ValueError,
        "Kernel shape must have the same length as input, but received kernel of shape (3, 3, 8) and input of "
        "shape (1, 5, 5, 3). A kernel (*kernel_size, in_channels // groups, filters) with 1 spatial axis needs "
        "an x (batch, *spatial, channels) of 3 axes, not 4.",
    ),
    (
        lambda: nc.conv(z(5, 3), z(3, 8)),
        ValueError,
        "`kernel` must have at least one spatial axis and the shape (*kernel_size, in_channels // groups, "
        "filters). Received kernel.shape=(3, 8), with 2 axes; reshape it to 3 or more.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 3, 8)),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 3, 8) needs 3: kernel.shape[-2] * groups = 3 * 1. Pass an x with 3 channels or a kernel made for "
        "4.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 2, 8)),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 2, 8) needs 2: kernel.shape[-2] * groups = 2 * 1. With this kernel, groups=2 would fit.",
    ),
    (
        lambda: nc.conv(z(1, 3, 5, 5), z(3, 3, 3, 8)),
        ValueError,
        "`x` of shape (1, 3, 5, 5) has 5 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 3, 8) needs 3: kernel.shape[-2] * groups = 3 * 1. Axis 1 of x has 3: "
        "data_format='channels_first' would fit.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 3), z(3, 3, 3, 8), data_format="channels_first"),
        ValueError,
        "`x` of shape (1, 5, 5, 3) has 5 channels (axis 1, data_format='channels_first'), but `kernel` of shape "
        "(3, 3, 3, 8) needs 3: kernel.shape[-2] * groups = 3 * 1. Axis 3 of x has 3: data_format='channels_last' "
        "would fit.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), data_format="NHWC"),
        ValueError,
        "The `data_format` argument must be one of {'channels_first', 'channels_last'}. Received: data_format='NHWC'",
    ),
    (
        lambda: nc.depthwise_conv(z(1, 5, 5, 4), z(3, 3, 3, 2)),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 3, 2) needs 3: kernel.shape[-2] must be the number of input channels. Pass an x with 3 channels "
        "or a kernel made for 4.",
    ),
    (
        lambda: nc.separable_conv(z(1, 5, 5, 4), z(3, 3, 4, 2), z(1, 1, 4, 6)),
        ValueError,
        "`pointwise_kernel` must have one tap per spatial axis and in_channels * depth_multiplier input "
        "channels: shape (1, 1, 8, filters) for a depthwise_kernel of shape (3, 3, 4, 2). Received "
        "pointwise_kernel.shape=(1, 1, 4, 6).",
    ),
    (
        lambda: nc.separable_conv(z(1, 5, 5, 4), z(3, 3, 4, 2), z(3, 3, 8, 6)),
        ValueError,
        "`pointwise_kernel` must have one tap per spatial axis and in_channels * depth_multiplier input "
        "channels: shape (1, 1, 8, filters) for a depthwise_kernel of shape (3, 3, 4, 2). Received "
        "pointwise_kernel.shape=(3, 3, 8, 6).",
    ),
    (
        lambda: nc.conv_transpose(z(1, 5, 5, 4), z(3, 3, 4, 8)),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 4, 8) needs 8: kernel.shape[-1] must be the number of input channels of a transposed "
        "convolution. kernel.shape[-2] has that many: write np.swapaxes(kernel, -1, -2) for a kernel laid out "
        "for conv.",
    ),
    (
        lambda: nc.conv_transpose(z(1, 5, 5, 4), z(3, 3, 6, 8)),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 6, 8) needs 8: kernel.shape[-1] must be the number of input channels of a transposed "
        "convolution. Pass an x with 8 channels or a kernel made for 4.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), z(4)),
        ValueError,
        "`bias` must have one value per filter, shape (8,). Received bias.shape=(4,). Pass 8 values.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), z(1, 8)),
        ValueError,
        "`bias` must have one value per filter, shape (8,). Received bias.shape=(1, 8). Write bias.reshape(-1).",
    ),
    (
        lambda: nc.conv_input_grad(z(1, 4, 3, 8), z(3, 3, 4, 8), (1, 5, 5, 4)),
        ValueError,
        "`grad_y` must have the shape of the convolution's result. Received grad_y.shape=(1, 4, 3, 8), but an x "
        "of shape (1, 5, 5, 4) and a kernel of shape (3, 3, 4, 8) give (1, 3, 3, 8) (spatial axes: floor((5 + 0 "
        "+ 0 - 3) / 1) + 1 = 3, floor((5 + 0 + 0 - 3) / 1) + 1 = 3).",
    ),
    (
        lambda: nc.conv_kernel_grad(z(1, 5, 5, 4), z(1, 3, 3, 8), (5, 3, 4, 8)),
        ValueError,
        "`grad_y` must have the shape of the convolution's result. Received grad_y.shape=(1, 3, 3, 8), but an x "
        "of shape (1, 5, 5, 4) and a kernel of shape (5, 3, 4, 8) give (1, 1, 3, 8) (spatial axes: floor((5 + 0 "
        "+ 0 - 5) / 1) + 1 = 1, floor((5 + 0 + 0 - 3) / 1) + 1 = 3).",
    ),
    (
        lambda: nc.max_pool(z(5, 4), 2),
        ValueError,
        "`x` must have at least one spatial axis beside batch and channels. Received x.shape=(5, 4), with 2 "
        "axes; pooling needs 3 or more.",
    ),
]

GROUPS = [
    (
        lambda: nc.conv(z(1, 5, 5, 3), z(3, 3, 1, 8), groups=2),
        ValueError,
        "The number of input channels must be evenly divisible by the number of groups. Received groups=2, but "
        "the input has 3 channels (full input shape is (1, 5, 5, 3)). Groups that fit: 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 2, 9), groups=2),
        ValueError,
        "The number of filters must be evenly divisible by the number of groups. Received: groups=2, filters=9. "
        "Groups that fit: 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 8), z(3, 3, 4, 9), groups=3),
        ValueError,
        "The number of input channels must be evenly divisible by the number of groups. Received groups=3, but "
        "the input has 8 channels (full input shape is (1, 5, 5, 8)). Groups that fit: 1.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), groups=2),
        ValueError,
        "`x` of shape (1, 5, 5, 4) has 4 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 4, 8) needs 8: kernel.shape[-2] * groups = 4 * 2. With this kernel, groups=1 would fit.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 8), z(3, 3, 3, 8), groups=2),
        ValueError,
        "`x` of shape (1, 5, 5, 8) has 8 channels (axis 3, data_format='channels_last'), but `kernel` of shape "
        "(3, 3, 3, 8) needs 6: kernel.shape[-2] * groups = 3 * 2. With groups=2, kernel.shape[-2] must be 8 // 2 "
        "= 4.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), groups=0),
        ValueError,
        "The number of groups must be a positive integer. Received: groups=0.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), groups=-2),
        ValueError,
        "The number of groups must be a positive integer. Received: groups=-2.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), groups=1.5),
        TypeError,
        "The number of groups must be a positive integer. Received: groups=1.5, of type float.",
    ),
    (
        lambda: nc.conv_transpose(z(1, 5, 5, 3), z(3, 3, 4, 3), groups=2),
        ValueError,
        "The number of input channels must be evenly divisible by the number of groups. Received groups=2, but "
        "the input has 3 channels (full input shape is (1, 5, 5, 3)). Groups that fit: 1, 3.",
    ),
]

EMPTY_RESULTS = [
    (
        lambda: nc.conv(z(1, 5, 4, 4), z(3, 5, 4, 8)),
        ValueError,
        "Computed output size would be zero or negative. Received `inputs shape=(1, 5, 4, 4)`, `kernel shape=(3, "
        "5, 4, 8)`, `dilation_rate=1`, `strides=1`, `padding=valid`. At spatial axis 1: floor((4 + 0 + 0 - 5) / "
        "1) + 1 = 0. The kernel, which spans 5 with its dilation, must be at most the padded input, 4: use "
        "padding='same', pad by 1 more, or pass an input of size >= 5 there.",
    ),
    (
        lambda: nc.conv(z(1, 5, 5, 4), z(3, 3, 4, 8), dilation_rate=(3, 1), strides=2, padding=((0, 1), "same")),
        ValueError,
        "Computed output size would be zero or negative. Received `inputs shape=(1, 5, 5, 4)`, `kernel shape=(3, "
        "3, 4, 8)`, `dilation_rate=(3, 1)`, `strides=2`, `padding=((0, 1), 'same')`. At spatial axis 0: floor((5 "
        "+ 0 + 1 - 7) / 2) + 1 = 0. The kernel, which spans 7 with its dilation, must be at most the padded "
        "input, 6: use padding='same', pad by 1 more, or pass an input of size >= 6 there.",
    ),
    (
        lambda: nc.conv_transpose(z(1, 1, 5, 4), z(3, 3, 8, 4), padding=2),
        ValueError,
        "Computed output size would be zero or negative. Received `inputs shape=(1, 1, 5, 4)`, `kernel shape=(3, "
        "3, 8, 4)`, `dilation_rate=1`, `strides=1`, `padding=2`, `output_padding=None`. At spatial axis 0: (1 - "
        "1) * 1 + 3 = 3 is cropped by 2 + 2, which leaves -1. Crop less, or raise `output_padding`.",
    ),
    (
        lambda: nc.max_pool(z(1, 5, 4), 6),
        ValueError,
        "Computed output size would be zero or negative. Received `inputs shape=(1, 5, 4)`, `pool_size=6`, "
        "`strides=None`, `padding=valid`. At spatial axis 0: floor((5 + 0 + 0 - 6) / 6) + 1 = 0. The window must "
        "be at most the padded input, 5: use padding='same' or a pool_size of at most 5 there.",
    ),
    (
        lambda: nc.average_pool(z(1, 5, 4), 2, padding=2),
        ValueError,
        "`padding` of a pooling must be smaller than its `pool_size`, or a window would hold no value. Received "
        "padding=2, which is (2, 2) at spatial axis 0 where pool_size is 2. Pad by at most 1 there.",
    ),
]


@pytest.mark.parametrize("call, error, message", [*RANKS_AND_CHANNELS, *GROUPS, *EMPTY_RESULTS])
def test_message(call, error, message, monkeypatch):
    assert_refused(monkeypatch, call, error, message)
