"""Register-tile sizes that this target's registers hold.

A product step needs ``rows * vectors`` accumulators, ``vectors`` registers for a row of weights and one for the
broadcast pixel. 32 registers hold 14 x 2, 16 registers 6 x 2 (oneDNN's and BLIS's sizes for AVX-512 and AVX2); the
narrower ones cover what is left of a row of pixels. With one vector of channels twice the rows are needed to keep
both FMA units busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from numbaconv.jit import inline
from numbaconv.target import TARGET

MANY_REGISTERS = TARGET.registers >= 32

WIDE_SIZES = (14, 10, 8, 7, 5, 4, 2, 1) if MANY_REGISTERS else (6, 5, 4, 3, 2, 1)
"""Rows of the tiles with two vectors of channels, largest first; always ends in 1."""

NARROW_SIZES = (14, 10, 8, 7, 5, 4, 2, 1) if MANY_REGISTERS else (8, 6, 4, 3, 2, 1)
"""Rows of the tiles with one vector of channels. LLVM spills half of the sums of ten where 16 registers are all."""

SHORT_SIZES = NARROW_SIZES if MANY_REGISTERS else (10, 8, 6, 5, 4, 3, 2, 1)
"""Rows of a kernel gradient's tiles with one vector of channels; with one input channel runs are short."""

HALVES = 2 if TARGET.splits_registers else 1
"""Parts of a register to a multiple of which kernels round up the channels of a panel."""

PANEL_VECTORS = (2, 1.5, 1, 0.5) if HALVES == 2 else (2, 1)
"""Registers of channels of a tile, those of half the lanes counted as halves."""

GRADIENT_TILES: dict[float, tuple[int, ...]] = {
    2: (14, 10, 8, 7, 5, 4, 3, 2, 1) if MANY_REGISTERS else WIDE_SIZES,
    1.5: (14, 8, 5, 2, 1),
    1: SHORT_SIZES,
    0.5: (28, 20, 14, 10, 8, 5, 3, 2, 1),
}
"""Rows of a kernel gradient's tiles with so many registers of channels, largest first."""

GRADIENT_PIECES: dict[int, tuple[int, ...]] = (
    {7: (4, 3), 5: (5,), 4: (7, 5, 4), 3: (9, 6, 4, 3)} if TARGET.vector_bytes == 64 else {}
)
"""Pieces of so many numbers of the runs of several taps that are a kernel gradient's tile of one register of channels.

Each number is broadcast on its way from L1, two a cycle. The pieces' offsets take a register each.
"""

PIECE_SIZES = tuple(16 * pieces + numbers for numbers, many in GRADIENT_PIECES.items() for pieces in many)
"""Sizes of these tiles as one number each."""

HALF_PIECES = 256
"""What is added to the number of such a tile whose register is half a one."""

PIECE_TILES = PIECE_SIZES + tuple(HALF_PIECES + size for size in PIECE_SIZES if HALVES == 2)
"""Numbers of all tiles of pieces."""

PRODUCT_TILES: dict[float, tuple[int, ...]] = {
    2: WIDE_SIZES,
    1.5: (14, 10, 7, 3, 1),
    1: NARROW_SIZES,
    0.5: (14, 10, 7, 3, 1),
}
"""The same of other tiles."""


def tile_parts(number: int) -> tuple[int, int, int]:
    """Return rows, whole registers of channels and half ones of the tile with such a number."""
    return number % 32, number // 64, number // 32 % 2


PLANAR_VECTORS = (
    {1: (8, 4, 2, 1), 2: (8, 4, 2, 1), 3: (6, 3, 1), 4: (6, 3, 1), 5: (4, 2, 1), 6: (4, 2, 1)}
    if MANY_REGISTERS
    else {1: (8, 4, 2, 1), 2: (5, 3, 2, 1), 3: (3, 2, 1), 4: (3, 2, 1), 5: (2, 1), 6: (2, 1)}
)
"""Registers of pixels of the tiles for each number of output channels, largest first; always ends in 1."""

PLANAR_SIZES = tuple(16 * channels + vectors for channels, many in PLANAR_VECTORS.items() for vectors in many)
"""Sizes of these tiles as one number each."""

FOLDED_VECTORS = (
    {14: (2, 1), 9: (3, 2, 1), 7: (3, 2, 1), 5: (4, 2, 1), 4: (4, 2, 1), 3: (4, 2, 1), 1: (8, 4, 2, 1)}
    if MANY_REGISTERS
    else {6: (2, 1), 5: (2, 1), 4: (3, 2, 1), 3: (3, 2, 1), 2: (5, 3, 2, 1), 1: (8, 4, 2, 1)}
)
"""Registers of pixels of the tiles for each count of a kernel row's numbers, as `PLANAR_VECTORS`.

LLVM unrolls tiles of 10 and 12 x 2 and spills then.
"""

FOLDED_SIZES = tuple(16 * numbers + vectors for numbers, many in FOLDED_VECTORS.items() for vectors in many)
"""Sizes of these tiles as one number each."""

DOT_PIXELS: dict[int, int] = {1: 16, 2: 8, 3: 5, 4: 4} if TARGET.vector_bytes == 64 else {}
"""Pixels of a tile with input channels in the lanes for each number of output channels: 16 registers of sums."""

