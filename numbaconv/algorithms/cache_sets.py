"""How pixels share the sets of the first-level cache: equally far apart they may crowd in few of them."""

from __future__ import annotations

import math

from numbaconv.kernels.tile_sizes import WIDE_SIZES
from numbaconv.target import CACHE_LINE, TARGET

CONFLICT_CYCLES = 2.5
"""What a pixel's numbers take that come from L2 because the pixels of a block share few sets of L1."""


def _lines_in_l1(distance: int) -> int:
    """Return how many lines, each ``distance`` lines behind the one before, L1 holds."""
    sets = TARGET.l1_bytes // CACHE_LINE // TARGET.l1_ways
    return sets // math.gcd(distance, sets) * TARGET.l1_ways


def pixels_in_l1(pixel_stride: int, dtype: str) -> float:
    """Return of how many pixels, ``pixel_stride`` numbers apart, L1 holds a cache line each; many if it holds any."""
    pitch, rest = divmod(pixel_stride * (4 if dtype == "float32" else 8), CACHE_LINE)
    return math.inf if rest else _lines_in_l1(pitch)


def is_crowded(pixel_stride: int, dtype: str) -> bool:
    """Whether pixels of a register tile, ``pixel_stride`` numbers apart, share so few sets of L1 that they leave it.

    A cache line of each pixel is used number by number: each time it would come from L2.
    """
    return pixels_in_l1(pixel_stride, dtype) < WIDE_SIZES[0]


def pixel_pitch(channels: int, dtype: str) -> int:
    """Return how far apart gathered pixels of a kernel gradient lie, in numbers.

    A tile reads a few numbers of each pixel of a block. Pixels a multiple of 512 bytes apart share eight sets of L1 or
    fewer, so one cache line is left between them.
    """
    itemsize = 4 if dtype == "float32" else 8
    return channels + CACHE_LINE // itemsize if channels * itemsize % (8 * CACHE_LINE) == 0 else channels


def conflict_cycles(pixels: int, pitch_bytes: int) -> float:
    """Return the cycles that each pixel of a tile's visit takes more where the pixels crowd in few sets of L1."""
    lines = _lines_in_l1(1 if pitch_bytes % CACHE_LINE else pitch_bytes // CACHE_LINE)
    return CONFLICT_CYCLES if pixels > lines else 0.0
