"""How many pixels a visit of a kernel gradient takes, and how its pixels and channels are dealt to tasks.

The choice minimises an estimate of the cycles, as that of forward passes does (`numbaconv.algorithms.blocking`):
products of the register tiles, entering and leaving their sums, what is gathered and packed, what L2 does not hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from numbaconv.algorithms.blocking import (
    ALONE,
    FMA_PER_CYCLE,
    L2_BYTES_PER_CYCLE,
    MEMORY_BYTES_PER_CYCLE,
    STRETCH_CYCLES,
    TASK_CYCLES,
    TILE_CYCLES,
    Extent,
    block_candidates,
    even_sums,
    gathered,
    panel_vectors,
    tile_cycles,
)
from numbaconv.algorithms.cache_sets import conflict_cycles, pixel_pitch
from numbaconv.kernels.tile_sizes import HALVES, piece_rows, split_rows
from numbaconv.target import CACHE_LINE, TARGET

AHEAD_BYTES_PER_CYCLE = 8  # of what was fetched ahead and has to be fetched again


@dataclass(frozen=True, slots=True)
class GradientBlock:
    """Pixels of one visit, input channels and parts of the output channels of a task, cycles of all.

    ``panels`` of grad_y are packed in one sweep. ``cycles`` are those of the cheapest block on one thread, which
    algorithms are compared by, ``balanced`` those of this one with what two threads wait.
    """

    images: int
    rows: int
    columns: int
    channels: int
    panels: int
    cycles: float
    balanced: float


MAX_PIXEL_CHUNKS = 32
MAX_PARTIAL_BYTES = 4 << 20
PIXELS_PER_CHUNK = 512
ADDED_PIXELS = 20
"""Adding a private sum is estimated to cost what so many pixels' FMAs do: with many in a chunk a few percent."""
UNEVEN_PIXELS = 32
"""Pixels of a chunk, at least, where one sum alone would leave one of two threads without work."""
PACKED_PIXELS = 1024
"""The same where rows of tiles are packed: tasks of some channels each copy no input twice."""

MIN_CHANNEL_CHUNK = 32
GRADIENT_TASKS = 4
"""Tasks that a kernel gradient is dealt to at least, whatever the number of threads.

Each of them reads all pixels' input of its channels and packs all pixels' grad_y of its panels.
"""

WAITS = {1: ALONE, 3: 4 / 3}
"""What so few tasks take longer than even ones, on two threads."""

GRADIENT_COSTS = (12.0, 12.0, 1.5, 40.0, TASK_CYCLES)
"""Costs in a kernel gradient: bytes gathered or packed in a cycle, and the cycles of entering a tile, adding one of its
registers to the sums, entering a gathered row, and beginning a block."""

WRITTEN_BLOCKS = 4
"""Blocks of all pixels up to which tiles with packed rows write to the gradient itself, whose rows lie apart."""

WRITTEN_BYTES_PER_CYCLE = 4
"""Bytes of a gradient that other kernel gradients clear and copy in a cycle, which their estimates leave out."""

EXCHANGED_CYCLES = 0.5
"""What it takes to write a number of a gradient whose rows lie across the sums."""

PACKED_ROW_CYCLES = 7
"""What it takes to pack the numbers of a pixel that are the rows of a tile, from L2 or L3."""

STRETCH_RATE = 7
"""Bytes gathered or packed in a cycle where tasks take all groups: a pixel's numbers of one are a short stretch."""

