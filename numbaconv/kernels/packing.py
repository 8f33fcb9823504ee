"""Packed kernels: for each panel of output channels, (taps, run, panel width) contiguous, absent channels zero.

A panel is packed by the first worker that needs it, inside the one parallel launch: 0 = untouched, 1 = being packed,
2 = ready. A worker that packs never waits, so one that waits is always served, even when all workers share one thread.
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import layout as at
from numbaconv.simd.calls import atomic_compare_exchange, load_acquire, store_release
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import lanes_of, load, store

UNTOUCHED, BUSY, READY = 0, 1, 2

PANELS_TOGETHER = 4
"""Neighbouring panels packed in one sweep: single ones would read one cache line from each row of the kernel."""

CHANNEL_BLOCK = 64
"""Input channels transposed together, so that the packed lines stay in L1 until they are full."""


@inline
def panel_width(valid, lanes):
    """Numbers in a row of a packed panel: one register when that holds the channels, otherwise two."""
    return lanes if valid <= lanes else 2 * lanes


@inline
def pack_rows(source, channels, channel_step, panels, lanes, target, panel_size):
    """Pack one tap of `panels` full panels whose output channels are contiguous: one sweep over the kernel's rows."""
    width = 2 * lanes
    for channel in range(channels):
        for panel in range(panels):
            row = advance(source, channel * channel_step + panel * width)
            packed = advance(target, panel * panel_size + channel * width)
            store(load(row), packed)
            store(load(advance(row, lanes)), advance(packed, lanes))


@inline
def pack_strided(source, channels, channel_step, column_step, valid, width, target):
    """target[channel, column] = source[channel * channel_step + column * column_step], absent columns zero."""
    for first in range(0, channels, CHANNEL_BLOCK):
        last = min(channels, first + CHANNEL_BLOCK)
        for column in range(valid):
            for channel in range(first, last):
                target[channel * width + column] = source[channel * channel_step + column * column_step]
        for column in range(valid, width):
            for channel in range(first, last):
                target[channel * width + column] = 0


@inline
def pack_panels(kernel, record, group, first, last, packed):
    """Pack every tap of panels [first, last); the record's strides flip and transpose the kernel for the pass."""
    channels, lanes, kernel_taps = record[at.CHANNELS], lanes_of(kernel), record[at.KERNEL_TAP_COUNT]
    channel_step, column_step, width = record[at.KERNEL_CHANNEL], record[at.KERNEL_COLUMN], 2 * lanes
    taps = advance(record, record[at.KERNEL_TAPS])
    depth, out_channels = kernel_taps * channels, record[at.OUT_CHANNELS]
    full = last
    if column_step != 1 or last * width > out_channels:
        full = first if column_step != 1 else last - 1
    for tap in range(kernel_taps):
        source, row = advance(kernel, group * record[at.KERNEL_GROUP] + taps[tap]), tap * channels
        columns = advance(source, first * width * column_step)
        target = advance(packed, first * width * depth + row * width)
        pack_rows(columns, channels, channel_step, full - first, lanes, target, width * depth)
        for panel in range(full, last):
            valid = min(width, out_channels - panel * width)
            narrow = panel_width(valid, lanes)
            columns = advance(source, panel * width * column_step)
            target = advance(packed, panel * width * depth + row * narrow)
            pack_strided(columns, channels, channel_step, column_step, valid, narrow, target)


@inline
def require_panel(kernel, record, group, panel, packed, states):
    """Return when the panel is ready in the group's `packed` kernel, having packed its neighbourhood if nobody had."""
    neighbourhood = panel // PANELS_TOGETHER
    state = advance(states, record[at.STATES] + group * record[at.PANELS] + neighbourhood)
    if load_acquire(state) == READY:
        return
    if atomic_compare_exchange(state, UNTOUCHED, BUSY) == UNTOUCHED:
        first = neighbourhood * PANELS_TOGETHER
        pack_panels(kernel, record, group, first, min(first + PANELS_TOGETHER, record[at.PANELS]), packed)
        store_release(READY, state)
    while load_acquire(state) != READY:
        pass
