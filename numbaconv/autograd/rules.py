"""Gradient formulas that need more than one line, and the NumPy forward functions that belong to them.

``g`` is the gradient of a scalar with respect to the result ``y``; each rule returns that with respect to its operand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv import activations
from numbaconv.activations import sigmoid, softplus
from numbaconv.algorithms.channel_sums import relu_gradient_sums
from numbaconv.algorithms.cross_entropy import FEW_CLASSES
from numbaconv.algorithms.cross_entropy import label_cross_entropy as run_label_cross_entropy
from numbaconv.algorithms.cross_entropy import softmax as run_softmax
from numbaconv.autograd.recycling import like
from numbaconv.autograd.tape import sum_to_shape
from numbaconv.erf import erf

SQRT_HALF = math.sqrt(0.5)
NORMAL_DENSITY_AT_ZERO = 1.0 / math.sqrt(2.0 * math.pi)
# Hendrycks & Gimpel, arXiv:1606.08415, section 2: the tanh form of GELU.
GELU_TANH_FACTOR = math.sqrt(2.0 / math.pi)
GELU_TANH_CUBIC = 0.044715


# ---- element-wise -------------------------------------------------------------------------------------------------


def power_gradient(g: np.ndarray, a: Any, b: Any) -> np.ndarray:
    """d(a**b)/da = b a**(b-1); 0 where b = 0, also at a = 0."""
    if np.ndim(b) == 0:
        return g * (b * a ** (b - 1)) if b != 0 else np.zeros_like(g)
    return g * (b * a ** np.where(b == 0, 1, b - 1))


def exponent_gradient(g: np.ndarray, y: np.ndarray, a: Any) -> np.ndarray:
    """d(a**b)/db = a**b log a; 0 at a = 0."""
    return g * (y * np.log(np.where(a == 0, 1, a)))


def share_of_ties(mine: Any, other: Any) -> np.ndarray:
    """Return 1 where ``mine`` is the larger, 1/2 where both are equal, 0 elsewhere."""
    dtype = np.result_type(mine, other)
    return ((mine > other) + 0.5 * (mine == other)).astype(dtype)


def where(a: Any, b: Any, condition: np.ndarray) -> np.ndarray:
    """Choose, with the operands that get gradients first."""
    return np.where(condition, a, b)


def clip(x: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Limit; a bound of None is open."""
    return np.clip(x, low, high)


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(x, 0)."""
    return np.maximum(x, 0, out=like(x))


def relu_gradient(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``g`` where y > 0, which is where x > 0, and 0 elsewhere, also at x = 0."""
    if g.flags.c_contiguous and y.flags.c_contiguous:
        return relu_gradient_sums(g.reshape(-1, 1), y.reshape(-1, 1))[0].reshape(y.shape)
    return keep_where(y > 0, g)


def keep_where(mask: Any, g: np.ndarray) -> np.ndarray:
    """Return ``g`` where the mask holds and 0 elsewhere, whatever ``g`` is there (0 * inf would be nan).

    The bits of g are masked: np.where took 20 times as long on masks that the processor cannot predict.
    """
    bits = np.dtype(f"i{g.itemsize}")
    keep_all = np.negative(np.asarray(mask).view(np.int8))  # -1, all bits, or 0
    kept = like(g)
    np.bitwise_and(g.view(bits), keep_all, out=kept.view(bits))
    return kept


def multiply_by_choice(g: np.ndarray, mask: Any, factor: float) -> np.ndarray:
    """Return ``g`` where the mask holds and ``factor * g`` elsewhere, the factor looked up instead of branched on."""
    return g * np.array([factor, 1], g.dtype)[np.asarray(mask).view(np.int8)]


