"""Register tiles of some rows x columns of outputs, one register of channels: depthwise products, those of groups.

Cells are row by row. Each register of input is loaded once for all outputs and taps that meet there; positions in
padding are read from an address of zeros.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.shifted import Rows, spread
from numbaconv.simd.types import VectorType, are_literals

CHANNELS_TOGETHER = 4
"""Channels of a group that kernel rows of three taps multiply by what they find at one address."""

_OFFSETS = types.CPointer(types.int64)


@intrinsic(prefer_literal=True)
def tile_fma_square(typingctx, acc, columns, x, offsets, begin, end, zeros, pixel, weights, step, taps, group, channel):
    """Return ``acc[r, c] + sum over i, t < taps of x_(r + i)[c + t] * weights[i, t]``, lane by lane.

    Row x_i lies ``offsets[i]`` behind x, its positions ``pixel`` numbers apart; those outside [begin, end), and all
    where the offset is negative, are zero. Weights of a tap, ``step`` behind those of the one before, are a register
    for each channel of a ``group`` of neighbouring lanes, whose number each lane of x has then. Half registers are
    given the products of one ``channel``, from whose weights on ``weights`` are.
    """
    if not are_literals(columns, taps, group):
        return None
    width, count, size = columns.literal_value, taps.literal_value, group.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, _, x, offsets, begin, end, zeros, pixel, weights, step, _, _, channel = args
        rows = tile.rows // width
        reads = Rows(b, x, offsets, emit.index(1), begin, end, zeros, rows + count - 1, True)
        for first in range(1 if _is_half(tile) else size):
            held = _weights(b, tile, weights, step, first, count * count)
            for i in range(rows + count - 1):
                for position in range(width + count - 1):
                    found = _find(b, tile, reads, i, position, pixel)
                    numbers = _spread(b, tile, found, size, first, channel)
                    acc = _add_products(
                        b, tile, acc, width, count, numbers, held, position, [(r, i - r) for r in range(rows)]
                    )
        return acc

    number = types.int64
    where = (number, number, zeros, number, weights, number)
    return acc(acc, columns, x, _OFFSETS, *where, taps, group, number), codegen


@intrinsic(prefer_literal=True)
def tile_fma_strips(
    typingctx, acc, columns, x, offsets, begin, end, zeros, pixel, weights, step, taps, group, channel, move
):
    """Return ``acc[r, c] + sum over t < taps of x_r[c * move + t] * weights[t]``: a kernel row, as `tile_fma_square`.

    Row x_r lies ``offsets[r]`` behind x.
    """
    if not are_literals(columns, taps, group, move):
        return None
    width, count, size, apart = (each.literal_value for each in (columns, taps, group, move))

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, _, x, offsets, begin, end, zeros, pixel, weights, step, _, _, channel, _ = args
        rows = tile.rows // width
        reads = Rows(b, x, offsets, emit.index(1), begin, end, zeros, rows, True)
        for first in range(0, 1 if _is_half(tile) else size, CHANNELS_TOGETHER):
            channels = range(first, min(first + CHANNELS_TOGETHER, size))
            held = [_weights(b, tile, weights, step, each, count) for each in channels]
            for position in range((width - 1) * apart + count):
                for r in range(rows):
                    found = _find(b, tile, reads, r, position, pixel)
                    for each, factors in zip(channels, held, strict=True):
                        numbers = _spread(b, tile, found, size, each, channel)
                        acc = _add_products(b, tile, acc, width, count, numbers, factors, position, [(r, 0)], apart)
        return acc

    number = types.int64
    where = (number, number, zeros, number, weights, number)
    return acc(acc, columns, x, _OFFSETS, *where, taps, group, number, move), codegen


def _is_half(tile) -> bool:
    return tile.vector.lanes < VectorType(tile.vector.dtype).lanes


def _weights(b, tile, weights, step, channel: int, taps: int):
    first = [b.gep(weights, [b.mul(step, emit.index(tap))]) for tap in range(taps)]
    lanes = VectorType(tile.vector.dtype).lanes
    return [emit.load(b, tile.vector, place, emit.index(channel * lanes)) for place in first]


def _find(b, tile, reads, row: int, position: int, pixel):
    """Return where the numbers at a position of a row are, and these, which half registers do not load together."""
    where = emit.index(position)
    place = reads.place(row, where, b.mul(where, pixel))
    return place, None if _is_half(tile) else emit.load(b, tile.vector, place)


def _spread(b, tile, found, group: int, first: int, channel):
    """Return what each lane multiplies: its own number, or its group's channel."""
    place, loaded = found
    if loaded is None:
        return emit.splat(b, tile.vector, b.load(b.gep(place, [b.add(channel, emit.index(first))])))
    return spread(b, tile.vector, loaded, group, first)


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
