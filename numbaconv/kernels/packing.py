"""Packed kernels: for each panel of output channels, (taps, run, panel width) contiguous, absent channels zero.

A panel is packed by the first worker that needs it, inside the one parallel launch: 0 = untouched, 1 = being packed,
2 = ready. A worker that packs never waits, so one that waits is always served, even when all workers share one thread.
What another core has written comes over slowly, though, so smaller kernels each worker packs for itself. Where all
outputs are one block, each panel is used once: workers pack what they use next, and it never leaves L2.
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.kernels.tile_sizes import HALVES
from numbaconv.simd.calls import atomic_compare_exchange, load_acquire, store_release
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.simd.transposes import transpose_square
from numbaconv.simd.vectors import lanes_of, load, store

UNTOUCHED, BUSY, READY = 0, 1, 2

PANELS_TOGETHER = 4
"""Neighbouring panels packed in one sweep: single ones would read one cache line from each row of the kernel."""

ROWS_AHEAD = 16
"""Rows of the kernel from one that is packed to one that is fetched: each is a stretch of memory far from the next."""

CHANNEL_BLOCK = 64
"""Input channels transposed together, so that the packed lines stay in L1 until they are full."""


@inline
def panel_width(valid, lanes):
    """Numbers in a row of a packed panel: one register when that holds the channels, otherwise two."""
    return lanes if valid <= lanes else 2 * lanes


@inline
def rounded_width(valid, lanes):
    """Numbers in a row of a panel in kernels that have tiles of half registers: two registers at most."""
    unit = lanes // HALVES
    return min((valid + unit - 1) // unit * unit, 2 * lanes)


@inline
def pack_rows(source, channels, channel_step, panels, lanes, target, panel_size):
    """Pack one tap of `panels` full panels whose output channels are contiguous: one sweep over the kernel's rows."""
    width = 2 * lanes
    for channel in range(channels):
        for panel in range(panels):
            row = advance(source, channel * channel_step + panel * width)
            packed = advance(target, panel * panel_size + channel * width)
            prefetch(advance(row, ROWS_AHEAD * channel_step))
            store(load(row), packed)
            store(load(advance(row, lanes)), advance(packed, lanes))


@inline
def pack_column(source, channels, channel_step, width, target):
    """target[channel * width] = source[channel * channel_step]."""
    for channel in range(channels):
        target[channel * width] = source[channel * channel_step]


@inline
def pack_zeros(channels, width, target):
    """target[channel * width] = 0."""
    for channel in range(channels):
        target[channel * width] = 0


@inline
def pack_transposed(source, column_step, channels, columns, width, target):
    """target[channel * width + column] = source[column * column_step + channel].

    Of each column a cache line is read at a time: columns whose distance is a power of two share few sets of L1.
    """
    lanes = lanes_of(source)
    whole, full = channels - channels % lanes, columns - columns % lanes
    first = 0
    while first < whole:
        end = min(first + 2 * lanes, whole)
        column = 0
        while column < full:
            channel = first
            while channel < end:
                corner = advance(source, column * column_step + channel)
                transpose_square(corner, column_step, advance(target, channel * width + column), width)
                channel += lanes
            column += lanes
        first = end
    for column in range(columns):
        start = whole if column < full else 0
        rest = advance(source, column * column_step + start)
        pack_column(rest, channels - start, 1, width, advance(target, start * width + column))


