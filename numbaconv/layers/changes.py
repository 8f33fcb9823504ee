"""Changes of layers, noticed where they are made: what was seen since the last one needs no second look.

They are those of a layer's attributes and of the arrays of weights, not what is in these.
"""

from __future__ import annotations

from typing import Any

LAST: list[object] = [object()]
"""What stands for the last change: another object after each."""


def note_change() -> None:
    """Put another object in the place of the last one."""
    LAST[0] = object()


class Watched:
    """An object whose attributes are set and deleted in sight of `LAST`; writes to its ``__dict__`` are not."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        note_change()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        note_change()
