"""What one spatial axis asks for: which input positions the outputs read, and which taps they are multiplied by.

Every pass is a list of *phases* along each axis. Output u of a phase lies at ``start + u * step``; it reads positions
``u * stride + j * dilation`` of the axis's table for its taps j, and the table says where such a position lies in the
input (-1: zero padding). A forward pass has one phase. The input gradient of a stride s has up to s: input i gets
``grad_y[(i + lo - t * d) / s]`` from each tap t for which s divides, so inputs with the same residue of i + lo share
their taps, and for them the gradient is a stride-1 convolution with the flipped taps t0 + j * s / gcd(s, d) (Dumoulin
and Visin, arXiv:1603.07285, Relationship 14, without the zeros between).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from numbaconv.spec import ConvSpec

Positions = NDArray[np.int64]

Tap = tuple[int, ...]
"""A kernel position; several for outputs side by side, one each, with -1 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisPhase:
    """Outputs of one axis that share their taps."""

    count: int  # outputs
    start: int  # position of the first output, distance between outputs
    step: int
    stride: int  # of the compressed axis
    dilation: int
    taps: tuple[Tap, ...]  # kernel positions, in the order of their input positions
    table: Positions  # input position of each compressed position, -1 where it is zero
    kernel_taps: tuple[Tap, ...]  # all taps of the phase that this one was cut from: the packed kernel's rows
    origin: int = 0  # input position that table[0] stands for, be it padding or not
    width: int = 1  # outputs side by side that one output stands for

    @property
    def reach(self) -> int:
        """Compressed positions that one output spans."""
        return (len(self.taps) - 1) * self.dilation + 1 if self.taps else 0


