"""Measure whole networks beside PyTorch: a step of training on a batch, and one image without gradients.

Run as `python -m asv_bench.networks` from the repository's root; `--help` lists the options. Both sides start from the
same weights and get the same threads; they run in the same process, in turn. PyTorch runs eagerly in two memory
layouts, with Adam as it is by default and fused, and the best of these counts. One image is measured soon after a
pause, and in a row with others of its kind for a tenth of a second, when the cores have reached the speed that they
keep; also with numbaconv's weights frozen, and so beside PyTorch's own frozen form (`torch.jit.freeze` and
`optimize_for_inference` of a traced network). A ratio is PyTorch's median time divided by numbaconv's: above 1,
numbaconv is faster. Outputs and losses are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
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
# Images in a row before those that are timed.
ROW_SECONDS = 0.1


@dataclass(frozen=True)
class Conv:
    """A 2-D convolution of square kernels with relu, and before that a bias or normalisation.

    Without a number of filters it is a depthwise one.
    """

    filters: int | None
    size: int
    padding: str | int = "valid"
    strides: int = 1
    is_normalized: bool = False


@dataclass(frozen=True)
class Pool:
    """The maximum of each window of 2x2, or the mean of all pixels."""

    is_mean: bool = False


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
    # Howard et al., "MobileNets" (arXiv:1704.04861), table 1: one image alone.
    "mobilenet": (
        Conv(32, 3, 1, 2, True),
        *(
            layer
            for filters, strides in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                                     (1024, 2), (1024, 1)]
            for layer in (Conv(None, 3, 1, strides, True), Conv(filters, 1, 0, 1, True))
        ),
        Pool(is_mean=True),
        Dense(CLASSES),
    ),
}  # fmt: skip
# Those without normalisation, so that one form of PyTorch's network serves training and inference.
TRAINED = ("small", "lenet5")
IMAGE = (28, 28, 1)
IMAGES = {"mobilenet": (224, 224, 3)}


def our_network(name: str) -> Any:
    """Return a network of numbaconv, built and compiled."""
    import numbaconv as nc

    layers: list[Any] = [nc.layers.Input(IMAGES.get(name, IMAGE))]
    is_flat = False
    for layer in NETWORKS[name]:
        if isinstance(layer, Conv):
            options: dict[str, Any] = {"strides": layer.strides, "padding": layer.padding}
            if layer.is_normalized:
                options["use_bias"] = False
            else:
                options["activation"] = "relu"
            if layer.filters is None:
                layers.append(nc.layers.DepthwiseConv2D(layer.size, **options))
            else:
                layers.append(nc.layers.Conv2D(layer.filters, layer.size, **options))
            layers += [nc.layers.BatchNormalization(), nc.layers.ReLU()] if layer.is_normalized else []
        elif isinstance(layer, Pool):
            layers.append(nc.layers.GlobalAveragePooling2D() if layer.is_mean else nc.layers.MaxPooling2D(2))
            is_flat |= layer.is_mean
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
    """Return the same network of PyTorch with the weights of ours, taken layer by layer."""
    import torch
    from torch import nn

    arrays = map(torch.from_numpy, map(np.copy, weights))
    modules: list[Any] = []
    height, width, channels = IMAGES.get(name, IMAGE)
    is_flat = False
    for layer in NETWORKS[name]:
        if isinstance(layer, Pool):
            modules += [nn.AdaptiveAvgPool2d(1)] if layer.is_mean else [nn.MaxPool2d(2)]
            height, width = (1, 1) if layer.is_mean else (height // 2, width // 2)
            continue
        kernel = next(arrays)
        if isinstance(layer, Conv):
            filters, groups = (channels, channels) if layer.filters is None else (layer.filters, 1)
            module: Any = nn.Conv2d(
                channels, filters, layer.size, layer.strides, layer.padding, groups=groups,
                bias=not layer.is_normalized,
            )  # fmt: skip
            weight = kernel.permute(2, 3, 0, 1) if layer.filters is None else kernel.permute(3, 2, 0, 1)
            channels = filters
            pads = layer.size - 1 if layer.padding == "same" else 0 if layer.padding == "valid" else 2 * layer.padding
            height, width = ((size + pads - layer.size) // layer.strides + 1 for size in (height, width))
        else:
            if not is_flat:
                modules.append(nn.Flatten())
                # PyTorch flattens (channels, height, width), numbaconv (height, width, channels).
                kernel = kernel.reshape(height, width, channels, -1).permute(2, 0, 1, 3).reshape(kernel.shape)
                is_flat = True
            module = nn.Linear(*kernel.shape)
            weight = kernel.T
        norm = [nn.BatchNorm2d(channels, eps=1e-3)] if isinstance(layer, Conv) and layer.is_normalized else []
        with torch.no_grad():
            module.weight.copy_(weight)
            for each in norm:
                for target in (each.weight, each.bias, each.running_mean, each.running_var):
                    target.copy_(next(arrays))
            if not norm:
                module.bias.copy_(next(arrays))
        is_last = isinstance(layer, Dense) and layer.units == CLASSES
        modules += [module, *norm, *([] if is_last else [nn.ReLU()])]
    return nn.Sequential(*modules)


def random_batch(name: str = "small") -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels, a single one for networks that are not trained."""
    rng, count = np.random.default_rng(0), BATCH if name in TRAINED else 1
    return rng.random((count, *IMAGES.get(name, IMAGE)), dtype=np.float32), rng.integers(0, CLASSES, count)


