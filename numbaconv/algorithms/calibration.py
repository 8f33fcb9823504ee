"""What passes take of their algorithms' estimates where the direct algorithm takes all of its own.

Estimates count products, loads and copies; how much of these a core does at once, and so which algorithm is the fastest
of several that are close, differs between kinds of CPUs. Shares were chosen to lose least on measured layers: those
that they choose beside the fastest algorithm of each. A CPU that is not here has shares of 1.

Cores that start two products of 64 bytes in a cycle (a Zen 5): 1,400 passes of 450 layers drawn at random and 275 known
ones take 1.02 times as long as by the fastest algorithm. Cores that start two of 32 (a Zen 3): direct kernel gradients
reach 80 % of the peak where they are estimated to, products of transformed numbers 94 %; of 104 layers twelve are
chosen for it, 1.0 to 1.5 times as fast.

Intel's cores of the first kind, those of a server whose caches behind L2 are slow: 880 passes of known layers and of
two lists drawn at random, each after a pause, take 1.02 (forward), 1.03 (input gradients) and 1.01 (kernel gradients)
times as long as by the fastest algorithm.
"""

from __future__ import annotations

import math

from numbaconv.target import TARGET

_INTEL = {("winograd", "kernel_grad"): 0.86, ("planar", "forward"): 0.8, ("planar", "input_grad"): 1.1}

_SHARES: dict[tuple[int, int], dict[tuple[str, str], float]] = {
    (64, 2): {
        ("winograd", "forward"): 0.84, ("winograd", "input_grad"): 0.88, ("winograd", "kernel_grad"): 0.66,
        ("planar", "forward"): 0.72, ("planar", "input_grad"): 0.8, ("planar", "kernel_grad"): 0.65,
        ("folded_planes", "input_grad"): 0.85,
    } | (_INTEL if TARGET.is_intel else {}),
    (32, 2): {("winograd", "kernel_grad"): 0.78},
}  # fmt: skip
"""By bytes of a register and the products of one that a core starts in a cycle, then by algorithm and pass."""

COPIED_PLANES, WIDE_PLANES = 0.92, 1.0 if TARGET.is_intel else 0.8
"""The least share of planar forward passes of one channel, which is copied, not transposed, and of those to more
channels than a register has lanes, where such passes have one."""

STARTING_CYCLES = (80_000 if TARGET.is_intel else 40_000) if TARGET.has_two_wide_units else 0
"""Of two launches, the threads' way from one to the other, and tasks whose number does not divide by that of threads:
where layers take less than 50 microseconds these weigh as much as all else of Winograd's algorithm."""

TOUCHED_BYTES_PER_CYCLE = 2.0 if TARGET.is_intel else math.inf
"""Of a worker's own memory when it is touched first: other work has taken its caches. Intel's servers, whose caches
behind L2 give 7 bytes a cycle and whose memory gives 4, write a line after they have read it."""


def share(algorithm: str, direction: str) -> float:
    """Return what a pass takes of its estimate on this CPU."""
    return _SHARES.get((TARGET.vector_bytes, TARGET.fma_per_cycle), {}).get((algorithm, direction), 1.0)
