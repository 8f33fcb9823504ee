"""The end of every product: the activation on a finished tile, and the way of the tile to the output.

Every kernel calls these three functions and so has relu, which costs nothing in registers. A kernel for a user's
function is the same kernel with its own three in their place (`epilogue_of`): there a finished tile goes through a
buffer in L1, from which a loop that LLVM vectorises takes it to the output.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.vector_copy import HAS_MASKS, copy_columns, copy_pixel
from numbaconv.simd.mapping import map_lanes
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_relu
from numbaconv.simd.vectors import lanes_of

MASKED_COLUMNS = 8
"""Columns from which a part of a register is stored with a mask: fewer go number by number."""


@inline
def activate_tile(acc, activates):
    """Return the tile's numbers, at least 0 where it `activates`: relu.

    A flag, not the bound itself: on AVX-512 a tile's loop needs all 32 registers, and a bound that waits in the 33rd
    makes LLVM store and load the whole tile once per tap.
    """
    if activates:
        acc = tile_relu(acc)
    return acc


@inline
def waits(lower):
    """Whether a full tile has to wait in the bounce buffer for `leave_bounce`."""
    return False


@inline
def leave_bounce(bounce, width, rows, valid, lower, y, y_stride):
    """Move the first `valid` of `width` columns of a tile from `bounce` to the output."""
    if HAS_MASKS and valid >= MASKED_COLUMNS:
        for row in range(rows):
            copy_pixel(advance(bounce, row * width), valid, advance(y, row * y_stride))
        return
    copy_columns(bounce, width, rows, valid, y, y_stride)


def epilogue_of(function: Any) -> dict[Any, Any]:
    """Return what stands in for this module's functions in a kernel that ends with a scalar ``function``."""

    @inline
    def keep_tile(acc, activates):
        return acc

    @inline
    def waits_if_last(lower):
        return lower == 0

    @inline
    def map_bounce(bounce, width, rows, valid, lower, y, y_stride):
        if lower != 0:
            copy_columns(bounce, width, rows, valid, y, y_stride)
            return
        lanes = lanes_of(bounce)
        whole = valid - valid % lanes
        for row in range(rows):
            for column in range(0, whole, lanes):
                map_lanes(function, advance(bounce, row * width + column), advance(y, row * y_stride + column))
        if whole < valid:
            rest = advance(bounce, rows * width)
            for row in range(rows):
                map_lanes(function, advance(bounce, row * width + whole), rest)
                copy_columns(rest, lanes, 1, valid - whole, advance(y, row * y_stride + whole), lanes)

    return {activate_tile: keep_tile, waits: waits_if_last, leave_bounce: map_bounce}
