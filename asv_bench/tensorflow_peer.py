"""TensorFlow's side of the comparison: its eager operators on channels-last tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from asv_bench.peer import Peer, PeerCall, UnsupportedByPeerError
from asv_bench.problems import Arrays, Layer


class TensorFlowPeer(Peer):
    """TensorFlow on the CPU: two-dimensional convolutions without groups, all passes."""

    key, name, module = "tensorflow", "TensorFlow", "tensorflow"
    distributions = ("tensorflow", "tensorflow-cpu")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Run the raw operators, which take explicit padding."""
        if layer.transposed or layer.ndim != 2 or layer.groups != 1:
            raise UnsupportedByPeerError("TensorFlow is measured on two-dimensional convolutions without groups")
        import tensorflow as tf

        operators = tf.raw_ops
        options: dict[str, Any] = {
            "strides": [1, *layer.stride, 1],
            "dilations": [1, *layer.dilation, 1],
            "padding": "EXPLICIT",
            "explicit_paddings": [0, 0, *(p for lo_hi in layer.padding for p in lo_hi), 0, 0],
        }
        if direction != "forward" and any(d > 1 for d in layer.dilation):
            raise UnsupportedByPeerError("TensorFlow has no gradient of dilated convolutions on the CPU")
        x, kernel, grad = (None if a is None else tf.constant(a) for a in (arrays.x, arrays.kernel, arrays.grad_y))
        runs = {
            "forward": lambda: operators.Conv2D(input=x, filter=kernel, **options),
            "input_grad": lambda: operators.Conv2DBackpropInput(
                input_sizes=layer.x_shape, filter=kernel, out_backprop=grad, **options
            ),
            "kernel_grad": lambda: operators.Conv2DBackpropFilter(
                input=x, filter_sizes=layer.kernel_shape, out_backprop=grad, **options
            ),
        }
        to_numpy = np.asarray
        return {"": PeerCall(runs[direction], to_numpy)}
