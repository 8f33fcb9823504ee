"""Register tiles of a depthwise product over some rows of outputs, one register of channels after the other.

Groups of a few channels are summed as well: a register of weights for each input channel of a group, which is spread
over the group's lanes once for all outputs and taps. Groups of half a register have half registers where these take
half the time.

Neighbouring rows read most of their input in common: it comes from L2 once for all of them. Positions in padding are
read as zeros, so that the same code makes the borders.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import activate_tile
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.groups import group_cells
from numbaconv.simd.pointers import advance
from numbaconv.simd.strips import CHANNELS_TOGETHER, prefetch_lines, tile_fma_square, tile_fma_strips, tile_store_strips
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import CACHE_LINE, TARGET

PARAMETERS = (
    "x, entries, count, groups, begin, end, zeros, pixel, weights, step, bias, activates, y, y_row, y_pixel, "
    "first, last, last_channel, ahead, ahead_count, ahead_rows, past_caches"
)


HAS_STRIPS = TARGET.registers >= 32 and TARGET.vector_bytes >= CACHE_LINE
"""Whether the target has the registers, and few enough of its instructions are products to choose addresses beside."""

SPLITS_REGISTERS = TARGET.splits_registers

SQUARE = 3
"""Taps of a row of the square kernels whose weights all stay in registers."""

SQUARE_ROWS, PAIR_ROWS = 3, 2
"""Rows of outputs of the tiles for square kernels, the latter also for all others."""

WINDOWS = (7, 5, 3)
"""Taps that a tile takes together; a kernel's row has a multiple of one of them."""

WIDE_COLUMNS, NARROW_COLUMNS = WIDTHS = 7, 4
"""Columns of outputs: images of networks are multiples of the former, what is left needs the latter."""


STRIDED = 256
"""What the numbers of tiles for outputs two pixels apart begin with."""


def tile_number(taps: int, rows: int, columns: int, stride: int = 1) -> int:
    """Return the number of a tile: taps held together in both directions (0) or along a row."""
    return (stride - 1) * STRIDED + (taps * 4 + rows) * 8 + columns


MANY_SUMMED = 8
"""Channels of a group from which tiles for square kernels were measured to be faster than those for kernel rows."""


def square_taps(stride: int, summed: int) -> int:
    """Return the taps that tiles for kernels of 3 x 3 take together, as `strip_taps`."""
    return 0 if stride == 1 and (summed == 1 or summed >= MANY_SUMMED) else SQUARE


def strip_taps(row_taps: int, column_taps: int, stride: int = 1, summed: int = 1) -> int | None:
    """Return the taps that tiles for a kernel take together: 0 for square ones, None if there are no tiles.

    Square kernels with a stride have few products for what they read: longer rows of outputs, not strips, hide that,
    unless outputs sum ``summed`` channels. Those have no tiles of more taps.
    """
    if not HAS_STRIPS or row_taps < 2:
        return None
    if row_taps == column_taps == SQUARE:
        return square_taps(stride, summed) if stride == 1 or summed > 1 else None
    return next((window for window in WINDOWS if column_taps % window == 0), None) if summed == 1 else None


@inline
def register_parts(lanes, group):
    """Return the parts of a register that a tile is made in, and the channels of a group that it takes one by one."""
    return (2, group) if SPLITS_REGISTERS and 2 * group == lanes else (1, 1)


@inline
def leave_strip(acc, columns, y, y_row, y_pixel, past_caches):
    """Store a finished tile."""
    if past_caches:
        tile_store_strips(acc, columns, y, y_row, y_pixel, 1)
    else:
        tile_store_strips(acc, columns, y, y_row, y_pixel, 0)


def make_squares(columns: int, group: int) -> Any:
    """Return the products of an entry, three rows of three taps each.

    They are a part of the tile's loop in any case: a call would have the tile go through memory.
    """

    def squares(acc, source, offsets, factors, groups, begin, end, zeros, pixel):
        """acc[r, m] + sum over taps of source[tap offset + m * pixel] * factor."""
        lanes = lanes_of(source)
        _, alone = register_parts(lanes, group)
        for channel in range(alone):
            acc = tile_fma_square(
                acc, columns, source, offsets, begin, end, zeros, pixel, advance(factors, channel * lanes),
                group * lanes, SQUARE, group, channel,
            )  # fmt: skip
        return acc

    return inline(squares, always=True)


