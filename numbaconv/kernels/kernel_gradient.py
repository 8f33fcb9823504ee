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
from numbaconv.kernels.gradient_pieces import pieces_tile
from numbaconv.kernels.packing import rounded_width
from numbaconv.kernels.tile_sizes import GRADIENT_TILES, by_vectors, tile_parts
from numbaconv.kernels.vector_copy import add_run, copy_pixel
from numbaconv.simd.calls import atomic_fetch_add
from numbaconv.simd.mixed import mixed_zeros
from numbaconv.simd.pointers import advance, as_counters, clear, prefetch
from numbaconv.simd.tiles import tile_add, tile_fma, tile_prefetch
from numbaconv.simd.vectors import lanes_of, load, load_half, store

PARAMETERS = (
    "x, image_stride, row_stride, pixel_stride, images, height, columns, grad, grad_image, grad_row, grad_pixel, "
    "total, ahead, ahead_step"
)


def make_gradient_tile(number: int) -> Any:
    """Return the sum over pixels for some numbers of a run x some registers of output channels: `tile_parts`."""
    count, whole, half = tile_parts(number)

    @inline
    def gradient_tile(
        x,
        image_stride,
        row_stride,
        pixel_stride,
        images,
        height,
        columns,
        grad,
        grad_image,
        grad_row,
        grad_pixel,
        total,
        ahead,
        ahead_step,
    ):
        """total[i, k] += sum over one block's pixels of x[pixel, i] * grad[pixel, k].

        The sums so far are fetched while the products run: they lie in L3 or memory.
        """
        width = (2 * whole + half) * lanes_of(x) // 2
        acc = mixed_zeros(count, whole, half, x)
        tile_prefetch(acc, total, width)
        for image in range(images):
            for row in range(height):
                pixels = advance(x, image * image_stride + row * row_stride)
                grads = advance(grad, image * grad_image + row * grad_row)
                for column in range(columns):
                    acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, advance(grads, column * grad_pixel))
                    prefetch(advance(ahead, column * ahead_step))
                ahead = advance(ahead, columns * ahead_step)
        tile_add(acc, total, width)

    return gradient_tile


gradient_tile = by_vectors(make_gradient_tile, GRADIENT_TILES, PARAMETERS)


@inline
def pack_full(grad, row_stride, pixel_stride, rows, columns, panels, target, panel_size):
    """Copy one image's grad_y of whole panels to (panels, rows, columns, width): one sweep over its pixels."""
    lanes = lanes_of(grad)
    width = 2 * lanes
    for row in range(rows):
        for column in range(columns):
            pixel = advance(grad, row * row_stride + column * pixel_stride)
            packed = advance(target, (row * columns + column) * width)
            for panel in range(panels):
                first = advance(packed, panel * panel_size)
                store(load(advance(pixel, panel * width)), first)
                store(load(advance(pixel, panel * width + lanes)), advance(first, lanes))


