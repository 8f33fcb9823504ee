"""Numba types for one SIMD vector and for a tile of vector registers.

A `VectorType` is one register of the target: ``lanes`` numbers of one float type. A `RegisterTileType` is ``rows *
vectors`` such registers held as one value, so that ``acc = tile_fma(acc, ...)`` in an ordinary Numba loop stays in
registers. The last register of each row may be half as wide. Both carry all that the code generator needs, so no
intrinsic depends on anything but its argument types.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from numbaconv.target import lanes


def are_literals(*sizes: types.Type) -> bool:
    """Return whether all sizes are literals: until they are, an intrinsic has no type."""
    return all(isinstance(size, types.IntegerLiteral) for size in sizes)


def float_ir(dtype: types.Float) -> ir.Type:
    """Return LLVM's scalar type for a Numba float."""
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


class VectorType(types.Type):
    """One register of ``lanes`` numbers of ``dtype``: the target's, or ``half`` of it."""

    def __init__(self, dtype: types.Float, half: bool = False) -> None:
        self.dtype = dtype
        self.lanes = lanes(dtype.name) // (2 if half else 1)
        super().__init__(name=f"vector({dtype.name}x{self.lanes})")

    @property
    def ir_type(self) -> ir.VectorType:
        """LLVM's type of the register."""
        return ir.VectorType(float_ir(self.dtype), self.lanes)


class RegisterTileType(types.Type):
    """``rows`` x ``vectors`` registers: row ``m`` is an output pixel, vector ``v`` a group of ``lanes`` channels.

    A row is ``whole`` registers of the target and then ``half`` of half the lanes; ``row`` has their types, ``first``
    their first lanes. Most operations are for whole registers alone, all of type ``vector``.
    """

    def __init__(self, dtype: types.Float, rows: int, whole: int, half: int = 0) -> None:
        self.row = [VectorType(dtype)] * whole + [VectorType(dtype, half=True)] * half
        self.first = [sum(vector.lanes for vector in self.row[:v]) for v in range(whole + half)]
        self.vector = self.row[0]
        self.rows = rows
        self.vectors = whole + half
        super().__init__(name=f"tile({rows}x{whole}+{half}, {self.vector.name})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, numba_type.ir_type)


@register_model(RegisterTileType)
class _RegisterTileModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        registers = [vector.ir_type for vector in numba_type.row] * numba_type.rows
        is_mixed = registers[0] != registers[-1]
        kind = ir.LiteralStructType(registers) if is_mixed else ir.ArrayType(registers[0], len(registers))
        super().__init__(manager, numba_type, kind)
