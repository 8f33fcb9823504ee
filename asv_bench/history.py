"""The results that airspeed velocity keeps, as one series per benchmark and parameters, oldest commit first."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Files of asv's results folder that are no results of a commit.
NOT_RESULTS = {"benchmarks.json", "machine.json"}


@dataclass
class Series:
    """A benchmark's values, oldest first."""

    name: str
    unit: str
    dated: list[tuple[int, float]] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        return [value for _, value in sorted(self.dated)]

    def last(self) -> float:
        return self.values[-1]

    def change(self) -> float | None:
        """Return the last value divided by the median of those before it; None where that says nothing."""
        before = self.values[:-1]
        middle = statistics.median(before) if before else 0.0
        return self.last() / middle if middle > 0 else None


def _units(results: Path) -> dict[str, str]:
    path = results / "benchmarks.json"
    if not path.exists():
        return {}
    described = json.loads(path.read_text())
    return {name: entry.get("unit", "") for name, entry in described.items() if isinstance(entry, Mapping)}


def _values(document: dict[str, Any]) -> list[tuple[str, str, float]]:
    """List (series name, benchmark, value) of one commit's file, in asv's format of results, version 2."""
    columns = document["result_columns"]
    found = []
    for benchmark, row in document["results"].items():
        cells = dict(zip(columns, row))
        result, parameters = cells.get("result"), cells.get("params") or []
        names = [", ".join(p.strip("'") for p in combination) for combination in itertools.product(*parameters)]
        for name, value in zip(names, result or []):
            if isinstance(value, int | float) and math.isfinite(value):
                found.append((f"{benchmark} ({name})" if name else benchmark, benchmark, float(value)))
    return found


def load_history(results: Path) -> list[Series]:
    """Read a results folder; one that is not there has no series.

    Results of several machines or environments in one folder are kept apart by a mark in the name.
    """
    units = _units(results)
    series: dict[tuple[str, str], Series] = {}
    for path in sorted(results.glob("*/*.json")):
        if path.name in NOT_RESULTS:
            continue
        document = json.loads(path.read_text())
        place = f"{path.parent.name}/{path.stem.partition('-')[2]}"
        for name, benchmark, value in _values(document):
            line = series.setdefault((place, name), Series(name, units.get(benchmark, "")))
            line.dated.append((document["date"], value))
    places = sorted({place for place, _ in series})
    for (place, _), line in series.items():
        if len(places) > 1:
            line.name = f"{line.name} [{place}]"
    return sorted(series.values(), key=lambda line: line.name)
