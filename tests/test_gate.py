"""The gate: its statistics on made-up series, its course with made-up measurements, what it refuses and keeps."""

import json
import math
import random
import subprocess
from dataclasses import replace

import pytest

from asv_bench.gate import __main__ as gate
from asv_bench.gate import commits, rules, run, statistics
from asv_bench.gate.cases import all_cases, choose_cases, shrink
from asv_bench.gate.pair import Pair, Tree
from asv_bench.gate.state import State
from asv_bench.gate.statistics import Estimate
from asv_bench.problems import load_layers
from asv_bench.roofline import least_bytes


def made_rounds(rng, slowdown=0.0, noise=0.02, process=0.0, outliers=0.2, count=12):
    """Rounds as a busy machine gives them: slowed together now and then, each side for itself, and interrupted."""
    rounds = []
    for _ in range(count):
        shared = 1e-3 * (1 + (rng.random() < 0.5) * rng.expovariate(3))
        base, head = (shared * math.exp(abs(rng.gauss(0, noise))) for _ in range(2))
        head *= (1 + slowdown) * math.exp(process)
        walls = [s * (1 + (rng.random() < outliers) * rng.expovariate(1)) for s in (base, head)]
        rounds.append((*walls, base, head))
    return rounds


# --- statistics ------------------------------------------------------------------------------------------------------


def test_estimate_compares_the_best_of_each_side():
    rounds = [(1.0, 3.0, 1.0, 1.2), (2.0, 2.2, 2.0, 1.1), (5.0, 5.0, 5.0, 50.0)]
    found = statistics.estimate(rounds)
    assert found.ratio == pytest.approx(1.1)
    assert found.wall == pytest.approx(2.2)
    assert found.rounds == 3


class Chance:
    """Pairs of processes, each with its own luck with memory, and one in ten with much of it."""

    def __init__(self, seed, slowdown, scatter):
        self.rng, self.slowdown, self.scatter = random.Random(seed), slowdown, scatter

    def pairs(self, count):
        odd = [(self.rng.random() < 0.1) * self.rng.gauss(0, 0.1) for _ in range(count)]
        return [
            statistics.estimate(made_rounds(self.rng, self.slowdown, process=self.rng.gauss(x, self.scatter)))
            for x in odd
        ]

    def convicts(self):
        """Go through the gate's stages as `run` does."""
        if not statistics.is_suspect(self.pairs(run.SCREEN_PAIRS)):
            return False
        fresh = []
        while len(fresh) < run.MOST_FRESH_PAIRS:
            fresh += self.pairs(1)
            if statistics.is_cleared(fresh):
                return False
            if len(fresh) >= run.FRESH_PAIRS and not statistics.judge(fresh).undecided:
                break
        return statistics.judge(fresh).slower


@pytest.mark.parametrize("scatter", [0.01, 0.03])
def test_a_slowdown_of_a_tenth_is_found(scatter):
    assert sum(Chance(seed, 0.1, scatter).convicts() for seed in range(200)) >= 180


@pytest.mark.parametrize("scatter", [0.01, 0.03, 0.12])
def test_none_is_invented_however_wide_the_scatter(scatter):
    assert sum(Chance(seed, 0.0, scatter).convicts() for seed in range(1000)) <= 1


def of_ratio(ratio, wall=None):
    return Estimate(ratio, ratio if wall is None else wall, 10)


def test_trimmed_mean_by_hand():
    ratios = [math.exp(x) for x in (-1.0, 0.1, 0.2, 0.3, 9.0)]
    mean, bound = statistics.trimmed_mean(ratios)
    assert mean == pytest.approx(math.exp(0.2))
    deviation = math.sqrt((0.01 * 4) / 4) / (0.6 * math.sqrt(5))  # of 0.1, 0.1, 0.2, 0.3, 0.3
    assert bound == pytest.approx(math.exp(0.2 - 9.92 * deviation))


def test_judge_wants_more_than_the_scatter_of_the_pairs():
    assert statistics.judge([of_ratio(r) for r in (1.1, 1.1, 1.09, 1.1, 1.11, 1.1, 0.9)]).slower
    scattered = statistics.judge([of_ratio(r) for r in (1.06, 1.04, 1.31, 1.05, 1.14, 1.04, 0.86, 1.17, 1.17)])
    assert (scattered.slower, scattered.undecided) == (False, True)
    assert not statistics.judge([of_ratio(1.04)] * 7).slower
    assert statistics.judge([of_ratio(1.04)] * 7, limit=0.03).slower


