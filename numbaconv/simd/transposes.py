"""Transposes of square blocks in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import VectorType, are_literals

LANE_BITS = 128
"""Shuffles across the 128-bit parts of a register cost more than those inside: they move whole parts only."""


def _shuffled(b, first, second, mask):
    return b.shuffle_vector(first, second, ir.Constant(ir.VectorType(emit.I32, len(mask)), mask))


def _interleaved(b, first, second, unit: int, part: int):
    """Interleave the lower, then the upper halves of each ``part`` of two registers, ``unit`` numbers at a time."""
    n = first.type.count
    halves = []
    for half in (0, part // 2):
        mask = []
        for start in range(0, n, part):
            for i in range(start + half, start + half + part // 2, unit):
                mask += [*range(i, i + unit), *range(n + i, n + i + unit)]
        halves.append(_shuffled(b, first, second, mask))
    return halves


def _transposed_parts(b, rows, part: int):
    """Return the transposes, part by part, of as many registers as ``part`` numbers."""
    if part == 1:
        return rows
    pairs = [_interleaved(b, rows[i], rows[i + 1], 1, part) for i in range(0, part, 2)]
    if part == 2:
        return pairs[0]
    (low, high), (next_low, next_high) = pairs
    return _interleaved(b, low, next_low, 2, part) + _interleaved(b, high, next_high, 2, part)


def _load_parts(b, vector: VectorType, part: int, source, step):
    """Return the register of the ``part`` numbers at ``source``, and at each ``step`` behind it."""
    kind = ir.VectorType(vector.ir_type.element, part).as_pointer()
    registers = []
    for i in range(vector.lanes // part):
        place = b.bitcast(b.gep(source, [b.mul(step, emit.index(i))]), kind)
        registers.append(b.load(place, align=vector.dtype.bitwidth // 8))
    while len(registers) > 1:
        lanes = list(range(2 * registers[0].type.count))
        registers = [_shuffled(b, registers[i], registers[i + 1], lanes) for i in range(0, len(registers), 2)]
    return registers[0]


def _transpose(vector: VectorType, source, target):
    """Return the code that transposes as many columns at a time as fill a part of a register.

    Parts are put together as they are loaded, which costs less than to move them between registers, and no load
    crosses a cache line where numbers lie at multiples of a part's size.
    """

    def codegen(context, b, sig, args):
        source, source_stride, target, target_stride = args
        part = min(LANE_BITS // vector.dtype.bitwidth, vector.lanes)
        step = b.mul(source_stride, emit.index(part))
        for first in range(0, vector.lanes, part):
            corner = b.gep(source, [emit.index(first)])
            places = [b.gep(corner, [b.mul(source_stride, emit.index(i))]) for i in range(part)]
            rows = [_load_parts(b, vector, part, place, step) for place in places]
            for j, column in enumerate(_transposed_parts(b, rows, part)):
                emit.store(b, vector, column, target, b.mul(target_stride, emit.index(first + j)))
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), codegen


@intrinsic
def transpose_square(typingctx, source, source_stride, target, target_stride):
    """target[j * target_stride + i] = source[i * source_stride + j], i and j up to the lanes of a register."""
    return _transpose(VectorType(source.dtype), source, target)


@intrinsic
def transpose_half_square(typingctx, source, source_stride, target, target_stride):
    """Do the same for i and j up to half the lanes."""
    return _transpose(VectorType(source.dtype, half=True), source, target)


@intrinsic
def transpose_narrow(typingctx, source, source_stride, target, target_stride):
    """target[j * target_stride + i] = source[i * source_stride + j], j below a register's lanes, i below `part_of`."""
    vector = VectorType(source.dtype)
    part = LANE_BITS // vector.dtype.bitwidth

    def codegen(context, b, sig, args):
        source, source_stride, target, target_stride = args
        rows = [emit.load(b, vector, source, b.mul(source_stride, emit.index(i))) for i in range(part)]
        columns = _transposed_parts(b, rows, part)
        for j in range(vector.lanes):
            first = j // part * part
            numbers = _shuffled(b, columns[j % part], columns[j % part], list(range(first, first + part)))
            place = b.bitcast(b.gep(target, [b.mul(target_stride, emit.index(j))]), numbers.type.as_pointer())
            b.store(numbers, place, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), codegen


