"""Trials of the gate: planted slowdowns are commits on no branch, and the table counts what was found."""

import subprocess
from pathlib import Path

import pytest

from asv_bench import gate_plants, gate_trials
from asv_bench.gate import commits
from asv_bench.gate.cases import all_cases

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root():
    try:
        commits.resolve(ROOT, "HEAD")
    except commits.GateError as error:
        pytest.skip(str(error))
    return ROOT


@pytest.mark.parametrize("plant", gate_plants.PLANTS, ids=lambda plant: plant.path.rpartition("/")[2] + plant.name[:4])
def test_a_plant_still_has_its_place(plant):
    text = (ROOT / plant.path).read_text()
    assert text.count(plant.old) == 1
    compile(text.replace(plant.old, plant.new), plant.path, "exec")


def test_a_planted_commit_differs_in_one_file_and_is_on_no_branch(tmp_path):
    plant = gate_plants.PLANTS[0]
    path = tmp_path / plant.path
    path.parent.mkdir(parents=True)
    path.write_text(f"first\n{plant.old}last\n")
    (tmp_path / "other").write_text("other")

    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    commit = commits.resolve(tmp_path, "HEAD")
    planted = gate_plants.plant_commit(tmp_path, commit, plant)
    assert gate_plants.plant_commit(tmp_path, commit, plant) == planted
    assert git("diff", "--name-only", commit, planted).split() == [plant.path]
    assert git("show", f"{planted}:{plant.path}") == f"first\n{plant.new}last\n"
    assert git("status", "--porcelain") == ""
    assert git("branch", "--all", "--contains", planted) == ""
    (tmp_path / plant.path).write_text("nothing")
    git("commit", "--quiet", "--all", "--message", "second")
    with pytest.raises(commits.GateError, match="no such place to plant"):
        gate_plants.plant_commit(tmp_path, commits.resolve(tmp_path, "HEAD"), plant)


def test_trials_of_both_kinds_are_spread():
    due = gate_trials.schedule(20, 10)
    assert (len(due), due.count(None)) == (30, 20)
    assert all(due[i : i + 6].count(None) in (3, 4, 5) for i in range(0, 30, 6))
    assert gate_trials.schedule(0, 0) == []


def outcome(slower):
    verdicts = {case: {"ratio": 1.1} for case in slower}
    screening = dict.fromkeys([case.name for case in all_cases(quick=True)], [{"ratio": 1.0}] * 3)
    found = {"slower": list(slower), "verdicts": verdicts, "suspected": [*slower, "pool.average"]}
    return found | {"screening": screening, "seconds": 61.4, "load": 1.0}


def test_the_table_counts():
    plant = gate_plants.PLANTS[0]
    trials = [
        gate_trials.summarise_trial("equal", None, outcome([])),
        gate_trials.summarise_trial("equal", None, outcome(["pool.max"])),
        gate_trials.summarise_trial("planted", plant, outcome([plant.cases[0]])),
        gate_trials.summarise_trial("planted", plant, outcome(["pool.max"])),
    ]
    lines = gate_trials.table(trials, {plant.name: dict.fromkeys(plant.cases, 1.095)}).splitlines()
    assert lines[0] == ("2 runs of a commit against itself: 1 false alarms. 2 runs with a planted slowdown: 1 found.")
    assert lines[4] == f"| 1: against itself |  | 1 of {len(all_cases(quick=True))} | none | 61 | 1.0 |"
    case = plant.cases[0]
    suspected = f"2 of {len(all_cases(quick=True))}"
    assert lines[6] == f"| 3: {plant.name} | {case} +9.5 % | {suspected} | {case} +10.0 % | 61 | 1.0 |"


def test_own_cases_are_named_first_and_others_counted():
    plant = gate_plants.PLANTS[0]
    slower = {"a": 1.2, "b": 1.3, plant.cases[1]: 1.08, plant.cases[0]: 1.1}
    text = f"{plant.cases[0]} +10.0 %, {plant.cases[1]} +8.0 %, a +20.0 % and 1 more"
    assert gate_trials._found(slower, plant.name) == text


def test_every_plant_has_its_cases_in_both_lists():
    for plant in gate_plants.PLANTS:
        assert set(plant.cases) <= {case.name for case in all_cases()}
        assert plant.cases[0] in {case.name for case in all_cases(quick=True)}
