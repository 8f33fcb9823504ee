"""Register tiles of a depthwise kernel gradient: taps of some kernel rows, one register of channels.

Where outputs and taps are neighbouring pixels, each number of grad_y is loaded once for all taps, each of the input for
all the taps and pixels that meet there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.pointers import advance
from numbaconv.simd.shifted import tile_fma_shifted
from numbaconv.simd.tiles import tile_prefetch_run, tile_read, tile_store
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import TARGET

PARAMETERS = (
    "x, offsets, pitch, first, last, met_first, met_last, begin, end, pixel, base, tap_step, is_window, columns, grad, "
    "grad_row, grad_pixel, zeros, total, fetches, ahead, ahead_grad"
)

MANY_REGISTERS = TARGET.registers >= 32
OF_LINE = max(1, 64 // TARGET.vector_bytes)
"""Registers that a cache line fills."""

SIZES = ((1, 1), (1, 3), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (5, 1), (5, 2), (5, 3), (7, 1), (7, 2))
"""Taps of a kernel row and kernel rows of the tiles: few sizes, which cover all others, since each is compiled."""

GROUPED_TAPS = 3
"""Most taps of a tile for groups, of which one tap is several sums already."""


@lru_cache(maxsize=8)
def tile_sizes(group: int) -> tuple[tuple[int, int], ...]:
    """Return the sizes of the tiles for groups of ``group`` channels: those whose sums leave registers for grad_y."""
    few, most = (18, 24) if MANY_REGISTERS else (10, 8)
    return tuple(
        (taps, rows)
        for taps, rows in SIZES
        if taps * rows * group <= (few if rows > 1 or group == 1 else most) and (group == 1 or taps <= GROUPED_TAPS)
    )


def tile_pixels(taps: int, kernel_rows: int, group: int) -> int:
    """Return of how many pixels a tile holds grad_y: 7 where registers do, as most rows are multiples of it."""
    left = TARGET.registers - taps * kernel_rows * group - (1 if group == 1 else 3)
    return 7 if left >= 7 else 4 if left >= 4 else 2


STRIP_ROWS = 3
"""Rows of pixels of which the tile of a square kernel holds grad_y where they read most of the input in common."""


def strip_rows(taps: int, kernel_rows: int, group: int) -> int:
    """Return of how many rows of pixels a tile may hold grad_y; with more taps its products hide its loads."""
    return STRIP_ROWS if MANY_REGISTERS and taps == kernel_rows == 3 and group == 1 else 1


MOST_NUMBERS = 128


def tile_number(taps: int, kernel_rows: int, strip: int = 1) -> int:
    """Return the number of the tile, below `MOST_NUMBERS`."""
    return 64 * (strip > 1) + 16 * kernel_rows + taps


@inline
def fetch(acc, pixels, fetches, ahead, ahead_grad):
    """Ask for what is read instead of some pixels in the next block; what is much by itself not for L1."""
    if fetches:
        for pixel in range(0, pixels, OF_LINE):
            tile_prefetch_run(acc, advance(ahead_grad, pixel * lanes_of(ahead)), 1, 3)
        if fetches == 1:
            for pixel in range(0, pixels, OF_LINE):
                tile_prefetch_run(acc, advance(ahead, pixel * lanes_of(ahead)), 1, 3)
        else:
            for pixel in range(0, pixels * fetches, OF_LINE):
                tile_prefetch_run(acc, advance(ahead, pixel * lanes_of(ahead)), 1, 2)


def make_tap_tile(number: int, group: int) -> Any:
    """Return the sum over pixels for the taps and kernel rows of a tile's ``number``."""
    if number >= tile_number(0, 0, STRIP_ROWS):
        return make_strip_tile(number, group)
    kernel_rows, taps = divmod(number, 16)
    pixels, rows = tile_pixels(taps, kernel_rows, group), taps * kernel_rows * group

    @inline
    def tap_tile(
        x, offsets, pitch, first, last, met_first, met_last, begin, end, pixel, base, tap_step, is_window, columns,
        grad, grad_row, grad_pixel, zeros, total, fetches, ahead, ahead_grad,
    ):  # fmt: skip
        """total[i, t, g, c] += sum over p of x[offsets[i] + (p * base + t * tap_step) * pixel + g of c] * grad[p, c].

        Rows [first, last) of the block; `offsets` has one for each kernel row and row, those of a kernel row `pitch`
        apart. Positions outside [begin, end) are zero; in rows [met_first, met_last) no offset is negative. Of the next
        block, `fetches` registers of the input and one of grad_y are fetched with each pixel.
        """
        lanes = lanes_of(x)
        acc = tile_read(rows, 1, total, lanes)
        for row in range(first, last):
            source, low, high, factors = x, begin, end, advance(grad, row * grad_row)
            reads, left, is_met = advance(offsets, row), columns, met_first <= row < met_last
            while left > 0:
                fits = is_window and left >= pixels
                is_inside = fits and is_met and low <= 0 and high >= (pixels - 1) * base + taps
                done = pixels if is_inside or (fits and base == 1) else 1
                fetch(acc, done, fetches, ahead, ahead_grad)
                if is_inside and base == 1:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, 1,
                        pixels, 1, taps, group, 0,
                    )  # fmt: skip
                elif is_inside:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, 1,
                        pixels, 2, taps, group, 0,
                    )  # fmt: skip
                elif done > 1:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, 1,
                        pixels, 1, taps, group, 1,
                    )  # fmt: skip
                else:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, tap_step, factors, grad_row, grad_pixel, 1,
                        1, 1, taps, group, 1,
                    )  # fmt: skip
                source, factors = advance(source, done * base * pixel), advance(factors, done * grad_pixel)
                low, high, left = low - done * base, high - done * base, left - done
                ahead, ahead_grad = advance(ahead, done * fetches * lanes), advance(ahead_grad, done * lanes)
        tile_store(acc, total, lanes)

    return tap_tile


