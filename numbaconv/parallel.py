"""One parallel launch per call: workers take the tasks of one kernel from a shared counter.

`launch` fills a block of int64 numbers with everything a launch needs and hands its address to compiled code, which
calls the ``parallel_for`` of Numba's threading layer (OpenMP, TBB or workqueue) once. Which worker runs a task is left
to chance and must not matter: a kernel's result depends on its task number alone, so it is the same for any number of
threads.

The serial path is a compiled loop that never enters the threading layer. It serves small work and every case in which a
layer would crash or hang: a process forked after a layer had started (OpenMP) and a second caller of workqueue.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.np.ufunc import parallel as numba_parallel

from numbaconv.jit import CONFIGURATION, CompiledFunction, TaskKernel
from numbaconv.memory import aligned_bytes
from numbaconv.simd.driver import DATA_FIELD, MAX_ARRAYS, TABLE, WORKERS, run_parallel, run_serial, run_worker
from numbaconv.target import TARGET

# A thread keeps its workspace for its next call up to this size; a larger one is freed at once.
MAX_KEPT_WORKSPACE = 256 << 20

_ITEM_BYTES = {"float32": 4, "float64": 8}
_BLOCK = types.CPointer(types.int64)


_SERIAL = CompiledFunction(run_serial, types.void(_BLOCK), "parallel.serial")
_PARALLEL = CompiledFunction(run_parallel, types.void(_BLOCK), "parallel.parallel")
_WORKER = CompiledFunction(run_worker, types.void(types.CPointer(_BLOCK), _BLOCK, _BLOCK, _BLOCK), "parallel.worker")

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_HEADER = struct.Struct("8q")
_TABLES = [struct.Struct(f"{n}q") for n in range(MAX_ARRAYS + 1)]

_probe = np.empty(1)
if ctypes.c_void_p.from_address(id(_probe) + DATA_FIELD).value != _probe.ctypes.data:
    raise ImportError(f"NumPy {np.__version__} keeps the address of an array's data elsewhere than its C API says")


class _Layer:
    """Numba's threading layer as this process may use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = ""
        self.parallel_for = 0
        self.get_num_threads: Callable[[], int] = lambda: 1
        # workqueue aborts the process when two threads enter it: whoever does not get this lock runs serially.
        self.entry: threading.Lock | None = None
        self.is_usable = TARGET.threads > 1

    def start(self) -> None:
        """Start the layer's threads, once."""
        with self.lock:
            if self.name:
                return
            numba_parallel._launch_threads()
            self.parallel_for = llvm.address_of_symbol("numba_parallel_for")
            self.get_num_threads = ctypes.CFUNCTYPE(ctypes.c_int)(llvm.address_of_symbol("get_num_threads"))
            name = numba_parallel.threading_layer()
            self.entry = threading.Lock() if name == "workqueue" else None
            self.name = name

    def after_fork_in_child(self) -> None:
        """Keep to the serial path for good where the parent had threads: the child, and its children, have none."""
        self.lock = threading.Lock()
        self.entry = threading.Lock() if self.entry is not None else None
        if numba_parallel._is_initialized:
            self.is_usable = False


_layer = _Layer()


class _Call:
    """The memory of one launch: its block of numbers, its workspace, and the compiled entry points."""

    def __init__(self) -> None:
        size = WORKERS + max(1, TARGET.threads)
        self.block = aligned_bytes(8 * size)
        self.block_address = self.block.ctypes.data
        self.memory = self.block.data
        self.workspace = aligned_bytes(0)
        self.workspace_address = 0
        self.serial = _ENTRY(_SERIAL.address)
        self.parallel: Callable[[int], None] | None = None

    def reserve(self, nbytes: int) -> int:
        """Return the address of at least ``nbytes`` of workspace."""
        if self.workspace.size < nbytes:
            self.workspace = aligned_bytes(nbytes)
            self.workspace_address = self.workspace.ctypes.data
        return self.workspace_address

    def release(self) -> None:
        """Free a workspace too large to keep."""
        if self.workspace.size > MAX_KEPT_WORKSPACE:
            self.workspace = aligned_bytes(0)
            self.workspace_address = 0


class _Calls(threading.local):
    """Idle `_Call` objects of a thread: one, or more after a signal handler or finaliser launched within a launch."""

    def __init__(self) -> None:
        self.idle: list[_Call] = []


_calls = _Calls()


def thread_count() -> int:
    """Return the number of threads that the calling thread's next launch may use."""
    if not _layer.is_usable:
        return 1
    if not _layer.name:
        _layer.start()
    return _layer.get_num_threads()


def threading_layer() -> str:
    """Return the name of Numba's threading layer, or why there is none."""
    if not _layer.is_usable:
        return "serial: one thread" if TARGET.threads <= 1 else "serial: forked after threads had started"
    _layer.start()
    return _layer.name


CONFIGURATION["threads"] = lambda: f"{thread_count()} ({threading_layer()})"


def launch(
    kernel: TaskKernel,
    dtype: str,
    tasks: int,
    geometry: np.ndarray,
    arrays: Sequence[np.ndarray],
    workspace: int = 0,
    serial: bool = False,
) -> None:
    """Run ``kernel`` for every task from 0 to ``tasks - 1``.

    Parameters
    ----------
    kernel : TaskKernel
        Kernel to run; its code is loaded or compiled on first use.
    dtype : str
        ``"float32"`` or ``"float64"``, the type of all ``arrays``.
    tasks : int
        Number of tasks.
    geometry : ndarray of int64
        Numbers that the kernel reads, contiguous; ``geometry[0]`` must be ``workspace``.
    arrays : sequence of ndarray
        Their addresses become ``buffers[1]``, ``buffers[2]``, ...; at most 40.
    workspace : int
        Elements of private workspace per worker, at ``buffers[0] + worker * workspace``; a multiple of 16 keeps each
        worker's share aligned to 64 bytes. Its content is arbitrary.
    serial : bool
        Whether to stay on the calling thread, as small work should.
    """
    if tasks <= 0:
        return
    address = kernel.address(dtype)
    threads = 1 if serial or tasks == 1 else min(thread_count(), tasks)
    entry = _layer.entry
    if threads > 1 and entry is not None and not entry.acquire(blocking=False):
        threads = 1
    idle = _calls.idle
    call = idle.pop() if idle else _Call()
    try:
        base = call.reserve(threads * workspace * _ITEM_BYTES[dtype]) if workspace else 0
        count = len(arrays)
        _TABLES[count].pack_into(call.memory, 8 * (TABLE + 1), *map(id, arrays))
        if threads == 1:
            _HEADER.pack_into(call.memory, 0, address, tasks, id(geometry), base, 1, 0, 0, count)
            call.serial(call.block_address)
        else:
            if call.parallel is None:
                call.parallel = _ENTRY(_PARALLEL.address)
            _HEADER.pack_into(
                call.memory, 0, address, tasks, id(geometry), base, threads, _layer.parallel_for, _WORKER.address, count
            )
            call.parallel(call.block_address)
    finally:
        if threads > 1 and entry is not None:
            entry.release()
        call.release()
        idle.append(call)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_layer.after_fork_in_child)
