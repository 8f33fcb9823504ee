"""Convolution of groups of a few channels: the depthwise kernel with a tile that sums over a group's input channels.

A register holds whole groups. Each input channel of a group is spread over the group's lanes and multiplied by what it
counts for each of them.
"""

from __future__ import annotations

from typing import Any

from numbaconv.inlining import replaced
from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.depthwise import depthwise_forward, pack_taps
from numbaconv.kernels.depthwise_gradient import depthwise_kernel_gradient
from numbaconv.kernels.depthwise_gradient_tiles import MOST_NUMBERS, make_tap_tile, tap_tile, tile_numbers
from numbaconv.kernels.depthwise_gradient_tiles import PARAMETERS as GRADIENT_PARAMETERS
from numbaconv.kernels.depthwise_strip_tiles import (
    HAS_STRIPS,
    PAIR_ROWS,
    WIDTHS,
    make_strip_tile,
    square_taps,
    strip_tile,
)
from numbaconv.kernels.depthwise_strip_tiles import PARAMETERS as STRIP_PARAMETERS
from numbaconv.kernels.depthwise_strip_tiles import tile_number as strip_number
from numbaconv.kernels.depthwise_tiles import PARAMETERS, SPREAD_TILES, TILES, depthwise_tile, make_tile
from numbaconv.kernels.tile_sizes import by_rows
from numbaconv.simd.pointers import advance
from numbaconv.simd.transposes import transpose_half_square
from numbaconv.simd.vectors import lanes_of

GROUP_SIZES = (2, 4, 8)
"""Channels of a group, in and out, where they divide a register's lanes."""


@inline
def pack_group_taps(kernel, record, channel, channels, target):
    """Do what `pack_taps` does; transpose the kernel in registers where two groups fill one."""
    lanes, taps, group = lanes_of(target), record[at.TAPS], record[at.SUMMED]
    is_square = 2 * group == lanes and record[at.KERNEL_WITHIN] == group and record[at.KERNEL_CHANNEL] == 1
    if not is_square or channels < lanes:
        pack_taps(kernel, record, channel, channels, target)
        return
    for tap in range(taps):
        source = advance(kernel, record[record[at.KERNEL_TAPS] + tap])
        for vector in range((channels + lanes - 1) // lanes):
            first = (channel + min(vector * lanes, channels - lanes)) // group
            packed = advance(target, (vector * taps + tap) * group * lanes)
            for half in range(2):
                corner = advance(source, (first + half) * record[at.KERNEL_GROUP])
                transpose_half_square(corner, record[at.KERNEL_COLUMN], advance(packed, half * group), lanes)


def _make_tile(number: int) -> Any:
    return make_tile(*SPREAD_TILES[number % TILES], group=GROUP_SIZES[number // TILES])


_numbers = tuple(TILES * size + tile for size in range(len(GROUP_SIZES)) for tile in SPREAD_TILES)
_grouped_tile = by_rows(_make_tile, _numbers, PARAMETERS)
_gradient_numbers = tuple(
    MOST_NUMBERS * size + number for size, group in enumerate(GROUP_SIZES) for number in tile_numbers(group)
)
_grouped_tap_tile = by_rows(
    lambda number: make_tap_tile(number % MOST_NUMBERS, GROUP_SIZES[number // MOST_NUMBERS]),
    _gradient_numbers,
    GRADIENT_PARAMETERS,
)


STRIPS = 1024
"""Numbers of tiles of strips for each size of group."""


def _make_strip_tile(number: int) -> Any:
    return make_strip_tile(number % STRIPS, GROUP_SIZES[number // STRIPS])


def _strip_numbers() -> tuple[int, ...]:
    return tuple(
        STRIPS * size + strip_number(square_taps(stride, group), PAIR_ROWS, width, stride)
        for size, group in enumerate(GROUP_SIZES)
        for stride in (1, 2)
        for width in WIDTHS
        if HAS_STRIPS
    )


_grouped_strip_tile = by_rows(_make_strip_tile, _strip_numbers(), STRIP_PARAMETERS)


def _renamed(function: Any, name: str) -> Any:
    function.__module__, function.__name__, function.__qualname__ = __name__, name, name
    return function


grouped_forward = task_kernel(
    _renamed(
        replaced(
            depthwise_forward.function,
            {depthwise_tile: _grouped_tile, strip_tile: _grouped_strip_tile, pack_taps: pack_group_taps},
        ),
        "grouped_forward",
    )
)
grouped_kernel_gradient = task_kernel(
    _renamed(replaced(depthwise_kernel_gradient.function, {tap_tile: _grouped_tap_tile}), "grouped_kernel_gradient")
)
