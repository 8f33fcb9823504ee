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
        lanes = tile.vector.lanes
        columns = [emit.load(b, tile.vector, row, emit.index(v * lanes)) for v in range(tile.vectors)]
        for m in range(tile.rows):
            scalar = emit.splat(b, tile.vector, b.load(_row(b, a, offsets, m)))
            for v, column in enumerate(columns):
                cell = m * tile.vectors + v
                total = emit.fma(b, tile.vector, scalar, column, b.extract_value(acc, cell))
                acc = b.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, _OFFSETS, row), codegen


def _tile_store(acc, pointer, offsets, store):
    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, offsets = args
        for m in range(tile.rows):
            row = _row(b, pointer, offsets, m)
            for v in range(tile.vectors):
                target = b.gep(row, [emit.index(v * tile.vector.lanes)])
                store(b, tile.vector, b.extract_value(acc, m * tile.vectors + v), target)
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
