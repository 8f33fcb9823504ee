"""Direct convolution of one task: a block of output pixels of one group, all or some panels of output channels.

Forward passes have one phase; input gradients (and so transposed convolutions) with stride s have s phases per axis,
each a stride-1 convolution of grad_y with its share of the flipped taps, written at stride s.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.kernels import layout as at
from numbaconv.kernels.gather import gather_block, gather_groups
from numbaconv.kernels.packing import pack_panels, require_panel, rounded_width
from numbaconv.kernels.register_tile import INPUTS_TOO, OUTPUTS, product_columns
from numbaconv.simd.pointers import advance, as_counters, fence, is_aligned
from numbaconv.simd.vectors import lanes_of
from numbaconv.target import CACHE_LINE


@inline
def phase_record(geometry, task):
    """Return the record of the phase that `task` belongs to: the last one whose first task is not behind it."""
    record = advance(geometry, geometry[at.RECORDS])
    low, high = 0, geometry[at.PHASES]
    while high - low > 1:
        middle = (low + high) // 2
        if record[middle * at.RECORD_SIZE + at.FIRST_TASK] <= task:
            low = middle
        else:
            high = middle
    return advance(record, low * at.RECORD_SIZE)


@inline
def block_extent(record, index):
    """Return first image, images, plane, first row, rows, first column and columns of a phase's block."""
    column_block, index = index % record[at.COLUMN_BLOCKS], index // record[at.COLUMN_BLOCKS]
    row_block, index = index % record[at.ROW_BLOCKS], index // record[at.ROW_BLOCKS]
    plane, batch = index % record[at.PLANES], index // record[at.PLANES] * record[at.IMAGES]
    images = min(record[at.IMAGES], record[at.BATCH] - batch)
    row, column = row_block * record[at.BLOCK_ROWS], column_block * record[at.BLOCK_COLUMNS]
    rows = min(record[at.BLOCK_ROWS], record[at.OUT_ROWS] - row)
    columns = min(record[at.BLOCK_COLUMNS], record[at.OUT_COLUMNS] - column)
    return batch, images, plane, row, rows, column, columns


@inline
def block_input(record, x, block, batch, images, plane, row, rows, column, columns, group, channel):
    """Return a pointer to the first number that the block's first pixel reads, in the input or gathered from it.

    Channels [channel, channel + CHANNELS) of the group are gathered, image after image, IMAGE_STRIDE apart.
    """
    source = advance(x, batch * record[at.X_BATCH] + group * record[at.X_GROUP] + channel * record[at.X_CHANNEL])
    if record[at.IN_PLACE] == 0:
        channels, pitch = record[at.CHANNELS], record[at.PIXEL_PITCH]
        for image in range(images):
            gather_block(
                advance(source, image * record[at.X_BATCH]), record, plane, row, rows, column, columns, channels,
                advance(block, image * record[at.IMAGE_STRIDE]), pitch,
            )  # fmt: skip
        return block
    offset = record[record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS]]
    offset += record[record[at.ROW_TABLE] + row * record[at.ROW_STEP]]
    return advance(source, offset + record[record[at.COLUMN_TABLE] + column * record[at.COLUMN_BASE]])


@inline
def stores_past_caches(geometry, y):
    """Whether outputs are stored past the caches, which asks for whole cache lines: those of `y` and all others."""
    return geometry[at.PAST_CACHES] > 0 and is_aligned(y, CACHE_LINE)


@inline
def product_taps(
    record, tap, count, source, valid, packed, bias, bound, y, images, rows, last_column, sums, bounce, past_caches,
    is_first,
):  # fmt: skip
    """Multiply the block at `source` by `count` taps of one packed panel.

    Before the last one the block's sums wait in `sums`, (images, rows, block columns, panel width), and the activation
    with them: `bound - 1` is no bound of any. Input read in place is fetched for the first panel of a task.
    """
    lanes, run = lanes_of(source), record[at.RUN]
    width, is_last = rounded_width(valid, lanes), tap + count == record[at.TAPS]
    is_wide = width == 2 * lanes
    if last_column:
        tiles = advance(record, record[at.WIDE_LAST if is_wide else at.NARROW_LAST])
    else:
        tiles = advance(record, record[at.WIDE_FULL if is_wide else at.NARROW_FULL])
    row_size, segment_table = record[at.BLOCK_COLUMNS] * width, advance(record, record[at.SEGMENT_TABLE])
    fetches = INPUTS_TOO if is_first and record[at.IN_PLACE] != 0 else OUTPUTS
    offsets = advance(record, record[at.TAP_OFFSETS] + tap)
    kernel_rows = advance(record, record[at.PACKED_TAPS] + tap)
    first_pixel, last_pixel = 0, record[at.BLOCK_COLUMNS]
    if record[at.OWN_PANELS] > 0 and tap > 0 and not is_last:
        met = advance(record, record[at.MET_COLUMNS] + 2 * tap)
        first_pixel, last_pixel = met[0], met[1]
    for r in range(images * rows):
        image, row = r // rows, r % rows
        partial = advance(sums, r * row_size)
        x = advance(source, image * record[at.IMAGE_STRIDE] + row * record[at.ROW_STRIDE])
        start, start_stride = partial, width
        if tap == 0:
            start, start_stride = bias, 0
        target, stride, lower, channels, segments = partial, width, bound - 1, width, 1
        if is_last:
            target = advance(y, image * record[at.Y_BATCH] + row * record[at.Y_ROW])
            stride, lower, channels, segments = record[at.Y_PIXEL], bound, valid, record[at.SEGMENTS]
        product_columns(
            tiles, first_pixel, last_pixel, channels, x, record[at.PIXEL_STRIDE], count, offsets, run, packed,
            kernel_rows, start, start_stride, lower, target, stride, segments, segment_table, bounce,
            is_last and past_caches, fetches,
        )  # fmt: skip


