"""What one run of a program needs: its block of numbers, its workspace, and the compiled entry points.

The serial path is a compiled loop that never enters the threading layer. It serves small work and every case in which a
layer would crash or hang: a process forked after a layer had started (OpenMP) and a second caller of workqueue.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numba import types

from numbaconv.jit import CONFIGURATION, CompiledFunction
from numbaconv.memory import aligned_bytes
from numbaconv.simd.driver import (
    BUFFER_CODES,
    DATA_FIELD,
    FIRST_ARGUMENT,
    FIRST_ARGUMENT_BASE,
    FIRST_STEP,
    MAX_ARRAYS,
    OWN_PLAN,
    OWN_PROGRAM,
    STEP_OPERANDS,
    WORKER_SIZE,
    WORKERS,
    run_parallel,
    run_serial,
    run_worker,
)
from numbaconv.target import TARGET
from numbaconv.threading_layer import ThreadingLayer

# A thread keeps its workspace for its next call up to this size; a larger one is freed at once.
MAX_KEPT_WORKSPACE = 256 << 20

_BLOCK = types.CPointer(types.int64)
_SERIAL = CompiledFunction(run_serial, types.void(_BLOCK), "parallel.serial")
_PARALLEL = CompiledFunction(run_parallel, types.void(_BLOCK), "parallel.parallel")
_WORKER = CompiledFunction(run_worker, types.void(types.CPointer(_BLOCK), _BLOCK, _BLOCK, _BLOCK), "parallel.worker")

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# Keeps the interpreter's lock: giving it up and getting it back costs more than small work takes.
_SMALL_ENTRY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
ARGUMENTS = [struct.Struct(f"{n}q").pack_into for n in range(MAX_ARRAYS + 1)]
"""By the number of arrays, what writes them alone to a block, `ARGUMENTS_AT` bytes behind its beginning."""

ARGUMENTS_AT = 8 * FIRST_ARGUMENT

BLOCKS = [struct.Struct(f"{FIRST_ARGUMENT + n}q").pack_into for n in range(MAX_ARRAYS + 1)]
"""By the number of arrays, what writes a block: program, memory, threads, 3 numbers of the layer, status, arrays."""

_probe = np.empty(1)
if ctypes.c_void_p.from_address(id(_probe) + DATA_FIELD).value != _probe.ctypes.data:
    raise ImportError(f"NumPy {np.__version__} keeps the address of an array's data elsewhere than its C API says")


LAYER = ThreadingLayer()


class Call:
    """The memory of one run: its block of numbers, its workspace, and the compiled entry points."""

    def __init__(self) -> None:
        size = WORKERS + WORKER_SIZE * max(1, TARGET.threads)
        self.block = aligned_bytes(8 * size)
        self.block_address = self.block.ctypes.data
        self.memory = self.block.data
        self.words = self.memory.cast("q")
        # A launch used once has each argument as the operand and the buffer of the same number.
        self.own_plan = self.block_address + 8 * OWN_PLAN
        self.own_program = self.block_address + 8 * OWN_PROGRAM
        numbers = self.block.view(np.int64)
        numbers[OWN_PLAN + BUFFER_CODES :][:MAX_ARRAYS] = np.arange(MAX_ARRAYS)
        numbers[OWN_PROGRAM + FIRST_STEP + STEP_OPERANDS :][: 2 * MAX_ARRAYS] = argument_operands(MAX_ARRAYS)
        self.workspace = aligned_bytes(0)
        self.workspace_size = 0
        self.workspace_address = 0
        self.serial = _ENTRY(_SERIAL.address)
        self.small = _SMALL_ENTRY(_SERIAL.address)
        self.parallel: Callable[[int], None] = self.serial  # until the first run by several threads
        # Whose last run left a block behind that serves for its next one, arguments excepted. While the layer is usable
        # it writes its `ARGUMENTS` and calls `parallel`, without a function of its own around these, whose frame costs
        # up to a microsecond where a network's weights drive Python's numbers out of the caches.
        self.ready: object = None

    def reserve(self, nbytes: int) -> int:
        """Return the address of at least ``nbytes`` of workspace."""
        if self.workspace_size < nbytes:
            self.workspace = aligned_bytes(nbytes)
            self.workspace_size = nbytes
            self.workspace_address = self.workspace.ctypes.data
        return self.workspace_address

    def release(self) -> None:
        """Free a workspace too large to keep."""
        if self.workspace_size > MAX_KEPT_WORKSPACE:
            self.workspace = aligned_bytes(0)
            self.workspace_size = self.workspace_address = 0

    def run(
        self,
        owner: object,
        program: int,
        tasks: int,
        memory: tuple[int, int, int],
        serial: bool,
        arrays: Sequence[np.ndarray],
    ) -> None:
        """Run a program of which each worker gets ``memory[1]`` bytes, behind ``memory[0]`` bytes shared by all.

        The first ``memory[2]`` of these are zero. What is in the others is arbitrary.
        """
        self.ready = None
        is_parallel = not serial and tasks > 1 and thread_count() > 1
        entry, threads = LAYER.entry, min(TARGET.threads, tasks) if is_parallel else 1
        if is_parallel and entry is not None and not entry.acquire(blocking=False):
            is_parallel, threads, entry = False, 1, None
        shared, private, cleared = memory
        try:
            base = self.reserve(shared + threads * private)
            if cleared > 0:
                self.workspace[:cleared] = 0
            pack = BLOCKS[len(arrays)]
            if not is_parallel:
                pack(self.memory, 0, program, base, 1, 0, 0, 0, 0, *map(id, arrays))
                self.serial(self.block_address)
                return
            if self.parallel is self.serial:
                self.parallel = _ENTRY(_PARALLEL.address)
            layer = LAYER.parallel_for, _WORKER.address, LAYER.system_address
            pack(self.memory, 0, program, base, threads, *layer, 0, *map(id, arrays))
            self.parallel(self.block_address)
            if entry is None and self.workspace_size <= MAX_KEPT_WORKSPACE:
                self.ready = owner
        finally:
            if is_parallel and entry is not None:
                entry.release()
            self.release()


def argument_operands(count: int) -> list[int]:
    """Return the operands of a step that are the program's arguments in order."""
    return [number for i in range(count) for number in (FIRST_ARGUMENT_BASE + i, 0)]


class Calls(threading.local):
    """Idle `Call` objects of a thread: one, or more after a signal handler or finaliser launched within a launch."""

    def __init__(self) -> None:
        self.idle: list[Call] = []


CALLS = Calls()


def thread_count() -> int:
    """Return the number of threads that the calling thread's next launch may use."""
    if not LAYER.is_usable:
        return 1
    if not LAYER.name:
        LAYER.start()
    return LAYER.get_num_threads()


def threading_layer() -> str:
    """Return the name of Numba's threading layer, or why there is none."""
    if not LAYER.is_usable:
        return "serial: one thread" if TARGET.threads <= 1 else "serial: forked after threads had started"
    LAYER.start()
    return LAYER.name


CONFIGURATION["threads"] = lambda: f"{thread_count()} ({threading_layer()})"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LAYER.after_fork_in_child)
