"""OpenVINO's side of the comparison: forward passes by compiled one-node models."""

from __future__ import annotations

import numpy as np

from asv_bench.peer import Peer, PeerCall, channels_first, kernel_first
from asv_bench.problems import Arrays, Layer


class OpenVinoPeer(Peer):
    """OpenVINO's CPU plug-in in float32; the kernel is a constant, as in its use."""

    key, name, module = "openvino", "OpenVINO", "openvino"
    distributions = ("openvino",)

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Run forward passes of up to three spatial axes."""
        self.check_forward_only(layer, direction)
        import openvino
        from openvino import opset13 as ops

        assert arrays.kernel is not None and arrays.x is not None
        weights = kernel_first(arrays.kernel, layer)
        if layer.groups > 1:  # (groups, of the group, ...): the first axis is split
            weights = weights.reshape(layer.groups, weights.shape[0] // layer.groups, *weights.shape[1:])
        x = ops.parameter((layer.batch, layer.in_channels, *layer.in_size), np.float32)
        low, high = [lo for lo, _ in layer.padding], [hi for _, hi in layer.padding]
        sizes = (list(layer.stride), low, high, list(layer.dilation))
        if layer.transposed:
            operator = ops.group_convolution_backprop_data if layer.groups > 1 else ops.convolution_backprop_data
            node = operator(
                x, ops.constant(weights), strides=sizes[0], pads_begin=low, pads_end=high, dilations=sizes[3],
                output_padding=list(layer.output_padding),
            )  # fmt: skip
        else:
            operator = ops.group_convolution if layer.groups > 1 else ops.convolution
            node = operator(x, ops.constant(weights), *sizes)
        settings = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(openvino.Model([node], [x]), "CPU", settings)
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(channels_first(arrays.x)))

        def run() -> np.ndarray:
            request.infer()
            result: np.ndarray = request.get_output_tensor().data
            return result

        return {"": PeerCall(run, lambda y: np.moveaxis(y, 1, -1))}
