"""Register tiles whose rows lie anywhere in memory: a table of int64 offsets says where."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit

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
