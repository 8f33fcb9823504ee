"""Operations on a tile of registers: the accumulators of every product in the engine.

``rows`` and ``vectors`` are literals of the calling loop; strides are run-time values in elements. LLVM keeps the
tile in registers as long as it fits (`numbaconv.kernels.tile_sizes`), which `tests/test_emitted_code.py` checks.
Tiles of `numbaconv.simd.mixed`, whose rows end in a register of half the lanes, take part in `tile_fma`, `tile_relu`,
`tile_add`, `tile_prefetch`, `tile_store` and what is in `numbaconv.simd.scattered`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import RegisterTileType, are_literals


def _cells(tile: RegisterTileType):
    return ((m, v, m * tile.vectors + v) for m in range(tile.rows) for v in range(tile.vectors))


def _load(b, tile: RegisterTileType, row, v: int):
    return emit.load(b, tile.row[v], row, emit.index(tile.first[v]))


def _columns(b, tile: RegisterTileType, row):
    return [_load(b, tile, row, v) for v in range(tile.vectors)]


def _row(b, pointer, stride, m: int):
    return b.gep(pointer, [b.mul(stride, emit.index(m))])


@intrinsic(prefer_literal=True)
def tile_zeros(typingctx, rows, vectors, pointer):
    """Return a tile of zeros of ``pointer``'s float type."""
    if not are_literals(rows, vectors):
        return None
    tile = RegisterTileType(pointer.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, b, sig, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, vectors, pointer), codegen


@intrinsic(prefer_literal=True)
def tile_splat(typingctx, rows, vectors, pointer, stride):
    """Return a tile whose row ``m`` has ``pointer[m * stride]`` in every lane."""
    if not are_literals(rows, vectors):
        return None
    tile = RegisterTileType(pointer.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, b, sig, args):
        _, _, pointer, stride = args
        acc = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for m in range(tile.rows):
            scalar = emit.splat(b, tile.vector, b.load(_row(b, pointer, stride, m)))
            for v in range(tile.vectors):
                acc = b.insert_value(acc, scalar, m * tile.vectors + v)
        return acc

    return tile(rows, vectors, pointer, types.int64), codegen


@intrinsic(prefer_literal=True)
def tile_read(typingctx, rows, vectors, pointer, stride):
    """Return the tile stored at ``pointer``, rows ``stride`` apart."""
    if not are_literals(rows, vectors):
        return None
    tile = RegisterTileType(pointer.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, b, sig, args):
        _, _, pointer, stride = args
        acc = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for m, v, cell in _cells(tile):
            acc = b.insert_value(acc, _load(b, tile, _row(b, pointer, stride, m), v), cell)
        return acc

    return tile(rows, vectors, pointer, types.int64), codegen


@intrinsic(prefer_literal=True)
def tile_load(typingctx, rows, vectors, pointer, stride, valid):
    """Return the tile stored at ``pointer``, rows ``stride`` apart; columns from ``valid`` on are zero and not read."""
    if not are_literals(rows, vectors):
        return None
    tile = RegisterTileType(pointer.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, b, sig, args):
        _, _, pointer, stride, valid = args
        masks = [emit.lane_mask(b, tile.vector, valid, v * tile.vector.lanes) for v in range(tile.vectors)]
        acc = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for m, v, cell in _cells(tile):
            column = b.gep(_row(b, pointer, stride, m), [emit.index(v * tile.vector.lanes)])
            acc = b.insert_value(acc, emit.masked_load(b, tile.vector, column, masks[v]), cell)
        return acc

    return tile(rows, vectors, pointer, types.int64, types.int64), codegen


def _tile_fma(acc, a, row, in_order: bool):
    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, a, a_stride, row = args
        columns = _columns(b, tile, row)
        for m in range(tile.rows):
            number = b.load(_row(b, a, a_stride, m))
            spread = {vector: emit.splat(b, vector, number) for vector in dict.fromkeys(tile.row)}
            for v, vector in enumerate(tile.row):
                cell = m * tile.vectors + v
                total = emit.fma(b, vector, spread[vector], columns[v], b.extract_value(acc, cell))
                acc = b.insert_value(acc, total, cell)
        if in_order:
            emit.keep_order(b)
        return acc

    return acc(acc, a, types.int64, row), codegen


