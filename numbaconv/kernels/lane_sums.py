"""The way of a tile to the output where an output channel is the sum of neighbouring channels of the tile.

So it is in the input gradient of a depthwise layer with a multiplier, whose products are those of a layer without one.
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.vector_copy import HAS_MASKS
from numbaconv.simd.lanewise import add_pairs
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store, store_first


@inline
def leave_lane_sums(bounce, rows, summed, lower, y, y_stride):
    """y[m, c] = max(lower, sum over i < summed of bounce[m, c * summed + i]), a row of the bounce being one register.

    `summed` is a power of two. The bias is in the numbers already, with the first channel of each sum.
    """
    lanes = lanes_of(bounce)
    bound, count, is_apart = splat(bounce, lower), lanes // summed, waits(lower) or not HAS_MASKS
    for row in range(rows):
        sums, width = load(advance(bounce, row * lanes)), summed
        while width > 1:
            sums = add_pairs(sums)
            width //= 2
        if not waits(lower):
            sums = at_least(sums, bound)
        if is_apart:
            store(sums, advance(bounce, row * lanes))
        else:
            store_first(sums, advance(y, row * y_stride), count)
    if is_apart:
        leave_bounce(bounce, lanes, rows, count, lower, y, y_stride)
