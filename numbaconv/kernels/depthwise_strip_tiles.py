"""Register tiles of a depthwise product over some rows of outputs, one register of channels after the other.

Neighbouring rows read most of their input in common: it comes from L2 once for all of them. Positions in padding are
read as zeros, so that the same code makes the borders.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import activate_tile
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.pointers import advance
from numbaconv.simd.strips import prefetch_lines, tile_fma_square, tile_fma_strips, tile_store_strips
from numbaconv.simd.tiles import tile_rows
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import TARGET

PARAMETERS = (
    "x, entries, count, groups, begin, end, zeros, pixel, weights, step, bias, lower, y, y_row, y_pixel, "
    "first, last, last_channel, ahead, ahead_count, ahead_rows, past_caches"
)

CACHE_LINE = 64

HAS_STRIPS = TARGET.registers >= 32 and TARGET.vector_bytes >= CACHE_LINE
"""Whether the target has the registers, and few enough of its instructions are products to choose addresses beside."""

SQUARE = 3
"""Taps of a row of the square kernels whose weights all stay in registers."""

SQUARE_ROWS, PAIR_ROWS = 3, 2
"""Rows of outputs of the tiles for square kernels, the latter also for all others."""

WINDOWS = (7, 5, 3)
"""Taps that a tile takes together; a kernel's row has a multiple of one of them."""

WIDE_COLUMNS, NARROW_COLUMNS = 7, 4
"""Columns of outputs: images of networks are multiples of the former, what is left needs the latter."""


STRIDED = 256
"""What the numbers of tiles for outputs two pixels apart begin with."""


def tile_number(taps: int, rows: int, columns: int, stride: int = 1) -> int:
    """Return the number of a tile: taps held together in both directions (0) or along a row."""
    return (stride - 1) * STRIDED + (taps * 4 + rows) * 8 + columns


def strip_taps(row_taps: int, column_taps: int, stride: int = 1) -> int | None:
    """Return the taps that tiles for a kernel take together: 0 for square ones, None if there are no tiles.

    Square kernels with a stride have few products for what they read: longer rows of outputs, not strips, hide that.
    """
    if not HAS_STRIPS or row_taps < 2:
        return None
    if row_taps == column_taps == SQUARE:
        return 0 if stride == 1 else None
    return next((window for window in WINDOWS if column_taps % window == 0), None)


def make_square_tile(rows: int, columns: int) -> Any:
    """Return the product of rows x columns of outputs with square kernels, one register of channels."""
    cells, lines = rows * columns, columns * TARGET.vector_bytes // CACHE_LINE

    @inline
    def square_tile(
        x, entries, count, groups, begin, end, zeros, pixel, weights, step, bias, lower, y, y_row, y_pixel,
        first, last, last_channel, ahead, ahead_count, ahead_rows, past_caches,
    ):  # fmt: skip
        """y[r, m, c] = max(lower, bias[c] + sum over taps of x[tap offset + m * pixel + c] * weight[c]).

        `entries` lists the offset in the weights of each of `count` squares and those of the rows that it reads.
        `ahead` lists where rows begin that are read next.
        """
        lanes = lanes_of(x)
        for i in range(first, last):
            c = min(i * lanes, last_channel)
            acc = tile_rows(cells, 1, advance(bias, c))
            for row in range(ahead_count):
                prefetch_lines(advance(x, ahead[row] + i * columns * lanes), lines, 2)
            for row in range(ahead_rows):
                prefetch_lines(advance(y, row * y_row + columns * y_pixel + i * columns * lanes), lines, 3)
            source, weight, entry = advance(x, c), advance(weights, i * step), entries
            for _ in range(count):
                offsets, factors = advance(entry, 1), advance(weight, entry[0])
                acc = tile_fma_square(acc, columns, source, offsets, begin, end, zeros, pixel, factors, SQUARE)
                entry = advance(entry, rows + SQUARE)
            acc = activate_tile(acc, lower == 0)
            if past_caches:
                tile_store_strips(acc, columns, advance(y, c), y_row, y_pixel, 1)
            else:
                tile_store_strips(acc, columns, advance(y, c), y_row, y_pixel, 0)

    return square_tile


def make_window_tile(taps: int, rows: int, columns: int, stride: int) -> Any:
    """Return the product of rows x columns of outputs by ``taps`` taps at once, outputs ``stride`` apart."""
    cells, lines = rows * columns, columns * TARGET.vector_bytes // CACHE_LINE
    reads = lines * stride

    @inline
    def window_tile(
        x, entries, count, groups, begin, end, zeros, pixel, weights, step, bias, lower, y, y_row, y_pixel,
        first, last, last_channel, ahead, ahead_count, ahead_rows, past_caches,
    ):  # fmt: skip
        """As `square_tile`; an entry is a row of the kernel, of `groups` groups of taps, and the rows of input."""
        lanes = lanes_of(x)
        for i in range(first, last):
            c = min(i * lanes, last_channel)
            acc = tile_rows(cells, 1, advance(bias, c))
            for row in range(ahead_count):
                prefetch_lines(advance(x, ahead[row] + i * columns * stride * lanes), reads, 2)
            for row in range(ahead_rows):
                prefetch_lines(advance(y, row * y_row + columns * y_pixel + i * columns * lanes), lines, 3)
            source, weight, entry = advance(x, c), advance(weights, i * step), entries
            for _ in range(count):
                offsets, factors = advance(entry, 1), advance(weight, entry[0])
                for group in range(groups):
                    shift = group * taps
                    acc = tile_fma_strips(
                        acc, columns, advance(source, shift * pixel), offsets, begin - shift, end - shift, zeros,
                        pixel, advance(factors, shift * lanes), taps, stride,
                    )  # fmt: skip
                entry = advance(entry, 1 + rows)
            acc = activate_tile(acc, lower == 0)
            if past_caches:
                tile_store_strips(acc, columns, advance(y, c), y_row, y_pixel, 1)
            else:
                tile_store_strips(acc, columns, advance(y, c), y_row, y_pixel, 0)

    return window_tile


def _make_tile(number: int) -> Any:
    strided, number = divmod(number, STRIDED)
    size, columns = divmod(number, 8)
    taps, rows = divmod(size, 4)
    return make_window_tile(taps, rows, columns, 1 + strided) if taps else make_square_tile(rows, columns)


def _numbers() -> tuple[int, ...]:
    if not HAS_STRIPS:
        return ()
    sizes = [(0, SQUARE_ROWS, 1), (0, PAIR_ROWS, 1)]
    sizes += [(taps, PAIR_ROWS, stride) for taps in WINDOWS for stride in (1, 2)]
    widths = WIDE_COLUMNS, NARROW_COLUMNS
    return tuple(tile_number(taps, rows, width, stride) for taps, rows, stride in sizes for width in widths)


NUMBERS = _numbers()

strip_tile = by_rows(_make_tile, NUMBERS, PARAMETERS)
