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


@inline
def panel_width(valid, lanes):
    """Numbers in a row of a packed panel: one register when that holds the channels, otherwise two."""
    return lanes if valid <= lanes else 2 * lanes


@inline
def pack_rows(source, channels, channel_step, column_step, valid, width, target):
    """target[channel, column] = source[channel * channel_step + column * column_step] for one tap."""
    lanes = lanes_of(source)
    if valid == width and column_step == 1:
        for channel in range(channels):
            row, packed = advance(source, channel * channel_step), advance(target, channel * width)
            for v in range(width // lanes):
                store(load(advance(row, v * lanes)), advance(packed, v * lanes))
        return
    for channel in range(channels):
        for column in range(valid):
            target[channel * width + column] = source[channel * channel_step + column * column_step]
        for column in range(valid, width):
            target[channel * width + column] = 0


@inline
def pack_panel(kernel, record, valid, width, target):
    """Pack every tap of one panel; the record's strides flip and transpose the kernel where the pass asks for it."""
    channels, run_taps = record[at.CHANNELS], record[at.RUN_TAPS]
    taps = advance(record, record[at.KERNEL_TAPS])
    for tap in range(record[at.TAPS]):
        for w in range(run_taps):
            source = advance(kernel, taps[tap] + w * record[at.KERNEL_RUN_TAP])
            pack_rows(source, channels, record[at.KERNEL_CHANNEL], record[at.KERNEL_COLUMN], valid, width, target)
            target = advance(target, channels * width)


@inline
def require_panel(kernel, record, group, panel, valid, width, packed, states):
    """Return when the panel at `packed` is ready, having packed it if nobody had."""
    state = advance(states, record[at.STATES] + group * record[at.PANELS] + panel)
    if load_acquire(state) == READY:
        return
    if atomic_compare_exchange(state, UNTOUCHED, BUSY) == UNTOUCHED:
        columns = panel * 2 * lanes_of(kernel) * record[at.KERNEL_COLUMN]
        pack_panel(advance(kernel, group * record[at.KERNEL_GROUP] + columns), record, valid, width, packed)
        store_release(READY, state)
    while load_acquire(state) != READY:
        pass
