"""The outcome of the gate as text."""

from __future__ import annotations

from statistics import median
from typing import Any


def _per_cent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _findings(findings: list[dict[str, Any]]) -> list[str]:
    lines = []
    for finding in findings:
        state = "FAILS" if finding["fails"] else "accepted" if finding["accepted"] else "differs"
        rule = f"  (rule: {finding['rule']})" if state != "differs" else ""
        lines.append(f"  {state:8} {finding['track']}: {_value(finding['base'])} -> {_value(finding['head'])}{rule}")
    return lines


def text(document: dict[str, Any]) -> str:
    """Return the report of one run."""
    lines = [f"base {document['base']}", f"head {document['head']}"]
    findings = document["findings"]
    if findings:
        lines += ["noise-free tracks that differ:", *_findings(findings)]
    else:
        lines.append("noise-free tracks: no difference")
    screening, verdicts = document["screening"], document["verdicts"]
    if screening:
        lines.append("times of head against base, one thread's processor time, median of the pairs:")
    for name, pairs in screening.items():
        verdict = verdicts.get(name)
        line = f"  {name:30} {_per_cent(median(pair['ratio'] for pair in pairs)):>8}"
        if verdict is not None:
            word = "accepted" if name in document["accepted"] else "SLOWER" if verdict["slower"] else "not reproduced"
            line += (
                f"; {word}: {_per_cent(verdict['ratio'])}, at least {_per_cent(verdict['bound'])}, "
                f"over {verdict['pairs']} fresh pairs, wall clock {_per_cent(verdict['wall'])}"
            )
        elif name in document["suspected"]:
            line += "; not reproduced by fresh pairs"
        lines.append(line)
    lines += [f"  {name:30} FAILS on head alone: {reason}" for name, reason in document["broken"].items()]
    lines += [f"  {name:30} not measured, base cannot: {reason}" for name, reason in document["skipped"].items()]
    if document["fails"]:
        failed = [f["track"] for f in findings if f["fails"]] + [*document["broken"], *document["slower"]]
        lines.append(f"FAILED: {', '.join(failed)} ({document['seconds']:.0f} s)")
    else:
        lines.append(f"passed: no reproduced slowdown above {document['limit']:.0%} ({document['seconds']:.0f} s)")
    return "\n".join(lines)
