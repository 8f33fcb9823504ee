"""Names, options and inputs that every layer takes."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np

from numbaconv.arrays import DTYPES
from numbaconv.autograd import Tensor


@cache
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


def as_tensor(x: Any, index: int, name: str) -> Tensor:
    """Return input `index` of layer `name` as a Tensor, or raise TypeError unless it holds floating-point numbers."""
    if isinstance(x, Tensor):
        return x
    if not hasattr(x, "__array__") and not hasattr(x, "__dlpack__"):
        raise TypeError(
            f"Inputs to a layer should be tensors. Got '{x!r}' (of type {type(x).__name__}) as input {index} for "
            f"layer '{name}'. Pass a NumPy array or a numbaconv.Tensor, for example np.asarray(x, np.float32)."
        )
    array = np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)
    if array.dtype.char not in DTYPES or not array.dtype.isnative:
        raise TypeError(
            f"Input {index} of layer '{name}' must hold float32 or float64 numbers. Received dtype "
            f"{array.dtype}, shape {array.shape}. Pass x.astype(np.float32) (images: x.astype(np.float32) / 255)."
        )
    return Tensor(array)