def test_two_pairs_more_clear_a_case():
    assert statistics.is_cleared([of_ratio(1.0)] * 2)
    assert not statistics.is_cleared([of_ratio(1.0), of_ratio(1.1), of_ratio(1.0)])
    assert statistics.is_cleared([of_ratio(1.0), of_ratio(1.1), of_ratio(1.0), of_ratio(0.99)])
    assert not statistics.is_cleared([of_ratio(1.0, wall=1.3)] * 2)


def test_waiting_is_seen_by_the_wall_clock_alone():
    assert statistics.judge([of_ratio(1.0, wall=1.3)] * 7).slower
    assert not statistics.judge([of_ratio(1.0, wall=1.1)] * 7).slower
    assert statistics.is_suspect([of_ratio(1.0, wall=1.3)] * 2 + [of_ratio(1.0)])
    assert not statistics.is_suspect([of_ratio(1.0, wall=1.3), of_ratio(1.0), of_ratio(1.0)])


def test_one_odd_pair_neither_hides_nor_raises_a_suspicion():
    assert statistics.is_suspect([of_ratio(1.08), of_ratio(0.9), of_ratio(1.08)])
    assert not statistics.is_suspect([of_ratio(1.0), of_ratio(1.2), of_ratio(1.0)])


def test_near_the_limit_more_pairs_decide():
    assert statistics.judge([of_ratio(1.04)] * 7).undecided
    assert not statistics.judge([of_ratio(1.1)] * 7).undecided
    assert not statistics.judge([of_ratio(1.0)] * 7).undecided


# --- the course ------------------------------------------------------------------------------------------------------


class MadePair:
    """Stands for two processes; `slow` has slowdowns and `broken` failures by case; Ctrl-C after `budget` rounds."""

    slow, broken, budget, opened, rounds = {}, {}, math.inf, 0, 0

    def __init__(self, trees, *, swapped=False):
        cls = type(self)
        self.rng = random.Random(cls.opened)
        self.process = self.rng.gauss(0, 0.01)
        cls.opened += 1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def prepare(self, case):
        return self.broken.get(case, {})

    def round(self, case, turn):
        cls = type(self)
        if cls.rounds >= cls.budget:
            raise KeyboardInterrupt
        cls.rounds += 1
        return made_rounds(self.rng, self.slow.get(case, 0.0), 0.005, self.process, 0.0, 1)[0]


@pytest.fixture
def made_pair(monkeypatch):
    made = type("Made", (MadePair,), {})
    monkeypatch.setattr(run, "Pair", made)
    return made


def quietly(text):
    pass


def run_times(state, cases=("a", "b", "c"), **options):
    return run.run([], list(cases), state, quietly, tracks=False, **options)


def test_the_slow_case_alone_reaches_fresh_processes(made_pair, tmp_path):
    made_pair.slow = {"b": 0.1}
    outcome = run_times(State(tmp_path / "state.json", {}))
    assert outcome.slower == ["b"]
    assert outcome.fails
    assert outcome.verdicts["b"].pairs == run.FRESH_PAIRS
    assert set(outcome.verdicts) == {"b"}
    assert {case: len(pairs) for case, pairs in outcome.screening.items()} == dict.fromkeys("abc", run.SCREEN_PAIRS)


def test_nothing_slow_ends_after_the_screening(made_pair, tmp_path):
    outcome = run_times(State(tmp_path / "state.json", {}))
    assert not outcome.fails
    assert made_pair.opened == run.SCREEN_PAIRS


def test_an_accepted_slowdown_passes(made_pair, tmp_path):
    made_pair.slow = {"layer.forward": 0.1}
    outcome = run_times(State(tmp_path / "state.json", {}), ["layer.forward"], accepted=["layer.*"])
    assert outcome.verdicts["layer.forward"].slower
    assert not outcome.fails


