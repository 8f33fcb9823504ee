"""Measure every layer of a list in three passes beside PyTorch.

Run as `python -m asv_bench.peers` from the repository's root; `--help` lists the options. Both sides get the same
threads and run in the same process, in turn; PyTorch gets the better of its layouts for each layer and pass. A ratio is
PyTorch's median time divided by numbaconv's: above 1, numbaconv is faster. Results are compared before they are timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from asv_bench import measure as timing
from asv_bench import other_peers, readme_table, report, roofline, yardsticks
from asv_bench.peer import Peer, UnsupportedByPeerError, relative_error
from asv_bench.problems import MORE_SHAPES, PASSES, SHAPES, Layer, load_layers, make_arrays, make_pass
from asv_bench.random_layers import draw_layers

# Both sides sum in the same precision, in different orders; a wrong tap or channel is off by far more.
LARGEST_ERROR = {"float32": 1e-3, "float64": 1e-11}


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m asv_bench.peers", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--layers", default="shapes", metavar="LIST", help="shapes (default), more (more_shapes.json), sample (one of "
        "each kind of shapes.json), random:SEED (drawn at random), or a file in their format")  # fmt: skip
    add("--only", default="", metavar="NAME[,NAME]", help="measure only these layers")
    add("--passes", default=",".join(PASSES), metavar="PASS[,PASS]", help="default: %(default)s")
    add("--threads", type=int, metavar="N", help="threads of both sides (default: all that Numba has)")
    add("--dtype", choices=LARGEST_ERROR, default="float32", help="dtype of both sides (default: %(default)s)")
    add("--repeat", type=int, metavar="N", help="samples per call (default: as many as the budget pays for)")
    add("--budget", type=float, default=1.5, metavar="SECONDS", help="time per layer and pass (default: %(default)s)")
    add("--json", type=Path, default=Path("peers.json"), metavar="FILE", help="results (default: %(default)s)")
    add("--chart", type=Path, default=Path("peers.png"), metavar="FILE", help="bar chart (default: %(default)s)")
    add("--max-gflop", type=float, metavar="GFLOP", help="leave out layers with more work than this per pass")
    add("--peers", default="", metavar="NAME[,NAME]", help=f"beside PyTorch also {', '.join(other_peers.PEERS)}; "
        "'installed' takes those that are")  # fmt: skip
    add("--roofline", action="store_true", help="shares of the multiply-add peak and of the memory's bandwidth")
    add("--scale-batch", type=float, metavar="GFLOP", help="cut the batch of larger layers to about this much work")
    return parser


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def set_threads(threads: int | None) -> int:
    """Give both libraries the same number of threads, and return it."""
    import numba
    import torch

    most = numba.config.NUMBA_NUM_THREADS
    threads = most if threads is None else threads
    if not 1 <= threads <= most:
        raise SystemExit(
            f"--threads {threads}: Numba has {most} here; NUMBA_NUM_THREADS, set before the start, gives more"
        )
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    return threads


def describe_machine(threads: int) -> dict[str, Any]:
    """Say on what, when and with which versions something is measured."""
    import numba
    import torch

    import numbaconv
    from numbaconv.target import TARGET

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "threads": threads,
        "vector_bits": 8 * TARGET.vector_bytes,
        "onednn_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "numbaconv": numbaconv.__version__,
        "torch": torch.__version__,
    }


LISTS = {"shapes": SHAPES, "more": MORE_SHAPES, "sample": SHAPES}


def choose_layers(layers: str, only: Sequence[str]) -> list[Layer]:
    """Return the layers of a list by its name, of a file or of a seed, those named in `only` where it names any."""
    if layers == "sample":
        only = [name for name in readme_table.CHOSEN if name in only or not only]
    name, _, seed = layers.partition(":")
    if name == "random" and seed.isdecimal():
        return [layer for layer in draw_layers(int(seed)) if not only or layer.name in only]
    return load_layers(LISTS.get(layers, Path(layers)), only)


def _describe_run(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    return describe_machine(threads) | {
        "layers": options.layers if options.layers in LISTS else Path(options.layers).name,
        "dtype": options.dtype,
        "scale_batch": options.scale_batch,
        "max_gflop": options.max_gflop,
    }


def measure_pass(
    layer: Layer,
    direction: str,
    *,
    budget: float = 1.5,
    rounds: int | None = None,
    others: Sequence[Peer] = (),
    roofline_threads: int = 0,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Compare values, then times, of one pass of one layer; the result is one entry of the JSON file.

    Peers beside PyTorch are in `others`; the machine's peaks are measured where `roofline_threads` is not 0.
    """
    import torch

    from asv_bench.torch_peer import torch_calls

    arrays = make_arrays(layer, direction, dtype)
    ours = make_pass(layer, direction, arrays)
    with torch.inference_mode():
        try:
            peers = torch_calls(layer, direction, arrays)
        except UnsupportedByPeerError as error:
            return {"skipped": str(error)}
        result = ours()
        error = 0.0
        for call in peers.values():
            error = max(error, relative_error(result, call.to_numpy(call.run())))
        del result
        rivals = {name: call.run for name, call in peers.items()}
        our_time, peer_times = timing.interleave(ours, rivals, budget=budget, rounds=rounds)
    better = min(peer_times, key=lambda name: peer_times[name].median)
    best = peer_times[better]
    figures: dict[str, Any] = {
        "ratio": best.median / our_time.median,
        "ms": our_time.median * 1e3,
        "ms_quartiles": [our_time.low * 1e3, our_time.high * 1e3],
        "gflops": layer.gflop / our_time.median,
        "torch_ms": best.median * 1e3,
        "torch_ms_quartiles": [best.low * 1e3, best.high * 1e3],
        "torch_gflops": layer.gflop / best.median,
        "torch_layout": better,
        "torch_ms_by_layout": {name: timing.median * 1e3 for name, timing in peer_times.items()},
        "samples": our_time.samples,
        "error": error,
    }
    if roofline_threads:
        peak = yardsticks.fma_gflops(dtype, roofline_threads)
        bandwidth = yardsticks.copy_gbytes(roofline_threads)
        figures["roofline"] = roofline.place(layer, our_time.median, peak, bandwidth, dtype)
    if others:
        figures["others"] = {
            peer.key: other_peers.measure(peer, layer, direction, arrays, ours, budget, rounds) for peer in others
        }
        figures["error"] = max([error, *(result.get("error", 0.0) for result in figures["others"].values())])
    return figures


