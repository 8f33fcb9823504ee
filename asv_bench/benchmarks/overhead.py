"""What a call costs beside its arithmetic: each function on arrays so small that hardly any is left."""

from __future__ import annotations

import itertools
import time

import numpy as np

import numbaconv as nc

X = np.ones((1, 4, 4, 8), np.float32)
KERNEL = np.ones((3, 3, 8, 8), np.float32)
BIAS = np.ones(8, np.float32)
DEPTHWISE = np.ones((3, 3, 8, 1), np.float32)

CALLS = {
    "conv": lambda: nc.conv(X, KERNEL, padding="same"),
    "conv_bias_relu": lambda: nc.conv(X, KERNEL, BIAS, padding="same", activation="relu"),
    "conv_list_of_strides": lambda: nc.conv(X, KERNEL, strides=[1, 1], padding="same"),
    "conv_input_grad": lambda: nc.conv_input_grad(X, KERNEL, X.shape, padding="same"),
    "conv_kernel_grad": lambda: nc.conv_kernel_grad(X, X, KERNEL.shape, padding="same"),
    "conv_transpose": lambda: nc.conv_transpose(X, KERNEL, padding="same"),
    "depthwise_conv": lambda: nc.depthwise_conv(X, DEPTHWISE, padding="same"),
    "max_pool": lambda: nc.max_pool(X, 2),
    "average_pool": lambda: nc.average_pool(X, 2),
}


class Overhead:
    """A call like an earlier one; with a list among its options it is resolved and checked anew."""

    params = [list(CALLS)]
    param_names = ("function",)

    def setup(self, name):
        self.call = CALLS[name]
        self.call()

    def time_call(self, name):
        self.call()

    time_call.version = "1"


class NewShape:
    """The first call on a shape, which is planned."""

    # Every round is set up with a size of its own, so that each call is a first one.
    number, repeat, rounds, warmup_time = 1, (5, 40, 5.0), 1, 0
    params = (["conv", "conv_input_grad", "conv_kernel_grad"], [(3, 64), (64, 64)])
    param_names = ("function", "channels")
    sizes = itertools.count(9)

    def setup(self, name, channels):
        before, after = channels
        size = next(self.sizes)
        kernel = np.ones((3, 3, before, after), np.float32)
        x, y = (np.ones((1, 8, size, count), np.float32) for count in channels)
        nc.conv(np.ones((1, 8, 8, before), np.float32), kernel, padding="same")
        self.call = {
            "conv": lambda: nc.conv(x, kernel, padding="same"),
            "conv_input_grad": lambda: nc.conv_input_grad(y, kernel, x.shape, padding="same"),
            "conv_kernel_grad": lambda: nc.conv_kernel_grad(x, y, kernel.shape, padding="same"),
        }[name]

    def time_first_call(self, name, channels):
        self.call()

    time_first_call.version = "1"


class AfterPause:
    """A call of two threads after a pause in which both have gone to sleep, as of a server between requests."""

    number, repeat, rounds, warmup_time = 1, (20, 40, 10.0), 1, 0
    params = [[0.0, 0.05]]
    param_names = ("seconds",)

    def setup(self, seconds):
        x, kernel = np.ones((1, 14, 14, 256), np.float32), np.ones((3, 3, 256, 1), np.float32)
        self.call = lambda: nc.depthwise_conv(x, kernel, padding="same")
        for _ in range(3):
            self.call()
        time.sleep(seconds)

    def time_call(self, seconds):
        self.call()

    time_call.version = "1"
