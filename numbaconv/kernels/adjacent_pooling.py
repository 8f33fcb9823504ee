"""Gradients of pooling over windows that lie side by side: every position of the input is written once.

A task takes some outer outputs of one image. The channels that do not fill a register are done by one that ends with
them. Where all channels are fewer than a register's lanes, a row of the gradient is made in the worker's workspace,
position after position, each a whole register of which the next position overwrites what is not its own.

Windows of 2x2 are done by registers alone even then, stored whole but for the last ones of a row.

Where relu gave the inputs, its gradient is taken in the maxima's size on the way, and summed for the bias before it.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.lanewise import divide, where_above, where_maximum
from numbaconv.simd.pointers import advance, clear, copy
from numbaconv.simd.vectors import lanes_of, load, load_first, splat, store, store_first

# Geometry. OUTER: outer outputs of an image, OUTERS of a task, PARTS: tasks of an image; X, Y: sizes of the last
# spatial axis, X_END: the part of X that windows cover, POOL and LOW: its window and padding; *_IMAGE: numbers of one
# image; BARE: where the list of BARE_COUNT rows of x under no window starts; FIRST, ROWS: the lists of rows under the
# window of each outer output (FIRST[i] to FIRST[i + 1] are the entries of output i), by their first numbers; BLOCK:
# outputs that are made in the workspace at once; IMAGES: the batch; SUMS: numbers at the workspace's start for the
# sums of all channels, and a register for those that do not fill one.
(WORKSPACE, OUTER, OUTERS, PARTS, CHANNELS, X, X_END, Y, POOL, LOW, X_IMAGE, Y_IMAGE, BARE, BARE_COUNT, FIRST,
 ROWS, BLOCK, IMAGES, SUMS) = range(19)  # fmt: skip
HEADER = 19


@inline
def _load_whole(pointer, count):
    """Load a register of which `count` lanes matter."""
    return load(pointer)


@inline
def _give_maximum(read, x, gx, top, remaining, zero, count):
    """Set a position of gx to what remains of the gradient where x holds the maximum; return what then remains."""
    value = read(x, count)
    store(where_maximum(value, top, remaining, zero), gx)
    return where_maximum(value, top, zero, remaining)


@inline
def _as_it_is(top, gradient, zero):
    return gradient


@inline
def _through_relu(top, gradient, zero):
    """Return the gradient where the maximum is positive."""
    return where_above(top, zero, gradient, zero)


@inline
def _unsummed(kept, sums):
    pass


@inline
def _summed(kept, sums):
    store(load(sums) + kept, sums)


@inline
def _maximum_pairs(keep, channels, x, y, gy, gx, below, first, last, sums):
    """Set gx under the outputs from `first` to `last`, whose windows are two positions of two rows `below` apart."""
    zero, total, lanes, end = splat(x, 0.0), load(sums), lanes_of(x), 2 * last * channels
    for o in range(first, last):
        at, left = o * channels, 2 * o * channels
        right = left + channels
        top = load(advance(y, at))
        remaining = keep(top, load(advance(gy, at)), zero)
        total = total + remaining
        a, b = load(advance(x, left)), load(advance(x, right))
        c, d = load(advance(x, left + below)), load(advance(x, right + below))
        upper_left, remaining = where_maximum(a, top, remaining, zero), where_maximum(a, top, zero, remaining)
        upper_right, remaining = where_maximum(b, top, remaining, zero), where_maximum(b, top, zero, remaining)
        lower_left, remaining = where_maximum(c, top, remaining, zero), where_maximum(c, top, zero, remaining)
        lower_right = where_maximum(d, top, remaining, zero)
        if right + lanes <= end:
            store(upper_left, advance(gx, left))
            store(upper_right, advance(gx, right))
            store(lower_left, advance(gx, left + below))
            store(lower_right, advance(gx, right + below))
        else:
            store_first(upper_left, advance(gx, left), channels)
            store_first(upper_right, advance(gx, right), channels)
            store_first(lower_left, advance(gx, left + below), channels)
            store_first(lower_right, advance(gx, right + below), channels)
    store(total, sums)


@inline
def _maximum_line(read, keep, g, x, y, gy, begin, first, last, is_first_row, kept, line, sums):
    """Make a row of gx under the outputs from `first` to `last`; `kept` is what remains of each output's gradient."""
    lanes, channels, zero = lanes_of(x), g[CHANNELS], splat(x, 0.0)
    for o in range(first, last):
        left = max(o * g[POOL] - g[LOW], 0)
        width = min((o + 1) * g[POOL] - g[LOW], g[X]) - left
        source, target = advance(x, left * channels), advance(line, (left - begin) * channels)
        place, at = advance(kept, (o - first) * lanes), o * channels
        top, remaining = read(advance(y, at), channels), load(place)
        if is_first_row:
            remaining = keep(top, read(advance(gy, at), channels), zero)
            store(load(sums) + remaining, sums)
        if width == 2:
            second = advance(target, channels)
            remaining = _give_maximum(read, source, target, top, remaining, zero, channels)
            remaining = _give_maximum(read, advance(source, channels), second, top, remaining, zero, channels)
        else:
            for w in range(width):
                x_w, gx_w = advance(source, w * channels), advance(target, w * channels)
                remaining = _give_maximum(read, x_w, gx_w, top, remaining, zero, channels)
        store(remaining, place)


