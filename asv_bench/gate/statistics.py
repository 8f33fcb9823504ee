"""The gate's statistics: what one pair of processes says of a case, what several say together.

A round gives the best times of both sides, measured within some 15 ms of each other. What others do on the machine
makes a call longer, never shorter, so one pair of processes is summarised by the best of all rounds of each side: on a
quiet machine its ratio scatters by 1.0 %, the median of the rounds' ratios by 1.4 %, and on a busy one it holds
longer. Two processes with the same code still differ by a few per cent for as long as they live, by where the system
put their memory: now and then by a tenth, either way, and more where others use the same cache or memory. So neither
suspicion nor verdict rests on one pair, and a verdict must be larger than the scatter of the pairs that it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

# Relative slowdowns. A case is suspected lightly and convicted by evidence of other processes only.
SUSPECT, LIMIT = 0.025, 0.05
# Processor time leaves out what others take from a busy machine. The clock on the wall, which also sees waiting, is
# noisier there and convicts by itself only above this.
WALL_LIMIT = 0.15
# A mean this near to the limit is decided by more pairs.
UNDECIDED = 0.02
# Student's t for a chance of 0.5 % that the bound is above the truth, by degrees of freedom.
STUDENT = {1: 63.7, 2: 9.92, 3: 5.84, 4: 4.60, 5: 4.03, 6: 3.71, 7: 3.50, 8: 3.36, 9: 3.25, 10: 3.17}

# Seconds per call of one round: wall clock of base and head, processor time of base and head.
Round = tuple[float, float, float, float]


@dataclass(frozen=True)
class Estimate:
    """Head's processor time divided by base's in one pair of processes, and the same by the wall clock."""

    ratio: float
    wall: float
    rounds: int


def best_ratio(base: Sequence[float], head: Sequence[float]) -> float:
    """Return the best time of head divided by the best of base."""
    return min(head) / min(base)


def estimate(rounds: Sequence[Round]) -> Estimate:
    """Summarise the rounds of one pair of processes."""
    base_wall, head_wall, base, head = zip(*rounds)
    return Estimate(best_ratio(base, head), best_ratio(base_wall, head_wall), len(rounds))


def is_suspect(screening: Sequence[Estimate]) -> bool:
    """Tell whether the screening's pairs leave a slowdown possible: their median is above SUSPECT, or the wall's limit.

    A slowdown escapes where more than half of the pairs are odd by as much as it is, in the other direction.
    """
    return median(e.ratio for e in screening) > 1 + SUSPECT or median(e.wall for e in screening) > 1 + WALL_LIMIT


def is_cleared(fresh: Sequence[Estimate]) -> bool:
    """Tell whether the fresh pairs so far speak against a slowdown by two pairs more than for it.

    With a slowdown that one pair in ten hides, that happens by chance once in a hundred times.
    """
    above = sum(e.ratio > 1 + SUSPECT or e.wall > 1 + WALL_LIMIT for e in fresh)
    return len(fresh) - above >= above + 2


def trimmed_mean(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the mean of ratios without the lowest and the highest, and the bound that it is above but for 0.5 %.

    Means and the bound are those of logarithms, by Student's distribution of a trimmed mean (Tukey and McLaughlin,
    "Less vulnerable confidence and significance procedures for location based on a single sample", Sankhya A 25,
    1963): one odd pair at each end neither moves the mean nor widens the bound. Takes at least four ratios.
    """
    ordered = sorted(math.log(ratio) for ratio in ratios)
    kept = ordered[1:-1]
    winsorized = [kept[0], *kept, kept[-1]]
    deviation = stdev(winsorized) / (len(kept) / len(ordered) * math.sqrt(len(ordered)))
    center = fmean(kept)
    return math.exp(center), math.exp(center - STUDENT[len(kept) - 1] * deviation)


@dataclass(frozen=True)
class Verdict:
    """What fresh pairs of processes say: slower or not, whether more pairs should decide, mean ratios and bounds."""

    slower: bool
    undecided: bool
    ratio: float
    bound: float
    wall: float
    pairs: int


def judge(fresh: Sequence[Estimate], limit: float = LIMIT) -> Verdict:
    """Judge a case by pairs of processes that took no part in suspecting it.

    It is slower where their mean is above the limit, and above SUSPECT by more than the pairs' own scatter explains.
    """
    ratio, bound = trimmed_mean([e.ratio for e in fresh])
    wall, wall_bound = trimmed_mean([e.wall for e in fresh])
    by_processor = ratio > 1 + limit and bound > 1 + SUSPECT
    by_wall = wall > 1 + max(limit, WALL_LIMIT) and wall_bound > 1 + limit
    slower = by_processor or by_wall
    undecided = abs(ratio - 1 - limit) < UNDECIDED or (ratio > 1 + limit and not slower)
    return Verdict(slower, undecided, ratio, bound, wall, len(fresh))
