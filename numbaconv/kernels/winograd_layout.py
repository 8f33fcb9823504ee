"""The geometry array of the Winograd kernels: their phase records.

The header is that of `numbaconv.kernels.layout`. A *tile* is the outputs of one transform: ROW_OUTPUTS x COLUMN_OUTPUTS
of them, from ROW_POINTS x COLUMN_POINTS inputs. An axis with one point is not transformed. Tall tiles have eight points
along the rows (`numbaconv.kernels.winograd_tall`). Other tiles that are the last along an axis may have fewer outputs,
and then they have fewer points, the first ones, and no products at the others. Tiles are numbered through columns,
rows, planes and images, four kinds of them in turn: those last along the columns alone, whole ones, those last along
the rows alone, those last along both. So the tiles that have a point follow one another. A block is BLOCK_TILES
consecutive ones. The taps of all other axes, *plane taps*, are summed over like channels, and so are parts of more taps
along an axis than a transform takes: depth = summed taps * channels.

Where RUN_PLANES is more than 0, planes are numbered first, and a block lies within a *run* of so many. Its tiles read
planes that follow one another. Each is transformed once, to a row of its own, so that all that a tile reads, depth
numbers, begins one row behind what the tile before it reads.

Buffers of a worker: transformed input (points, tiles, INPUT_ROW), products of one panel (points, tiles, panel width),
then scratch. A plane of points is padded by PLANE_PADDING numbers, so that
planes do not share cache sets.
Transformed kernel: for each panel (points, depth, panel width), the planes padded alike.
"""

from __future__ import annotations

# Phase record; FIRST_TASK is where `numbaconv.kernels.layout` has it.
FIRST_TASK = 0
TILES = 1
BLOCK_TILES = 2
GROUPS = 3
PANELS = 4
PANEL_CHUNKS = 5
PANELS_PER_CHUNK = 6
TILE_ROWS = 7
TILE_COLUMNS = 8
PLANES = 9
OUT_ROWS = 10
OUT_COLUMNS = 11
X_BATCH = 12  # strides of the array read
X_GROUP = 13
X_CHANNEL = 14
PLANE_TAPS = 15
PLANE_TABLE = 16  # offset of the input of each (plane, plane tap), -1 for padding
ROW_TABLE = 17  # offset of each position of the rows, -1 for padding
COLUMN_TABLE = 18
ROW_STEP = 19  # from one position to the next where none is padding
COLUMN_STEP = 20
CHANNELS = 21
ROW_POINTS = 22
COLUMN_POINTS = 23
ROW_OUTPUTS = 24
COLUMN_OUTPUTS = 25
ROW_TAPS = 26
COLUMN_TAPS = 27
DEPTH = 28
INPUT_ROW = 29  # numbers from one tile to the next in a plane of transformed input
INPUT_PLANE = 30
PRODUCT_PLANE = 31
PRODUCTS = 32  # offset in a worker's workspace of the products
SCRATCH = 33
GATHERED = 34  # numbers of a pixel of a tile gathered into the scratch
Y_BATCH = 35
Y_GROUP = 36
Y_PLANES = 37
Y_ROW = 38
Y_PIXEL = 39
OUT_CHANNELS = 40
PACKED = 41  # offset of the phase in the transformed kernel
PACKED_GROUP = 42
WIDE_COVER = 43  # position of the positions of the register tiles that cover so many tiles
NARROW_COVER = 44
WIDE_FULL = 45  # kernel gradient: position of the register tiles that cover the depth
NARROW_FULL = 46
BIAS_GROUP = 47
KERNEL_TAPS = 48  # offset in the kernel of each (summed tap, row tap, column tap), -1 where there is none
KERNEL_GROUP = 49
KERNEL_CHANNEL = 50
KERNEL_COLUMN = 51
CHANNEL_CHUNKS = 52
KERNEL_PLANE = 53  # numbers from one point to the next in a panel of the transformed kernel
PACKED_PANEL = 54
OWN_KERNEL = 56  # offset in a worker's workspace where it transforms the kernel itself, panel by panel; 0: it does not
KERNEL_ROW = 55  # kernel gradient: from one tap to the next along the rows; KERNEL_COLUMN: along the columns
PAST_CACHES = 57  # whether panels, all of them whole cache lines, are stored past the caches
SUMMED_TAPS = 58  # plane taps x parts of rows x parts of columns
ROW_PARTS = 59  # parts of ROW_TAPS taps that a kernel's taps along an axis are dealt into
COLUMN_PARTS = 60
FULL_ROWS = 61  # rows of tiles that have all points
FULL_COLUMNS = 62
LAST_ROW_POINTS = 63  # points of the tiles behind these
LAST_COLUMN_POINTS = 64
KINDS = 65  # position of the numbers of the tiles behind those of the first three kinds
GATHERED_ROWS = 66  # position of the offsets of the pixels of a gathered tile
GATHERED_COLUMNS = 67
X_SIZE = 68  # numbers of the array read, from its first to its last in memory
UNIT_TILES = 70  # kernel gradient: register tiles of a unit, 0 where sums go to memory (`winograd_gradient`)
INPUT_AT = 71  # offset in a worker's workspace of a phase's transformed input; phases in one block have their own
UNIT_SUMS = 72  # offset of a unit's sums
UNIT_PLANE = 73  # numbers from one point to the next in a unit's sums
POINT_TILES = 69  # position of the first tile that has a point, and the one behind the last, for each point
CURSOR = 74  # kernel gradient: offset of the cursor of `winograd_ahead`
JOINED = 75  # phases that are one block together, this one and the records before it; kernel gradient: how many are
IS_PRECISE = 76  # whether the kernel is transformed in float64
KEPT_KERNEL = 77  # number of the kernel's state, from 1 on, where workers keep it; 0: they do not
STATE_STEP = 78  # states of a worker
RUN_PLANES = 79  # planes whose tiles follow one another, 0 where columns are the innermost
TILE_AHEAD = 80  # from what a tile reads to what the next one does that it does not
KEPT_SIZE = 81  # numbers of what a worker keeps
COPY_AT = 82  # numbers from a transformed kernel to the copy of what it was made of; 0: there is none
KERNEL_SIZE = 83  # numbers of that

PLANE_PADDING = 16

KERNEL_CHANNELS = 16
"""Input channels whose taps are transformed together: one cache line of the kernel where channels are contiguous."""
