"""Register tiles of some rows x columns of outputs, one register of channels: depthwise products.

Cells are row by row. Each register of input is loaded once for all outputs and taps that meet there; positions in
padding are read from an address of zeros.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.shifted import Rows
from numbaconv.simd.types import are_literals

_OFFSETS = types.CPointer(types.int64)


@intrinsic(prefer_literal=True)
def tile_fma_square(typingctx, acc, columns, x, offsets, begin, end, zeros, pixel, weights, taps):
    """Return ``acc[r, c] + sum over i, t < taps of x_(r + i)[c + t] * weights[i, t]``, lane by lane.

    Row x_i lies ``offsets[i]`` behind x, its positions ``pixel`` numbers apart; those outside [begin, end), and all
    where the offset is negative, are zero. All weights, one register after the other, are held.
    """
    if not are_literals(columns, taps):
        return None
    width, count = columns.literal_value, taps.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, _, x, offsets, begin, end, zeros, pixel, weights, _ = args
        lanes, rows = tile.vector.lanes, tile.rows // width
        reads = Rows(b, x, offsets, emit.index(1), begin, end, zeros, rows + count - 1, True)
        held = [emit.load(b, tile.vector, weights, emit.index(n * lanes)) for n in range(count * count)]
        for i in range(rows + count - 1):
            for position in range(width + count - 1):
                where = emit.index(position)
                numbers = reads.load(tile.vector, i, where, b.mul(where, pixel))
                acc = _add_products(
                    b, tile, acc, width, count, numbers, held, position, [(r, i - r) for r in range(rows)]
                )
        return acc

    number = types.int64
    return acc(acc, columns, x, _OFFSETS, number, number, zeros, number, weights, taps), codegen


@intrinsic(prefer_literal=True)
def tile_fma_strips(typingctx, acc, columns, x, offsets, begin, end, zeros, pixel, weights, taps, step):
    """Return ``acc[r, c] + sum over t < taps of x_r[c * step + t] * weights[t]``: a kernel row, as `tile_fma_square`.

    Row x_r lies ``offsets[r]`` behind x.
    """
    if not are_literals(columns, taps, step):
        return None
    width, count, move = columns.literal_value, taps.literal_value, step.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, _, x, offsets, begin, end, zeros, pixel, weights, *_ = args
        rows = tile.rows // width
        reads = Rows(b, x, offsets, emit.index(1), begin, end, zeros, rows, True)
        held = [emit.load(b, tile.vector, weights, emit.index(t * tile.vector.lanes)) for t in range(count)]
        for position in range((width - 1) * move + count):
            where = emit.index(position)
            for r in range(rows):
                numbers = reads.load(tile.vector, r, where, b.mul(where, pixel))
                acc = _add_products(b, tile, acc, width, count, numbers, held, position, [(r, 0)], move)
        return acc

    number = types.int64
    return acc(acc, columns, x, _OFFSETS, number, number, zeros, number, weights, taps, step), codegen


def _add_products(b, tile, acc, width: int, count: int, numbers, held, position: int, pairs, move: int = 1):
    """Add what the input at a position gives the outputs of each row r by the kernel's row i, for ``pairs`` (r, i).

    Outputs lie ``move`` positions apart.
    """
    totals = {}
    for r, i in pairs:
        for t in range(count):
            (column, rest), tap = divmod(position - t, move), i * count + t
            if rest == 0 and 0 <= column < width and 0 <= tap < len(held):
                cell = r * width + column
                totals[cell] = emit.fma(b, tile.vector, numbers, held[tap], b.extract_value(acc, cell))
    for cell, total in zip(totals, emit.keep_here(b, list(totals.values())), strict=True):
        acc = b.insert_value(acc, total, cell)
    return acc


@intrinsic(prefer_literal=True)
def tile_store_strips(typingctx, acc, columns, pointer, row_stride, stride, past_caches):
    """Store the tile: rows of ``columns`` cells ``row_stride`` apart, cells ``stride`` apart.

    If it goes ``past_caches``, a literal, all addresses are multiples of a register.
    """
    if not are_literals(columns, past_caches):
        return None
    width, past = columns.literal_value, past_caches.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, _, pointer, row_stride, stride, _ = args
        for cell in range(tile.rows):
            row, column = divmod(cell, width)
            address = b.gep(pointer, [b.mul(row_stride, emit.index(row))])
            address = b.gep(address, [b.mul(stride, emit.index(column))])
            (emit.store_past_caches if past else emit.store)(b, tile.vector, b.extract_value(acc, cell), address)
        return context.get_dummy_value()

    return types.void(acc, columns, pointer, types.int64, types.int64, past_caches), codegen


@intrinsic(prefer_literal=True)
def prefetch_lines(typingctx, pointer, lines, nearness):
    """Ask for a run of ``lines`` cache lines, for all caches (3) or L2 alone (2)."""
    if not are_literals(lines, nearness):
        return None
    line = 64 * 8 // pointer.dtype.bitwidth

    def codegen(context, b, sig, args):
        for n in range(lines.literal_value):
            emit.prefetch(b, b.gep(args[0], [emit.index(n * line)]), nearness.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, lines, nearness), codegen
