"""PyTorch's side of the comparison: each pass of a layer in every layout worth trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asv_bench.peer import Peer, PeerCall, UnsupportedByPeerError
from asv_bench.problems import Arrays, Layer

LAYOUTS = ("contiguous", "channels_last")


def _as_2d(layer: Layer) -> Layer:
    """A 1-D layer as a 2-D one of height 1: PyTorch has a channels-last memory format from 2-D on only."""
    return replace(
        layer,
        in_size=(1, *layer.in_size),
        kernel=(1, *layer.kernel),
        stride=(1, *layer.stride),
        dilation=(1, *layer.dilation),
        padding=((0, 0), *layer.padding),
        output_padding=(0, *layer.output_padding),
    )


def _check(layer: Layer) -> None:
    if layer.ndim > 3:
        raise UnsupportedByPeerError(f"PyTorch has no {layer.ndim}-D convolution")
    if layer.transposed and any(lo != hi for lo, hi in layer.padding):
        raise UnsupportedByPeerError("PyTorch has no transposed convolution with unequal padding of the two ends")


def _window(starts: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    """The index of a box in the spatial axes of a (batch, channels, *spatial) tensor."""
    return (slice(None), slice(None), *(slice(start, start + size) for start, size in zip(starts, sizes)))


class _Problem:
    """A layer's operands as tensors of one layout, and PyTorch's operators on them."""

    def __init__(self, layer: Layer, arrays: Arrays, layout: str) -> None:
        import torch

        self.torch = torch
        self.added_axis = layer.ndim == 1 and layout == "channels_last"
        self.layer = layer = _as_2d(layer) if self.added_axis else layer
        self.format = torch.contiguous_format
        if layout == "channels_last":
            self.format = torch.channels_last if layer.ndim == 2 else torch.channels_last_3d
        self.uneven = any(lo != hi for lo, hi in layer.padding)
        # torch.nn.functional.pad counts axes from the last.
        self.pads = [p for lo_hi in reversed(layer.padding) for p in lo_hi]
        self.dtype = next(array.dtype for array in (arrays.x, arrays.grad_y) if array is not None)
        self.x = self._activations(arrays.x)
        self.grad_y = self._activations(arrays.grad_y)
        self.weight = self._weight(arrays.kernel)

    def _activations(self, array: np.ndarray | None) -> Any:
        """(batch, *spatial, channels) -> (batch, channels, *spatial); channels last shares the array's memory."""
        if array is None:
            return None
        tensor = self.torch.from_numpy(array)
        if self.added_axis:
            tensor = tensor.unsqueeze(1)
        return tensor.movedim(-1, 1).contiguous(memory_format=self.format)

    def _weight(self, array: np.ndarray | None) -> Any:
        """(*kernel, a, b) -> (b, a, *kernel), which serves plain and transposed layers alike."""
        if array is None:
            array = np.zeros(self.layer.kernel_shape, self.dtype)
        tensor = self.torch.from_numpy(array.reshape(self.layer.kernel_shape))
        return tensor.movedim((-1, -2), (0, 1)).contiguous(memory_format=self.format)

    def _convolution(self, x: Any, padding: list[int]) -> Any:
        layer = self.layer
        return self.torch.convolution(
            x, self.weight, None, layer.stride, padding, layer.dilation, layer.transposed,
            layer.output_padding, layer.groups,
        )  # fmt: skip

    def _backward(self, x: Any, padding: list[int], mask: list[bool]) -> Any:
        layer = self.layer
        return self.torch.ops.aten.convolution_backward(
            self.grad_y, x, self.weight, None, layer.stride, padding, layer.dilation, layer.transposed,
            layer.output_padding, layer.groups, mask,
        )  # fmt: skip

    def _padded_x(self) -> Any:
        return self.torch.nn.functional.pad(self.x, self.pads).contiguous(memory_format=self.format)

    def forward(self) -> dict[str, Callable[[], Any]]:
        """The call; for uneven padding, padding the input and (stride 1) cutting a wider result, as TCNs do."""
        if not self.uneven:
            padding = [lo for lo, _ in self.layer.padding]
            return {"": lambda: self._convolution(self.x, padding)}
        zeros = [0] * self.layer.ndim
        pad = self.torch.nn.functional.pad
        ways: dict[str, Callable[[], Any]] = {"+pad": lambda: self._convolution(pad(self.x, self.pads), zeros)}
        if all(s == 1 for s in self.layer.stride):
            widest = [max(lo_hi) for lo_hi in self.layer.padding]
            starts = [wide - lo for (lo, _), wide in zip(self.layer.padding, widest)]
            window = _window(starts, self.layer.out_size)
            ways["+cut"] = lambda: self._convolution(self.x, widest)[window]
        return ways

    def input_grad(self) -> dict[str, Callable[[], Any]]:
        """Only the shape and format of the input are read, so its memory stays untouched."""
        layer, mask = self.layer, [True, False, False]
        grown = [sum(lo_hi) if self.uneven else 0 for lo_hi in layer.padding]
        sizes = [n + g for n, g in zip(layer.in_size, grown)]
        shape = (layer.batch, layer.in_channels, *sizes)
        x = self.torch.empty(shape, dtype=self.grad_y.dtype, memory_format=self.format)
        if not self.uneven:
            padding = [lo for lo, _ in layer.padding]
            return {"": lambda: self._backward(x, padding, mask)[0]}
        zeros = [0] * layer.ndim
        window = _window([lo for lo, _ in layer.padding], layer.in_size)
        return {"+pad": lambda: self._backward(x, zeros, mask)[0][window]}

    def kernel_grad(self) -> dict[str, Callable[[], Any]]:
        """Uneven padding is not timed: a tape keeps the padded input of the forward pass."""
        mask = [False, True, False]
        if not self.uneven:
            padding = [lo for lo, _ in self.layer.padding]
            return {"": lambda: self._backward(self.x, padding, mask)[1]}
        zeros, x = [0] * self.layer.ndim, self._padded_x()
        return {"+pad": lambda: self._backward(x, zeros, mask)[1]}

    def activations_to_numpy(self, result: Any) -> np.ndarray:
        array = result.movedim(1, -1).numpy()
        return array[:, 0] if self.added_axis else array

    def kernel_to_numpy(self, result: Any) -> np.ndarray:
        array = result.movedim((0, 1), (-1, -2)).numpy()
        return array[0] if self.added_axis else array


def torch_calls(layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
    """Every way to run one pass of a layer in PyTorch, by the name of its layout."""
    _check(layer)
    calls = {}
    for layout in LAYOUTS:
        problem = _Problem(layer, arrays, layout)
        to_numpy = problem.kernel_to_numpy if direction == "kernel_grad" else problem.activations_to_numpy
        for suffix, run in getattr(problem, direction)().items():
            calls[layout + suffix] = PeerCall(run, to_numpy)
    return calls


class TorchPeer(Peer):
    """PyTorch, which uses oneDNN."""

    key, name, module = "torch", "PyTorch", "torch"
    distributions = ("torch",)

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import torch

        torch.set_num_threads(threads)

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Run all passes in both memory formats."""
        return torch_calls(layer, direction, arrays)
