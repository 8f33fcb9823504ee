"""One entry of the threading layer per call: workers take the tasks of one or more kernels, each its share first.

`launch` fills a block of int64 numbers with everything a launch needs and hands its address to compiled code, which
calls the ``parallel_for`` of Numba's threading layer (OpenMP, TBB or workqueue) once. Which worker runs a task is left
to chance and must not matter: a kernel's result depends on its task number alone, so it is the same for any number of
threads. Launches in a row are a program (`numbaconv.program`); a launch by itself is a program of one step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from numbaconv.jit import TaskKernel
from numbaconv.memory import ALIGNMENT, aligned_size
from numbaconv.runs import (
    ARGUMENTS,
    ARGUMENTS_AT,
    BLOCKS,
    CALLS,
    LAYER,
    Call,
    argument_operands,
    thread_count,
    threading_layer,
)
from numbaconv.simd.driver import FIRST_STEP, OWN_PLAN, OWN_PROGRAM, STATUS, STEP_OPERANDS
from numbaconv.threading_layer import NOTHING

if TYPE_CHECKING:
    from numbaconv.program import Operand, Recorder

__all__ = ["Launch", "Uninitialised", "launch", "run_program", "thread_count", "threading_layer"]

_ITEM_BYTES = {"float32": 4, "float64": 8}
_PLAN = struct.Struct("11q")
# A program of one step up to its operands.
_ONE_STEP = struct.Struct(f"{FIRST_STEP + STEP_OPERANDS}q")
_EQUAL_SHARES = np.zeros(1, np.int64)


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
    idle = CALLS.idle
    call = idle.pop() if idle else Call()
    try:
        count = len(arrays)
        plan = (address, tasks, id(geometry), count, count, id(NOTHING), 0, id(NOTHING), 0, 0, id(_EQUAL_SHARES))
        _PLAN.pack_into(call.memory, 8 * OWN_PLAN, *plan)
        _ONE_STEP.pack_into(call.memory, 8 * OWN_PROGRAM, 1, count, 0, call.own_plan)
        call.run(object(), call.own_program, tasks, (0, workspace * _ITEM_BYTES[dtype], 0), serial, arrays)
    finally:
        idle.append(call)


def run_program(
    owner: object,
    program: int,
    tasks: int,
    memory: tuple[int, int, int],
    small: int | None,
    arrays: Sequence[np.ndarray],
) -> int:
    """Run a program, described in `numbaconv.simd.driver`, and return its status word.

    ``memory`` is as for `Call.run`. An ``owner`` always has the same program. ``small`` is the bytes of workspace of
    one whose work is below what a launch of threads costs.
    """
    idle = CALLS.idle
    call = idle.pop() if idle else Call()
    try:
        if call.ready is owner and LAYER.is_usable:
            ARGUMENTS[len(arrays)](call.memory, ARGUMENTS_AT, *map(id, arrays))
            call.parallel(call.block_address)
        elif small is None:
            call.run(owner, program, tasks, memory, False, arrays)
        else:
            call.ready = None
            base = call.workspace_address if call.workspace_size >= small else call.reserve(small)
            BLOCKS[len(arrays)](call.memory, 0, program, base, 1, 0, 0, 0, 0, *map(id, arrays))
            call.small(call.block_address)
        return call.words[STATUS]
    finally:
        idle.append(call)


@dataclass(frozen=True, slots=True)
class Uninitialised:
    """A buffer of one launch, shared by its workers, whose content is arbitrary at first."""

    nbytes: int


Kept: TypeAlias = np.ndarray | Uninitialised
"""What a buffer that lasts from call to call is at first."""


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
    of_compared : callable or None
        Returns the launch to make instead in programs, as long as what it keeps from run to run takes little memory; of
        small work there is none. That serves until the second argument changes, which the kernel finds out. Buffers
        that are arrays are zeros.
    kept : list of Kept
        The buffers that last.
    """

    __slots__ = (
        "_geometry",
        "_initial",
        "_moves",
        "_owner",
        "_pack",
        "_plan",
        "_program",
        "_shares",
        "_small",
        "_steps",
        "address",
        "is_small",
        "kept",
        "memory",
        "of_compared",
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
        self.of_compared: Callable[[], Launch] | None = None
        self.kept: list[Kept] = [buffer for i in kept if not isinstance(buffer := buffers[i], int)]
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
        # Not the launch itself, which would live on in threads that have run it.
        self._owner = object()
        self._shares = _EQUAL_SHARES if shares is None else shares
        self._plan = np.array(
            [
                kernel.address(dtype), tasks, id(geometry), len(codes), arguments, id(self._initial),
                self._initial.size, id(self._moves), len(moves), shared, id(self._shares), *codes,
            ],
            np.int64,
        )  # fmt: skip
        self.address = self._plan.ctypes.data
        self.memory = shared, workspace * _ITEM_BYTES[dtype], 0
        self.tasks = tasks
        self.is_small = small
        self._small = sum(self.memory) if small else None
        numbers = [1, arguments, 0, self.address, *argument_operands(arguments)]
        self._steps = np.array(numbers, np.int64)
        self._program = self._steps.ctypes.data
        self._pack = BLOCKS[arguments]

    def __call__(self, *arrays: np.ndarray) -> None:
        """Run the kernel on `arrays`."""
        idle = CALLS.idle
        call = idle.pop() if idle else Call()
        try:
            nbytes = self._small
            if call.ready is self._owner and LAYER.is_usable:
                ARGUMENTS[len(arrays)](call.memory, ARGUMENTS_AT, *map(id, arrays))
                call.parallel(call.block_address)
                return
            if nbytes is None:
                call.run(self._owner, self._program, self.tasks, self.memory, False, arrays)
                return
            call.ready = None
            base = call.workspace_address if call.workspace_size >= nbytes else call.reserve(nbytes)
            self._pack(call.memory, 0, self._program, base, 1, 0, 0, 0, 0, *map(id, arrays))
            call.small(call.block_address)
        finally:
            idle.append(call)

    def record(self, recorder: Recorder, *operands: Operand) -> None:
        """Add the launch to a program that is being recorded."""
        recorder.launch(self, *operands)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the buffers that last."""
        return sum(aligned_size(int(buffer.nbytes)) for buffer in self.kept)

    def new_kept(self) -> np.ndarray:
        """Return new memory for the buffers that last, with their first contents."""
        memory = np.empty(self.kept_bytes + ALIGNMENT, np.uint8)
        for buffer, part in zip(self.kept, self.kept_parts(memory), strict=True):
            if isinstance(buffer, np.ndarray):
                part[:] = buffer.reshape(-1).view(np.uint8)
        return memory

    def kept_parts(self, memory: np.ndarray) -> list[np.ndarray]:
        """Return the arguments that `new_kept` has made the memory of; it lives as long as one of them."""
        parts, start = [], -memory.ctypes.data % ALIGNMENT
        for buffer in self.kept:
            parts.append(memory[start : start + buffer.nbytes])
            start += aligned_size(buffer.nbytes)
        return parts
