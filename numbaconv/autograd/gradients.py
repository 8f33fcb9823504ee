"""The table of gradients: one row per primitive, one rule per operand.

A rule's parameters name the values it needs, and only those are kept for the way back:

- ``g``: the gradient of the final scalar with respect to the result
- ``y``: the result; an operand by its name in the row; ``<operand>_shape``: its shape, which keeps no array
- an option of the call (``axis``) or a value its forward function handed on (``log_probabilities``)
- ``shapes`` and ``wanted``: the shapes of all operands, and which of them need a gradient

A rule may return a gradient in the broadcast shape, it is summed to the operand's; it may return ``g`` or a view of
it, never a saved array.  A key of several names is a joint rule that returns one gradient for each, for operands whose
gradients share work; ``"*arrays"`` stands for any number of operands.

The formulas are in the comments: ``dx`` means the gradient with respect to x, sums run over broadcast axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.activations import sigmoid
from numbaconv.autograd import convolution_rules as convolution
from numbaconv.autograd import dense_rules, rules
from numbaconv.autograd import normalization_rules as normalization
from numbaconv.autograd import pooling_rules as pooling

GRADIENTS: dict[str, dict[Any, Callable[..., Any]]] = {
    # y = a + b: both get g
    "add": {"a": lambda g: g, "b": lambda g: g},
    # y = a - b
    "subtract": {"a": lambda g: g, "b": lambda g: -g},
    # y = a b: da = g b, db = g a
    "multiply": {"a": lambda g, b: g * b, "b": lambda g, a: g * a},
    # y = a / b: da = g / b, db = -g a / b**2 = -g y / b
    "divide": {"a": lambda g, b: g / b, "b": lambda g, y, b: -g * y / b},
    # y = a**b: da = g b a**(b-1), db = g y log a
    "power": {"a": rules.power_gradient, "b": rules.exponent_gradient},
    # y = a b (matrices): da = g b^T, db = a^T g
    "matmul": {"a": rules.matmul_left_gradient, "b": rules.matmul_right_gradient},
    # y = max(a, b): to the larger; to each one half where they are equal
    "maximum": {
        "a": lambda g, a, b: g * rules.share_of_ties(a, b),
        "b": lambda g, a, b: g * rules.share_of_ties(b, a),
    },
    "minimum": {
        "a": lambda g, a, b: g * rules.share_of_ties(b, a),
        "b": lambda g, a, b: g * rules.share_of_ties(a, b),
    },
    # y = a where the condition holds, else b
    "where": {
        "a": lambda g, condition: rules.keep_where(condition, g),
        "b": lambda g, condition: rules.keep_where(np.logical_not(condition), g),
    },
    "negative": {"x": lambda g: -g},
    "exp": {"x": lambda g, y: g * y},
    "log": {"x": lambda g, x: g / x},
    # d sqrt(x) = 1 / (2 sqrt(x))
    "sqrt": {"x": lambda g, y: 0.5 * g / y},
    "square": {"x": lambda g, x: 2 * g * x},
    # sign(0) = 0
    "abs": {"x": lambda g, x: g * np.sign(x)},
    # 1 inside the closed interval [low, high], 0 outside
    "clip": {"x": lambda g, x, y: rules.keep_where(x == y, g)},
    # y = sum x: every element gets g;  y = mean x: g / n
    "sum": {"x": lambda g, x_shape, axis, keepdims: rules.stretch(g, x_shape, axis, keepdims)},
    "mean": {
        "x": lambda g, x_shape, axis, keepdims: rules.stretch(
            g / rules.reduced_count(x_shape, axis), x_shape, axis, keepdims
        )
    },
    # equally to all elements that attain the maximum or minimum
    "max": {"x": rules.extremum_gradient},
    "min": {"x": rules.extremum_gradient},
    # y = mean (x - mean x)**2: dx = 2 g (x - mean x) / n
    "var": {"x": rules.variance_gradient},
    # moves of elements: g moves back
    "reshape": {"x": lambda g, x_shape: g.reshape(x_shape)},
    "transpose": {"x": rules.transpose_gradient},
    "broadcast_to": {"x": lambda g: g},
    "getitem": {"x": rules.getitem_gradient},
    "concatenate": {"*arrays": rules.concatenate_gradient},
    "stack": {"*arrays": lambda g, axis: list(np.moveaxis(g, axis, 0))},
    "pad": {"x": lambda g, x_shape, pad_width: g[rules.inner(x_shape, pad_width)]},
    "repeat": {"x": rules.repeat_gradient},
    "astype": {"x": lambda g: g},
    # y = max(x, 0): y > 0 exactly where x > 0; 0 at x = 0
    "relu": {"x": rules.relu_gradient},
    # the slope at x = 0 is the negative side's
    "leaky_relu": {"x": lambda g, x, negative_slope: rules.multiply_by_choice(g, x > 0, negative_slope)},
    # y = alpha (exp(x) - 1) for x <= 0: dy/dx = alpha exp(x); exp(min(x, 0)) is 1 on the other side
    "elu": {"x": lambda g, x, alpha: rules.multiply_by_choice(g * np.exp(np.minimum(x, 0)), x > 0, alpha)},
    # dy/dx = y (1 - y)
    "sigmoid": {"x": lambda g, y: g * (y * (1 - y))},
    # dy/dx = 1 - y**2
    "tanh": {"x": lambda g, y: g * (1 - y * y)},
    # y = x sigmoid(x)
    "silu": {"x": rules.silu_gradient},
    # y = log(1 + exp x): dy/dx = sigmoid(x)
    "softplus": {"x": lambda g, x: g * sigmoid(x)},
    # y = x Phi(x): dy/dx = Phi(x) + x phi(x)
    "gelu": {"x": rules.gelu_gradient},
    # y = f(x), a user's function: dy/dx is the user's derivative, of x or of y
    "activation": {"x": lambda g, x, function: function.gradient(g, x)},
    "activation_from_output": {"x": lambda g, y, function: function.gradient(g, y)},
    # dx = y (g - sum(g y))
    "softmax": {"x": rules.softmax_gradient},
    # y = x - log sum exp x: dx = g - exp(y) sum(g)
    "log_softmax": {"x": lambda g, y, axis: g - np.exp(y) * g.sum(axis=axis, keepdims=True)},
    # y = -sum target log softmax(x): dx = g (softmax(x) - target)
    "softmax_cross_entropy": {"logits": rules.softmax_cross_entropy_gradient},
    # the same for a target of 1 at a label and 0 elsewhere
    "label_cross_entropy": {"logits": rules.label_cross_entropy_gradient},
    # y = -target log s - (1 - target) log(1 - s), s = sigmoid(x): dx = g (s - target)
    "sigmoid_cross_entropy": {"logits": lambda g, logits, target: g * (sigmoid(logits) - target)},
    # y = x mask factor
    "dropout": {"x": lambda g, mask, factor: normalization.dropout(g, mask, factor)},
    # y = scale x_hat + offset, statistics of x
    "batch_standardize": {("x", "scale", "offset"): normalization.batch_standardize_gradient},
    "layer_standardize": {("x", "scale", "offset"): normalization.layer_standardize_gradient},
    # the same with given statistics
    "normalize": {("x", "mean", "variance", "scale", "offset"): normalization.normalize_gradient},
    # y = conv(x, k) + bias, linear in x and in k; see convolution_rules
    "conv": {
        "x": lambda g, kernel, x_shape, options: convolution.conv_input_grad(g, kernel, x_shape, options),
        "kernel": lambda g, x, kernel_shape, options: convolution.conv_kernel_grad(g, x, kernel_shape, options),
        "bias": convolution.bias_grad,
    },
    # the same with one group per channel
    "depthwise_conv": {
        "x": convolution.depthwise_input_grad,
        "kernel": convolution.depthwise_kernel_grad,
        "bias": convolution.bias_grad,
    },
    # y = conv_input_grad(x, k) of the mirrored convolution: dx = conv(g, k), dk = conv_kernel_grad(g, x)
    "conv_transpose": {
        "x": convolution.transposed_input_grad,
        "kernel": convolution.transposed_kernel_grad,
        "bias": convolution.bias_grad,
    },
    # <g, conv_input_grad(a, k)> = <conv(g, k), a>: da = conv(g, k), dk = conv_kernel_grad(g, a)
    "conv_input_grad": {
        "grad_y": lambda g, kernel, options: convolution.conv(g, kernel, options),
        "kernel": lambda g, grad_y, kernel_shape, options: convolution.conv_kernel_grad(
            grad_y, g, kernel_shape, options
        ),
    },
    # <g, conv_kernel_grad(x, a)> = <conv(x, g), a>: dx = conv_input_grad(a, g), da = conv(x, g)
    "conv_kernel_grad": {
        "x": lambda g, grad_y, x_shape, options: convolution.conv_input_grad(grad_y, g, x_shape, options),
        "grad_y": lambda g, x, options: convolution.conv(x, g, options),
    },
    # y = relu(x + bias), bias one number per channel: dx = g where y > 0, dbias = sum dx
    "bias_relu": {("x", "bias"): convolution.bias_relu_grad},
    # y = max_pool(x), x = relu(u + bias): the two steps back to u and bias at once
    "bias_relu_max_pool": {("x", "bias"): pooling.bias_relu_max_pool_grad},
    # y = x kernel + bias, or relu of that
    "dense": {("x", "kernel", "bias"): dense_rules.dense_gradient},
    # to the first maximum of each window; shared equally by each window; windows that overlap add up
    "max_pool": {"x": pooling.max_pool_grad},
    "average_pool": {"x": pooling.average_pool_grad},
    "global_max_pool": {"x": pooling.global_max_pool_grad},
    "global_average_pool": {"x": pooling.global_average_pool_grad},
    "adaptive_max_pool": {"x": pooling.adaptive_max_pool_grad},
    "adaptive_average_pool": {"x": pooling.adaptive_average_pool_grad},
}
