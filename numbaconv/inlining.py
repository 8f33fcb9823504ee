"""Helper functions of kernels, compiled only as a part of the kernel that calls them.

Numba optimises and assembles every jitted function on its own before it links them, so a kernel made of forty small
functions would be optimised forty times. Here a helper stops at LLVM IR: the kernel's module is linked from these and
optimised once, which makes a cold start several times shorter and leaves LLVM free to inline.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import numba
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.dispatcher import Dispatcher
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode


class _UnoptimisedLibrary(CPUCodeLibrary):
    """A library that is only ever linked into another one."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()


_PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
    AnnotateTypes,
    NativeLowering,
    NoPythonBackend,
)
"""What plain loops need of Numba's thirty passes: no closures, rewrites of array expressions or overloads to inline."""


class InlineCompiler(CompilerBase):
    """Numba's pipeline cut to what plain loops need, without its last step, machine code."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *arguments: Any) -> None:
        codegen = targetctx.codegen()
        super().__init__(typingctx, targetctx, _UnoptimisedLibrary(codegen, "numbaconv.inline"), *arguments)
        flags = self.state.flags
        flags.no_compile = True
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True

    def define_pipelines(self) -> list[PassManager]:
        """Return the one pipeline of helpers."""
        manager = PassManager("numbaconv_inline")
        for step in _PASSES:
            manager.add_pass(step, step.name())
        manager.finalize()
        return [manager]

    def compile_extra(self, func: Any) -> Any:
        """Compile to LLVM IR and register the result for callers."""
        result = super().compile_extra(func)
        # Numba finds a callee's code by its entry point, which dispatchers want to be a built-in: any unique one does.
        key = list[None]().append
        self.state.targetctx.insert_user_function(key, result.fndesc, [result.library])
        return result._replace(entry_point=key)


def inline(function: Callable[..., Any], always: bool = False) -> Any:
    """Make a function callable inside kernels; it is compiled together with, and into, each kernel that calls it.

    LLVM decides whether its code takes the place of the call, or it does so ``always``.
    """
    return numba.njit(function, error_model="numpy", nogil=True, forceinline=always, pipeline_class=InlineCompiler)


def _references(function: FunctionType) -> dict[str, Any]:
    """Return the globals and closure variables that a function names."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    named = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    return named | {name: cell.cell_contents for name, cell in cells}


def code_size(function: Any) -> int:
    """Return the bytes of bytecode of a function and of all `inline` functions within it: how long it compiles."""
    seen: set[FunctionType] = set()
    waiting = [function]
    while waiting:
        function = waiting.pop()
        plain = function.py_func if isinstance(function, Dispatcher) else function
        if plain not in seen:
            seen.add(plain)
            waiting += [value for value in _references(plain).values() if isinstance(value, Dispatcher)]
    return sum(len(plain.__code__.co_code) for plain in seen)


def replaced(function: Any, replacements: dict[Any, Any]) -> Any:
    """Return a copy of a function that calls ``replacements`` for the keys, at whatever depth of `inline` functions.

    Functions that reach none of the keys are shared with the original. ``replacements`` also takes in what was copied.
    """
    if function in replacements:
        return replacements[function]
    is_inline = isinstance(function, Dispatcher)
    plain = function.py_func if is_inline else function
    references = _references(plain)
    changed = {}
    for name, value in references.items():
        if isinstance(value, Dispatcher) and (copy := replaced(value, replacements)) is not value:
            changed[name] = copy
    copy = function
    if changed:
        closure = tuple(CellType(changed.get(n, references[n])) for n in plain.__code__.co_freevars)
        copy = FunctionType(plain.__code__, plain.__globals__ | changed, plain.__name__, None, closure)
        copy.__module__, copy.__qualname__ = plain.__module__, plain.__qualname__
        copy = inline(copy) if is_inline else copy
    replacements[function] = copy
    return copy
