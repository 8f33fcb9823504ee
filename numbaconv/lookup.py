"""Finding losses, optimizers, initializers and the like by the names Keras gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any


def find(kind: str, identifier: Any, table: Mapping[str, Callable[..., Any]], base: type | None = None) -> Any:
    """Return the object that `identifier` stands for: a name in `table`, a class, or the object itself.

    `kind` is the argument's name in messages. Names are looked up without regard to case; a class is instantiated. With
    `base` the object must be one of that class, else any callable will do.
    """
    if isinstance(identifier, str):
        entry = table.get(identifier.lower())
        if entry is None:
            near = get_close_matches(identifier.lower(), table, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            names = ", ".join(repr(name) for name in sorted(table))
            raise ValueError(f"Unknown {kind}: {identifier!r}. {hint}Names that work: {names}.")
        return entry()
    found = identifier() if isinstance(identifier, type) else identifier
    if callable(found) if base is None else isinstance(found, base):
        return found
    wanted = "an object" if base is None else f"an object of class {base.__name__}"
    raise TypeError(
        f"Could not interpret {kind} identifier: {identifier!r}. Pass a name (one of "
        f"{', '.join(repr(name) for name in sorted(table))}), or {wanted}."
    )
