"""Names and the options that every layer takes."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from typing import Any

import numpy as np


def snake_case(name: str) -> str:
    """Return Keras's snake case of a class name: `Conv2DTranspose` gives `conv2d_transpose`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def unknown_options(layer_class: type[Any], unknown: dict[str, Any]) -> str:
    """Return the message on keywords that a layer's constructor does not take."""
    known = [name for name in inspect.signature(layer_class).parameters if name not in ("options", "unknown")]
    known += ["name", "dtype", "trainable"]
    near = {word: get_close_matches(word, known, n=1) for word in unknown}
    hints = [f" Did you mean `{matches[0]}`?" for matches in near.values() if matches]
    return (
        f"Unrecognized keyword arguments passed to {layer_class.__name__}: {unknown}.{''.join(hints)} It takes "
        f"{', '.join(dict.fromkeys(known))}."
    )


def check_dtype(dtype: Any) -> str:
    """Return the name of a dtype, or raise ValueError unless it is float32 or float64."""
    try:
        name = np.dtype(dtype).name if dtype is not None else "float32"
    except TypeError:
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError(f"Argument `dtype` must be 'float32' or 'float64'. Received: dtype={dtype!r}")
    return name
