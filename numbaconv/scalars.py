"""Scalar functions that users write, compiled as a part of the kernels that apply them.

In a float32 kernel Numba would compute ``0.5 * x`` in float64, because it types every literal so: half the lanes, and
two conversions. Here constants take the argument's precision, in the function and in the jitted functions it calls.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core import ir, types
from numba.core.compiler import DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError, UnsupportedError
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference
from numba.core.untyped_passes import IRProcessing

from numbaconv.fingerprints import fingerprint
from numbaconv.inlining import InlineCompiler

_ARITHMETIC = {
    operator.add, operator.sub, operator.mul, operator.truediv,
    operator.iadd, operator.isub, operator.imul, operator.itruediv,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
}  # fmt: skip
_MIXING = {min, max, np.minimum, np.maximum, np.fmin, np.fmax, np.where}
"""Functions whose result has the common type of their arguments."""


def _narrow(value: Any) -> Any:
    """Return a constant as float32 where it is a Python float, also inside tuples."""
    if type(value) is float:
        return np.float32(value)
    if type(value) is tuple:
        return tuple(map(_narrow, value))
    return value


@register_pass(mutates_CFG=False, analysis_only=False)
class NarrowConstants(FunctionPass):
    """Type float constants as float32 where the arguments are, and integers beside them as int16.

    Numba takes int64 with float32 to float64, but int16 with float32 to float32; sums of integers are int64 as before.
    """

    _name = "numbaconv_narrow_constants"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Rewrite the constants of one function."""
        if types.float32 not in state.args or types.float64 in state.args:
            return False
        statements = [s for block in state.func_ir.blocks.values() for s in block.body if isinstance(s, ir.Assign)]
        counts = Counter(statement.target.name for statement in statements)
        single = {s.target.name: s for s in statements if counts[s.target.name] == 1}
        for statement in statements:
            statement.value = _narrowed(statement.value, single)
        for statement in statements:
            for operand in _operands(statement.value, single):
                source = _source(operand, single)
                if source is not None and type(source.value.value) is int and abs(source.value.value) < 1 << 15:
                    source.value = ir.Const(np.int16(source.value.value), source.loc)
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class RefuseExceptions(FunctionPass):
    """Raise for a function that raises: in the middle of a result there is nobody to tell."""

    _name = "numbaconv_refuse_exceptions"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Look for statements that raise."""
        for block in state.func_ir.blocks.values():
            for statement in block.body:
                if isinstance(statement, ir.Raise):
                    raise UnsupportedError(
                        "An activation cannot raise exceptions or assert: return NaN instead.", statement.loc
                    )
        return False


@register_pass(mutates_CFG=False, analysis_only=True)
class RefuseManagedMemory(FunctionPass):
    """Raise for a function with arrays, lists or strings: code linked alone cannot reach Numba's memory manager."""

    _name = "numbaconv_refuse_managed_memory"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Look at the types of all variables."""
        models = state.targetctx.data_model_manager
        for name, kind in state.typemap.items():
            if models[kind].contains_nrt_meminfo():
                raise UnsupportedError(
                    f"Arrays, lists and strings cannot be used in an activation ({name} is {kind}): use numbers and "
                    f"tuples."
                )
        return False


def _narrowed(value: Any, values: dict[str, Any]) -> Any:
    """Return a constant, global or attribute of a module in float32, a jitted function compiled like its caller."""
    found = _known(value, values)
    if isinstance(found, Dispatcher):
        return ir.Global(found.py_func.__name__, scalar(found), value.loc)
    narrow = _narrow(found)
    return value if narrow is found else ir.Const(narrow, value.loc)


def _known(value: Any, values: dict[str, Any]) -> Any:
    """Return what an expression stands for when the function is compiled, or None."""
    if isinstance(value, ir.Const | ir.Global | ir.FreeVar):
        return value.value
    if isinstance(value, ir.Var) and value.name in values:
        return _known(values[value.name].value, values)
    if isinstance(value, ir.Expr) and value.op == "getattr":
        module = _known(value.value, values)
        if isinstance(module, ModuleType):
            return getattr(module, value.attr, None)
    return None


def _source(variable: Any, values: dict[str, Any]) -> Any:
    """Return the statement that gives a variable its constant, through copies; None where it is none."""
    statement = values.get(variable.name)
    while statement is not None and isinstance(statement.value, ir.Var):
        statement = values.get(statement.value.name)
    is_constant = statement is not None and isinstance(statement.value, ir.Const | ir.Global | ir.FreeVar)
    return statement if is_constant else None


def _operands(value: Any, values: dict[str, Any]) -> list[Any]:
    """Return an expression's operands whose common type is the result's or is compared in."""
    if not isinstance(value, ir.Expr):
        return []
    if value.op in ("binop", "inplace_binop") and value.fn in _ARITHMETIC:
        return [value.lhs, value.rhs]
    if value.op == "call" and _known(value.func, values) in _MIXING:
        return list(value.args)
    return []


class ScalarCompiler(InlineCompiler):
    """All of Numba's pipeline but optimisation, with constants in the precision of the arguments."""

    def define_pipelines(self) -> list[PassManager]:
        """Return the one pipeline of scalar functions."""
        manager = PassManager("numbaconv_scalar")
        manager.passes.extend(DefaultPassBuilder.define_untyped_pipeline(self.state).passes)
        manager.add_pass_after(NarrowConstants, IRProcessing)
        manager.add_pass_after(RefuseExceptions, IRProcessing)
        manager.passes.extend(DefaultPassBuilder.define_typed_pipeline(self.state).passes)
        manager.add_pass_after(RefuseManagedMemory, NopythonTypeInference)
        manager.add_pass(NativeLowering, "native lowering")
        manager.add_pass(NoPythonBackend, "nopython mode backend")
        manager.finalize()
        return [manager]


