"""Choices between numbers that do not branch, so that loops over them become vector code."""

from __future__ import annotations

from llvmlite import ir
from numba.extending import intrinsic


@intrinsic
def where_positive(typingctx, x, chosen):
    """Return ``chosen`` where the number ``x`` is above 0, else (also for NaN) 0."""

    def codegen(context, b, sig, args):
        zero = ir.Constant(args[0].type, 0.0)
        return b.select(b.fcmp_ordered(">", args[0], zero), args[1], zero)

    return x(x, x), codegen
