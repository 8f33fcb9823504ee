"""The geometry array: every run-time number of a call, as the kernels read it.

One int64 array holds a header, one record for each phase (a forward convolution has one; an input gradient with
stride s has s per axis) and the tables that the records point to by position. All offsets and strides are in
elements.

The input of a phase is seen through *rows* and *columns* (the last two spatial axes) and *planes* (all axes before
them, flattened). Along each axis a table says where position q of the padded, compressed axis lies in the input, or
-1 where it is zero padding. Compression divides by the greatest common divisor of stride and dilation, so positions
that no tap touches are never copied. Block = the output rows x columns that one task computes; reach = the extent of
the taps along an axis.
"""

from __future__ import annotations

# Header.
WORKSPACE = 0  # elements of workspace per worker
PHASES = 1
RECORDS = 2  # position of the first phase record
BOUNCE = 3  # offset in a worker's workspace of a register-tile-sized buffer
CHUNKS = 4  # kernel gradient: pixel chunks, each with a private sum
BLOCKS = 5  # kernel gradient: blocks (batch x planes x row blocks x column blocks)
SECOND = 6  # offset in a worker's workspace of a second buffer: waiting sums, packed grad_y or packed taps
GRADIENT_SIZE = 7  # kernel gradient: elements of one sum
RUNS = 8  # depthwise: offset in a worker's workspace of the rows of the kernel that meet the input
STRIP = 9  # depthwise: rows of outputs that a phase makes in turn
OWN_KERNEL = 10  # offset in a worker's workspace of the taps that it packs for itself
SUMS = 11  # kernel gradient: offset in a worker's workspace of the sums of a task where pixels are one chunk
PAST_CACHES = 12  # 1: an aligned output, all whole cache lines, is stored past the caches
THIRD = 13  # kernel gradient: offset in a worker's workspace of the packed rows of a tile
FIRST_STORED = 14  # kernel gradient: 1: sums of whole panels begin with the products of a task's first block
SUMS_WRITTEN = 15  # kernel gradient: 1: these sums are those of all pixels and lie in the gradient itself
KEPT_KERNEL = 16  # numbers of the packed kernel that each worker keeps for itself, 0 where all share one
KEPT_STATES = 17  # states of its panels, likewise
HEADER_SIZE = 18

