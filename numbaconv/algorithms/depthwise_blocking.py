"""How many rows, columns and channels one task of a depthwise forward pass or input gradient takes.

Measured on 3x3 to 7x7 layers, whole rows of outputs with all their channels are fastest by far: memory is read in the
order in which it lies. They are cut only where the input rows that an output reads do not stay in L2, or where there
would be too few tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from numbaconv.algorithms.blocking import Extent
from numbaconv.algorithms.cache_sets import pixels_in_l1
from numbaconv.kernels.depthwise_tiles import APART, LONG, STREAMED
from numbaconv.target import PAGE, TARGET

TASKS = 16
"""Tasks at least, so that threads which start late or run slowly are not waited for."""

MIN_COLUMNS = 8 * LONG
MIN_REGISTERS = 16
GATHERED_REGISTERS, CHOSEN_REGISTERS = 4, 8
"""Registers of channels of a gathered block, so that many of its rows fit L2; of one gathered by choice, or of a
kernel gradient from the caches."""

GATHERED_TAPS = 25
"""Taps from which a gathered block pays."""

CROWDED_PIXELS = 16
"""Pixels whose lines fill the sets of L1 that they share: as few are less than a tile of some rows reads."""

STREAMED_TAPS = 9
"""Taps up to which tiles of fewer outputs and whole cache lines pay where pixels crowd."""

MIN_TASK_WORK = 25_000 * TARGET.lanes("float32")
"""Multiply-adds of a task: some 10 microseconds, of which the first rows, fetched by nobody ahead, take a part."""


@dataclass(frozen=True, slots=True)
class ProductBlock:
    """Rows and columns of output pixels and the channels of one task."""

    rows: int
    columns: int
    channels: int


def _part(length: int, parts: int, unit: int) -> int:
    """Return the length of at most so many even parts, a multiple of ``unit`` unless it is all."""
    return min(length, math.ceil(math.ceil(length / parts) / unit) * unit)


def _bytes(extent: Extent, rows: int, columns: int, channels: int) -> int:
    """Return the bytes of input that some rows of outputs read."""
    in_rows = (rows - 1) * extent.row_stride + extent.row_reach
    in_columns = (columns - 1) * extent.column_stride + extent.column_reach
    itemsize = 4 if extent.dtype == "float32" else 8
    return in_rows * in_columns * extent.plane_taps * channels * itemsize


def _tile_pixels(extent: Extent) -> int:
    return extent.plane_taps * extent.row_reach * ((LONG - 1) * extent.column_stride + extent.column_reach)


def is_gathered(extent: Extent, pixel_stride: int, has_strips: bool) -> bool:
    """Whether a pass reads its input from gathered blocks of a few registers of channels, though it need not.

    Where many taps read each number again from L2, whose lines come no faster than products are made, a copy in L1 and
    near it is faster, unless strips of rows read it from there once; and also where pixels, ``pixel_stride`` numbers
    apart, crowd in few sets of L1.
    """
    if extent.channels > 1 or extent.row_reach == 1:
        return False
    many = extent.row_taps * extent.column_taps >= GATHERED_TAPS and extent.plane_taps == 1
    many &= extent.row_stride * extent.column_stride == 1 and not has_strips
    return many or pixels_in_l1(pixel_stride, extent.dtype) <= CROWDED_PIXELS


def tile_outputs(extent: Extent, dilation: int, pixel_stride: int) -> int:
    """Return the outputs of most tiles: fewer than LONG where rows are streamed through L1.

    With few taps this pays where the lines that a tile reads and writes do not stay in L1 until the next register of
    channels uses their other half, in one row only where each pixel is a page or more; and with one row of taps so far
    apart that a tile of LONG outputs begins to read many stretches of memory at once.
    """
    if not extent.in_place or extent.channels > 1 or extent.depth > STREAMED_TAPS:
        return LONG
    if dilation > 1:
        return APART if dilation >= LONG and is_streamed(extent) else LONG
    itemsize = 4 if extent.dtype == "float32" else 8
    if extent.row_reach * extent.plane_taps == 1 and pixel_stride * itemsize < PAGE:
        return LONG
    return STREAMED if _tile_pixels(extent) + LONG > pixels_in_l1(pixel_stride, extent.dtype) else LONG


def is_streamed(extent: Extent) -> bool:
    """Whether outputs read the input in one long row, of which no part is read again much later."""
    return extent.in_place and extent.row_reach == 1 and extent.plane_taps == 1


@lru_cache(maxsize=1024)
def choose_product_block(extents: tuple[Extent, ...], by_choice: bool = False, strip: int = 1) -> ProductBlock:
    """Return the block that all phases of a pass have in common; of each tap an output sums ``extent.channels``.

    ``by_choice`` input is gathered that could be read in place. Rows are whole strips of ``strip`` of them.
    """
    main = max(extents, key=lambda extent: extent.depth)
    lanes = TARGET.lanes(main.dtype)
    most_rows, most_columns = max(each.rows for each in extents), max(each.columns for each in extents)
    registers = -(-main.out_channels // lanes)
    room = TARGET.l2_bytes * 3 // 4 if main.in_place else TARGET.l2_bytes // 2

    most = registers if main.in_place else CHOSEN_REGISTERS if by_choice else GATHERED_REGISTERS
    columns, width = most_columns, min(registers, most)
    if is_streamed(main):
        room = max(room, _bytes(main, 1, columns, width * lanes))
    parts = 1
    while _bytes(main, 1, columns, width * lanes) > room and columns > MIN_COLUMNS:
        parts += 1
        columns = max(_part(most_columns, parts, LONG), MIN_COLUMNS)
    parts = 1
    while _bytes(main, 1, columns, width * lanes) > room and width > MIN_REGISTERS:
        parts += 1
        width = _part(registers, parts, 2)

    work = sum(extent.depth * extent.planes * extent.rows * extent.columns for extent in extents)
    wanted = max(1, min(TASKS, work * main.batch * main.out_channels // MIN_TASK_WORK))
    planes = max(each.planes for each in extents) * main.batch

    def needed() -> int:
        return -(-wanted // (planes * -(-most_columns // columns) * -(-registers // width)))

    rows = _part(most_rows, min(needed(), most_rows), strip)
    while not main.in_place and _bytes(main, rows, columns, width * lanes) > room and rows > 1:
        rows -= 1
    while needed() * rows > most_rows + rows - 1 and columns >= 2 * MIN_COLUMNS:
        columns = _part(columns, 2, LONG)
    while needed() * rows > most_rows + rows - 1 and width >= 2 * MIN_REGISTERS:
        width = _part(width, 2, 2)
    # Where channels are cut as well, each thread has rows of its own: neighbouring lines are not written by two cores.
    parts = min(-(-TARGET.threads // planes), most_rows // (2 * main.row_reach))
    if width < registers and parts > 1:
        rows = min(rows, -(-most_rows // parts))
    return ProductBlock(rows, columns, width * lanes)


@dataclass(frozen=True, slots=True)
class GradientBlock:
    """Rows and columns of output pixels and the channels that a kernel gradient takes together; private sums."""

    rows: int
    columns: int
    channels: int
    chunks: int


MAX_PIXEL_CHUNKS = 32
PIXELS_PER_TAP, MOST_PIXELS, LEAST_PIXELS = 24, 256, 128
"""Pixels of a private sum, at least: its numbers are written and added once more, a few percent."""

COLUMN_UNIT = 28
"""Outputs that a cut row has a multiple of: tiles of 7 and of 4 fill it."""

MIN_GRADIENT_REGISTERS = 4

SHARED_ROWS = 2
"""Rows of a block, at least, for each row of input that it has in common with the next one."""


def crowds_l1(extent: Extent, pixel_stride: int) -> bool:
    """Whether the input that a kernel gradient's tile reads from several rows has too few sets of L1.

    Grad_y, which is read once, is not copied for that.
    """
    return extent.row_reach > 1 and pixels_in_l1(pixel_stride, extent.dtype) <= CROWDED_PIXELS


def _gradient_width(main: Extent, registers: int, parts: int, most: int) -> int:
    """Return the registers of channels of a task where the channels are dealt to ``parts`` tasks, if there are many.

    Gathered blocks have ``most`` at most.
    """
    width = registers if main.in_place else min(registers, most)
    while -(-registers // width) < parts and width >= 2 * MIN_GRADIENT_REGISTERS:
        width = -(-width // 2)
    # A last chunk of a part of one register could not be read in place.
    while registers % width == 1 and main.out_channels % TARGET.lanes(main.dtype):
        width += 1
    return width


@lru_cache(maxsize=1024)
def choose_gradient_block(extents: tuple[Extent, ...], strip: int = 1, streams: bool = False) -> GradientBlock:
    """Return the block that all phases of a kernel gradient have in common; it depends on shape and CPU alone.

    Rows are whole strips of ``strip`` of them. Blocks read some rows of input that others read too, so they have many
    rows, if need be of some of the channels, unless input and grad_y are so many that they are fetched ahead
    (``streams``), in the order of memory.
    """
    main = max(extents, key=lambda extent: extent.rows * extent.columns)
    lanes = TARGET.lanes(main.dtype)
    most_rows, most_columns = max(each.rows for each in extents), max(each.columns for each in extents)
    images = sum(each.planes for each in extents) * main.batch
    pixels = sum(each.planes * each.rows * each.columns for each in extents) * main.batch
    taps = main.depth // main.channels
    chunks = max(1, min(MAX_PIXEL_CHUNKS, pixels // min(MOST_PIXELS, max(LEAST_PIXELS, PIXELS_PER_TAP * taps))))
    wanted = max(1, min(TASKS, pixels * main.depth * main.out_channels // MIN_TASK_WORK))
    registers, panels = -(-main.out_channels // lanes), wanted // chunks
    most = GATHERED_REGISTERS if streams else CHOSEN_REGISTERS
    width = _gradient_width(main, registers, panels, most) * lanes

    def size(rows: int, columns: int) -> int:
        grad = rows * columns * width * (4 if main.dtype == "float32" else 8)
        return _bytes(main, rows, columns, width) + grad

    # What comes from beyond L2 is fetched for the next block meanwhile.
    room = TARGET.l2_bytes * 5 // 16 if streams or main.row_reach == 1 else TARGET.l2_bytes * 2 // 3
    if images * size(most_rows, most_columns) < TARGET.l2_bytes:
        room = max(room, TARGET.l2_bytes // 2)
    elif not streams and main.row_reach > 1:
        least = min(most_rows, SHARED_ROWS * (main.row_reach - 1))
        while size(least, most_columns) > room and width >= 2 * MIN_GRADIENT_REGISTERS * lanes:
            panels = 2 * max(panels, -(-registers * lanes // width))
            width = _gradient_width(main, registers, panels, most) * lanes
        if width < main.out_channels:
            chunks = min(chunks, -(-TASKS // -(-registers * lanes // width)))
    columns, parts = most_columns, 1
    while size(1, columns) > room and columns > COLUMN_UNIT:
        parts += 1
        columns = max(_part(most_columns, parts, COLUMN_UNIT), COLUMN_UNIT)
    if chunks > images * most_rows * -(-most_columns // columns):
        parts = -(-chunks // (images * most_rows))
        columns = min(columns, max(_part(most_columns, parts, COLUMN_UNIT), COLUMN_UNIT))
    needed = -(-chunks // (images * -(-most_columns // columns)))
    rows = _part(most_rows, min(needed, most_rows), strip)
    while rows > 1 and size(rows, columns) > room:
        rows -= strip if rows > strip else 1
    return GradientBlock(rows, columns, width, chunks)