@inline
def product_block(
    worker, record, buffers, packed_kernel, states, source, group, panels, first_panel, y, images, rows, last_column,
    sums, bounce, past_caches, own,
):  # fmt: skip
    """Multiply the block at `source` by panels [first_panel, first_panel + panels) of the group.

    `TAPS_PER_PASS` taps at a time are multiplied: that part of a panel stays in L2. A block that packs its own kernel
    takes a tap of a few panels at a time.
    """
    kernel, lanes, run = buffers[at.KERNEL], lanes_of(source), record[at.RUN]
    depth, out_channels = record[at.KERNEL_TAP_COUNT] * record[at.CHANNELS], record[at.OUT_CHANNELS]
    group_kernel = advance(packed_kernel, record[at.PACKED] + group * record[at.PACKED_GROUP])
    bias = advance(buffers[at.BIAS], at.BIAS_HEADER + record[at.BIAS_START] + group * record[at.BIAS_GROUP])
    lower = buffers[at.BIAS][0]
    together, width, taps = max(1, record[at.OWN_PANELS]), 2 * lanes, record[at.TAPS]
    packs_own = record[at.OWN_PANELS] > 0
    sums_size = images * rows * record[at.BLOCK_COLUMNS] * width
    done = tap = 0
    while done < panels:
        # An output without taps is its bias: it takes one pass as well.
        count, step = min(together, panels - done), min(record[at.TAPS_PER_PASS], taps - tap)
        if packs_own:
            first, tap_row = first_panel + done, record[record[at.PACKED_TAPS] + tap]
            pack_panels(
                kernel, record, group, first, first + count, tap_row // record[at.CHANNELS],
                run // record[at.CHANNELS], own, run,
            )  # fmt: skip
        for i in range(count):
            panel = first_panel + done + i
            if not packs_own:
                # Workers start at different panels, so that the first ones are packed side by side.
                panel = first_panel + (done + worker * ((panels + 1) // 2)) % panels
            channel = panel * width
            valid = min(width, out_channels - channel)
            packed = advance(group_kernel, channel * depth)
            if packs_own:
                # Rows are counted from the kernel's first tap, the buffer holds them from this one on.
                before = record[record[at.PACKED_TAPS] + tap] * rounded_width(valid, lanes)
                packed = advance(own, i * width * run - before)
            elif tap == 0:
                require_panel(kernel, record, group, panel, group_kernel, states)
            product_taps(
                record, tap, step, source, valid, packed, advance(bias, channel), lower, advance(y, channel), images,
                rows, last_column, advance(sums, i * sums_size), bounce, past_caches, done + i == 0,
            )  # fmt: skip
        tap += step
        if tap == taps:
            done, tap = done + count, 0


@inline
def groups_input(record, x, block, batch, images, plane, row, rows, column, columns, group, together):
    """Gather what a block's outputs of neighbouring groups read; return the distance of the groups."""
    size = record[at.IMAGES] * record[at.IMAGE_STRIDE]
    source = advance(x, batch * record[at.X_BATCH] + group * record[at.X_GROUP])
    for image in range(images):
        gather_groups(
            advance(source, image * record[at.X_BATCH]), record, plane, row, rows, column, columns, together,
            advance(block, image * record[at.IMAGE_STRIDE]), size,
        )  # fmt: skip
    return size


@task_kernel
def direct_forward(worker, task, geometry, buffers):
    """Compute one block of outputs of one phase, for one group after the other."""
    work = advance(buffers[at.WORK_BUFFER], worker * geometry[at.WORKSPACE])
    record = phase_record(geometry, task)
    index, together = task - record[at.FIRST_TASK], record[at.GROUPS_TOGETHER]
    chunk, index = index % record[at.PANEL_CHUNKS], index // record[at.PANEL_CHUNKS]
    group_tasks = record[at.GROUPS] // together
    first_group, index = index % group_tasks * together, index // group_tasks
    batch, images, plane, row, rows, column, columns = block_extent(record, index)
    first_panel = chunk * record[at.PANELS_PER_CHUNK]
    panels = min(record[at.PANELS_PER_CHUNK], record[at.PANELS] - first_panel)
    offset = batch * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane]
    outputs = advance(buffers[at.Y], offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL])
    last_column = column + columns == record[at.OUT_COLUMNS]
    sums, bounce = advance(work, geometry[at.SECOND]), advance(work, geometry[at.BOUNCE])
    own = advance(work, geometry[at.OWN_KERNEL])
    packed_kernel = advance(buffers[at.PACKED_KERNEL], worker * geometry[at.KEPT_KERNEL])
    states = advance(as_counters(buffers[at.COUNTERS]), worker * geometry[at.KEPT_STATES])
    size = 0
    if together > 1 and record[at.IN_PLACE] == 0:
        size = groups_input(
            record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, first_group, together
        )
    for i in range(together):
        group, source = first_group + i, advance(work, i * size)
        if size == 0:
            source = block_input(
                record, buffers[at.X], work, batch, images, plane, row, rows, column, columns, group, 0
            )
        y = advance(outputs, group * record[at.Y_GROUP])
        past_caches = stores_past_caches(geometry, y)
        product_block(
            worker, record, buffers, packed_kernel, states, source, group, panels, first_panel, y, images, rows,
            last_column, sums, bounce, past_caches, own,
        )  # fmt: skip
    if geometry[at.PAST_CACHES] > 0:
        fence()
