"""What the comparison with PyTorch prints and writes: rows, summary, JSON and the bar chart."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asv_bench.problems import PASSES

# The share of wide layers (ungrouped, 16 channels or more in and out) below this ratio is reported.
FLOOR = 0.8
WORST = 5
# A load average above this before the run means that something else is running.
BUSY = 0.7


def dtype_text(run: dict[str, Any]) -> str:
    """Say in what dtype a run measured."""
    return str(run.get("dtype", "float32"))


def threads_text(run: dict[str, Any]) -> str:
    """Say with how many threads a run measured."""
    return "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"


def limits_text(run: dict[str, Any]) -> str:
    """Say to which vectors a run was limited, behind a comma; nothing where PyTorch used all that the machine has."""
    if not run.get("onednn_isa"):
        return ""
    return f", vectors of {run['vector_bits']} bits and oneDNN's {run['onednn_isa']}"


def heading(run: dict[str, Any]) -> str:
    """Say what was measured on what."""
    text = (
        f"numbaconv {run['numbaconv']} (Numba {run['numba']}) beside PyTorch {run['torch']}, {dtype_text(run)}, "
        f"{threads_text(run)} each{limits_text(run)}, {run['processor']}\n"
        "ratio = PyTorch's time / numbaconv's: above 1, numbaconv is faster; ours and torch in GFLOP/s\n"
    )
    if run["load"] > BUSY:
        text += f"the machine is busy (load average {run['load']:.1f}): these figures will not repeat\n"
    return text


def header(passes: Sequence[str]) -> str:
    """Return the table's head."""
    top = f"{'':20} {'':>8}" + "".join(f"   {name:^22}" for name in passes)
    return top + f"\n{'layer':20} {'GFLOP':>8}" + f"   {'ratio':>6} {'ours':>7} {'torch':>7}" * len(passes)


def row(entry: dict[str, Any], passes: Sequence[str]) -> str:
    """Return the table's line of one layer."""
    cells = [f"{entry['name'][:20]:20} {entry['gflop']:8.3f}"]
    for name in passes:
        result = entry["passes"].get(name, {})
        if "ratio" in result:
            cells.append(f"{result['ratio']:6.2f} {result['gflops']:7.1f} {result['torch_gflops']:7.1f}")
        else:
            cells.append(f"{'failed' if 'failed' in result else 'none':>6} {'':7} {'':7}")
    return "   ".join(cells)


