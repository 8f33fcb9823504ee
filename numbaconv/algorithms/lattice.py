"""A pass brought to the form that the kernels run: planes, rows and columns of pixels, phase by phase.

The last spatial axis becomes the columns, the one before it the rows, all others planes. Axes that a kernel size of
one leaves alone are merged with the batch: a 1x1 convolution is one row of all pixels, a 1-D convolution one image
whose rows are the batch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np

from numbaconv.algorithms.axes import AxisPhase, Positions, identity_axis, is_pointwise

MANY_COLUMNS = 28
"""With so many columns the tiles that cover a row are nearly all full."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of a phase with its strides, in elements, of the array read, the array written and the kernel."""

    phase: AxisPhase
    x_stride: int
    y_stride: int
    kernel_stride: int
    packed_stride: int  # from one tap to the next in the packed kernel, in taps

    @property
    def packed_taps(self) -> list[int]:
        """Where each tap lies in the packed kernel, in taps."""
        return [self.phase.kernel_taps.index(tap) * self.packed_stride for tap in self.phase.taps]

    @property
    def offsets(self) -> Positions:
        """Offset in the array read of each position, -1 where it is zero."""
        table = self.phase.table
        return np.where(table >= 0, table * self.x_stride, -1)

    @property
    def is_affine(self) -> bool:
        """Whether consecutive positions lie equally far apart and none is padding."""
        table = self.phase.table
        if table[0] < 0 or table[-1] < 0:
            return False
        # NumPy's `diff` and `all` as functions would take several times as long on tables of this size.
        steps = table[1:] - table[:-1]
        return bool(table.min() >= 0 and (steps == steps[:1]).all())

    @property
    def position_step(self) -> int:
        """Elements between consecutive positions of an affine axis."""
        table = self.phase.table
        return int(table[1] - table[0]) * self.x_stride if len(table) > 1 else 0


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """One phase: ``batch`` images of ``planes`` x ``rows`` x ``columns`` output pixels."""

    batch: int
    x_batch: int
    y_batch: int
    planes: tuple[Axis, ...]
    rows: Axis
    columns: Axis
    y_start: int

    @property
    def width(self) -> int:
        """Outputs side by side that a pixel stands for, as further channels."""
        return math.prod(axis.phase.width for axis in self.axes)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Planes, rows and columns."""
        return (*self.planes, self.rows, self.columns)

    @property
    def has_taps(self) -> bool:
        """Whether its outputs are sums of anything."""
        return all(axis.phase.taps for axis in self.axes)


def orientations(lattice: Lattice) -> list[Lattice]:
    """Return the lattice and, where its rows are short, forms of it whose columns are its rows or its batch.

    A register tile covers pixels along the columns, so they should be many. Which pixels are neighbours does not
    matter.
    """
    rows, columns, batch = lattice.rows, lattice.columns, lattice.batch
    forms = [lattice]
    if columns.phase.count >= MANY_COLUMNS:
        return forms
    if rows.phase.count > columns.phase.count:
        forms.append(dataclasses.replace(lattice, rows=columns, columns=rows))
    if batch > columns.phase.count:
        images = Axis(identity_axis(batch), lattice.x_batch, lattice.y_batch, 0, 0)
        forms.append(Lattice(1, 0, 0, (*lattice.planes, rows), columns, images, lattice.y_start))
    return forms


def lattices(
    batch: int,
    axes: list[list[AxisPhase]],
    x_strides: tuple[int, ...],
    y_strides: tuple[int, ...],
    kernel_strides: tuple[int, ...],
) -> list[Lattice]:
    """Return the phases of a pass.

    ``x_strides`` and ``y_strides`` are those of (batch, *spatial), in elements, of the array read and the array
    written; ``kernel_strides`` those of the kernel's spatial axes.
    """
    axes, x_strides, y_strides, kernel_strides, batch = _merge(batch, axes, x_strides, y_strides, kernel_strides)
    result = []
    for phases in itertools.product(*axes):
        packed = [math.prod(len(phase.kernel_taps) for phase in phases[a + 1 :]) for a in range(len(phases))]
        spatial = [
            Axis(phase, x, y * phase.step, k, p)
            for phase, x, y, k, p in zip(phases, x_strides[1:], y_strides[1:], kernel_strides, packed, strict=True)
        ]
        start = sum(phase.start * y for phase, y in zip(phases, y_strides[1:], strict=True))
        result.append(Lattice(batch, x_strides[0], y_strides[0], tuple(spatial[:-2]), spatial[-2], spatial[-1], start))
    return result


_Strides = tuple[int, ...]


def _merge(
    batch: int, axes: list[list[AxisPhase]], x_strides: _Strides, y_strides: _Strides, kernel_strides: _Strides
) -> tuple[list[list[AxisPhase]], _Strides, _Strides, _Strides, int]:
    """Merge the batch with the pointwise axes behind it where memory allows, and give a 1-D pass an axis of rows."""
    if len(axes) == 1:
        # The batch is the axis of rows.
        axes = [[identity_axis(batch)], *axes]
        x_strides, y_strides = (0, *x_strides), (0, *y_strides)
        kernel_strides, batch = (0, *kernel_strides), 1
    elif is_pointwise(axes[0]) and _adjoin(axes[0], 0, x_strides) and _adjoin(axes[0], 0, y_strides):
        size = axes[0][0].count
        axes = [[identity_axis(batch * size)], *axes[1:]]
        x_strides, y_strides = (0, *x_strides[1:]), (0, *y_strides[1:])
        batch = 1
    while len(axes) > 1 and batch == 1 and is_pointwise(axes[0]) and is_pointwise(axes[1]):
        if not (_adjoin(axes[1], 1, x_strides) and _adjoin(axes[1], 1, y_strides)):
            break
        axes = [[identity_axis(axes[0][0].count * axes[1][0].count)], *axes[2:]]
        x_strides, y_strides = (0, *x_strides[2:]), (0, *y_strides[2:])
        kernel_strides = kernel_strides[1:]
    if len(axes) == 1:
        axes = [[identity_axis(1)], *axes]
        x_strides, y_strides, kernel_strides = (0, *x_strides), (0, *y_strides), (0, *kernel_strides)
    return axes, x_strides, y_strides, kernel_strides, batch


def _adjoin(inner: list[AxisPhase], outer: int, strides: tuple[int, ...]) -> bool:
    """Whether the axis at ``outer`` and the one behind it step through memory as one axis."""
    return strides[outer] == inner[0].count * strides[outer + 1]
