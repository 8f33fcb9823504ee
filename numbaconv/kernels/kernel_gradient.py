"""Kernel gradient: the same product with the sum running over pixels.

A tile's rows are numbers of a tap's run (kernel_width * channels contiguous numbers of the input), its columns output
channels: acc[i, k] += x[offsets[tap] + pixel * pixel_stride + i] * grad_y[pixel, k]. The blocks of pixels are dealt
to CHUNKS private sums by the problem's shape alone; the worker that finishes the last chunk of a panel adds them in
order of chunks, so the result has the same bits for any number of threads.

Where output channels do not fill the columns of a tile, they may be its rows, and numbers of a run its columns.

A task's sums are (panels, taps, channels, panel width), contiguous: a tile's rows lie side by side. In the gradient
they are a power of two apart where the layer's channels are, and a panel's rows share few sets of every cache.
"""

from __future__ import annotations

from typing import Any

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.forward import block_extent, block_input, phase_record
from numbaconv.kernels.gradient_ahead import first_numbers, next_block, next_numbers
from numbaconv.kernels.gradient_packing import pack_panels
from numbaconv.kernels.gradient_pieces import pieces_tile
from numbaconv.kernels.gradient_rows import PACKS_ROWS, packed_gradient
from numbaconv.kernels.packing import rounded_width
from numbaconv.kernels.register_tile import MOST_TILES, TOGETHER_ROWS
from numbaconv.kernels.tile_sizes import GRADIENT_TILES, HALF_PIECES, by_vectors, tile_parts
from numbaconv.kernels.vector_copy import add_run, copy_pixel
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.mixed import mixed_zeros
from numbaconv.simd.pointers import advance, as_counters, clear, prefetch
from numbaconv.simd.tiles import tile_add, tile_fma, tile_prefetch
from numbaconv.simd.vectors import lanes_of, load, store

PARAMETERS = (
    "tiles, x, image_stride, row_stride, pixel_stride, images, height, columns, grad, grad_image, grad_row, "
    "grad_pixel, total, ahead, fetched, step"
)


def make_gradient_tile(number: int) -> Any:
    """Return the sum over pixels for some numbers of a run x some registers of output channels: `tile_parts`."""
    count, whole, half = tile_parts(number)
    together = MOST_TILES if count >= TOGETHER_ROWS else 1

    @inline
    def gradient_tile(
        tiles, x, image_stride, row_stride, pixel_stride, images, height, columns, grad, grad_image, grad_row,
        grad_pixel, total, ahead, fetched, step,
    ):  # fmt: skip
        """total[i, k] += sum over one block's pixels of x[pixel, i] * grad[pixel, k]; for some tiles, one by one.

        The sums so far are fetched while the products run: they lie in L3 or memory. So is what `next_numbers` tells
        of the next block.
        """
        width = (2 * whole + half) * lanes_of(x) // 2
        for tile in range(min(tiles, together)):
            numbers, sums = advance(x, tile * count), advance(total, tile * count * width)
            fetch, fetch_step = next_numbers(ahead, fetched + tile * images * height * columns * step, step)
            acc = mixed_zeros(count, whole, half, x)
            tile_prefetch(acc, sums, width)
            for image in range(images):
                for row in range(height):
                    pixels = advance(numbers, image * image_stride + row * row_stride)
                    grads = advance(grad, image * grad_image + row * grad_row)
                    for column in range(columns):
                        factors = advance(grads, column * grad_pixel)
                        acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, factors)
                        prefetch(advance(fetch, column * fetch_step))
                    fetch = advance(fetch, columns * fetch_step)
            tile_add(acc, sums, width)

    return gradient_tile


gradient_tile = by_vectors(make_gradient_tile, GRADIENT_TILES, PARAMETERS)


@inline
def tiles_alike(tiles, first):
    """Return how many tiles in a row, from the first one on, have its size and enter their code together."""
    last = first + 1
    while tiles[1 + first] >= TOGETHER_ROWS and last < tiles[0] and tiles[1 + last] == tiles[1 + first]:
        last += 1
    return last - first


