"""Numba types for one SIMD vector and for a tile of vector registers.

A `VectorType` is one register of the target: ``lanes`` numbers of one float type. A `RegisterTileType` is ``rows *
vectors`` such registers held as one value, so that ``acc = tile_fma(acc, ...)`` in an ordinary Numba loop stays in
registers. Both carry all that the code generator needs, so no intrinsic depends on anything but its argument types.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from numbaconv.target import lanes


def float_ir(dtype: types.Float) -> ir.Type:
    """Return LLVM's scalar type for a Numba float."""
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


class VectorType(types.Type):
    """One register of ``lanes`` numbers of ``dtype``."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = lanes(dtype.name)
        super().__init__(name=f"vector({dtype.name}x{self.lanes})")

    @property
    def ir_type(self) -> ir.VectorType:
        """LLVM's type of the register."""
        return ir.VectorType(float_ir(self.dtype), self.lanes)


class RegisterTileType(types.Type):
    """``rows`` x ``vectors`` registers: row ``m`` is an output pixel, vector ``v`` a group of ``lanes`` channels."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int) -> None:
        self.vector = VectorType(dtype)
        self.rows = rows
        self.vectors = vectors
        super().__init__(name=f"tile({rows}x{vectors}, {self.vector.name})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, numba_type.ir_type)


@register_model(RegisterTileType)
class _RegisterTileModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        registers = numba_type.rows * numba_type.vectors
        super().__init__(manager, numba_type, ir.ArrayType(numba_type.vector.ir_type, registers))
