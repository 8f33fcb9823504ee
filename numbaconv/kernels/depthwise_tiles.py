"""Register tiles of a depthwise product: a few neighbouring output pixels, one register of channels after the other.

Along the columns each loaded register of input serves all outputs of the tile that read it. Cache lines are fetched
ahead in the order in which memory has them, a few with each register of channels: lines asked for all at once are
dropped.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import activate_tile
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.groups import group_rows, tile_fma_groups
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_fma_window, tile_prefetch_run, tile_store, tile_store_past_caches
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import TARGET

PARAMETERS = (
    "x, x_row, pixel_stride, taps, triples, pairs, singles, weights, step, bias, activates, y, y_row, y_stride, "
    "lines, outputs, first, last, end, ahead, ahead_count, ahead_steps, past_caches"
)


WHOLE_LINES = TARGET.vector_bytes == 64
"""Whether a register is a cache line: others are stored past the caches in halves, which is slow."""


@inline
def leave_tile(acc, y, y_stride, past_caches):
    """Store a finished tile."""
    if WHOLE_LINES and past_caches:
        tile_store_past_caches(acc, y, y_stride)
    else:
        tile_store(acc, y, y_stride)


def make_tile(rows: int, vectors: int = 1, stride: int = 0, group: int = 1) -> Any:
    """Return the product of ``rows`` outputs x ``vectors`` registers of channels.

    Taps may be neighbouring pixels where outputs are ``stride`` pixels apart; with 0 both lie anywhere. Each of
    ``group`` neighbouring channels is a sum over all of them. The input is fetched ahead to L2 alone, the better place,
    but not for smaller registers where outputs read neighbouring pixels.
    """
    pixels, nearness = rows * max(stride, 1), 2 if WHOLE_LINES or stride != 1 or vectors > 1 else 3

    @inline
    def tile(
        x, x_row, pixel_stride, taps, triples, pairs, singles, weights, step, bias, activates, y, y_row, y_stride,
        lines, outputs, first, last, end, ahead, ahead_count, ahead_steps, past_caches,
    ):  # fmt: skip
        """y[m, c] = bias[c] + sum over taps, i of x[tap offset + m * stride + group of c + i] * weight for m < outputs.

        Or relu of that, where it `activates`; so for some lines. The last tile of a line may overlap the one before.
        `taps` lists offset in the input and in the weights of each three neighbouring taps, two taps, and single tap.
        """
        lanes, pixel = lanes_of(x), pixel_stride // max(stride, 1)
        for line in range(lines):
            done = 0
            while done < outputs:
                done = min(done, outputs - rows)
                reads = advance(x, line * x_row + done * pixel_stride)
                writes = advance(y, line * y_row + done * y_stride)
                done += rows
                for i in range(first, last, vectors):
                    c = min(i * lanes, end)
                    acc = group_rows(rows, vectors, group, advance(bias, c))
                    for row in range(ahead_count):
                        tile_prefetch_run(acc, advance(reads, ahead[row] + ahead_steps[2 * i]), pixels, nearness)
                    if not (WHOLE_LINES and past_caches):
                        tile_prefetch_run(acc, advance(writes, ahead_steps[2 * i + 1]), rows, 3)
                    source, weight, tap = advance(reads, c), advance(weights, i * step), taps
                    if stride > 0:
                        for _ in range(triples):
                            column = advance(weight, tap[1])
                            acc = tile_fma_window(acc, advance(source, tap[0]), pixel, column, step, 3, stride)
                            tap = advance(tap, 2)
                        for _ in range(pairs):
                            column = advance(weight, tap[1])
                            acc = tile_fma_window(acc, advance(source, tap[0]), pixel, column, step, 2, stride)
                            tap = advance(tap, 2)
                        for _ in range(singles):
                            column = advance(weight, tap[1])
                            acc = tile_fma_window(acc, advance(source, tap[0]), pixel, column, step, 1, stride)
                            tap = advance(tap, 2)
                    else:
                        for _ in range(singles):
                            column = advance(weight, tap[1])
                            acc = tile_fma_groups(acc, advance(source, tap[0]), pixel_stride, column, step, group)
                            tap = advance(tap, 2)
                    leave_tile(activate_tile(acc, activates), advance(writes, c), y_stride, past_caches)

    return tile


LONG, SHORT = 8, 4
"""Outputs of the tiles that most columns are covered by: eight sums hide the latency of an FMA."""

WIDE = 4
"""Registers of channels of the tiles of one or two outputs."""

STREAMED, STREAMED_WIDE = 3, 2
"""Outputs and registers of the tiles of long rows with a few taps: whole cache lines, of few pixels at a time.

Pixels with many channels share few sets of L1, and their lines have to stay there from one tile to the next.
"""

APART = 2
"""Outputs of the tiles of long rows whose taps are far apart."""

LONG_TILE, SHORT_TILE, PAIR_TILE, SINGLE_TILE, WIDE_PAIR_TILE, WIDE_SINGLE_TILE = 0, 3, 6, 7, 8, 9
"""Numbers of tiles; to the first two, the window's stride or 0 for taps that lie anywhere is added."""

STREAMED_TILE, WIDE_STREAMED_TILE = 10, 11
"""Numbers of tiles whose taps are neighbouring pixels, the outputs too."""

SPREAD_TILES: dict[int, tuple[int, int]] = {
    PAIR_TILE: (2, 1), SINGLE_TILE: (1, 1), WIDE_PAIR_TILE: (2, WIDE), WIDE_SINGLE_TILE: (1, WIDE),
    LONG_TILE: (LONG, 1), SHORT_TILE: (SHORT, 1),
}  # fmt: skip


def _make_tile(number: int) -> Any:
    if number in SPREAD_TILES:
        return make_tile(*SPREAD_TILES[number])
    if number >= STREAMED_TILE:
        return make_tile(STREAMED, STREAMED_WIDE if number == WIDE_STREAMED_TILE else 1, stride=1)
    return make_tile(LONG if number < SHORT_TILE else SHORT, stride=number % SHORT_TILE)


TILES = 12

depthwise_tile = by_rows(_make_tile, tuple(range(TILES)), PARAMETERS)
