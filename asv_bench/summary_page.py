"""One page for people: `python -m asv_bench.summary_page -o FOLDER` writes FOLDER/summary.html.

It shows the ratios to the peers, how near each layer runs to the machine's limits, the history of every benchmark and
what the gate found, each where its input is there: the JSON of `asv_bench.peers` (with `--roofline` or not), the
results folder of airspeed velocity, and the JSON of `asv_bench.gate`. The page is one file with drawings inside and no
script; it links to the pages of `asv publish` where FOLDER holds them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from asv_bench import summary_charts as charts
from asv_bench.history import Series, load_history
from asv_bench.problems import PASSES
from asv_bench.readme_table import PASS_NAMES

ROOT = Path(__file__).resolve().parents[1]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #57606a; --line: #d0d7de;
  --good: #1a65a8; --bad: #a8480b; --soft: #f3f5f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0f1318; --faint: #a2adb9; --line: #3a424c;
  --good: #6db3f2; --bad: #f0a060; --soft: #1a2027; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
a { color: var(--good); } p.note, caption, figcaption { color: var(--faint); font-size: .9rem; text-align: left; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; }
.card { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; }
.card strong { display: block; font-size: 1.7rem; line-height: 1.2; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; } svg.spark { width: 11rem; min-width: 8rem; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; } svg .faint { fill: var(--faint); }
svg .good { fill: var(--good); } svg .bad { fill: var(--bad); } svg .axis { stroke: var(--faint); stroke-width: 1; }
svg .grid { stroke: var(--line); stroke-width: .5; } svg .limit { stroke: var(--ink); fill: none; stroke-width: 1.5; }
svg .trace { stroke: var(--good); fill: none; stroke-width: 1.5; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.worse { color: var(--bad); font-weight: 600; }
@media (max-width: 40rem) { body { padding: .75rem; } td, th { padding: .25rem; } }
"""


def _section(identity: str, title: str, *parts: str) -> str:
    return f'<section id="{identity}" aria-labelledby="{identity}-title">\n' + "\n".join(
        [f'<h2 id="{identity}-title">{escape(title)}</h2>', *parts, "</section>"]
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """Lay out rows of ready HTML; the last `numbers` columns are numbers."""
    texts = len(head) - numbers
    kinds = ["" if i < texts else ' class="number"' for i in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{escape(title)}</th>' for title, kind in zip(head, kinds))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds)) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}'
        f"</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def peers_section(document: dict[str, Any]) -> str:
    """Show the ratios to PyTorch as cards and bars, and the means of further peers as a table."""
    run, summary = document["run"], document["summary"]
    passes = [name for name in PASSES if name in summary]
    cards = "".join(
        f'<div class="card">{PASS_NAMES[p]}<strong>{summary[p]["geometric_mean"]:.2f}</strong>'
        f"faster on {summary[p]['faster']} of {summary[p]['layers']} layers</div>"
        for p in passes
    )
    drawings = []
    for name in passes:
        ratios = [
            (e["name"], e["passes"][name]["ratio"]) for e in document["layers"] if "ratio" in e["passes"].get(name, {})
        ]
        title = f"{PASS_NAMES[name]}: PyTorch's time divided by numbaconv's, per layer"
        drawings.append(f"<figure>{charts.ratio_bars(title, ratios)}<figcaption>{escape(title)}</figcaption></figure>")
    note = (
        f"PyTorch {run['torch']} with its better memory layout, {run['threads']} thread(s), {run['processor']}, "
        f"{run['date'][:10]}; above 1, numbaconv is faster."
    )
    parts = [f'<div class="cards">{cards}</div>', f'<p class="note">{escape(note)}</p>']
    rows = []
    for key, about in run.get("others", {}).items():
        means = [summary[p].get("others", {}).get(key) for p in passes]
        cells = [f"{m['geometric_mean']:.2f} ({m['layers']})" if m else "none" for m in means]
        rows.append([f"{escape(about['name'])} {escape(about['version'])}", *cells])
    if rows:
        head = ["peer", *(PASS_NAMES[p] for p in passes)]
        parts.append(_table("Geometric means of ratios to further peers, and layers", head, rows, len(passes)))
    return _section("peers", "Beside other libraries", *parts, f'<div class="charts">{"".join(drawings)}</div>')


def roofline_section(document: dict[str, Any]) -> str:
    """Draw each layer under the roof of the machine, one drawing per pass."""
    drawings = []
    for name in PASSES:
        points = []
        for entry in document["layers"]:
            result = entry["passes"].get(name, {})
            if "roofline" in result:
                points.append((entry["name"], result["roofline"], result["gflops"]))
        if points:
            title = f"{PASS_NAMES[name]}: speed against arithmetic intensity"
            drawings.append(
                f"<figure>{charts.roofline(title, points)}<figcaption>{escape(title)}</figcaption></figure>"
            )
    if not drawings:
        return ""
    note = (
        "The line is what the machine allows: the bandwidth of memory on the left, the peak of fused multiply-adds on "
        "the right, both measured in the same process. Layers whose data stay in caches may lie above the slope."
    )
    return _section(
        "roofline",
        "How near to the machine's limits",
        f'<p class="note">{note}</p>',
        f'<div class="charts">{"".join(drawings)}</div>',
    )


def gate_section(documents: Sequence[dict[str, Any]]) -> str:
    """List what each run of the gate found."""
    rows = []
    for document in documents:
        failed = [f["track"] for f in document["findings"] if f["fails"]] + list(document["broken"])
        failed += [f"{case} {100 * (document['verdicts'][case]['ratio'] - 1):+.1f} %" for case in document["slower"]]
        found = f'<span class="worse">{escape(", ".join(failed))}</span>' if failed else "no regression"
        rows.append([escape(document["base"]), escape(document["head"]), found, f"{len(document['screening'])}"])
    return _section(
        "gate", "Regressions found by the gate", _table("Runs", ["base", "head", "found", "cases"], rows, 1)
    )


def quantity(value: float, unit: str) -> str:
    """Write a figure with its unit; seconds and bytes in multiples that read well."""
    scales = {"seconds": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)), "bytes": (("MB", 1e6), ("kB", 1e3), ("B", 1.0))}
    for name, scale in scales.get(unit, ()):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value:.4g} {unit}".rstrip()