@inline
def block_gradient(record, source, grad, grad_strides, images, rows, columns, total, width, ahead, fetched, step):
    """Add one block's products to the sums of one panel: every tap, every number of its run, by tiles of single runs.

    `grad_strides` are those of images, rows and pixels of grad_y, packed or in place. Meanwhile the next block is
    fetched, `step` numbers with each pixel; return how many were, `fetched` included.
    """
    lanes = lanes_of(source)
    image_stride, row_stride, pixel = record[at.IMAGE_STRIDE], record[at.ROW_STRIDE], record[at.PIXEL_STRIDE]
    grad_image, grad_row, grad_pixel = grad_strides
    tiles = advance(record, record[at.WIDE_FULL if width == 2 * lanes else at.NARROW_FULL])
    for tap in range(record[at.TAPS]):
        x = advance(source, record[record[at.TAP_OFFSETS] + tap])
        i = tile = 0
        while tile < tiles[0]:
            size, count = tiles[1 + tile], tiles_alike(tiles, tile)
            target = advance(total, (record[record[at.PACKED_TAPS] + tap] + i) * width)
            gradient_tile(
                width * 64 // lanes + size, count, advance(x, i), image_stride, row_stride, pixel, images, rows,
                columns, grad, grad_image, grad_row, grad_pixel, target, ahead, fetched, step,
            )  # fmt: skip
            fetched += count * images * rows * columns * step
            i, tile = i + count * size, tile + count
    return fetched