def make_windows(taps: int, columns: int, stride: int, group: int) -> Any:
    """Return the products of an entry, a row of the kernel, whose `groups` groups of ``taps`` taps are held at once."""

    def windows(acc, source, offsets, factors, groups, begin, end, zeros, pixel):
        """acc[r, m] + sum over taps of source[tap offset + m * stride * pixel] * factor."""
        lanes = lanes_of(source)
        _, alone = register_parts(lanes, group)
        turns = -(-alone // CHANNELS_TOGETHER)
        for turn in range(groups * turns):
            shift, channel = turn // turns * taps, turn % turns * CHANNELS_TOGETHER
            acc = tile_fma_strips(
                acc, columns, advance(source, shift * pixel), offsets, begin - shift, end - shift, zeros, pixel,
                advance(factors, (shift * group + channel) * lanes), group * lanes, taps, group, channel, stride,
            )  # fmt: skip
        return acc

    return inline(windows, always=True)


def make_strip_tile(number: int, group: int = 1) -> Any:
    """Return the product of rows x columns of outputs, one register of channels, with a number of `tile_number`."""
    strided, number = divmod(number, STRIDED)
    size, columns = divmod(number, 8)
    (taps, rows), stride = divmod(size, 4), 1 + strided
    multiply = make_windows(taps, columns, stride, group) if taps else make_squares(columns, group)
    entry_size = 1 + rows if taps else SQUARE + rows
    cells, lines = rows * columns, columns * TARGET.vector_bytes // CACHE_LINE
    reads = lines * stride

    @inline
    def strip_tile(
        x, entries, count, groups, begin, end, zeros, pixel, weights, step, bias, activates, y, y_row, y_pixel,
        first, last, last_channel, ahead, ahead_count, ahead_rows, past_caches,
    ):  # fmt: skip
        """y[r, m, c] = bias[c] + sum over taps, i of x[tap offset + m * stride * pixel + group of c + i] * weight.

        Or relu of that, where it `activates`. `entries` lists for each of `count` parts of the kernel, squares or rows
        of `groups` groups of taps, the offset in the weights and those of the rows that it reads. `ahead` lists where
        rows begin that are read next.
        """
        lanes = lanes_of(x)
        parts, _ = register_parts(lanes, group)
        for i in range(first, last):
            c = min(i * lanes, last_channel)
            for row in range(ahead_count):
                prefetch_lines(advance(x, ahead[row] + i * columns * stride * lanes), reads, 2)
            for row in range(ahead_rows):
                prefetch_lines(advance(y, row * y_row + columns * y_pixel + i * columns * lanes), lines, 3)
            for part in range(parts):
                lane = part * lanes // parts
                acc = group_cells(cells, group, advance(bias, c + lane))
                source, weight, entry = advance(x, c + lane), advance(weights, i * step + lane), entries
                for _ in range(count):
                    factors = advance(weight, entry[0])
                    acc = multiply(acc, source, advance(entry, 1), factors, groups, begin, end, zeros, pixel)
                    entry = advance(entry, entry_size)
                leave_strip(activate_tile(acc, activates), columns, advance(y, c + lane), y_row, y_pixel, past_caches)

    return strip_tile


def _numbers() -> tuple[int, ...]:
    if not HAS_STRIPS:
        return ()
    sizes = [(0, SQUARE_ROWS, 1), (0, PAIR_ROWS, 1)]
    sizes += [(taps, PAIR_ROWS, stride) for taps in WINDOWS for stride in (1, 2)]
    return tuple(tile_number(taps, rows, width, stride) for taps, rows, stride in sizes for width in WIDTHS)


NUMBERS = _numbers()

strip_tile = by_rows(make_strip_tile, NUMBERS, PARAMETERS)