def history_section(series: Sequence[Series]) -> str:
    """Draw a line per benchmark, oldest commit first."""
    rows = []
    for line in series:
        change = line.change()
        shown = "" if change is None else f"{100 * (change - 1):+.1f} %"
        if change is not None and change > charts.NOTABLE:
            shown = f'<span class="worse">{shown}</span>'
        rows.append(
            [
                escape(line.name),
                charts.sparkline(line.name, line.values),
                escape(quantity(line.last(), line.unit)),
                shown,
            ]
        )
    caption = "The last column compares the last commit with the median of those before it."
    return _section("history", "History", _table(caption, ["benchmark", "history", "last", "change"], rows, 2))


def page(
    peers: dict[str, Any] | None,
    gates: Sequence[dict[str, Any]],
    series: Sequence[Series],
    links: Sequence[tuple[str, str]],
) -> str:
    """Return the whole page."""
    sections = []
    if peers is not None:
        sections += [peers_section(peers), roofline_section(peers)]
    if gates:
        sections.append(gate_section(gates))
    if series:
        sections.append(history_section(series))
    sections = [section for section in sections if section]
    names = [(s.split('"')[1], s.split(">")[2].split("<")[0]) for s in sections]
    entries = "".join(f'<li><a href="#{identity}">{title}</a></li>' for identity, title in names)
    entries += "".join(f'<li><a href="{escape(target)}">{escape(title)}</a></li>' for target, title in links)
    body = (
        "\n".join(sections) or "<p>No results were found: see <code>python -m asv_bench.summary_page --help</code>.</p>"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>numbaconv: speed</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1>numbaconv: how fast it is, and whether it stays so</h1>
<p class="note">Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</p>
<nav aria-label="Parts of this page"><ul>{entries}</ul></nav></header>
<main>
{body}
</main>
</body>
</html>
"""


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return 0, or 2 where an input cannot be read."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m asv_bench.summary_page", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path(".asv/html"), metavar="FOLDER", help="default: %(default)s")
    add("--peers", type=Path, metavar="FILE", help="JSON of asv_bench.peers (default: docs/peers.json, if there)")
    add(
        "--gate", type=Path, action="append", default=[], metavar="FILE", help="JSON of asv_bench.gate; may be repeated"
    )
    add("--results", type=Path, default=Path(".asv/results"), metavar="FOLDER", help="asv's (default: %(default)s)")
    options = parser.parse_args(arguments)
    stored = ROOT / "docs" / "peers.json"
    peers_path = options.peers or (stored if stored.exists() else None)
    try:
        peers = _read(peers_path) if peers_path else None
        gates = [_read(path) for path in options.gate]
        series = load_history(options.results)
        text = page(peers, gates, series, _links(options.output))
    except (OSError, ValueError, KeyError) as error:
        print(f"summary_page: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "summary.html"
    path.write_text(text, encoding="utf-8")
    print(path)
    return 0


def _links(folder: Path) -> list[tuple[str, str]]:
    return [("index.html", "All benchmarks (asv publish)")] if (folder / "index.html").exists() else []


if __name__ == "__main__":
    sys.exit(main())