def silu_gradient(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """With s = sigmoid(x): d(x s)/dx = s (1 + x (1 - s))."""
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


def gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    """Return x Phi(x), Phi the normal distribution function, or its tanh form."""
    if approximate:
        return 0.5 * x * (1 + np.tanh(GELU_TANH_FACTOR * (x + GELU_TANH_CUBIC * x * x * x)))
    return activations.gelu(x)


def gelu_gradient(g: np.ndarray, x: np.ndarray, approximate: bool) -> np.ndarray:
    """Exact: Phi(x) + x phi(x).  With t = tanh(u): (1 + t) / 2 + x (1 - t**2) u' / 2."""
    if approximate:
        t = np.tanh(GELU_TANH_FACTOR * (x + GELU_TANH_CUBIC * x * x * x))
        slope = GELU_TANH_FACTOR * (1 + 3 * GELU_TANH_CUBIC * x * x)
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
    density = NORMAL_DENSITY_AT_ZERO * np.exp(-0.5 * x * x)
    return g * (0.5 * (1 + erf(SQRT_HALF * x)) + x * density)


# ---- softmax and cross-entropy ------------------------------------------------------------------------------------


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Return exp(x - m) / sum exp(x - m) with m = max x: no overflow, one array."""
    is_plain = x.dtype.char in "fd" and x.flags.c_contiguous and x.flags.aligned
    if is_plain and x.size and x.ndim and axis in (-1, x.ndim - 1) and x.shape[-1] <= FEW_CLASSES:
        return run_softmax(x)
    y = x - x.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_gradient(g: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """dy_i/dx_j = y_i (delta_ij - y_j), hence y (g - sum(g y))."""
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Return x - m - log sum exp(x - m) with m = max x."""
    y = x - x.max(axis=axis, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=axis, keepdims=True))
    return y