@inline
def _maximum_narrow(keep, g, x, y, gy, gx, rows, row_count, first, last, work, x_readable, y_readable, sums):
    """Set gx under the outputs from `first` to `last` to gy where x first holds y, in row-major order, else to 0."""
    channels = g[CHANNELS]
    begin, end = max(first * g[POOL] - g[LOW], 0), min(last * g[POOL] - g[LOW], g[X])
    lanes = lanes_of(x)
    line = advance(work, (last - first) * lanes)
    # Whole registers may begin at the last positions where as many numbers follow.
    is_inside = (end - 1) * channels + lanes <= x_readable and (last - 1) * channels + lanes <= y_readable
    is_pair = g[POOL] == 2 and g[LOW] == 0 and 2 * last <= g[X] and row_count == 2
    if is_inside and is_pair:
        below = rows[1] - rows[0]
        _maximum_pairs(keep, channels, advance(x, rows[0]), y, gy, advance(gx, rows[0]), below, first, last, sums)
        row_count = 0
    for r in range(row_count):
        source = advance(x, rows[r])
        if is_inside:
            _maximum_line(_load_whole, keep, g, source, y, gy, begin, first, last, r == 0, work, line, sums)
        else:
            _maximum_line(load_first, keep, g, source, y, gy, begin, first, last, r == 0, work, line, sums)
        copy(advance(gx, rows[r] + begin * channels), line, (end - begin) * channels)


@inline
def _maximum_window(keep, add, x, y, gy, gx, rows, row_count, width, channels, sums):
    """Do the same in one window, one full register."""
    top, zero = load(y), splat(x, 0.0)
    remaining = keep(top, load(gy), zero)
    add(remaining, sums)
    for r in range(row_count):
        for w in range(width):
            offset = rows[r] + w * channels
            value = load(advance(x, offset))
            store(where_maximum(value, top, remaining, zero), advance(gx, offset))
            remaining = where_maximum(value, top, zero, remaining)


@inline
def _mean_narrow(keep, g, x, y, gy, gx, rows, row_count, first, last, work, x_readable, y_readable, sums):
    """Set gx under the outputs from `first` to `last` to gy divided by the window's positions."""
    channels = g[CHANNELS]
    begin, end = max(first * g[POOL] - g[LOW], 0), min(last * g[POOL] - g[LOW], g[X])
    for o in range(first, last):
        left = max(o * g[POOL] - g[LOW], 0)
        width = min((o + 1) * g[POOL] - g[LOW], g[X]) - left
        share = divide(load_first(advance(gy, o * channels), channels), row_count * width)
        for w in range(left, left + width):
            store(share, advance(work, (w - begin) * channels))
    for r in range(row_count):
        copy(advance(gx, rows[r] + begin * channels), work, (end - begin) * channels)


@inline
def _mean_window(keep, add, x, y, gy, gx, rows, row_count, width, channels, sums):
    """Do the same in one window, one full register."""
    share = divide(load(gy), row_count * width)
    for r in range(row_count):
        target = advance(gx, rows[r])
        for w in range(width):
            store(share, advance(target, w * channels))


