"""One entry of the threading layer per call: workers take the tasks of one or more kernels, each its share first.

`launch` fills a block of int64 numbers with everything a launch needs and hands its address to compiled code, which
calls the ``parallel_for`` of Numba's threading layer (OpenMP, TBB or workqueue) once. Which worker runs a task is left
to chance and must not matter: a kernel's result depends on its task number alone, so it is the same for any number of
threads. Launches in a row are a program (`numbaconv.program`); a launch by itself is a program of one step.

The serial path is a compiled loop that never enters the threading layer. It serves small work and every case in which a
layer would crash or hang: a process forked after a layer had started (OpenMP) and a second caller of workqueue.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import types

from numbaconv.jit import CONFIGURATION, CompiledFunction, TaskKernel
from numbaconv.memory import ALIGNMENT, aligned_bytes, aligned_size
from numbaconv.simd.driver import (
    BUFFER_CODES,
    DATA_FIELD,
    FIRST_ARGUMENT,
    FIRST_ARGUMENT_BASE,
    FIRST_STEP,
    MAX_ARRAYS,
    OWN_PLAN,
    OWN_PROGRAM,
    STATUS,
    STEP_OPERANDS,
    WORKER_SIZE,
    WORKERS,
    run_parallel,
    run_serial,
    run_worker,
)
from numbaconv.target import TARGET
from numbaconv.threading_layer import NOTHING, ThreadingLayer

if TYPE_CHECKING:
    from numbaconv.program import Operand, Recorder

# A thread keeps its workspace for its next call up to this size; a larger one is freed at once.
MAX_KEPT_WORKSPACE = 256 << 20

_ITEM_BYTES = {"float32": 4, "float64": 8}
_BLOCK = types.CPointer(types.int64)


_SERIAL = CompiledFunction(run_serial, types.void(_BLOCK), "parallel.serial")
_PARALLEL = CompiledFunction(run_parallel, types.void(_BLOCK), "parallel.parallel")
_WORKER = CompiledFunction(run_worker, types.void(types.CPointer(_BLOCK), _BLOCK, _BLOCK, _BLOCK), "parallel.worker")

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# Keeps the interpreter's lock: giving it up and getting it back costs more than small work takes.
_SMALL_ENTRY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_PLAN = struct.Struct("11q")
# A program of one step up to its operands.
_ONE_STEP = struct.Struct(f"{FIRST_STEP + STEP_OPERANDS}q")
_STATUS = struct.Struct("q")
_BLOCKS = [struct.Struct(f"{FIRST_ARGUMENT + n}q") for n in range(MAX_ARRAYS + 1)]
_EQUAL_SHARES = np.zeros(1, np.int64)

_probe = np.empty(1)
if ctypes.c_void_p.from_address(id(_probe) + DATA_FIELD).value != _probe.ctypes.data:
    raise ImportError(f"NumPy {np.__version__} keeps the address of an array's data elsewhere than its C API says")


_layer = ThreadingLayer()


class _Call:
    """The memory of one run: its block of numbers, its workspace, and the compiled entry points."""

    def __init__(self) -> None:
        size = WORKERS + WORKER_SIZE * max(1, TARGET.threads)
        self.block = aligned_bytes(8 * size)
        self.block_address = self.block.ctypes.data
        self.memory = self.block.data
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
        self.parallel: Callable[[int], None] | None = None

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
        self, program: int, tasks: int, memory: tuple[int, int], serial: bool, arrays: Sequence[np.ndarray]
    ) -> None:
        """Run a program of which each worker gets ``memory[1]`` bytes, behind ``memory[0]`` bytes shared by all."""
        threads = 1 if serial or tasks <= 1 else min(thread_count(), tasks)
        entry = _layer.entry
        if threads > 1 and entry is not None and not entry.acquire(blocking=False):
            threads = 1
        shared, private = memory
        try:
            base = self.reserve(shared + threads * private)
            pack = _BLOCKS[len(arrays)].pack_into
            if threads == 1:
                pack(self.memory, 0, program, base, 1, 0, 0, 0, 0, *map(id, arrays))
                self.serial(self.block_address)
            else:
                if self.parallel is None:
                    self.parallel = _ENTRY(_PARALLEL.address)
                layer = _layer.parallel_for, _WORKER.address, _layer.system_address
                pack(self.memory, 0, program, base, threads, *layer, 0, *map(id, arrays))
                self.parallel(self.block_address)
        finally:
            if threads > 1 and entry is not None:
                entry.release()
            self.release()


def argument_operands(count: int) -> list[int]:
    """Return the operands of a step that are the program's arguments in order."""
    return [number for i in range(count) for number in (FIRST_ARGUMENT_BASE + i, 0)]


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
    idle = _calls.idle
    call = idle.pop() if idle else _Call()
    try:
        count = len(arrays)
        plan = (address, tasks, id(geometry), count, count, id(NOTHING), 0, id(NOTHING), 0, 0, id(_EQUAL_SHARES))
        _PLAN.pack_into(call.memory, 8 * OWN_PLAN, *plan)
        _ONE_STEP.pack_into(call.memory, 8 * OWN_PROGRAM, 1, count, 0, call.own_plan)
        call.run(call.own_program, tasks, (0, workspace * _ITEM_BYTES[dtype]), serial, arrays)
    finally:
        idle.append(call)


