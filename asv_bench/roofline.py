"""Which limit of the machine binds a pass, and how near it comes (Williams, Waterman and Patterson, CACM 2009)."""

from __future__ import annotations

import math
from typing import Any

from asv_bench.problems import Layer

ITEM_BYTES = 4


def least_bytes(layer: Layer) -> int:
    """Return the bytes that any pass has to move: each of the two operands and the result once."""
    return ITEM_BYTES * sum(math.prod(shape) for shape in (layer.x_shape, layer.kernel_shape, layer.y_shape))


def place(layer: Layer, seconds: float, peak_gflops: float, gbytes: float) -> dict[str, Any]:
    """Return a pass's shares of the arithmetic peak and of the bandwidth of memory.

    Parameters
    ----------
    layer : Layer
        What was computed; its work counts taps on padding, as the peers' benchmarks do.
    seconds : float
        Time of the pass.
    peak_gflops, gbytes : float
        The peak in GFLOP/s and the bandwidth in GB/s of the same threads, measured in the same process.

    Returns
    -------
    dict
        ``peak_gflops``, ``gbytes``; ``flop_per_byte``; ``peak_share`` and ``memory_share``; ``bound``, the limit that
        the roofline gives this intensity, ``"peak"`` or ``"memory"``; ``share`` of that limit. Data that stays in
        caches may exceed the bandwidth of memory.
    """
    moved = least_bytes(layer)
    intensity = layer.gflop * 1e9 / moved
    shares = {"peak": layer.gflop / seconds / peak_gflops, "memory": moved * 1e-9 / seconds / gbytes}
    bound = "peak" if intensity * gbytes >= peak_gflops else "memory"
    return {
        "peak_gflops": peak_gflops,
        "gbytes": gbytes,
        "flop_per_byte": intensity,
        "peak_share": shares["peak"],
        "memory_share": shares["memory"],
        "bound": bound,
        "share": shares[bound],
    }
