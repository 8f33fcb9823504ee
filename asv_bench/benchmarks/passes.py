"""Seconds of each pass on layers of networks people use, by their names in `shapes.json`."""

from __future__ import annotations

from asv_bench.problems import PASSES, load_layers, make_arrays, make_pass

# One of each kind: plain, strided, pointwise, depthwise 2-D and 3-D, grouped, dilated 1-D, few channels, transposed.
REPRESENTATIVE = (
    "rn18_l1_bs1",
    "rn18_l2_s2",
    "mbv1_pw7",
    "mbv2_dw_144",
    "x3d_dw",
    "resnext101_g32",
    "tcn_k3_d16",
    "speech_s2",
    "rn20_cifar_16",
    "dcgan_g5",
    "convT3d_op1",
    "lenet5_c1_bs1",
)


class Layers:
    """A pass of a layer in a process that has run it before."""

    params = (REPRESENTATIVE, PASSES)
    param_names = ("layer", "pass")
    timeout = 300

    def setup(self, name, direction):
        (layer,) = load_layers(only=[name])
        self.call = make_pass(layer, direction, make_arrays(layer, direction))
        self.call()

    def time_pass(self, name, direction):
        self.call()

    time_pass.version = "1"


class Double:
    """The same in float64, on a strided, a pointwise, a depthwise and a one-dimensional layer."""

    params = (("rn18_l2_s2", "mbv1_pw7", "mbv2_dw_144", "tcn_k3_d16"), PASSES)
    param_names = ("layer", "pass")
    timeout = 300

    def setup(self, name, direction):
        (layer,) = load_layers(only=[name])
        self.call = make_pass(layer, direction, make_arrays(layer, direction, "float64"))
        self.call()

    def time_pass(self, name, direction):
        self.call()

    time_pass.version = "1"
