"""Register tiles that multiply the same numbers by an input shifted tap by tap: sums over pixels, lane by lane."""

from __future__ import annotations

import itertools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import are_literals

SPREAD_TOGETHER = 4
"""Channels of a group that are spread before the products with them: each needs a register until then."""

_OFFSETS = types.CPointer(types.int64)


def spread(b, vector, numbers, group: int, channel: int):
    """Return the register in whose lanes stands a ``channel`` of the lane's group."""
    if group == 1:
        return numbers
    mask = [(lane - lane % group + channel) % vector.lanes for lane in range(vector.lanes)]
    return b.shuffle_vector(numbers, numbers, ir.Constant(ir.VectorType(emit.I32, vector.lanes), mask))


class Rows:
    """The rows of input that a tile reads, with zeros at the positions outside of it where it ``checks``.

    ``rows`` of them have offsets ``pitch`` apart, those of ``more`` follow the last one's.
    """

    def __init__(self, b, x, offsets, pitch, begin, end, zeros, rows: int, checks: bool, more: int = 0) -> None:
        self.b, self.begin, self.zeros, self.checks = b, begin, zeros, checks
        places = [b.mul(pitch, emit.index(i)) for i in range(rows)]
        places += [b.add(places[-1], emit.index(r + 1)) for r in range(more)]
        starts = [b.load(b.gep(offsets, [place])) for place in places]
        span, nothing = b.sub(end, begin), emit.index(0)
        self.starts = [b.gep(x, [start]) for start in starts]
        self.spans = [b.select(b.icmp_signed("<", start, nothing), nothing, span) for start in starts]

    def load(self, vector, row: int, position, offset):
        """Load from ``offset`` behind the row's start, where ``position`` is inside."""
        return emit.load(self.b, vector, self.place(row, position, offset))

    def place(self, row: int, position, offset):
        """Return where `load` reads."""
        b, address = self.b, self.b.gep(self.starts[row], [offset])
        if not self.checks:
            return address
        inside = b.icmp_unsigned("<", b.sub(position, self.begin), self.spans[row])
        return b.select(inside, address, self.zeros)


@intrinsic(prefer_literal=True)
def tile_fma_shifted(
    typingctx, acc, x, offsets, pitch, begin, end, zeros, pixel, tap_step, row, row_pitch, row_stride, strip, pixels,
    step, taps, group, checks,
):  # fmt: skip
    """Return ``acc[i, t, g] + sum over r < strip, p < pixels of x_(i + r)[p * step + t * tap_step, g] * row_r[p]``.

    x_i lies ``offsets[i * pitch]`` behind x, those after the last i's as many numbers behind x as follow its offset;
    their positions are ``pixel`` numbers apart; those outside [begin, end), and all where the offset is negative, are
    read from ``zeros`` if it ``checks`` for them. x_i[q, g] has in each lane the number of channel g of the ``group``
    neighbouring lanes that the lane belongs to. With several pixels ``tap_step`` is 1. row_r[p] is
    ``row[r * row_pitch + p * row_stride]``.
    """
    if not are_literals(strip, pixels, step, taps, group, checks):
        return None
    deep, many, move, count, size, tests = (each.literal_value for each in (strip, pixels, step, taps, group, checks))

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, x, offsets, pitch, begin, end, zeros, pixel, tap_step, row, row_pitch, row_stride, *_ = args
        kernel_rows = tile.rows // (count * size)
        reads = Rows(b, x, offsets, pitch, begin, end, zeros, kernel_rows, bool(tests), deep - 1)
        lines = [b.gep(row, [b.mul(row_pitch, emit.index(r))]) for r in range(deep)]
        factors = [
            [emit.load(b, tile.vector, b.gep(line, [b.mul(row_stride, emit.index(p))])) for p in range(many)]
            for line in lines
        ]
        for shift in range((many - 1) * move + count):
            position = b.mul(tap_step, emit.index(shift)) if many == 1 else emit.index(shift)
            readers = [(p, shift - p * move) for p in range(many) if 0 <= shift - p * move < count]
            offset = b.mul(position, pixel)
            for at_row in range(kernel_rows + deep - 1 if readers else 0):
                loaded = reads.load(tile.vector, at_row, position, offset)
                pairs = [(r, at_row - r) for r in range(deep) if 0 <= at_row - r < kernel_rows]
                for some in (range(g, min(g + SPREAD_TOGETHER, size)) for g in range(0, size, SPREAD_TOGETHER)):
                    spreads = {g: spread(b, tile.vector, loaded, size, g) for g in some}
                    totals = {}
                    for (r, i), (p, t), g in itertools.product(pairs, readers, some):
                        cell = (i * count + t) * size + g
                        totals[cell] = emit.fma(b, tile.vector, spreads[g], factors[r][p], b.extract_value(acc, cell))
                    for cell, total in zip(totals, emit.keep_here(b, list(totals.values())), strict=True):
                        acc = b.insert_value(acc, total, cell)
        return acc

    number = types.int64
    where = (number, number, number, zeros, number, number, row, number, number)
    return acc(acc, x, _OFFSETS, *where, strip, pixels, step, taps, group, checks), codegen
