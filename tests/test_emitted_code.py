"""The machine code of the hottest loop: fused multiply-adds on whole registers, accumulators never in memory."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from numba import types
from numba.core.ccallback import CFunc
from processes import features_with

from numbaconv.kernels.depthwise import depthwise_forward
from numbaconv.kernels.depthwise_gradient import depthwise_kernel_gradient
from numbaconv.kernels.depthwise_gradient_tiles import strip_rows, tile_pixels, tile_sizes
from numbaconv.kernels.depthwise_strip_tiles import HAS_STRIPS, NUMBERS, tile_number
from numbaconv.kernels.folded import folded_forward
from numbaconv.kernels.folded_planes import folded_planes_forward
from numbaconv.kernels.forward import direct_forward
from numbaconv.kernels.grouped import grouped_forward
from numbaconv.kernels.kernel_gradient import direct_kernel_gradient
from numbaconv.kernels.many_rows import many_rows_gradient, many_rows_matrix_gradient, many_rows_product
from numbaconv.kernels.planar import planar_forward
from numbaconv.kernels.short_sums import PIXELS, short_forward
from numbaconv.kernels.tile_sizes import FOLDED_SIZES, WIDE_SIZES
from numbaconv.kernels.winograd import winograd_product
from numbaconv.target import TARGET

pytestmark = pytest.mark.skipif(
    TARGET.architecture != "x86_64" or TARGET.vector_bytes < 32, reason="reads the assembly of AVX2 and AVX-512"
)

REGISTER = {32: "ymm", 64: "zmm"}


def spills(block):
    """Return the instructions of a block that store or load whole registers on the stack."""
    register = REGISTER[TARGET.vector_bytes]
    return re.findall(rf"vmov\w+\s+%{register}\d+, .*\(%rsp\)|vmov\w+\s+.*\(%rsp\), %{register}\d+", block)


def assembly_blocks(kernel):
    """Return the basic blocks of a kernel's assembly."""
    signature = types.void(
        types.int64, types.int64, types.CPointer(types.int64), types.CPointer(types.CPointer(types.float32))
    )
    compiled = CFunc(
        kernel.function, (signature.args, signature.return_type), {}, {"nopython": True, "error_model": "numpy"}
    )
    compiled.compile()
    return re.split(r"\n(?=\.LBB\w+:)", compiled._library.get_asm_str())


def assembly_loops(kernel):
    """Return the basic blocks of a kernel's assembly that jump back to their own start."""
    blocks = assembly_blocks(kernel)
    return [block for block in blocks if re.search(rf"\bj\w+\s+{re.escape(block.split(':')[0])}\b", block)]


WITH_TILES = (
    *(direct_forward, short_forward, folded_forward, direct_kernel_gradient),
    *(many_rows_gradient, many_rows_matrix_gradient, many_rows_product, winograd_product),
)


WITH_NARROW_TILES = (direct_forward, short_forward, folded_forward, planar_forward)


@pytest.mark.parametrize("kernel", WITH_TILES, ids=lambda kernel: kernel.name)
def test_the_largest_tile_stays_in_registers(kernel):
    register = REGISTER[TARGET.vector_bytes]
    accumulators = 2 * (PIXELS if kernel is short_forward else WIDE_SIZES[0])
    hot = []
    for block in assembly_loops(kernel):
        products = re.findall(rf"vfn?madd\d+ps\s.*%{register}\d+", block)
        broadcasts = re.findall(rf"vbroadcastss\s.*%{register}\d+", block)
        if products and len(products) % accumulators == 0 and 2 * len(broadcasts) == len(products):
            hot.append(block)
    assert hot, f"no loop with {accumulators} fused multiply-adds on {register} registers"
    for block in hot:
        assert spills(block) == []


@pytest.mark.skipif(TARGET.vector_bytes != 32, reason="FMAs of other registers take broadcasts from memory")
@pytest.mark.parametrize("kernel", WITH_NARROW_TILES, ids=lambda kernel: kernel.name)
def test_no_tile_of_a_product_leaves_the_registers(kernel):
    hot = [block for block in assembly_loops(kernel) if len(re.findall(r"vfn?madd\d+ps\s.*%ymm\d+", block)) >= 4]
    assert len(hot) >= 4
    for block in hot:
        assert re.findall(r"%ymm\d+, .*\(%rsp\)|\(%rsp\), .*%ymm\d+", block) == []