def measure_layer(
    layer: Layer, passes: Sequence[str], measure: Callable[[Layer, str], dict[str, Any]]
) -> dict[str, Any]:
    """Measure the passes of one layer; what fails is recorded and does not end the run."""
    results = {}
    for direction in passes:
        try:
            results[direction] = measure(layer, direction)
        except Exception as error:
            results[direction] = {"failed": f"{type(error).__name__}: {error}"}
    return {
        "name": layer.name,
        "problem": str(layer),
        "gflop": layer.gflop,
        "wide": layer.is_wide,
        "passes": results,
    }


def is_wrong(result: dict[str, Any], dtype: str) -> bool:
    """Tell whether a pass failed or its values differ from the peer's."""
    return "failed" in result or result.get("error", 0.0) > LARGEST_ERROR[dtype]


def is_torch_missing() -> bool:
    """Tell whether there is no PyTorch, and what installs it."""
    if importlib.util.find_spec("torch") is not None:
        return False
    print("PyTorch is not installed, so there is no peer to measure: pip install -e '.[peers]'", file=sys.stderr)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return 0, 1 if a pass failed or had wrong values, or 2 without PyTorch."""
    parser = _argument_parser()
    options = parser.parse_args(arguments)
    passes = [name for name in options.passes.split(",") if name]
    for name in passes:
        if name not in PASSES:
            parser.error(f"--passes: {name!r} is not one of {', '.join(PASSES)}")
    try:
        layers = choose_layers(options.layers, [name for name in options.only.split(",") if name])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.peers and options.dtype != "float32":
        parser.error("--peers: libraries beside PyTorch are measured in float32; leave out --peers or --dtype")
    if is_torch_missing():
        return 2
    if options.max_gflop is not None:
        layers = [layer for layer in layers if layer.gflop <= options.max_gflop]
    if options.scale_batch is not None:
        layers = [layer.scaled(options.scale_batch) for layer in layers]

    threads = set_threads(options.threads)
    try:
        others = other_peers.start([name for name in options.peers.split(",") if name], threads)
    except ValueError as error:
        parser.error(str(error))
    document: dict[str, Any] = {"run": _describe_run(options, threads), "layers": [], "summary": {}}
    document["run"]["others"] = {peer.key: {"name": peer.name, "version": peer.version()} for peer in others}
    print(report.heading(document["run"]))
    print(report.header(passes), flush=True)
    watch = yardsticks.Watch(threads)
    timing.is_disturbed = watch.is_disturbed
    start = time.perf_counter()

    def measure(layer: Layer, direction: str) -> dict[str, Any]:
        return measure_pass(
            layer, direction, budget=options.budget, rounds=options.repeat, others=others,
            roofline_threads=threads if options.roofline else 0, dtype=options.dtype,
        )  # fmt: skip

    for layer in layers:
        entry = measure_layer(layer, passes, measure)
        if threads > 1:
            entry["round_trip_ns"] = yardsticks.round_trip_ns()
        document["layers"].append(entry)
        document["run"]["disturbances"] = watch.disturbances
        document["summary"] = report.summarise(document["layers"])
        report.write_json(document, options.json)
        print(report.row(entry, passes), flush=True)
        for line in report.further_rows(entry, passes, document["run"]["others"]):
            print(line, flush=True)
        for direction, result in entry["passes"].items():
            if is_wrong(result, options.dtype):
                reason = result.get("failed") or f"relative error {result['error']:.1e}"
                print(f"    {direction} WRONG: {reason}", flush=True)
    print()
    print(report.summary_text(document["summary"]))
    print(report.exchange_text(document["layers"]))
    print(f"\n{len(document['layers'])} layers in {time.perf_counter() - start:.0f} s; results in {options.json}")
    if any(document["summary"].values()):
        report.write_chart(document, options.chart)
        print(f"chart in {options.chart}")
    results = [result for entry in document["layers"] for result in entry["passes"].values()]
    return int(any(is_wrong(result, options.dtype) for result in results))


if __name__ == "__main__":
    sys.exit(main())
