"""Time rival calls fairly: interleaved in one run, each settled before it is timed, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]

# What samples are taken with; `time.process_time` on machines that others use too.
clock: Callable[[], float] = time.perf_counter
# Whether cores are slower than they can be: `asv_bench.yardsticks.Watch` on machines whose cores are virtual.
is_disturbed: Callable[[], bool] | None = None

# One sample of a short call repeats it until this many seconds have passed.
SAMPLE_SECONDS = 2e-3
# Before it, threads wake and caches fill for this long.
WARM_SECONDS = SAMPLE_SECONDS / 4
# Threads of the library called before keep spinning for a while. GNU OpenMP's do so for 300,000 pause instructions,
# which is 6 to 14 ms on the processors of today; after this pause they are asleep.
SETTLE_SECONDS = 20e-3
# A sample waits for disturbances to pass, but not for longer than so many pauses.
PATIENCE = 15
# A rival this much slower than the best of its side in the first look is not measured further.
HOPELESS = 1.5
FEWEST_ROUNDS, MOST_ROUNDS = 3, 51


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over the samples, and the quartiles around it."""

    median: float
    low: float
    high: float
    samples: int


def _summarise(samples: list[float]) -> Timing:
    if len(samples) < 2:
        return Timing(samples[0], samples[0], samples[0], len(samples))
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, low, high, len(samples))


def _sample(call: Call, count: int) -> float:
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


def _settle() -> None:
    """Wait until the library called before is asleep, and for the cores to run at their full speed."""
    time.sleep(SETTLE_SECONDS)
    for _ in range(PATIENCE):
        if is_disturbed is None or not is_disturbed():
            return
        time.sleep(SETTLE_SECONDS)


def _first_look(call: Call) -> float:
    """Seconds per call of a call that has run before, the best of what fits in some 20 ms."""
    best, spent = float("inf"), 0.0
    while spent < 20e-3:
        seconds = _sample(call, 1)
        best, spent = min(best, seconds), spent + seconds
    return best


def interleave(
    ours: Call,
    peers: Mapping[str, Call],
    *,
    budget: float = 1.5,
    rounds: int | None = None,
    warm: float = WARM_SECONDS,
) -> tuple[Timing, dict[str, Timing]]:
    """Measure our call beside a peer's ways of doing the same.

    Each round takes one sample of every call in turn (ours, peer, ours, peer, ...; where the peer has more than one
    way left, they take turns in going first). All of them must have run once before.

    Parameters
    ----------
    ours : callable
        Our call.
    peers : mapping of str to callable
        The peer's ways. Those that are hopelessly slower than the best of them keep the one time of the first look.
    budget : float
        Seconds to spend, which sets the number of rounds (3 at least, however long a call takes).
    rounds : int, optional
        The number of rounds, whatever time they take.
    warm : float
        Seconds that a short call is repeated before its sample. After the pause that lets the other library's threads
        fall asleep, cores take some tens of milliseconds to reach the speed that they keep, and so does memory.

    Returns
    -------
    Timing, dict of str to Timing
        Ours, and the peer's by name.
    """
    looks = {name: _first_look(call) for name, call in peers.items()}
    best = min(looks.values())
    kept = [name for name, seconds in looks.items() if seconds <= HOPELESS * best or seconds < 1e-4]
    calls: dict[str | None, Call] = {None: ours, **{name: peers[name] for name in kept}}
    estimate: dict[str | None, float] = {None: _first_look(ours), **{name: looks[name] for name in kept}}
    counts = {name: max(1, int(SAMPLE_SECONDS / seconds)) for name, seconds in estimate.items()}
    if rounds is None:
        cost = sum(SETTLE_SECONDS + warm + counts[name] * seconds for name, seconds in estimate.items())
        rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(budget / cost)))

    samples: dict[str | None, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            shift = turn % len(kept)
            for name in (None, *kept[shift:], *kept[:shift]):
                _settle()
                if estimate[name] < SETTLE_SECONDS:
                    _sample(calls[name], 1 + int(warm / estimate[name]))
                samples[name].append(_sample(calls[name], counts[name]))
    finally:
        if collecting:
            gc.enable()
    timings = {name: _summarise(samples[name]) if name in kept else _summarise([looks[name]]) for name in peers}
    return _summarise(samples[None]), timings
