"""Division and choice between two registers, lane by lane."""

from __future__ import annotations

from numba.extending import intrinsic

from numbaconv.simd import emit


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
