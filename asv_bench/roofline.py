"""Which limit of the machine binds a pass, and how near it comes (Williams, Waterman and Patterson, CACM 2009)."""

from __future__ import annotations

import math
from typing import Any

from asv_bench import yardsticks
from asv_bench.problems import Layer, make_arrays, make_pass

ITEM_BYTES = {"float32": 4, "float64": 8}


def least_bytes(layer: Layer, dtype: str = "float32") -> int:
    """Return the bytes that any pass has to move: each of the two operands and the result once."""
    return ITEM_BYTES[dtype] * sum(math.prod(shape) for shape in (layer.x_shape, layer.kernel_shape, layer.y_shape))


def place(layer: Layer, seconds: float, peak_gflops: float, gbytes: float, dtype: str = "float32") -> dict[str, Any]:
    """Return a pass's shares of the arithmetic peak and of the bandwidth of memory.

    Parameters
    ----------
    layer : Layer
        What was computed; its work counts taps on padding, as the peers' benchmarks do.
    seconds : float
        Time of the pass.
    peak_gflops, gbytes : float
        The peak in GFLOP/s and the bandwidth in GB/s of the same threads, measured in the same process.
    dtype : str
        Of the arrays and of the peak.

    Returns
    -------
    dict
        ``peak_gflops``, ``gbytes``; ``flop_per_byte``; ``peak_share`` and ``memory_share``; ``bound``, the limit that
        the roofline gives this intensity, ``"peak"`` or ``"memory"``; ``share`` of that limit. Data that stays in
        caches may exceed the bandwidth of memory.
    """
    moved = least_bytes(layer, dtype)
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


def times_of_yardsticks(layer: Layer, direction: str, rounds: int = 9) -> dict[str, float]:
    """Return a pass's time divided by that of yardsticks for the same work: the best of each, measured in turn.

    ``fma_peak``: fused multiply-adds at the peak of one core. ``copy``: moving operands and result once, as a copy of
    memory does. ``matmul``: NumPy's matrix product. Of all, less is better. The process must have one thread, of
    NumPy's product too.
    """
    call = make_pass(layer, direction, make_arrays(layer, direction))
    call()
    seconds, matmul, peak, bandwidth = float("inf"), float("inf"), 0.0, 0.0
    for _ in range(rounds):
        seconds = min(seconds, yardsticks.best_seconds(call, 3))
        peak = max(peak, yardsticks.fma_gflops(repeats=1))
        matmul = min(matmul, yardsticks.matmul_seconds(repeats=1))
        bandwidth = max(bandwidth, yardsticks.copy_gbytes(repeats=1))
    return {
        "fma_peak": seconds * peak / layer.gflop,
        "copy": seconds * bandwidth / (least_bytes(layer) * 1e-9),
        "matmul": seconds / matmul * (2e-9 * yardsticks.MATRIX**3) / layer.gflop,
    }