@inline
def pack_rest(grad, row_stride, pixel_stride, rows, columns, valid, width, target):
    """Copy one image's grad_y of a panel that is not full to (rows, columns, width).

    Absent channels are zero in a row's last pixels. In others they are the pixels that follow, whose products are
    dropped with their columns: whole registers are copied.
    """
    lanes = lanes_of(grad)
    for row in range(rows):
        for column in range(columns):
            pixel = advance(grad, row * row_stride + column * pixel_stride)
            if (columns - 1 - column) * pixel_stride >= width - valid:
                for v in range(width // lanes):
                    store(load(advance(pixel, v * lanes)), advance(target, v * lanes))
                if width % lanes != 0:
                    rest = width - width % lanes
                    store(load_half(advance(pixel, rest)), advance(target, rest))
            else:
                for channel in range(valid):
                    target[channel] = pixel[channel]
                for channel in range(valid, width):
                    target[channel] = 0
            target = advance(target, width)


@inline
def pack_panels(record, grad, images, rows, columns, panels, valid, packed):
    """Pack `panels` neighbouring panels of a block's grad_y, of which the last has `valid` channels."""
    lanes, row_stride, pixel_stride = lanes_of(grad), record[at.Y_ROW], record[at.Y_PIXEL]
    width, last_width = 2 * lanes, rounded_width(valid, lanes)
    size = images * rows * columns * width
    full = panels if valid == width else panels - 1
    for image in range(images):
        pixels, pixel = advance(grad, image * record[at.Y_BATCH]), image * rows * columns
        if full > 0:
            pack_full(pixels, row_stride, pixel_stride, rows, columns, full, advance(packed, pixel * width), size)
        if full < panels:
            target = advance(packed, full * size + pixel * last_width)
            rest = advance(pixels, full * width)
            pack_rest(rest, row_stride, pixel_stride, rows, columns, valid, last_width, target)


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
        i = 0
        for tile in range(tiles[0]):
            count, first = tiles[1 + tile], advance(x, i)
            target = advance(total, (record[record[at.PACKED_TAPS] + tap] + i) * width)
            start, ahead_step = next_numbers(ahead, fetched, step)
            fetched += images * rows * columns * ahead_step
            gradient_tile(
                width * 64 // lanes + count, first, image_stride, row_stride, pixel, images, rows, columns, grad,
                grad_image, grad_row, grad_pixel, target, start, ahead_step,
            )  # fmt: skip
            i += count
    return fetched


@inline
def pieces_gradient(record, source, grad, grad_strides, images, rows, columns, total, width, ahead, fetched, step):
    """Do the same as `block_gradient` by tiles of pieces of all taps' runs, one register of grad_y after the other."""
    lanes = lanes_of(source)
    image_stride, row_stride, pixel = record[at.IMAGE_STRIDE], record[at.ROW_STRIDE], record[at.PIXEL_STRIDE]
    grad_image, grad_row, grad_pixel = grad_strides
    tiles, first_row = advance(record, record[at.PIECE_TILES]), record[record[at.PACKED_TAPS]]
    for register in range(width // lanes):
        piece, target = 0, advance(total, first_row * width + register * lanes)
        for tile in range(tiles[0]):
            size, offsets = tiles[1 + tile], advance(record, record[at.PIECE_OFFSETS] + piece)
            start, ahead_step = next_numbers(ahead, fetched, step)
            fetched += images * rows * columns * ahead_step
            pieces_tile(
                size, source, offsets, image_stride, row_stride, pixel, images, rows, columns,
                advance(grad, register * lanes), grad_image, grad_row, grad_pixel, target, width, start, ahead_step,
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
            for tile in range(tiles[0]):
                count = tiles[1 + tile]
                start, ahead_step = next_numbers(ahead, fetched, step)
                fetched += images * rows * columns * ahead_step
                gradient_tile(
                    width * 64 // lanes + count, advance(grad, channel), grad_image, grad_row, grad_pixel, images, rows,
                    columns, x, image_stride, row_stride, pixel, total, start, ahead_step,
                )  # fmt: skip
                total = advance(total, count * width)
                channel += count


@inline
def next_numbers(ahead, fetched, step):
    """Return where to fetch ahead after `fetched` numbers, and `step`; zero when all are."""
    x, grad, x_size, grad_size = ahead
    if fetched < grad_size:
        return advance(grad, fetched), step
    if fetched < grad_size + x_size:
        return advance(x, fetched - grad_size), step
    return grad, 0


@inline
def first_numbers(record, buffers, batch, plane, row, column, group, channel):
    """Return pointers to the first numbers of a block in the input, as far as it is not padding, and in grad_y."""
    x = batch * record[at.X_BATCH] + group * record[at.X_GROUP] + channel * record[at.X_CHANNEL]
    x += max(0, record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS]])
    x += max(0, record[record[at.ROW_TABLE] + row * record[at.ROW_STEP]])
    x += max(0, record[record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE]])
    grad = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane] + group * record[at.Y_GROUP]
    grad += row * record[at.Y_ROW] + column * record[at.Y_PIXEL]
    return advance(buffers[at.X], x), advance(buffers[at.Y], grad)


@inline
def next_block(geometry, buffers, block, group, channel):
    """Return the memory to fetch ahead for a block: first numbers and sizes in the input and in grad_y.

    The memory is fetched as one stretch: that of a block of whole rows; of others as much as one row.
    """
    record = phase_record(geometry, block)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    x, grad = first_numbers(record, buffers, batch, plane, row, column, group, channel)
    row_size, x_size = columns * record[at.Y_PIXEL], columns * record[at.COLUMN_BASE] * record[at.COLUMN_STEP]
    count = images * rows if record[at.COLUMN_BLOCKS] == 1 else 1
    return x, grad, x_size * count * record[at.ROW_STEP], row_size * count


