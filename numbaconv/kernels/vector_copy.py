"""Copies and sums of short runs of channels, where a call of memcpy would cost more than the copy."""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import lanes_of, load, load_first, load_half, splat, store, store_first
from numbaconv.target import TARGET

HAS_MASKS = TARGET.vector_bytes == 64
"""Whether loads and stores of a part of a register are as fast as others: some AVX2 CPUs run theirs by microcode."""


@inline
def copy_pixel(source, channels, target):
    """Copy `channels` contiguous numbers: whole registers, then a half, a part of one or single numbers."""
    lanes = lanes_of(source)
    channel = 0
    while channel + lanes <= channels:
        store(load(advance(source, channel)), advance(target, channel))
        channel += lanes
    if HAS_MASKS:
        if 2 * (channels - channel) == lanes:
            store(load_half(advance(source, channel)), advance(target, channel))
            return
        if channel < channels:
            rest = load_first(advance(source, channel), channels - channel)
            store_first(rest, advance(target, channel), channels - channel)
        return
    while channel < channels:
        target[channel] = source[channel]
        channel += 1


@inline
def clear_pixel(channels, target):
    """Set `channels` contiguous numbers to zero, by registers as `copy_pixel` where parts of them can be stored."""
    if HAS_MASKS:
        lanes, zeros = lanes_of(target), splat(target, 0.0)
        channel = 0
        while channel < channels:
            store_first(zeros, advance(target, channel), channels - channel)
            channel += lanes
        return
    for channel in range(channels):
        target[channel] = 0


@inline
def copy_columns(source, source_stride, rows, columns, target, target_stride):
    """Copy a rows x columns matrix between row strides, for tiles whose last vector is not full."""
    for row in range(rows):
        for column in range(columns):
            target[row * target_stride + column] = source[row * source_stride + column]


@inline
def add_columns(source, source_stride, rows, columns, target, target_stride):
    """Add a rows x columns matrix to another one."""
    for row in range(rows):
        for column in range(columns):
            target[row * target_stride + column] += source[row * source_stride + column]


@inline
def add_run(source, count, target):
    """Add `count` contiguous numbers: whole registers, then single numbers."""
    lanes = lanes_of(source)
    i = 0
    while i + lanes <= count:
        store(load(advance(target, i)) + load(advance(source, i)), advance(target, i))
        i += lanes
    while i < count:
        target[i] += source[i]
        i += 1
