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
from numbaconv.target import TARGET

PARAMETERS = "x, pixel_stride, pixels, grad, total, stride, adds, ahead, ahead_step"

PACKS_ROWS = TARGET.vector_bytes >= 32
"""Whether tiles may have packed rows: parts of registers are loaded by one instruction, and sixteen registers or more
give them enough columns."""

ROW_FETCHES = 2
"""Panels of a block whose tiles fetch the next tile's rows, where it has twice as many or more."""

PACKED_REGISTERS = TARGET.l1_bytes // 2 // TARGET.vector_bytes
"""Registers of the rows of several tiles that are packed in one sweep over the pixels: half of L1.

Pixels far apart in the input share few sets of each cache: by the next sweep the lines that two tiles have in common
are gone. Of gathered blocks one tile's are packed at a time.
"""


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
    """Copy the numbers of each pixel of a row to (pixels, width).

    Whole registers are stored even where the numbers do not fill them: with a mask only loads are as fast as others.
    """
    lanes = lanes_of(source)
    if numbers <= lanes:
        for pixel in range(pixels):
            store(load_first(advance(source, pixel * pixel_stride), numbers), advance(target, pixel * width))
        return
    for pixel in range(pixels):
        first, copied = advance(source, pixel * pixel_stride), advance(target, pixel * width)
        for number in range(0, numbers, lanes):
            store(load_first(advance(first, number), numbers - number), advance(copied, number))


@inline
def tiles_together(tiles, first, most, lanes):
    """Return of how many tiles, from the first on, rows of `most` registers hold the numbers, and how many these are.

    One tile is taken in any case.
    """
    count, numbers = 0, 0
    while first + count < tiles[0]:
        more = numbers + tiles[1 + first + count]
        if count > 0 and more > most * lanes:
            return count, numbers
        count, numbers = count + 1, more
    return count, numbers


@inline
def packed_gradient(
    record, source, grad, images, height, columns, first, panels, place, adds, packed, ahead, fetched, step
):  # fmt: skip
    """Do the same as `block_gradient` for whole panels of packed grad_y, by tiles whose rows are packed to `packed`.

    `place` says where sums lie: those of the task's first panel, the distance of panels (`first` is the first one
    here) and of rows, and the rows of a tap. The last panels, `ROW_FETCHES` at most, fetch the next rows: the two cache
    lines of each pixel where those of a tile lie. What was gathered needs no fetching.
    """
    pixels = images * height * columns
    sums, panel_step, stride, tap_rows = place
    sums = advance(sums, first * panel_step)
    lanes, pixel = lanes_of(source), record[at.PIXEL_STRIDE]
    fetches = min(ROW_FETCHES, panels // 2) if record[at.ROWS_AHEAD] != 0 else 0
    most = PACKED_REGISTERS // pixels if record[at.ROWS_AHEAD] != 0 else 1
    tiles = advance(record, record[at.WIDE_FULL])
    for tap in range(record[at.TAPS]):
        rows, next_tap = advance(source, record[record[at.TAP_OFFSETS] + tap]), ahead[0]
        if tap + 1 < record[at.TAPS]:
            next_tap = advance(source, record[record[at.TAP_OFFSETS] + tap + 1])
        first_row = record[record[at.PACKED_TAPS] + tap] // record[at.CHANNELS] * tap_rows
        target = advance(sums, first_row * stride)
        tile = 0
        while tile < tiles[0]:
            together, numbers = tiles_together(tiles, tile, most, lanes)
            pitch = (numbers + lanes - 1) // lanes * lanes
            for row in range(images * height):
                first_pixel = row // height * record[at.IMAGE_STRIDE] + row % height * record[at.ROW_STRIDE]
                row_packed = advance(packed, row * columns * pitch)
                pack_rows(advance(rows, first_pixel), pixel, numbers, columns, pitch, row_packed)
            tile += together
            rows, number = advance(rows, numbers) if tile < tiles[0] else next_tap, 0
            for part in range(together):
                count = tiles[1 + tile - together + part]
                for panel in range(panels):
                    start, ahead_step = next_numbers(ahead, fetched, step)
                    if panel >= panels - fetches:
                        start = advance(rows, number + (count - 1 if panel == panels - 1 else 0))
                        ahead_step = pixel
                    else:
                        fetched += pixels * ahead_step
                    packed_tile(
                        count, advance(packed, number), pitch, pixels, advance(grad, panel * pixels * 2 * lanes),
                        advance(target, panel * panel_step), stride, adds, start, ahead_step,
                    )  # fmt: skip
                target = advance(target, count * stride)
                number += count
    return fetched
