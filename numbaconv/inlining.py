"""Helper functions of kernels, compiled only as a part of the kernel that calls them.

Numba optimises and assembles every jitted function on its own before it links them, so a kernel made of forty small
functions would be optimised forty times. Here a helper stops at LLVM IR: the kernel's module is linked from these and
optimised once, which makes a cold start several times shorter and leaves LLVM free to inline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
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


def inline(function: Callable[..., Any]) -> Any:
    """Make a function callable inside kernels; it is compiled together with, and into, each kernel that calls it."""
    return numba.njit(function, error_model="numpy", nogil=True, pipeline_class=InlineCompiler)