@lru_cache(maxsize=1024)
def scalar(function: Callable[..., Any]) -> Any:
    """Return a function compiled for kernels: callable from `inline` functions."""
    plain, fastmath = function, False
    if isinstance(function, Dispatcher):
        plain, fastmath = function.py_func, function.targetoptions.get("fastmath", False)
    return numba.njit(plain, error_model="numpy", nogil=True, fastmath=fastmath, pipeline_class=ScalarCompiler)


class ScalarFunction:
    """A user's function of one number, to be compiled into kernels.

    Parameters
    ----------
    function : callable
        A `numba.njit` function, or a plain one that Numba can compile.
    argument : str
        What error messages call it.

    Raises
    ------
    TypeError
        If it is no Python function, or cannot be called with one number.
    """

    def __init__(self, function: Any, argument: str) -> None:
        plain = function.py_func if isinstance(function, Dispatcher) else function
        if not isinstance(plain, FunctionType):
            raise TypeError(
                f"`{argument}` must be a function of one number that Numba can compile. Received {function!r} of type "
                f"{type(function).__name__}. Write it as `def f(x): return ...` or with numba.njit."
            )
        try:
            inspect.signature(plain).bind(0.0)
        except TypeError:
            raise TypeError(
                f"`{argument}` must take one number. Received {plain.__name__}{inspect.signature(plain)}. Bind other "
                f"arguments first: as defaults, or in a function that returns a function of x alone."
            ) from None
        self.function = function
        self.argument = argument
        self.name = plain.__name__
        self.compiled = scalar(function)

    @cached_property
    def digest(self) -> str | None:
        """Name of all that the function's code depends on; None where that cannot be known."""
        return fingerprint(self.function)

    def check(self, dtype: str) -> None:
        """Raise ValueError unless the function compiles for a dtype and returns a real number."""
        element = getattr(types, dtype)
        try:
            result = self.compiled.get_call_template((element,), {}) and self.compiled.overloads[element,].signature
        except NumbaError as error:
            first, _, rest = str(error).partition("\n")
            reason = rest if first.startswith("Failed in") else f"{first}\n{rest}"
            raise ValueError(
                f"`{self.argument}` cannot be compiled. Numba says of {self.name}({dtype}): {reason.strip()}"
            ) from None
        returned = result.return_type
        if not isinstance(returned, types.Float | types.Integer | types.Boolean):
            raise ValueError(
                f"`{self.argument}` must return a real number. {self.name}({dtype}) returns {returned}. Return one "
                f"float on every path through the function."
            )
