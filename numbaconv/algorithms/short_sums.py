"""Which direct products have short sums, and the table of the numbers that their pixels read."""

from __future__ import annotations

import numpy as np

from numbaconv.algorithms.geometry import Record
from numbaconv.kernels import layout as at
from numbaconv.kernels.short_sums import PIXELS
from numbaconv.target import TARGET

MAX_DEPTH, MAX_RUN = 128, 48
"""Numbers of a sum, and of the longest stretch of memory among them, up to which one loop over all numbers is faster.

Sums of 192 and more take the same time within 3 % either way, stretches of 64 up to 8 % more: each number has an offset
to load, and a loop for each stretch fetches the next pixels' meanwhile.
"""


def has_short_sums(record: Record, dtype: str) -> bool:
    """Whether all channels of a pixel are best computed before the next pixels.

    So where sums are short, in more than one register of channels, and a task's part of the kernel stays in L2.
    """
    fields = record.fields
    if fields[at.OWN_PANELS] or fields[at.BESIDE] > 1 or fields[at.OUT_CHANNELS] <= TARGET.lanes(dtype):
        return False
    part = np.dtype(dtype).itemsize * fields[at.PACKED_GROUP] // fields[at.PANEL_CHUNKS]
    is_short = fields[at.RUN] <= MAX_RUN and fields[at.TAPS] * fields[at.RUN] <= MAX_DEPTH
    return is_short and part <= TARGET.l2_bytes // 4


def describe_numbers(record: Record) -> None:
    """Fill in where each number of a sum lies, from the pixel's first one, and its row of the packed kernel."""
    within = np.arange(record.fields[at.RUN])
    starts = np.array([record.tables[at.TAP_OFFSETS], record.tables[at.PACKED_TAPS]], np.int64)
    record.tables[at.NUMBERS] = (starts[:, :, None] + within).reshape(2, -1).T.ravel()


def table_size(pixels: int, dtype: str) -> int:
    """Return the elements of a worker's memory that the offsets of a block's pixels take."""
    return (2 * pixels + PIXELS) * 8 // np.dtype(dtype).itemsize
