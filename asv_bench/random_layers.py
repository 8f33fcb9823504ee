"""Layers drawn at random: what results on lists of known networks say of others."""

from __future__ import annotations

import math
import random
from typing import Any

from asv_bench.problems import Layer, parse_layer

COUNT = 90

_KINDS = ("ordinary",) * 6 + ("depthwise",) * 2 + ("grouped",) + ("transposed",) * 2
_CHANNELS = (1, 2, 3, 4, 5, 8, 12, 16, 20, 24, 30, 32, 40, 48, 64, 72, 80, 96, 100, 128, 160, 192, 256, 320)
_BATCHES = (1, 1, 2, 4, 8, 16, 32, 64)
_KERNELS = {1: (1, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9), 2: (1, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9), 3: (1, 2, 3, 3, 3, 5)}
_SIZES = {
    1: (50, 100, 128, 400, 1000, 4000),
    2: (7, 10, 14, 16, 20, 28, 32, 40, 56, 64, 100, 128, 224),
    3: (6, 8, 12, 16, 24, 32),
}
# Work that takes some tens of microseconds to some tens of milliseconds, and arrays of 150 MB at most.
_LEAST_GFLOP, _MOST_GFLOP, _MOST_NUMBERS = 0.002, 3.0, 150_000_000 // 4


def _draw(source: random.Random) -> dict[str, Any]:
    """Return the entry of a layer, whose sizes need not fit each other."""
    choice = source.choice
    ndim, kind = choice((1, 2, 2, 2, 2, 2, 3)), choice(_KINDS)
    in_channels, out_channels, groups = choice(_CHANNELS), choice(_CHANNELS), 1
    taps = [choice(_KERNELS[ndim])] * ndim
    if ndim == 2 and source.random() < 0.15:
        taps[choice((0, 1))] = 1
    stride = choice((1, 1, 1, 2, 2, 3))
    dilation = choice((1, 1, 1, 1, 2, 3)) if stride == 1 and kind != "transposed" else 1
    if kind == "depthwise":
        groups, out_channels = in_channels, in_channels * choice((1, 1, 1, 2, 3))
    elif kind == "grouped":
        groups = choice((2, 4, 8))
        in_channels, out_channels = (max(n // groups, 1) * groups for n in (in_channels, out_channels))
    is_padded = choice((True, False))
    return {
        "source": kind, "batch": choice(_BATCHES), "in_channels": in_channels, "out_channels": out_channels,
        "in_size": [choice(_SIZES[ndim])] * ndim, "kernel": taps, "stride": [stride] * ndim,
        "dilation": [dilation] * ndim, "padding": [is_padded * dilation * (n - 1) // 2 for n in taps],
        "groups": groups, "transposed": kind == "transposed",
    }  # fmt: skip


def _is_measured(layer: Layer) -> bool:
    numbers = math.prod(layer.x_shape) + layer.batch * math.prod(layer.out_size) * layer.out_channels
    return min(layer.out_size) > 0 and _LEAST_GFLOP < layer.gflop < _MOST_GFLOP and numbers < _MOST_NUMBERS


def draw_layers(seed: int, count: int = COUNT) -> list[Layer]:
    """Return so many layers, the same for a seed everywhere."""
    source, layers = random.Random(seed), list[Layer]()
    while len(layers) < count:
        entry = _draw(source)
        sizes = "x".join(map(str, entry["in_size"])), "x".join(map(str, entry["kernel"]))
        steps = f"s{entry['stride'][0]}d{entry['dilation'][0]}p{entry['padding'][0]}"
        channels = f"{entry['in_channels']}-{entry['out_channels']}"
        name = f"{len(layers)}_{entry['source'][:2]}_b{entry['batch']}_{channels}_{sizes[0]}_k{sizes[1]}_{steps}"
        layer = parse_layer(entry | {"name": name})
        if _is_measured(layer):
            layers.append(layer)
    return layers
