"""ONNX Runtime's side of the comparison: forward passes by one-node models."""

from __future__ import annotations

from typing import Any

import numpy as np

from asv_bench.peer import Peer, PeerCall, channels_first, kernel_first
from asv_bench.problems import Arrays, Layer


def model_of(layer: Layer, kernel: np.ndarray) -> bytes:
    """Write a model of one node, Conv or ConvTranspose, with the kernel as a constant."""
    from onnx import TensorProto, helper, numpy_helper

    pads = [lo for lo, _ in layer.padding] + [hi for _, hi in layer.padding]
    options: dict[str, Any] = {
        "strides": list(layer.stride), "dilations": list(layer.dilation), "group": layer.groups, "pads": pads,
    }  # fmt: skip
    if layer.transposed:
        options["output_padding"] = list(layer.output_padding)
    node = helper.make_node("ConvTranspose" if layer.transposed else "Conv", ["x", "w"], ["y"], **options)
    shape = (layer.batch, layer.in_channels, *layer.in_size)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(kernel_first(kernel, layer), "w")
    graph = helper.make_graph([node], "layer", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


class OnnxRuntimePeer(Peer):
    """ONNX Runtime with its CPU provider; the kernel is a constant, as in its use."""

    key, name, module = "onnxruntime", "ONNX Runtime", "onnxruntime"
    distributions = ("onnxruntime",)

    @classmethod
    def is_installed(cls) -> bool:
        """Tell whether it and `onnx`, which writes the model, can be imported."""
        import importlib.util

        return super().is_installed() and importlib.util.find_spec("onnx") is not None

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Run forward passes of up to three spatial axes."""
        self.check_forward_only(layer, direction)
        import onnxruntime

        assert arrays.kernel is not None and arrays.x is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            model_of(layer, arrays.kernel), options, providers=["CPUExecutionProvider"]
        )
        x = channels_first(arrays.x)
        return {"": PeerCall(lambda: session.run(None, {"x": x})[0], lambda y: np.moveaxis(y, 1, -1))}
