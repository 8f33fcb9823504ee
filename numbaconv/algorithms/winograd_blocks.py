"""How tiles of a forward pass or an input gradient by Winograd's algorithm are dealt to blocks and tasks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from numbaconv.algorithms.blocking import panel_count, tile_cycles
from numbaconv.algorithms.cache_sets import pixels_in_l1
from numbaconv.algorithms.calibration import TOUCHED_BYTES_PER_CYCLE
from numbaconv.algorithms.plan_parts import MAX_KEPT_BYTES, product_channels
from numbaconv.algorithms.winograd_tiles import (
    CACHE_BYTES_PER_CYCLE,
    FAR_KERNEL_BYTES_PER_CYCLE,
    KERNEL_BYTES_PER_CYCLE,
    KERNEL_CYCLES,
    OUTPUT_CYCLES,
    POINT_CYCLES,
    TilePhase,
    input_cycles,
    kernel_taps,
    tile_kinds,
    tile_phases,
    wide_panels,
)
from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles of a block and the parts that output channels are dealt into.

    ``cycles`` are those of the cheapest block on one thread, which algorithms are compared by, ``balanced`` those of
    this one, with what threads wait for each other. The tiles of a block that ``is_run`` follow one another along the
    planes, of which they transform each once.
    """

    tiles: int
    panel_chunks: int
    cycles: float
    balanced: float
    is_run: bool = False


class KernelPlace(Enum):
    """Where the transformed kernel lies."""

    SHARED = "shared"  # a launch of its own writes it to memory, where all workers read it
    KEPT = "kept"  # each worker transforms all of it and keeps it through its tasks
    PANELS = "panels"  # all tiles are one block: a worker transforms each panel where it is used


PLACES = tuple(KernelPlace)


