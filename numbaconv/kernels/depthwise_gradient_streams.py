"""Kernel gradient of depthwise layers with a short row of taps whose input and grad_y come from beyond L2.

A tile takes a few pixels through all registers of channels, so that memory is read in its order, each line once; the
sums of all registers stay in the caches. What lies some pixels ahead is fetched to L2 alone.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.pointers import advance
from numbaconv.simd.shifted import tile_fma_shifted
from numbaconv.simd.strips import prefetch_lines
from numbaconv.simd.tiles import tile_read, tile_store
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import TARGET

STREAM_TAPS = (2, 3, 4)
"""Taps of the tiles; with more, products take the time of the reading anyway."""

STREAM_PIXELS = 4
"""Pixels of a tile: their lines and those that they share with the tile before fit the ways of two sets of L1."""

AHEAD_TILES, AHEAD_NUMBERS = 2, 2048
"""Tiles, and numbers at least, from what is read to what is fetched."""

LINES = max(1, STREAM_PIXELS * TARGET.vector_bytes // 64)

WINDOW, APART, EDGE = 0, 1, 2
"""Ways to read the input: neighbouring taps, taps that lie apart, and pixels of which some taps meet padding."""

PARAMETERS = "x, offsets, way, count, begin, end, pixel, tap_step, grad, grad_pixel, zeros, total, channels, ahead"


def make_stream_tile(taps: int) -> Any:
    """Return the sum over a few pixels for all registers of channels."""

    @inline
    def stream_tile(
        x, offsets, way, count, begin, end, pixel, tap_step, grad, grad_pixel, zeros, total, channels, ahead
    ):
        """total[i, t, c] += sum over p < count of x[offsets[0] + (p + t * tap_step) * pixel + c] * grad[p, c].

        `count` is `STREAM_PIXELS`, or any where positions outside [begin, end) are to be zero.
        """
        lanes = lanes_of(x)
        for i in range((channels + lanes - 1) // lanes):
            c = min(i * lanes, max(channels - lanes, 0))
            source, factors, sums = advance(x, c), advance(grad, c), advance(total, i * taps * lanes)
            acc = tile_read(taps, 1, sums, lanes)
            fetched = ahead + i * STREAM_PIXELS * lanes
            prefetch_lines(advance(x, offsets[0] + (taps - 1) * tap_step * pixel + fetched), LINES, 2)
            prefetch_lines(advance(grad, fetched), LINES, 2)
            if way == WINDOW:
                acc = tile_fma_shifted(
                    acc, source, offsets, 1, begin, end, zeros, pixel, 1, factors, 0, grad_pixel, 1, STREAM_PIXELS, 1,
                    taps, 1, 0,
                )  # fmt: skip
            elif way == APART:
                for p in range(STREAM_PIXELS):
                    acc = tile_fma_shifted(
                        acc, advance(source, p * pixel), offsets, 1, begin, end, zeros, pixel, tap_step,
                        advance(factors, p * grad_pixel), 0, grad_pixel, 1, 1, 1, taps, 1, 0,
                    )  # fmt: skip
            else:
                for p in range(count):
                    acc = tile_fma_shifted(
                        acc, advance(source, p * pixel), offsets, 1, begin - p, end - p, zeros, pixel, tap_step,
                        advance(factors, p * grad_pixel), 0, grad_pixel, 1, 1, 1, taps, 1, 1,
                    )  # fmt: skip
            tile_store(acc, sums, lanes)

    return stream_tile


stream_tile = by_rows(make_stream_tile, STREAM_TAPS, PARAMETERS)


@inline
def stream_sums(
    taps, x, offsets, rows, columns, channels, begin, end, pixel, tap_step, grad, grad_row, grad_pixel, zeros, total
):
    """Add the products of a block whose kernel is a row of `taps`; `offsets` has one for each row of the block."""
    ahead = max(AHEAD_TILES * STREAM_PIXELS * pixel, AHEAD_NUMBERS)
    reach = (taps - 1) * tap_step + 1
    for row in range(rows):
        read, done = advance(offsets, row), 0
        while done < columns:
            low, high, count = begin - done, end - done, min(STREAM_PIXELS, columns - done)
            way = WINDOW if tap_step == 1 else APART
            if read[0] < 0 or count < STREAM_PIXELS or low > 0 or high < STREAM_PIXELS - 1 + reach:
                way = EDGE
            stream_tile(
                taps, advance(x, done * pixel), read, way, count, low, high, pixel, tap_step,
                advance(grad, row * grad_row + done * grad_pixel), grad_pixel, zeros, total, channels, ahead,
            )  # fmt: skip
            done += count