def label_cross_entropy(x: np.ndarray, labels: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log sum exp(x - m) - (x - m)[label], m = max x, and its gradient in C order with the classes last."""
    if axis != x.ndim - 1:
        x = np.moveaxis(x, axis, -1)
    rows = np.ascontiguousarray(x).reshape(labels.size, x.shape[-1])
    if x.shape[-1] <= FEW_CLASSES:
        loss, slopes = run_label_cross_entropy(rows, np.ascontiguousarray(labels, np.int64))
    else:
        shifted = rows - rows.max(axis=1, keepdims=True)
        slopes = np.exp(shifted)
        total = slopes.sum(axis=1, keepdims=True)
        place = np.arange(0, rows.size, rows.shape[1]) + labels.reshape(-1)
        loss = np.log(total).reshape(-1) - shifted.reshape(-1)[place]
        slopes /= total
        slopes.reshape(-1)[place] -= 1
    return loss.reshape(labels.shape), slopes.reshape(x.shape)


def label_cross_entropy_gradient(g: np.ndarray, slopes: np.ndarray, axis: int) -> np.ndarray:
    """d(-log p[label])/dx = p, less 1 at the label."""
    gradient = np.multiply(slopes, g[..., None], out=like(slopes))
    return gradient if axis == gradient.ndim - 1 else np.moveaxis(gradient, -1, axis)


def softmax_cross_entropy_gradient(
    g: np.ndarray, log_probabilities: np.ndarray, target: np.ndarray, axis: int
) -> np.ndarray:
    """d(-sum t log p)/dx = p sum(t) - t."""
    gradient = np.exp(log_probabilities)
    gradient *= target.sum(axis=axis, keepdims=True)
    gradient -= target
    gradient *= np.expand_dims(g, axis)
    return gradient


def sigmoid_cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """With x the logits: -t log s - (1 - t) log(1 - s) = softplus(x) - t x."""
    return softplus(logits) - target * logits


# ---- reductions ---------------------------------------------------------------------------------------------------


def stretch(g: np.ndarray, x_shape: tuple[int, ...], axis: Any, keepdims: bool) -> np.ndarray:
    """Repeat the gradient of a reduction along the reduced axes: a read-only view, no copy."""
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, x_shape)


def reduced_count(x_shape: tuple[int, ...], axis: Any) -> int:
    """Return how many elements are reduced to one."""
    if axis is None:
        return math.prod(x_shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    return math.prod(x_shape[i] for i in axes)


def extremum_gradient(g: np.ndarray, y: np.ndarray, x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    """Divide the gradient of max or min equally among the elements that attain it."""
    hit = x == stretch(y, x.shape, axis, keepdims)
    share = g / hit.sum(axis=axis, keepdims=keepdims).clip(1)
    return keep_where(hit, stretch(share.astype(g.dtype, copy=False), x.shape, axis, keepdims))


def variance_gradient(g: np.ndarray, x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    """d(mean (x - m)**2)/dx = 2 (x - m) / n: the path through m vanishes, as the deviations sum to zero."""
    deviation = x - x.mean(axis=axis, keepdims=True)
    deviation *= 2.0 / max(reduced_count(x.shape, axis), 1)
    return deviation * stretch(g, x.shape, axis, keepdims)


# ---- shapes and indexing ------------------------------------------------------------------------------------------


def reshape(x: np.ndarray, shape: Any) -> np.ndarray:
    """Return a view where NumPy can."""
    return x.reshape(shape)


def transpose_gradient(g: np.ndarray, axes: Sequence[int] | None) -> np.ndarray:
    """Permute by the inverse permutation."""
    return g.transpose(None if axes is None else np.argsort([axis % g.ndim for axis in axes]))


def getitem(x: np.ndarray, index: Any) -> Any:
    """Select by any NumPy index."""
    return x[index]


def is_basic(index: Any) -> bool:
    """Tell whether an index is made of integers, slices, ``...`` and None alone, so selects nothing twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def getitem_gradient(g: np.ndarray, x_shape: tuple[int, ...], index: Any) -> np.ndarray:
    """Scatter ``g`` into zeros; an element selected several times collects all of its gradients."""
    gradient = np.zeros(x_shape, g.dtype)
    if is_basic(index):
        gradient[index] = g
    else:
        np.add.at(gradient, index, g)
    return gradient


def broadcast_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a read-only view."""
    return np.broadcast_to(x, shape)


def concatenate(*arrays: np.ndarray, axis: int) -> np.ndarray:
    """Join along an axis."""
    return np.concatenate(arrays, axis)


def stack(*arrays: np.ndarray, axis: int) -> np.ndarray:
    """Join along a new axis."""
    return np.stack(arrays, axis)


def concatenate_gradient(g: np.ndarray, shapes: Sequence[tuple[int, ...]], axis: int) -> list[np.ndarray]:
    """Cut ``g`` at the joints."""
    return np.split(g, np.cumsum([shape[axis] for shape in shapes[:-1]]), axis)


def pad(x: np.ndarray, pad_width: Sequence[tuple[int, int]]) -> np.ndarray:
    """Surround ``x`` with zeros."""
    y = np.zeros([low + n + high for n, (low, high) in zip(x.shape, pad_width, strict=True)], x.dtype)
    y[inner(x.shape, pad_width)] = x
    return y


def inner(x_shape: tuple[int, ...], pad_width: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Return the place of the unpadded array in the padded one."""
    return tuple(slice(low, low + n) for n, (low, _) in zip(x_shape, pad_width, strict=True))


def repeat_gradient(g: np.ndarray, x_shape: tuple[int, ...], repeats: int, axis: int) -> np.ndarray:
    """Sum each run of ``repeats`` equal elements."""
    return g.reshape(*x_shape[: axis + 1], repeats, *x_shape[axis + 1 :]).sum(axis=axis + 1)


# ---- matrix product -----------------------------------------------------------------------------------------------


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply; the rows of all leading axes of ``a`` meet one matrix ``b`` in a single product."""
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:
        rows = math.prod(a.shape[:-1])
        return (a.reshape(rows, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[1])
    return a @ b


def swap(a: np.ndarray) -> np.ndarray:
    """Transpose the last two axes."""
    return np.swapaxes(a, -1, -2)


def as_columns(g: np.ndarray, a_ndim: int, b_ndim: int) -> np.ndarray:
    """Give the gradient of a product with vectors the axes that ``@`` added and removed from its result."""
    if b_ndim == 1:
        g = g[..., None]
    return g[..., None, :] if a_ndim == 1 else g


def matmul_left_gradient(g: np.ndarray, a_shape: tuple[int, ...], b: np.ndarray) -> np.ndarray:
    """With y = a b: dL/da = g b^T."""
    g = as_columns(g, len(a_shape), b.ndim)
    matrix_shape = (1, *a_shape) if len(a_shape) == 1 else a_shape
    gradient = matmul(g, swap(b if b.ndim > 1 else b[:, None]))
    return sum_to_shape(gradient, matrix_shape).reshape(a_shape)


def matmul_right_gradient(g: np.ndarray, a: np.ndarray, b_shape: tuple[int, ...]) -> np.ndarray:
    """With y = a b: dL/db = a^T g, for one matrix b a single product over the rows of all leading axes."""
    g = as_columns(g, a.ndim, len(b_shape))
    a = a if a.ndim > 1 else a[None, :]
    if len(b_shape) <= 2:
        rows = math.prod(a.shape[:-1])
        return (a.reshape(rows, a.shape[-1]).T @ g.reshape(rows, g.shape[-1])).reshape(b_shape)
    return sum_to_shape(swap(a) @ g, b_shape)