@intrinsic
def tile_fma(typingctx, acc, a, a_stride, row):
    """Return ``acc[m, v] + a[m * a_stride] * row[v]``: one step of a matrix product."""
    return _tile_fma(acc, a, row, in_order=False)


@intrinsic
def tile_fma_in_order(typingctx, acc, a, a_stride, row):
    """Return what `tile_fma` does, in a loop that LLVM is not to unroll."""
    return _tile_fma(acc, a, row, in_order=True)


@intrinsic(prefer_literal=True)
def tile_fma_window(typingctx, acc, a, a_stride, row, row_step, taps, step):
    """Return ``acc[m, v] + sum over t < taps of a[(m * step + t) * a_stride + v] * row[t, v]``, lane by lane.

    Each number of the input is loaded once for all the outputs that read it. ``row[t]`` follows ``row[t - 1]``
    register by register; its vectors lie ``row_step`` numbers apart.
    """
    if not are_literals(taps, step):
        return None
    count, move = taps.literal_value, step.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, a, a_stride, row, row_step, *_ = args
        lanes = tile.vector.lanes
        columns = [_row(b, row, row_step, v) for v in range(tile.vectors)]
        weights = [[emit.load(b, tile.vector, c, emit.index(t * lanes)) for c in columns] for t in range(count)]
        base, next_base = a, b.mul(a_stride, emit.index(3))
        for position in range((tile.rows - 1) * move + count):
            # Three positions to a base: processors add one or two strides to an address, but not three.
            if position and position % 3 == 0:
                base = b.gep(base, [next_base])
                emit.keep_order(b)
            readers = [(m, position - m * move) for m in range(tile.rows) if 0 <= position - m * move < count]
            for v in range(tile.vectors if readers else 0):
                numbers = emit.load(b, tile.vector, _row(b, base, a_stride, position % 3), emit.index(v * lanes))
                for m, t in readers:
                    cell = m * tile.vectors + v
                    product = emit.fma(b, tile.vector, numbers, weights[t][v], b.extract_value(acc, cell))
                    acc = b.insert_value(acc, product, cell)
        return acc

    return acc(acc, a, types.int64, row, types.int64, taps, step), codegen


