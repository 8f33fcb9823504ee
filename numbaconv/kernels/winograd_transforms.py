"""Two-dimensional Winograd transforms of one tile: input, kernel and result, a register of channels at a time.

The transform along the columns goes to or comes from a small buffer that stays in L1. An axis with one point is left
as it is, so the same functions serve kernels with taps along one axis. Tall tiles have eight points along the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.jit import inline
from numbaconv.kernels.epilogue import leave_bounce, waits
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.kernels.vector_copy import copy_pixel
from numbaconv.kernels.winograd_points import (
    FEWER_POINTS,
    POINTS,
    transform_few_inputs,
    transform_input,
    transform_inputs,
    transform_kernel,
    transform_output,
    transform_sums,
)
from numbaconv.kernels.winograd_tall import (
    TALL_POINTS,
    TALL_TAPS,
    transform_tall_input,
    transform_tall_kernel,
    transform_tall_sums,
)
from numbaconv.simd.pointers import advance, as_doubles, clear, prefetch
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
def pixel_or_zeros(x, row, column, zeros):
    """Return where a pixel lies, or zeros where one of its offsets is that of padding, -1."""
    return zeros if row < 0 or column < 0 else advance(x, row + column)


@inline
def transform_pixels(x, row, columns, zeros, out, out_step):
    """Write B^T x of six pixels of a row, found by their offsets; -1 is padding."""
    transform_inputs(
        pixel_or_zeros(x, row, columns[0], zeros), pixel_or_zeros(x, row, columns[1], zeros),
        pixel_or_zeros(x, row, columns[2], zeros), pixel_or_zeros(x, row, columns[3], zeros),
        pixel_or_zeros(x, row, columns[4], zeros), pixel_or_zeros(x, row, columns[5], zeros), out, out_step,
    )  # fmt: skip


@inline
def transform_rows(count, x, rows, columns, zeros, buffer, step, fresh):
    """Transform rows of a tile along the columns to buffer[row, point, lane], and fetch as `border_tile` does."""
    lanes = lanes_of(x)
    for i in range(count):
        transform_pixels(x, rows[i], columns, zeros, advance(buffer, i * POINTS * lanes), lanes)
        if rows[i] >= 0 and columns[POINTS - 1] >= 0:
            following = advance(x, rows[i] + columns[POINTS - 1])
            for j in range(fresh, POINTS):
                prefetch(advance(following, (j - fresh + 1) * step))


@inline
def border_tile(x, rows, columns, row_points, column_points, channels, zeros, buffer, v, plane, step, fresh):
    """Transform a tile whose pixels are found by the tables `rows` and `columns`, whole registers of channels.

    `zeros` is a register of zeros, which padding, -1, is read from. Of the tile behind this one, columns `step` apart,
    those from `fresh` on are fetched.
    """
    lanes = lanes_of(x)
    for channel in range(0, channels, lanes):
        source, target = advance(x, channel), advance(v, channel)
        if column_points == 1:
            store(load(pixel_or_zeros(source, rows[0], columns[0], zeros)), target)
        elif row_points == 1:
            transform_pixels(source, rows[0], columns, zeros, target, plane)
        else:
            transform_rows(POINTS, source, rows, columns, zeros, buffer, step, fresh)
            for j in range(POINTS):
                transform_input(advance(buffer, j * lanes), POINTS * lanes, advance(target, j * plane), POINTS * plane)


@inline
def tall_tile(x, rows, columns, channels, zeros, buffer, v, plane, step, fresh):
    """Transform a tall tile as `border_tile` does."""
    lanes = lanes_of(x)
    for channel in range(0, channels, lanes):
        source, target = advance(x, channel), advance(v, channel)
        transform_rows(TALL_POINTS, source, rows, columns, zeros, buffer, step, fresh)
        for j in range(POINTS):
            transform_tall_input(advance(buffer, j * lanes), POINTS * lanes, advance(target, j * plane), POINTS * plane)


@inline
def transform_few_pixels(x, row, columns, points, zeros, out, out_step):
    """Write B^T x for so many points of a row's pixels, found by their offsets; -1 is padding."""
    if points >= FEWER_POINTS:
        transform_pixels(x, row, columns, zeros, out, out_step)
    else:
        transform_few_inputs(
            points, pixel_or_zeros(x, row, columns[0], zeros), pixel_or_zeros(x, row, columns[1], zeros),
            pixel_or_zeros(x, row, columns[2], zeros), pixel_or_zeros(x, row, columns[3], zeros), out, out_step,
        )  # fmt: skip


