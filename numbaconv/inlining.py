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
from numba.core.compiler import Compiler


class _UnoptimisedLibrary(CPUCodeLibrary):
    """A library that is only ever linked into another one."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()


class InlineCompiler(Compiler):
    """Numba's pipeline without its last step, machine code."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *arguments: Any) -> None:
        codegen = targetctx.codegen()
        super().__init__(typingctx, targetctx, _UnoptimisedLibrary(codegen, "numbaconv.inline"), *arguments)
        flags = self.state.flags
        flags.no_compile = True
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True

    def compile_extra(self, func: Any) -> Any:
        """Compile to LLVM IR and register the result for callers."""
        result = super().compile_extra(func)
        # Numba finds a callee's code by its entry point, which a dispatcher wants to be a built-in: any unique one will do.
        key = [].append
        self.state.targetctx.insert_user_function(key, result.fndesc, [result.library])
        return result._replace(entry_point=key)


def inline(function: Callable[..., Any]) -> Any:
    """Make a function callable inside kernels; it is compiled together with, and into, each kernel that calls it."""
    return numba.njit(function, error_model="numpy", nogil=True, pipeline_class=InlineCompiler)
