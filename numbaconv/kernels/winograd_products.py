"""Products of Winograd's transformed tiles at one point: a matrix product for each, by register tiles."""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES, by_rows
from numbaconv.simd.pointers import advance
from numbaconv.simd.tiles import tile_fma, tile_fma_in_order, tile_store, tile_zeros
from numbaconv.simd.vectors import lanes_of


def make_point_tile(rows: int, vectors: int) -> Any:
    """Return the product of ``rows`` tiles x ``vectors * lanes`` output channels at one point."""
    # Unrolled by LLVM, the loop around one register took up to 1.07 times as long (a Zen 5).
    fma = tile_fma_in_order if vectors == 1 else tile_fma

    @inline
    def point_tile(x, x_stride, depth, kernel, y):
        """y[m, k] = sum of x[m * x_stride + i] * kernel[i, k] over i < depth."""
        width = vectors * lanes_of(x)
        acc = tile_zeros(rows, vectors, x)
        for i in range(depth):
            acc = fma(acc, advance(x, i), x_stride, advance(kernel, i * width))
        tile_store(acc, y, width)

    return point_tile


PARAMETERS = "x, x_stride, depth, kernel, y"
wide_point_tile = by_rows(lambda rows: make_point_tile(rows, 2), WIDE_SIZES, PARAMETERS)
narrow_point_tile = by_rows(lambda rows: make_point_tile(rows, 1), NARROW_SIZES, PARAMETERS)


@inline
def multiply_point(sizes, wide, x, x_stride, depth, kernel, y):
    """Multiply all tiles of a block, covered by register tiles of `sizes`, at one point by one panel."""
    width = 2 * lanes_of(x) if wide else lanes_of(x)
    tile = 0
    for i in range(sizes[0]):
        rows = sizes[1 + i]
        source, target = advance(x, tile * x_stride), advance(y, tile * width)
        if wide:
            wide_point_tile(rows, source, x_stride, depth, kernel, target)
        else:
            narrow_point_tile(rows, source, x_stride, depth, kernel, target)
        tile += rows
