"""The product at the heart of forward passes and input gradients, one register tile at a time."""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import activate_tile, leave_bounce, waits
from numbaconv.kernels.packing import rounded_width
from numbaconv.kernels.tile_sizes import MANY_REGISTERS, PRODUCT_TILES, WIDE_SIZES, by_rows, by_vectors, tile_parts
from numbaconv.simd.mixed import mixed_read, tile_fma_apart
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.simd.tiles import tile_fma as tile_fma_whole
from numbaconv.simd.tiles import tile_fma_in_order, tile_prefetch, tile_store, tile_store_past_caches
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import TARGET

PARAMETERS = (
    "tiles, x, pixel_stride, taps, offsets, run, kernel, kernel_rows, start, start_stride, activates, y, y_stride, "
    "past_caches, ahead"
)

MORE_ROWS = 99
"""More rows than any tile has."""

ORDERED_ROWS = 6 if TARGET.vector_bytes >= 32 and TARGET.fma_per_cycle == 2 else MORE_ROWS
"""Rows of a tile of one register from which LLVM may not unroll the loop around it.

With AVX2, whose FMAs take no broadcast from memory, it loads the numbers of several steps first, for which there are
too few registers: sums go through memory, which takes 1.3 to 1.7 times as long. With AVX-512 it makes two steps at
once, for whose rows there are too few addresses, and an odd one apart: 1.02 to 1.11 times as long on a Zen 5.
"""

TOGETHER_ROWS = MORE_ROWS if MANY_REGISTERS else 6
"""Rows of tiles that enter their code together, those of one size in a row, at least.

Entering a tile of six rows one by one takes a third of the time of 64 products with each. Larger tiles have more of
them to make, and addresses of so many rows that a loop around them would leave some in memory.
"""

MOST_TILES = 1 << 30
"""Tiles that enter their code together, at most,"""

BOUNCED_TILES = 1 if MANY_REGISTERS else 4
"""and those of them whose outputs go through the bounce buffer."""

NOTHING, OUTPUTS, INPUTS_TOO = -1, 0, 1
"""What a tile fetches for the next one."""


def make_product_tile(number: int, together_rows: int = TOGETHER_ROWS) -> Any:
    """Return the product of some output pixels x some registers of output channels: `tile_parts`.

    Tiles of at least so many rows are computed together, one after the other, others one by one.
    """
    rows, whole, half = tile_parts(number)
    together = MOST_TILES if rows >= together_rows else 1
    tile_fma = tile_fma_whole if whole else tile_fma_apart
    if (whole, half) == (1, 0) and rows >= ORDERED_ROWS:
        tile_fma = tile_fma_in_order

    @inline
    def product_tile(
        tiles, x, pixel_stride, taps, offsets, run, kernel, kernel_rows, start, start_stride, activates, y, y_stride,
        past_caches, ahead,
    ):  # fmt: skip
        """y[m, k] = start[m, k] + sum of x[offsets[tap] + m * pixel_stride + i] * kernel[rows[tap] + i, k].

        Or relu of that, where it `activates`; so for the pixels of some tiles, one after the other. The sum runs over
        the taps and i < run. With channels last, the taps of one kernel row over all input channels are one contiguous
        run of numbers, so this is a matrix product whose left rows overlap.

        The next tile's y is fetched meanwhile unless `ahead` is negative or y is stored `past_caches`, its x where
        `ahead` is positive: each of their rows is a stretch of memory that hardware prefetchers take some misses to
        follow. Of x a step fetches the line `ahead` numbers on.
        """
        width = (2 * whole + half) * lanes_of(x) // 2
        for tile in range(min(tiles, together)):
            pixel = tile * rows
            source, target = advance(x, pixel * pixel_stride), advance(y, pixel * y_stride)
            acc = mixed_read(rows, whole, half, advance(start, pixel * start_stride), start_stride)
            if ahead >= 0 and not past_caches:
                tile_prefetch(acc, advance(target, rows * y_stride), y_stride)
            for tap in range(taps):
                row, weights = advance(source, offsets[tap]), advance(kernel, kernel_rows[tap] * width)
                if ahead > 0:
                    for i in range(run):
                        acc = tile_fma(acc, advance(row, i), pixel_stride, advance(weights, i * width))
                        prefetch(advance(row, rows * pixel_stride + i * ahead))
                else:
                    for i in range(run):
                        acc = tile_fma(acc, advance(row, i), pixel_stride, advance(weights, i * width))
            acc = activate_tile(acc, activates)
            if past_caches:
                tile_store_past_caches(acc, target, y_stride)
            else:
                tile_store(acc, target, y_stride)

    return product_tile


product_tile = by_vectors(make_product_tile, PRODUCT_TILES, PARAMETERS)
wide_tile = by_rows(lambda rows: make_product_tile(2 * 64 + rows, MORE_ROWS), WIDE_SIZES, PARAMETERS)


@inline
def product_columns(
    tiles,
    first_pixel,
    last_pixel,
    valid,
    x,
    pixel_stride,
    taps,
    offsets,
    run,
    kernel,
    kernel_rows,
    start,
    start_stride,
    lower,
    y,
    y_stride,
    segments,
    segment_table,
    bounce,
    past_caches,
    fetches,
):
    """Cover pixels [first_pixel, last_pixel) of a row by the tile sizes listed at `tiles`, for the `valid` channels.

    Sums start from the rows at `start` (the bias, with stride 0, or the sums of earlier taps). A panel whose last
    vector is not full goes through `bounce`, so that nothing behind the output's channels is written, and so does one
    whose channels are outputs side by side that lie in several `segments` of the output, or whose activation needs it.

    Whole panels are stored `past_caches` where that is set: then all registers of y lie at multiples of their size.
    Each tile fetches what `fetches` says for the next one, inputs unless there are gaps between the pixels.
    """
    lanes = lanes_of(x)
    width = rounded_width(valid, lanes)
    activates = lower == 0
    is_direct = valid == width and segments == 1 and not waits(lower)
    pixel = tile = 0
    while tile < tiles[0] and pixel < last_pixel:
        rows, first, count, most = tiles[1 + tile], pixel, 0, 1
        if rows >= TOGETHER_ROWS:
            most = MOST_TILES if is_direct else BOUNCED_TILES
        while tile < tiles[0] and tiles[1 + tile] == rows and pixel < last_pixel and count < most:
            pixel += rows
            tile += 1
            if pixel <= first_pixel:
                first = pixel
            else:
                count += 1
        source, target = advance(x, first * pixel_stride), advance(y, first * y_stride)
        destination, stride = target, y_stride
        ahead = rows if fetches == INPUTS_TOO and pixel_stride <= run else min(fetches, OUTPUTS)
        if not is_direct:
            destination, stride = bounce, width
        product_tile(
            width * 64 // lanes + rows, count, source, pixel_stride, taps, offsets, run, kernel, kernel_rows,
            advance(start, first * start_stride), start_stride, activates, destination, stride,
            is_direct and past_caches, ahead,
        )  # fmt: skip
        if not is_direct:
            part = valid // segments
            for i in range(segments):
                segment = advance(target, segment_table[i])
                leave_bounce(advance(bounce, i * part), width, count * rows, part, lower, segment, y_stride)
