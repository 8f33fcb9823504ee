"""A scalar function applied to one register's worth of numbers in memory.

LLVM's loop vectoriser turns the function's branches into selections and its arithmetic into vector instructions.
"""

from __future__ import annotations

from llvmlite.ir.values import MDValue
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import VectorType


class _AccessGroup(MDValue):
    """A node without operands that equals no other."""

    def descr(self, buf):
        buf += ("distinct !{}", "\n")


def _vectorised(module, accesses):
    """Return the metadata of a short loop without overlaps in memory, which is not to be unrolled into scalar code.

    Without hints about vectors: with them LLVM would print remarks on functions that it cannot vectorise.
    """
    hints = [["llvm.loop.unroll.disable"], ["llvm.loop.parallel_accesses", accesses]]
    node = MDValue(module, (), str(len(module.metadata)))
    # A loop's node names itself first, which makes it one of its own.
    node.operands = (node, *map(module.add_metadata, hints))
    return node


@intrinsic
def map_lanes(typingctx, function, source, target):
    """Store ``function`` of the ``lanes`` numbers at ``source`` at ``target``; the two are equal or do not overlap.

    Where the function raises, the result is NaN.
    """
    dtype = source.dtype
    call = function.get_call_type(typingctx, (dtype,), {})
    lanes = VectorType(dtype).lanes

    def codegen(context, b, sig, args):
        compiled = sig.args[0].dispatcher.overloads[call.args]
        context.add_linking_libs([compiled.library])
        _, source, target = args
        accesses = _AccessGroup(b.module, (), str(len(b.module.metadata)))
        with cgutils.for_range(b, emit.index(lanes)) as loop:
            x = b.load(b.gep(source, [loop.index]))
            x.set_metadata("llvm.access.group", accesses)
            status, y = context.call_internal_no_propagate(b, compiled.fndesc, call, [x])
            y = context.cast(b, y, call.return_type, dtype)
            y = b.select(status.is_ok, y, y.type(float("nan")))
            b.store(y, b.gep(target, [loop.index])).set_metadata("llvm.access.group", accesses)
            body = b.block
        body.terminator.set_metadata("llvm.loop", _vectorised(b.module, accesses))
        return context.get_dummy_value()

    return types.void(function, source, target), codegen
