"""Products of a dense layer and their gradients.

BLAS libraries start threads of their own for larger products and let them spin for a while afterwards. The engine's
threads then share the cores with them: a launch that takes half a millisecond has been seen to wait for eight. So
products are convolutions with one tap, of few rows a kernel reads the matrix where it lies, and of the gradients BLAS
gets those that it computes on the calling thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv import functional, memory, parallel, planner
from numbaconv.algorithms import few_rows, many_rows
from numbaconv.algorithms.channel_sums import channel_sums, relu_gradient_sums
from numbaconv.arrays import DTYPES
from numbaconv.constants import is_constant
from numbaconv.program import Operand, Recorder
from numbaconv.spec import ConvSpec, resolve_conv

BLAS_PRODUCTS = 1 << 18
"""OpenBLAS starts threads for a product of matrices of more multiply-adds than this,"""

BLAS_ROW_PRODUCTS = 9216
"""and for one of a vector and a matrix of more than this (interface/gemm.c and gemv.c)."""

FEW_ROWS = 8
"""Fewer rows are multiplied faster by a matrix in place than by one that is packed first."""


def stays_on_thread(rows: int, depth: int, units: int) -> bool:
    """Whether BLAS computes a product without threads of its own."""
    return rows * depth * units <= (BLAS_PRODUCTS if min(rows, depth, units) > 1 else BLAS_ROW_PRODUCTS)


def is_engine_array(*arrays: np.ndarray) -> bool:
    """Whether the engine's kernels read the arrays as they are, one float dtype in C order."""
    first = arrays[0].dtype
    return first.char in "fd" and all(a.dtype == first and a.flags.carray and a.size for a in arrays)


def _maker(rows: int, depth: int, units: int, dtype: str) -> Callable[..., parallel.Launch] | None:
    """Return what makes the launch of a product that has a kernel of its own, None where it is a convolution."""
    if rows < FEW_ROWS:
        return few_rows.launch
    return many_rows.product_launch if many_rows.is_product_wanted(rows, depth, units, dtype) else None


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, is_relu: bool) -> np.ndarray:
    """Return x kernel + bias for the rows of x, or relu of that, in one recycled array."""
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    (count, depth), units = rows.shape, kernel.shape[1]
    operands = (rows, kernel) if bias is None else (rows, kernel, bias)
    if not is_engine_array(*operands):
        y = np.matmul(rows, kernel, out=memory.empty((count, units), np.result_type(x, kernel)))
        if bias is not None:
            np.add(y, bias, out=y)
        if is_relu:
            np.maximum(y, 0, out=y)
    elif (make := _maker(count, depth, units, DTYPES[rows.dtype.char])) is not None:
        y = few_rows.product(rows, kernel, bias, is_relu, make)
    else:
        activation = "relu" if is_relu else None
        y = functional.conv.array_function(rows[None], kernel[None], bias, activation=activation)[0]
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], units)


def record_dense(
    recorder: Recorder, x: Operand, kernel: np.ndarray, bias: np.ndarray | None, y: Operand, rows: int, is_relu: bool
) -> bool:
    """Record what `dense` computes; return False where it is more than launches."""
    depth, units = kernel.shape
    make = _maker(rows, depth, units, recorder.dtype)
    if make is not None:
        options = (True,) if rows == 1 and is_constant(kernel) and np.isfinite(kernel).all() else ()
        launch = make(rows, depth, units, recorder.dtype, bias is not None, is_relu, *options)
        recorder.launch(launch, x, kernel, y, *(() if bias is None else (bias,)))
        return True
    spec = resolve_conv((1, rows, depth), (1, depth, units), dtype=recorder.dtype)
    return planner.record(recorder, spec, "forward", x, kernel, bias, "relu" if is_relu else None, y)


def record_input_gradient(recorder: Recorder, g: Operand, kernel: np.ndarray, grad_x: Operand, rows: int) -> bool:
    """Record g kernel^T; return False where it is more than launches."""
    depth, units = kernel.shape
    if many_rows.is_gradient_wanted(rows, depth, units, recorder.dtype):
        recorder.launch(many_rows.gradient_launch(rows, depth, units, recorder.dtype), g, kernel, grad_x)
        return True
    spec = resolve_conv((1, rows, depth), (1, depth, units), dtype=recorder.dtype)
    return planner.record(recorder, spec, "input_grad", g, kernel, None, None, grad_x)


def record_kernel_gradient(recorder: Recorder, x: Operand, g: Operand, grad_kernel: Operand, spec: ConvSpec) -> bool:
    """Record x^T g, with the product as a convolution with one tap; return False where it is more than launches."""
    rows, depth, units = spec.in_spatial[0], spec.in_channels, spec.out_channels
    if many_rows.is_matrix_gradient_wanted(rows, depth, units, recorder.dtype):
        recorder.launch(many_rows.matrix_gradient_launch(rows, depth, units, recorder.dtype), x, g, grad_kernel)
        return True
    return planner.record(recorder, spec, "kernel_grad", x, g, None, None, grad_kernel)


def dense_gradient(
    g: np.ndarray,
    x: np.ndarray | None,
    kernel: np.ndarray,
    rectified: np.ndarray | None,
    x_shape: tuple[int, ...],
    wanted: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """With u = x kernel + bias: dx = du kernel^T, dkernel = x^T du, dbias = sum du; `rectified` is relu(u)."""
    g = np.ascontiguousarray(g).reshape(math.prod(g.shape[:-1]), kernel.shape[1])
    gradients: list[Any] = [None, None, None]
    if rectified is not None:
        g, gradients[2] = relu_gradient_sums(g, rectified.reshape(g.shape))
    elif wanted[2]:
        gradients[2] = channel_sums(g)
    if wanted[0]:
        gradients[0] = _input_gradient(g, kernel).reshape(x_shape)
    if wanted[1] and x is not None:
        gradients[1] = _kernel_gradient(x.reshape(g.shape[0], kernel.shape[0]), g, kernel.shape)
    return gradients[0], gradients[1], gradients[2]


def _input_gradient(g: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return g kernel^T."""
    rows, (depth, units) = g.shape[0], kernel.shape
    if stays_on_thread(rows, depth, units) or not is_engine_array(g, kernel):
        return np.matmul(g, kernel.T, out=memory.empty((rows, depth), g.dtype))
    dtype = DTYPES[g.dtype.char]
    if many_rows.is_gradient_wanted(rows, depth, units, dtype):
        gradient = memory.empty((rows, depth), g.dtype)
        many_rows.gradient_launch(rows, depth, units, dtype)(g, kernel, gradient)
        return gradient
    return functional.conv_input_grad.array_function(g[None], kernel[None], (1, rows, depth))[0]


def _kernel_gradient(x: np.ndarray, g: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return x^T g."""
    rows = g.shape[0]
    if rows == 1:
        # The product of a column and a row: BLAS takes five times as long for it as it takes to write.
        return np.multiply(x.T, g, out=memory.empty(shape, g.dtype))
    if stays_on_thread(rows, *shape) or not is_engine_array(x, g):
        return np.matmul(x.T, g, out=memory.empty(shape, g.dtype))
    dtype = DTYPES[g.dtype.char]
    if many_rows.is_matrix_gradient_wanted(rows, *shape, dtype):
        gradient = memory.empty(shape, g.dtype)
        many_rows.matrix_gradient_launch(rows, *shape, dtype)(x, g, gradient)
        return gradient
    return functional.conv_kernel_grad.array_function(x[None], g[None], (1, *shape))[0]
