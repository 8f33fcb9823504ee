"""Product of a few rows with a matrix that is read where it lies: bound by memory, so no number of it is copied."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels.tile_sizes import MANY_REGISTERS
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.pointers import advance, as_counters, clear
from numbaconv.simd.tiles import tile_fma_in_order, tile_prefetch, tile_read, tile_store
from numbaconv.simd.vectors import at_least, lanes_of, load, splat, store

# Geometry.
ROWS = 1
DEPTH = 2
UNITS = 3
CHUNK = 4  # rows of the matrix that a task reads
BLOCK = 5  # rows of the matrix that meet a panel of columns before the next panel
TASKS = 6
RELU = 7
AHEAD = 8  # numbers of the matrix from what is multiplied to what is fetched
WIDTH = 9  # columns of all panels, UNITS at least
INSIDE = 10  # first rows of the matrix, those from whose beginning WIDTH numbers follow in it
# Buffers.
X = 1
MATRIX = 2
BIAS = 3
Y = 4
PARTIAL = 5  # (tasks, rows, WIDTH)
COUNTER = 6

WIDTHS = (16, 8, 4, 2, 1) if MANY_REGISTERS else (8, 4, 2, 1)
"""Registers of sums of a panel of columns: as many of the widest ones as there are, then the narrowest that holds the
rest. Its last registers may read on into the next row, whose products are sums that nobody reads."""


@task_kernel
def few_rows_product(worker, task, geometry, buffers):
    """y[row, unit] = bias[unit] + sum over i of x[row, i] * matrix[i, unit], at least 0 with relu.

    A task sums one chunk of i; the one that ends last adds the chunks in order.
    """
    rows, depth, units, chunk, width = (
        geometry[ROWS], geometry[DEPTH], geometry[UNITS], geometry[CHUNK], geometry[WIDTH]
    )  # fmt: skip
    partial = advance(buffers[PARTIAL], task * rows * width)
    clear(partial, rows * width)
    first, end = task * chunk, min(depth, (task + 1) * chunk)
    add_chunk(geometry, advance(buffers[X], first), advance(buffers[MATRIX], first * units), first, end, partial)
    if atomic_fetch_add(as_counters(buffers[COUNTER]), 1) == geometry[TASKS] - 1:
        for row in range(rows):
            partial, y = advance(buffers[PARTIAL], row * width), advance(buffers[Y], row * units)
            add_chunks(partial, geometry[TASKS], rows * width, units, buffers[BIAS], geometry[RELU], y)


@functools.partial(inline, always=True)
def add_chunk(geometry, x, matrix, first, end, partial):
    """partial[row, unit] += sum over first <= i < end of x[row, i - first] * matrix[i - first, unit]."""
    rows, depth, units, width = geometry[ROWS], geometry[DEPTH], geometry[UNITS], geometry[WIDTH]
    inside = min(end, geometry[INSIDE])
    while first < inside:
        count = min(geometry[BLOCK], inside - first)
        for row in range(rows):
            total = advance(partial, row * width)
            add_rows(advance(x, row * depth), matrix, units, geometry[AHEAD], count, units, total)
        first, x, matrix = first + count, advance(x, count), advance(matrix, count * units)
    while first < end:
        for row in range(rows):
            add_row(advance(x, row * depth), matrix, units, advance(partial, row * width))
        first, x, matrix = first + 1, advance(x, 1), advance(matrix, units)


@inline
def add_row(x, row, units, total):
    """total[unit] += x[0] * row[unit]."""
    for unit in range(units):
        total[unit] += x[0] * row[unit]


def _in_order(vectors: int) -> Any:
    """Return the loop over rows one after the other for a panel of so many registers of columns."""

    @functools.partial(inline, always=True)
    def add_panel(x, matrix, units, ahead, count, total):
        """total[unit] += sum over i < count of x[i] * matrix[i * units + unit]; what is `ahead` is fetched."""
        tile, following = tile_read(1, vectors, total, 0), advance(matrix, ahead)
        for i in range(count):
            tile_prefetch(tile, following, 0)
            tile = tile_fma_in_order(tile, advance(x, i), 0, matrix)
            matrix, following = advance(matrix, units), advance(following, units)
        tile_store(tile, total, 0)

    return add_panel


def _listed(vectors: int) -> Any:
    """Return the loop over rows that begin at given places for a panel of so many registers of columns."""

    @functools.partial(inline, always=True)
    def add_panel(x, matrix, starts, ahead, count, total):
        """total[unit] += sum over i < count of x[i] * matrix[starts[i] + unit]; row i + ahead is fetched meanwhile."""
        tile = tile_read(1, vectors, total, 0)
        for i in range(count):
            tile_prefetch(tile, advance(matrix, starts[i + ahead]), 0)
            tile = tile_fma_in_order(tile, advance(x, i), 0, advance(matrix, starts[i]))
        tile_store(tile, total, 0)

    return add_panel


def _by_panels(panel: Callable[[int], Any]) -> Any:
    """Return the loop over the panels of a row; the registers of a panel must be literals.

    Never a call, which would interrupt the stream of loads.
    """
    narrower = [*WIDTHS[1:], 0]
    branches = "".join(
        f"        if rest > {below} * lanes:\n"
        f"            panel_{v}(x, advance(matrix, unit), rows, ahead, count, advance(total, unit))\n"
        f"            unit += {v} * lanes\n"
        f"            continue\n"
        for v, below in zip(WIDTHS, narrower, strict=True)
    )
    names: dict[str, Any] = {"advance": advance, "lanes_of": lanes_of} | {f"panel_{v}": panel(v) for v in WIDTHS}
    exec(
        "def panels(x, matrix, rows, ahead, count, units, total):\n"
        "    lanes, unit = lanes_of(x), 0\n"
        f"    while unit < units:\n        rest = units - unit\n{branches}",
        names,
    )
    return inline(names["panels"], always=True)


add_rows = _by_panels(_in_order)
add_listed_rows = _by_panels(_listed)


@inline
def add_chunks(partial, tasks, size, units, bias, relu, y):
    """y[unit] = bias[unit] + sum over tasks of partial[task, unit] for one row, `size` apart, at least 0 with relu."""
    lanes, unit = lanes_of(y), 0
    while unit + lanes <= units:
        total = load(advance(partial, unit))
        for task in range(1, tasks):
            total = total + load(advance(partial, task * size + unit))
        total = total + load(advance(bias, unit))
        if relu != 0:
            total = at_least(total, splat(y, 0))
        store(total, advance(y, unit))
        unit += lanes
    while unit < units:
        single = partial[unit]
        for task in range(1, tasks):
            single += partial[task * size + unit]
        single += bias[unit]
        y[unit] = 0 if relu != 0 and single < 0 else single
        unit += 1
