"""What every peer of the comparison is: a library that runs passes of layers on the same cores."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from asv_bench.problems import Arrays, Layer


class UnsupportedByPeerError(ValueError):
    """A layer or pass that a peer has no operator for."""


@dataclass(frozen=True)
class PeerCall:
    """One way to run a pass: `run` is what is timed, `to_numpy` brings its result to our layout."""

    run: Callable[[], Any]
    to_numpy: Callable[[Any], np.ndarray]


class Peer:
    """A library; subclasses say how it runs a pass.

    `module` is what must be importable, `distribution` what its version is asked of, `name` how reports call it.
    """

    key: ClassVar[str]
    name: ClassVar[str]
    module: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]

    @classmethod
    def is_installed(cls) -> bool:
        """Tell whether the library can be imported."""
        return importlib.util.find_spec(cls.module) is not None

    @classmethod
    def version(cls) -> str:
        """Return the installed version."""
        for distribution in cls.distributions:
            try:
                return importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    def __init__(self, threads: int) -> None:
        """Give the library so many threads."""
        self.threads = threads

    def check_forward_only(self, layer: Layer, direction: str) -> None:
        """Refuse what a library for inference alone has no operators for."""
        if direction != "forward":
            raise UnsupportedByPeerError(f"{self.name} has no operators for gradients of convolutions")
        if layer.ndim > 3:
            raise UnsupportedByPeerError(f"{self.name} has no {layer.ndim}-D convolution")

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Return every way worth trying to run a pass, by name; raises `UnsupportedByPeerError` where there is none."""
        raise UnsupportedByPeerError(f"{self.name} runs no {direction} of {layer}")


def symmetric_padding(layer: Layer) -> bool:
    """Tell whether both ends of every axis are padded alike."""
    return all(lo == hi for lo, hi in layer.padding)


def channels_first(array: np.ndarray) -> np.ndarray:
    """(batch, *spatial, channels) -> a contiguous (batch, channels, *spatial)."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def kernel_first(array: np.ndarray, layer: Layer) -> np.ndarray:
    """(*kernel, a, b) -> a contiguous (b, a, *kernel)."""
    return np.ascontiguousarray(np.moveaxis(array.reshape(layer.kernel_shape), (-1, -2), (0, 1)))


def relative_error(ours: np.ndarray, peer: np.ndarray) -> float:
    """Return the largest difference divided by the peer's largest magnitude; infinite for other shapes and for NaN."""
    if ours.shape != peer.shape:
        return float("inf")
    difference = scale = 0.0
    for a, b in zip(ours, peer):  # along the first axis, to keep temporaries small
        worst = float(np.max(np.abs(a - b), initial=0.0))
        if not np.isfinite(worst):
            return float("inf")
        difference, scale = max(difference, worst), max(scale, float(np.max(np.abs(b), initial=0.0)))
    return difference / scale if scale > 0 else difference
