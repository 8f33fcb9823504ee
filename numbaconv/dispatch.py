"""Handing a call over to the class of an argument, so that functions of arrays also take tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, cast

import numpy as np

P = ParamSpec("P")

# Classes of most arguments: known to hand over nothing, and faster to find here than to ask.
_PLAIN = frozenset((np.ndarray, int, str, tuple, type(None)))


class TensorFunction(Protocol[P]):
    """A function of arrays or tensors; `array_function` is the one of arrays alone."""

    __name__: str
    array_function: Callable[P, Any]

    def __call__(self, *args: P.args, **options: P.kwargs) -> Any:
        """Return an array for arrays and a tensor for tensors."""


def tensor_function(function: Callable[P, Any]) -> TensorFunction[P]:
    """Make `function` hand over to `type(argument).__tensor_function__` where an argument's class has one.

    The first such argument's class receives the public function, the positional arguments and the keywords, and
    returns the result of the call. It reaches the arrays' implementation as `function.array_function`.
    """

    @wraps(function)
    def public(*args: P.args, **options: P.kwargs) -> Any:
        for argument in args:
            if type(argument) not in _PLAIN and hasattr(type(argument), "__tensor_function__"):
                return cast(Any, type(argument)).__tensor_function__(public, args, options)
        for argument in options.values():
            if type(argument) not in _PLAIN and hasattr(type(argument), "__tensor_function__"):
                return cast(Any, type(argument)).__tensor_function__(public, args, options)
        return function(*args, **options)

    public.array_function = function  # type: ignore[attr-defined]
    return cast(TensorFunction[P], public)
