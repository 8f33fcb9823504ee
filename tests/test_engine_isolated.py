"""What needs a process of its own: threads, compilation, other CPUs."""

from __future__ import annotations

import platform

import pytest
from isolated import run_isolated
from llvmlite import binding
from processes import features_without

pytestmark = pytest.mark.usefixtures("direct_only")


def test_results_do_not_depend_on_the_number_of_threads():
    """Neither on the threads in use nor on the threads that there are."""
    assert run_isolated("thread_counts", NUMBA_NUM_THREADS="4") == run_isolated("thread_counts", NUMBA_NUM_THREADS="1")


def test_nothing_compiles_after_warmup():
    run_isolated("no_compilation_after_warmup")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 features")
@pytest.mark.parametrize(
    ("needed", "removed", "vector_bytes"),
    [
        ("avx512f", ("avx512", "avx10"), 32),
        ("avx2", ("avx512", "avx10", "avx2", "fma"), 16),
        ("sse2", ("avx", "fma", "f16c", "xop", "vaes", "vpclmulqdq", "gfni", "amx"), 16),
    ],
    ids=["without AVX-512", "without AVX2 and FMA", "without AVX"],
)
def test_narrower_vectors_are_exact(needed, removed, vector_bytes):
    if not binding.get_host_cpu_features().get(needed):
        pytest.skip(f"this CPU has no {needed}")
    run_isolated("exactness", NUMBA_CPU_FEATURES=features_without(*removed), EXPECTED_VECTOR_BYTES=str(vector_bytes))


@pytest.mark.parametrize("registers", ["64x32", "16x32"], ids=["AVX-512", "NEON"])
def test_tiles_of_other_registers_are_exact(registers):
    run_isolated("exactness_of_other_registers", REGISTERS=registers)