def run_program(
    program: int, tasks: int, memory: tuple[int, int], small: int | None, arrays: Sequence[np.ndarray]
) -> int:
    """Run a program, described in `numbaconv.simd.driver`, and return its status word.

    ``small`` is the bytes of workspace of a program whose work is below what a launch of threads costs.
    """
    idle = _calls.idle
    call = idle.pop() if idle else _Call()
    try:
        if small is None:
            call.run(program, tasks, memory, False, arrays)
        else:
            base = call.workspace_address if call.workspace_size >= small else call.reserve(small)
            _BLOCKS[len(arrays)].pack_into(call.memory, 0, program, base, 1, 0, 0, 0, 0, *map(id, arrays))
            call.small(call.block_address)
        return int(_STATUS.unpack_from(call.memory, 8 * STATUS)[0])
    finally:
        idle.append(call)


@dataclass(frozen=True, slots=True)
class Uninitialised:
    """A buffer of one launch, shared by its workers, whose content is arbitrary at first."""

    nbytes: int


class Launch:
    """A launch as `launch` makes it, prepared for many calls that differ in their arrays alone.

    Parameters
    ----------
    kernel, dtype, tasks, geometry, workspace
        As in `launch`; the kernel's code is loaded or compiled now.
    buffers : sequence of int, ndarray or Uninitialised
        What ``buffers[1]``, ``buffers[2]``, ... are: the address of an argument, by its number; a buffer that holds a
        copy of an array when the tasks start; or an uninitialised one.
    arguments : int
        Number of arrays that a call takes.
    copies : sequence of (int, int, int, int, int)
        What to copy before the tasks start: argument, byte in it, number in ``buffers`` of a copied array, byte in
        that, number of bytes.
    small : bool
        Whether the work is below what a launch of threads costs.
    shares : ndarray of int64, optional
        A number of workers, then for that many the first task of each one's share and the end of the last one's; with
        any other number of workers, and by default, shares are of equal numbers of tasks.
    kept : sequence of int
        Numbers in ``buffers`` of those that last from call to call: further arguments, for which `new_kept` has memory.

    Attributes
    ----------
    of_constant : callable or None
        Returns the launch to make instead where the second argument is a constant array (`numbaconv.constants`). What
        it keeps depends on that alone.
    """

    __slots__ = (
        "_geometry",
        "_initial",
        "_kept",
        "_moves",
        "_pack",
        "_plan",
        "_program",
        "_shares",
        "_small",
        "_steps",
        "address",
        "is_small",
        "memory",
        "of_constant",
        "tasks",
    )

    def __init__(
        self,
        kernel: TaskKernel,
        dtype: str,
        tasks: int,
        geometry: np.ndarray,
        buffers: Sequence[int | np.ndarray | Uninitialised],
        arguments: int,
        workspace: int = 0,
        copies: Sequence[tuple[int, int, int, int, int]] = (),
        small: bool = False,
        shares: np.ndarray | None = None,
        kept: Sequence[int] = (),
    ) -> None:
        self.of_constant: Callable[[], Launch] | None = None
        self._kept = [buffer for i in kept if not isinstance(buffer := buffers[i], int)]
        buffers = [arguments + kept.index(i) if i in kept else buffer for i, buffer in enumerate(buffers)]
        arguments += len(kept)
        codes, places, shared = list(buffers), {}, 0
        initial = [(i, buffer) for i, buffer in enumerate(buffers) if isinstance(buffer, np.ndarray)]
        for i, array in initial:
            places[i] = shared
            shared += aligned_size(array.nbytes)
        self._initial = np.zeros(shared // 8, np.int64)
        for i, array in initial:
            self._initial.view(np.uint8)[places[i] :][: array.nbytes] = array.reshape(-1).view(np.uint8)
        for i, buffer in enumerate(buffers):
            if isinstance(buffer, Uninitialised):
                places[i] = shared
                shared += aligned_size(buffer.nbytes)
        codes = [buffer if isinstance(buffer, int) else ~places[i] for i, buffer in enumerate(buffers)]
        moves = [(argument, start, places[i] + to, nbytes) for argument, start, i, to, nbytes in copies]
        self._moves = np.array(moves, np.int64).reshape(-1, 4)
        self._geometry = geometry
        self._shares = _EQUAL_SHARES if shares is None else shares
        self._plan = np.array(
            [
                kernel.address(dtype), tasks, id(geometry), len(codes), arguments, id(self._initial),
                self._initial.size, id(self._moves), len(moves), shared, id(self._shares), *codes,
            ],
            np.int64,
        )  # fmt: skip
        self.address = self._plan.ctypes.data
        self.memory = shared, workspace * _ITEM_BYTES[dtype]
        self.tasks = tasks
        self.is_small = small
        self._small = sum(self.memory) if small else None
        numbers = [1, arguments, 0, self.address, *argument_operands(arguments)]
        self._steps = np.array(numbers, np.int64)
        self._program = self._steps.ctypes.data
        self._pack = _BLOCKS[arguments].pack_into

    def __call__(self, *arrays: np.ndarray) -> None:
        """Run the kernel on `arrays`."""
        idle = _calls.idle
        call = idle.pop() if idle else _Call()
        try:
            nbytes = self._small
            if nbytes is None:
                call.run(self._program, self.tasks, self.memory, False, arrays)
                return
            base = call.workspace_address if call.workspace_size >= nbytes else call.reserve(nbytes)
            self._pack(call.memory, 0, self._program, base, 1, 0, 0, 0, 0, *map(id, arrays))
            call.small(call.block_address)
        finally:
            idle.append(call)

    def record(self, recorder: Recorder, *operands: Operand) -> None:
        """Add the launch to a program that is being recorded."""
        recorder.launch(self, *operands)

    def new_kept(self) -> np.ndarray:
        """Return new memory for the buffers that last, with their first contents."""
        memory = np.empty(sum(aligned_size(int(buffer.nbytes)) for buffer in self._kept) + ALIGNMENT, np.uint8)
        for buffer, part in zip(self._kept, self.kept_parts(memory), strict=True):
            if isinstance(buffer, np.ndarray):
                part[:] = buffer.reshape(-1).view(np.uint8)
        return memory

    def kept_parts(self, memory: np.ndarray) -> list[np.ndarray]:
        """Return the arguments that `new_kept` has made the memory of; it lives as long as one of them."""
        parts, start = [], -memory.ctypes.data % ALIGNMENT
        for buffer in self._kept:
            parts.append(memory[start : start + buffer.nbytes])
            start += aligned_size(buffer.nbytes)
        return parts


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_layer.after_fork_in_child)