def _picked(b, registers, wanted: list[tuple[int, int]]):
    """Return the numbers ``wanted``, register and lane of each: picked from two registers each, and these merged."""
    lanes, pairs = len(wanted), len(registers) // 2
    picked = None
    for first in range(0, 2 * pairs, 2):
        mask = [lane + lanes * (n - first) if n in (first, first + 1) else 0 for n, lane in wanted]
        part = _shuffled(b, registers[first], registers[first + 1], mask)
        if picked is not None:
            part = _shuffled(b, picked, part, [lane + lanes * (n >= first) for lane, (n, _) in enumerate(wanted)])
        picked = part
    if len(registers) > 2 * pairs:
        mask = [lanes + at if n == 2 * pairs else lane for lane, (n, at) in enumerate(wanted)]
        picked = _shuffled(b, picked, registers[-1], mask)
    return picked


def _halves(b, first, second, unit: int, is_upper: bool):
    """Interleave the lower or the upper halves of two registers, ``unit`` numbers at a time."""
    lanes = first.type.count
    begin = lanes // 2 if is_upper else 0
    places = range(begin, begin + lanes // 2, unit)
    return _shuffled(b, first, second, [n + i for place in places for n in (place, lanes + place) for i in range(unit)])


def _interleaved_planes(b, planes, unit: int):
    """Return the registers of pixels of as many units of ``unit`` numbers as there are registers of one unit each."""
    count, lanes = len(planes), planes[0].type.count
    if count == 1 or unit == lanes:
        return planes
    if count % 2 == 0:
        firsts = range(0, count, 2)
        halves = [[_halves(b, planes[i], planes[i + 1], unit, upper) for i in firsts] for upper in (False, True)]
        return [register for half in halves for register in _interleaved_planes(b, half, 2 * unit)]

    def number(place):
        pixel, register = divmod(place // unit, count)
        return register, pixel * unit + place % unit

    return [_picked(b, planes, [number(r * lanes + lane) for lane in range(lanes)]) for r in range(count)]


def _planes(b, registers, unit: int):
    """Return the registers of one unit each: the inverse."""
    count, lanes = len(registers), registers[0].type.count
    if count == 1 or unit == lanes:
        return registers
    if count % 2 == 0:
        halves = [_planes(b, registers[i : i + count // 2], 2 * unit) for i in (0, count // 2)]
        every = [range(start, 2 * lanes, 2 * unit) for start in (0, unit)]
        masks = [[place + i for place in places for i in range(unit)] for places in every]
        return [_shuffled(b, low, high, mask) for low, high in zip(*halves, strict=True) for mask in masks]

    def number(register, lane):
        return divmod((lane // unit * count + register) * unit + lane % unit, lanes)

    return [_picked(b, registers, [number(r, lane) for lane in range(lanes)]) for r in range(count)]


def _rearrange(b, vector: VectorType, count: int, arrange, source, source_step, target, target_step):
    """Store the registers that ``arrange`` makes of the ``count`` registers at ``source``."""
    registers = [emit.load(b, vector, source, b.mul(source_step, emit.index(r))) for r in range(count)]
    for r, register in enumerate(arrange(b, registers, 1)):
        emit.store(b, vector, register, target, b.mul(target_step, emit.index(r)))


@intrinsic(prefer_literal=True)
def interleave(typingctx, rows, source, source_stride, target):
    """target[j * rows + i] = source[i * source_stride + j], j up to the lanes of a register, ``rows`` a literal."""
    if not are_literals(rows):
        return None
    vector, count = VectorType(source.dtype), rows.literal_value

    def codegen(context, b, sig, args):
        _, source, source_stride, target = args
        step = emit.index(vector.lanes)
        _rearrange(b, vector, count, _interleaved_planes, source, source_stride, target, step)
        return context.get_dummy_value()

    return types.void(rows, source, types.int64, target), codegen


@intrinsic(prefer_literal=True)
def deinterleave(typingctx, rows, source, target, target_stride):
    """target[i * target_stride + j] = source[j * rows + i], j up to the lanes of a register, ``rows`` a literal."""
    if not are_literals(rows):
        return None
    vector, count = VectorType(source.dtype), rows.literal_value

    def codegen(context, b, sig, args):
        _, source, target, target_stride = args
        _rearrange(b, vector, count, _planes, source, emit.index(vector.lanes), target, target_stride)
        return context.get_dummy_value()

    return types.void(rows, source, target, types.int64), codegen


@intrinsic
def part_of(typingctx, pointer):
    """Return how many numbers of ``pointer``'s float type fill `LANE_BITS`."""
    part = LANE_BITS // pointer.dtype.bitwidth

    def codegen(context, b, sig, args):
        return emit.index(part)

    return types.int64(pointer), codegen
