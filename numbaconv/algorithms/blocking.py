"""How large a block of output pixels one task takes.

The choice minimises an estimate of the cycles of the whole pass: FMAs of the register tiles that cover the block,
bytes gathered (neighbouring blocks gather their common rows and columns twice), weights read once per block, an input
block that no longer fits in L2, and the imbalance of few tasks over the threads. The coefficients are round estimates,
chosen so that the layers of `asv_bench/shapes.json` get good blocks on an AVX2 server; only their ratios matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from numbaconv.kernels.tile_sizes import HALVES, WIDE_SIZES, split_rows, step_cost
from numbaconv.target import CACHE_LINE, TARGET

GATHER_BYTES_PER_CYCLE = 8
READ_BYTES_PER_CYCLE = 16  # of input read in place, whose misses products hide in part
L2_BYTES_PER_CYCLE = 24
MEMORY_BYTES_PER_CYCLE = 6
TILE_CYCLES = 25  # entering and leaving one register tile
TAP_CYCLES = 8  # entering one run of taps: its offset and the loop over its numbers
# A number that goes to the output through the bounce buffer; masked stores take whole registers.
BOUNCE_CYCLES = 0.3 if TARGET.has_two_wide_units else 1.5
TASK_CYCLES = 600
ALONE = 2.0  # what a single task takes longer than two, on two threads: blocks of more tasks may cost as much more
STRETCH_CYCLES = 12  # what a stretch of memory of its own costs: short ones defeat the prefetchers
CUT_ROW_CYCLES = 400  # a row of a part of the columns of one group
SCATTERED_LINE_CYCLES = 16  # a line of the output whose neighbour is written much later, or by another task
FMA_PER_CYCLE = TARGET.fma_per_cycle
_ROW_CANDIDATES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class Extent:
    """What the choice depends on."""

    batch: int  # images that a block may hold together
    planes: int  # planes x groups: blocks never span them
    rows: int
    columns: int
    row_stride: int
    row_reach: int
    column_stride: int
    column_reach: int
    row_taps: int
    column_taps: int
    plane_taps: int
    channels: int  # of a group
    depth: int  # taps x channels
    out_channels: int  # of a group
    in_place: bool
    dtype: str
    is_scattered: bool  # neighbouring rows of the output lie side by side in memory, neighbouring columns apart
    groups: int = 1  # which follow one another in a pixel


@dataclass(frozen=True, slots=True)
class Block:
    """Images, rows and columns of output pixels, and how many parts the output channels are dealt into.

    ``cycles`` are those of the cheapest block on one thread: forms of a pass are compared by them, and must not depend
    on the threads there are, since they add in different orders.
    """

    images: int
    rows: int
    columns: int
    panel_chunks: int
    cycles: float


def even_sums(chunks: int, panels: int) -> int:
    """Return how many private sums a kernel gradient has where pixels are dealt to ``chunks``.

    Not three of an odd number of ``panels``, those of all groups: one of two threads would have more.
    """
    return chunks + (chunks == 3 and panels % 2)


def panel_count(out_channels: int, dtype: str) -> int:
    """Return how many register-tile columns cover the output channels."""
    return -(-out_channels // (2 * TARGET.lanes(dtype)))


def panel_vectors(out_channels: int, dtype: str) -> list[float]:
    """Return how many registers of channels each of these has in kernels with tiles of half registers."""
    lanes = TARGET.lanes(dtype)
    panels = panel_count(out_channels, dtype)
    last = out_channels - (panels - 1) * 2 * lanes
    return [2] * (panels - 1) + [-(-last * HALVES // lanes) / HALVES]


def taps_per_pass(run: int, dtype: str) -> int:
    """Return how many taps of a panel, ``run`` numbers deep each, take a quarter of L2: the rest is for the input."""
    itemsize = 4 if dtype == "float32" else 8
    return max(1, TARGET.l2_bytes // 4 // max(run * 2 * TARGET.lanes(dtype) * itemsize, 1))


LEAST_OWN_CHANNELS = 32
"""A block that packs a tap at a time loads and stores all sums for each: with few channels longer than the products."""


def own_panel_count(channels: int, depth: int, panels: int, dtype: str) -> int:
    """Return of how many panels a block of all outputs packs a tap itself, 0 where it does not pay.

    That is where the packed kernel fits L2 anyway, and where a tap has few channels. Single panels would read one cache
    line from each row of the kernel.
    """
    row = 2 * TARGET.lanes(dtype) * (4 if dtype == "float32" else 8)
    if channels < LEAST_OWN_CHANNELS or panels * depth * row < TARGET.l2_bytes:
        return 0
    return min(panels, 4, max(2, TARGET.l2_bytes // 4 // (channels * row)))


def tile_cycles(count: int, vectors: float, of_gradient: bool = False) -> float:
    """Return the cycles of one depth step of the tiles that cover ``count`` pixels."""
    tiles = split_rows(count, vectors, of_gradient)
    return sum(step_cost(size, vectors) / FMA_PER_CYCLE for size in tiles)


def _parts(length: int, unit: int) -> list[int]:
    """Return block lengths that divide ``length`` about evenly, whole register tiles where there is more than one."""
    lengths = {length}
    parts = 2
    while length / parts >= unit:
        lengths.add(min(length, math.ceil(math.ceil(length / parts) / unit) * unit))
        parts = parts + 1 if parts < 8 else parts * 2
    return sorted(lengths)


def gathered(extent: Extent, rows: int, columns: int) -> int:
    """Return the numbers that a block of ``rows`` x ``columns`` outputs reads, or reads in place: only what it uses."""
    in_rows = (rows - 1) * extent.row_stride + extent.row_reach
    in_columns = (columns - 1) * extent.column_stride + extent.column_reach
    if extent.in_place:
        in_rows, in_columns = min(in_rows, rows * extent.row_taps), min(in_columns, columns * extent.column_taps)
    return extent.plane_taps * in_rows * in_columns * extent.channels


def _imbalance(tasks: int) -> float:
    threads = TARGET.threads
    # Tasks are taken from a queue, so on average half a task per thread is waited for.
    return math.ceil(tasks / threads) * threads / tasks if tasks < 4 * threads else 1 + threads / (2 * tasks)


def block_candidates(extent: Extent, column_unit: int) -> list[tuple[int, int, int]]:
    """Return candidate blocks (images, rows, columns): several images only where a block holds each of them whole."""
    candidates = []
    for columns in _parts(extent.columns, column_unit):
        for rows in sorted({min(r, extent.rows) for r in _ROW_CANDIDATES} | {extent.rows}):
            candidates.append((1, rows, columns))
    whole = [images for images in (2, 3, 4, 6, 8, 12, 16) if images <= extent.batch]
    return candidates + [(images, extent.rows, extent.columns) for images in whole]


def _stretch_cycles(extent: Extent, block_bytes: int, columns: int) -> float:
    """Return what it costs to gather a block of one of several groups, besides its copies.

    The next group finds the same cache lines in L2 if there is room for all. Where columns are cut, the first pixels of
    each row are fetched by nobody ahead.
    """
    if extent.groups == 1:
        return 0.0
    beyond = max(0.0, block_bytes - 0.75 * TARGET.l2_bytes / extent.groups) / MEMORY_BYTES_PER_CYCLE
    if columns == extent.columns:
        return beyond
    row_bytes = gathered(replace(extent, plane_taps=1, row_reach=1), 1, columns) * (
        4 if extent.dtype == "float32" else 8
    )
    return beyond + block_bytes / row_bytes * CUT_ROW_CYCLES


@lru_cache(maxsize=1024)
def choose_block(extent: Extent) -> Block:
    """Return the block of a forward pass or input gradient."""
    itemsize = 4 if extent.dtype == "float32" else 8
    lanes = TARGET.lanes(extent.dtype)
    widths = panel_vectors(extent.out_channels, extent.dtype)
    panels = len(widths)
    weight_bytes = panels * extent.depth * 2 * lanes * itemsize
    # Channels of a last panel whose registers they do not fill.
    bounced = extent.out_channels % (2 * lanes) if extent.out_channels * HALVES % lanes else 0
    weight_rate = L2_BYTES_PER_CYCLE if weight_bytes < TARGET.l2_bytes // 2 else MEMORY_BYTES_PER_CYCLE
    # Where the input of a single register tile exceeds L2, blocks stay in L3, so that few of them read the kernel.
    tile_bytes = gathered(extent, 1, min(extent.columns, WIDE_SIZES[0])) * itemsize
    room = TARGET.l2_bytes if tile_bytes <= TARGET.l2_bytes else TARGET.l3_bytes // 4
    best, least, choice = math.inf, math.inf, Block(1, 1, 1, 1, math.inf)
    for images, rows, columns in block_candidates(extent, WIDE_SIZES[0]):
        numbers = gathered(extent, rows, columns) * images
        if numbers * itemsize > room and (rows > 1 or columns > WIDE_SIZES[0]):
            continue
        entering = TILE_CYCLES + TAP_CYCLES * extent.plane_taps * extent.row_reach
        row_cycles = sum(tile_cycles(columns, width) for width in widths) / panels * extent.depth
        row_cycles += entering * len(split_rows(columns, widths[0]))
        batches = math.ceil(extent.batch / images)
        blocks = batches * extent.planes * math.ceil(extent.columns / columns) * math.ceil(extent.rows / rows)
        lines = images * rows * columns * max(1.0, extent.out_channels * itemsize / CACHE_LINE)
        leaving = lines * SCATTERED_LINE_CYCLES if extent.is_scattered else 0.0
        leaving += images * rows * columns * bounced * BOUNCE_CYCLES
        for chunks in {1, min(2, panels), min(4, panels), panels}:
            compute = images * rows * row_cycles * panels / chunks
            if extent.in_place:
                # What neighbouring blocks read too is in a cache by then.
                own = images * rows * columns * extent.row_stride * extent.column_stride
                copied = own * extent.plane_taps * extent.channels * itemsize / READ_BYTES_PER_CYCLE
            else:
                copied = numbers * itemsize / GATHER_BYTES_PER_CYCLE + _stretch_cycles(
                    extent, numbers * itemsize, columns
                )
            weights = weight_bytes / chunks / weight_rate
            spilled = max(0.0, numbers * itemsize - TARGET.l2_bytes / 2) / L2_BYTES_PER_CYCLE * panels / chunks
            cycles = (compute + copied + weights + spilled + leaving / chunks + TASK_CYCLES) * blocks * chunks
            least = min(least, cycles)
            total = cycles * _imbalance(blocks * chunks)
            if total < best:
                best, choice = total, Block(images, rows, columns, chunks, cycles)
    return replace(choice, cycles=least)
