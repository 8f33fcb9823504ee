"""A worker on the caller's core leaves it: with functions that record what is asked for, and the system's own."""

from __future__ import annotations

import ctypes
import os
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest

from numbaconv import parallel, runs
from numbaconv.jit import task_kernel
from numbaconv.simd import cores
from numbaconv.simd.pointers import as_counters

CORE = 70  # in the second word of a set
CORES = {3, 64, CORE, 1023}

SIGNATURES = [
    ctypes.CFUNCTYPE(ctypes.c_int),
    ctypes.CFUNCTYPE(ctypes.c_int),
    *[ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p)] * 2,
]

GET_THREADS = llvm.address_of_symbol("get_num_threads") if parallel.thread_count() > 1 else 1

needs_threads = pytest.mark.skipif(
    parallel.thread_count() < 2 or parallel.threading_layer() != "omp", reason="needs two threads of OpenMP"
)


@task_kernel
def leaves(worker, task, geometry, buffers):
    """Leave core geometry[1] by the functions of table geometry[2], with room for a set in buffer 1."""
    cores.leave_core(geometry[2], geometry[1], as_counters(buffers[1]))


@task_kernel
def notes_worker(worker, task, geometry, buffers):
    """Write each task's number (1)."""
    buffers[1][task] = task


def leave(table, core):
    """Have the calling thread leave a core."""
    room = np.zeros(cores.SET_SIZE)
    parallel.launch(leaves, "float64", 1, np.array([0, core, table.ctypes.data]), [room], serial=True)


class Recorder:
    """Functions in the system's place, on one core of a machine with others: what they were asked for."""

    def __init__(self, core=CORE, refuses=()):
        self.core, self.refuses = core, refuses
        self.sets, self.yields = [], 0
        self.functions = [
            signature(function)
            for signature, function in zip(
                SIGNATURES, (self.give_way, self.get_core, self.get_cores, self.set_cores), strict=True
            )
        ]
        addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in self.functions]
        self.table = np.array([*addresses, GET_THREADS], np.int64)

    def give_way(self):
        self.yields += 1
        return 0

    def get_core(self):
        return self.core

    def get_cores(self, thread, size, address):
        if "get" in self.refuses:
            return -1
        words = np.zeros(size // 8, np.uint64)
        for core in CORES:
            words[core // 64] |= np.uint64(1) << np.uint64(core % 64)
        ctypes.memmove(address, words.ctypes.data, size)
        return 0

    def set_cores(self, thread, size, address):
        bits = np.unpackbits(np.frombuffer(ctypes.string_at(address, size), np.uint8), bitorder="little")
        self.sets.append((thread, set(np.flatnonzero(bits).tolist())))
        return -1 if "set" in self.refuses else 0


def test_a_thread_leaves_its_core_and_may_use_it_afterwards():
    recorder = Recorder()
    leave(recorder.table, CORE)
    assert recorder.sets == [(0, CORES - {CORE}), (0, CORES)]


@pytest.mark.parametrize("core", [CORE - 1, -1, 1024])
def test_a_thread_elsewhere_stays_where_it_is(core):
    recorder = Recorder(core if core == 1024 else CORE)
    leave(recorder.table, core)
    assert recorder.sets == []


@pytest.mark.parametrize(("refuses", "sets"), [("get", []), ("set", [(0, CORES - {CORE})])])
def test_a_thread_that_may_not_be_moved_stays(refuses, sets):
    recorder = Recorder(refuses=refuses)
    leave(recorder.table, CORE)
    assert recorder.sets == sets


def test_without_the_functions_nothing_is_asked():
    recorder = Recorder()
    recorder.table[cores.GET_CORE : cores.GET_THREADS] = 0
    leave(recorder.table, CORE)
    leave(recorder.table, -1)
    assert recorder.sets == []


@pytest.mark.parametrize("moves_threads", [False, True])
def test_table_of_the_system(moves_threads):
    table = cores.system_functions(moves_threads, GET_THREADS)
    assert table[cores.YIELD] != 0 and table[cores.GET_THREADS] == GET_THREADS
    assert (table[cores.GET_CORE : cores.GET_THREADS] != 0).all() == (
        moves_threads and hasattr(os, "sched_setaffinity")
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads to cores")
@pytest.mark.parametrize("is_pinned", [False, True])
def test_the_systems_functions_leave_a_thread_its_cores(is_pinned):
    table, found = cores.system_functions(True, GET_THREADS), {}

    def run():
        core = min(os.sched_getaffinity(0))
        if is_pinned:
            os.sched_setaffinity(0, {core})
        found["before"] = os.sched_getaffinity(0)
        leave(table, core)
        found["after"] = os.sched_getaffinity(0)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found["after"] == found["before"]


def launch(tasks=50):
    out = np.zeros(tasks)
    parallel.launch(notes_worker, "float64", tasks, np.zeros(1, np.int64), [out])
    np.testing.assert_array_equal(out, np.arange(tasks))


@needs_threads
def test_all_workers_but_the_caller_leave_its_core(monkeypatch):
    launch()
    recorder = Recorder()
    monkeypatch.setattr(runs.LAYER, "system_address", recorder.table.ctypes.data)
    launch()
    others = parallel.thread_count() - 1
    assert sorted(map(str, recorder.sets)) == sorted([str((0, CORES - {CORE})), str((0, CORES))] * others)


@needs_threads
def test_the_caller_gives_way_to_workers_that_have_not_come(monkeypatch):
    launch()
    recorder, caller, gave_way = Recorder(core=-1), threading.get_ident(), threading.Event()

    def get_core():
        # Others come no sooner than the caller gives way; without that, never in time.
        if threading.get_ident() != caller:
            recorder.sets.append(gave_way.wait(20))
        return CORE if threading.get_ident() == caller else CORE - 1

    def give_way():
        if threading.get_ident() == caller:
            gave_way.set()
        return 0

    functions = SIGNATURES[cores.YIELD](give_way), SIGNATURES[cores.GET_CORE](get_core)
    recorder.table[: cores.GET_CORES] = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    monkeypatch.setattr(runs.LAYER, "system_address", recorder.table.ctypes.data)
    launch()
    assert recorder.sets == [True] * (parallel.thread_count() - 1)
