"""Names for what the machine code of a user's function depends on, so that code on disk is never a stale one.

The name hashes the function's byte code and constants, its defaults, and the values of all globals and closure
variables that it refers to, through the jitted functions that it calls. What is not known to be determined by these
and by the versions of Python, NumPy and Numba (any other object, another module's attribute) has no name.
"""

from __future__ import annotations

import builtins
import cmath
import hashlib
import math
import operator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

_LIBRARIES = (builtins, math, cmath, operator, np, numba)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


class _UnknownError(Exception):
    """Something whose value cannot be told from its description."""


def fingerprint(function: Any) -> str | None:
    """Return a hexadecimal name for all that a function's code depends on, or None where that cannot be known."""
    try:
        description = _described(function, [])
    except _UnknownError:
        return None
    return hashlib.sha256(repr(description).encode()).hexdigest()[:24]


def _described(value: Any, seen: list[Any]) -> Any:
    """Return nested tuples of plain values that differ wherever code made from the value does."""
    kind = type(value)
    if kind in _PLAIN:
        return kind.__name__, repr(value)
    if kind is tuple or kind is frozenset:
        parts = [_described(part, seen) for part in value]
        return kind.__name__, tuple(parts if kind is tuple else sorted(parts, key=repr))
    if isinstance(value, np.generic):
        return "scalar", value.dtype.str, value.tobytes()
    if kind is np.ndarray and not value.dtype.hasobject:
        return "array", value.dtype.str, value.shape, value.strides, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, numba.types.Type):
        return "type", str(value)
    if kind is CodeType:
        return _described_code(value, seen)
    if any(value is library for library in _LIBRARIES):
        return "module", value.__name__
    name = getattr(value, "__name__", "")
    for library in _LIBRARIES:
        if not isinstance(value, ModuleType) and getattr(library, name, None) is value:
            return "library", library.__name__, name
    if isinstance(value, Dispatcher | FunctionType):
        return _described_function(value, seen)
    raise _UnknownError


def _described_code(code: CodeType, seen: list[Any]) -> Any:
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_nlocals)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return "code", code.co_code, shape, names, code.co_exceptiontable, _described(code.co_consts, seen)


def _described_function(function: Any, seen: list[Any]) -> Any:
    if any(function is earlier for earlier in seen):
        return "again", next(i for i, earlier in enumerate(seen) if earlier is function)
    seen.append(function)
    options: Any = ()
    if isinstance(function, Dispatcher):
        options = repr(sorted(function.targetoptions.items(), key=repr))
        function = function.py_func
    code = function.__code__
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    referred = [(name, function.__globals__[name]) for name in _all_names(code) if name in function.__globals__]
    return (
        "function", options, _described_code(code, seen), _described(function.__defaults__, seen),
        tuple((name, _described(value, seen)) for name, value in [*referred, *zip(code.co_freevars, cells)]),
    )  # fmt: skip


def _all_names(code: CodeType) -> list[str]:
    """Return the names of globals and attributes in a function and in the functions inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_all_names(constant))
    return sorted(names)
