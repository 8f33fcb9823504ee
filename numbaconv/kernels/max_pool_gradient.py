"""The gradient of maxima over windows that lie side by side: every position of the input is written once.

A task takes some outer outputs of one image. Where the channels do not fill the last register, that register is stored
whole: what goes beyond the channels lies in positions behind it, which are written afterwards. So the last register
comes first, and windows that have not so many numbers behind them in their row are stored in part.
"""

from __future__ import annotations

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.lanewise import where_maximum
from numbaconv.simd.pointers import advance, clear
from numbaconv.simd.vectors import lanes_of, load, load_first, splat, store, store_first

# Geometry. OUTER: outer outputs of an image, OUTERS of a task, PARTS: tasks of an image; X, Y: sizes of the last
# spatial axis, X_END: the part of X that windows cover, POOL and LOW: its window and padding; *_IMAGE: numbers of one
# image; BARE: where the list of BARE_COUNT rows of x under no window starts; FIRST, ROWS: the lists of rows under the
# window of each outer output (FIRST[i] to FIRST[i + 1] are the entries of output i). Rows: their first numbers.
(WORKSPACE, OUTER, OUTERS, PARTS, CHANNELS, X, X_END, Y, POOL, LOW, X_IMAGE, Y_IMAGE, BARE, BARE_COUNT, FIRST,
 ROWS) = range(16)  # fmt: skip
HEADER = 16


@inline
def _whole(x, y, gy, gx, rows, row_count, width, channels):
    """Set gx in a window to gy where x first holds y, in row-major order, and to 0 elsewhere; one full register."""
    top, remaining, zero = load(y), load(gy), splat(x, 0.0)
    for r in range(row_count):
        for w in range(width):
            offset = rows[r] + w * channels
            value = load(advance(x, offset))
            store(where_maximum(value, top, remaining, zero), advance(gx, offset))
            remaining = where_maximum(value, top, zero, remaining)


@inline
def _part(x, y, gy, gx, rows, row_count, width, channels, count):
    """Do the same for the first `count` lanes."""
    top, remaining, zero = load_first(y, count), load_first(gy, count), splat(x, 0.0)
    for r in range(row_count):
        for w in range(width):
            offset = rows[r] + w * channels
            value = load_first(advance(x, offset), count)
            store_first(where_maximum(value, top, remaining, zero), advance(gx, offset), count)
            remaining = where_maximum(value, top, zero, remaining)


@inline
def _window(x, y, gy, gx, rows, row_count, width, channels, behind):
    """Write all channels of one window, which has `behind` numbers behind it in its row."""
    lanes = lanes_of(x)
    rest = channels % lanes
    for i in range(-1 if rest else 0, channels // lanes):
        c = channels - rest if i < 0 else i * lanes
        xc, yc, gyc, gxc = advance(x, c), advance(y, c), advance(gy, c), advance(gx, c)
        if i < 0 and behind < lanes - rest:
            _part(xc, yc, gyc, gxc, rows, row_count, width, channels, rest)
        else:
            _whole(xc, yc, gyc, gxc, rows, row_count, width, channels)


@task_kernel
def adjacent_max_pool_grad(worker, task, geometry, buffers):
    """Set gx (buffer 4) to each output's gradient gy (3) at the first place of x (1) that holds its y (2), else 0."""
    g, channels = geometry, geometry[CHANNELS]
    image, first_outer = task // g[PARTS], task % g[PARTS] * g[OUTERS]
    x, gx = advance(buffers[1], image * g[X_IMAGE]), advance(buffers[4], image * g[X_IMAGE])
    if first_outer == 0:
        for i in range(g[BARE_COUNT]):
            clear(advance(gx, g[g[BARE] + i]), g[X] * channels)
    for outer in range(first_outer, min(first_outer + g[OUTERS], g[OUTER])):
        entry = g[g[FIRST] + outer]
        rows, row_count = advance(g, g[ROWS] + entry), g[g[FIRST] + outer + 1] - entry
        for r in range(row_count):
            clear(advance(gx, rows[r] + g[X_END] * channels), (g[X] - g[X_END]) * channels)
        start = image * g[Y_IMAGE] + outer * g[Y] * channels
        y, gy = advance(buffers[2], start), advance(buffers[3], start)
        for o in range(g[Y]):
            left = max(o * g[POOL] - g[LOW], 0)
            width = min((o + 1) * g[POOL] - g[LOW], g[X]) - left
            _window(
                advance(x, left * channels), advance(y, o * channels), advance(gy, o * channels),
                advance(gx, left * channels), rows, row_count, width, channels,
                (g[X_END] - left - width) * channels,
            )  # fmt: skip
