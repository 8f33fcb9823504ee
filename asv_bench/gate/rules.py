"""Which differences between the noise-free figures of two commits fail, and why.

| track | fails when |
| --- | --- |
| `import_modules` | `import numbaconv` loads any further module |
| `first_call_modules` | the first convolution loads an installed package that it did not load before |
| `new_signatures` | a call with a new shape compiles anything, where it did not |
| `functions`, `cache_bytes` | more than a quarter more functions, or bytes of code in all |
| `NAME.fma_share` | 0.02 less of a kernel's arithmetic is fused multiply-adds on whole registers |
| `NAME.loop_spills` | any further spill in an innermost loop of fused multiply-adds |
| `NAME.spills`, `NAME.instructions`, `NAME.bytes` | more than a quarter more (spills: and 8 more) |
| `workspace.LAYER.PASS` | more than a tenth more memory at the peak of a call (and 64 KiB more) |
| `accuracy.LAYER` | one and a half times the rounding error |

Smaller differences are listed and pass. A commit that means one of these says so by a line `Gate-accept: NAME` in its
message, or the command by `--accept NAME`; a name that ends with `*` stands for all that begin so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

GROWTH = 1.25
FEW_SPILLS = 8
SHARE_LOSS = 0.02
WORKSPACE_GROWTH, WORKSPACE_KIB = 1.1, 64
ACCURACY_LOSS = 1.5
# What tracing memory itself adds and takes from run to run.
WORKSPACE_JITTER_KIB = 2


@dataclass(frozen=True)
class Finding:
    """One track that differs."""

    track: str
    base: Any
    head: Any
    fails: bool
    rule: str
    accepted: bool = False


def _number(track: str, base: float, head: float, fails: bool, rule: str) -> Iterable[Finding]:
    if base != head:
        yield Finding(track, base, head, fails, rule)


def _growth(track: str, base: float, head: float, slack: float = 0) -> Iterable[Finding]:
    fails = head > GROWTH * base and head > base + slack
    return _number(track, base, head, fails, "more than a quarter more")


def _top(module: str) -> str:
    return module.partition(".")[0]


def _modules(base: dict[str, Any], head: dict[str, Any]) -> Iterable[Finding]:
    added = sorted(set(head["import_modules"]) - set(base["import_modules"]))
    removed = sorted(set(base["import_modules"]) - set(head["import_modules"]))
    if added or removed:
        yield Finding("import_modules", f"{len(removed)} removed", f"added {added}", bool(added), "any further module")
    old, new = set(base["first_call_modules"]), set(head["first_call_modules"])
    known = {_top(name) for name in old} | sys.stdlib_module_names
    packages = sorted({_top(name) for name in new - old} - known)
    if old != new:
        text = f"{len(new)} modules" + (f", of new packages {packages}" if packages else "")
        yield Finding("first_call_modules", f"{len(old)} modules", text, bool(packages), "modules of a new package")


def _kernels(base: dict[str, Any], head: dict[str, Any]) -> Iterable[Finding]:
    for name in sorted({*base, *head}):
        if name not in base or name not in head:
            yield Finding(name, name in base, name in head, False, "a kernel that only one commit has")
            continue
        old, new = base[name], head[name]
        if "fma_share" in old and "fma_share" in new:
            lost = new["fma_share"] < old["fma_share"] - SHARE_LOSS
            rounded = round(old["fma_share"], 4), round(new["fma_share"], 4)
            yield from _number(f"{name}.fma_share", *rounded, lost, f"{SHARE_LOSS} less")
            more = new["loop_spills"] > old["loop_spills"]
            yield from _number(f"{name}.loop_spills", old["loop_spills"], new["loop_spills"], more, "any further spill")
            yield from _growth(f"{name}.spills", old["spills"], new["spills"], FEW_SPILLS - 1)
        yield from _growth(f"{name}.instructions", old["instructions"], new["instructions"])
        yield from _growth(f"{name}.bytes", old["bytes"], new["bytes"])


def compare(base: dict[str, Any], head: dict[str, Any], accepted: Iterable[str] = ()) -> list[Finding]:
    """Return every track that differs, those that fail first."""
    found = [*_modules(base, head)]
    new = (base["new_signatures"], head["new_signatures"])
    found += _number("new_signatures", *new, new[1] > new[0], "a new shape compiles")
    for track in ("functions", "cache_bytes"):
        found += _growth(track, base[track], head[track])
    found += _kernels(base["kernels"], head["kernels"])
    for name in base["workspace_kib"].keys() & head["workspace_kib"].keys():
        old, now = base["workspace_kib"][name], head["workspace_kib"][name]
        if abs(now - old) > WORKSPACE_JITTER_KIB:
            fails = now > WORKSPACE_GROWTH * old and now > old + WORKSPACE_KIB
            found += _number(f"workspace.{name}", old, now, fails, f"a tenth and {WORKSPACE_KIB} KiB more")
    for name in base["accuracy"].keys() & head["accuracy"].keys():
        was, error = base["accuracy"][name], head["accuracy"][name]
        found += _number(
            f"accuracy.{name}", was, error, error > ACCURACY_LOSS * was, f"{ACCURACY_LOSS} times the error"
        )
    patterns = tuple(accepted)
    found = [
        Finding(f.track, f.base, f.head, False, f.rule, True) if f.fails and is_accepted(f.track, patterns) else f
        for f in found
    ]
    return sorted(found, key=lambda f: (not f.fails, not f.accepted, f.track))


def is_accepted(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name is among those accepted."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
