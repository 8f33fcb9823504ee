"""Copies of grad_y as panels: the output channels of a tile, pixel after pixel."""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.packing import rounded_width
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import lanes_of, load, load_half, store


@inline
def pack_full(grad, row_stride, pixel_stride, rows, columns, panels, target, panel_size):
    """Copy one image's grad_y of whole panels to (panels, rows, columns, width): one sweep over its pixels."""
    lanes = lanes_of(grad)
    width = 2 * lanes
    for row in range(rows):
        for column in range(columns):
            pixel = advance(grad, row * row_stride + column * pixel_stride)
            packed = advance(target, (row * columns + column) * width)
            for panel in range(panels):
                first = advance(packed, panel * panel_size)
                store(load(advance(pixel, panel * width)), first)
                store(load(advance(pixel, panel * width + lanes)), advance(first, lanes))


@inline
def pack_rest(grad, row_stride, pixel_stride, rows, columns, valid, width, target):
    """Copy one image's grad_y of a panel that is not full to (rows, columns, width).

    Absent channels are zero in a row's last pixels. In others they are the pixels that follow, whose products are
    dropped with their columns: whole registers are copied.
    """
    lanes = lanes_of(grad)
    for row in range(rows):
        for column in range(columns):
            pixel = advance(grad, row * row_stride + column * pixel_stride)
            if (columns - 1 - column) * pixel_stride >= width - valid:
                for v in range(width // lanes):
                    store(load(advance(pixel, v * lanes)), advance(target, v * lanes))
                if width % lanes != 0:
                    rest = width - width % lanes
                    store(load_half(advance(pixel, rest)), advance(target, rest))
            else:
                for channel in range(valid):
                    target[channel] = pixel[channel]
                for channel in range(valid, width):
                    target[channel] = 0
            target = advance(target, width)


@inline
def pack_panels(record, grad, images, rows, columns, panels, valid, packed):
    """Pack `panels` neighbouring panels of a block's grad_y, of which the last has `valid` channels."""
    lanes, row_stride, pixel_stride = lanes_of(grad), record[at.Y_ROW], record[at.Y_PIXEL]
    width, last_width = 2 * lanes, rounded_width(valid, lanes)
    size = images * rows * columns * width
    full = panels if valid == width else panels - 1
    for image in range(images):
        pixels, pixel = advance(grad, image * record[at.Y_BATCH]), image * rows * columns
        if full > 0:
            pack_full(pixels, row_stride, pixel_stride, rows, columns, full, advance(packed, pixel * width), size)
        if full < panels:
            target = advance(packed, full * size + pixel * last_width)
            rest = advance(pixels, full * width)
            pack_rest(rest, row_stride, pixel_stride, rows, columns, valid, last_width, target)
