"""Peers beside PyTorch: which there are, and how a pass is measured beside one of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asv_bench.measure import interleave
from asv_bench.peer import Peer, UnsupportedByPeerError, relative_error
from asv_bench.problems import Arrays, Layer

PEERS = {
    "onnxruntime": "onnxruntime_peer:OnnxRuntimePeer",
    "openvino": "openvino_peer:OpenVinoPeer",
    "jax": "jax_peer:JaxPeer",
    "tensorflow": "tensorflow_peer:TensorFlowPeer",
}


def peer_class(key: str) -> type[Peer]:
    """Return the class of a peer; its library is not imported."""
    module, _, name = PEERS[key].partition(":")
    found: type[Peer] = getattr(importlib.import_module(f"asv_bench.{module}"), name)
    return found


def start(names: Sequence[str], threads: int) -> list[Peer]:
    """Return the peers named, ready to run; `installed` stands for those whose libraries are there."""
    if list(names) == ["installed"]:
        names = [key for key in PEERS if peer_class(key).is_installed()]
    peers = []
    for key in names:
        if key not in PEERS:
            raise ValueError(f"--peers: {key!r} is not one of {', '.join(PEERS)}, or installed")
        kind = peer_class(key)
        if not kind.is_installed():
            needed = "onnxruntime onnx" if key == "onnxruntime" else key
            raise ValueError(f"--peers: {kind.name} is not installed: pip install {needed}, or leave {key} out")
        peers.append(kind(threads))
    return peers


def measure(
    peer: Peer,
    layer: Layer,
    direction: str,
    arrays: Arrays,
    ours: Callable[[], np.ndarray],
    budget: float,
    rounds: int | None,
) -> dict[str, Any]:
    """Compare values, then times, of one pass beside one peer."""
    try:
        calls = peer.calls(layer, direction, arrays)
        result = ours()
        error = max(relative_error(result, call.to_numpy(call.run())) for call in calls.values())
    except UnsupportedByPeerError as reason:
        return {"skipped": str(reason)}
    our_time, times = interleave(ours, {key: call.run for key, call in calls.items()}, budget=budget, rounds=rounds)
    best = min(times.values(), key=lambda timing: timing.median)
    return {"ratio": best.median / our_time.median, "ms": best.median * 1e3, "error": error}
