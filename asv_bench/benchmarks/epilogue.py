"""Seconds of layers that end in relu, and in the same function written by a user."""

from __future__ import annotations

from functools import partial

import numba

import numbaconv as nc
from asv_bench.problems import load_layers, make_arrays


@numba.njit
def relu(x):
    return max(x, 0)


@numba.njit
def hard_swish(x):
    return x * min(max(x + 3, 0), 6) / 6


ACTIVATIONS = {"relu": "relu", "user_relu": relu, "user_hard_swish": hard_swish}


class Epilogue:
    """A forward pass in a process that has run it before: wide, pointwise, small and depthwise."""

    params = (("rn18_l1_bs1", "mbv1_pw7", "lenet5_c1_bs1", "mbv2_dw_144"), tuple(ACTIVATIONS))
    param_names = ("layer", "activation")
    timeout = 300

    def setup(self, name, activation):
        (layer,) = load_layers(only=[name])
        arrays = make_arrays(layer, "forward")
        self.call = partial(
            nc.conv,
            arrays.x,
            arrays.kernel,
            strides=layer.stride,
            padding=layer.padding,
            dilation_rate=layer.dilation,
            groups=layer.groups,
            activation=ACTIVATIONS[activation],
        )
        self.call()

    def time_forward(self, name, activation):
        self.call()

    time_forward.version = "1"
