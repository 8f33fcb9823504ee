"""Calls that were made before: what runs them, found by the layouts of their arrays and their options.

A call that went through every check is kept under a key of all that the checks depend on, so that one like it needs
none. Only plain arguments make a key: arrays of NumPy's own class, and options of ints, strings and tuples, which are
what they equal. All other calls are resolved and checked each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from numbaconv import planner
from numbaconv.shapes import are_plain

MAX_CALLS = 1024
"""Calls kept; one more, and all of them go: whoever has so many shapes does not call one often."""

Run = Callable[..., np.ndarray]
_calls: dict[Hashable, Run] = {}


def find(
    name: str, first: Any, second: Any, bias: Any, options: tuple[Any, ...], activation: Any = None
) -> tuple[Hashable, Run | None]:
    """Return the key of a call and what runs it: `run(first, second, bias)`; None for a key that cannot be one."""
    if type(first) is not np.ndarray or type(second) is not np.ndarray or not are_plain(options):
        return None, None
    if bias is None:
        bias_layout = None
    elif type(bias) is np.ndarray and bias.flags.aligned:
        bias_layout = bias.shape, bias.dtype
    else:
        return None, None
    key: tuple[Hashable, ...] = (
        name, planner.generation, options, activation, first.shape, first.dtype, second.shape, second.dtype, bias_layout
    )  # fmt: skip
    flags, second_flags = first.flags, second.flags
    if not (flags.carray and second_flags.carray):
        if not (flags.aligned and second_flags.aligned):
            return None, None
        key += (
            None if flags.c_contiguous else first.strides,
            None if second_flags.c_contiguous else second.strides,
        )
    try:
        call = _calls.get(key)
    except TypeError:  # an activation that has no hash
        return None, None
    if call is None and not all(array is None or array.dtype.isnative for array in (first, second, bias)):
        return None, None
    return key, call


def keep(key: Hashable, call: Run) -> None:
    """Keep what runs a call that has a key."""
    if key is None:
        return
    if len(_calls) >= MAX_CALLS:
        _calls.clear()
    _calls[key] = call