def test_a_case_that_head_alone_cannot_run_fails(made_pair, tmp_path):
    made_pair.broken = {"a": {"head": "ValueError: no"}, "b": {"base": "AttributeError: new", "head": "the same"}}
    outcome = run_times(State(tmp_path / "state.json", {}))
    assert outcome.broken == {"a": "ValueError: no"}
    assert outcome.skipped == {"b": "AttributeError: new"}
    assert outcome.fails


@pytest.mark.parametrize("interrupted_after", [0, 7, 31, 60])
def test_a_second_start_goes_on(made_pair, tmp_path, interrupted_after):
    made_pair.slow = {"b": 0.1}
    path = tmp_path / "deep" / "state.json"
    made_pair.budget = interrupted_after
    state = State(path, {"x": 1})
    with pytest.raises(KeyboardInterrupt):
        run_times(state)
    state.save()
    again = State(path, {"x": 1})
    assert again.resumed or interrupted_after == 0
    made_pair.budget = math.inf
    assert run_times(again).slower == ["b"]
    rounds = 3 * run.SCREEN_PAIRS * run.SCREEN_ROUNDS + run.FRESH_PAIRS * run.FRESH_ROUNDS
    assert made_pair.rounds == rounds
    assert not State(path, {"x": 1}).resumed, "a complete run is not repeated"


def test_a_state_of_other_settings_or_cut_short_is_not_used(tmp_path):
    path = tmp_path / "state.json"
    state = State(path, {"x": 1})
    state.rounds("screen-0", "a").append([1, 1, 1, 1])
    state.save()
    assert State(path, {"x": 1}).resumed
    other = State(path, {"x": 2})
    assert not other.resumed
    assert "other settings" in other.note
    path.write_text("{")
    assert "cannot be read" in State(path, {"x": 1}).note
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


# --- cases -----------------------------------------------------------------------------------------------------------


def test_cases_are_chosen_by_their_start():
    assert [case.name for case in choose_cases(["pool.max"], quick=True)] == ["pool.max", "pool.max_gradient"]
    assert len(choose_cases([], quick=True)) < len(choose_cases([], quick=False)) == len(all_cases())
    with pytest.raises(ValueError, match=r"^no case starts with nothing; there are rn18"):
        choose_cases(["nothing", "pool"], quick=True)


@pytest.mark.parametrize("case", ["lenet5_c1_bs1.forward", "pool.max_gradient", "padding.reflect_gradient"])
def test_a_case_can_be_called_again(case):
    (built,) = [c.build() for c in all_cases() if c.name == case]
    built()
    built()


@pytest.mark.parametrize("name", ["rn50_3_3x3", "mbv2_dw_144", "x3d_dw", "convT3d_op1"])
def test_layers_are_cut_to_the_limits(name):
    (layer,) = load_layers(only=[name])
    small = shrink(layer, 0.12, 1 << 20)
    assert small.gflop <= 0.12
    assert least_bytes(small) <= 1 << 20
    assert all(n >= 2 * k for n, k in zip(small.in_size, small.kernel))
    assert replace(small, batch=layer.batch, in_size=layer.in_size) == layer
    assert shrink(layer, 1e9, 1 << 60) == layer


# --- commits and the command line ------------------------------------------------------------------------------------

FAKE = """
import numpy as np
def conv(x, kernel, **options):
    {body}
"""


