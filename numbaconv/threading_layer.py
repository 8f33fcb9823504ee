"""Numba's threading layer: started once, and not used where it would crash or hang."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np
from numba.np.ufunc import parallel as numba_parallel

from numbaconv.simd.cores import system_functions
from numbaconv.target import TARGET

NOTHING = np.empty(0, np.int64)


class ThreadingLayer:
    """Numba's threading layer as this process may use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = ""
        self.parallel_for = 0
        self.get_num_threads: Callable[[], int] = lambda: 1
        # workqueue aborts the process when two threads enter it: whoever does not get this lock runs serially.
        self.entry: threading.Lock | None = None
        self.is_usable = TARGET.threads > 1
        self.system = NOTHING
        self.system_address = 0

    def start(self) -> None:
        """Start the layer's threads, once."""
        with self.lock:
            if self.name:
                return
            numba_parallel._launch_threads()
            self.parallel_for = llvm.address_of_symbol("numba_parallel_for")
            get_threads = llvm.address_of_symbol("get_num_threads")
            self.get_num_threads = ctypes.CFUNCTYPE(ctypes.c_int)(get_threads)
            name = numba_parallel.threading_layer()
            self.entry = threading.Lock() if name == "workqueue" else None
            # Of OpenMP's workers the first is the caller, which is what moving the others is for.
            self.system = system_functions(name == "omp", get_threads)
            self.system_address = self.system.ctypes.data
            self.name = name

    def after_fork_in_child(self) -> None:
        """Keep to the serial path for good where the parent had threads: the child, and its children, have none."""
        self.lock = threading.Lock()
        self.entry = threading.Lock() if self.entry is not None else None
        if numba_parallel._is_initialized:
            self.is_usable = False