@inline
def last_tile(x, rows, columns, row_points, column_points, channels, zeros, buffer, v, plane):
    """Transform a tile as `border_tile` does, one that has fewer points along an axis."""
    lanes = lanes_of(x)
    row_size = POINTS * lanes
    for channel in range(0, channels, lanes):
        source, target = advance(x, channel), advance(v, channel)
        if row_points == 1:
            transform_few_pixels(source, rows[0], columns, column_points, zeros, target, plane)
            continue
        for i in range(min(row_points + (row_points >= FEWER_POINTS), POINTS)):
            row = advance(buffer, i * row_size)
            transform_few_pixels(source, rows[i], columns, column_points, zeros, row, lanes)
        for j in range(column_points):
            points, out = advance(buffer, j * lanes), advance(target, j * plane)
            if row_points >= FEWER_POINTS:
                transform_input(points, row_size, out, POINTS * plane)
            else:
                transform_few_inputs(
                    row_points, points, advance(points, row_size), advance(points, 2 * row_size),
                    advance(points, 3 * row_size), out, POINTS * plane,
                )  # fmt: skip


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
            of_column, target = advance(buffer, j * lanes), advance(u, j * plane)
            if row_points == TALL_POINTS:
                transform_tall_kernel(of_column, POINTS * lanes, row_taps, target, POINTS * plane)
            else:
                transform_kernel(of_column, POINTS * lanes, row_taps, target, POINTS * plane)


@inline
def precise_kernel_tile(w, row_step, step, row_taps, column_taps, row_points, column_points, buffer, u, plane):
    """Transform what `kernel_tile` does in float64, so that each number is rounded once."""
    lanes, taps = lanes_of(w), row_taps * column_taps
    numbers = as_doubles(buffer)
    points = advance(numbers, taps * lanes)
    scratch = advance(points, row_points * column_points * lanes)
    for tap in range(taps):
        source, target = advance(w, tap // column_taps * row_step + tap % column_taps * step), tap * lanes
        for lane in range(lanes):
            numbers[target + lane] = source[lane]
    for lane in range(0, lanes, lanes_of(numbers)):
        kernel_tile(
            advance(numbers, lane), column_taps * lanes, lanes, row_taps, column_taps, row_points, column_points,
            scratch, advance(points, lane), lanes,
        )  # fmt: skip
    for point in range(row_points * column_points):
        for lane in range(lanes):
            u[point * plane + lane] = points[point * lanes + lane]


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
            of_column, target = advance(m, j * plane), advance(buffer, j * lanes)
            if row_points == TALL_POINTS:
                transform_tall_sums(of_column, POINTS * plane, row_outputs, target, POINTS * lanes)
            else:
                transform_sums(of_column, POINTS * plane, row_outputs, target, POINTS * lanes)
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


def make_panel_tile(row_outputs: int, outputs: int, vectors: int) -> Any:
    """Return the transform of a tile of ``row_outputs`` x ``outputs`` for the ``vectors`` registers of a panel."""
    is_tall = row_outputs != outputs
    transform_columns = transform_tall_sums if is_tall else transform_sums

    @inline
    def panel_tile(m, plane, buffer, bias, lower, rows, columns, past_caches, y, y_row, y_pixel):
        """Transform points, `plane` apart, back: y[row, column] = max(lower, output + bias), whole registers.

        Both halves of a cache line are stored one after the other, which stores past the caches ask for.
        """
        lanes = lanes_of(m)
        width, row_size = vectors * lanes, POINTS * vectors * lanes
        for j in range(POINTS):
            source, target = advance(m, j * plane), advance(buffer, j * width)
            for v in range(vectors):
                transform_columns(
                    advance(source, v * lanes), POINTS * plane, row_outputs, advance(target, v * lanes), row_size
                )
        bound, bounce = splat(m, lower), advance(buffer, row_outputs * row_size)
        is_direct = columns == outputs and not past_caches
        for i in range(rows):
            row, out = advance(buffer, i * row_size), advance(y, i * y_row)
            target, step = out, y_pixel
            if not is_direct:
                target, step = bounce, width
            for v in range(vectors):
                added = load(advance(bias, v * lanes))
                transform_output(
                    advance(row, v * lanes), width, outputs, added, bound, advance(target, v * lanes), step
                )
            if past_caches:
                for j in range(columns):
                    for v in range(vectors):
                        part = load(advance(bounce, j * width + v * lanes))
                        store_past_caches(part, advance(out, j * y_pixel + v * lanes))
            elif not is_direct:
                for j in range(columns):
                    for v in range(vectors):
                        store(load(advance(bounce, j * width + v * lanes)), advance(out, j * y_pixel + v * lanes))

    return panel_tile


_PANEL_OUTPUTS = ((2, 2), (3, 3), (4, 4), (TALL_POINTS + 1 - TALL_TAPS, POINTS + 1 - TALL_TAPS))


def _panel_number(row_outputs, column_outputs, vectors):
    """Return rows and columns of outputs and the registers of a panel as one number."""
    return 64 * vectors + 8 * row_outputs + column_outputs


panel_number = inline(_panel_number)

PANEL_SIZES = tuple(_panel_number(rows, columns, vectors) for vectors in (1, 2) for rows, columns in _PANEL_OUTPUTS)
"""Those of the tiles that have code of their own."""

panel_tile = by_rows(
    lambda size: make_panel_tile(size // 8 % 8, size % 8, size // 64),
    PANEL_SIZES,
    "m, plane, buffer, bias, lower, height, columns, past_caches, y, y_row, y_pixel",
)
