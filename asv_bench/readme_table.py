"""Write the tables beside PyTorch from the stored results: `python -m asv_bench.readme_table`.

The README's stands between the lines `<!-- peers -->` and `<!-- /peers -->` and is that of `docs/peers.json`; the means
of all stored runs stand in `docs/performance.md` in the same way. Every figure in them comes from the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asv_bench.report import dtype_text, limits_text, threads_text

ROOT = Path(__file__).resolve().parents[1]
README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
# In the order of the rows; those that are there are shown.
STORED = ("peers", "peers_one_thread", "peers_float64", "peers_avx2", "peers_more")
LISTS = {"shapes": "shapes.json", "more": "more_shapes.json", "sample": "one of each kind"}
PASS_NAMES = {"forward": "forward", "input_grad": "input gradient", "kernel_grad": "kernel gradient"}

# One layer of each kind, chosen by what it is and not by how it does.
CHOSEN = {
    "rn50_conv1": "7x7, stride 2, 3 to 64 channels",
    "rn50_2_1x1b": "1x1, 64 to 256",
    "rn50_3_3x3": "3x3, 128 to 128, 28x28",
    "rn50_5_3x3": "3x3, 512 to 512, 7x7",
    "rn18_l2_s2": "3x3, stride 2, one image",
    "mbv2_dw_144": "depthwise 3x3",
    "effdet_dw5x5": "depthwise 5x5",
    "resnext101_g32": "3x3, 32 groups",
    "rfcn_dilated": "3x3, dilation 3",
    "unet3d_first": "3-D 3x3x3, 3 to 32",
    "i3d_conv2c": "3-D 3x3x3, 64 to 192",
    "tcn_k3_d16": "1-D causal, dilation 16",
    "mamba_dw_causal_k4": "1-D causal depthwise",
    "dcgan_g5": "transposed 4x4, stride 2",
    "lenet5_c1_bs1": "5x5, 1 to 6, one image",
}


def _ratio(result: dict[str, Any]) -> str:
    return f"{result['ratio']:.2f}" if "ratio" in result else "none"


def markdown(document: dict[str, Any]) -> str:
    """Return the table as Markdown: the summary of each pass, then one layer of each kind that was measured."""
    run, summary = document["run"], document["summary"]
    passes = [name for name in PASS_NAMES if name in summary]
    head = "| " + " | ".join(["", *(PASS_NAMES[name] for name in passes)]) + " |"
    rule = "| --- |" + " ---: |" * len(passes)

    def line(label: str, cells: Sequence[str]) -> str:
        return "| " + " | ".join([label, *cells]) + " |"

    def lowest(name: str) -> str:
        worst = summary[name]["worst"][0]
        return f"{worst['ratio']:.2f} ({worst['name']})"

    means = [f"**{summary[name]['geometric_mean']:.2f}**" for name in passes]
    rows = [
        line(f"geometric mean of {len(document['layers'])} layers", means),
        line("numbaconv is faster on", [f"{summary[p]['faster']} of {summary[p]['layers']}" for p in passes]),
        line("lowest", [lowest(p) for p in passes]),
    ]
    by_name = {entry["name"]: entry["passes"] for entry in document["layers"]}
    for name, words in CHOSEN.items():
        if name in by_name:
            rows.append(line(f"{name}: {words}", [_ratio(by_name[name].get(p, {})) for p in passes]))
    note = (
        f"PyTorch's time divided by numbaconv's: above 1, numbaconv is faster. PyTorch {run['torch']} with its better "
        f"memory layout, numbaconv {run['numbaconv']} on Numba {run['numba']}, {dtype_text(run)}, {threads_text(run)} "
        f"each{limits_text(run)} on {run['processor']}, {run['date'][:10]}; calls interleaved in one run, medians."
    )
    if run.get("scale_batch"):
        note += f" Batches of layers above {run['scale_batch']:g} GFLOP were cut to about that."
    return "\n".join([note, "", head, rule, *rows])


def means(documents: Sequence[dict[str, Any]]) -> str:
    """Return a table of the geometric means of some runs, and the layers below 1 of each."""
    names = list(PASS_NAMES.values())
    lines = [f"| layers | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    below = []
    for document in documents:
        run, summary = document["run"], document["summary"]
        layers = LISTS.get(run.get("layers", "shapes"), run.get("layers"))
        about = f"{layers}, {dtype_text(run)}, {threads_text(run)}{limits_text(run)}"
        figures = [f"{summary[name]['geometric_mean']:.2f}" if name in summary else "none" for name in PASS_NAMES]
        lines.append(f"| {len(document['layers'])} of {about}, {run['date'][:10]} | {' | '.join(figures)} |")
        slower = {
            PASS_NAMES[name]: sorted(
                (entry["passes"][name]["ratio"], entry["name"])
                for entry in document["layers"]
                if entry["passes"].get(name, {}).get("ratio", 1.0) < 1.0
            )
            for name in PASS_NAMES
            if name in summary
        }
        parts = [
            f"{name}: {', '.join(f'{layer} {ratio:.2f}' for ratio, layer in found)}"
            for name, found in slower.items()
            if found
        ]
        below.append(f"- {about}: {'; '.join(parts) or 'none'}.")
    return "\n".join([*lines, "", "Layers below 1:", "", *below])


def fill(text: str, table: str, name: str = "peers") -> str:
    """Return a text with what stands between the markers of a name replaced."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(opening)
    _, found_closing, after = rest.partition(closing)
    if not found or not found_closing:
        raise ValueError(f"the text has no {opening} ... {closing}")
    return f"{before}{opening}\n{table}\n{closing}{after}"


def stored() -> list[dict[str, Any]]:
    """Read the stored results that are there."""
    paths = [ROOT / "docs" / f"{name}.json" for name in STORED]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def texts() -> dict[Path, str]:
    """Return the README and the performance guide as the stored results make them."""
    documents = stored()
    return {
        README: fill(README.read_text(), markdown(documents[0])),
        PERFORMANCE: fill(PERFORMANCE.read_text(), means(documents), "means"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite both files."""
    assert __doc__ is not None
    argparse.ArgumentParser(prog="python -m asv_bench.readme_table", description=__doc__).parse_args(arguments)
    for path, text in texts().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