OUTER_VECTORS = {
    (taps, channels): tuple(v for v in (4, 2) if v * taps * channels <= (24 if MANY_REGISTERS else 12)) or (1,)
    for taps in range(1, 6 if MANY_REGISTERS else 5)
    for channels in (1, 2, 3)
}
"""Registers of pixels of a planar kernel gradient's tiles for numbers of a run x output channels, largest first."""

OUTER_SIZES = tuple(64 * taps + 8 * channels + v for (taps, channels), many in OUTER_VECTORS.items() for v in many)
"""Sizes of these tiles as one number each."""

CHAINS_IN_FLIGHT = 4 * TARGET.fma_per_cycle
"""Independent FMAs that hide the latency of one (4 cycles): a tile with fewer accumulators costs as much."""


LEAST_STEP = 5 if HALVES == 2 else 0
"""What a step of a kernel gradient's tile costs at least, in FMAs for each register of its columns.

Its loads of grad_y cross cache lines, and it asks for a line of the next block: tiles of two to four rows took a
quarter to twice as long as their products.
"""


def step_cost(rows: int, vectors: float, of_gradient: bool = False) -> float:
    """Return what a step of a tile costs, in FMAs of whole registers: these, `CHAINS_IN_FLIGHT` at least, its loads.

    Where halves of a register are done one after the other, two loads take the time of an FMA. Steps with a half
    register were measured to take one FMA more.
    """
    least = max(CHAINS_IN_FLIGHT, LEAST_STEP * vectors if of_gradient else 0)
    if vectors % 1 == 0:
        return max(rows * vectors, least, rows + vectors)
    return max(rows * vectors, least, rows / 2 + vectors) + 1


@lru_cache(maxsize=4096)
def split_rows(count: int, vectors: float, of_gradient: bool = False) -> tuple[int, ...]:
    """Cover ``count`` pixels by sizes of tiles with ``vectors`` registers at the least cost, largest tiles first."""
    sizes = (GRADIENT_TILES if of_gradient else PRODUCT_TILES)[vectors]
    large = max(0, count // sizes[0] - 2) * (sizes[0],)
    rest = count - len(large) * sizes[0]
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, rest + 1):
        options = []
        for size in set(sizes):
            if size <= n:
                cost, tiles = best[n - size]
                options.append((cost + step_cost(size, vectors, of_gradient) + 1.0, (size, *tiles)))
        best.append(min(options))
    return large + tuple(sorted(best[rest][1], reverse=True))


@lru_cache(maxsize=512)
def split_pieces(run: int, taps: int) -> tuple[int, ...]:
    """Cover the runs of all taps by tiles of pieces, `PIECE_SIZES`, at the least cost; none where none fit."""
    best: tuple[float, tuple[int, ...]] = (math.inf, ())
    for numbers, sizes in GRADIENT_PIECES.items():
        if run % numbers == 0:
            best = min(best, _cover(run // numbers * taps, numbers, sizes))
    return best[1]


def _cover(count: int, numbers: int, sizes: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """Return the least cost of covering pieces exactly by tiles of so many, and these tiles, largest first."""
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, count + 1):
        options: list[tuple[float, tuple[int, ...]]] = [(math.inf, ())]
        for size in sizes:
            if size <= n:
                cost, tiles = best[n - size]
                options.append((cost + size * numbers + 1.0, (16 * size + numbers, *tiles)))
        best.append(min(options))
    return best[count][0], tuple(sorted(best[count][1], reverse=True))


def piece_parts(number: int) -> tuple[int, int, int]:
    """Return pieces, numbers of each and whole registers, one or none, of the tile of pieces with such a number."""
    return number % HALF_PIECES // 16, number % 16, 1 - number // HALF_PIECES


def piece_rows(size: int) -> int:
    """Return the rows of a tile of `PIECE_SIZES`."""
    return size // 16 * (size % 16)


def by_rows(make_tile: Callable[[int], Any], sizes: tuple[int, ...], parameters: str) -> Any:
    """Return a jitted function of ``rows`` and a tile's ``parameters`` that runs ``make_tile``'s tile of that size.

    A tile's size must be a literal where its registers are made, so each size has a function of its own, and Numba
    cannot pick a function by a run-time number: the choice is written out, ``if rows == 6: tile_6(...)``, as source.
    """
    branches = [f"    if rows == {size}:\n        tile_{size}({parameters})\n        return\n" for size in sizes]
    names: dict[str, Any] = {f"tile_{size}": make_tile(size) for size in sizes}
    exec(f"def choose(rows, {parameters}):\n{''.join(branches)}    return\n", names)
    return inline(names["choose"])


def by_vectors(make_tile: Callable[[int], Any], rows: Mapping[float, tuple[int, ...]], parameters: str) -> Any:
    """Return `by_rows` for the ``rows`` of each count of registers, by a number that `tile_parts` reads.

    Each count has a function of its own: one clears some memory on the stack for every call that it may make.
    """
    branches: list[str] = []
    names: dict[str, Any] = {}
    for vectors in PANEL_VECTORS:
        first = int(64 * vectors)
        names[f"tiles_{first}"] = by_rows(make_tile, tuple(first + count for count in rows[vectors]), parameters)
        branches.append(f"    if number >= {first}:\n        tiles_{first}(number, {parameters})\n        return\n")
    exec(f"def choose(number, {parameters}):\n{''.join(branches)}", names)
    return inline(names["choose"], always=True)
