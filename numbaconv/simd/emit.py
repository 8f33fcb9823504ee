"""Small LLVM IR emitters shared by the intrinsics of this folder.

Addresses are formed by GEP alone: LLVM may miscompile arithmetic on integers that become pointers again.
Loads and stores state the alignment of one element, because rows of channels start anywhere.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from numbaconv.simd.types import VectorType
from numbaconv.target import TARGET

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)


def index(n: int) -> ir.Constant:
    """Return a 64-bit constant."""
    return ir.Constant(I64, n)


def _suffix(vector: VectorType) -> str:
    return f"v{vector.lanes}f{vector.dtype.bitwidth}"


def _vector_pointer(b, vector, pointer, offset):
    address = b.gep(pointer, [offset]) if offset is not None else pointer
    return b.bitcast(address, vector.ir_type.as_pointer())


def load(b, vector: VectorType, pointer, offset=None):
    """Load one vector from ``pointer + offset`` elements."""
    return b.load(_vector_pointer(b, vector, pointer, offset), align=vector.dtype.bitwidth // 8)


def store(b, vector: VectorType, value, pointer, offset=None):
    """Store one vector at ``pointer + offset`` elements."""
    b.store(value, _vector_pointer(b, vector, pointer, offset), align=vector.dtype.bitwidth // 8)


def store_past_caches(b, vector: VectorType, value, pointer):
    """Store one vector at ``pointer``, which is aligned to the vector's size, past the caches where the target can."""
    instruction = b.store(
        value, _vector_pointer(b, vector, pointer, None), align=vector.lanes * vector.dtype.bitwidth // 8
    )
    instruction.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))


def splat(b, vector: VectorType, scalar):
    """Copy a scalar to every lane."""
    undefined = ir.Constant(vector.ir_type, ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.lanes), [0] * vector.lanes))


def fma(b, vector: VectorType, x, y, z):
    """Return ``x * y + z``, fused where the target has the instruction."""
    name = "fma" if TARGET.has_fma else "fmuladd"
    function_type = ir.FunctionType(vector.ir_type, [vector.ir_type] * 3)
    function = cgutils.get_or_insert_function(b.module, function_type, f"llvm.{name}.{_suffix(vector)}")
    return b.call(function, [x, y, z])


def lane_mask(b, vector: VectorType, count, first: int = 0):
    """Return the mask whose lane ``i`` is set where ``first + i < count``."""
    lane = ir.Constant(ir.VectorType(I64, vector.lanes), [first + i for i in range(vector.lanes)])
    counts = ir.VectorType(I64, vector.lanes)
    undefined = ir.Constant(counts, ir.Undefined)
    broadcast = b.shuffle_vector(
        b.insert_element(undefined, count, ir.Constant(I32, 0)),
        undefined,
        ir.Constant(ir.VectorType(I32, vector.lanes), [0] * vector.lanes),
    )
    return b.icmp_signed("<", lane, broadcast)


def masked_store(b, vector: VectorType, value, pointer, mask):
    """Store the lanes that ``mask`` selects; other addresses are not touched."""
    address = _vector_pointer(b, vector, pointer, None)
    mask_type = ir.VectorType(I1, vector.lanes)
    function_type = ir.FunctionType(ir.VoidType(), [vector.ir_type, address.type, I32, mask_type])
    function = cgutils.get_or_insert_function(b.module, function_type, f"llvm.masked.store.{_suffix(vector)}.p0")
    b.call(function, [value, address, ir.Constant(I32, vector.dtype.bitwidth // 8), mask])


def masked_load(b, vector: VectorType, pointer, mask):
    """Load the lanes that ``mask`` selects, zero elsewhere; other addresses are not touched."""
    address = _vector_pointer(b, vector, pointer, None)
    mask_type = ir.VectorType(I1, vector.lanes)
    function_type = ir.FunctionType(vector.ir_type, [address.type, I32, mask_type, vector.ir_type])
    function = cgutils.get_or_insert_function(b.module, function_type, f"llvm.masked.load.{_suffix(vector)}.p0")
    return b.call(
        function, [address, ir.Constant(I32, vector.dtype.bitwidth // 8), mask, ir.Constant(vector.ir_type, None)]
    )


def prefetch(b, pointer, nearness: int = 3):
    """Ask for the cache line at ``pointer``, to be read and kept in all levels or, with 2, from L2 on.

    Any address is legal.
    """
    byte_pointer = I8.as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, I32, I32, I32])
    function = cgutils.get_or_insert_function(b.module, function_type, "llvm.prefetch.p0")
    b.call(function, [b.bitcast(pointer, byte_pointer), *(ir.Constant(I32, flag) for flag in (0, nearness, 1))])


def at_least(b, vector: VectorType, value, lower):
    """Return ``value`` with lanes under ``lower`` replaced by it; NaN stays NaN."""
    return b.select(b.fcmp_ordered("<", value, lower), lower, value)


def keep_order(b):
    """Keep loads and stores on their side of this point, in loops that LLVM is not to unroll; no instruction."""
    nothing = b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
    nothing.attributes.add("convergent")


def _register_class() -> str | None:
    """Return the inline assembler's name of the vector registers, None where no register holds a whole vector."""
    if TARGET.architecture == "x86_64" and TARGET.vector_bytes == 64:
        return "v" if "+avx512f" in TARGET.features.split(",") else None
    return {"x86_64": "x", "aarch64": "w"}.get(TARGET.architecture)


def keep_here(b, values):
    """Return the registers, computed no later than here and not read earlier, as `keep_order`; no instruction."""
    constraint = _register_class()
    if constraint is None or not values:
        keep_order(b)
        return values
    kinds = [value.type for value in values]
    result = kinds[0] if len(kinds) == 1 else ir.LiteralStructType(kinds)
    outputs = [f"={constraint}"] * len(kinds)
    inputs = [str(number) for number in range(len(kinds))]
    constraints = ",".join([*outputs, *inputs, "~{memory}"])
    kept = b.asm(ir.FunctionType(result, kinds), "", constraints, values, True)
    kept.attributes.add("convergent")
    return [kept] if len(kinds) == 1 else [b.extract_value(kept, number) for number in range(len(kinds))]


def unknown_address(b, pointer):
    """Return the pointer as one of which LLVM does not know where it comes from; no instruction."""
    return b.asm(ir.FunctionType(pointer.type, [pointer.type]), "", "=r,0", [pointer], False)
