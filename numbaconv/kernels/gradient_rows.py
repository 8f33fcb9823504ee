"""Kernel gradients whose tiles' rows are packed, with all panels passing over them.

Tiles read their rows from L1 and the packed panels of grad_y in the order of memory, from L2. So long rows of pixels
that lie in place are not gathered, pixels crowd in no cache, and a visit may have more pixels than L1 holds: sums are
entered and left the less often. Blocks of several rows or images, as of small images, are packed from a gathered block.
Where blocks are few and tasks have all pixels there are no sums: tiles write to the gradient.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.gradient_ahead import next_numbers
from numbaconv.kernels.tile_sizes import GRADIENT_TILES, by_rows
from numbaconv.simd.mixed import mixed_zeros
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.simd.tiles import tile_add, tile_fma, tile_prefetch, tile_store
from numbaconv.simd.vectors import lanes_of, load_first, store

PARAMETERS = "x, pixel_stride, pixels, grad, total, stride, adds, ahead, ahead_step"

ROW_FETCHES = 2
"""Panels of a block whose tiles fetch the next tile's rows, where it has twice as many or more."""


def make_packed_tile(rows: int) -> Any:
    """Return the sum over a row of pixels for some numbers of a run x two registers of output channels."""

    @inline
    def packed_tile(x, pixel_stride, pixels, grad, total, stride, adds, ahead, ahead_step):
        """total[i, k] = sum over pixels of x[pixel, i] * grad[pixel, k], with what is there where it `adds`."""
        width = 2 * lanes_of(x)
        acc = mixed_zeros(rows, 2, 0, x)
        tile_prefetch(acc, total, stride)
        for pixel in range(pixels):
            acc = tile_fma(acc, advance(x, pixel * pixel_stride), 1, advance(grad, pixel * width))
            prefetch(advance(ahead, pixel * ahead_step))
        if adds:
            tile_add(acc, total, stride)
        else:
            tile_store(acc, total, stride)

    return packed_tile


packed_tile = by_rows(make_packed_tile, GRADIENT_TILES[2], PARAMETERS)


@inline
def pack_rows(source, pixel_stride, numbers, pixels, width, target):
    """Copy the numbers of each pixel of a row to (pixels, width), two registers at most.

    A whole register is stored even where the numbers do not fill it: with a mask only loads are as fast as others.
    """
    lanes = lanes_of(source)
    for pixel in range(pixels):
        first, copied = advance(source, pixel * pixel_stride), advance(target, pixel * width)
        store(load_first(first, numbers), copied)
        if numbers > lanes:
            store(load_first(advance(first, lanes), numbers - lanes), advance(copied, lanes))


@inline
def packed_gradient(
    record, source, grad, images, height, columns, first, panels, place, adds, packed, ahead, fetched, step
):  # fmt: skip
    """Do the same as `block_gradient` for whole panels of packed grad_y, by tiles whose rows are packed to `packed`.

    `place` says where sums lie: those of the task's first panel, the distance of panels (`first` is the first one
    here) and of rows, and the rows of a tap. The last panels, `ROW_FETCHES` at most, fetch the next tile's rows: the
    two cache lines of each pixel where they lie. What was gathered needs no fetching.
    """
    pixels = images * height * columns
    sums, panel_step, stride, tap_rows = place
    sums = advance(sums, first * panel_step)
    lanes, pixel = lanes_of(source), record[at.PIXEL_STRIDE]
    fetches = min(ROW_FETCHES, panels // 2) if record[at.IN_PLACE] != 0 else 0
    tiles = advance(record, record[at.WIDE_FULL])
    for tap in range(record[at.TAPS]):
        rows, next_tap = advance(source, record[record[at.TAP_OFFSETS] + tap]), ahead[0]
        if tap + 1 < record[at.TAPS]:
            next_tap = advance(source, record[record[at.TAP_OFFSETS] + tap + 1])
        first_row = record[record[at.PACKED_TAPS] + tap] // record[at.CHANNELS] * tap_rows
        target = advance(sums, first_row * stride)
        for tile in range(tiles[0]):
            count = tiles[1 + tile]
            pitch = (count + lanes - 1) // lanes * lanes
            for row in range(images * height):
                first_pixel = row // height * record[at.IMAGE_STRIDE] + row % height * record[at.ROW_STRIDE]
                row_packed = advance(packed, row * columns * pitch)
                pack_rows(advance(rows, first_pixel), pixel, count, columns, pitch, row_packed)
            rows = advance(rows, count) if tile + 1 < tiles[0] else next_tap
            for panel in range(panels):
                start, ahead_step = next_numbers(ahead, fetched, step)
                if panel >= panels - fetches:
                    start, ahead_step = advance(rows, count - 1 if panel == panels - 1 else 0), pixel
                else:
                    fetched += pixels * ahead_step
                packed_tile(
                    count, packed, pitch, pixels, advance(grad, panel * pixels * 2 * lanes),
                    advance(target, panel * panel_step), stride, adds, start, ahead_step,
                )  # fmt: skip
            target = advance(target, count * stride)
    return fetched