# Phase record.
FIRST_TASK = 0
BATCH = 1  # images
PLANES = 2  # output planes
ROW_BLOCKS = 3
COLUMN_BLOCKS = 4
GROUPS = 5
PANEL_CHUNKS = 6  # a panel is the output channels of one register tile
BLOCK_ROWS = 7
BLOCK_COLUMNS = 8
OUT_ROWS = 9
OUT_COLUMNS = 10
X_BATCH = 11  # strides of the array read
X_GROUP = 12
X_CHANNEL = 13
IN_PLACE = 14  # 1: the taps are read where the input lies; 0: from a gathered block
PLANE_TAPS = 15
PLANE_TABLE = 16  # (planes, plane taps) offsets of input planes
ROW_TABLE = 17  # offsets of input rows
COLUMN_TABLE = 18  # offsets of input pixels
COLUMN_FIRST = 19  # [first, last): columns that lie column_step apart in the input
COLUMN_LAST = 20
COLUMN_STEP = 21
CHANNELS = 22  # input channels of a group, as gathered
ROW_STEP = 23  # compressed stride
ROW_REACH = 24
COLUMN_REACH = 25
TAP_ROWS = 26  # gathered rows of a plane in a full block
TAP_COLUMNS = 27  # gathered columns in a full block
TAPS = 28  # runs of contiguous numbers that a pixel needs
RUN = 29  # length of such a run: kernel_width * channels, or channels where the columns are dilated
TAP_OFFSETS = 30  # position of the offset of each run from a pixel's first number
PIXEL_STRIDE = 31  # from an output pixel to the next, in the gathered block or in the input
ROW_STRIDE = 32
COLUMN_BASE = 33  # compressed stride of the columns
Y_BATCH = 34  # strides of the output
Y_GROUP = 35
Y_PLANES = 36  # position of the offset of each output plane
Y_ROW = 37
Y_PIXEL = 38
OUT_CHANNELS = 39  # of a group
PANELS = 40
PANELS_PER_CHUNK = 41
PACKED = 42  # offset of the phase in the packed kernel
PACKED_GROUP = 43
STATES = 44  # position in the states array of the phase's first panel
KERNEL_TAPS = (
    45  # position of the offset in the kernel of each tap (direct: of each tap of the packed kernel, BESIDE of
)
# them, -1 for none)
KERNEL_GROUP = 46  # strides of the kernel as it is read for this phase
PACKED_TAPS = 47  # position of the row of the packed kernel, or of the gradient, where each run begins
KERNEL_CHANNEL = 48
KERNEL_COLUMN = 49
KERNEL_TAP_COUNT = 50  # taps of the packed kernel, or of the gradient
BIAS_GROUP = 51  # stride of the groups of the padded bias
WIDE_FULL = 52  # position of the count and the sizes of the tiles that cover a full block's columns, two vectors wide
WIDE_LAST = 53  # the same for the last column block
NARROW_FULL = 54
NARROW_LAST = 55
REPEAT = 56  # depthwise: output channels per input channel (gathered channels are repeated)
TAPS_PER_PASS = 57  # taps whose part of a panel fits in L2 beside the input
IMAGES = 58  # images of a block
IMAGE_STRIDE = 59  # between the images of a block, gathered or in the input
BATCH_BLOCKS = 60
CHANNEL_CHUNKS = 61  # kernel gradient: parts of the input channels of a group, each CHANNELS wide
GRADIENT_STRIDE = 63  # planar kernel gradient: between the taps of a tile in the gradient
GRADIENT_CHANNELS = 65  # kernel gradient: rows of a tap
BIAS_START = 66  # of the phase's padded bias
BESIDE = 67  # outputs side by side that a pixel stands for, as further channels
PIXEL_PITCH = 68  # from a gathered pixel to the next, at least CHANNELS
PANELS_TOGETHER = 69  # kernel gradient: panels of grad_y packed in one sweep
AHEAD_STEP = 70  # kernel gradient: numbers of the next block fetched with each pixel of a tile's visit
SEGMENTS = 71  # stretches of the output that a pixel's channels are written to
SEGMENT_TABLE = 72  # position of their offsets from the pixel's first number
# Depthwise products, whose tasks take every phase of a block of rows.
TASK_PLANES = 73  # output planes that tasks are counted by: the most of any phase
ROW_TAPS = 74
ROW_TAP_STEP = 75  # positions from one tap to the next
COLUMN_TAPS = 76
COLUMN_TAP_STEP = 77
COLUMN_PARTS = 78  # stretches of output columns that have the same taps
PART_TABLE = 79  # position of PART_SIZE numbers for each: see `numbaconv.kernels.depthwise`
PACKS = 80  # 1: the phase packs its taps; 0: another phase with the same ones does
COLUMN_OFFSETS = 81  # position of the offsets of the columns' positions in the input or the gathered block
AHEAD_TABLE = 82  # position of offsets in input and output to fetch ahead with each register of a tile's channels
RUN_STRIDE = 83  # planar: from a number of a run to the next, in the gathered planes
OWN_PANELS = 84  # where all outputs are one block: panels of which its worker packs a tap where it uses it; else 0
GRAD_PITCH = 85  # planar kernel gradient: from a plane of grad_y to the next
GRAD_IN_PLACE = 86  # kernel gradient: 1: grad_y is read where it lies; 0: from packed panels
SUMMED = 87  # depthwise: input channels that an output sums, those of a group of as many output channels
KERNEL_WITHIN = 88  # output channel o has offset o // within * KERNEL_GROUP + o % within * KERNEL_COLUMN in the kernel
FIRST_TILE = 89  # number of the first of the tiles for groups of this size
OUT_PITCH = 90  # planar: from a plane of a row of outputs to the next, before they go to the output
MET_COLUMNS = 91  # position of first and behind last column of a block that each tap does not meet in padding alone
# Folded products: a row of outputs from the products of a row of pixels.
FOLD_TAPS = 92  # taps of a kernel row
FOLD_CHANNELS = 93
FOLD_STRIDE = 94
FOLD_START = 95  # padding before the row: output q is position q + start of the padded row
FOLD_COLUMNS = 96
FOLD_PITCH = 97  # from the products of a pixel to those of the next
FOLD_BEFORE = 98  # pixels of zeros before and behind a row
FOLD_BEHIND = 99
TOGETHER = 100  # phases up to this one whose blocks of one number are one task: they read the same pixels
NUMBERS = 101  # short sums: position of the offset and the packed kernel's row of each number that a pixel reads
VISITS = 102  # depthwise kernel gradient: tiles that cover the kernel, for one register of channels
VISIT_TABLE = 103  # position of VISIT_SIZE numbers for each
# Folded planes: the products of a row's pixels lie as planes, one for each number of a kernel row.
FOLD_NUMBERS = 104  # channels of the outputs of one stride, which a pixel of grad_y stands for
FOLD_OFFSETS = 105  # position of the products' offsets from a pixel's, those of a number after those of the one before
FOLD_FIRST = 106  # position of the first offset of each of these numbers, and of the end
FOLD_PIXELS = 107  # pixels of a row of grad_y
FOLD_PLANES = 108  # planes of outputs of a stride
FOLD_ROWS = 109  # rows of outputs of a stride
FOLD_Y_ROWS = 110  # rows of outputs in all
TAP_FIRST = 111  # position of the first tap of each row of outputs of a stride, and of the end
PLANE_OF_TAP = 112  # position of each tap's plane and row, counted from the first ones that such a row reads
ROW_OF_TAP = 113
# Depthwise strips of some rows of outputs.
STRIP_TAPS = 114  # taps that a tile takes together, 0 for square kernels, -1: there are no strips
STRIP_GROUPS = 115  # groups of so many taps in a row of the kernel
STRIP_ENTRIES = 116  # numbers listed for each plane of taps
STRIP_AHEAD = 117  # 1: input and output of the next tiles are fetched ahead
STRIP_ROWS = 118  # rows of most strips
# Folded products where the rows of the kernel are folded as well; else a window of one row, as all taps are summed.
FOLD_WINDOW = 119  # rows of pixels that the outputs of a stride read
FOLD_SLOT = 120  # from the products of a row of pixels to those of the next
FOLD_TABLE = 121  # position of the offsets of these rows in the block's input, -1 for padding
FOLD_TABLE_STEP = 122  # numbers in it from the first row of a block to that of the next: 1 or, for all the same, 0
FOLD_CELLS = 123  # outputs of a stride in a row
FOLD_JOINED = 124  # folded planes: from a row of pixels to the next where those of a block are one; else 0
# Kernel gradient, tiles of pieces of the taps' runs.
PIECE_TILES = 125  # position of the count and the sizes of the tiles that cover all taps, 0 tiles: each tap has its own
PIECE_OFFSETS = 126  # position of the offset of each piece from a pixel's first number
EXCHANGED = 127  # kernel gradient: 1: rows of its tiles are output channels, columns numbers of a run
SUMS_SIZE = 128  # kernel gradient: numbers of a panel's sums in one task
ROWS_PACKED = 129  # kernel gradient: 1: the numbers of a tile's rows are packed, and all panels pass over them
FOLD_STRAYS = 130  # joined rows: position of the first product of a row that is none of an output's, and of the end
FOLD_WHOLE = 131  # joined rows: 1: their outputs follow one another in memory
LANES_SUMMED = 132  # depthwise: neighbouring channels of the products that an output channel is the sum of
STREAMED = 133  # depthwise kernel gradient: taps of its row where all channels of a few pixels are taken together, or 0
GROUPS_TOGETHER = 134  # groups of a task
FIRST_STRIP = 135  # depthwise: number of the first of the strips' tiles for groups of this size
ROWS_AHEAD = 136  # kernel gradient: 1: packed rows lie in place, and each tile fetches those of the next one
ROWS_ALIKE = 137  # depthwise: position of how many rows of outputs from each on read the same taps, ROW_STRIDE apart
RECORD_SIZE = 138

PART_FIRST = 0  # first output column
PART_LAST = 1  # the one behind the last
PART_TAP = 2  # first tap that reads the input
PART_TAPS = 3
PART_WINDOW = 4  # outputs' stride in pixels where neighbouring taps read neighbouring pixels, else 0
PART_ROWS = 5  # outputs of the tiles that cover it
PART_SIZE = 6

VISIT_TILE = 0  # number of the tile
VISIT_ROW = 1  # first row of the kernel, of all planes
VISIT_ROWS = 2
VISIT_TAP = 3  # first tap of these rows
VISIT_SIZE = 4

# Buffers.
WORK_BUFFER = 0
X = 1
KERNEL = 2
PACKED_KERNEL = 3
BIAS = 4  # BIAS_HEADER numbers, of which the first is the lower bound of the activation, then the padded bias
Y = 5
COUNTERS = 6  # int64: state of each packed panel, or finished chunks

BIAS_HEADER = 16