def source_positions(positions: Positions, size: int, mode: str) -> Positions:
    """Return where padding takes its values from, -1 for zero."""
    if mode == "zeros":
        return np.where((positions >= 0) & (positions < size), positions, -1)
    if mode == "replicate":
        return np.clip(positions, 0, size - 1)
    if mode == "circular":
        return positions % size
    period = max(2 * (size - 1), 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def forward_axis(size: int, out: int, taps: int, stride: int, dilation: int, lo: int, mode: str) -> AxisPhase:
    """Return the single phase of a forward pass along one axis."""
    if taps == 1:
        dilation = stride
    unit = gcd(stride, dilation)
    positions = ((out - 1) * stride + (taps - 1) * dilation) // unit + 1
    table = source_positions(np.arange(positions) * unit - lo, size, mode)
    order = tuple((t,) for t in range(taps))
    return AxisPhase(out, 0, 1, stride // unit, dilation // unit, order, table, order, -lo)


def input_grad_axis(size: int, out: int, taps: int, stride: int, dilation: int, lo: int) -> list[AxisPhase]:
    """Return the phases of an input gradient along one axis (zero padding)."""
    unit = gcd(stride, dilation)
    phases = []
    for start in range(min(stride, size)):
        count = (size - start + stride - 1) // stride
        period = min(stride // unit, taps)
        hits = [t for t in range(period) if (start + lo - t * dilation) % stride == 0]
        hits = [t for first in hits for t in range(first, taps, stride // unit)]
        if not hits:
            phases.append(AxisPhase(count, start, stride, 1, 1, (), np.full(count, -1), ()))
            continue
        apart = dilation // unit if len(hits) > 1 else 1
        first = (start + lo - hits[-1] * dilation) // stride
        positions = count + (len(hits) - 1) * apart
        table = source_positions(np.arange(first, first + positions), out, "zeros")
        flipped = tuple((t,) for t in reversed(hits))
        phases.append(AxisPhase(count, start, stride, 1, apart, flipped, table, flipped, first))
    return phases


def pass_axes(spec: ConvSpec, direction: str, keep_dilation: bool = False) -> list[list[AxisPhase]]:
    """Return the phases of every axis for ``"forward"`` (also the kernel gradient's reads) or ``"input_grad"``.

    Along the rows a dilation d becomes d interleaved phases without one, so that a block gathers no row that it skips,
    unless ``keep_dilation``.
    """
    axes = []
    for a in range(spec.ndim):
        size, out, taps = spec.in_spatial[a], spec.out_spatial[a], spec.kernel_size[a]
        stride, dilation, lo = spec.strides[a], spec.dilation[a], spec.padding[a][0]
        if direction == "forward":
            phases = [forward_axis(size, out, taps, stride, dilation, lo, spec.padding_mode[a])]
        else:
            phases = input_grad_axis(size, out, taps, stride, dilation, lo)
        if a == spec.ndim - 2 and not keep_dilation:
            phases = [part for phase in phases for part in without_dilation(phase)]
        axes.append(phases)
    return axes


def interleaved(phase: AxisPhase, parts: int) -> list[AxisPhase]:
    """Return a phase as ``parts`` phases, each with every parts-th output."""
    phases = []
    for first in range(parts):
        count = -(-(phase.count - first) // parts)
        begin, positions = first * phase.stride, (count - 1) * phase.stride * parts + phase.reach
        phases.append(
            dataclasses.replace(
                phase,
                count=count,
                start=phase.start + first * phase.step,
                step=phase.step * parts,
                stride=phase.stride * parts,
                table=phase.table[begin : begin + positions],
                origin=phase.origin + begin,
            )
        )
    return phases


def widened(phases: list[AxisPhase], size: int, mode: str) -> list[AxisPhase]:
    """Return phases whose outputs lie side by side as one, and what is left of those with one output more.

    The joint phase has the taps of all of them: at each input position, one for every output, or none.
    """
    count = min(phase.count for phase in phases)
    with_taps = [phase for phase in phases if phase.taps]
    if count == 0 or not with_taps:
        return phases
    first = min(phase.origin for phase in with_taps)
    reach = max(phase.origin + len(phase.taps) for phase in with_taps) - first
    taps = tuple(sum((_tap_at(phase, first + j) for phase in phases), ()) for j in range(reach))
    stride = with_taps[0].stride
    table = source_positions(np.arange(first, first + (count - 1) * stride + reach), size, mode)
    start, step = phases[0].start, phases[0].step
    joint = AxisPhase(count, start, step, stride, 1, taps, table, taps, first, sum(phase.width for phase in phases))
    return [joint] + [_section(phase, count, phase.count) for phase in phases if phase.count > count]


def _tap_at(phase: AxisPhase, position: int) -> Tap:
    """Return the tap by which the phase's first output reads an input position, -1 for none."""
    j = position - phase.origin
    return phase.taps[j] if 0 <= j < len(phase.taps) else (-1,) * phase.width


def without_dilation(phase: AxisPhase) -> list[AxisPhase]:
    """Return a dilated phase as interleaved phases of dilation 1, each with every dilation-th output."""
    dilation = phase.dilation
    if len(phase.taps) < 2 or dilation == 1:
        return [phase]
    parts = []
    for first in range(min(dilation, phase.count)):
        count = -(-(phase.count - first) // dilation)
        positions = (count - 1) * phase.stride + len(phase.taps)
        table = phase.table[first * phase.stride :: dilation][:positions]
        start = phase.start + first * phase.step
        step = phase.step * dilation
        parts.append(
            AxisPhase(count, start, step, phase.stride, 1, phase.taps, table, phase.kernel_taps, width=phase.width)
        )
    return parts


def without_padding(phase: AxisPhase, singly: bool) -> list[AxisPhase]:
    """Return a phase cut into outputs that read no padding and the borders before and behind them.

    Taps that read nothing but zeros are dropped, so a border output taken ``singly`` reads no padding either.
    """
    table, reach = phase.table, phase.reach
    inside = np.flatnonzero(table >= 0)
    if not phase.taps or not inside.size:
        return [phase]
    first = int(inside[0])
    steps = table[first + 1 :] - table[first:-1]
    # The stretch ends where a position is padding or lies elsewhere than its neighbours' step says.
    breaks = np.flatnonzero((table[first + 1 :] < 0) | (steps != steps[:1]))
    last = first + int(breaks[0]) if breaks.size else len(table) - 1
    begin = min(-(-first // phase.stride), phase.count)
    end = min(max((last + 1 - reach) // phase.stride + 1, begin), phase.count)
    borders = [*range(begin), *range(end, phase.count)] if singly else [0, end]
    cuts = sorted({0, begin, end, phase.count, *borders})
    return [_section(phase, a, b) for a, b in itertools.pairwise(cuts)]


def _section(phase: AxisPhase, first: int, last: int) -> AxisPhase:
    """Return outputs [first, last) of a phase, without the taps at either end that read only zeros."""
    outputs = np.arange(first, last)[:, None] * phase.stride
    reads = (phase.table[outputs + np.arange(len(phase.taps)) * phase.dilation] >= 0).any(axis=0)
    start = phase.start + first * phase.step
    used = np.flatnonzero(reads)
    if not used.size:
        nothing = np.full(last - first, -1)
        return AxisPhase(last - first, start, phase.step, 1, 1, (), nothing, phase.kernel_taps, width=phase.width)
    a, b = int(used[0]), int(used[-1]) + 1
    begin = first * phase.stride + a * phase.dilation
    table = phase.table[begin : (last - 1) * phase.stride + (b - 1) * phase.dilation + 1]
    taps = phase.taps[a:b]
    stride, dilation = phase.stride, phase.dilation
    if last - first == 1 and dilation > 1:
        # One output reads only its taps' positions.
        table, dilation = table[::dilation], 1
    return AxisPhase(
        last - first, start, phase.step, stride, dilation, taps, table, phase.kernel_taps, width=phase.width
    )


def identity_axis(size: int) -> AxisPhase:
    """Return an axis whose outputs read the input of the same position: a batch taken as an axis."""
    return AxisPhase(size, 0, 1, 1, 1, ((0,),), np.arange(size), ((0,),))


def is_pointwise(axis: list[AxisPhase]) -> bool:
    """Whether outputs along the axis read the input of the same position, all of it."""
    if len(axis) != 1:
        return False
    phase = axis[0]
    return phase.step == 1 and phase.kernel_taps == ((0,),) and np.array_equal(phase.table, np.arange(phase.count))
