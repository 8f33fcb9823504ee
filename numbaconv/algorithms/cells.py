"""The outputs of an input gradient by cells: what one pixel of grad_y, or a few planes of them, stands for.

A cell has the outputs of a stride along each axis, and these read the pixels of a window around its own; so each pixel
is gathered for all outputs of its cell, whatever the stride.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from numbaconv.algorithms.plan_parts import kernel_strides
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec


@lru_cache(maxsize=256)
def shifts(spec: ConvSpec, axis: int) -> list[list[tuple[int, int]]]:
    """Return for each output of a stride its taps along an axis, and of which pixel beside its own it gets them."""
    stride, dilation, start = spec.strides[axis], spec.dilation[axis], spec.padding[axis][0]
    taps = range(spec.kernel_size[axis])
    positions = [[(tap, residue + start - tap * dilation) for tap in taps] for residue in range(stride)]
    return [[(tap, at // stride) for tap, at in each if at % stride == 0] for each in positions]


def reach_of(spec: ConvSpec, axis: int = -1) -> tuple[int, int]:
    """Return how many pixels before and behind its own an output reads."""
    found = [shift for each in shifts(spec, axis) for _, shift in each]
    return max(0, -min(found)), max(0, max(found))


def cell_count(spec: ConvSpec, axis: int = -1) -> int:
    """Return the pixels that outputs are counted by: each stands for the outputs of a stride."""
    return -(-spec.in_spatial[axis] // spec.strides[axis])


@dataclass(frozen=True, slots=True)
class CellAxis:
    """An axis before the last: where its positions lie in grad_y, and where its outputs lie, a cell's at a time.

    A cell has the outputs of the strides of one position or of several neighbouring ones.
    """

    cells: int
    window: int  # positions that the outputs of a cell read
    table: tuple[int, ...]  # offset of each position of all windows, -1 where it is padding
    taps: tuple[tuple[tuple[int, int], ...], ...]  # of each output of a cell: offset in the kernel, position
    outputs: tuple[tuple[int, ...], ...]  # of each cell: the offsets of its outputs, -1 for none
    together: int = 1  # positions of a cell

    @property
    def windows(self) -> list[tuple[int, ...]]:
        """Offsets of the positions that each cell reads."""
        starts = range(0, self.cells * self.together, self.together)
        return [self.table[start : start + self.window] for start in starts]


def _axis(spec: ConvSpec, axis: int, x_stride: int, y_stride: int, kernel_stride: int, together: int) -> CellAxis:
    before, behind = reach_of(spec, axis)
    cells, outs, size = -(-cell_count(spec, axis) // together), spec.strides[axis] * together, spec.out_spatial[axis]
    positions = range(-before, cells * together + behind)
    taps = tuple(
        tuple((tap * kernel_stride, p + shift + before) for tap, shift in sorted(each, key=lambda pair: pair[1]))
        for p in range(together)
        for each in shifts(spec, axis)
    )
    outputs = tuple(
        tuple(q * y_stride if q < spec.in_spatial[axis] else -1 for q in range(cell * outs, (cell + 1) * outs))
        for cell in range(cells)
    )
    table = tuple(q * x_stride if 0 <= q < size else -1 for q in positions)
    return CellAxis(cells, before + behind + together, table, taps, outputs, together)


def _of_batch(size: int, x_stride: int, y_stride: int) -> CellAxis:
    """Return the axis that the rows of a pass with one spatial axis lie along."""
    places = range(size)
    table, outputs = tuple(n * x_stride for n in places), tuple((n * y_stride,) for n in places)
    return CellAxis(size, 1, table, (((0, 0),),), outputs)


@dataclass(frozen=True, slots=True)
class Grid:
    """A pass as ``batch`` images of planes x rows of pixels; all axes but the last two are planes."""

    batch: int
    x_batch: int
    y_batch: int
    x_column: int
    y_row: int
    planes: tuple[CellAxis, ...]
    rows: CellAxis

    @property
    def plane_count(self) -> int:
        """Planes of cells."""
        return math.prod(axis.cells for axis in self.planes)

    @property
    def plane_taps(self) -> int:
        """Planes that the outputs of a stride read."""
        return math.prod(axis.window for axis in self.planes)

    @property
    def taps(self) -> list[list[tuple[int, int, int]]]:
        """Of each row of outputs of a stride its taps: plane and row among those read, offset in the kernel."""
        found = [[(0, 0)]]
        for axis in self.planes:
            found = [
                [(plane * axis.window + at, offset + o) for plane, offset in outer for o, at in inner]
                for outer in found
                for inner in axis.taps
            ]
        return [
            [(plane, at, offset + o) for plane, offset in outer for o, at in inner]
            for outer in found
            for inner in self.rows.taps
        ]

    def plane_tables(self) -> tuple[list[int], list[int]]:
        """Return the offsets of the planes that each plane of cells reads, and of its outputs' planes, -1 for none."""
        reads, writes = [[0]], [[0]]
        for axis in self.planes:
            reads = [[_sum(a, b) for a in outer for b in inner] for outer in reads for inner in axis.windows]
            writes = [[_sum(a, b) for a in outer for b in inner] for outer in writes for inner in axis.outputs]
        return list(itertools.chain.from_iterable(reads)), list(itertools.chain.from_iterable(writes))


def _sum(first: int, second: int) -> int:
    return -1 if min(first, second) < 0 else first + second


@lru_cache(maxsize=256)
def grid_of(spec: ConvSpec, x_strides: Strides, y_strides: Strides, together: int) -> Grid:
    """Return the grid of a pass whose cells are ``together`` planes of the last axis of planes."""
    kernel, strides = kernel_strides(spec), (x_strides[0], y_strides[0], x_strides[-2])
    if spec.ndim == 1:
        return Grid(1, 0, 0, x_strides[-2], y_strides[0], (), _of_batch(spec.batch, x_strides[0], y_strides[0]))
    *planes, rows = (
        _axis(spec, a, x_strides[a + 1], y_strides[a + 1], kernel[a], together if a == spec.ndim - 3 else 1)
        for a in range(spec.ndim - 1)
    )
    return Grid(spec.batch, *strides, y_strides[-3], tuple(planes), rows)
