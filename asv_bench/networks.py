"""Measure whole networks beside PyTorch: a step of training on a batch, and one image without gradients.

Run as `python -m asv_bench.networks` from the repository's root; `--help` lists the options. Both sides start from the
same weights and get the same threads; they run in the same process, in turn. PyTorch runs eagerly in two memory
layouts, with Adam as it is by default and fused, and the best of these counts. A ratio is PyTorch's median time divided
by numbaconv's: above 1, numbaconv is faster. Outputs and losses are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asv_bench import measure, yardsticks
from asv_bench.peers import describe_machine, is_torch_missing, set_threads

BATCH = 64
CLASSES = 10
LEARNING_RATE = 1e-3
# The loss of every step is compared, so that the weights after the first ones are too. Adam divides by the root of the
# mean square: where that is tiny, rounding of the gradient moves a weight by as much as the gradient does.
COMPARED_STEPS = 3
LARGEST_ERROR = 2e-3


@dataclass(frozen=True)
class Conv:
    """A 2-D convolution of square kernels with bias and relu."""

    filters: int
    size: int
    padding: str = "valid"


@dataclass(frozen=True)
class Pool:
    """The maximum of each window of 2x2."""


@dataclass(frozen=True)
class Dense:
    """A dense layer with bias; all but the last of a network with relu."""

    units: int


Layer = Conv | Pool | Dense

NETWORKS: dict[str, tuple[Layer, ...]] = {
    "small": (Conv(32, 3), Conv(64, 3), Pool(), Dense(128), Dense(CLASSES)),
    # LeCun et al., "Gradient-based learning applied to document recognition" (1998), section II.B, with the relu and
    # the maxima of today.
    "lenet5": (Conv(6, 5, "same"), Pool(), Conv(16, 5), Pool(), Dense(120), Dense(84), Dense(CLASSES)),
}
IMAGE = (28, 28, 1)


def our_network(name: str) -> Any:
    """Return a network of numbaconv, built and compiled."""
    import numbaconv as nc

    layers: list[Any] = [nc.layers.Input(IMAGE)]
    is_flat = False
    for layer in NETWORKS[name]:
        if isinstance(layer, Conv):
            layers.append(nc.layers.Conv2D(layer.filters, layer.size, padding=layer.padding, activation="relu"))
        elif isinstance(layer, Pool):
            layers.append(nc.layers.MaxPooling2D(2))
        else:
            if not is_flat:
                layers.append(nc.layers.Flatten())
                is_flat = True
            layers.append(nc.layers.Dense(layer.units, activation=None if layer.units == CLASSES else "relu"))
    model = nc.Sequential(layers, seed=0)
    loss = nc.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(nc.optimizers.Adam(LEARNING_RATE, epsilon=1e-7), loss)
    return model


def torch_network(name: str, weights: Sequence[np.ndarray]) -> Any:
    """Return the same network of PyTorch with the weights of ours (kernel and bias of each layer in turn)."""
    import torch
    from torch import nn

    arrays = iter(weights)
    modules: list[Any] = []
    height, width, channels = IMAGE
    is_flat = False
    for layer in NETWORKS[name]:
        if isinstance(layer, Pool):
            modules.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
            continue
        kernel, bias = next(arrays), next(arrays)
        if isinstance(layer, Conv):
            module: Any = nn.Conv2d(channels, layer.filters, layer.size, padding=layer.padding)
            weight = kernel.transpose(3, 2, 0, 1)
            channels = layer.filters
            if layer.padding == "valid":
                height, width = height - layer.size + 1, width - layer.size + 1
        else:
            if not is_flat:
                modules.append(nn.Flatten())
                # PyTorch flattens (channels, height, width), numbaconv (height, width, channels).
                kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
                is_flat = True
            module = nn.Linear(*kernel.shape)
            weight = kernel.T
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(np.array(weight)))
            module.bias.copy_(torch.from_numpy(np.array(bias)))
        modules += [module] if isinstance(layer, Dense) and layer.units == CLASSES else [module, nn.ReLU()]
    return nn.Sequential(*modules)


def random_batch() -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels."""
    rng = np.random.default_rng(0)
    return rng.random((BATCH, *IMAGE), dtype=np.float32), rng.integers(0, CLASSES, BATCH)


class TorchWay:
    """One way to run a network in PyTorch: a memory layout and a form of Adam."""

    def __init__(self, name: str, weights: Sequence[np.ndarray], layout: str, is_fused: bool) -> None:
        import torch

        self.torch = torch
        self.format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.model = torch_network(name, weights).to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), LEARNING_RATE, fused=is_fused or None, eps=1e-7)
        x, y = random_batch()
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=self.format)
        self.y = torch.from_numpy(y)
        self.image = self.x[:1].contiguous(memory_format=self.format)

    def train(self) -> float:
        """Run one step of training and return the loss."""
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> Any:
        """Run one image through the network."""
        with self.torch.inference_mode():
            return self.model(self.image)


