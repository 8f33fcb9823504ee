"""Direct convolution whose sums are short, as in first layers: entering tiles and writing outputs take most of it.

The pixels of a block are one row for the tiles, wherever they lie: a table has the offsets of what each of them reads
and writes. One loop runs over the numbers that a pixel reads, whatever their taps are. A tile of pixels is multiplied
by all panels before the next one, so that the output is written in the order of memory.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.epilogue import activate_tile, leave_bounce, waits
from numbaconv.kernels.forward import block_extent, block_input, phase_record, stores_past_caches
from numbaconv.kernels.packing import require_panel, rounded_width
from numbaconv.kernels.tile_sizes import PANEL_VECTORS, by_vectors, tile_parts
from numbaconv.simd.mixed import mixed_read
from numbaconv.simd.pointers import advance, as_counters, fence, prefetch
from numbaconv.simd.scattered import tile_fma_rows, tile_store_rows, tile_store_rows_past_caches
from numbaconv.simd.vectors import lanes_of

PARAMETERS = "x, reads, count, numbers, kernel, bias, activates, past_caches, y, writes"

PIXELS = 6
"""Pixels of a tile: 6 x 2 accumulators hide the latency of an FMA, and six addresses fit the registers of any CPU."""

PIXELS_AHEAD = 48
"""Pixels from the tile that is computed to the one whose outputs are fetched."""


def make_tile(number: int) -> Any:
    """Return the product of some output pixels x some registers of output channels: `tile_parts`."""
    pixels, whole, half = tile_parts(number)

    @inline
    def short_tile(x, reads, count, numbers, kernel, bias, activates, past_caches, y, writes):
        """y[writes[m] + k] = bias[k] + sum over i < count of x[reads[m] + offset[i]] * kernel[row[i], k].

        Or relu of that, where it `activates`; offset and row of a number are neighbours in `numbers`.
        All registers that are stored `past_caches` lie at multiples of their size.
        """
        acc = mixed_read(pixels, whole, half, bias, 0)
        width = (2 * whole + half) * lanes_of(x) // 2
        for i in range(count):
            weights = advance(kernel, numbers[2 * i + 1] * width)
            acc = tile_fma_rows(acc, advance(x, numbers[2 * i]), reads, weights)
        acc = activate_tile(acc, activates)
        if past_caches:
            tile_store_rows_past_caches(acc, y, writes)
        else:
            tile_store_rows(acc, y, writes)

    return short_tile


short_tile = by_vectors(make_tile, dict.fromkeys(PANEL_VECTORS, (PIXELS, 1)), PARAMETERS)


WHOLE = 2 * 64 + PIXELS
"""Number of the tile of two registers of channels."""


@inline
def fetch_outputs(y, writes):
    """Fetch the cache lines in which the outputs of a tile of pixels begin."""
    for m in range(PIXELS):
        prefetch(advance(y, writes[m]))


@inline
def product_pixels(
    record, first_panel, panels, x, reads, kernel, bias, lower, past_caches, y, writes, pixels, bounce, within
):
    """Compute the channels of panels [first_panel, first_panel + panels) of `pixels` outputs."""
    lanes, out_channels = lanes_of(x), record[at.OUT_CHANNELS]
    count, depth = record[at.TAPS] * record[at.RUN], record[at.KERNEL_TAP_COUNT] * record[at.CHANNELS]
    numbers, width, activates = advance(record, record[at.NUMBERS]), 2 * lanes, lower == 0
    size = PIXELS if pixels >= PIXELS else 1
    # Panels that one and the same tile computes: all but the last one, whose channels may be fewer.
    whole = min(panels, out_channels // width - first_panel) if size == PIXELS and not waits(lower) else 0
    pixel = 0
    while pixel < pixels:
        # The last tile makes outputs of the one before again.
        first = min(pixel, pixels - size)
        from_x, to_y = advance(reads, first), advance(writes, first)
        ahead = advance(writes, min(first + PIXELS_AHEAD, pixels - size))
        for panel in range(first_panel, first_panel + whole):
            channel = panel * width
            weights, start, target = advance(kernel, channel * depth), advance(bias, channel), advance(y, channel)
            if not past_caches:
                fetch_outputs(target, ahead)
            short_tile(WHOLE, x, from_x, count, numbers, weights, start, activates, past_caches, target, to_y)
        for panel in range(first_panel + whole, first_panel + panels):
            channel = panel * width
            valid = min(width, out_channels - channel)
            rounded = rounded_width(valid, lanes)
            is_direct = valid == rounded and not waits(lower)
            target, offsets, past = advance(y, channel), to_y, past_caches and is_direct
            if not is_direct:
                target, offsets = bounce, within
            weights, start = advance(kernel, channel * depth), advance(bias, channel)
            if size == PIXELS and not past:
                fetch_outputs(advance(y, channel), ahead)
            number = rounded * 64 // lanes + size
            short_tile(number, x, from_x, count, numbers, weights, start, activates, past, target, offsets)
            if not is_direct:
                # From the last one on: a row's end may be rounded up to a register behind it.
                for m in range(size - 1, -1, -1):
                    row, result = advance(bounce, m * width), advance(y, to_y[m] + channel)
                    leave_bounce(row, width, 1, valid, lower, result, 0)
        pixel += size


@inline
def fill_offsets(record, rows, columns, reads, writes):
    """Write what each pixel of a block reads first and where its outputs lie, row by row."""
    for row in range(rows):
        x, y = row * record[at.ROW_STRIDE], row * record[at.Y_ROW]
        for column in range(columns):
            reads[row * columns + column] = x + column * record[at.PIXEL_STRIDE]
            writes[row * columns + column] = y + column * record[at.Y_PIXEL]


@task_kernel
def short_forward(worker, task, geometry, buffers):
    """Compute one block of outputs of one phase."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record, states = phase_record(geometry, task), as_counters(buffers[at.COUNTERS])
    index = task - record[at.FIRST_TASK]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    group, index = index % record[at.GROUPS], index // record[at.GROUPS]
    batch, images, plane, row, rows, column, columns = block_extent(record, index)
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, group, 0)
    first_panel = chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    kernel = advance(buffers[at.PACKED_KERNEL], record[at.PACKED] + group * record[at.PACKED_GROUP])
    for panel in range(panels):
        # Workers start at different panels, so that the first ones are packed side by side.
        panel = first_panel + (panel + worker * ((panels + 1) // 2)) % panels
        require_panel(buffers[at.KERNEL], record, group, panel, kernel, states)
    bias = advance(buffers[at.BIAS], at.BIAS_HEADER + record[at.BIAS_START] + group * record[at.BIAS_GROUP])
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    y = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    bounce, pixels = advance(work, geometry[at.BOUNCE]), rows * columns
    within = as_counters(advance(work, geometry[at.SECOND]))
    reads, writes = advance(within, PIXELS), advance(within, PIXELS + pixels)
    for m in range(PIXELS):
        within[m] = m * 2 * lanes_of(y)
    fill_offsets(record, rows, columns, reads, writes)
    past_caches = stores_past_caches(geometry, y)
    for image in range(images):
        x, target = advance(source, image * record[at.IMAGE_STRIDE]), advance(y, image * record[at.Y_BATCH])
        product_pixels(
            record, first_panel, panels, x, reads, kernel, bias, buffers[at.BIAS][0], past_caches, target, writes,
            pixels, bounce, within,
        )  # fmt: skip
    if past_caches:
        fence()