def make_strip_tile(number: int, group: int) -> Any:
    """Return the sum over pixels of which several rows are taken together; pixels and taps are neighbours."""
    kernel_rows, taps = divmod(number - tile_number(0, 0, STRIP_ROWS), 16)
    pixels, rows, strip = tile_pixels(taps, kernel_rows, group), taps * kernel_rows * group, STRIP_ROWS

    @inline
    def strip_tile(
        x, offsets, pitch, first, last, met_first, met_last, begin, end, pixel, base, tap_step, is_window, columns,
        grad, grad_row, grad_pixel, zeros, total, fetches, ahead, ahead_grad,
    ):  # fmt: skip
        """total[i, t, c] += sum over p of x[offsets[i] + (p + t) * pixel + c] * grad[p, c]; nothing is fetched."""
        acc = tile_read(rows, 1, total, lanes_of(x))
        row = first
        while row < last:
            source, low, high, factors = x, begin, end, advance(grad, row * grad_row)
            reads, left = advance(offsets, row), columns
            together = strip if last - row >= strip else 1
            is_met = met_first <= row and row + together <= met_last
            while left > 0:
                is_inside = left >= pixels and is_met and low <= 0 and high >= pixels - 1 + taps
                done = pixels if left >= pixels else 1
                if together == 1 and done > 1:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, 1, pixels,
                        1, taps, group, 1,
                    )  # fmt: skip
                elif together == 1:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, 1,
                        1, 1, taps, group, 1,
                    )  # fmt: skip
                elif is_inside:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, strip,
                        pixels, 1, taps, group, 0,
                    )  # fmt: skip
                elif done > 1:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, strip,
                        pixels, 1, taps, group, 1,
                    )  # fmt: skip
                else:
                    acc = tile_fma_shifted(
                        acc, source, reads, pitch, low, high, zeros, pixel, 1, factors, grad_row, grad_pixel, strip, 1,
                        1, taps, group, 1,
                    )  # fmt: skip
                source, factors = advance(source, done * pixel), advance(factors, done * grad_pixel)
                low, high, left = low - done, high - done, left - done
            row += together
        tile_store(acc, total, lanes_of(x))

    return strip_tile


def tile_numbers(group: int) -> tuple[int, ...]:
    """Return the numbers of all tiles for groups of ``group`` channels."""
    sizes = tile_sizes(group)
    strips = tuple(tile_number(*size, STRIP_ROWS) for size in sizes if strip_rows(*size, group) > 1)
    return (*(tile_number(*size) for size in sizes), *strips)


tap_tile = by_rows(lambda number: make_tap_tile(number, 1), tile_numbers(1), PARAMETERS)
