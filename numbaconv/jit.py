"""How Python functions become machine code: compiled by Numba on first use, kept on disk, linked alone.

A kernel is one C function per dtype, ``kernel(worker, task, geometry, buffers)``: sizes, strides and index tables are
numbers in ``geometry`` and arrays are addresses in ``buffers``, so no shape, rank or layout ever compiles anything.

Numba compiles the function to object code; the object is what the cache keeps and what is linked, each into a library
of its own. Nothing that one kernel contains can therefore be mistaken for a part of another, and a process that finds
its code in the cache never starts Numba's type system.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types

from numbaconv import code_cache
from numbaconv.code_cache import cache_info
from numbaconv.inlining import inline
from numbaconv.simd.calls import add_c_entry
from numbaconv.target import TARGET

__all__ = [
    "CONFIGURATION",
    "KERNELS",
    "CompiledFunction",
    "TaskKernel",
    "compiled_count",
    "compiling",
    "float32_kernel",
    "inline",
    "show_config",
    "task_kernel",
]

DTYPES = ("float32", "float64")
_lock = threading.RLock()
_linker: Any = None
_link_numbers = itertools.count()
_announced = False
_listeners: list[Callable[[str], object]] = []
_functions: list[CompiledFunction] = []


def _link(symbol: str, code: bytes) -> Any:
    """Load object code into this process; the result keeps it there and tells its address."""
    global _linker
    if _linker is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        # LLVM's older linker places sections independently, which 64-bit Arm's short relocations may not reach.
        _linker = llvm.create_lljit_compiler(use_jit_link=TARGET.architecture == "aarch64")
    builder = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(symbol).add_current_process()
    return builder.link(_linker, f"{symbol}#{next(_link_numbers)}")


def _compile(function: Callable[..., Any], signature: Any, symbol: str) -> bytes:
    """Compile a function by Numba and return object code that exports it as the C function ``symbol``."""
    from numba.core.compiler import Compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    if getattr(numba.config, "DISABLE_JIT", 0):
        raise RuntimeError("kernels exist only as compiled code: unset NUMBA_DISABLE_JIT")
    base: Any = importlib.import_module("numba.core.ccallback")._CFuncCompiler

    class EntryCompiler(base):
        # Numba's own C wrapper prints errors by the interpreter, which object code linked alone cannot reach.
        def _customize_flags(self, flags: Any) -> Any:
            flags = super()._customize_flags(flags)
            flags.no_cfunc_wrapper = True
            return flags

    with global_compiler_lock:
        options = {"nopython": True, "error_model": "numpy"}
        compiler = EntryCompiler(function, cpu_target, options, {}, pipeline_class=Compiler)
        result = compiler.compile(signature.args, signature.return_type)
        add_c_entry(result, symbol)
        result.library.finalize()
        return bytes(result.library._get_compiled_object())


def _announce(name: str) -> None:
    """Tell the listener what is compiled; without one, say once per process that compilation takes a moment."""
    global _announced
    if _listeners:
        _listeners[-1](name)
        return
    if _announced or os.environ.get("NUMBACONV_QUIET", "") not in ("", "0"):
        return
    _announced = True
    folder = code_cache.write_folder()
    kept = f"cached in {folder}" if folder is not None else "no folder to cache it in can be written"
    print(f"numbaconv: compiling {name} ... (first use on this machine, {kept})", file=sys.stderr, flush=True)


@contextlib.contextmanager
def compiling(listener: Callable[[str], object]) -> Iterator[None]:
    """Call ``listener(name)`` before each function that has to be compiled inside the block.

    The line that otherwise announces the first compilation of a process is not printed meanwhile. The listener runs on
    the thread that compiles.

    Parameters
    ----------
    listener : callable
        Takes the name of the function, such as ``"pooling.max_pool-float32"``.

    Examples
    --------
    >>> from numbaconv import jit
    >>> names = []
    >>> with jit.compiling(names.append):
    ...     pass
    >>> names
    []
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class CompiledFunction:
    """One function with one C signature; its code is found or made when ``address`` is first read.

    Parameters
    ----------
    function : callable
        Plain Python that Numba can compile; it may call `inline` functions and intrinsics by their global names.
    signature : numba signature
        C types of arguments and result.
    name : str
        Unique within the package: it names the file in the cache.
    is_cached : bool, optional
        Whether the name stands for all that the code depends on besides the package. By default, whether the function
        is the package's own; these are what `warmup` compiles.
    """

    def __init__(self, function: Callable[..., Any], signature: Any, name: str, is_cached: bool | None = None) -> None:
        self.function = function
        self.signature = signature
        self.name = name
        self.compile_seconds: float | None = None
        self._library: Any = None
        self._address = 0
        # Code from elsewhere (tests, experiments) is not covered by the cache's key.
        self.is_cached = function.__module__.partition(".")[0] == "numbaconv" if is_cached is None else is_cached
        if self.is_cached and is_cached is None:
            _functions.append(self)

    @property
    def is_loaded(self) -> bool:
        """Whether machine code is in memory."""
        return self._address != 0

    @property
    def address(self) -> int:
        """Address of the machine code."""
        return self._address or self._load()

    def source(self) -> Callable[..., Any]:
        """Return the function to compile; called only where the cache has no code."""
        return self.function

    def _load(self) -> int:
        with _lock:
            if self._address:
                return self._address
            symbol = f"numbaconv.{self.name}"
            code = code_cache.load(self.name) if self.is_cached else None
            if code is not None:
                try:
                    self._library = _link(symbol, code)
                except RuntimeError:
                    code = None
            if code is None:
                _announce(self.name)
                start = time.perf_counter()
                code = _compile(self.source(), self.signature, symbol)
                self.compile_seconds = time.perf_counter() - start
                if self.is_cached:
                    code_cache.save(self.name, code)
                self._library = _link(symbol, code)
            self._address = int(self._library[symbol])
            return self._address


