"""Compile everything at once, in several processes, whose code the cache brings together.

Numba compiles one function at a time in a process, whatever its threads. Other processes therefore compile what the
cache lacks, the largest functions first, and this one loads their code; it compiles only what it then misses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from numbaconv import code_cache
from numbaconv.code_cache import CacheInfo
from numbaconv.inlining import code_size
from numbaconv.jit import DTYPES, CompiledFunction, compiling, package_functions
from numbaconv.memory import physical_bytes
from numbaconv.target import TARGET

# What a process that compiles takes: the compiler alone 0.3 GB.
_PROCESS_BYTES = 1 << 30
# One function takes a tenth of the time of all, so that more processes end no sooner.
_MOST_PROCESSES = 10
_WORKER = "from numbaconv import warming; warming.compile_named()"


@dataclass(frozen=True, slots=True)
class WarmupSummary:
    """What `warmup` did: functions in memory, how many were compiled for it, seconds, and the cache after it."""

    functions: int
    compiled: int
    seconds: float
    cache: CacheInfo

    def __str__(self) -> str:
        where = f"{self.cache.folder} ({self.cache.bytes / 1e6:.1f} MB)" if self.cache.folder else "not cached"
        return f"{self.functions} functions ready, {self.compiled} compiled now, {self.seconds:.1f} s, {where}"


def warmup(dtypes: Sequence[str] = DTYPES, progress: bool = True, processes: int | None = None) -> WarmupSummary:
    """Compile every kernel now, so that no later call waits; a second run only loads what the first has cached.

    Parameters
    ----------
    dtypes : sequence of str
        Which of ``"float32"`` and ``"float64"`` to compile for.
    progress : bool
        Whether to show a bar on the standard error stream.
    processes : int, optional
        How many processes compile at the same time, 0.3 GB each; by default one per thread, 10 and one per GB of the
        machine's memory at most. With 1, or without a folder to keep code in, this process compiles all itself.

    Returns
    -------
    WarmupSummary
        Number of functions, how many were compiled, seconds taken, and the state of the cache.

    Raises
    ------
    ValueError
        When a dtype is not one of the two, or `processes` is below 1.

    Examples
    --------
    >>> import numbaconv as nc
    >>> summary = nc.warmup(dtypes=(), progress=False)
    >>> summary.functions > 0
    True
    """
    dtypes = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
    unknown = [dtype for dtype in dtypes if dtype not in DTYPES]
    if unknown:
        raise ValueError(f"dtypes={dtypes!r}: {unknown[0]!r} has no kernels; use 'float32', 'float64' or both")
    if processes is None:
        processes = max(1, min(TARGET.threads, _MOST_PROCESSES, physical_bytes() // _PROCESS_BYTES))
    if processes < 1:
        raise ValueError(f"processes={processes!r}: at least one must compile")
    wanted = [f for f in package_functions() if not f.name.endswith(DTYPES) or f.name.endswith(dtypes)]
    start = time.perf_counter()
    before = {function.name for function in wanted if function.compile_seconds is not None}
    elsewhere: set[str] = set()
    # Imported where it is needed, as little else needs it.
    from tqdm import tqdm

    bar = tqdm(total=len(wanted), desc="compiling kernels", unit="kernel", dynamic_ncols=True, disable=not progress)
    with compiling(lambda name: None), bar:

        def note(function: CompiledFunction) -> None:
            elsewhere.add(function.name)
            bar.update()

        missing = _missing(wanted) if processes > 1 else []
        if len(missing) > 1:
            _compile_elsewhere(missing, min(processes, len(missing)), note)
        for function in wanted:
            function.address  # noqa: B018 - reading it loads the code
            if function.name not in elsewhere:
                bar.update()
    here = {function.name for function in wanted if function.compile_seconds is not None} - before
    return WarmupSummary(len(wanted), len(here | elsewhere), time.perf_counter() - start, code_cache.cache_info())


def _missing(functions: Sequence[CompiledFunction]) -> list[CompiledFunction]:
    """Return the functions that the cache could hold but does not, those that compile the longest first."""
    if code_cache.write_folder() is None or not sys.executable or getattr(sys, "frozen", False):
        return []
    missing = [f for f in functions if not f.is_loaded and code_cache.load(f.name) is None]
    return sorted(missing, key=lambda f: code_size(f.function), reverse=True)


def _compile_elsewhere(
    functions: Sequence[CompiledFunction], processes: int, note: Callable[[CompiledFunction], object]
) -> None:
    """Have other processes compile functions, calling ``note`` for each; what one fails at is left to the caller."""
    waiting = iter(functions)
    lock = threading.Lock()
    folder = str(code_cache.PACKAGE_FOLDER.parent)
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "NUMBACONV_QUIET": "1"}

    def serve() -> None:
        # Not the folder that the caller works in: a file there may have the name of a module that is imported.
        with subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            while True:
                with lock:
                    function = next(waiting, None)
                if function is None:
                    return
                try:
                    print(function.name, file=worker.stdin, flush=True)
                except OSError:
                    return
                if worker.stdout.readline().strip() != function.name:
                    return
                with lock:
                    note(function)

    with ThreadPoolExecutor(processes) as pool:
        for served in [pool.submit(serve) for _ in range(processes)]:
            served.result()


def compile_named() -> None:
    """Compile the functions whose names come by lines on the standard input, and print each name when it is done."""
    functions = {function.name: function for function in package_functions()}
    for line in sys.stdin:
        name = line.strip()
        functions[name].address  # noqa: B018 - reading it compiles the code into the cache
        print(name, flush=True)
