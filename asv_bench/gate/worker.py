"""One side of the gate: a process that holds one commit's package, sleeps on its input and measures when asked.

Requests and answers are lines of JSON. `{"prepare": case}` builds a case and calls it once; `{"measure": case,
"seconds": s}` answers the best wall-clock and processor time of one call in about that time.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any, TextIO

from asv_bench.gate.cases import Call, all_cases

# A sample of short calls repeats them until about this many seconds have passed, so that reading the clocks is free.
SAMPLE_SECONDS = 0.5e-3
FEWEST_SAMPLES = 3


class Prepared:
    """A case that has run, and how often one sample repeats it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        call()
        self.seconds, start = float("inf"), time.perf_counter()
        while time.perf_counter() - start < 5e-3:
            before = time.perf_counter()
            call()
            self.seconds = min(self.seconds, time.perf_counter() - before)
        self.repeats = max(1, int(SAMPLE_SECONDS / self.seconds))

    def sample(self) -> tuple[float, float]:
        """Return wall-clock and processor seconds per call of one sample."""
        call, repeats = self.call, self.repeats
        processor, wall = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(repeats):
            call()
        wall, processor = time.perf_counter_ns() - wall, time.process_time_ns() - processor
        return wall * 1e-9 / repeats, processor * 1e-9 / repeats

    def best(self, seconds: float) -> tuple[float, float]:
        """Return the best wall-clock and the best processor time of samples that take about `seconds` together."""
        fewest = 1
        if self.seconds < seconds:
            fewest = FEWEST_SAMPLES
            self.sample()  # fills the caches that the other side has used meanwhile; in a long call that is little
        walls, processors = [], []
        end = time.perf_counter() + seconds
        while len(walls) < fewest or time.perf_counter() < end:
            wall, processor = self.sample()
            walls.append(wall)
            processors.append(processor)
        return min(walls), min(processors)


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until the input ends."""
    builders = {case.name: case.build for case in all_cases()}
    prepared: dict[str, Prepared] = {}
    gc.disable()
    for line in requests:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if "prepare" in request:
                name = request["prepare"]
                prepared[name] = Prepared(builders[name]())
                answer = {"ready": name}
                gc.collect()
                gc.freeze()  # collections after each request then look at what it left behind alone
            else:
                wall, processor = prepared[request["measure"]].best(request["seconds"])
                answer = {"wall": wall, "processor": processor}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        gc.collect()
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Serve standard input; what else is printed goes to the error stream."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import numbaconv

    print(json.dumps({"package": os.path.dirname(numbaconv.__file__)}), file=answers, flush=True)
    serve(sys.stdin, answers)