def task_signature(dtype: str) -> Any:
    """Return the C signature of a kernel: worker, task, geometry, buffers."""
    element = getattr(types, dtype)
    return types.void(types.int64, types.int64, types.CPointer(types.int64), types.CPointer(types.CPointer(element)))


class TaskKernel:
    """A kernel: one `CompiledFunction` per dtype with the signature that `parallel.launch` calls."""

    def __init__(self, function: Callable[..., Any], dtypes: Sequence[str] = DTYPES) -> None:
        self.function = function
        self.dtypes = tuple(dtypes)
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__ = function.__doc__
        self._programs = {dtype: self._program(dtype) for dtype in self.dtypes}

    def _program(self, dtype: str) -> CompiledFunction:
        return CompiledFunction(self.function, task_signature(dtype), f"{self.name}-{dtype}")

    def address(self, dtype: str) -> int:
        """Return the address of the kernel's code for ``"float32"`` or ``"float64"``."""
        return self._programs[dtype].address

    def compile(self, dtype: str) -> None:
        """Load or compile the kernel for ``dtype`` now."""
        self._programs[dtype].address  # noqa: B018 - reading it loads the code

    def is_compiled(self, dtype: str) -> bool:
        """Whether code for ``dtype`` is in memory."""
        return self._programs[dtype].is_loaded

    def compile_seconds(self, dtype: str) -> float | None:
        """Return how long this process compiled for ``dtype``; None where the code came from the cache."""
        return self._programs[dtype].compile_seconds

    def __repr__(self) -> str:
        return f"<TaskKernel {self.name}>"


KERNELS: dict[str, TaskKernel] = {}

# Lines of `show_config` that modules above this one know: label -> function that returns the text.
CONFIGURATION: dict[str, Callable[[], str]] = {}


def task_kernel(function: Callable[..., Any]) -> TaskKernel:
    """Register ``function(worker, task, geometry, buffers)`` as a kernel, compiled per dtype on first use.

    ``geometry`` points to int64 numbers, ``buffers`` to pointers to arrays of the dtype, the workspace first. A task
    must not write where another task of the same launch reads or writes: tasks run in any order and on any worker.
    """
    return _registered(TaskKernel(function))


def float32_kernel(function: Callable[..., Any]) -> TaskKernel:
    """Register a kernel as `task_kernel` does that exists for ``"float32"`` alone."""
    return _registered(TaskKernel(function, ("float32",)))


def _registered(kernel: TaskKernel) -> TaskKernel:
    if kernel._programs[kernel.dtypes[0]].is_cached:
        if kernel.name in KERNELS:
            raise ValueError(f"two kernels are named {kernel.name!r}")
        KERNELS[kernel.name] = kernel
    return kernel


def package_functions() -> list[CompiledFunction]:
    """Return all compiled functions of the package, those of kernels for each dtype."""
    _import_kernels()
    return list(_functions)


def compiled_count() -> int:
    """Return how many compiled functions of the package this process has loaded."""
    return sum(function.is_loaded for function in _functions)


def _import_kernels() -> None:
    """Import every module that registers compiled functions."""
    importlib.import_module("numbaconv.parallel")
    package = importlib.import_module("numbaconv.kernels")
    for module in pkgutil.iter_modules(package.__path__, "numbaconv.kernels."):
        importlib.import_module(module.name)


def show_config() -> None:
    """Print the CPU, its vector registers, the threads, the kernels and the cache's state.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.show_config()
    CPU ...
    """
    _import_kernels()
    info = cache_info()
    rows = {
        "CPU": f"{TARGET.cpu_name} ({TARGET.architecture}, {TARGET.instruction_set})",
        "vectors": f"{TARGET.registers} registers of {TARGET.vector_bytes} bytes: "
        f"{TARGET.lanes('float32')} float32 or {TARGET.lanes('float64')} float64"
        + ("" if TARGET.has_fma else ", no fused multiply-add"),
        "caches": f"L1 {TARGET.l1_bytes >> 10} kB, L2 {TARGET.l2_bytes >> 10} kB, L3 {TARGET.l3_bytes >> 20} MB",
        **{label: text() for label, text in CONFIGURATION.items()},
        "kernels": f"{len(_functions)} functions, {compiled_count()} in memory",
        "cache": f"{info.folder or 'none'} ({info.state}, {info.files} files, {info.bytes / 1e6:.1f} MB)",
        "versions": f"Numba {numba.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}, "
        f"Python {sys.version.split()[0]}",
    }
    for label, text in rows.items():
        print(f"{label:<9} {text}")


def _after_fork_in_child() -> None:
    # The lock may have been held by a thread that the child does not have.
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
