"""Try the gate: `python -m asv_bench.gate_trials` runs it on equal commits and on planted slowdowns, and counts.

A planted slowdown is a commit of its own, on no branch, that differs from COMMIT by about a tenth more work in one
kernel. Results are written after every trial; a second start goes on. The last lines are the table for the docs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asv_bench.gate.commits import GateError, find_root, git, resolve


@dataclass(frozen=True)
class Plant:
    """A change of one file's text that makes one kernel about a tenth slower, and the cases that run this kernel."""

    name: str
    path: str
    old: str
    new: str
    cases: tuple[str, ...]


_FMA = "acc = tile_fma(acc, advance(row, i), pixel_stride, advance(weights, i * width))"
_GRADIENT = "acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, advance(grad, column * width))"
_DEPTHWISE = "acc = tile_fma_lanes(acc, advance(x, offsets[tap] + c), pixel_stride, weights)"
_REPEATED = "for _ in range(1 + (task % 10 == 0)):\n        "

# More products in the inner loop: the loop over a run or over pixels goes on for a tenth of its length. Kernels whose
# inner loops are too short for that do every tenth task twice.
PLANTS = (
    Plant(
        "forward: products",
        "numbaconv/kernels/register_tile.py",
        f"            for i in range(run):\n                {_FMA}\n",
        f"            for i in range(run):\n                {_FMA}\n"
        f"            for i in range(run // 10):\n                {_FMA}\n",
        ("rn18_l1_bs1.forward", "rn18_l1_bs1.input_grad", "mbv1_pw7.forward", "rn20_cifar_16.forward"),
    ),
    Plant(
        "kernel gradient: products",
        "numbaconv/kernels/kernel_gradient.py",
        f"                for column in range(columns):\n                    {_GRADIENT}\n",
        f"                for column in range(columns):\n                    {_GRADIENT}\n"
        f"                for column in range((columns + 5) // 10):\n                    {_GRADIENT}\n",
        ("rn18_l1_bs1.kernel_grad", "mbv1_pw7.kernel_grad"),
    ),
    Plant(
        "depthwise forward: a tap more",
        "numbaconv/kernels/depthwise.py",
        f"                {_DEPTHWISE}\n            tile_store(activate",
        f"                {_DEPTHWISE}\n            if taps > 5:\n                weights = advance(kernel, c)\n"
        f"                {_DEPTHWISE.replace('[tap]', '[0]')}\n            tile_store(activate",
        ("mbv2_dw_144.forward",),
    ),
    Plant(
        "maximum pooling: every tenth row twice",
        "numbaconv/kernels/pooling.py",
        "    _reduce_row(_larger,",
        f"    {_REPEATED}_reduce_row(_larger,",
        ("pool.max",),
    ),
    Plant(
        "average pooling: every tenth row twice",
        "numbaconv/kernels/pooling.py",
        "    _reduce_row(_sum,",
        f"    {_REPEATED}_reduce_row(_sum,",
        ("pool.average",),
    ),
)


def plant_commit(root: Path, commit: str, plant: Plant) -> str:
    """Make a commit on no branch with one planted slowdown, without touching the work tree or the index."""
    text = git(root, "show", f"{commit}:{plant.path}").decode()
    if text.count(plant.old) != 1:
        raise GateError(f"{plant.path} of {commit[:12]} has no such place to plant {plant.name!r}: adapt PLANTS")
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "changed.py"
        changed.write_text(text.replace(plant.old, plant.new))
        blob = git(root, "hash-object", "-w", str(changed)).decode().strip()
        index = os.environ | {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        identity = ["-c", "user.name=gate", "-c", "user.email=gate@localhost", "-c", "commit.gpgsign=false"]

        def run(*arguments: str) -> str:
            command = ["git", "-C", str(root), *identity, *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=index).stdout.strip()

        run("read-tree", commit)
        run("update-index", "--cacheinfo", f"100644,{blob},{plant.path}")
        return run("commit-tree", run("write-tree"), "-p", commit, "-m", f"Planted: {plant.name}")


def one_trial(root: Path, base: str, head: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run the gate once in a process of its own, as a user does."""
    output = folder / "trial.json"
    output.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "asv_bench.gate", base, head, "--quick", "--times", "--json", str(output),
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
        "screened": {case: outcome["estimates"][case]["ratio"] for case in cases if case in outcome["estimates"]},
        "suspects": len(outcome["verdicts"]),
        "seconds": round(outcome["seconds"]),
        "load": outcome["load"],
    }


def schedule(equal: int, planted: int) -> list[Plant | None]:
    """Spread the planted trials evenly among those of equal commits (None), so that both meet the same machine."""
    due: list[tuple[float, Plant | None]] = [((i + 0.5) / equal, None) for i in range(equal)]
    due += [((i + 0.5) / planted, PLANTS[i % len(PLANTS)]) for i in range(planted)]
    return [plant for _, plant in sorted(due, key=lambda entry: entry[0])]


def table(trials: Sequence[dict[str, Any]]) -> str:
    """Return the trials as Markdown."""
    equal = [trial for trial in trials if trial["kind"] == "equal"]
    planted = [trial for trial in trials if trial["kind"] == "planted"]
    alarms = sum(bool(trial["slower"]) for trial in equal)
    found = sum(trial["found"] for trial in planted)
    lines = [
        f"{len(equal)} runs of a commit against itself: {alarms} false alarms. "
        f"{len(planted)} runs with a planted slowdown: {found} found.",
        "",
        "| trial | found slower | seconds | load |",
        "| --- | --- | ---: | ---: |",
    ]
    for number, trial in enumerate(trials, 1):
        name = trial["plant"] or "against itself"
        slower = ", ".join(f"{case} {100 * (ratio - 1):+.1f} %" for case, ratio in trial["slower"].items()) or "none"
        lines.append(f"| {number}: {name} | {slower} | {trial['seconds']} | {trial['load']:.1f} |")
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
    except (GateError, OSError) as error:
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
    trials: list[dict[str, Any]] = []
    if options.results.exists():
        document = json.loads(options.results.read_text())
        if document["commit"] == commit:
            trials = document["trials"]
    plants = {plant.name: plant_commit(root, commit, plant) for plant in PLANTS} if options.planted else {}
    due = schedule(options.equal, options.planted)
    for number, plant in enumerate(due):
        if number < len(trials):
            continue
        start = time.perf_counter()
        head = plants[plant.name] if plant else commit
        outcome = one_trial(root, commit, head, folder, ())
        trials.append(summarise_trial("planted" if plant else "equal", plant, outcome))
        aside = options.results.with_suffix(".part")
        aside.write_text(json.dumps({"commit": commit, "trials": trials}, indent=1) + "\n")
        os.replace(aside, options.results)
        print(f"{number + 1}/{len(due)} {plant.name if plant else 'against itself'}: "
              f"{trials[-1]['slower'] or 'none slower'} ({time.perf_counter() - start:.0f} s)", flush=True)  # fmt: skip
    print(table(trials))
    alarms = sum(bool(trial["slower"]) for trial in trials if trial["kind"] == "equal")
    found = [trial["found"] for trial in trials if trial["kind"] == "planted"]
    return int(alarms > 0 or sum(found) < 0.9 * len(found))


if __name__ == "__main__":
    sys.exit(main())
