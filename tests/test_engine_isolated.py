"""What needs a process of its own: threads, compilation, other CPUs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from isolated import run_isolated
from llvmlite import binding
from processes import features_without

pytestmark = pytest.mark.usefixtures("direct_only")

# By name: the feature that this CPU must have, those that are turned off, and the bytes of a vector that remain.
NARROWER = {
    "without AVX-512": ("avx512f", ("avx512", "avx10"), 32),
    "without AVX2 and FMA": ("avx2", ("avx512", "avx10", "avx2", "fma"), 16),
    "without AVX": ("sse2", ("avx", "fma", "f16c", "xop", "vaes", "vpclmulqdq", "gfni", "amx"), 16),
}
# By name: bytes and number of the vector registers that LLVM makes of those that this CPU has.
OTHER_REGISTERS = {"AVX-512": "64x32", "NEON": "16x32"}


def run_on(cpu: str) -> str:
    """Compare every pass with the oracle, compiled for another CPU."""
    if cpu in OTHER_REGISTERS:
        part, environment = "exactness_of_other_registers", {"REGISTERS": OTHER_REGISTERS[cpu]}
    else:
        _, removed, vector_bytes = NARROWER[cpu]
        environment = {"NUMBA_CPU_FEATURES": features_without(*removed), "EXPECTED_VECTOR_BYTES": str(vector_bytes)}
        part = "exactness"
    return run_isolated(part, NUMBA_NUM_THREADS="1", **environment)


def is_this_cpu_wider(cpu: str) -> bool:
    """Whether there is something to leave out."""
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    return cpu in OTHER_REGISTERS or (is_x86 and bool(binding.get_host_cpu_features().get(NARROWER[cpu][0])))


@pytest.fixture(scope="module")
def runs_on_other_cpus(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str]]]:
    """The runs of the tests chosen, as many at a time as there are processors: each compiles everything.

    Where several processes share the tests each test makes its own run.
    """
    tests = [item for item in request.session.items if "runs_on_other_cpus" in item.fixturenames]
    chosen = [test.callspec.params["cpu"] for test in tests] if "PYTEST_XDIST_WORKER" not in os.environ else []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {cpu: pool.submit(run_on, cpu) for cpu in chosen if is_this_cpu_wider(cpu)}


def test_results_do_not_depend_on_the_number_of_threads():
    """Neither on the threads in use nor on the threads that there are."""
    assert run_isolated("thread_counts", NUMBA_NUM_THREADS="4") == run_isolated("thread_counts", NUMBA_NUM_THREADS="1")


def test_nothing_compiles_after_warmup():
    run_isolated("no_compilation_after_warmup")


@pytest.mark.minutes
@pytest.mark.parametrize("cpu", [*NARROWER, *OTHER_REGISTERS])
def test_vectors_of_another_cpu_are_exact(cpu, runs_on_other_cpus):
    if not is_this_cpu_wider(cpu):
        pytest.skip("this CPU has no wider vectors, or none of x86")
    if cpu in runs_on_other_cpus:
        runs_on_other_cpus[cpu].result()
    else:
        run_on(cpu)