@intrinsic(prefer_literal=True)
def tile_fma_outer(typingctx, acc, a, a_stride, b, b_stride, registers):
    """Return ``acc[m, n, v] + a[m * a_stride + v] * b[n * b_stride + v]``, lane by lane in ``registers`` registers v.

    The tile's vectors are (n, v): it has as many as b has rows, times ``registers``.
    """
    if not are_literals(registers):
        return None
    count = registers.literal_value

    def codegen(context, builder, sig, args):
        tile = sig.args[0]
        acc, a, a_stride, b, b_stride, _ = args
        first, second = (
            {
                (row, v): emit.load(
                    builder, tile.vector, _row(builder, pointer, stride, row), emit.index(v * tile.vector.lanes)
                )
                for row in range(rows)
                for v in range(count)
            }
            for pointer, stride, rows in ((a, a_stride, tile.rows), (b, b_stride, tile.vectors // count))
        )
        for m, nv, cell in _cells(tile):
            n, v = divmod(nv, count)
            total = emit.fma(builder, tile.vector, first[m, v], second[n, v], builder.extract_value(acc, cell))
            acc = builder.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, types.int64, b, types.int64, registers), codegen


@intrinsic(prefer_literal=True)
def tile_add_folded(typingctx, acc, pointer, stride, registers):
    """Add the sums of each ``registers`` neighbouring vectors of a tile to the registers stored at ``pointer``."""
    if not are_literals(registers):
        return None
    count = registers.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, stride, _ = args
        for m in range(tile.rows):
            row = _row(b, pointer, stride, m)
            for n in range(tile.vectors // count):
                total = emit.load(b, tile.vector, row, emit.index(n * tile.vector.lanes))
                for v in range(count):
                    total = b.fadd(total, b.extract_value(acc, (m * tile.vectors) + n * count + v))
                emit.store(b, tile.vector, total, row, emit.index(n * tile.vector.lanes))
        return context.get_dummy_value()

    return types.void(acc, pointer, types.int64, registers), codegen


@intrinsic
def tile_relu(typingctx, acc):
    """Return the tile with numbers under 0 replaced by it; NaN stays NaN."""

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        (acc,) = args
        for _, v, cell in _cells(tile):
            bound = ir.Constant(tile.row[v].ir_type, None)
            acc = b.insert_value(acc, emit.at_least(b, tile.row[v], b.extract_value(acc, cell), bound), cell)
        return acc

    return acc(acc), codegen


@intrinsic
def tile_add(typingctx, acc, pointer, stride):
    """Add the whole tile to what is stored at ``pointer``, rows ``stride`` apart.

    That is not loaded earlier, where it would need the registers of the tile.
    """

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, stride = args
        emit.keep_order(b)
        for m, v, cell in _cells(tile):
            row = _row(b, pointer, stride, m)
            total = b.fadd(_load(b, tile, row, v), b.extract_value(acc, cell))
            emit.store(b, tile.row[v], total, row, emit.index(tile.first[v]))
        return context.get_dummy_value()

    return types.void(acc, pointer, types.int64), codegen


@intrinsic
def tile_prefetch(typingctx, acc, pointer, stride):
    """Ask for the cache lines of a tile's rows, ``stride`` apart."""
    line = 64 * 8 // acc.vector.dtype.bitwidth

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        _, pointer, stride = args
        for m in range(tile.rows):
            row = _row(b, pointer, stride, m)
            for first in range(0, tile.first[-1] + tile.row[-1].lanes, line):
                emit.prefetch(b, b.gep(row, [emit.index(first)]))
        return context.get_dummy_value()

    return types.void(acc, pointer, types.int64), codegen


@intrinsic(prefer_literal=True)
def tile_prefetch_run(typingctx, acc, pointer, pixels, nearness):
    """Ask for as many contiguous numbers as ``pixels`` tiles of one row have, for all caches (3) or L2 alone (2)."""
    if not are_literals(pixels, nearness):
        return None
    line = 64 * 8 // acc.vector.dtype.bitwidth
    numbers = acc.vectors * acc.vector.lanes * pixels.literal_value

    def codegen(context, b, sig, args):
        for first in range(0, numbers, line):
            emit.prefetch(b, b.gep(args[1], [emit.index(first)]), nearness.literal_value)
        return context.get_dummy_value()

    return types.void(acc, pointer, pixels, nearness), codegen


def _tile_store(acc, pointer, store):
    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, stride = args
        for m, v, cell in _cells(tile):
            target = b.gep(_row(b, pointer, stride, m), [emit.index(tile.first[v])])
            store(b, tile.row[v], b.extract_value(acc, cell), target)
        return context.get_dummy_value()

    return types.void(acc, pointer, types.int64), codegen


@intrinsic
def tile_store(typingctx, acc, pointer, stride):
    """Store the whole tile, rows ``stride`` apart."""
    return _tile_store(acc, pointer, emit.store)


@intrinsic
def tile_store_past_caches(typingctx, acc, pointer, stride):
    """Store the whole tile past the caches, rows ``stride`` apart; all registers lie at multiples of their size."""
    return _tile_store(acc, pointer, emit.store_past_caches)


@intrinsic
def tile_store_first(typingctx, acc, pointer, stride, valid):
    """Store the first ``valid`` columns of the tile, rows ``stride`` apart."""

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, pointer, stride, valid = args
        masks = [emit.lane_mask(b, tile.vector, valid, v * tile.vector.lanes) for v in range(tile.vectors)]
        for m, v, cell in _cells(tile):
            column = b.gep(_row(b, pointer, stride, m), [emit.index(v * tile.vector.lanes)])
            emit.masked_store(b, tile.vector, b.extract_value(acc, cell), column, masks[v])
        return context.get_dummy_value()

    return types.void(acc, pointer, types.int64, types.int64), codegen
