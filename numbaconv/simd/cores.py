"""Which core a thread runs on: a worker that the system has put on the caller's core leaves it.

A thread that wakes another one computes on, and does not wait for it. Where the other core has slept for some
milliseconds, and above all in a virtual machine, whose host has taken that core away meanwhile, Linux counts it as busy
and queues the woken thread on the core of the thread that woke it (`available_idle_cpu` in kernel/sched/fair.c). There
it stays until the next tick of the clock and, while both of them spin, for some ticks more: a launch of 50 microseconds
took 9 milliseconds. So the caller gives way once to a worker that has not come yet, and that worker moves on.
"""

from __future__ import annotations

import sys

import llvmlite.binding as llvm
import numpy as np
from numba.extending import register_jitable

from numbaconv.simd.calls import address_of, call_int, pointer_at

# The table of the system's functions: addresses, 0 for those it does not have. A set of cores is a bit for each.
YIELD, GET_CORE, GET_CORES, SET_CORES, GET_THREADS = range(5)
_YIELD_NAME = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
_NAMES = _YIELD_NAME, "sched_getcpu", "sched_getaffinity", "sched_setaffinity"
SET_SIZE = 16
_WORD = 64


def system_functions(moves_threads: bool, get_threads: int) -> np.ndarray:
    """Return the table; without the functions for cores unless it ``moves_threads``.

    The function at ``get_threads`` returns how many threads the calling one may use.
    """
    addresses = [llvm.address_of_symbol(name) or 0 for name in _NAMES]
    if not moves_threads or 0 in addresses[GET_CORE:]:
        addresses[GET_CORE:] = [0, 0, 0]
    return np.array([*addresses, get_threads], np.int64)


@register_jitable
def allowed_threads(system):
    """Return how many threads the calling one may use."""
    return call_int(pointer_at(system)[GET_THREADS], 0, 0, 0)


@register_jitable
def give_way(system):
    """Let another thread run that waits for this core."""
    functions = pointer_at(system)
    if functions[YIELD] != 0:
        call_int(functions[YIELD], 0, 0, 0)


@register_jitable
def current_core(system):
    """Return the number of the core that the thread runs on, -1 where threads are not moved."""
    functions = pointer_at(system)
    return call_int(functions[GET_CORE], 0, 0, 0) if functions[GET_CORE] != 0 else -1


@register_jitable
def leave_core(system, core, cores):
    """Move this thread away if it runs on a core; `cores` is room for a set of them.

    The thread may use the same cores afterwards as before: those without this one are set first, which moves it at
    once, then all again. A thread that may use no other core, or that may not be moved, stays.
    """
    if core < 0 or core >= SET_SIZE * _WORD or current_core(system) != core:
        return
    functions, size, address = pointer_at(system), 8 * SET_SIZE, address_of(cores)
    if call_int(functions[GET_CORES], 0, size, address) != 0:
        return
    word, bit = core // _WORD, 1 << core % _WORD
    cores[word] ^= bit
    if call_int(functions[SET_CORES], 0, size, address) == 0:
        cores[word] ^= bit
        call_int(functions[SET_CORES], 0, size, address)