@inline
def pieces_gradient(record, source, grad, grad_strides, images, rows, columns, total, valid, ahead, fetched, step):
    """Do the same as `block_gradient` by tiles of pieces of all taps' runs, one register of grad_y after the other.

    grad_y is read where it lies, `valid` channels of each pixel.
    """
    lanes = lanes_of(source)
    image_stride, row_stride, pixel = record[at.IMAGE_STRIDE], record[at.ROW_STRIDE], record[at.PIXEL_STRIDE]
    grad_image, grad_row, grad_pixel = grad_strides
    tiles, first_row = advance(record, record[at.PIECE_TILES]), record[record[at.PACKED_TAPS]]
    width = rounded_width(valid, lanes)
    for register in range((width + lanes - 1) // lanes):
        form = 0 if width - register * lanes >= lanes else HALF_PIECES
        piece, target = 0, advance(total, first_row * width + register * lanes)
        for tile in range(tiles[0]):
            size, offsets = tiles[1 + tile], advance(record, record[at.PIECE_OFFSETS] + piece)
            start, ahead_step = next_numbers(ahead, fetched, step)
            fetched += images * rows * columns * ahead_step
            pieces_tile(
                form + size, source, offsets, image_stride, row_stride, pixel, images, rows, columns,
                advance(grad, register * lanes), grad_image, grad_row, grad_pixel, valid - register * lanes, target,
                width, start, ahead_step,
            )  # fmt: skip
            piece += size // 16
            target = advance(target, size // 16 * (size % 16) * width)
    return fetched


@inline
def exchanged_gradient(record, source, grad, images, rows, columns, total, ahead, fetched, step):
    """Do the same as `block_gradient` for all output channels, with input and grad_y exchanged.

    Output channels, numbers of grad_y where it lies, are the rows of a tile, numbers of a run its columns. The last
    panel of a run also reads what follows; these products are dropped with their columns.
    """
    lanes, run = lanes_of(source), record[at.RUN]
    image_stride, row_stride, pixel = record[at.IMAGE_STRIDE], record[at.ROW_STRIDE], record[at.PIXEL_STRIDE]
    grad_image, grad_row, grad_pixel = record[at.Y_BATCH], record[at.Y_ROW], record[at.Y_PIXEL]
    for tap in range(record[at.TAPS]):
        for first in range(0, run, 2 * lanes):
            width, channel = rounded_width(run - first, lanes), 0
            x = advance(source, record[record[at.TAP_OFFSETS] + tap] + first)
            tiles = advance(record, record[at.WIDE_FULL if width == 2 * lanes else at.NARROW_FULL])
            tile = 0
            while tile < tiles[0]:
                size, count = tiles[1 + tile], tiles_alike(tiles, tile)
                gradient_tile(
                    width * 64 // lanes + size, count, advance(grad, channel), grad_image, grad_row, grad_pixel, images,
                    rows, columns, x, image_stride, row_stride, pixel, total, ahead, fetched, step,
                )  # fmt: skip
                fetched += count * images * rows * columns * step
                total = advance(total, count * size * width)
                channel, tile = channel + count * size, tile + count
    return fetched


@inline
def add_block(
    geometry, buffers, work, block, last, first_group, group, channel, first_panel, panels, total, place, adds, fetched
):
    """Add the products of one block of pixels to the sums of some panels and input channels of a group.

    Whole panels of packed rows have their sums at `place`, of which `packed_gradient` tells. Of the next block, from
    `first_group` on, `fetched` numbers were fetched by the groups before; return how many are.
    """
    record, lanes = phase_record(geometry, block), lanes_of(work)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, group, channel)
    packed, packed_rows = advance(work, geometry[at.SECOND]), advance(work, geometry[at.THIRD])
    _, grad = first_numbers(record, buffers, batch, plane, row, column, group, channel)
    ahead = next_block(geometry, buffers, min(block + 1, last), first_group, channel)
    step = record[at.AHEAD_STEP]
    if record[at.ROWS_AHEAD] != 0 and block == last:
        step = 0  # where grad_y is read in place, the block itself is fetched: its first tile is ahead of the others
    width, together = 2 * lanes, record[at.PANELS_TOGETHER]
    grad_strides, grad_in_place = (record[at.Y_BATCH], record[at.Y_ROW], record[at.Y_PIXEL]), record[at.GRAD_IN_PLACE]
    if record[at.EXCHANGED] != 0:
        return exchanged_gradient(record, source, grad, images, rows, columns, total, ahead, fetched, step)
    first = 0
    while first < panels:
        count = min(together, panels - first)
        out = (first_panel + first) * width
        final = min(width, record[at.OUT_CHANNELS] - out - (count - 1) * width)
        if grad_in_place == 0:
            pack_panels(record, advance(grad, out), images, rows, columns, count, final, packed)
        whole = 0
        if PACKS_ROWS:
            if record[at.ROWS_PACKED] != 0:
                whole = count if final == width else count - 1
                fetched = packed_gradient(
                    record, source, packed, images, rows, columns, first, whole, place, adds, packed_rows, ahead,
                    fetched, step,
                )  # fmt: skip
        for panel in range(whole, count):
            valid = final if panel == count - 1 else width
            target = advance(total, (first + panel) * record[at.SUMS_SIZE])
            tile_width = rounded_width(valid, lanes)
            if grad_in_place != 0:
                pixels, strides = advance(grad, out + panel * width), grad_strides
            else:
                pixels = advance(packed, panel * images * rows * columns * width)
                strides = (rows * columns * tile_width, columns * tile_width, tile_width)
            if record[record[at.PIECE_TILES]] > 0:
                fetched = pieces_gradient(
                    record, source, pixels, strides, images, rows, columns, target, valid, ahead, fetched, step
                )  # fmt: skip
            else:
                fetched = block_gradient(
                    record, source, pixels, strides, images, rows, columns, target, tile_width, ahead, fetched, step
                )  # fmt: skip
        first += count
    return fetched


@inline
def write_gradient(record, sums, first, panels, columns, out):
    """Copy a task's sums, `columns` output channels in `panels` panels, to the gradient, from panel `first` on.

    The row after the next is fetched meanwhile: rows of the gradient are stretches of memory of their own.
    """
    lanes, channels = lanes_of(out), record[at.CHANNELS]
    size, stride = record[at.SUMS_SIZE], record[at.GROUPS] * record[at.OUT_CHANNELS]
    width, full = 2 * lanes, columns // (2 * lanes)
    for tap in range(record[at.KERNEL_TAP_COUNT]):
        for i in range(channels):
            target = advance(out, (tap * record[at.GRADIENT_CHANNELS] + i) * stride)
            row = advance(sums, (tap * channels + i) * width)
            for panel in range(first, full):
                place = advance(target, panel * width)
                prefetch(advance(place, 2 * stride))
                prefetch(advance(place, 2 * stride + lanes))
                store(load(advance(row, panel * size)), place)
                store(load(advance(row, panel * size + lanes)), advance(place, lanes))
            if full < panels:
                valid = columns - full * width
                rest = (tap * channels + i) * rounded_width(valid, lanes)
                copy_pixel(advance(sums, full * size + rest), valid, advance(target, full * width))


@inline
def write_exchanged(record, sums, out):
    """Copy the sums of exchanged tiles, (taps, panels of a run, output channels, width), to the gradient."""
    lanes, run, outs = lanes_of(out), record[at.RUN], record[at.OUT_CHANNELS]
    stride = record[at.GROUPS] * outs
    for tap in range(record[at.TAPS]):
        for first in range(0, run, 2 * lanes):
            width = rounded_width(run - first, lanes)
            for i in range(min(width, run - first)):
                target = advance(out, (tap * run + first + i) * stride)
                for channel in range(outs):
                    target[channel] = sums[channel * width + i]
            sums = advance(sums, outs * width)


@task_kernel
def direct_kernel_gradient(worker, task, geometry, buffers):
    """Sum one chunk of pixel blocks into the gradient of some panels and input channels of some groups.

    A block is summed for one group after the other: together they read whole pixels, which the block before fetched.
    """
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, lanes, together = geometry[at.CHUNKS], lanes_of(work), record[at.GROUPS_TOGETHER]
    panel_chunk, index = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    channel_chunk, index = index % record[at.CHANNEL_CHUNKS], index // record[at.CHANNEL_CHUNKS]
    group_tasks = record[at.GROUPS] // together
    first_group, chunk = index % group_tasks * together, index // group_tasks
    first_panel = panel_chunk * record[at.PANELS] // record[at.PANEL_CHUNKS]
    panels = (panel_chunk + 1) * record[at.PANELS] // record[at.PANEL_CHUNKS] - first_panel
    channel, first_out = channel_chunk * record[at.CHANNELS], first_panel * 2 * lanes
    outs = min(panels * 2 * lanes, record[at.OUT_CHANNELS] - first_out)
    parts, size = record[at.PANEL_CHUNKS] * record[at.CHANNEL_CHUNKS], record[at.SUMS_SIZE]
    part = first_group * parts + channel_chunk * record[at.PANEL_CHUNKS] + panel_chunk
    private = advance(buffers[at.PACKED_KERNEL], part * geometry[at.GRADIENT_SIZE])
    chunk_size = record[at.GROUPS] * parts * geometry[at.GRADIENT_SIZE]
    totals, group_size = advance(work, geometry[at.SUMS]), geometry[at.GRADIENT_SIZE]
    if chunks > 1:
        totals, group_size = advance(private, chunk * chunk_size), parts * geometry[at.GRADIENT_SIZE]
    offset = channel * record[at.GROUPS] * record[at.OUT_CHANNELS] + first_group * record[at.OUT_CHANNELS] + first_out
    out = advance(buffers[at.KERNEL], offset)
    blocks, width = geometry[at.BLOCKS], 2 * lanes
    block, end = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    whole = outs // width if geometry[at.FIRST_STORED] != 0 else 0
    for i in range(together):
        clear(advance(totals, i * group_size + whole * size), (panels - whole) * size)
    place, written = (totals, size, width, record[at.CHANNELS]), 0
    if geometry[at.SUMS_WRITTEN] != 0:
        place, written = (out, width, record[at.OUT_CHANNELS], record[at.GRADIENT_CHANNELS]), whole
    adds = whole == 0
    while block < end:
        fetched = 0
        for i in range(together):
            fetched = add_block(
                geometry, buffers, work, block, end - 1, first_group, first_group + i, channel, first_panel, panels,
                advance(totals, i * group_size), place, adds, fetched,
            )  # fmt: skip
        block, adds = block + 1, True

    if chunks > 1:
        if atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), part), 1) < chunks - 1:
            return
        for i in range(together):
            first = advance(private, i * group_size)
            for panel in range(panels):
                for other in range(1, chunks):
                    add_run(advance(first, other * chunk_size + panel * size), size, advance(first, panel * size))
        totals = private
    for i in range(together):
        total, target = advance(totals, i * group_size), advance(out, i * record[at.OUT_CHANNELS])
        if record[at.EXCHANGED] != 0:
            write_exchanged(record, total, target)
        elif written < panels:
            write_gradient(record, total, written, panels, outs, target)
