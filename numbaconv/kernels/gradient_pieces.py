"""Kernel gradient, tall tiles: pieces of several taps' runs x one register of output channels, or half of one.

Where runs are short, first layers, a tap's run fills a tile of two registers badly, and each tap's tile reads all of
grad_y again. 27 numbers of nine taps x one register multiply each number of grad_y 27 times for one load, so it is read
where it lies, its cache lines once. A run is whole pieces, all of them of as many numbers, and a tile's rows are
neighbouring pieces in the order of the sums. The last register of a pixel is loaded as far as it has channels.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels.tile_sizes import PIECE_TILES, by_rows, piece_parts
from numbaconv.simd.mixed import mixed_zeros
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.simd.scattered import read_offsets, tile_fma_pieces
from numbaconv.simd.tiles import tile_add, tile_prefetch

PARAMETERS = (
    "x, offsets, image_stride, row_stride, pixel_stride, images, height, columns, grad, grad_image, grad_row, "
    "grad_pixel, valid, total, width, ahead, ahead_step"
)


def make_pieces_tile(number: int) -> Any:
    """Return the sum over pixels for the pieces of a tile x a register of output channels: `piece_parts`."""
    pieces, numbers, whole = piece_parts(number)
    rows, half = pieces * numbers, 1 - whole

    @inline
    def pieces_tile(
        x, offsets, image_stride, row_stride, pixel_stride, images, height, columns, grad, grad_image, grad_row,
        grad_pixel, valid, total, width, ahead, ahead_step,
    ):  # fmt: skip
        """total[p * numbers + i, k] += sum over one block's pixels of x[pixel, offsets[p] + i] * grad[pixel, k].

        Of a pixel's channels ``valid`` are read, the other sums are zero. The sums' rows are `width` numbers apart.
        They are fetched while the products run.
        """
        starts = read_offsets(pieces, offsets)
        acc = mixed_zeros(rows, whole, half, x)
        tile_prefetch(acc, total, width)
        for image in range(images):
            for row in range(height):
                pixels = advance(x, image * image_stride + row * row_stride)
                grads = advance(grad, image * grad_image + row * grad_row)
                for column in range(columns):
                    acc = tile_fma_pieces(
                        acc, advance(pixels, column * pixel_stride), starts, advance(grads, column * grad_pixel), valid
                    )
                    prefetch(advance(ahead, column * ahead_step))
                ahead = advance(ahead, columns * ahead_step)
        tile_add(acc, total, width)

    return pieces_tile


pieces_tile = by_rows(make_pieces_tile, PIECE_TILES, PARAMETERS)
