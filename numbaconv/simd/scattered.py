"""Register tiles whose rows lie anywhere in memory: a table of int64 offsets says where."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import are_literals

_OFFSETS = types.CPointer(types.int64)


def _row(b, pointer, offsets, m: int):
    return b.gep(pointer, [b.load(b.gep(offsets, [emit.index(m)]))])


@intrinsic
def tile_fma_rows(typingctx, acc, a, offsets, row):
    """Return ``acc[m, v] + a[offsets[m]] * row[v]``: one step of a matrix product."""

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, a, offsets, row = args
        columns = [emit.load(b, vector, row, emit.index(tile.first[v])) for v, vector in enumerate(tile.row)]
        for m in range(tile.rows):
            number = b.load(_row(b, a, offsets, m))
            spread = {vector: emit.splat(b, vector, number) for vector in dict.fromkeys(tile.row)}
            for v, vector in enumerate(tile.row):
                cell = m * tile.vectors + v
                total = emit.fma(b, vector, spread[vector], columns[v], b.extract_value(acc, cell))
                acc = b.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, _OFFSETS, row), codegen


@intrinsic(prefer_literal=True)
def read_offsets(typingctx, count, offsets):
    """Return ``count`` numbers of a table of offsets as a tuple, each a register."""
    if not are_literals(count):
        return None
    kind = types.UniTuple(types.int64, count.literal_value)

    def codegen(context, b, sig, args):
        numbers = [b.load(b.gep(args[1], [emit.index(n)])) for n in range(kind.count)]
        return context.make_tuple(b, kind, numbers)

    return kind(count, _OFFSETS), codegen


@intrinsic
def tile_fma_pieces(typingctx, acc, a, offsets, row, valid):
    """Return ``acc[m, v] + a[offsets[m // n] + m % n] * row[v]``: pieces of n numbers, one after the other in the tile.

    Columns from ``valid`` on are zero and not read: with AVX-512 a masked load is as fast as any. LLVM is not to know
    where ``a`` comes from: it would make an address of its own for each row and keep it on the stack. Of one register
    in a row all numbers are broadcast on their way from L1.
    """

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, a, offsets, row, valid = args
        a = emit.unknown_address(b, a)
        columns = [
            emit.masked_load(b, vector, b.gep(row, [emit.index(first)]), emit.lane_mask(b, vector, valid, first))
            for vector, first in zip(tile.row, tile.first, strict=True)
        ]
        numbers = tile.rows // sig.args[2].count
        for m in range(tile.rows):
            piece = b.gep(a, [b.extract_value(offsets, m // numbers)])
            number = b.load(b.gep(piece, [emit.index(m % numbers)]))
            for v, vector in enumerate(tile.row):
                cell = m * tile.vectors + v
                total = emit.fma(b, vector, emit.splat(b, vector, number), columns[v], b.extract_value(acc, cell))
                acc = b.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, offsets, row, types.int64), codegen


def _tile_store(acc, pointer, offsets, store):
    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, offsets = args
        for m in range(tile.rows):
            row = _row(b, pointer, offsets, m)
            for v, vector in enumerate(tile.row):
                target = b.gep(row, [emit.index(tile.first[v])])
                store(b, vector, b.extract_value(acc, m * tile.vectors + v), target)
        return context.get_dummy_value()

    return types.void(acc, pointer, _OFFSETS), codegen


@intrinsic
def tile_store_rows(typingctx, acc, pointer, offsets):
    """Store the whole tile, row ``m`` at ``pointer + offsets[m]``."""
    return _tile_store(acc, pointer, offsets, emit.store)


@intrinsic
def tile_store_rows_past_caches(typingctx, acc, pointer, offsets):
    """Store the whole tile past the caches as `tile_store_rows`; all registers lie at multiples of their size."""
    return _tile_store(acc, pointer, offsets, emit.store_past_caches)
