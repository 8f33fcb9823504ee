"""Where the tiles of a Winograd phase lie, which points they have, and their input fetched ahead."""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels import winograd_layout as at
from numbaconv.simd.pointers import advance, prefetch
from numbaconv.target import CACHE_LINE


@inline
def tiles_of_block(record, first):
    """Return how many tiles the block has that begins with tile `first` of a phase."""
    return min(record[at.BLOCK_TILES], record[at.TILES] - first)


@inline
def tile_position(record, tile):
    """Return image, plane, tile row and tile column of a tile."""
    ends, row, column = advance(record, record[at.KINDS]), 0, 0
    rows, columns = record[at.FULL_ROWS], record[at.FULL_COLUMNS]
    if tile < ends[0] or tile >= ends[2]:
        column, columns = columns, 1
    if tile >= ends[1]:
        row, rows = rows, 1
    if tile >= ends[0]:
        tile -= ends[2] if tile >= ends[2] else ends[1] if tile >= ends[1] else ends[0]
    plane, planes = 0, record[at.RUN_PLANES]
    if planes > 0:
        plane, tile = tile % planes, tile // planes
    column, tile = column + tile % columns, tile // columns
    row, tile = row + tile % rows, tile // rows
    if planes == 0:
        plane, tile = tile % record[at.PLANES], tile // record[at.PLANES]
    return tile, plane, row, column


@inline
def next_position(record, tile, position):
    """Return the position of a tile from that of the one before it; divisions only where a row of whole tiles ends."""
    image, plane, row, column = position
    if record[at.RUN_PLANES] > 0:
        if plane + 1 < record[at.RUN_PLANES]:
            return image, plane + 1, row, column
    elif column + 1 < record[at.FULL_COLUMNS]:
        return image, plane, row, column + 1
    return tile_position(record, tile)


@inline
def is_next(record, position, before):
    """Whether a tile reads what the one before it fetches: that of the next plane of a run, or the next column."""
    _, plane, row, column = before
    if record[at.RUN_PLANES] > 0:
        return position[1] == plane + 1 and position[2] == row and position[3] == column
    return position[2] == row and position[3] == column + 1


@inline
def tile_points(record, row, column):
    """Return how many points along the rows and along the columns a tile has."""
    row_points, column_points = record[at.ROW_POINTS], record[at.COLUMN_POINTS]
    if row >= record[at.FULL_ROWS]:
        row_points = record[at.LAST_ROW_POINTS]
    if column >= record[at.FULL_COLUMNS]:
        column_points = record[at.LAST_COLUMN_POINTS]
    return row_points, column_points


@inline
def tiles_with(record, point, first, tiles):
    """Return the part of a block's tiles that have a point: the first one, counted from the block's, and how many."""
    range_of_point = advance(record, record[at.POINT_TILES] + 2 * point)
    begin, end = max(range_of_point[0] - first, 0), min(range_of_point[1] - first, tiles)
    return begin, max(end - begin, 0)


@inline
def fetch_tile(record, x, position, first_tap):
    """Ask for the input of a tile from a plane tap on.

    The tables of its rows and columns tell which pixels are padding, -1.
    """
    image, plane, row, column = position
    rows = advance(record, record[at.ROW_TABLE] + row * record[at.ROW_OUTPUTS])
    columns = advance(record, record[at.COLUMN_TABLE] + column * record[at.COLUMN_OUTPUTS])
    planes = advance(record, record[at.PLANE_TABLE] + plane * record[at.PLANE_TAPS])
    for tap in range(first_tap, record[at.PLANE_TAPS]):
        for i in range(record[at.ROW_POINTS] if planes[tap] >= 0 else 0):
            for j in range(record[at.COLUMN_POINTS] if rows[i] >= 0 else 0):
                if columns[j] >= 0:
                    pixel = advance(x, image * record[at.X_BATCH] + planes[tap] + rows[i] + columns[j])
                    for channel in range(0, record[at.CHANNELS], CACHE_LINE // 4):
                        prefetch(advance(pixel, channel))


@inline
def tile_of_grad(record, position):
    """Return the offset of a tile of grad_y, and its rows and columns inside the image."""
    image, plane, row, column = position
    row, column = row * record[at.ROW_OUTPUTS], column * record[at.COLUMN_OUTPUTS]
    offset = image * record[at.Y_BATCH] + record[record[at.Y_PLANES] + plane]
    rows = min(record[at.ROW_OUTPUTS], record[at.OUT_ROWS] - row)
    columns = min(record[at.COLUMN_OUTPUTS], record[at.OUT_COLUMNS] - column)
    return offset + row * record[at.Y_ROW] + column * record[at.Y_PIXEL], rows, columns
