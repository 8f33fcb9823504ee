"""The public functions of arrays: convolutions, their gradients, pooling, and what a convolution would do."""

from __future__ import annotations

from numbaconv.functional.convolution import conv, depthwise_conv, separable_conv
from numbaconv.functional.explanation import Explanation, explain
from numbaconv.functional.gradients import conv_input_grad, conv_kernel_grad
from numbaconv.functional.pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from numbaconv.functional.transposed import conv_transpose

__all__ = [
    "Explanation",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_transpose",
    "depthwise_conv",
    "explain",
    "global_average_pool",
    "global_max_pool",
    "max_pool",
    "separable_conv",
]
