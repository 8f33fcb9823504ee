"""Try the gate: `python -m asv_bench.gate_trials` runs it on equal commits and on planted slowdowns, and counts.

A planted slowdown is a commit of its own, on no branch, that differs from COMMIT by about a tenth more time in one
kernel; what it costs is measured first, by many pairs of processes. Equal commits are measured on the whole list of
cases, planted ones on the short list, which has every kernel and needs less compilation. Results are written after
every trial; a second start goes on. The last lines are the table for the docs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from asv_bench.gate.commits import GateError, find_root, lay_out, resolve
from asv_bench.gate.pair import SIDES, Tree, WorkerError
from asv_bench.gate.run import measure_stage
from asv_bench.gate.state import State
from asv_bench.gate.statistics import estimate
from asv_bench.gate_plants import PLANTS, Plant, plant_commit

# Pairs of processes and rounds in each that measure what a planted slowdown costs: far more than the gate spends.
EFFECT_PAIRS, EFFECT_ROUNDS = 5, 24
# Further cases that a trial found slower are counted, not named, beyond so many.
NAMED = 3


def measure_effect(root: Path, commit: str, planted: str, plant: Plant, folder: Path) -> dict[str, float]:
    """Return what a plant costs in its cases: the median over many pairs of head's best time divided by base's."""
    state = State(folder / f"effect-{planted[:12]}.json", {"base": commit, "head": planted})
    stages = [f"pair-{number}" for number in range(EFFECT_PAIRS)]
    with tempfile.TemporaryDirectory(prefix="numbaconv-gate-") as temporary:
        trees = []
        for side, name in zip(SIDES, (commit, planted)):
            trees.append(Tree(name, Path(temporary) / side, folder / "cache" / name[:16]))
            lay_out(root, name, trees[-1].folder)
        for number, stage in enumerate(stages):
            measure_stage(trees, stage, plant.cases, EFFECT_ROUNDS, number % 2 == 1, state)
    if state.data["failed"]:
        raise GateError(f"{plant.name!r} breaks {', '.join(state.data['failed'])}: adapt PLANTS")
    state.finish()
    return {case: median(estimate(state.rounds(stage, case)).ratio for stage in stages) for case in plant.cases}


def one_trial(root: Path, base: str, head: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run the gate once in a process of its own, as a user does."""
    output = folder / "trial.json"
    output.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "asv_bench.gate", base, head, "--times", "--json", str(output),
        "--folder", str(folder), "--repository", str(root), *options,
    ]  # fmt: skip
    harness = Path(__file__).resolve().parents[1]
    run = subprocess.run(command, cwd=harness, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if run.returncode not in (0, 1):
        raise GateError(f"a trial ended with exit code {run.returncode}: {run.stderr.strip()}")
    outcome: dict[str, Any] = json.loads(output.read_text())
    return outcome


def summarise_trial(kind: str, plant: Plant | None, outcome: dict[str, Any]) -> dict[str, Any]:
    """Reduce a trial to what the table needs; a planted slowdown counts as found in a case that runs its kernel."""
    cases = plant.cases if plant else ()
    expected = [case for case in outcome["slower"] if case in cases]
    return {
        "kind": kind,
        "plant": plant.name if plant else "",
        "found": bool(expected),
        "slower": {case: outcome["verdicts"][case]["ratio"] for case in outcome["slower"]},
        "screened": {
            case: [p["ratio"] for p in pairs] for case, pairs in outcome["screening"].items() if case in cases
        },
        "suspected": outcome["suspected"],
        "cases": len(outcome["screening"]),
        "seconds": round(outcome["seconds"]),
        "load": outcome["load"],
    }


def schedule(equal: int, planted: int) -> list[Plant | None]:
    """Spread the planted trials evenly among those of equal commits (None), so that both meet the same machine."""
    due: list[tuple[float, Plant | None]] = [((i + 0.5) / equal, None) for i in range(equal)]
    due += [((i + 0.5) / planted, PLANTS[i % len(PLANTS)]) for i in range(planted)]
    return [plant for _, plant in sorted(due, key=lambda entry: entry[0])]


def _found(slower: dict[str, float], plant: str) -> str:
    """Name what was found slower, the plant's own cases first."""
    own = next((other.cases for other in PLANTS if other.name == plant), ())
    names = sorted(slower, key=lambda case: own.index(case) if case in own else len(own))
    text = ", ".join(f"{case} {_per_cent(slower[case])}" for case in names[:NAMED]) or "none"
    return text + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _per_cent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def table(trials: Sequence[dict[str, Any]], effects: dict[str, dict[str, float]]) -> str:
    """Return the trials as Markdown, with what each plant costs in its main case."""
    equal = [trial for trial in trials if trial["kind"] == "equal"]
    planted = [trial for trial in trials if trial["kind"] == "planted"]
    alarms = sum(bool(trial["slower"]) for trial in equal)
    found = sum(trial["found"] for trial in planted)
    lines = [
        f"{len(equal)} runs of a commit against itself: {alarms} false alarms. "
        f"{len(planted)} runs with a planted slowdown: {found} found.",
        "",
        "| trial | planted | suspected | found slower | seconds | load |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for number, trial in enumerate(trials, 1):
        name, planted = trial["plant"] or "against itself", ""
        if trial["plant"]:
            case, ratio = next(iter(effects[trial["plant"]].items()))
            planted = f"{case} {_per_cent(ratio)}"
        cells = [f"{number}: {name}", planted, f"{len(trial['suspected'])} of {trial['cases']}"]
        cells += [_found(trial["slower"], trial["plant"]), str(trial["seconds"]), f"{trial['load']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials that are still due; return 0 where no alarm was false and 9 of 10 plants were found."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m asv_bench.gate_trials", description=__doc__)
    add = parser.add_argument
    add("commit", nargs="?", default="HEAD", metavar="COMMIT", help="default: %(default)s")
    add("--equal", type=int, default=20, metavar="N", help="runs of the commit against itself (default: %(default)s)")
    add("--planted", type=int, default=10, metavar="N", help="runs with a planted slowdown (default: %(default)s)")
    add("--results", type=Path, default=Path(".asv/gate/trials.json"), metavar="FILE", help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (GateError, WorkerError, OSError) as error:
        print(f"gate_trials: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: the trials so far are in {options.results}, the same command goes on", file=sys.stderr)
        return 3


def _run(options: argparse.Namespace) -> int:
    root = find_root(Path())
    commit = resolve(root, options.commit)
    folder = options.results.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"commit": commit, "effects": {}, "trials": []}
    if options.results.exists():
        kept = json.loads(options.results.read_text())
        document = kept if kept["commit"] == commit else document
    trials, effects = document["trials"], document["effects"]
    plants = {plant.name: plant_commit(root, commit, plant) for plant in PLANTS} if options.planted else {}
    for plant in PLANTS[: options.planted]:
        if plant.name not in effects:
            effects[plant.name] = measure_effect(root, commit, plants[plant.name], plant, folder)
            _write(document, options.results)
            costs = ", ".join(f"{case} {_per_cent(ratio)}" for case, ratio in effects[plant.name].items())
            print(f"{plant.name}: {costs}", flush=True)
    due = schedule(options.equal, options.planted)
    for number, planted in enumerate(due[len(trials) :], len(trials) + 1):
        head, name = (plants[planted.name], planted.name) if planted else (commit, "against itself")
        outcome = one_trial(root, commit, head, folder, ["--quick"] if planted else [])
        trials.append(summarise_trial("planted" if planted else "equal", planted, outcome))
        _write(document, options.results)
        found = trials[-1]["slower"] or "none slower"
        print(f"{number}/{len(due)} {name}: {found} ({trials[-1]['seconds']} s)", flush=True)
    print(table(trials, effects))
    alarms = sum(bool(trial["slower"]) for trial in trials if trial["kind"] == "equal")
    found = [trial["found"] for trial in trials if trial["kind"] == "planted"]
    return int(alarms > 0 or sum(found) < 0.9 * len(found))


def _write(document: dict[str, Any], path: Path) -> None:
    """Replace the results as a whole: an interruption leaves those before."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(aside, path)


if __name__ == "__main__":
    sys.exit(main())
