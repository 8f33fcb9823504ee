"""Changes of attributes, noticed where they are made: what was seen since the last one needs no second look."""

from __future__ import annotations

from typing import Any

_last: list[object] = [object()]


def last_change() -> object:
    """Return what stands for the last change of an attribute of any `Watched`: another object after each."""
    return _last[0]


class Watched:
    """An object whose attributes are set and deleted in sight of `last_change`; writes to its ``__dict__`` are not."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        _last[0] = object()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        _last[0] = object()
