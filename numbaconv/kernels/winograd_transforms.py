"""Two-dimensional Winograd transforms of one tile: input, kernel and result, a register of channels at a time.

The transform along the columns goes to or comes from a small buffer that stays in L1. An axis with one point is left
as it is, so the same functions serve kernels with taps along one axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.vector_copy import copy_pixel
from numbaconv.kernels.winograd_points import (
    POINTS,
    transform_input,
    transform_kernel,
    transform_output,
    transform_sums,
)
from numbaconv.simd.pointers import advance, clear, prefetch
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store, store_first, store_past_caches

NO_BOUND = -np.inf


@inline
def input_tile(x, row_step, column_step, row_points, column_points, channels, buffer, v, plane, ahead, fresh):
    """Transform the tile of pixels at `x` to points `plane` apart: v[point, channel], whole registers of channels.

    Of the tile `ahead` numbers on the columns from `fresh` on, which this one does not share with it, are fetched.
    """
    lanes = lanes_of(x)
    channel = 0
    while channel < channels:
        source, target = advance(x, channel), advance(v, channel)
        if column_points == 1:
            store(load(source), target)
        elif row_points == 1:
            transform_input(source, column_step, target, plane)
        else:
            for i in range(POINTS):
                row = advance(source, i * row_step)
                transform_input(row, column_step, advance(buffer, i * POINTS * lanes), lanes)
                for j in range(fresh, POINTS):
                    prefetch(advance(row, ahead + j * column_step))
            for j in range(POINTS):
                transform_input(advance(buffer, j * lanes), POINTS * lanes, advance(target, j * plane), POINTS * plane)
        channel += lanes


@inline
def gather_tile(x, rows, columns, row_points, column_points, channels, channel_step, block, width):
    """Copy a tile's pixels, found by the tables `rows` and `columns`, to block[row, column, channel]; -1 is zero."""
    for i in range(row_points):
        for j in range(column_points):
            target = advance(block, (i * column_points + j) * width)
            if rows[i] < 0 or columns[j] < 0:
                clear(target, channels)
            elif channel_step == 1:
                copy_pixel(advance(x, rows[i] + columns[j]), channels, target)
            else:
                source = advance(x, rows[i] + columns[j])
                for channel in range(channels):
                    target[channel] = source[channel * channel_step]


@inline
def kernel_tile(w, row_step, step, row_taps, column_taps, row_points, column_points, buffer, u, plane):
    """Transform one register of rows of taps, `row_step` and within a row `step` apart, to points `plane` apart."""
    lanes = lanes_of(w)
    if column_points == 1:
        store(load(w), u)
    elif row_points == 1:
        transform_kernel(w, step, column_taps, u, plane)
    else:
        for i in range(row_taps):
            row = advance(buffer, i * POINTS * lanes)
            transform_kernel(advance(w, i * row_step), step, column_taps, row, lanes)
        for j in range(POINTS):
            transform_kernel(
                advance(buffer, j * lanes), POINTS * lanes, row_taps, advance(u, j * plane), POINTS * plane
            )


@inline
def output_tile(
    m, plane, row_points, column_points, row_outputs, column_outputs, rows, columns, buffer, bias, lower, valid, y,
    y_row, y_pixel,
):  # fmt: skip
    """Transform one register of points, `plane` apart, back and store `rows` x `columns` outputs, `valid` channels.

    y[row, column] = max(lower, output + bias).
    """
    lanes = lanes_of(m)
    bound, added = splat(m, NO_BOUND if waits(lower) else lower), load(bias)
    source, step = m, plane
    if row_points > 1:
        for j in range(POINTS):
            transform_sums(
                advance(m, j * plane), POINTS * plane, row_outputs, advance(buffer, j * lanes), POINTS * lanes
            )
        source, step = buffer, lanes
    bounce = advance(buffer, POINTS * POINTS * lanes)
    is_full = columns == column_outputs and valid >= lanes and not waits(lower)
    for i in range(rows):
        row, out = advance(source, i * POINTS * lanes), advance(y, i * y_row)
        target, out_step = out, y_pixel
        if not is_full:
            target, out_step = bounce, lanes
        if column_points == 1:
            store(at_least(load(row) + added, bound), target)
        else:
            transform_output(row, step, column_outputs, added, bound, target, out_step)
        if waits(lower):
            leave_bounce(bounce, lanes, columns, min(valid, lanes), lower, out, y_pixel)
        elif not is_full:
            for j in range(columns):
                store_first(load(advance(bounce, j * lanes)), advance(out, j * y_pixel), valid)


def make_panel_tile(outputs: int) -> Any:
    """Return the transform of a tile of ``outputs`` x ``outputs`` for both registers of a panel."""

    @inline
    def panel_tile(m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel):
        """Transform points, `plane` apart, back: y[row, column] = max(lower, output + bias), two registers each.

        Both halves of a cache line are stored one after the other, which stores past the caches ask for.
        """
        lanes = lanes_of(m)
        width, row_size = 2 * lanes, POINTS * 2 * lanes
        for j in range(POINTS):
            source, target = advance(m, j * plane), advance(buffer, j * width)
            for v in range(2):
                transform_sums(
                    advance(source, v * lanes), POINTS * plane, outputs, advance(target, v * lanes), row_size
                )
        bound, bounce = splat(m, lower), advance(buffer, outputs * row_size)
        is_direct = columns == outputs and not past_caches
        for i in range(rows):
            row, out = advance(buffer, i * row_size), advance(y, i * y_row)
            target, step = out, y_pixel
            if not is_direct:
                target, step = bounce, width
            for v in range(2):
                added = load(advance(bias, v * lanes))
                transform_output(
                    advance(row, v * lanes), width, outputs, added, bound, advance(target, v * lanes), step
                )
            if past_caches:
                for j in range(columns):
                    source, target = advance(bounce, j * width), advance(out, j * y_pixel)
                    store_past_caches(load(source), target)
                    store_past_caches(load(advance(source, lanes)), advance(target, lanes))
            elif not is_direct:
                for j in range(columns):
                    source, target = advance(bounce, j * width), advance(out, j * y_pixel)
                    store(load(source), target)
                    store(load(advance(source, lanes)), advance(target, lanes))

    return panel_tile


panel_tile_2, panel_tile_3, panel_tile_4 = make_panel_tile(2), make_panel_tile(3), make_panel_tile(4)


@inline
def panel_tile(outputs, m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel):
    """Run the tile of that many outputs, 2 to 4 along both axes."""
    if outputs == 4:
        panel_tile_4(m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel)
    elif outputs == 3:
        panel_tile_3(m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel)
    else:
        panel_tile_2(m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel)
