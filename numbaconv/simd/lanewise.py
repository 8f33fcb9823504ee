"""Division and choice between two registers, lane by lane, and sums of the lanes of many."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import VectorType


@intrinsic
def divide(typingctx, x, scalar):
    """Return every lane of ``x`` divided by one number, correctly rounded."""

    def codegen(context, b, sig, args):
        return b.fdiv(args[0], emit.splat(b, sig.args[0], args[1]))

    return x(x, x.dtype), codegen


@intrinsic
def where_maximum(typingctx, x, y, chosen, otherwise):
    """Return ``chosen`` in lanes where ``x`` equals the maximum ``y`` or is NaN (which makes any maximum NaN)."""

    def codegen(context, b, sig, args):
        x, y, chosen, otherwise = args
        found = b.or_(b.fcmp_ordered("==", x, y), b.fcmp_unordered("uno", x, x))
        return b.select(found, chosen, otherwise)

    return x(x, x, x, x), codegen


@intrinsic
def where_above(typingctx, x, lower, chosen, otherwise):
    """Return ``chosen`` in lanes where ``x`` is above ``lower``."""

    def codegen(context, b, sig, args):
        x, lower, chosen, otherwise = args
        return b.select(b.fcmp_ordered(">", x, lower), chosen, otherwise)

    return x(x, x, x, x), codegen


@intrinsic
def add_pairs(typingctx, x):
    """Return the sums of each two neighbouring lanes of ``x``, in order, and once more behind them."""

    def codegen(context, b, sig, args):
        (x,), lanes = args, sig.args[0].lanes
        masks = [[lane * 2 % lanes + odd for lane in range(lanes)] for odd in (0, 1)]
        pairs = [b.shuffle_vector(x, x, ir.Constant(ir.VectorType(emit.I32, lanes), mask)) for mask in masks]
        return b.fadd(*pairs)

    return x(x), codegen


def _halved(b, first, second, parts: int):
    """Return sums of two registers' halves of each of so many parts, those of the first before those of the second."""
    lanes = first.type.count
    part = lanes // parts
    masks: tuple[list[int], list[int]] = ([], [])
    for start in range(0, lanes, part):
        for half, mask in zip((start, start + part // 2), masks, strict=True):
            mask += [register + half + i for register in (0, lanes) for i in range(part // 2)]
    halves = [b.shuffle_vector(first, second, ir.Constant(ir.VectorType(emit.I32, lanes), mask)) for mask in masks]
    return b.fadd(*halves)


@intrinsic
def tile_store_sums(typingctx, acc, pointer):
    """pointer[m * vectors + v] = the sum of the lanes of ``acc[m, v]``; whole registers are written."""
    vector = VectorType(pointer.dtype)

    def codegen(context, b, sig, args):
        tile, (acc, pointer), lanes = sig.args[0], args, vector.lanes
        count, zero = tile.rows * tile.vectors, ir.Constant(vector.ir_type, None)
        for first in range(0, count, lanes):
            cells = range(first, first + lanes)
            registers = [b.extract_value(acc, cell) if cell < count else zero for cell in cells]
            parts = 1
            while len(registers) > 1:
                half = len(registers) // 2
                registers = [_halved(b, registers[r], registers[r + half], parts) for r in range(half)]
                parts *= 2
            emit.store(b, vector, registers[0], pointer, emit.index(first))
        return context.get_dummy_value()

    return types.void(acc, pointer), codegen
