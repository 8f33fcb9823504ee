"""How tiles of a forward pass or an input gradient by Winograd's algorithm are dealt to blocks and tasks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from numbaconv.algorithms.blocking import panel_count, tile_cycles
from numbaconv.algorithms.plan_parts import product_channels
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
    """Tiles of a block and the parts that output channels are dealt into; ``cycles`` are those on one thread."""

    tiles: int
    panel_chunks: int
    cycles: float


def choose_block(phases: tuple[TilePhase, ...], channels: int, outs: int, groups: int, whole: bool) -> Block:
    """Return how many tiles a block takes and into how many parts the output channels are dealt.

    All tiles of joined phases are one block. With ``whole`` all tiles are one, whose workers transform the kernel
    themselves.
    """
    phase = phases[0]
    lanes, points, depth = TARGET.lanes("float32"), phase.points, phase.summed_taps * channels
    panels, tiles, unit = panel_count(outs, "float32"), sum(each.tiles for each in phases), WIDE_SIZES[0]
    kernel_bytes, share = points * depth * outs * 4, tile_kinds(phase).share
    is_far = not whole and kernel_bytes > TARGET.l3_bytes / 2
    best, least, choice = math.inf, math.inf, Block(1, 1, math.inf)
    is_one = whole or len(phases) > 1
    for size in sorted({tiles} if is_one else {min(tiles, n * unit) for n in BLOCK_UNITS}):
        blocks = -(-tiles // size) * groups
        input_bytes = points * size * depth * 4
        if whole and input_bytes > min(MAX_WHOLE_BYTES, kernel_bytes):
            break
        for chunks in sorted({1, min(2, panels), min(4, panels), panels}):
            count = panels / chunks
            transformed = size * input_cycles(phase, channels, groups)
            parts = [size] if len(phases) == 1 else [each.tiles for each in phases]
            of_point = sum(tile_cycles(part, 2) * depth + -(-part // unit) * POINT_CYCLES for part in parts)
            products = points * share * wide_panels(outs) / chunks * of_point
            result = size * -(-outs // lanes) / chunks * OUTPUT_CYCLES[points]
            weights = kernel_bytes / chunks / (FAR_KERNEL_BYTES_PER_CYCLE if is_far else KERNEL_BYTES_PER_CYCLE)
            if whole:
                weights += own_kernel_cost(points * depth * 2 * lanes * 4) * KERNEL_CYCLES[points] * depth * count
            # Behind L2, and what L3 holds beside the kernel and other threads: read for each panel, written back.
            spilled = max(0.0, input_bytes - TARGET.l2_bytes / 2) + 2 * max(0.0, input_bytes - TARGET.l3_bytes / 4)
            spilled *= count / CACHE_BYTES_PER_CYCLE
            cycles = (transformed + products + result + weights + spilled) * blocks * chunks
            least = min(least, cycles)
            tasks, threads = blocks * chunks, TARGET.threads
            balance = math.ceil(tasks / threads) * threads / tasks
            if cycles * balance < best:
                best, choice = cycles * balance, Block(size, chunks, cycles)
    return dataclasses.replace(choice, cycles=least)


def own_kernel_cost(panel_bytes: int) -> float:
    """Return what a worker's own transform of a panel costs beside one that is written to memory."""
    return 0.65 if panel_bytes < 1.5 * TARGET.l2_bytes else 1.25


BLOCK_UNITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
"""Sizes of a block, in register tiles."""

MAX_JOINED_TILES, MIN_JOINED_BYTES = 70, TARGET.l3_bytes // 2
"""Tiles of phases that are one block together, at most, and what they share of the transformed kernel, at least."""

MAX_WHOLE_BYTES = 8 << 20
"""Transformed input of a block of all tiles: more would not stay in L3 beside that of other threads.

Nor may it be larger than the transformed kernel, whose way to memory and back it saves.
"""


@dataclass(frozen=True, slots=True)
class Deal:
    """The phases of a pass, those in one block together, and a block of each such set; the cycles on one thread.

    With `whole` each block is all tiles of its phases.
    """

    phases: tuple[tuple[TilePhase, ...], ...]
    blocks: tuple[Block, ...]
    whole: bool
    cycles: float


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


@lru_cache(maxsize=512)
def deal(spec: ConvSpec, direction: str, x_strides: Strides, y_strides: Strides) -> Deal:
    """Choose the blocks of a pass, whose workers find the kernel transformed or transform it themselves."""
    phases = tuple(tile_phases(spec, direction, x_strides, y_strides))
    channels, outs = product_channels(spec, direction)
    panels = panel_count(outs, spec.dtype) * spec.groups
    joined = join_phases(phases, channels, outs)
    deals = []
    for whole in (False, True):
        blocks = tuple(choose_block(each, channels, outs, spec.groups, whole) for each in joined)
        cycles = sum(block.cycles for block in blocks)
        if not whole:
            for phase in {kernel_key(phase): phase for phase in phases}.values():
                depth = phase.summed_taps * channels
                is_large = phase.points * depth * outs * spec.groups * 4 > TARGET.l3_bytes / 2
                cycles += KERNEL_CYCLES[phase.points] * depth * panels * (2.4 if is_large else 1.0)
        deals.append(Deal(joined, blocks, whole, cycles))
    return min(deals, key=lambda each: each.cycles)


def kernel_key(phase: TilePhase) -> tuple[tuple[int, ...], int, int]:
    """Return what phases have in common that share one transformed kernel."""
    return tuple(kernel_taps(phase)), phase.row_points, phase.column_points
