"""The gate's course: noise-free tracks first, then every case in a few pairs, then suspects alone in fresh pairs."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asv_bench.gate import rules
from asv_bench.gate.commits import GateError
from asv_bench.gate.pair import SIDES, Pair, Tree, WorkerError, command, environment
from asv_bench.gate.state import State
from asv_bench.gate.statistics import LIMIT, Estimate, Verdict, estimate, is_cleared, is_suspect, judge

SCREEN_PAIRS, SCREEN_ROUNDS, FRESH_ROUNDS = 3, 6, 16
FRESH_PAIRS, MOST_FRESH_PAIRS = 7, 11
TRACKS_FILE = "tracks.json"
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run found: `screening` by pair of all cases, those `suspected`, `verdicts` of those never cleared."""

    findings: list[rules.Finding] = field(default_factory=list)
    screening: dict[str, list[Estimate]] = field(default_factory=dict)
    suspected: list[str] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)

    @property
    def slower(self) -> list[str]:
        return [name for name, verdict in self.verdicts.items() if verdict.slower and name not in self.accepted]

    @property
    def fails(self) -> bool:
        return bool(self.slower or self.broken or any(finding.fails for finding in self.findings))

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return asdict(self) | {"slower": self.slower, "fails": self.fails}


def measure_tracks(trees: Sequence[Tree], state: State, say: Say) -> None:
    """Collect the noise-free figures of both commits side by side, each in a process of its own with an empty cache."""
    missing = [(side, tree) for side, tree in zip(SIDES, trees) if side not in state.data["tracks"]]
    if not missing:
        return
    which = " and ".join(f"{side} {tree.commit[:12]}" for side, tree in missing)
    say(f"noise-free tracks of {which}: compiling all kernels")
    with tempfile.TemporaryDirectory() as folder:
        running = [_start_tracks(tree, Path(folder) / side) for side, tree in missing]
        try:
            for (side, tree), process in zip(missing, running):
                if process.wait():
                    raise GateError(f"the tracks of {tree.commit[:12]} could not be collected; its messages are above")
                state.data["tracks"][side] = json.loads((Path(folder) / side / TRACKS_FILE).read_text())
                state.save()
        finally:
            for process in running:
                process.kill()
                process.wait()


def _start_tracks(tree: Tree, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    cold = Tree(tree.commit, tree.folder, folder / "cache")
    return subprocess.Popen(
        command(cold, "asv_bench.gate.tracks", str(folder / TRACKS_FILE)),
        env=environment(cold), stdin=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip


def measure_stage(
    trees: Sequence[Tree], stage: str, cases: Sequence[str], rounds: int, swapped: bool, state: State
) -> None:
    """Measure cases in one new pair of processes, in turn within each round; what the state holds is not repeated."""
    due = [case for case in cases if len(state.rounds(stage, case)) < rounds and case not in state.data["failed"]]
    if not due:
        return
    with Pair(trees, swapped=swapped) as pair:
        for case in list(due):
            failures = pair.prepare(case)
            if failures:
                state.data["failed"][case] = dict(failures)
                due.remove(case)
        for turn in range(rounds):
            for case in due:
                done = state.rounds(stage, case)
                if len(done) <= turn:
                    done.append(pair.round(case, turn))
            state.save()


def _estimates(state: State, stages: Sequence[str], case: str) -> list[Estimate]:
    return [estimate(rounds) for stage in stages if (rounds := state.rounds(stage, case))]


def measure_times(trees: Sequence[Tree], cases: Sequence[str], limit: float, state: State, say: Say) -> Outcome:
    """Screen all cases by a few pairs of processes, and judge the suspects by fresh ones."""
    outcome = Outcome()
    say(f"{len(cases)} cases, {SCREEN_PAIRS} pairs of processes")
    screens = [f"screen-{number}" for number in range(SCREEN_PAIRS)]
    for number, stage in enumerate(screens):
        measure_stage(trees, stage, cases, SCREEN_ROUNDS, number % 2 == 1, state)
    for case, failures in state.data["failed"].items():
        if "base" not in failures:
            outcome.broken[case] = failures["head"]
        else:
            outcome.skipped[case] = failures["base"]
    alive = [case for case in cases if case not in state.data["failed"]]
    outcome.screening = {case: _estimates(state, screens, case) for case in alive}
    suspects = [case for case in alive if is_suspect(outcome.screening[case])]
    outcome.suspected = list(suspects)
    fresh: list[str] = []
    while suspects and len(fresh) < MOST_FRESH_PAIRS:
        say(f"{len(suspects)} suspected after {len(fresh)} fresh pairs of processes: {', '.join(suspects)}")
        fresh.append(f"fresh-{len(fresh)}")
        measure_stage(trees, fresh[-1], suspects, FRESH_ROUNDS, len(fresh) % 2 == 0, state)
        found = {case: _estimates(state, fresh, case) for case in suspects}
        suspects = [case for case in suspects if not is_cleared(found[case])]
        if len(fresh) >= FRESH_PAIRS:
            outcome.verdicts |= {case: judge(found[case], limit) for case in suspects}
            suspects = [case for case in suspects if outcome.verdicts[case].undecided]
    return outcome


def run(
    trees: Sequence[Tree],
    cases: Sequence[str],
    state: State,
    say: Say,
    *,
    tracks: bool = True,
    times: bool = True,
    limit: float = LIMIT,
    accepted: Sequence[str] = (),
) -> Outcome:
    """Run the gate; a worker that dies ends it as a `GateError`."""
    findings: list[rules.Finding] = []
    try:
        if tracks:
            measure_tracks(trees, state, say)
            findings = rules.compare(state.data["tracks"]["base"], state.data["tracks"]["head"], accepted)
        outcome = measure_times(trees, cases, limit, state, say) if times else Outcome()
    except WorkerError as error:
        raise GateError(str(error)) from error
    outcome.findings = findings
    outcome.accepted = [case for case in outcome.verdicts if rules.is_accepted(case, accepted)]
    state.finish()
    return outcome