@inline
def _windows(one, keep, add, g, x, y, gy, gx, rows, row_count, sums):
    """Write what windows of one row of outputs cover; sums of a register that ends with the channels lie apart."""
    lanes, channels = lanes_of(x), g[CHANNELS]
    for o in range(g[Y]):
        left = max(o * g[POOL] - g[LOW], 0)
        width = min((o + 1) * g[POOL] - g[LOW], g[X]) - left
        start, at, c = left * channels, o * channels, 0
        while c < channels:
            place = c
            if c > channels - lanes:
                c, place = channels - lanes, channels
            one(
                keep, add, advance(x, start + c), advance(y, at + c), advance(gy, at + c), advance(gx, start + c),
                rows, row_count, width, channels, advance(sums, place),
            )  # fmt: skip
            c += lanes


@inline
def _outputs(narrow, one, keep, add, work, task, g, x, y, gy, gx, sums):
    """Write what the windows of a task's outputs cover, and what lies between those of its images."""
    channels = g[CHANNELS]
    image, first_outer = task // g[PARTS], task % g[PARTS] * g[OUTERS]
    x, gx = advance(x, image * g[X_IMAGE]), advance(gx, image * g[X_IMAGE])
    if first_outer == 0:
        for i in range(g[BARE_COUNT]):
            clear(advance(gx, g[g[BARE] + i]), g[X] * channels)
    for outer in range(first_outer, min(first_outer + g[OUTERS], g[OUTER])):
        entry = g[g[FIRST] + outer]
        rows, row_count = advance(g, g[ROWS] + entry), g[g[FIRST] + outer + 1] - entry
        if g[X_END] < g[X]:
            for r in range(row_count):
                clear(advance(gx, rows[r] + g[X_END] * channels), (g[X] - g[X_END]) * channels)
        start = image * g[Y_IMAGE] + outer * g[Y] * channels
        y_row, gy_row = advance(y, start), advance(gy, start)
        if channels < lanes_of(x):
            x_readable = (g[IMAGES] - image) * g[X_IMAGE] - rows[row_count - 1]
            y_readable = g[IMAGES] * g[Y_IMAGE] - start
            for o in range((g[Y] + g[BLOCK] - 1) // g[BLOCK]):
                first, last = o * g[BLOCK], min((o + 1) * g[BLOCK], g[Y])
                narrow(keep, g, x, y_row, gy_row, gx, rows, row_count, first, last, work, x_readable, y_readable, sums)
        else:
            _windows(one, keep, add, g, x, y_row, gy_row, gx, rows, row_count, sums)


@task_kernel
def adjacent_max_pool_grad(worker, task, geometry, buffers):
    """Set gx (buffer 4) to each output's gradient gy (3) at the first place of x (1) that holds its y (2), else 0."""
    sums = advance(buffers[0], worker * geometry[WORKSPACE])
    work, x, y, gy, gx = advance(sums, geometry[SUMS]), buffers[1], buffers[2], buffers[3], buffers[4]
    _outputs(_maximum_narrow, _maximum_window, _as_it_is, _unsummed, work, task, geometry, x, y, gy, gx, sums)


@task_kernel
def adjacent_max_pool_relu_grad(worker, task, geometry, buffers):
    """Do the same with gy where y is positive and 0 elsewhere, and sum that to row `task` of buffer 5."""
    sums, channels, lanes = advance(buffers[0], worker * geometry[WORKSPACE]), geometry[CHANNELS], lanes_of(buffers[1])
    total = advance(buffers[5], task * channels)
    work, x, y, gy, gx = advance(sums, geometry[SUMS]), buffers[1], buffers[2], buffers[3], buffers[4]
    clear(sums, geometry[SUMS])
    _outputs(_maximum_narrow, _maximum_window, _through_relu, _summed, work, task, geometry, x, y, gy, gx, sums)
    copy(total, sums, channels)
    rest = channels % lanes
    if rest > 0 and channels > lanes:
        copy(advance(total, channels - rest), advance(sums, channels + lanes - rest), rest)


@task_kernel
def adjacent_average_pool_grad(worker, task, geometry, buffers):
    """Set gx (buffer 2) to each output's gradient gy (1), divided by the positions of its window."""
    work, gy, gx = advance(buffers[0], worker * geometry[WORKSPACE]), buffers[1], buffers[2]
    _outputs(_mean_narrow, _mean_window, _as_it_is, _unsummed, work, task, geometry, gx, gy, gy, gx, work)
