"""Compare two commits: `python -m asv_bench.gate BASE [HEAD]`.

Exit codes: 0, no slowdown was reproduced and no noise-free track failed; 1, one did; 2, the commits cannot be measured
(unknown commit, no git, bad options, a process that died); 3, interrupted, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asv_bench.gate import commits, report, run
from asv_bench.gate.cases import choose_cases
from asv_bench.gate.commits import GateError
from asv_bench.gate.pair import Tree
from asv_bench.gate.state import State
from asv_bench.gate.statistics import LIMIT

FOLDER = Path(".asv") / "gate"


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    assert __doc__ is not None
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m asv_bench.gate", description=summary, epilog=rest)
    add = parser.add_argument
    add("base", metavar="BASE", help="the commit that is the measure")
    add("head", metavar="HEAD", nargs="?", default="HEAD", help="the commit that is judged (default: %(default)s)")
    add("--quick", action="store_true", help="the short list of cases")
    add("--only", default="", metavar="CASE[,CASE]", help="cases whose names start so")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--noise-free", action="store_true", help="only compare tracks: counts, sizes, emitted code")
    what.add_argument("--times", action="store_true", help="only measure times")
    add("--limit", type=float, default=LIMIT, metavar="SHARE", help="slowdown that fails (default: %(default)s)")
    add("--accept", default="", metavar="NAME[,NAME]", help="tracks or cases that may get worse, besides those that "
        "the commits' messages name after 'Gate-accept:'")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the outcome")
    add("--folder", type=Path, metavar="FOLDER", help=f"state and compiled code (default: {FOLDER} in the repository)")
    add("--repository", type=Path, default=Path(), metavar="FOLDER", help="a clone (default: the current folder)")
    return parser


def _settings(options: argparse.Namespace, base: str, head: str) -> dict[str, Any]:
    """Return what must be the same for a run to go on where another was interrupted."""
    chosen = {name: getattr(options, name) for name in ("quick", "only", "noise_free", "times", "limit")}
    return chosen | {"base": base, "head": head, "python": sys.version, "machine": platform.platform()}


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(options: argparse.Namespace) -> int:
    """Measure and report; return the exit code."""
    cases = [case.name for case in choose_cases(_names(options.only), options.quick)]
    root = commits.find_root(options.repository)
    names = (options.base, options.head)
    base, head = (commits.resolve(root, name) for name in names)
    changed = commits.uncommitted(root)
    if changed:
        _say(
            f"note: {len(changed)} files of the package have changes that are not committed ({changed[0]}, ...); "
            "commits are measured, so these are not. `git stash create` prints a commit that holds them, for HEAD"
        )
    folder = options.folder or root / FOLDER
    state_path = folder / f"{base[:12]}-{head[:12]}{'-quick' if options.quick else ''}.json"
    state = State(state_path, _settings(options, base, head))
    if state.note:
        _say(f"note: {state.note}")
    if state.resumed:
        _say(f"going on with the interrupted run in {state_path}")
    accepted = _names(options.accept) + sorted(commits.accepted(root, base, head))
    contents = {commits.package_tree(root, commit) for commit in (base, head)}
    tracks = not options.times
    if tracks and len(contents) == 1:
        _say("both commits hold the same package: their noise-free tracks are the same")
        tracks = False
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="numbaconv-gate-") as temporary:
        trees = []
        for side, commit in (("base", base), ("head", head)):
            tree = Tree(commit, Path(temporary) / side, folder / "cache" / commit[:16])
            commits.lay_out(root, commit, tree.folder)
            trees.append(tree)
        try:
            outcome = run.run(
                trees, cases, state, _say, tracks=tracks, times=not options.noise_free,
                limit=options.limit, accepted=accepted,
            )  # fmt: skip
        except KeyboardInterrupt:
            state.save()
            _say(f"interrupted: what was measured is in {state_path}, and the same command goes on from there")
            return 3
    document = outcome.as_json() | {
        "base": commits.describe(root, base),
        "head": commits.describe(root, head),
        "limit": options.limit,
        "seconds": time.perf_counter() - start,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "uncommitted": changed,
    }
    print(report.text(document))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(outcome.fails)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = argument_parser().parse_args(arguments)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return compare(options)
    except (GateError, ValueError, OSError) as error:
        _say(f"gate: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 3
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
