"""Operations on one vector register, for use inside jitted loops.

``load``, ``store`` and their masked forms move a register; ``+ - *``, ``fma``, ``maximum`` and ``minimum`` work lane
by lane.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from numbaconv.simd import emit
from numbaconv.simd.types import VectorType


def _arithmetic(op, instruction: str) -> None:
    @infer_global(op)
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], VectorType) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(op, VectorType, VectorType)
    def _lower(context, b, sig, args):
        return getattr(b, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


@intrinsic
def load(typingctx, pointer):
    """Load one register from ``pointer``."""
    vector = VectorType(pointer.dtype)

    def codegen(context, b, sig, args):
        return emit.load(b, vector, args[0])

    return vector(pointer), codegen


@intrinsic
def load_half(typingctx, pointer):
    """Load a register of half the lanes from ``pointer``."""
    vector = VectorType(pointer.dtype, half=True)

    def codegen(context, b, sig, args):
        return emit.load(b, vector, args[0])

    return vector(pointer), codegen


@intrinsic
def load_first(typingctx, pointer, count):
    """Load the first ``count`` lanes from ``pointer``, zero in the others."""
    vector = VectorType(pointer.dtype)

    def codegen(context, b, sig, args):
        return emit.masked_load(b, vector, args[0], emit.lane_mask(b, vector, args[1]))

    return vector(pointer, types.int64), codegen


@intrinsic(prefer_literal=True)
def load_spread(typingctx, pointer, repeat, phase):
    """Load one register of whose numbers each comes ``repeat`` times, the first of them ``phase`` times fewer.

    As many numbers as fill it are read.
    """
    if not isinstance(repeat, types.IntegerLiteral) or not isinstance(phase, types.IntegerLiteral):
        return None
    vector, times, skipped = VectorType(pointer.dtype), repeat.literal_value, phase.literal_value

    def codegen(context, b, sig, args):
        numbers = emit.load(b, vector, args[0])
        order = [(lane + skipped) // times for lane in range(vector.lanes)]
        return b.shuffle_vector(numbers, numbers, ir.Constant(ir.VectorType(emit.I32, vector.lanes), order))

    return vector(pointer, repeat, phase), codegen


@intrinsic
def store(typingctx, vector, pointer):
    """Store one register at ``pointer``."""

    def codegen(context, b, sig, args):
        emit.store(b, sig.args[0], args[0], args[1])
        return context.get_dummy_value()

    return types.void(vector, pointer), codegen


@intrinsic
def store_past_caches(typingctx, vector, pointer):
    """Store one register at ``pointer``, a multiple of its size, without reading its cache line; then `fence`."""

    def codegen(context, b, sig, args):
        emit.store_past_caches(b, sig.args[0], *args)
        return context.get_dummy_value()

    return types.void(vector, pointer), codegen


@intrinsic
def store_first(typingctx, vector, pointer, count):
    """Store the first ``count`` lanes at ``pointer``."""

    def codegen(context, b, sig, args):
        emit.masked_store(b, sig.args[0], args[0], args[1], emit.lane_mask(b, sig.args[0], args[2]))
        return context.get_dummy_value()

    return types.void(vector, pointer, types.int64), codegen


@intrinsic
def splat(typingctx, pointer, scalar):
    """Return a register of ``pointer``'s float type with ``scalar`` in every lane."""
    vector = VectorType(pointer.dtype)

    def codegen(context, b, sig, args):
        return emit.splat(b, vector, args[1])

    return vector(pointer, pointer.dtype), codegen


@intrinsic
def fma(typingctx, x, y, z):
    """Return ``x * y + z`` lane by lane."""

    def codegen(context, b, sig, args):
        return emit.fma(b, sig.args[0], *args)

    return x(x, y, z), codegen


@intrinsic
def maximum(typingctx, x, y):
    """Return the larger lane; a NaN in ``x`` or ``y`` stays."""

    def codegen(context, b, sig, args):
        x, y = args
        keep = b.or_(b.fcmp_ordered(">=", x, y), b.fcmp_unordered("uno", x, x))
        return b.select(keep, x, y)

    return x(x, y), codegen


@intrinsic
def at_least(typingctx, x, lower):
    """Return ``x`` with lanes under those of ``lower`` replaced by them; a NaN in ``x`` stays."""

    def codegen(context, b, sig, args):
        return emit.at_least(b, sig.args[0], *args)

    return x(x, x), codegen


@intrinsic
def minimum(typingctx, x, y):
    """Return the smaller lane; a NaN in ``x`` or ``y`` stays."""

    def codegen(context, b, sig, args):
        x, y = args
        keep = b.or_(b.fcmp_ordered("<=", x, y), b.fcmp_unordered("uno", x, x))
        return b.select(keep, x, y)

    return x(x, y), codegen


@intrinsic
def lanes_of(typingctx, pointer):
    """Return how many numbers of ``pointer``'s float type one register holds."""
    lanes = VectorType(pointer.dtype).lanes

    def codegen(context, b, sig, args):
        return emit.index(lanes)

    return types.int64(pointer), codegen
