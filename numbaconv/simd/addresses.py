"""Arrays that a kernel knows by a number: the address of the array object, as a table in its geometry holds it."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.driver import DATA_FIELD


@intrinsic
def data_of(typingctx, pointer, array):
    """Return the address of the data of the ndarray object at address ``array``, as a pointer of ``pointer``'s type.

    Whoever launches the kernel keeps the array alive.
    """

    def codegen(context, b, sig, args):
        byte_pointer = emit.I8.as_pointer()
        field = b.gep(b.inttoptr(args[1], byte_pointer), [emit.index(DATA_FIELD)])
        return b.load(b.bitcast(field, args[0].type.as_pointer()))

    return pointer(pointer, array), codegen


@intrinsic
def at_address(typingctx, pointer, address):
    """Return a pointer of ``pointer``'s type to an address."""

    def codegen(context, b, sig, args):
        return b.inttoptr(args[1], args[0].type)

    return pointer(pointer, types.int64), codegen
