"""Changes of layers, noticed where they are made: what was seen since the last one needs no second look.

They are those of a layer's attributes and of the arrays of weights, not what is in these.
"""

from __future__ import annotations

from typing import Any

_last: list[object] = [object()]


def last_change() -> object:
    """Return what stands for the last change: another object after each."""
    return _last[0]


def note_change() -> None:
    """Make the next `last_change` another object."""
    _last[0] = object()


class Watched:
    """An object whose attributes are set and deleted in sight of `last_change`; writes to its ``__dict__`` are not."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        note_change()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        note_change()
