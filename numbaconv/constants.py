"""Arrays that never change: kernels of them are packed, or transformed, once and not by every call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeGuard
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from numbaconv.memory import aligned_bytes


class _Constant:
    """Holds the memory of a constant array, and finds what was made of it while anybody uses that."""

    __slots__ = ("__array_interface__", "made", "memory")

    def __init__(self, array: NDArray[Any]) -> None:
        self.memory = aligned_bytes(array.nbytes)
        np.copyto(self.memory.view(array.dtype).reshape(array.shape), array)
        self.made: WeakValueDictionary[Hashable, NDArray[Any]] = WeakValueDictionary()
        # NumPy's array interface protocol, version 3: of read-only data it makes arrays that nobody can make writeable.
        self.__array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.memory.ctypes.data, True),
            "version": 3,
        }


def constant(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of an array in C order that never changes, at a multiple of 64 bytes."""
    return np.asarray(_Constant(array))


def is_constant(array: object) -> TypeGuard[NDArray[Any]]:
    """Whether `constant` made an array; what it makes of a constant one is new, views are not."""
    return isinstance(array, np.ndarray) and isinstance(array.base, _Constant)


def made_once(array: NDArray[Any], key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Return what ``make()`` returned for a constant array and a key, anew where nobody uses it any more.

    Threads that come at once may each make their own.
    """
    made: WeakValueDictionary[Hashable, NDArray[Any]] = array.base.made  # type: ignore[union-attr]
    found = made.get(key)
    if found is None:
        found = made[key] = make()
    return found
