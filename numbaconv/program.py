"""Programs: launches in a row on known buffers, recorded once and run by one call of compiled code.

A `Recorder` takes launches with their operands; what is passed from one launch to a later one lies in memory that is
shared by all whose uses do not overlap, so that a small network stays in the caches. Threads enter the layer once for
all launches (`run_worker` in `numbaconv.simd.driver`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from numbaconv import memory, parallel
from numbaconv.constants import is_constant, made_once
from numbaconv.simd.driver import ABSOLUTE, BETWEEN, FIRST_ARGUMENT_BASE, STATUS_WORD

MAX_BYTES_BETWEEN = 32 << 20
"""Programs whose launches pass on more than this are not made: beside their work, Python in between is nothing."""


MAX_LASTING_BYTES = 16 << 20
"""What launches keep from one run of a program to the next, at most."""


class Buffer:
    """Memory that some launches of a program write and read; its content is arbitrary at first."""

    __slots__ = ("base", "first", "last", "nbytes", "offset", "size")

    def __init__(self, size: int, item: int, base: int = BETWEEN) -> None:
        self.size = size
        self.nbytes = size * item
        self.base = base
        self.offset = 0
        # Numbers of the first and the last launch that use it.
        self.first = self.last = -1


Operand: TypeAlias = Buffer | NDArray
"""What a recorded launch works on: a buffer, or an array that stays where it is (a weight)."""


class Recorder:
    """Launches being recorded, on ``size`` numbers of ``dtype``.

    Attributes
    ----------
    x : Buffer
        The program's argument.
    status : Buffer
        A word that is 0 at first. A launch that sets it makes the program's result void.
    wants_gradients : bool
        Whether what is recorded must be followed back later.
    """

    wants_gradients = False

    def __init__(self, size: int, dtype: str) -> None:
        self.dtype = dtype
        self._item = np.dtype(dtype).itemsize
        self.x = self.argument(0, size)
        self.status = Buffer(1, 8, STATUS_WORD)
        self._steps: list[tuple[parallel.Launch, tuple[Operand, ...]]] = []
        self._buffers: list[Buffer] = []
        self._held: list[object] = []
        # What lasts from one run to the next unless another program may have run since: then the former are zeros, the
        # content of the latter is arbitrary.
        self._flags: list[Buffer] = []
        self._kept: list[Buffer] = []

    def buffer(self, size: int) -> Buffer:
        """Return a new buffer for ``size`` numbers."""
        self._buffers.append(Buffer(size, self._item))
        return self._buffers[-1]

    def _lasting(self, kept: parallel.Kept) -> Buffer:
        """Return a buffer for what a launch keeps."""
        buffers = self._flags if isinstance(kept, np.ndarray) else self._kept
        buffers.append(Buffer(kept.nbytes, 1))
        return buffers[-1]

    def result(self, size: int) -> Buffer:
        """Return a buffer for the outputs of a layer: here one like any other."""
        return self.buffer(size)

    def argument(self, number: int, size: int, start: int = 0) -> Buffer:
        """Return ``size`` numbers of an argument, from number ``start`` of it on."""
        part = Buffer(size, self._item, FIRST_ARGUMENT_BASE + number)
        part.offset = start * self._item
        return part

    def hand_over(self, buffer: Buffer, number: int) -> None:
        """Make a buffer the whole of an argument."""
        buffer.base, buffer.offset = FIRST_ARGUMENT_BASE + number, 0

    def launch(self, launch: parallel.Launch, *operands: Operand) -> None:
        """Record a launch on operands; of a constant kernel, second among them, what it makes is kept."""
        if launch.of_constant is not None and is_constant(operands[1]):
            launch = launch.of_constant()
            operands = (*operands, *_kept_parts(launch, operands))
        elif launch.of_compared is not None and isinstance(operands[1], np.ndarray) and not self.wants_gradients:
            compared = launch.of_compared()
            lasting = sum(buffer.nbytes for buffer in self._flags + self._kept)
            if lasting + compared.kept_bytes <= MAX_LASTING_BYTES:
                launch, operands = compared, (*operands, *map(self._lasting, compared.kept))
        number = len(self._steps)
        for operand in operands:
            if isinstance(operand, Buffer):
                operand.first = number if operand.first < 0 else operand.first
                operand.last = number
        self._steps.append((launch, operands))

    def hold(self, item: object) -> None:
        """Let an object live as long as the program does."""
        self._held.append(item)

    def __len__(self) -> int:
        """Return how many launches are recorded."""
        return len(self._steps)

    def keep(self, count: int) -> None:
        """Keep the first ``count`` launches alone."""
        del self._steps[count:]

    def program(self, result: Buffer, shape: tuple[int, ...]) -> Program | None:
        """Return the program of what was recorded, or None where there is nothing or too much between launches."""
        if result is self.x:
            return None
        self.hand_over(result, 1)
        launches = self.launches(2)
        return None if launches is None else Program(launches, shape, self.dtype)

    def launches(self, arguments: int) -> Launches | None:
        """Return what was recorded on so many arguments, or None where it is nothing or too much between launches."""
        cleared = _place_apart(self._flags, 0)
        lasting = _place_apart(self._kept, cleared)
        between = _place([buffer for buffer in self._buffers if buffer.base == BETWEEN and buffer.first >= 0], lasting)
        if not self._steps or between - lasting > MAX_BYTES_BETWEEN:
            return None
        return Launches(self._steps, between, arguments, self._held, cleared)


def _kept_parts(launch: parallel.Launch, operands: tuple[Operand, ...]) -> list[NDArray]:
    """Return the further arguments of a launch on a constant kernel, full of what they keep."""
    kernel = operands[1]
    assert isinstance(kernel, np.ndarray)

    def make() -> NDArray:
        # Run on zeros, so that later runs find all of it, those of several threads at once too.
        memory = launch.new_kept()
        arrays = [np.zeros(o.size, kernel.dtype) if isinstance(o, Buffer) else o for o in operands]
        launch(*arrays, *launch.kept_parts(memory))
        return memory

    return launch.kept_parts(made_once(kernel, launch, make))


def _place_apart(buffers: list[Buffer], end: int) -> int:
    """Give each buffer a place of its own from ``end`` on; return the end of the last."""
    for buffer in buffers:
        buffer.offset, end = end, end + memory.aligned_size(buffer.nbytes)
    return end


def _place(buffers: list[Buffer], start: int = 0) -> int:
    """Give each buffer the lowest place from ``start`` on that is free during all its uses; return the end of all."""
    placed: list[Buffer] = []
    end = start
    for buffer in sorted(buffers, key=lambda each: each.first):
        buffer.offset = start
        for other in sorted(placed, key=lambda each: each.offset):
            is_in_use = other.first <= buffer.last and buffer.first <= other.last
            if is_in_use and other.offset < buffer.offset + buffer.nbytes:
                buffer.offset = max(buffer.offset, other.offset + memory.aligned_size(other.nbytes))
        placed.append(buffer)
        end = max(end, buffer.offset + memory.aligned_size(buffer.nbytes))
    return end


class Launches:
    """Launches in a row on arguments; made by a `Recorder`.

    Parameters
    ----------
    steps : sequence of (Launch, operands)
        What to run in order.
    between : int
        Bytes of memory in which the buffers of the steps have their places.
    arguments : int
        Number of arrays that a run takes.
    held : sequence of object
        What lives as long as this.
    cleared : int
        Bytes of ``between``, the first ones, that are zero at first, and then what the run before has left.
    """

    __slots__ = ("_address", "_held", "_memory", "_numbers", "_steps", "_tasks", "status_of")

    def __init__(
        self,
        steps: list[tuple[parallel.Launch, tuple[Operand, ...]]],
        between: int,
        arguments: int,
        held: Sequence[object] = (),
        cleared: int = 0,
    ) -> None:
        launches = [launch for launch, _ in steps]
        numbers: list[int] = []
        for launch, operands in steps:
            numbers.append(launch.address)
            for operand in operands:
                if isinstance(operand, Buffer):
                    numbers += [operand.base, operand.offset]
                else:
                    numbers += [ABSOLUTE, operand.ctypes.data]
        # Launches and arrays must live as long as their addresses are used.
        self._steps, self._held = steps, held
        self._numbers = np.array([len(steps), arguments, between, *numbers], np.int64)
        self._address = self._numbers.ctypes.data
        shared, private = (max(launch.memory[i] for launch in launches) for i in (0, 1))
        self._memory = between + shared, private, cleared
        self._tasks = max(launch.tasks for launch in launches)
        small = between + shared + private if all(launch.is_small for launch in launches) else None
        # Runs on a sequence of arrays and returns the word that launches set; without a method of its own around it.
        self.status_of = partial(parallel.run_program, object(), self._address, self._tasks, self._memory, small)

    def run(self, *arrays: NDArray) -> bool:
        """Run on arrays of the recorded sizes in C order; return whether no launch made the results void."""
        return not self.status_of(arrays)


class Program:
    """Launches from one array to another of a given shape and dtype; made by a `Recorder`."""

    __slots__ = ("_allocate", "_launches", "_status_of")

    def __init__(self, launches: Launches, shape: tuple[int, ...], dtype: str) -> None:
        self._launches = launches
        self._status_of = launches.status_of
        self._allocate = memory.allocator(shape, dtype)

    def __call__(self, x: NDArray) -> NDArray | None:
        """Return the result for an array of the recorded size in C order, or None where a launch made it void."""
        y = self._allocate()
        return None if self._status_of((x, y)) else y
