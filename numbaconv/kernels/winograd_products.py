"""Products of Winograd's transformed tiles at one point: a matrix product for each, by register tiles."""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.kernels.winograd_ahead import LEFT, LINES, fetch_lines, next_run
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_fma, tile_store, tile_zeros
from numbaconv.simd.vectors import lanes_of

FETCH_STEPS = 32
"""Steps of a register tile after which it asks for more cache lines: each time costs it some cycles."""


def make_wide_tile(rows: int) -> Any:
    """Return the product of ``rows`` tiles x two registers of output channels at one point."""

    @inline
    def wide_tile(x, x_stride, depth, kernel, y, cursor):
        """y[m, k] = sum of x[m * x_stride + i] * kernel[i, k] over i < depth.

        What the cursor finds is fetched meanwhile. It is all that is passed besides, so that arguments need no stack.
        """
        width = 2 * lanes_of(x)
        acc = tile_zeros(rows, 2, x)
        first = 0
        while first < depth:
            last = depth
            if cursor[LINES] > 0:
                fetch_lines(cursor)
                last = min(first + FETCH_STEPS, depth)
            for i in range(first, last):
                acc = tile_fma(acc, advance(x, i), x_stride, advance(kernel, i * width))
            first = last
        tile_store(acc, y, width)

    return wide_tile


def make_narrow_tile(rows: int) -> Any:
    """Return the product of ``rows`` tiles x one register of output channels, without fetching."""

    @inline
    def narrow_tile(x, x_stride, depth, kernel, y):
        """y[m, k] = sum of x[m * x_stride + i] * kernel[i, k] over i < depth."""
        width = lanes_of(x)
        acc = tile_zeros(rows, 1, x)
        for i in range(depth):
            acc = tile_fma(acc, advance(x, i), x_stride, advance(kernel, i * width))
        tile_store(acc, y, width)

    return narrow_tile


wide_point_tile = by_rows(make_wide_tile, WIDE_SIZES, "x, x_stride, depth, kernel, y, cursor")
narrow_point_tile = by_rows(make_narrow_tile, NARROW_SIZES, "x, x_stride, depth, kernel, y")


@inline
def multiply_point(sizes, wide, x, x_stride, depth, kernel, y, cursor):
    """Multiply all tiles of a block, covered by register tiles of `sizes`, at one point by one panel.

    What the cursor finds is fetched meanwhile.
    """
    width = 2 * lanes_of(x) if wide else lanes_of(x)
    tile = 0
    for i in range(sizes[0]):
        rows = sizes[1 + i]
        source, target = advance(x, tile * x_stride), advance(y, tile * width)
        if cursor[LINES] <= 0 and cursor[LEFT] > 0:
            next_run(cursor)
        if wide:
            wide_point_tile(rows, source, x_stride, depth, kernel, target, cursor)
        else:
            fetch_lines(cursor)
            narrow_point_tile(rows, source, x_stride, depth, kernel, target)
        tile += rows
