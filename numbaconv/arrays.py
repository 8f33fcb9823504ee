"""Turning arguments into NumPy arrays that kernels can read, and refusing the others."""

from __future__ import annotations

from typing import Any

import numpy as np

DTYPES = {"f": "float32", "d": "float64"}
"""Names of dtypes by their characters: `dtype.name` takes longer than a small launch."""

CHARS = {name: char for char, name in DTYPES.items()}
"""The other way round: comparing a dtype with its name takes as long."""


def as_array(value: Any, name: str) -> np.ndarray:
    """Return `value` as an aligned float32 or float64 array in native byte order, without a copy where it is one.

    Anything with `__dlpack__`, `__array__` or the buffer protocol is read in place; strides and write protection do
    not matter. Raises TypeError, naming the cast to write, for other dtypes and for what is no array.
    """
    array = value if type(value) is np.ndarray else _read(value, name)
    dtype = array.dtype
    if dtype.char not in DTYPES:
        raise TypeError(_refusal(array, name))
    if not (dtype.isnative and array.flags.aligned):
        return array.astype(dtype.newbyteorder("="))
    return array


def dtype_name(array: np.ndarray) -> str:
    """Return "float32" or "float64"."""
    return DTYPES[array.dtype.char]


def _read(value: Any, name: str) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"`{name}` is a masked array, and masks are not supported. Write {name}.filled(0).")
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            # Exporters refuse DLPack for reasons of their own, as for read-only memory; __array__ may still work, and
            # where it does not its message is the more telling one.
            pass
    if value is None:
        raise TypeError(f"`{name}` must be an array. Received None.")
    try:
        return np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"`{name}` of type {type(value).__name__} could not be read as an array: {error}") from error


def _refusal(array: np.ndarray, name: str) -> str:
    kind = array.dtype.kind
    start = f"`{name}` has dtype {array.dtype}, but computations are in float32 or float64. "
    if kind == "c":
        return f"{start}Pass {name}.real and {name}.imag one after the other."
    if array.dtype.char == "g":
        return f"{start}Write {name}.astype(np.float64)."
    if kind in "biuf":
        return f"{start}Write {name}.astype(np.float32)."
    if kind == "O":
        return f"{start}If it holds numbers of one shape, write np.asarray({name}, dtype=np.float32)."
    if kind == "V" and array.dtype.names is None:
        return f"{start}Write {name}.astype(np.float32), if that is a floating-point type."
    return f"{start}Values of this type are not numbers."


def check_same_dtype(first: np.ndarray, first_name: str, second: np.ndarray, second_name: str) -> None:
    """Raise TypeError where one array is float32 and the other float64."""
    if first.dtype != second.dtype:
        narrow, wide = (first_name, second_name) if first.dtype.itemsize == 4 else (second_name, first_name)
        raise TypeError(
            f"`{first_name}` has dtype {first.dtype} and `{second_name}` has dtype {second.dtype}, but both must have "
            f"the same. Write {wide}.astype(np.float32), or {narrow}.astype(np.float64) for double precision."
        )


def check_bias(bias: Any, filters: int, x: np.ndarray) -> np.ndarray | None:
    """Return the bias as an array of one value per filter, or None."""
    if bias is None:
        return None
    array = as_array(bias, "bias")
    if array.shape != (filters,):
        remedy = "Write bias.reshape(-1)." if array.size == filters else f"Pass {filters} values."
        raise ValueError(
            f"`bias` must have one value per filter, shape ({filters},). Received bias.shape={array.shape}. {remedy}"
        )
    check_same_dtype(x, "x", array, "bias")
    return array


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype, **inputs: np.ndarray | None) -> None:
    """Raise TypeError or ValueError where a result of `shape` cannot be written to `out`, None excepted."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"`out` must be a NumPy array. Received {type(out).__name__}.")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(
            f"`out` has dtype {out.dtype}, but the result has {dtype}. Write np.empty({shape}, np.{dtype})."
        )
    if out.shape != shape:
        raise ValueError(
            f"`out` has shape {out.shape}, but the result has {shape}. Write np.empty({shape}, np.{dtype})."
        )
    if not out.flags.writeable:
        raise ValueError("`out` is read-only. Pass a writeable array, such as a copy of it.")
    if not out.flags.aligned:
        raise ValueError(f"`out` is not aligned to its dtype {dtype}. Write np.empty({shape}, np.{dtype}).")
    if out.size and any(step == 0 and size > 1 for step, size in zip(out.strides, out.shape)):
        raise ValueError(
            f"`out` has elements that share memory (strides {out.strides}). Write np.empty({shape}, np.{dtype})."
        )
    for name, array in inputs.items():
        if array is not None and np.may_share_memory(out, array, max_work=10_000):  # type: ignore[arg-type]
            raise ValueError(
                f"`out` shares memory with `{name}`, which is read while `out` is written. Pass another array."
            )