@inline
def column_offset(record, taps, column):
    """Return where a column of a tap lies in the kernel, a negative number where its output has no such tap.

    Column k is output k // of_one of those side by side, and channel k % of_one of it.
    """
    of_one = record[at.OUT_CHANNELS] // record[at.BESIDE]
    offset = taps[column // of_one]
    return offset if offset < 0 else offset + column % of_one * record[at.KERNEL_COLUMN]


@inline
def column_step(record, taps, first, columns):
    """Return how far apart in the kernel neighbouring columns of a tap lie, 0 where not all of them lie evenly."""
    if record[at.BESIDE] == 1:
        return record[at.KERNEL_COLUMN]
    place = column_offset(record, taps, first)
    step = column_offset(record, taps, first + 1) - place if columns > 1 else 0
    for column in range(1, columns):
        following = column_offset(record, taps, first + column)
        if min(place, following) < 0 or following - place != step:
            step = 0
        place = following
    return step


@inline
def pack_columns(kernel, record, taps, panel, valid, width, target):
    """Pack one tap of one panel column by column: outputs that lie unevenly, panels that are not full."""
    channels, channel_step = record[at.CHANNELS], record[at.KERNEL_CHANNEL]
    for first in range(0, channels, CHANNEL_BLOCK):
        count = min(channels - first, CHANNEL_BLOCK)
        rows = advance(target, first * width)
        for column in range(width):
            offset = -1
            if column < valid:
                offset = column_offset(record, taps, panel * 2 * lanes_of(kernel) + column)
            if offset < 0:
                pack_zeros(count, width, advance(rows, column))
            else:
                source = advance(kernel, offset + first * channel_step)
                pack_column(source, count, channel_step, width, advance(rows, column))


@inline
def pack_panels(kernel, record, group, first, last, first_tap, taps, packed, depth):
    """Pack taps [first_tap, first_tap + taps) of panels [first, last) to `packed`, a panel `depth` rows.

    The record's strides flip and transpose the kernel for the pass.
    """
    channels, lanes, beside = record[at.CHANNELS], lanes_of(kernel), record[at.BESIDE]
    width, out_channels = 2 * lanes, record[at.OUT_CHANNELS]
    kernel = advance(kernel, group * record[at.KERNEL_GROUP])
    full = first
    if record[at.KERNEL_COLUMN] == 1 and beside == 1:
        full = last - 1 if last * width > out_channels else last
    for i in range(taps):
        offsets, row = advance(record, record[at.KERNEL_TAPS] + (first_tap + i) * beside), i * channels
        source, target = advance(kernel, offsets[0] + first * width), advance(packed, row * width)
        pack_rows(source, channels, record[at.KERNEL_CHANNEL], full - first, lanes, target, width * depth)
        for panel in range(full, last):
            valid = min(width, out_channels - panel * width)
            narrow = rounded_width(valid, lanes)
            target = advance(packed, (panel - first) * width * depth + row * narrow)
            step = column_step(record, offsets, panel * width, valid)
            if record[at.KERNEL_CHANNEL] == 1 and step > 0 and valid == narrow:
                source = advance(kernel, column_offset(record, offsets, panel * width))
                pack_transposed(source, step, channels, narrow, narrow, target)
            else:
                pack_columns(kernel, record, offsets, panel, valid, narrow, target)


@inline
def is_mine(state):
    """Whether the caller must pack what a state stands for and store READY; else return when it is packed."""
    if load_acquire(state) == READY:
        return False
    if atomic_compare_exchange(state, UNTOUCHED, BUSY) == UNTOUCHED:
        return True
    while load_acquire(state) != READY:
        pass
    return False


@inline
def require_panel(kernel, record, group, panel, packed, states):
    """Return when the panel is ready in the group's `packed` kernel, having packed its neighbourhood if nobody had."""
    neighbourhood = panel // PANELS_TOGETHER
    state = advance(states, record[at.STATES] + group * record[at.PANELS] + neighbourhood)
    if is_mine(state):
        first, taps = neighbourhood * PANELS_TOGETHER, record[at.KERNEL_TAP_COUNT]
        last, depth = min(first + PANELS_TOGETHER, record[at.PANELS]), taps * record[at.CHANNELS]
        target = advance(packed, first * 2 * lanes_of(kernel) * depth)
        pack_panels(kernel, record, group, first, last, 0, taps, target, depth)
        store_release(READY, state)
