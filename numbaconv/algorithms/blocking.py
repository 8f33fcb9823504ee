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

from numbaconv.algorithms.cache_sets import CACHE_LINE, conflict_cycles, pixel_pitch
from numbaconv.kernels.tile_sizes import HALVES, WIDE_SIZES, piece_rows, split_rows, step_cost
from numbaconv.target import TARGET

GATHER_BYTES_PER_CYCLE = 8
READ_BYTES_PER_CYCLE = 16  # of input read in place, whose misses products hide in part
L2_BYTES_PER_CYCLE = 24
MEMORY_BYTES_PER_CYCLE = 6
TILE_CYCLES = 25  # entering and leaving one register tile
TAP_CYCLES = 8  # entering one run of taps: its offset and the loop over its numbers
BOUNCE_CYCLES = 1.5  # a number that goes to the output through the bounce buffer
AHEAD_BYTES_PER_CYCLE = 8  # of what a kernel gradient fetched ahead and has to fetch again
TASK_CYCLES = 600
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


def _blocks(extent: Extent, column_unit: int) -> list[tuple[int, int, int]]:
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
    for images, rows, columns in _blocks(extent, WIDE_SIZES[0]):
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


@dataclass(frozen=True, slots=True)
class GradientBlock:
    """Pixels of one visit, input channels and parts of the output channels of a task, cycles of all.

    ``panels`` of grad_y are packed in one sweep.
    """

    images: int
    rows: int
    columns: int
    channels: int
    panels: int
    cycles: float


MAX_PIXEL_CHUNKS = 32
MAX_PARTIAL_BYTES = 4 << 20
PIXELS_PER_CHUNK = 512
"""Adding a private sum is estimated to cost what 20 pixels' FMAs do, so with this many it is a few percent."""
PACKED_PIXELS = 1024
"""The same where rows of tiles are packed: tasks of some channels each copy no input twice."""

MIN_CHANNEL_CHUNK = 32
GRADIENT_TASKS = 4
"""Tasks that a kernel gradient is dealt to at least, whatever the number of threads.

Each of them reads all pixels' input of its channels and packs all pixels' grad_y of its panels.
"""

GRADIENT_COSTS = (12, 12, 1.5, 40, TASK_CYCLES)
"""Costs in a kernel gradient: bytes gathered or packed in a cycle, and the cycles of entering a tile, adding one of its
registers to the sums, entering a gathered row, and beginning a block."""

WRITTEN_BLOCKS = 4
"""Blocks of all pixels up to which tiles with packed rows write to the gradient itself, whose rows lie apart."""

WRITTEN_BYTES_PER_CYCLE = 4
"""Bytes of a gradient that other kernel gradients clear and copy in a cycle, which their estimates leave out."""

PACKED_ROW_CYCLES = 7
"""What it takes to pack the numbers of a pixel that are the rows of a tile, from L2 or L3."""

GROUP_COSTS = (4, TILE_CYCLES, 4, 0, 0)
"""The same for groups, whose blocks are not fetched ahead."""