class TorchWay:
    """One way to run a network in PyTorch: a memory layout and a form of Adam."""

    def __init__(self, name: str, weights: Sequence[np.ndarray], layout: str, is_fused: bool) -> None:
        import torch

        self.torch = torch
        self.format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.model = torch_network(name, weights).eval().to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), LEARNING_RATE, fused=is_fused or None, eps=1e-7)
        x, y = random_batch(name)
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=self.format)
        self.y = torch.from_numpy(y)
        self.image = self.x[:1].contiguous(memory_format=self.format)
        self.frozen: Any = None

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

    def infer_frozen(self) -> Any:
        """Run one image through what PyTorch makes of the network for inference alone."""
        if self.frozen is None:
            with self.torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, without a successor in Python alone
                traced = self.torch.jit.trace(self.model.eval(), self.image)
                self.frozen = self.torch.jit.optimize_for_inference(self.torch.jit.freeze(traced))
                for _ in range(3):  # runs that it profiles, and then compiles
                    self.frozen(self.image)
        with self.torch.inference_mode():
            return self.frozen(self.image)


class OurWay:
    """The network in numbaconv."""

    def __init__(self, name: str) -> None:
        from numbaconv import no_grad

        self.no_grad = no_grad
        self.model = our_network(name)
        self.x, self.y = random_batch(name)
        self.image = self.x[:1].copy()

    def train(self) -> float:
        """Run one step of training and return the loss."""
        return self.model.train_step(self.x, self.y)[0]

    def infer(self) -> Any:
        """Run one image through the network."""
        with self.no_grad():
            return self.model(self.image)


def largest_difference(ours: OurWay, frozen: OurWay, peers: dict[str, TorchWay], is_trained: bool) -> float:
    """Run the first steps of all and return the largest difference of an output or a loss, relative to the peer's."""
    found = 0.0
    for way in (ours, frozen):
        expected = way.infer().numpy()
        for peer in peers.values():
            for outputs in (peer.infer().numpy(), peer.infer_frozen().numpy()):
                found = max(found, float(np.abs(outputs - expected).max() / np.abs(outputs).max()))
    losses = [ours.train() for _ in range(COMPARED_STEPS if is_trained else 0)]
    for peer in peers.values():
        for loss in losses:
            theirs = peer.train()
            found = max(found, abs(loss - theirs) / abs(theirs))
    return found


def measure_network(name: str, *, budget: float, rounds: int | None) -> dict[str, Any]:
    """Compare values, then times, of one network; the result is one entry of the JSON file."""
    ours, frozen, is_trained = OurWay(name), OurWay(name), name in TRAINED
    weights = ours.model.get_weights()
    frozen.model.set_weights(weights)
    frozen.model.freeze()
    peers = {
        f"{layout}{suffix}": TorchWay(name, weights, layout, is_fused)
        for layout in ("contiguous", "channels_last")
        for suffix, is_fused in (("", False), (", fused Adam", True))
    }
    entry: dict[str, Any] = {"name": name, "error": largest_difference(ours, frozen, peers, is_trained)}
    inference = {way: peer for way, peer in peers.items() if "fused" not in way}
    eager = {way: peer.infer for way, peer in inference.items()}
    cases: dict[str, tuple[Callable[[], Any], dict[str, Callable[[], Any]]]] = {
        "training": (ours.train, {way: peer.train for way, peer in peers.items()}),
        "one_image": (ours.infer, eager),
        "in_a_row": (ours.infer, eager),
        "frozen": (frozen.infer, eager),
        "both_frozen": (frozen.infer, {way: peer.infer_frozen for way, peer in inference.items()}),
    }
    if not is_trained:
        del cases["training"]
    for case, (call, rivals) in cases.items():
        warm = ROW_SECONDS if case == "in_a_row" else measure.WARM_SECONDS
        our_time, peer_times = measure.interleave(call, rivals, budget=budget, rounds=rounds, warm=warm)
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
    lines = [f"{'network':10} {'':11} {'ratio':>6} {'ours ms':>9} {'torch ms':>9}   {'the best of PyTorch'}"]
    for entry in entries:
        for case, result in entry.items():
            if case in ("name", "error"):
                continue
            lines.append(
                f"{entry['name']:10} {case:11} {result['ratio']:6.2f} {result['ms']:9.3f} {result['torch_ms']:9.3f}   "
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