def test_sums_of_a_depthwise_gradient_stay_in_registers():
    """The products of all pixels of a tile are one block, and none of its loads may be moved before them."""
    register = REGISTER[TARGET.vector_bytes]
    blocks = assembly_blocks(depthwise_kernel_gradient)
    products = [len(re.findall(rf"vfn?madd\d+ps\s.*%{register}\d+", block)) for block in blocks]
    for taps, rows in tile_sizes(1):
        assert strip_rows(taps, rows, 1) * taps * rows * tile_pixels(taps, rows, 1) in products
        assert taps * rows * tile_pixels(taps, rows, 1) in products
    assert [spills(block) for block, count in zip(blocks, products, strict=True) if count > 6 and spills(block)] == []


@pytest.mark.skipif(not HAS_STRIPS, reason="strips need 32 registers")
def test_sums_of_depthwise_strips_stay_in_registers():
    register = REGISTER[TARGET.vector_bytes]
    blocks = assembly_blocks(depthwise_forward)
    products = [len(re.findall(rf"vfn?madd\d+ps\s.*%{register}\d+", block)) for block in blocks]
    cells = {(0, 3, 7): 9 * 21, (0, 3, 4): 9 * 12, (0, 2, 7): 9 * 14, (7, 2, 7): 7 * 14, (5, 2, 7): 5 * 14}
    assert {tile_number(*size) for size in cells} <= set(NUMBERS)
    assert set(cells.values()) <= set(products)
    assert [spills(block) for block, count in zip(blocks, products, strict=True) if count >= 70 and spills(block)] == []


@pytest.mark.skipif(not HAS_STRIPS, reason="strips need 32 registers")
def test_sums_of_strips_of_groups_stay_in_registers():
    register = REGISTER[TARGET.vector_bytes]
    blocks = assembly_blocks(grouped_forward)
    products = [len(re.findall(rf"vfn?madd\d+ps\s.*%{register}\d+", block)) for block in blocks]
    assert {3 * 14 * channels for channels in (2, 4)} <= set(products)
    # LLVM orders the code of Intel's cores otherwise: two registers of inputs then wait in memory in one block.
    most = 2 if TARGET.is_intel else 0
    assert [
        spills(block)
        for block, count in zip(blocks, products, strict=True)
        if count >= 70 and most < len(spills(block))
    ] == []


def test_no_tile_of_folded_planes_leaves_the_registers():
    register = REGISTER[TARGET.vector_bytes]
    hot = [
        block
        for block in assembly_loops(folded_planes_forward)
        if len(re.findall(rf"vfn?madd\d+ps\s.*%{register}\d+", block)) >= 4
    ]
    assert len(hot) >= len(FOLDED_SIZES) // 2
    for block in hot:
        spills = re.findall(rf"vmov\w+\s+%{register}\d+, .*\(%rsp\)|vmov\w+\s+.*\(%rsp\), %{register}\d+", block)
        assert spills == []


@pytest.mark.skipif(TARGET.vector_bytes == 64, reason="the tests above read the code for AVX-512")
@pytest.mark.minutes
@pytest.mark.parametrize("cpu", ["skylake-avx512", "znver4"])
def test_the_largest_tile_stays_in_registers_with_avx512(cpu, monkeypatch):
    """Compiled, not run. Of a tile that needs 33 registers the first stores all after each tap, the second not."""
    monkeypatch.setenv("NUMBA_CPU_NAME", cpu)
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features_with("avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd"))
    options = ["-q", "-p", "no:cacheprovider", "-k", test_the_largest_tile_stays_in_registers.__name__]
    process = subprocess.run([sys.executable, "-m", "pytest", *options, __file__], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-4000:]
    assert f"{len(WITH_TILES)} passed" in process.stdout
