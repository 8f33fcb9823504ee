"""Write the table beside PyTorch into the README: `python -m asv_bench.readme_table peers.json [README.md]`.

The table stands between the lines `<!-- peers -->` and `<!-- /peers -->`; every figure in it comes from the JSON file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPENING, CLOSING = "<!-- peers -->", "<!-- /peers -->"
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
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    note = (
        f"PyTorch's time divided by numbaconv's: above 1, numbaconv is faster. PyTorch {run['torch']} with its better "
        f"memory layout, numbaconv {run['numbaconv']} on Numba {run['numba']}, float32, {threads} each on "
        f"{run['processor']}, {run['date'][:10]}; calls interleaved in one run, medians."
    )
    if run.get("scale_batch"):
        note += f" Batches of layers above {run['scale_batch']:g} GFLOP were cut to about that."
    return "\n".join([note, "", head, rule, *rows])


def fill(text: str, table: str) -> str:
    """Return the README's text with what stands between the markers replaced."""
    before, opening, rest = text.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not opening or not closing:
        raise ValueError(f"the README has no {OPENING} ... {CLOSING}")
    return f"{before}{OPENING}\n{table}\n{CLOSING}{after}"


def main(arguments: Sequence[str]) -> int:
    """Rewrite the README given by name, or the repository's."""
    if len(arguments) not in (1, 2):
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    readme = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).resolve().parents[1] / "README.md"
    table = markdown(json.loads(Path(arguments[0]).read_text()))
    readme.write_text(fill(readme.read_text(), table))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
