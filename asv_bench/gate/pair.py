"""Two workers, one per commit, that measure in turn: one works while the other sleeps on its input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asv_bench.gate.statistics import Round

HARNESS = Path(__file__).resolve().parents[2]
SIDES = ("base", "head")
# Each side's share of one round of one case.
ROUND_SECONDS = 5e-3
# The package comes from the commit's tree, this harness from its own place, whatever the current folder holds.
START = "import sys; sys.path[:0] = sys.argv[1:3]; from {module} import main; main()"


class WorkerError(RuntimeError):
    """A worker ended or answered nonsense."""


@dataclass(frozen=True)
class Tree:
    """A commit laid out in a folder, and the folder that its compiled code is kept in."""

    commit: str
    folder: Path
    cache: Path


def environment(tree: Tree, threads: int = 1) -> dict[str, str]:
    """Return the environment of a process that runs a commit's package and nothing of another's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBACONV_", "NUMBA_CACHE", "PYTHONPATH"))}
    count = str(threads)
    fixed = {"NUMBA_NUM_THREADS": count, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "PYTHONHASHSEED": "0"}
    own = {"NUMBACONV_CACHE_DIR": str(tree.cache), "NUMBACONV_QUIET": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | fixed | own


def command(tree: Tree, module: str, *arguments: str) -> list[str]:
    """Return the command that runs `main` of a module of the harness on a commit's package."""
    return [sys.executable, "-P", "-c", START.format(module=module), str(tree.folder), str(HARNESS), *arguments]


class Worker:
    """A process that answers one request at a time."""

    def __init__(self, tree: Tree, threads: int = 1) -> None:
        self.tree = tree
        self.process = subprocess.Popen(
            command(tree, "asv_bench.gate.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(tree, threads),
            cwd=tempfile.gettempdir(),
        )
        package = Path(self._answer()["package"])
        if not package.is_relative_to(tree.folder):
            raise WorkerError(f"the worker of {tree.commit} imported {package}, which is another tree")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"the worker of {self.tree.commit} has ended") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise WorkerError(f"the worker of {self.tree.commit} ended with exit code {code}; its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, which stops at the end of its input."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait()


class Pair:
    """Both workers; use as a context manager."""

    def __init__(self, trees: Sequence[Tree], *, swapped: bool = False, threads: int = 1) -> None:
        self.workers: dict[str, Worker] = {}
        try:
            for side, tree in sorted(zip(SIDES, trees), reverse=swapped):
                self.workers[side] = Worker(tree, threads)
        except BaseException:
            self.close()
            raise
        self.swapped = swapped

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End both processes."""
        for worker in self.workers.values():
            worker.close()

    def prepare(self, case: str) -> Mapping[str, str]:
        """Build a case on both sides; the answer holds the failures by side."""
        answers = {side: self.workers[side].ask(prepare=case) for side in self._order(0)}
        return {side: answer["failed"] for side, answer in answers.items() if "failed" in answer}

    def _order(self, turn: int) -> Sequence[str]:
        """The sides in the order of one round: base first, then head first, so that drift favours neither."""
        return SIDES if (turn % 2 == 0) != self.swapped else SIDES[::-1]

    def round(self, case: str, turn: int) -> Round:
        """Measure both sides of a case once: the best wall-clock and the best processor times of base and head."""
        answers = {}
        for side in self._order(turn):
            answers[side] = answer = self.workers[side].ask(measure=case, seconds=ROUND_SECONDS)
            if "failed" in answer:
                raise WorkerError(f"{case} failed on {self.workers[side].tree.commit}: {answer['failed']}")
        base, head = answers["base"], answers["head"]
        return base["wall"], head["wall"], base["processor"], head["processor"]
