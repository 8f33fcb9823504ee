"""Drawings of the summary page, as SVG text: bars of ratios, a roofline, a sparkline. Colours come from its style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

# A change of a benchmark above this is shown as worse.
NOTABLE = 1.1
WIDTH = 400


def _svg(title: str, width: float, height: float, body: Sequence[str], kind: str = "chart") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _decades(low: float, high: float, base: float) -> list[float]:
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    return [base**i for i in range(first, last + 1)]


def ratio_bars(title: str, ratios: Sequence[tuple[str, float]]) -> str:
    """Draw one bar per layer from 1 to its ratio, on a logarithmic axis."""
    left, right, row, top = 128, WIDTH - 34, 15, 18
    ticks = _decades(min(0.5, *(r for _, r in ratios)), max(2.0, *(r for _, r in ratios)), 2.0)
    low, span = math.log(ticks[0]), math.log(ticks[-1] / ticks[0])

    def x(value: float) -> float:
        return left + (right - left) * (math.log(value) - low) / span

    height = top + row * len(ratios) + 6
    body = []
    for tick in ticks:
        kind = "axis" if tick == 1 else "grid"
        body.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 4}" y2="{height - 4}"/>')
        body.append(f'<text class="faint" x="{x(tick):.1f}" y="10" text-anchor="middle">{tick:g}</text>')
    for i, (name, ratio) in enumerate(ratios):
        y, good = top + row * i, ratio >= 1
        start, end = sorted((x(1), x(ratio)))
        label, anchor = (end + 3, "start") if good else (start - 3, "end")
        named = left - 4 if good else min(left - 4, start - 30)
        body.append(f'<text x="{named:.0f}" y="{y + 10}" text-anchor="end">{escape(name[:20])}</text>')
        body.append(
            f'<rect class="{"good" if good else "bad"}" x="{start:.1f}" y="{y + 1}" width="{end - start + 0.5:.1f}" '
            f'height="{row - 4}"><title>{escape(name)}: {ratio:.2f}</title></rect>'
        )
        body.append(f'<text x="{label:.1f}" y="{y + 10}" text-anchor="{anchor}">{ratio:.2f}</text>')
    return _svg(title, WIDTH, height, body)


def roofline(title: str, points: Sequence[tuple[str, dict[str, Any], float]]) -> str:
    """Draw speed against arithmetic intensity, both logarithmic, under the median roof of the layers shown."""
    left, right, top, bottom = 40, WIDTH - 16, 12, 250
    peaks, bandwidths = (sorted(p[key] for _, p, _ in points) for key in ("peak_gflops", "gbytes"))
    peak, bandwidth = peaks[len(peaks) // 2], bandwidths[len(bandwidths) // 2]
    intensities, speeds = [p["flop_per_byte"] for _, p, _ in points], [g for _, _, g in points]
    across = _decades(min(intensities), max(*intensities, 2 * peak / bandwidth), 10.0)
    up = _decades(min(speeds), max(peak, *speeds), 10.0)

    def place(value: float, ticks: Sequence[float], start: float, end: float) -> float:
        share = math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0]) if len(ticks) > 1 else 0.5
        return start + (end - start) * share

    body = []
    for tick in across:
        position = place(tick, across, left, right)
        body.append(f'<line class="grid" x1="{position:.1f}" x2="{position:.1f}" y1="{top}" y2="{bottom}"/>')
        body.append(f'<text class="faint" x="{position:.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>')
    for tick in up:
        position = place(tick, up, bottom, top)
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{position:.1f}" y2="{position:.1f}"/>')
        body.append(f'<text class="faint" x="{left - 4}" y="{position + 4:.1f}" text-anchor="end">{tick:g}</text>')
    ridge = peak / bandwidth
    start = max(across[0], up[0] / bandwidth)
    corners = [(start, start * bandwidth), (ridge, peak), (across[-1], peak)]
    roof = " ".join(f"{place(a, across, left, right):.1f},{place(b, up, bottom, top):.1f}" for a, b in corners)
    body.append(f'<polyline class="limit" points="{roof}"/>')
    for name, point, speed in points:
        px, py = place(point["flop_per_byte"], across, left, right), place(speed, up, bottom, top)
        words = f"{name}: {speed:.1f} GFLOP/s, {100 * point['share']:.0f} % of {point['bound']}"
        kind = "good" if point["share"] >= 0.5 else "bad"
        body.append(
            f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="3.5"><title>{escape(words)}</title></circle>'
        )
    body.append(f'<text class="faint" x="{right}" y="{bottom + 28}" text-anchor="end">operations per byte</text>')
    body.append(f'<text class="faint" x="{left + 4}" y="{top + 10}">GFLOP/s</text>')
    return _svg(title, WIDTH, bottom + 34, body)


def sparkline(name: str, values: Sequence[float]) -> str:
    """Draw a benchmark's values as a line with its last point marked."""
    width, height, margin = 180, 32, 4
    low, high = min(values), max(values)
    span = high - low or 1.0

    def at(i: int, value: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * (i / (len(values) - 1) if len(values) > 1 else 0.5)
        y = height / 2 if high == low else height - margin - (height - 2 * margin) * (value - low) / span
        return x, y

    points = [at(i, value) for i, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    title = f"{name}: {len(values)} commits, from {values[0]:.4g} to {values[-1]:.4g}"
    body = [
        f'<polyline class="trace" points="{line}"/>',
        f'<circle class="good" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2.5"/>',
    ]
    return _svg(title, width, height, body, "spark")
