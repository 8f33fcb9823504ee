"""Register tiles whose lanes are whole groups of a few channels, each with a sum over its own input channels.

Where halves of a register take half the time and a group fills one, the tile has registers of that size: each number of
the input goes to all lanes of a product on its way from L1. In others it is spread over its group's lanes.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import RegisterTileType, VectorType, are_literals
from numbaconv.target import TARGET


def _row(b, pointer, stride, m: int):
    return b.gep(pointer, [b.mul(stride, emit.index(m))])


@intrinsic(prefer_literal=True)
def group_rows(typingctx, rows, vectors, group, row):
    """Return a tile each of whose rows is the ``vectors * lanes`` numbers at ``row`` (the bias)."""
    sizes = rows, vectors, group
    if not are_literals(*sizes):
        return None
    count, whole, lanes = (size.literal_value for size in sizes)
    tile = RegisterTileType(row.dtype, count, *((0, 2 * whole) if _is_half(row, lanes) else (whole, 0)))
    return tile(rows, vectors, group, row), lambda context, b, sig, args: _repeated(context, b, tile, args[3])


@intrinsic(prefer_literal=True)
def group_cells(typingctx, cells, group, row):
    """Return ``cells`` registers that each are the numbers at ``row``: half registers where a group fills one."""
    if not are_literals(cells, group):
        return None
    is_half = _is_half(row, group.literal_value)
    tile = RegisterTileType(row.dtype, cells.literal_value, int(not is_half), int(is_half))
    return tile(cells, group, row), lambda context, b, sig, args: _repeated(context, b, tile, args[2])


def _is_half(row, group: int) -> bool:
    return TARGET.splits_registers and 2 * group == VectorType(row.dtype).lanes


def _repeated(context, b, tile: RegisterTileType, row):
    """Emit a tile each of whose rows is that at ``row``."""
    numbers = [emit.load(b, vector, row, emit.index(first)) for vector, first in zip(tile.row, tile.first)]
    acc = ir.Constant(context.get_value_type(tile), ir.Undefined)
    for cell in range(tile.rows * tile.vectors):
        acc = b.insert_value(acc, numbers[cell % tile.vectors], cell)
    return acc


@intrinsic(prefer_literal=True)
def tile_fma_groups(typingctx, acc, a, a_stride, row, row_step, group):
    """Return ``acc[m, v] + sum over i < group of x[i] * row[i, v]``, lane by lane, where each lane has its group's x.

    A group is ``group`` neighbouring lanes, its x as many numbers of ``a[m * a_stride + v]``. ``row[i]`` follows
    ``row[i - 1]`` register by register; its vectors lie ``row_step`` numbers apart.
    """
    if not are_literals(group):
        return None
    count = group.literal_value

    def codegen(context, b, sig, args):
        tile = sig.args[0]
        acc, a, a_stride, row, row_step, _ = args
        lanes = tile.vector.lanes
        if lanes < VectorType(tile.vector.dtype).lanes:
            return _broadcast_products(b, tile, *args[:5])
        masks = [
            ir.Constant(ir.VectorType(emit.I32, lanes), [(lane - lane % count + i) % lanes for lane in range(lanes)])
            for i in range(count)
        ]
        for v in range(tile.vectors):
            column = _row(b, row, row_step, v)
            weights = [emit.load(b, tile.vector, column, emit.index(i * lanes)) for i in range(count)]
            for m in range(tile.rows):
                numbers = emit.load(b, tile.vector, _row(b, a, a_stride, m), emit.index(v * lanes))
                cell = m * tile.vectors + v
                for i in range(count):
                    one = b.shuffle_vector(numbers, numbers, masks[i])
                    total = emit.fma(b, tile.vector, one, weights[i], b.extract_value(acc, cell))
                    acc = b.insert_value(acc, total, cell)
        return acc

    return acc(acc, a, types.int64, row, types.int64, group), codegen


def _broadcast_products(b, tile: RegisterTileType, acc, a, a_stride, row, row_step):
    """Emit `tile_fma_groups` for a tile of half registers, each a group."""
    lanes = tile.vector.lanes
    for v in range(tile.vectors):
        column = _row(b, row, row_step, v // 2)
        for i in range(lanes):
            weights = emit.load(b, tile.vector, column, emit.index((2 * i + v % 2) * lanes))
            for m in range(tile.rows):
                number = b.load(b.gep(_row(b, a, a_stride, m), [emit.index(v * lanes + i)]))
                cell, spread = m * tile.vectors + v, emit.splat(b, tile.vector, number)
                acc = b.insert_value(acc, emit.fma(b, tile.vector, spread, weights, b.extract_value(acc, cell)), cell)
    return acc