class OurWay:
    """The network in numbaconv."""

    def __init__(self, name: str) -> None:
        self.model = our_network(name)
        self.x, self.y = random_batch()
        self.image = self.x[:1].copy()

    def train(self) -> float:
        """Run one step of training and return the loss."""
        return self.model.train_step(self.x, self.y)[0]

    def infer(self) -> Any:
        """Run one image through the network."""
        from numbaconv import no_grad

        with no_grad():
            return self.model(self.image)


def largest_difference(ours: OurWay, peers: dict[str, TorchWay]) -> float:
    """Run the first steps of all and return the largest difference of an output or a loss, relative to the peer's."""
    expected, found = ours.infer().numpy(), 0.0
    for peer in peers.values():
        outputs = peer.infer().numpy()
        found = max(found, float(np.abs(outputs - expected).max() / np.abs(outputs).max()))
    losses = [ours.train() for _ in range(COMPARED_STEPS)]
    for peer in peers.values():
        for loss in losses:
            theirs = peer.train()
            found = max(found, abs(loss - theirs) / abs(theirs))
    return found


def measure_network(name: str, *, budget: float, rounds: int | None) -> dict[str, Any]:
    """Compare values, then times, of one network; the result is one entry of the JSON file."""
    ours = OurWay(name)
    weights = ours.model.get_weights()
    peers = {
        f"{layout}{suffix}": TorchWay(name, weights, layout, is_fused)
        for layout in ("contiguous", "channels_last")
        for suffix, is_fused in (("", False), (", fused Adam", True))
    }
    entry: dict[str, Any] = {"name": name, "error": largest_difference(ours, peers)}
    inference = {way: peer for way, peer in peers.items() if "fused" not in way}
    cases: dict[str, tuple[Callable[[], Any], dict[str, Callable[[], Any]]]] = {
        "training": (ours.train, {way: peer.train for way, peer in peers.items()}),
        "one_image": (ours.infer, {way: peer.infer for way, peer in inference.items()}),
    }
    for case, (call, rivals) in cases.items():
        our_time, peer_times = measure.interleave(call, rivals, budget=budget, rounds=rounds)
        better = min(peer_times, key=lambda way: peer_times[way].median)
        entry[case] = {
            "ratio": peer_times[better].median / our_time.median,
            "ms": our_time.median * 1e3,
            "ms_quartiles": [our_time.low * 1e3, our_time.high * 1e3],
            "torch_ms": peer_times[better].median * 1e3,
            "torch_way": better,
            "torch_ms_by_way": {way: timing.median * 1e3 for way, timing in peer_times.items()},
            "samples": our_time.samples,
        }
    return entry


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Return the results as text."""
    lines = [f"{'network':10} {'':10} {'ratio':>6} {'ours ms':>9} {'torch ms':>9}   {'the best of PyTorch'}"]
    for entry in entries:
        for case in ("training", "one_image"):
            result = entry[case]
            lines.append(
                f"{entry['name']:10} {case:10} {result['ratio']:6.2f} {result['ms']:9.3f} {result['torch_ms']:9.3f}   "
                f"{result['torch_way']}"
            )
        if entry["error"] > LARGEST_ERROR:
            lines.append(f"    WRONG: outputs or losses differ by {entry['error']:.1e}")
    return "\n".join(lines)


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m asv_bench.networks", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", default=",".join(NETWORKS), metavar="NAME[,NAME]", help="networks to measure (default: %(default)s)")
    add("--threads", type=int, metavar="N", help="threads of both sides (default: all that Numba has)")
    add("--repeat", type=int, metavar="N", help="samples per call (default: as many as the budget pays for)")
    add("--budget", type=float, default=5.0, metavar="SECONDS", help="time per measurement (default: %(default)s)")
    add("--cpu-time", action="store_true", help="count processor time instead of passing time: for busy machines")
    add("--json", type=Path, metavar="FILE", help="write the results here too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return 0, 1 if values differ, or 2 without PyTorch."""
    parser = _argument_parser()
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    for name in names:
        if name not in NETWORKS:
            parser.error(f"--only: {name!r} is not one of {', '.join(NETWORKS)}")
    if is_torch_missing():
        return 2
    threads = set_threads(options.threads)
    if options.cpu_time:
        measure.clock = time.process_time
    else:
        measure.is_disturbed = yardsticks.Watch(threads).is_disturbed
    entries = [measure_network(name, budget=options.budget, rounds=options.repeat) for name in names]
    print(table(entries))
    if options.json is not None:
        document = {"run": describe_machine(threads) | {"cpu_time": options.cpu_time}, "networks": entries}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(entry["error"] > LARGEST_ERROR for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