def channel_chunks(channels: int) -> list[int]:
    """Return the widths that input channels may be dealt into: all, or an even part of at least `MIN_CHANNEL_CHUNK`."""
    parts = (2, 3, 4, 6, 8, 16)
    return [channels] + [channels // p for p in parts if channels % p == 0 and channels // p >= MIN_CHANNEL_CHUNK]


LINES_APART = {3: math.inf, 6: 6, math.inf: 2}
"""Cache lines of a pixel of grad_y up to which it is read where it lies, by the most tiles that pass over a panel."""


def reads_grad_in_place(out_channels: int, pixel: int, visits: int, dtype: str) -> bool:
    """Whether a kernel gradient's tiles read grad_y where it lies: no copies, but pixels ``pixel`` numbers apart in L1.

    Registers must be full. With pixels further apart than two cache lines the sets of L1 that they share cost more
    than the copies unless ``visits``, the tiles that pass over a panel, are few.
    """
    item = 4 if dtype == "float32" else 8
    lines = next(lines for most, lines in LINES_APART.items() if visits <= most)
    return out_channels * HALVES % TARGET.lanes(dtype) == 0 and pixel * item <= lines * CACHE_LINE


@lru_cache(maxsize=1024)
def choose_gradient_block(
    extent: Extent,
    merged_taps: int,
    pitch: int,
    sums: int,
    grad_in_place: bool,
    grouped: bool,
    pieces: tuple[int, ...] = (),
    exchanged: bool = False,
    packs_rows: bool = False,
) -> GradientBlock:
    """Return the block of a kernel gradient: it depends on the problem and the CPU alone, never on threads in use.

    ``merged_taps`` is the number of taps in a run where all input channels are taken together, ``pitch`` the distance
    of the pixels then, ``sums`` the number of tasks before channels are dealt out: groups and chunks of pixels. With
    ``grouped`` channels the next block is not fetched ahead. ``pieces`` are the tiles that cover all taps' runs where
    they are not covered one by one. ``exchanged`` tiles have output channels as rows and a run's numbers as columns.
    Blocks whose tiles have packed rows, ``packs_rows``, are pixels of one row, in place.
    """
    itemsize = 4 if extent.dtype == "float32" else 8
    lanes = TARGET.lanes(extent.dtype)
    widths = panel_vectors(extent.channels * merged_taps if exchanged else extent.out_channels, extent.dtype)
    all_panels, vectors = len(widths), sum(widths) / len(widths)
    all_taps = extent.depth // max(extent.channels, 1)
    rate, entering, adding, gathering, beginning = GROUP_COSTS if grouped else GRADIENT_COSTS
    best = GradientBlock(1, 1, 1, extent.channels, 1, math.inf)
    for channels in [extent.channels] if pieces or exchanged else channel_chunks(extent.channels):
        parts = extent.channels // max(channels, 1)
        panel_chunks = 1 if exchanged else min(all_panels, math.ceil(GRADIENT_TASKS / (sums * parts)))
        panels = math.ceil(all_panels / panel_chunks)
        run = channels * merged_taps if channels == extent.channels else channels
        taps = all_taps * channels // max(run, 1)
        tile_rows = extent.out_channels if exchanged else run
        run_cycles = sum(tile_cycles(tile_rows, width, True) for width in widths) / all_panels
        visits = float(len(split_rows(tile_rows, widths[0], True)))
        if pieces:
            # All taps are one run of tiles of a register each.
            run_cycles = sum(map(piece_rows, pieces)) * vectors / FMA_PER_CYCLE / taps
            visits = len(pieces) * vectors / taps
        apart = pitch if extent.in_place or channels == extent.channels else pixel_pitch(channels, extent.dtype)
        for images, rows, columns in _blocks(extent, 1):
            if packs_rows and images * rows > 1:
                continue
            # What a block holds in L2: of rows that are packed one tile's.
            numbers = 0 if packs_rows else gathered(extent, rows, columns) * apart // max(extent.channels, 1) * images
            pixels = images * rows * columns
            small = rows == 1 and columns <= 32
            if (numbers * itemsize > TARGET.l2_bytes // 2 or pixels > 2048) and not small:
                continue
            room = TARGET.l2_bytes * 0.7 - numbers * itemsize
            together = max(1, min(panels, int(room / ((pixels + (0 if packs_rows else run)) * 2 * lanes * itemsize))))
            compute = run_cycles * pixels * taps * panels
            conflicts = conflict_cycles(pixels, apart * itemsize) * visits * pixels * taps * panels
            tiles = (tile_rows * vectors * adding + visits * (entering + images * rows * 6)) * taps * panels
            if extent.in_place:
                copied = numbers * itemsize / L2_BYTES_PER_CYCLE
            else:
                stretch = STRETCH_CYCLES / apart if extent.is_scattered else 0.0
                copied = numbers * (itemsize / rate + stretch) + images * rows * gathering
            # Each pixel's channels of one sweep are a stretch of memory of its own. Where panels end in half a
            # register, few channels were measured to be packed faster.
            width, part = 2.0, 1.0
            if HALVES > 1 and not grouped:
                width, part = vectors, min(1.0, extent.out_channels * itemsize / CACHE_LINE)
            packed = pixels * panels * (width * lanes * itemsize / rate + STRETCH_CYCLES * part / together)
            packed = 0.0 if grad_in_place else packed
            # A tile reads a line of each pixel's input and grad_y, sometimes a second one.
            of_input = min(1.3 * CACHE_LINE, apart * itemsize * extent.column_stride)
            # Packed rows are whole registers, beside which panels come from L2.
            read = 16 * itemsize if packs_rows else 2 * lanes * itemsize + of_input
            beyond_l1 = pixels * read - TARGET.l1_bytes * 0.75
            spilled = max(0.0, beyond_l1) / (4 * L2_BYTES_PER_CYCLE) * visits * taps * panels
            # The next block is fetched meanwhile, and has to wait in L2.
            ahead = pixels * (extent.row_stride * extent.column_stride * extent.channels + extent.out_channels)
            ahead = 0 if grouped else ahead
            if packs_rows:
                conflicts, ahead = 0.0, 0
                copied = PACKED_ROW_CYCLES * pixels * visits * taps * math.ceil(panels / together)
            held = (numbers + ahead + (0 if grad_in_place else pixels * together * 2 * lanes)) * itemsize
            spilled += max(0.0, held - TARGET.l2_bytes * 0.4) / AHEAD_BYTES_PER_CYCLE
            if pieces and columns < extent.columns:
                # Of a block that is not whole rows a single one is fetched.
                spilled += (pixels - columns) * extent.out_channels * itemsize / MEMORY_BYTES_PER_CYCLE
            blocks = math.ceil(extent.batch / images) * extent.planes
            blocks *= math.ceil(extent.columns / columns) * math.ceil(extent.rows / rows)
            cycles = compute + conflicts + tiles + copied + packed + spilled + beginning
            cycles *= blocks * parts * panel_chunks
            if packs_rows and sums == 1 and blocks <= WRITTEN_BLOCKS:
                cycles -= extent.depth * extent.out_channels * itemsize / WRITTEN_BYTES_PER_CYCLE
            if cycles < best.cycles:
                best = GradientBlock(images, rows, columns, channels, together, cycles)
    return best


def pixel_chunks(pixels: int, gradient_bytes: int, packs_rows: bool = False) -> int:
    """Return how many private sums the pixels of a kernel gradient are dealt to where blocks are no more."""
    most = max(GRADIENT_TASKS, MAX_PARTIAL_BYTES // gradient_bytes)
    return min(MAX_PIXEL_CHUNKS, max(1, pixels // (PACKED_PIXELS if packs_rows else PIXELS_PER_CHUNK)), most)


def panel_parts(tasks: int, panels: int) -> int:
    """Return how many parts the panels of a kernel gradient are dealt to in each of its ``tasks``.

    Threads are to finish together; it has no influence on any sum.
    """
    threads = TARGET.threads
    least = min(panels, math.ceil(max(GRADIENT_TASKS, 2 * threads) / tasks))
    counts = range(least, min(panels, 2 * least) + 1)
    return min(counts, key=lambda count: _finish(tasks, panels, count) * (1 + PANEL_CHUNK_COST * count))


PANEL_CHUNK_COST = 0.03
"""What each part that the panels are dealt to costs more: all of them gather the input."""


def _finish(tasks: int, panels: int, count: int) -> float:
    """Return when the last thread is done with panels dealt to ``count`` parts in each of ``tasks``."""
    threads = TARGET.threads
    if tasks * count > 16 * threads:
        return tasks * panels / threads
    loads = [0] * threads
    for size in sorted(((i + 1) * panels // count - i * panels // count for i in range(count)), reverse=True):
        for _ in range(tasks):
            loads[loads.index(min(loads))] += size
    return max(loads)
