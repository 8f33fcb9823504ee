"""Raw pointers in jitted code: moving one, copying and clearing memory, prefetching.

A Numba ``CPointer`` already reads and writes single elements (``p[i]``), without index wrap-around or bounds check:
whoever calls these functions has shown that the addresses lie inside an array.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.simd import emit


@intrinsic
def advance(typingctx, pointer, offset):
    """Return ``pointer`` moved by ``offset`` elements."""

    def codegen(context, b, sig, args):
        return b.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def as_counters(typingctx, pointer):
    """Return the same address as a pointer to int64."""

    def codegen(context, b, sig, args):
        return b.bitcast(args[0], emit.I64.as_pointer())

    return types.CPointer(types.int64)(pointer), codegen


@intrinsic
def as_doubles(typingctx, pointer):
    """Return the same address as a pointer to float64."""

    def codegen(context, b, sig, args):
        return b.bitcast(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(pointer), codegen


@intrinsic
def copy(typingctx, destination, source, count):
    """Copy ``count`` elements between arrays that do not overlap."""
    size = destination.dtype.bitwidth // 8

    def codegen(context, b, sig, args):
        byte_pointer = emit.I8.as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, byte_pointer, emit.I64, emit.I1])
        function = cgutils.get_or_insert_function(b.module, function_type, "llvm.memcpy.p0.p0.i64")
        count = b.mul(args[2], emit.index(size))
        b.call(
            function,
            [b.bitcast(args[0], byte_pointer), b.bitcast(args[1], byte_pointer), count, ir.Constant(emit.I1, 0)],
        )
        return context.get_dummy_value()

    return types.void(destination, source, types.int64), codegen


@intrinsic
def is_equal(typingctx, first, second, count):
    """Tell whether ``count`` elements of two arrays have the same bits."""
    size = first.dtype.bitwidth // 8

    def codegen(context, b, sig, args):
        byte_pointer, number = emit.I8.as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(number, [byte_pointer, byte_pointer, emit.I64])
        function = cgutils.get_or_insert_function(b.module, function_type, "memcmp")
        first, second = (b.bitcast(pointer, byte_pointer) for pointer in args[:2])
        found = b.call(function, [first, second, b.mul(args[2], emit.index(size))])
        return b.icmp_signed("==", found, ir.Constant(number, 0))

    return types.boolean(first, second, types.int64), codegen


@intrinsic
def clear(typingctx, destination, count):
    """Set ``count`` elements to zero."""
    size = destination.dtype.bitwidth // 8

    def codegen(context, b, sig, args):
        byte_pointer = emit.I8.as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, emit.I8, emit.I64, emit.I1])
        function = cgutils.get_or_insert_function(b.module, function_type, "llvm.memset.p0.i64")
        count = b.mul(args[1], emit.index(size))
        b.call(function, [b.bitcast(args[0], byte_pointer), ir.Constant(emit.I8, 0), count, ir.Constant(emit.I1, 0)])
        return context.get_dummy_value()

    return types.void(destination, types.int64), codegen


@intrinsic
def is_aligned(typingctx, pointer, size):
    """Whether an address is a multiple of ``size``, a power of two of bytes."""

    def codegen(context, b, sig, args):
        rest = b.and_(b.ptrtoint(args[0], emit.I64), b.sub(args[1], emit.index(1)))
        return b.icmp_signed("==", rest, emit.index(0))

    return types.boolean(pointer, types.int64), codegen


@intrinsic
def fence(typingctx):
    """Make all stores so far, those past the caches too, visible to other threads before any later one."""

    def codegen(context, b, sig, args):
        b.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def prefetch(typingctx, pointer):
    """Ask for the cache line at ``pointer``; any address is legal."""

    def codegen(context, b, sig, args):
        emit.prefetch(b, args[0])
        return context.get_dummy_value()

    return types.void(pointer), codegen


@intrinsic
def prefetch_nearby(typingctx, pointer):
    """Ask for the cache line at ``pointer``, to be kept from L2 on, and not in L1; any address is legal."""

    def codegen(context, b, sig, args):
        emit.prefetch(b, args[0], 2)
        return context.get_dummy_value()

    return types.void(pointer), codegen