@inline
def add_block(geometry, buffers, work, block, last, group, channel, first_panel, panels, total):
    """Add the products of one block of pixels to the sums of some panels and input channels of a group."""
    record, lanes = phase_record(geometry, block), lanes_of(work)
    batch, images, plane, row, rows, column, columns = block_extent(record, block - record[at.FIRST_TASK])
    source = block_input(record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, group, channel)
    packed = advance(work, geometry[at.SECOND])
    _, grad = first_numbers(record, buffers, batch, plane, row, column, group, channel)
    ahead = next_block(geometry, buffers, min(block + 1, last), group, channel)
    step, fetched = record[at.AHEAD_STEP], 0
    width, together = 2 * lanes, record[at.PANELS_TOGETHER]
    grad_strides, grad_in_place = (record[at.Y_BATCH], record[at.Y_ROW], record[at.Y_PIXEL]), record[at.GRAD_IN_PLACE]
    if record[at.EXCHANGED] != 0:
        exchanged_gradient(record, source, grad, images, rows, columns, total, ahead, fetched, step)
        return
    first = 0
    while first < panels:
        count = min(together, panels - first)
        out = (first_panel + first) * width
        final = min(width, record[at.OUT_CHANNELS] - out - (count - 1) * width)
        if grad_in_place == 0:
            pack_panels(record, advance(grad, out), images, rows, columns, count, final, packed)
        for panel in range(count):
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
                    record, source, pixels, strides, images, rows, columns, target, tile_width, ahead, fetched, step
                )  # fmt: skip
            else:
                fetched = block_gradient(
                    record, source, pixels, strides, images, rows, columns, target, tile_width, ahead, fetched, step
                )  # fmt: skip
        first += count


@inline
def write_gradient(record, sums, panels, columns, out):
    """Copy a task's sums, `columns` output channels in `panels` panels, to the gradient."""
    lanes, channels = lanes_of(out), record[at.CHANNELS]
    size, stride = record[at.SUMS_SIZE], record[at.GROUPS] * record[at.OUT_CHANNELS]
    for tap in range(record[at.KERNEL_TAP_COUNT]):
        for i in range(channels):
            target = advance(out, (tap * record[at.GRADIENT_CHANNELS] + i) * stride)
            for panel in range(panels):
                valid = min(2 * lanes, columns - panel * 2 * lanes)
                row = (tap * channels + i) * rounded_width(valid, lanes)
                copy_pixel(advance(sums, panel * size + row), valid, advance(target, panel * 2 * lanes))


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
    """Sum one chunk of pixel blocks into the gradient of some panels and input channels of one group."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = advance(geometry, geometry[at.RECORDS])
    chunks, lanes = geometry[at.CHUNKS], lanes_of(work)
    panel_chunk, index = task % record[at.PANEL_CHUNKS], task // record[at.PANEL_CHUNKS]
    channel_chunk, index = index % record[at.CHANNEL_CHUNKS], index // record[at.CHANNEL_CHUNKS]
    group, chunk = index % record[at.GROUPS], index // record[at.GROUPS]
    first_panel = panel_chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    channel, first_out = channel_chunk * record[at.CHANNELS], first_panel * 2 * lanes
    outs = min(panels * 2 * lanes, record[at.OUT_CHANNELS] - first_out)
    parts = record[at.PANEL_CHUNKS] * record[at.CHANNEL_CHUNKS]
    part, size = group * parts + channel_chunk * record[at.PANEL_CHUNKS] + panel_chunk, record[at.SUMS_SIZE]
    private = advance(buffers[at.PACKED_KERNEL], part * geometry[at.GRADIENT_SIZE])
    chunk_size = record[at.GROUPS] * parts * geometry[at.GRADIENT_SIZE]
    total = advance(private, chunk * chunk_size) if chunks > 1 else advance(work, geometry[at.SUMS])
    clear(total, panels * size)

    blocks = geometry[at.BLOCKS]
    last = (chunk + 1) * blocks // chunks - 1
    for block in range(chunk * blocks // chunks, last + 1):
        add_block(geometry, buffers, work, block, last, group, channel, first_panel, panels, total)

    if chunks > 1:
        if atomic_fetch_add(advance(as_counters(buffers[at.COUNTERS]), part), 1) < chunks - 1:
            return
        for panel in range(panels):
            for other in range(1, chunks):
                add_run(advance(private, other * chunk_size + panel * size), size, advance(private, panel * size))
        total = private
    offset = channel * record[at.GROUPS] * record[at.OUT_CHANNELS] + group * record[at.OUT_CHANNELS] + first_out
    out = advance(buffers[at.KERNEL], offset)
    if record[at.EXCHANGED] != 0:
        write_exchanged(record, total, out)
    else:
        write_gradient(record, total, panels, outs, out)