def git(root, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def commit(root, message):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


@pytest.fixture
def repository(tmp_path):
    """A clone with three commits of a package that can do one thing, and then cannot."""
    root = tmp_path / "clone"
    (root / "numbaconv").mkdir(parents=True)
    git(root, "init", "--quiet")
    for body in ("return np.zeros(1)", "return np.ones(1)", "raise ValueError('broken')"):
        (root / "numbaconv" / "__init__.py").write_text(FAKE.format(body=body))
        commit(root, f"{body}\n\nGate-accept: pool.*, cache_bytes")
    return root


def start(root, *arguments):
    return gate.main([*arguments, "--times", "--repository", str(root), "--folder", str(root.parent / "state")])


def test_unknown_commit(repository, capsys):
    assert start(repository, "nothing", "HEAD") == 2
    assert f"gate: unknown commit 'nothing': name a commit, branch or tag of {repository}" in capsys.readouterr().err


def test_a_commit_without_the_package(repository, capsys):
    (repository / "numbaconv" / "__init__.py").rename(repository / "elsewhere.py")
    commit(repository, "no package")
    assert start(repository, "HEAD~1", "HEAD") == 2
    assert "has no folder numbaconv: name one that holds the package" in capsys.readouterr().err


def test_tracks_of_the_same_package_are_not_collected(repository, capsys):
    (repository / "README.md").write_text("new")
    commit(repository, "only words")
    folders = ["--repository", str(repository), "--folder", str(repository.parent / "state")]
    assert gate.main(["HEAD~1", "HEAD", "--noise-free", *folders]) == 0
    told = capsys.readouterr()
    assert "both commits hold the same package" in told.err
    assert "compiling" not in told.err


def test_tracks_that_cannot_be_collected(repository, capsys):
    folders = ["--repository", str(repository), "--folder", str(repository.parent / "state")]
    assert gate.main(["HEAD~2", "HEAD~1", "--noise-free", *folders]) == 2
    base = commits.resolve(repository, "HEAD~2")[:12]
    assert f"gate: the tracks of {base} could not be collected" in capsys.readouterr().err


def test_outside_a_repository(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert start(tmp_path, "HEAD~1") == 2
    assert "is not inside a git repository: run the gate in a clone of numbaconv" in capsys.readouterr().err


def test_without_git(repository, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert start(repository, "HEAD~1") == 2
    assert "git was not found" in capsys.readouterr().err


def test_unknown_case(repository, capsys):
    assert start(repository, "HEAD~1", "--only", "nothing") == 2
    assert "no case starts with nothing" in capsys.readouterr().err


def test_uncommitted_changes_are_told(repository, capsys, made_pair):
    (repository / "numbaconv" / "more.py").write_text("")
    assert start(repository, "HEAD~2", "HEAD~1", "--only", "lenet5_c1_bs1.forward") == 0
    told = capsys.readouterr()
    assert "note: 1 files of the package have changes that are not committed (numbaconv/more.py, ...)" in told.err
    assert "passed: no reproduced slowdown above 5%" in told.out


def test_interruption_keeps_what_was_measured(repository, capsys, made_pair, tmp_path):
    made_pair.budget = 5
    arguments = ("HEAD~2", "HEAD~1", "--only", "lenet5_c1_bs1", "--json", str(tmp_path / "out" / "gate.json"))
    assert start(repository, *arguments) == 3
    assert "the same command goes on from there" in capsys.readouterr().err
    made_pair.budget = math.inf
    assert start(repository, *arguments) == 0
    assert "going on with the interrupted run" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "gate.json").read_text())["fails"] is False


def test_processes_import_their_own_commits_and_a_failure_of_head_is_found(repository, capsys):
    assert start(repository, "HEAD~1", "HEAD", "--only", "lenet5_c1_bs1.forward") == 1
    out = capsys.readouterr().out
    assert "lenet5_c1_bs1.forward          FAILS on head alone: ValueError: broken" in out
    assert "FAILED: lenet5_c1_bs1.forward" in out


def test_a_pair_answers_the_times_of_both_sides(repository, tmp_path):
    trees = []
    for name in ("HEAD~2", "HEAD~1"):
        trees.append(Tree(name, tmp_path / name, tmp_path / "cache"))
        commits.lay_out(repository, commits.resolve(repository, name), trees[-1].folder)
    with Pair(trees, swapped=True) as pair:
        assert pair.prepare("lenet5_c1_bs1.forward") == {}
        assert pair.prepare("pool.max") == {
            side: "AttributeError: module 'numbaconv' has no attribute 'max_pool'" for side in ("base", "head")
        }
        times = pair.round("lenet5_c1_bs1.forward", 0)
    assert len(times) == 4
    assert all(seconds >= 0 for seconds in times)
    assert [worker.process.returncode for worker in pair.workers.values()] == [0, 0]


def test_accepted_names_are_read_from_messages(repository):
    assert commits.accepted(repository, "HEAD~1", "HEAD") == {"pool.*", "cache_bytes"}
    assert commits.accepted(repository, "HEAD", "HEAD") == set()
    assert rules.is_accepted("pool.max", ["pool.*"])
    assert not rules.is_accepted("pooling", ["pool.*"])
