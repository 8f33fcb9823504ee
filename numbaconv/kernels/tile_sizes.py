"""Register-tile sizes that this target's registers hold.

A product step needs ``rows * vectors`` accumulators, ``vectors`` registers for a row of weights and one for the
broadcast pixel. 32 registers hold 14 x 2, 16 registers 6 x 2 (oneDNN's and BLIS's sizes for AVX-512 and AVX2); the
narrower ones cover what is left of a row of pixels. With one vector of channels twice the rows are needed to keep
both FMA units busy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numbaconv.jit import inline
from numbaconv.target import TARGET

MANY_REGISTERS = TARGET.registers >= 32

WIDE_SIZES = (14, 10, 8, 7, 5, 4, 2, 1) if MANY_REGISTERS else (6, 5, 4, 3, 2, 1)
"""Rows of the tiles with two vectors of channels, largest first; always ends in 1."""

NARROW_SIZES = (14, 10, 8, 7, 5, 4, 2, 1) if MANY_REGISTERS else (10, 8, 6, 4, 3, 2, 1)
"""Rows of the tiles with one vector of channels."""

SHORT_SIZES = NARROW_SIZES if MANY_REGISTERS else (10, 8, 6, 5, 4, 3, 2, 1)
"""Rows of a kernel gradient's tiles with one vector of channels; with one input channel runs are short."""

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


@lru_cache(maxsize=4096)
def split_rows(count: int, vectors: int, of_gradient: bool = False) -> tuple[int, ...]:
    """Cover ``count`` pixels by tile sizes at the least cost, largest tiles first.

    The cost of a step of a tile is its FMAs, at least `CHAINS_IN_FLIGHT`, and its loads.
    """
    sizes = WIDE_SIZES if vectors == 2 else SHORT_SIZES if of_gradient else NARROW_SIZES
    large = max(0, count // sizes[0] - 2) * (sizes[0],)
    rest = count - len(large) * sizes[0]
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, rest + 1):
        options = []
        for size in set(sizes):
            if size <= n:
                cost, tiles = best[n - size]
                options.append((cost + max(size * vectors, CHAINS_IN_FLIGHT, size + vectors) + 1.0, (size, *tiles)))
        best.append(min(options))
    return large + tuple(sorted(best[rest][1], reverse=True))


def by_rows(make_tile: Callable[[int], Any], sizes: tuple[int, ...], parameters: str) -> Any:
    """Return a jitted function of ``rows`` and a tile's ``parameters`` that runs ``make_tile``'s tile of that size.

    A tile's size must be a literal where its registers are made, so each size has a function of its own, and Numba
    cannot pick a function by a run-time number: the choice is written out, ``if rows == 6: tile_6(...)``, as source.
    """
    branches = [f"    if rows == {size}:\n        tile_{size}({parameters})\n        return\n" for size in sizes]
    names: dict[str, Any] = {f"tile_{size}": make_tile(size) for size in sizes}
    exec(f"def choose(rows, {parameters}):\n{''.join(branches)}    return\n", names)
    return inline(names["choose"])
