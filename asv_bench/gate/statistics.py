"""The gate's statistics: what one pair of processes says of a case, what several say together.

A round gives the best times of both sides, measured within some 15 ms of each other. What others do on the machine
makes a call longer, never shorter, so one pair of processes is summarised by the best of all rounds of each side: on a
quiet machine its ratio scatters by 1.0 %, the median of the rounds' ratios by 1.4 %, and on a busy one it holds
longer. Two processes with the same code still differ by a few per cent for as long as they live, by where the system
put their memory, so a verdict takes the median over several fresh pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Relative slowdowns. A case is suspected lightly and convicted by evidence of other processes only.
SUSPECT, LIMIT = 0.025, 0.05
# Processor time leaves out what others take from a busy machine. The clock on the wall, which also sees waiting, is
# noisier there and convicts by itself only above this.
WALL_LIMIT = 0.15
# The share of fresh pairs that must be above SUSPECT each.
AGREEMENT = 0.75
# A median this near to the limit is decided by more pairs.
UNDECIDED = 0.02
RESAMPLES = 1000

# Seconds per call of one round: wall clock of base and head, processor time of base and head.
Round = tuple[float, float, float, float]


@dataclass(frozen=True)
class Estimate:
    """Head's time divided by base's in one pair of processes, with a 95 % interval, and the same by the wall clock."""

    ratio: float
    low: float
    high: float
    wall: float
    rounds: int


def best_ratio(base: Sequence[float], head: Sequence[float]) -> float:
    """Return the best time of head divided by the best of base."""
    return min(head) / min(base)


def interval(base: Sequence[float], head: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of `best_ratio` by resampling rounds (Efron and Tibshirani, 1993, section 13.3).

    Every resampled minimum is one of the sample, so the interval tells how far the result hangs on single rounds.
    """
    bases, heads = np.asarray(base, dtype=float), np.asarray(head, dtype=float)
    draws = np.random.default_rng(seed).integers(0, bases.size, (RESAMPLES, bases.size))
    low, high = np.quantile(heads[draws].min(axis=1) / bases[draws].min(axis=1), (0.025, 0.975))
    return float(low), float(high)


def estimate(rounds: Sequence[Round]) -> Estimate:
    """Summarise the rounds of one pair of processes."""
    base_wall, head_wall, base, head = zip(*rounds)
    low, high = interval(base, head)
    return Estimate(best_ratio(base, head), low, high, best_ratio(base_wall, head_wall), len(rounds))


def is_suspect(estimates: Sequence[Estimate]) -> bool:
    """Tell whether the pairs so far leave a slowdown possible: their mean is above SUSPECT, or the wall's limit."""
    mean = math.exp(float(np.mean([math.log(e.ratio) for e in estimates])))
    wall = min(e.wall for e in estimates)
    return mean > 1 + SUSPECT or wall > 1 + WALL_LIMIT


@dataclass(frozen=True)
class Verdict:
    """What fresh pairs of processes say: slower or not, whether more pairs should decide, and the medians."""

    slower: bool
    undecided: bool
    ratio: float
    wall: float
    agreeing: int
    pairs: int


def judge(fresh: Sequence[Estimate], limit: float = LIMIT) -> Verdict:
    """Judge a case by pairs of processes that took no part in suspecting it."""
    ratios, walls = [e.ratio for e in fresh], [e.wall for e in fresh]
    ratio, wall = float(np.median(ratios)), float(np.median(walls))
    agreeing = sum(r > 1 + SUSPECT for r in ratios)
    by_processor = ratio > 1 + limit and agreeing >= AGREEMENT * len(ratios)
    wall_agreeing = sum(w > 1 + limit for w in walls)
    by_wall = wall > 1 + max(limit, WALL_LIMIT) and wall_agreeing >= AGREEMENT * len(walls)
    return Verdict(by_processor or by_wall, abs(ratio - 1 - limit) < UNDECIDED, ratio, wall, agreeing, len(ratios))
