"""Shapes, joining, padding and indexing, for tensors and arrays.

Results are views of the operand's memory where NumPy's are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from numbaconv.autograd import rules
from numbaconv.autograd.tensor import TensorLike, apply, to_dtype, values

__all__ = [
    "astype",
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flatten",
    "getitem",
    "pad",
    "repeat",
    "reshape",
    "squeeze",
    "stack",
    "transpose",
]


def reshape(x: TensorLike, shape: int | Sequence[int]) -> Any:
    """Give ``x`` another shape; one length may be -1.

    Parameters
    ----------
    x : Tensor or array
    shape : int or sequence of int
        As many elements as x has.

    Raises
    ------
    ValueError
        If the numbers of elements differ.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.reshape([1.0, 2.0, 3.0, 4.0], (2, -1)).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    return apply("reshape", rules.reshape, (x,), shape=shape)


def flatten(x: TensorLike) -> Any:
    """Join all axes but the first, the batch: shape ``(batch, features)``.

    Parameters
    ----------
    x : Tensor or array, shape (batch, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import ops
    >>> ops.flatten(np.zeros((2, 3, 4))).shape
    (2, 12)
    """
    shape = np.shape(values(x))
    return reshape(x, (shape[0], math.prod(shape[1:])))


def expand_dims(x: TensorLike, axis: int) -> Any:
    """Insert an axis of length 1.

    Parameters
    ----------
    x : Tensor or array
    axis : int
        Place of the new axis in the result.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.expand_dims([1.0, 2.0], -1).tolist()
    [[1.0], [2.0]]
    """
    shape = np.shape(values(x))
    position = normalize_axis_index(axis, len(shape) + 1)
    return reshape(x, (*shape[:position], 1, *shape[position:]))


def squeeze(x: TensorLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Remove axes of length 1: those of ``axis``, by default all.

    Parameters
    ----------
    x : Tensor or array
    axis : int, tuple of int or None

    Raises
    ------
    ValueError
        If an axis to remove has another length.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.squeeze([[1.0, 2.0]]).tolist()
    [1.0, 2.0]
    """
    shape = np.shape(values(x))
    removed = [i for i, n in enumerate(shape) if n == 1] if axis is None else normalize_axis_tuple(axis, len(shape))
    if any(shape[i] != 1 for i in removed):
        raise ValueError(f"squeeze removes only axes of length 1. Received: axis={axis} for shape {shape}")
    return reshape(x, [n for i, n in enumerate(shape) if i not in removed])


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Any:
    """Permute the axes, by default reverse them.

    Parameters
    ----------
    x : Tensor or array
    axes : sequence of int or None
        Axis ``i`` of the result is axis ``axes[i]`` of x.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.transpose([[1.0, 2.0]]).tolist()
    [[1.0], [2.0]]
    """
    return apply("transpose", np.transpose, (x,), axes=axes)


def broadcast_to(x: TensorLike, shape: Sequence[int]) -> Any:
    """Repeat ``x`` along new and unit axes, as a read-only view.

    Parameters
    ----------
    x : Tensor or array
    shape : sequence of int
        A shape that x broadcasts to.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.broadcast_to([1.0, 2.0], (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    return apply("broadcast_to", rules.broadcast_to, (x,), shape=tuple(shape))


def concatenate(arrays: Sequence[TensorLike], axis: int = 0) -> Any:
    """Join tensors along an axis; their other axes agree.

    Parameters
    ----------
    arrays : sequence of Tensor or array
    axis : int, default 0

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.concatenate([[1.0], [2.0, 3.0]]).tolist()
    [1.0, 2.0, 3.0]
    """
    return apply("concatenate", rules.concatenate, tuple(arrays), axis=axis)


def stack(arrays: Sequence[TensorLike], axis: int = 0) -> Any:
    """Join tensors of one shape along a new axis.

    Parameters
    ----------
    arrays : sequence of Tensor or array
    axis : int, default 0
        Place of the new axis in the result.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.stack([[1.0, 2.0], [3.0, 4.0]], axis=1).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    return apply("stack", rules.stack, tuple(arrays), axis=axis)


def pad(x: TensorLike, pad_width: Sequence[tuple[int, int]]) -> Any:
    """Surround ``x`` with zeros.

    Parameters
    ----------
    x : Tensor or array
    pad_width : sequence of (low, high), one per axis
        Numbers of zeros before and after the axis, none negative.

    Raises
    ------
    ValueError
        If there is not one pair for each axis, or a number is negative.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.pad([1.0, 2.0], [(1, 2)]).tolist()
    [0.0, 1.0, 2.0, 0.0, 0.0]
    """
    pairs = tuple((operator.index(low), operator.index(high)) for low, high in pad_width)
    if len(pairs) != np.ndim(values(x)) or any(n < 0 for pair in pairs for n in pair):
        raise ValueError(
            f"pad_width must hold one pair of non-negative integers for each of the {np.ndim(values(x))} axes of x. "
            f"Received: pad_width={pad_width}"
        )
    return apply("pad", rules.pad, (x,), pad_width=pairs)


def repeat(x: TensorLike, repeats: int, axis: int) -> Any:
    """Repeat each element ``repeats`` times along ``axis``: nearest-neighbour up-sampling.

    Parameters
    ----------
    x : Tensor or array
    repeats : int
    axis : int

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.repeat([1.0, 2.0], 2, axis=0).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    position = normalize_axis_index(axis, np.ndim(values(x)))
    return apply("repeat", np.repeat, (x,), repeats=operator.index(repeats), axis=position)


def getitem(x: TensorLike, index: Any) -> Any:
    """Select elements by any NumPy index: integers, slices, ``...``, None, integer and boolean arrays.

    Parameters
    ----------
    x : Tensor or array
    index : anything that NumPy takes between brackets
        An element that is selected several times collects all of its gradients.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.getitem([1.0, 2.0, 3.0], [0, 2, 0]).tolist()
    [1.0, 3.0, 1.0]
    """
    return apply("getitem", rules.getitem, (x,), index=index)


def astype(x: TensorLike, dtype: Any) -> Any:
    """Convert to float32 or float64; the gradient is converted back.

    Parameters
    ----------
    x : Tensor or array
    dtype : {"float32", "float64"}

    Raises
    ------
    TypeError
        If ``dtype`` is another one.

    Examples
    --------
    >>> from numbaconv.autograd import ops
    >>> ops.astype([1.0], "float64").dtype
    dtype('float64')
    """
    return apply("astype", to_dtype, (x,), dtype=dtype)