def _other_means(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the geometric mean of the ratios to each further peer, and over how many layers."""
    keys = {key for result in results for key in result.get("others", {})}
    means = {}
    for key in sorted(keys):
        ratios = [o[key]["ratio"] for result in results if "ratio" in (o := result.get("others", {})).get(key, {})]
        if ratios:
            means[key] = {"layers": len(ratios), "geometric_mean": statistics.geometric_mean(ratios)}
    return means


def further_rows(entry: dict[str, Any], passes: Sequence[str], others: dict[str, Any]) -> list[str]:
    """Return lines below a layer's own: the ratio to each further peer, and the share of the limit that binds."""
    lines = []
    results = [entry["passes"].get(name, {}) for name in passes]
    for key, about in others.items():
        found = [result.get("others", {}).get(key, {}) for result in results]
        if any("ratio" in result for result in found):
            ratios = [f"{result['ratio']:6.2f}" if "ratio" in result else f"{'none':>6}" for result in found]
            lines.append(f"  {about['name']:27}   " + "                   ".join(ratios))
    if any("roofline" in result for result in results):
        shares = [result.get("roofline") for result in results]
        texts = [f"{100 * s['share']:4.0f} % of {s['bound']:6}" if s else "" for s in shares]
        lines.append(f"  {'roofline':27}   " + "        ".join(f"{text:17}" for text in texts))
    return lines


def summarise(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Reduce the layers measured so far to figures per pass: the mean, the worst, the wide layers under the floor."""
    entries = list(entries)
    summary: dict[str, Any] = {}
    for name in PASSES:
        rated = [(e["passes"][name]["ratio"], e) for e in entries if "ratio" in e["passes"].get(name, {})]
        if not rated:
            continue
        rated.sort(key=lambda pair: pair[0])
        wide = [(ratio, e) for ratio, e in rated if e["wide"]]
        below = [e["name"] for ratio, e in wide if ratio < FLOOR]
        summary[name] = {
            "layers": len(rated),
            "geometric_mean": statistics.geometric_mean(ratio for ratio, _ in rated),
            "median": statistics.median(ratio for ratio, _ in rated),
            "faster": sum(ratio > 1 for ratio, _ in rated),
            "worst": [{"name": e["name"], "ratio": ratio} for ratio, e in rated[:WORST]],
            "wide_layers": len(wide),
            "wide_below_floor": below,
            "wide_share_below_floor": len(below) / len(wide) if wide else 0.0,
            "others": _other_means([e["passes"][name] for _, e in rated]),
            "largest_error": max(e["passes"][name]["error"] for _, e in rated),
        }
    return summary


FAR_NS = 150.0
"""Round trips between cores that take longer are between cores that share no cache."""


def exchange_text(entries: Sequence[dict[str, Any]]) -> str:
    """Say how far apart the cores were, "" where one thread was measured."""
    trips = [entry["round_trip_ns"] for entry in entries if "round_trip_ns" in entry]
    far = sum(trip > FAR_NS for trip in trips)
    if not trips:
        return ""
    often = f"over {FAR_NS:.0f} in {far} of {len(trips)} layers"
    return f"a flag from core to core and back: {min(trips):.0f} ns at best, {often}"


def summary_text(summary: dict[str, Any]) -> str:
    """Return the lines that close the table."""
    lines = []
    for name, figures in summary.items():
        worst = ", ".join(f"{w['name']} {w['ratio']:.2f}" for w in figures["worst"])
        below = figures["wide_below_floor"]
        lines += [
            f"{name}: geometric mean {figures['geometric_mean']:.2f}, median {figures['median']:.2f}, "
            f"faster on {figures['faster']} of {figures['layers']} layers, "
            f"largest relative error {figures['largest_error']:.0e}",
            f"  worst: {worst}",
            f"  ungrouped with >= 16 channels in and out, under {FLOOR}: {len(below)} of {figures['wide_layers']} "
            f"({figures['wide_share_below_floor']:.0%}){': ' + ', '.join(below) if below else ''}",
        ]
    return "\n".join(lines) if lines else "nothing was measured"


def write_json(document: dict[str, Any], path: Path) -> None:
    """Replace the file as a whole, so that an interrupted run leaves the layers measured before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(document, indent=1, allow_nan=True) + "\n")
    os.replace(temporary, path)


def write_chart(document: dict[str, Any], path: Path) -> None:
    """Draw one panel of bars per pass: the ratio of each layer on a logarithmic axis, level at 1."""
    from matplotlib.figure import Figure

    passes = list(document["summary"])
    entries = document["layers"]
    names = [entry["name"] for entry in entries]
    figure = Figure(figsize=(2.2 + 3.6 * len(passes), 1.6 + 0.17 * len(entries)), layout="constrained")
    axes = figure.subplots(1, len(passes), sharex=True, sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, passes):
        for position, entry in enumerate(entries):
            ratio = entry["passes"].get(name, {}).get("ratio")
            if ratio is not None:
                colour = "#2a78b5" if ratio >= 1 else "#d9822b"
                axis.barh(position, ratio - 1, left=1, color=colour, height=0.75)
                axis.annotate(
                    f"{ratio:.2f}", (ratio, position), xytext=(3 if ratio >= 1 else -3, 0), textcoords="offset points",
                    ha="left" if ratio >= 1 else "right", va="center", fontsize=6,
                )  # fmt: skip
        mean = document["summary"][name]["geometric_mean"]
        axis.axvline(1, color="black", linewidth=0.8)
        axis.axvline(mean, color="#2a78b5", linewidth=0.8, linestyle="--")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_title(f"{name}, geometric mean {mean:.2f}", fontsize=9)
        axis.set_xlabel("PyTorch's time / numbaconv's", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", linewidth=0.3)
    ratios = [result["ratio"] for entry in entries for result in entry["passes"].values() if "ratio" in result]
    axes[0].set_xlim(min(0.5, min(ratios) / 1.7), max(2.0, max(ratios) * 1.7))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    run = document["run"]
    versions = f"numbaconv {run['numbaconv']} beside PyTorch {run['torch']}"
    figure.suptitle(f"{versions}: {dtype_text(run)}, {threads_text(run)}, {run['processor']}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
