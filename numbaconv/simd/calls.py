"""C entry points, indirect calls and atomic operations for kernels and the parallel driver.

``add_c_entry`` gives a function compiled by Numba a C symbol, ``call_kernel`` calls compiled code by its address. The
atomic operations work on int64 memory shared by threads; all of them are sequentially consistent but ``load_acquire``
and ``store_release``, which order the memory around one flag.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.target import TARGET

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_VOID = ir.VoidType()


def add_c_entry(result, symbol):
    """Add ``void symbol(arguments)`` to a compile result's library; kernels raise nothing, so no status is read."""
    context, description = result.target_context, result.fndesc
    module = result.library.create_ir_module(symbol)
    native_type = context.call_conv.get_function_type(description.restype, description.argtypes)
    native = ir.Function(module, native_type, description.llvm_func_name)
    arguments = [context.get_value_type(argument) for argument in description.argtypes]
    entry = ir.Function(module, ir.FunctionType(_VOID, arguments), symbol)
    b = ir.IRBuilder(entry.append_basic_block("entry"))
    context.call_conv.call_function(b, native, description.restype, description.argtypes, entry.args)
    b.ret_void()
    result.library.add_ir_module(module)


def _function_at(b, address, arguments, result=_VOID):
    """Return a callable value for the function at an integer address."""
    return b.inttoptr(address, ir.FunctionType(result, arguments).as_pointer())


@intrinsic
def call_kernel(typingctx, address, worker, task, geometry, buffers):
    """Call ``kernel(worker, task, geometry, buffers)``; ``geometry`` and ``buffers`` are addresses."""

    def codegen(context, b, sig, args):
        address, worker, task, geometry, buffers = args
        kernel = _function_at(b, address, [_I64, _I64, _BYTES, _BYTES])
        b.call(kernel, [worker, task, b.inttoptr(geometry, _BYTES), b.inttoptr(buffers, _BYTES)])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, i64, i64, i64, i64), codegen


@intrinsic
def call_parallel_for(typingctx, address, body, arguments, dimensions, steps, data, threads):
    """Call the threading layer's ``parallel_for`` on a body with one dimension and one argument (all are addresses)."""

    def codegen(context, b, sig, args):
        address, body, arguments, dimensions, steps, data, threads = args
        parallel_for = _function_at(b, address, [_BYTES] * 5 + [_I64] * 3)
        pointers = [b.inttoptr(value, _BYTES) for value in (body, arguments, dimensions, steps, data)]
        one = ir.Constant(_I64, 1)
        b.call(parallel_for, [*pointers, one, one, threads])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, i64, i64, i64, i64, i64, i64), codegen


@intrinsic
def call_int(typingctx, address, first, second, third):
    """Return what the C function ``int f(int, size_t, void *)`` at ``address`` does, or one of fewer arguments."""

    def codegen(context, b, sig, args):
        address, first, second, third = args
        function = _function_at(b, address, [_I32, _I64, _BYTES], _I32)
        result = b.call(function, [b.trunc(first, _I32), second, b.inttoptr(third, _BYTES)])
        return b.sext(result, _I64)

    i64 = types.int64
    return i64(i64, i64, i64, i64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a loop that waits for another core."""

    def codegen(context, b, sig, args):
        if TARGET.architecture == "x86_64":
            function_type = ir.FunctionType(_VOID, [])
            b.call(cgutils.get_or_insert_function(b.module, function_type, "llvm.x86.sse2.pause"), [])
        elif TARGET.architecture == "aarch64":
            function_type = ir.FunctionType(_VOID, [_I32])
            hint = cgutils.get_or_insert_function(b.module, function_type, "llvm.aarch64.hint")
            b.call(hint, [_I32(1)])  # YIELD
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def pointer_at(typingctx, address):
    """Return an integer address as a pointer to int64."""

    def codegen(context, b, sig, args):
        return b.inttoptr(args[0], _I64.as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen


@intrinsic
def address_of(typingctx, pointer):
    """Return a pointer as an integer."""

    def codegen(context, b, sig, args):
        return b.ptrtoint(args[0], _I64)

    return types.int64(pointer), codegen


@intrinsic
def copy_bytes(typingctx, destination, source, count):
    """Copy ``count`` bytes between integer addresses of memory that does not overlap."""

    def codegen(context, b, sig, args):
        function_type = ir.FunctionType(_VOID, [_BYTES, _BYTES, _I64, ir.IntType(1)])
        function = cgutils.get_or_insert_function(b.module, function_type, "llvm.memcpy.p0.p0.i64")
        pointers = [b.inttoptr(address, _BYTES) for address in args[:2]]
        b.call(function, [*pointers, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, i64, i64), codegen


@intrinsic
def atomic_fetch_add(typingctx, pointer, value):
    """Add ``value`` to ``pointer[0]`` and return what was there."""

    def codegen(context, b, sig, args):
        return b.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(pointer, types.int64), codegen


@intrinsic
def atomic_compare_exchange(typingctx, pointer, expected, desired):
    """Write ``desired`` where ``pointer[0] == expected``; return what was there."""

    def codegen(context, b, sig, args):
        result = b.cmpxchg(args[0], args[1], args[2], "seq_cst", "seq_cst")
        return b.extract_value(result, 0)

    return types.int64(pointer, types.int64, types.int64), codegen


@intrinsic
def load_acquire(typingctx, pointer):
    """Read ``pointer[0]``; later reads see what was written before the matching ``store_release``."""

    def codegen(context, b, sig, args):
        return b.load_atomic(args[0], "acquire", 8)

    return types.int64(pointer), codegen


@intrinsic
def store_release(typingctx, value, pointer):
    """Write ``pointer[0]``; earlier writes are seen by whoever reads it with ``load_acquire``."""

    def codegen(context, b, sig, args):
        b.store_atomic(args[0], args[1], "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, pointer), codegen