GROUP_COSTS = (4.0, TILE_CYCLES, 4.0, 0.0, 0)
"""The same for single groups, whose blocks are not fetched ahead."""


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
    of_task: int,
    pieces: tuple[int, ...] = (),
    exchanged: bool = False,
    packs_rows: bool = False,
    is_whole: bool = False,
) -> GradientBlock:
    """Return the block of a kernel gradient: it depends on the problem and the CPU alone, never on threads in use.

    ``merged_taps`` is the number of taps in a run where all input channels are taken together, ``pitch`` the distance
    of the pixels then, ``sums`` the number of tasks before channels are dealt out: groups and chunks of pixels. A task
    takes ``of_task`` groups: all of them, or a single one, whose next block is not fetched ahead. ``pieces`` are the
    tiles that cover all taps' runs where they are not covered one by one. ``exchanged`` tiles have output channels as
    rows and a run's numbers as columns. Blocks whose tiles have packed rows, ``packs_rows``, are pixels of one row
    where they lie in place. With few blocks such tiles write to the gradient where ``extent`` ``is_whole``, all pixels
    and taps.
    """
    itemsize = 4 if extent.dtype == "float32" else 8
    lanes = TARGET.lanes(extent.dtype)
    widths = panel_vectors(extent.channels * merged_taps if exchanged else extent.out_channels, extent.dtype)
    all_panels, vectors = len(widths), sum(widths) / len(widths)
    all_taps = extent.depth // max(extent.channels, 1)
    alone = of_task < extent.groups
    rate, entering, adding, gathering, beginning = GROUP_COSTS if alone else GRADIENT_COSTS
    if of_task > 1:
        rate = STRETCH_RATE
    if extent.plane_taps > 1:
        gathering *= 1.5  # rows of the first plane alone are fetched ahead
    chunks = sums * of_task // extent.groups
    best, least = GradientBlock(1, 1, 1, extent.channels, 1, math.inf, math.inf), math.inf
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
            run_cycles = sum(piece_rows(size) * vectors + vectors % 1 for size in pieces) / FMA_PER_CYCLE / taps
            visits = len(pieces) * math.ceil(vectors) / taps
        apart = pitch if extent.in_place or channels == extent.channels else pixel_pitch(channels, extent.dtype)
        for images, rows, columns in block_candidates(extent, 1):
            in_place = packs_rows and extent.in_place
            if in_place and images * rows > 1:
                continue
            # What a block holds in L2: of rows that are packed in place one tile's.
            numbers = 0 if in_place else gathered(extent, rows, columns) * apart // max(extent.channels, 1) * images
            pixels = images * rows * columns
            small = rows == 1 and columns <= 32
            if (numbers * itemsize > TARGET.l2_bytes // 2 or pixels > 2048) and not small:
                continue
            room = TARGET.l2_bytes * 0.7 - numbers * itemsize
            together = max(1, min(panels, int(room / ((pixels + (0 if in_place else run)) * 2 * lanes * itemsize))))
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
            if HALVES > 1 and not alone:
                width, part = vectors, min(1.0, extent.out_channels * itemsize / CACHE_LINE)
            packed = pixels * panels * (width * lanes * itemsize / rate + STRETCH_CYCLES * part / together)
            packed = 0.0 if grad_in_place else packed
            # A tile reads a line of each pixel's input and grad_y, sometimes a second one.
            of_input = min(1.3 * CACHE_LINE, apart * itemsize * extent.column_stride)
            # Packed rows are whole registers, beside which panels come from L2.
            # Many tiles of pieces read one register of each pixel again, few of them soon the next register.
            of_grad = min(lanes if len(pieces) > 3 else 2 * lanes, extent.out_channels) * itemsize
            read = 16 * itemsize if packs_rows else of_grad + of_input
            beyond_l1 = pixels * read - TARGET.l1_bytes * 0.75
            spilled = max(0.0, beyond_l1) / (4 * L2_BYTES_PER_CYCLE) * visits * taps * panels
            # The next block is fetched meanwhile, and has to wait in L2.
            ahead = pixels * (extent.row_stride * extent.column_stride * extent.channels + extent.out_channels)
            ahead = 0 if alone else ahead
            if packs_rows:
                conflicts = 0.0
                ahead = 0 if in_place else ahead
                copied += PACKED_ROW_CYCLES * pixels * visits * taps * math.ceil(panels / together)
            held = (numbers + ahead + (0 if grad_in_place else pixels * together * 2 * lanes)) * itemsize
            spilled += max(0.0, held - TARGET.l2_bytes * 0.4) / AHEAD_BYTES_PER_CYCLE
            if pieces and columns < extent.columns:
                # Of a block that is not whole rows a single one is fetched.
                spilled += (pixels - columns) * extent.out_channels * itemsize / MEMORY_BYTES_PER_CYCLE
            blocks = math.ceil(extent.batch / images) * extent.planes
            blocks *= math.ceil(extent.columns / columns) * math.ceil(extent.rows / rows)
            cycles = compute + conflicts + tiles + copied + packed + spilled + beginning
            cycles *= blocks * parts * panel_chunks
            if packs_rows and is_whole and sums == 1 and blocks <= WRITTEN_BLOCKS:
                cycles -= extent.depth * extent.out_channels * itemsize / WRITTEN_BYTES_PER_CYCLE
            if exchanged:
                cycles += extent.depth * extent.out_channels * EXCHANGED_CYCLES
            tasks = min(chunks, blocks) * (sums // chunks) * parts * panel_chunks
            balanced, least = cycles * WAITS.get(tasks, 1.0), min(cycles, least)
            if balanced < best.balanced:
                best = GradientBlock(images, rows, columns, channels, together, cycles, balanced)
    return replace(best, cycles=least)


def pixel_chunks(pixels: int, gradient_bytes: int, panels: int, packs_rows: bool = False) -> int:
    """Return how many private sums the pixels of a kernel gradient are dealt to where blocks are no more.

    ``panels`` are those of all groups.
    """
    most = max(GRADIENT_TASKS, MAX_PARTIAL_BYTES // gradient_bytes)
    chunks = min(MAX_PIXEL_CHUNKS, max(1, pixels // (PACKED_PIXELS if packs_rows else PIXELS_PER_CHUNK)), most)
    return even_sums(chunks, panels)


def added_cycles(depth: int, out_channels: int, dtype: str) -> float:
    """Return about what it costs to add one more private sum."""
    return ADDED_PIXELS * depth * out_channels / (TARGET.lanes(dtype) * FMA_PER_CYCLE)


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