def choose_block(
    phases: tuple[TilePhase, ...],
    channels: int,
    outs: int,
    groups: int,
    place: KernelPlace,
    x_bytes: int,
    is_ready: bool,
) -> Block:
    """Return how many tiles a block takes and into how many parts the output channels are dealt.

    All tiles of joined phases are one block, and so are all tiles where workers transform panels. Tasks of some
    channels each read all of the input, ``x_bytes``, which in a network other threads have just written.
    """
    whole = place is KernelPlace.PANELS
    phase = phases[0]
    lanes, points, depth = TARGET.lanes("float32"), phase.points, phase.summed_taps * channels
    panels, tiles, unit = panel_count(outs, "float32"), sum(each.tiles for each in phases), WIDE_SIZES[0]
    kernel_bytes, share = points * depth * outs * 4, tile_kinds(phase).share
    is_far = not whole and kernel_bytes > TARGET.l3_bytes / 2
    kernel_rate = FAR_KERNEL_BYTES_PER_CYCLE if is_far else KERNEL_BYTES_PER_CYCLE
    # Intel's caches behind L2 do not keep up with the products that hide most of these reads elsewhere.
    if TARGET.is_intel and kernel_bytes > TARGET.l2_bytes / 2:
        kernel_rate /= 2
    best, least, choice = math.inf, math.inf, Block(1, 1, math.inf, math.inf)
    is_one = whole or len(phases) > 1
    sizes = {tiles} if is_one else {min(tiles, n * unit) for n in BLOCK_UNITS}
    # Few tiles are dealt evenly. Algorithms are not compared by that: their choice must not depend on the threads.
    even = -(-tiles // TARGET.threads)
    is_dealt = is_ready and not is_one and even <= MAX_DEALT_UNITS * unit
    choices = [(size, False) for size in sorted(sizes | ({even} if is_dealt else set()))]
    choices += [(size, True) for size in ([] if is_one else run_sizes(phase, channels))]
    for size, is_run in choices:
        blocks = -(-tiles // size) * groups
        # Each tile of a run but the first transforms a single plane.
        inputs = 1 + (size - 1) / phase.plane_taps if is_run else size
        input_bytes = points * inputs * depth * 4
        if whole and input_bytes > min(MAX_WHOLE_BYTES, kernel_bytes):
            break
        for chunks in sorted({1, min(2, panels), min(4, panels), panels}):
            count = panels / chunks
            transformed = inputs * input_cycles(phase, channels, groups)
            parts = [size] if len(phases) == 1 else [each.tiles for each in phases]
            of_point = sum(tile_cycles(part, 2) * depth + -(-part // unit) * POINT_CYCLES for part in parts)
            products = points * share * wide_panels(outs) / chunks * of_point
            result = size * -(-outs // lanes) / chunks * OUTPUT_CYCLES[points]
            weights = kernel_bytes / chunks / kernel_rate
            if whole:
                panel_bytes = points * depth * 2 * lanes * 4
                weights += own_kernel_cost(panel_bytes) * KERNEL_CYCLES[points] * depth * count
                weights += panel_bytes / TOUCHED_BYTES_PER_CYCLE * (count if panel_bytes > TARGET.l2_bytes / 2 else 1)
            # Behind L2, and what L3 holds beside the kernel and other threads: read for each panel, written back.
            spilled = max(0.0, input_bytes - TARGET.l2_bytes / 2) + 2 * max(0.0, input_bytes - TARGET.l3_bytes / 4)
            spilled *= count / CACHE_BYTES_PER_CYCLE
            touched = (input_bytes + points * size * 2 * lanes * 4) / TOUCHED_BYTES_PER_CYCLE
            cycles = (transformed + products + result + weights + spilled) * blocks * chunks + touched
            if is_run or size in sizes:
                least = min(least, cycles)
            tasks, threads = blocks * chunks, TARGET.threads
            balanced = cycles * math.ceil(tasks / threads) * threads / tasks + touched * (min(tasks, threads) - 1)
            balanced += x_bytes * (min(chunks, threads) - 1) / EXCHANGE_BYTES_PER_CYCLE
            if balanced < best:
                best, choice = balanced, Block(size, chunks, cycles, balanced, is_run)
    return dataclasses.replace(choice, cycles=least)


def run_sizes(phase: TilePhase, channels: int) -> list[int]:
    """Return how many tiles blocks along the planes may have: even parts of a run, whose rows L1's sets hold."""
    of_plane, planes = phase.summed_taps // phase.plane_taps * channels, phase.run_planes
    if planes == 0 or pixels_in_l1(of_plane, "float32") < 2 * WIDE_SIZES[0]:
        return []
    return [size for size in range(2, min(planes, MAX_RUN) + 1) if planes % size == 0]


MAX_RUN = 96
"""Tiles of a block along the planes, at most: with more of them sharing planes saves little."""


def own_kernel_cost(panel_bytes: int) -> float:
    """Return what a worker's own transform of a panel costs beside one that is written to memory."""
    return 0.65 if panel_bytes < 1.5 * TARGET.l2_bytes else 1.25


BLOCK_UNITS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24)
"""Sizes of a block, in register tiles."""

MAX_JOINED_TILES, MIN_JOINED_BYTES = 70, TARGET.l3_bytes // 2
"""Tiles of phases that are one block together, at most, and what they share of the transformed kernel, at least."""

MANY_TILES = 2 * WIDE_SIZES[0]
"""Tiles of a phase that fill register tiles by themselves."""

MAX_DEALT_UNITS = 3
"""Tiles of a thread, in register tiles, that are few."""

EXCHANGE_BYTES_PER_CYCLE = 4.0
"""Of what other threads have just written: a compromise. By what layers lost, cores that share no L3 exchange a tenth
of that."""

MAX_WHOLE_BYTES = 8 << 20
"""Transformed input of a block of all tiles: more would not stay in L3 beside that of other threads.

Nor may it be larger than the transformed kernel, whose way to memory and back it saves.
"""


@dataclass(frozen=True, slots=True)
class Deal:
    """The phases of a pass, those in one block together, and a block of each such set; the cycles on one thread."""

    phases: tuple[tuple[TilePhase, ...], ...]
    blocks: tuple[Block, ...]
    place: KernelPlace
    cycles: float
    balanced: float


def join_phases(phases: tuple[TilePhase, ...], channels: int, outs: int) -> tuple[tuple[TilePhase, ...], ...]:
    """Put phases of few tiles that share a large transformed kernel together, so that it is read once for all."""
    joined: list[tuple[TilePhase, ...]] = []
    for _, alike in itertools.groupby(phases, kernel_key):
        members = tuple(alike)
        tiles, phase = sum(each.tiles for each in members), members[0]
        kernel_bytes = phase.points * phase.summed_taps * channels * outs * 4
        parts = -(-tiles // MAX_JOINED_TILES) if kernel_bytes > MIN_JOINED_BYTES else len(members)
        size = -(-len(members) // min(parts, len(members)))
        joined += [members[first : first + size] for first in range(0, len(members), size)]
    return tuple(joined)


def _phases_of_blocks(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> tuple[TilePhase, ...]:
    """Return the phases of a pass; those of a dilation that have many tiles and share a large kernel are joined later.

    They were measured to be faster in that form, with panels transformed where they are used.
    """
    channels, outs = product_channels(spec, direction)
    apart = tuple(tile_phases(spec, direction, x_strides, y_strides, are_apart=True))
    size = max(phase.points * phase.summed_taps for phase in apart) * channels * outs * 4
    has_many = min(phase.tiles for phase in apart) >= MANY_TILES
    return apart if has_many and size > MIN_JOINED_BYTES else tuple(tile_phases(spec, direction, x_strides, y_strides))


@lru_cache(maxsize=512)
def deal(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides, is_constant: bool = False) -> Deal:
    """Choose the blocks of a pass, whose workers find the kernel transformed or transform it themselves.

    A constant kernel costs nothing to transform for all workers, once.
    """
    phases = _phases_of_blocks(spec, direction, x_strides, y_strides)
    channels, outs = product_channels(spec, direction)
    panels = panel_count(outs, spec.dtype) * spec.groups
    joined = join_phases(phases, channels, outs)
    kernels = {kernel_key(phase): phase for phase in phases}.values()
    x_bytes = 4 * math.prod(spec.x_shape if direction == "forward" else spec.y_shape)
    size = sum(phase.points * phase.summed_taps * channels * outs * spec.groups * 4 for phase in kernels)
    transform = sum(KERNEL_CYCLES[phase.points] * phase.summed_taps * channels * panels for phase in kernels)
    touched = size / TOUCHED_BYTES_PER_CYCLE
    transform_to_memory = transform * (2.4 if size > TARGET.l3_bytes / 2 else 1.0) + touched
    # What workers keep of a small kernel, they find in L2.
    kept = transform * own_kernel_cost(size) + touched * (size > TARGET.l2_bytes / 2)
    deals = []
    for place in PLACES:
        if place is KernelPlace.KEPT and size > MAX_KEPT_BYTES:
            continue
        is_ready = place is KernelPlace.KEPT or is_constant
        blocks = tuple(choose_block(each, channels, outs, spec.groups, place, x_bytes, is_ready) for each in joined)
        cycles, balanced = sum(block.cycles for block in blocks), sum(block.balanced for block in blocks)
        if place is KernelPlace.SHARED and not is_constant:
            cycles += transform_to_memory
            balanced += transform_to_memory + size * (TARGET.threads - 1) / EXCHANGE_BYTES_PER_CYCLE
        elif place is KernelPlace.KEPT:
            cycles += transform + touched
            balanced += kept * TARGET.threads
        deals.append(Deal(joined, blocks, place, cycles, balanced))
    least = min(each.cycles for each in deals)
    return dataclasses.replace(min(deals, key=lambda each: each.balanced), cycles=least)


def kernel_key(phase: TilePhase) -> tuple[tuple[int, ...], int, int]:
    """Return what phases have in common that share one transformed kernel."""
    return tuple(kernel_taps(phase)), phase.row_points, phase.column_points
