"""Register tiles of whole registers and, with ``half`` 1, one of half the lanes behind those of each row.

All sizes are literals of the calling loop. For such tiles see `numbaconv.simd.tiles`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import RegisterTileType, are_literals


def _tile(pointer, *sizes) -> RegisterTileType | None:
    if not are_literals(*sizes):
        return None
    return RegisterTileType(pointer.dtype, *(size.literal_value for size in sizes))


@intrinsic(prefer_literal=True)
def mixed_zeros(typingctx, rows, whole, half, pointer):
    """Return a tile of zeros of ``pointer``'s float type."""
    tile = _tile(pointer, rows, whole, half)
    if tile is None:
        return None

    def codegen(context, b, sig, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, whole, half, pointer), codegen


@intrinsic(prefer_literal=True)
def mixed_read(typingctx, rows, whole, half, pointer, stride):
    """Return the tile stored at ``pointer``, rows ``stride`` apart."""
    tile = _tile(pointer, rows, whole, half)
    if tile is None:
        return None

    def codegen(context, b, sig, args):
        *_, pointer, stride = args
        acc = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for m in range(tile.rows):
            row = b.gep(pointer, [b.mul(stride, emit.index(m))])
            for v, vector in enumerate(tile.row):
                column = emit.load(b, vector, row, emit.index(tile.first[v]))
                acc = b.insert_value(acc, column, m * tile.vectors + v)
        return acc

    return tile(rows, whole, half, pointer, types.int64), codegen


@intrinsic
def tile_plus(typingctx, acc, pointer, stride):
    """Return ``acc[m, v] + pointer[m * stride + v]``: the sum with a tile stored at ``pointer``."""

    def codegen(context, b, sig, args):
        return _plus(b, sig.args[0], *args)

    return acc(acc, pointer, types.int64), codegen


@intrinsic
def tile_plus_first(typingctx, acc, pointer, stride, valid):
    """Return the same sum for the first ``valid`` columns; the others stay, and are not read."""

    def codegen(context, b, sig, args):
        return _plus(b, sig.args[0], *args)

    return acc(acc, pointer, types.int64, types.int64), codegen


def _plus(b, tile: RegisterTileType, acc, pointer, stride, valid=None):
    masks = [
        valid and emit.lane_mask(b, vector, valid, first) for vector, first in zip(tile.row, tile.first, strict=True)
    ]
    # Else LLVM keeps the address of each row, for each loop around it, on the stack.
    pointer = emit.unknown_address(b, pointer)
    for m in range(tile.rows):
        row = b.gep(pointer, [b.mul(stride, emit.index(m))])
        for v, vector in enumerate(tile.row):
            cell, column = m * tile.vectors + v, emit.index(tile.first[v])
            if masks[v] is None:
                numbers = emit.load(b, vector, row, column)
            else:
                numbers = emit.masked_load(b, vector, b.gep(row, [column]), masks[v])
            acc = b.insert_value(acc, b.fadd(b.extract_value(acc, cell), numbers), cell)
    return acc


@intrinsic
def tile_fma_apart(typingctx, acc, a, a_stride, row):
    """Return ``acc[m, v] + a[m * a_stride] * row[v]`` as `tile_fma`, with few registers for addresses.

    Of a single register in a row each product takes a number of its own from L1: addresses that LLVM keeps on the stack
    would cost as many loads. Here every third row has one, made from the one before.
    """

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, base, stride, row = args
        third = b.mul(stride, emit.index(3))
        columns = [emit.load(b, vector, row, emit.index(tile.first[v])) for v, vector in enumerate(tile.row)]
        for m in range(tile.rows):
            if m and m % 3 == 0:
                base = emit.unknown_address(b, b.gep(base, [third]))
            number = b.load(b.gep(base, [b.mul(stride, emit.index(m % 3))]))
            for v, vector in enumerate(tile.row):
                cell = m * tile.vectors + v
                total = emit.fma(b, vector, emit.splat(b, vector, number), columns[v], b.extract_value(acc, cell))
                acc = b.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, types.int64, row), codegen
