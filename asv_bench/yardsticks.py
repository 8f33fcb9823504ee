"""What the machine can do right now: fused multiply-adds per second, bytes per second, NumPy's matrix product.

None of it runs code of the package, so that a ratio to it changes with the package alone, not with the machine's speed.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

# As many independent sums as two units with a latency of four to five cycles keep busy, within sixteen registers.
SUMS = 12
LOOPS = 100_000
COPY_BYTES = 64 << 20
MATRIX = 512


def _lanes(bits: int) -> int:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    width = 512 if features.get("avx512f") else 256 if features.get("avx") else 128
    return width // bits


def _program(element: str, lanes: int) -> str:
    """Write a function in LLVM's language: LOOPS times SUMS fused multiply-adds, each on its own sum."""
    vector = f"<{lanes} x {element}>"
    name = f"@llvm.fma.v{lanes}f{32 if element == 'float' else 64}"
    phis = "\n".join(f"  %a{i} = phi {vector} [zeroinitializer, %entry], [%b{i}, %loop]" for i in range(SUMS))
    fmas = "\n".join(f"  %b{i} = call {vector} {name}({vector} %x, {vector} %y, {vector} %a{i})" for i in range(SUMS))
    stores = "\n".join(
        f"  %p{i} = getelementptr {vector}, ptr %out, i64 {i}\n  store {vector} %b{i}, ptr %p{i}, align 4"
        for i in range(SUMS)
    )
    return f"""
declare {vector} {name}({vector}, {vector}, {vector})
define void @peak(ptr %out, i64 %count) {{
entry:
  %x = load {vector}, ptr %out, align 4
  %q = getelementptr {vector}, ptr %out, i64 1
  %y = load {vector}, ptr %q, align 4
  br label %loop
loop:
  %n = phi i64 [0, %entry], [%m, %loop]
{phis}
{fmas}
  %m = add i64 %n, 1
  %more = icmp slt i64 %m, %count
  br i1 %more, label %loop, label %end
end:
{stores}
  ret void
}}
"""


def _compiled(program: str) -> Any:
    """Compile a program for this machine; the functions live as long as what is returned."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(program), machine)
    engine.finalize_object()
    return engine


@cache
def _peak_function(dtype: str) -> tuple[Any, Callable[[int, int], None], int]:
    """Compile the loop; return its owner, the function, and floating-point operations per loop."""
    element, bits = ("float", 32) if dtype == "float32" else ("double", 64)
    lanes = _lanes(bits)
    engine = _compiled(_program(element, lanes))
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(engine.get_function_address("peak"))
    return engine, function, 2 * SUMS * lanes


def best_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the best time of so many calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _on_threads(call: Callable[[int], Any], threads: int) -> Callable[[], list[Any]]:
    """Return what calls with the number of each thread on that thread, at once; its result is a list of theirs."""
    if threads == 1:
        return lambda: [call(0)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(call, range(threads)))


def _peak_loop(dtype: str, threads: int, loops: int) -> tuple[Callable[[int], None], int]:
    """Return what runs the loop for a thread's number, and its floating-point operations."""
    _, function, flops = _peak_function(dtype)
    buffers = [np.zeros(SUMS * 16 + 16, dtype) for _ in range(threads)]
    return lambda thread: function(buffers[thread].ctypes.data, loops), loops * flops


def fma_gflops(dtype: str = "float32", threads: int = 1, repeats: int = 5) -> float:
    """Return the fused multiply-add peak of so many threads, in GFLOP/s: the best of a few milliseconds each."""
    # Threads of the pool start some 100 microseconds apart.
    loop, flops = _peak_loop(dtype, threads, LOOPS if threads == 1 else 20 * LOOPS)
    call = _on_threads(loop, threads)
    call()
    return threads * flops / best_seconds(call, repeats) * 1e-9


class Watch:
    """Tells when cores are slower than they can be, by a loop that lives in registers.

    The host of a virtual machine lets two of its cores share one now and then, or gives one to others: everything takes
    twice as long for a tenth of a second to some minutes, whichever library is measured.
    """

    SLOWER = 1.25
    # Two threads that have slept may begin on one core and be slow once.
    LOOKS = 3

    def __init__(self, threads: int) -> None:
        loop, _ = _peak_loop("float32", threads, 4 * LOOPS)
        self._run = _on_threads(lambda thread: best_seconds(lambda: loop(thread), 1), threads)
        self._best = float("inf")
        self.disturbances = 0
        for _ in range(5):
            self.is_disturbed()

    def is_disturbed(self) -> bool:
        """Run the loop on all threads at once; tell whether one of them takes longer than the best, each time."""
        for _ in range(self.LOOKS):
            times = self._run()
            self._best = min(self._best, *times)
            if max(times) <= self.SLOWER * self._best:
                return False
        self.disturbances += 1
        return True


# Two threads in turn count a flag up by one, the first from even numbers, the second from odd ones.
FLAG_PROGRAM = """
define void @count(ptr %flag, i64 %first, i64 %last) {
entry:
  br label %wait
wait:
  %n = phi i64 [%first, %entry], [%n, %wait], [%after, %step]
  %seen = load atomic i64, ptr %flag acquire, align 8
  %mine = icmp eq i64 %seen, %n
  br i1 %mine, label %step, label %wait
step:
  %next = add i64 %n, 1
  store atomic i64 %next, ptr %flag release, align 8
  %after = add i64 %n, 2
  %more = icmp slt i64 %after, %last
  br i1 %more, label %wait, label %end
end:
  ret void
}
"""
ROUND_TRIPS = 2_000


@cache
def _flag_function() -> tuple[Any, Callable[[int, int, int], None]]:
    engine = _compiled(FLAG_PROGRAM)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return engine, signature(engine.get_function_address("count"))


def round_trip_ns(repeats: int = 5) -> float:
    """Return the time in which a number goes from one core to another and back, in nanoseconds.

    Some 60 where the two share a cache, 300 where they do not. The host of a virtual machine may move a core from one
    state to the other at any time, and with it the time of whatever threads exchange.
    """
    _, count = _flag_function()
    flag = np.zeros(16, np.int64)
    address = flag.ctypes.data + -flag.ctypes.data % 64

    def trips() -> None:
        flag[:] = 0
        call()

    call = _on_threads(lambda thread: count(address, thread, 2 * ROUND_TRIPS), 2)
    return best_seconds(trips, repeats) / ROUND_TRIPS * 1e9


def copy_gbytes(threads: int = 1, repeats: int = 3) -> float:
    """Return the bandwidth of copying arrays larger than the caches, in GB/s: bytes read and bytes written."""
    share = COPY_BYTES // threads
    pairs = [(np.zeros(share, np.uint8), np.ones(share, np.uint8)) for _ in range(threads)]
    call = _on_threads(lambda i: np.copyto(*pairs[i]), threads)
    call()
    return 2 * share * threads / best_seconds(call, repeats) * 1e-9


def matmul_seconds(repeats: int = 5) -> float:
    """Return the best time of NumPy's product of two square matrices of float32, MATRIX rows each."""
    a = np.ones((MATRIX, MATRIX), np.float32)
    np.matmul(a, a)
    return best_seconds(lambda: np.matmul(a, a), repeats)
