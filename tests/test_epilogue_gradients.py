"""Training through activations that users write."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

import numbaconv as nc


@numba.njit
def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


@numba.njit
def softplus_slope(x):
    return 1 / (1 + math.exp(-x))


FORMS = {
    "of the input": nc.fused_activation(softplus, derivative=softplus_slope),
    "of the result": nc.fused_activation(softplus, derivative_from_output=lambda y: 1 - math.exp(-y)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "x_shape", "kernel_shape", "filters", "options"),
    [
        ("conv", (2, 5, 6, 3), (3, 3, 3, 4), 4, {"padding": "same"}),
        ("conv", (1, 9, 4), (3, 2, 6), 6, {"groups": 2, "dilation_rate": 2}),
        ("conv", (1, 5, 12, 2), (3, 3, 2, 1), 1, {"padding": "same"}),
        ("depthwise_conv", (1, 6, 5, 3), (3, 3, 3, 2), 6, {"strides": 2}),
        ("conv_transpose", (1, 4, 3, 2), (3, 3, 4, 2), 4, {"strides": 2}),
    ],
)
def test_gradients_are_those_of_differences(rng, form, name, x_shape, kernel_shape, filters, options):
    x, kernel, bias = (
        nc.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in (x_shape, kernel_shape, filters)
    )
    weights = rng.standard_normal(getattr(nc, name)(x.data, kernel.data, **options).shape)

    def loss(x, kernel, bias):
        return (getattr(nc, name)(x, kernel, bias, activation=FORMS[form], **options) * weights).sum()

    nc.grad_check(loss, x, kernel, bias)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_alone_on_a_tensor(rng, form):
    nc.grad_check(lambda t: (FORMS[form](t) * FORMS[form](t)).sum(), nc.Tensor(rng.standard_normal(13), True))


def test_float32_gradient_in_float32():
    x = nc.Tensor(np.linspace(-3, 3, 11, dtype=np.float32), requires_grad=True)
    FORMS["of the input"](x).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad, 1 / (1 + np.exp(-x.data)), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_training_and_inference_agree(rng, form):
    layer = nc.layers.Conv2D(8, 3, activation=FORMS[form])
    x = rng.standard_normal((1, 8, 8, 3), dtype=np.float32)
    y = layer(x)
    with nc.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), y.numpy(), rtol=1e-6)
    y.sum().backward()
    assert all(np.isfinite(weight.grad).all() and weight.grad.any() for weight in layer.trainable_weights)


def test_without_a_derivative_there_is_no_gradient():
    x = nc.Tensor(np.ones((1, 5, 1)), requires_grad=True)
    y = nc.conv(x, np.ones((2, 1, 1)), activation=softplus)
    assert y.shape == (1, 4, 1)
    with pytest.raises(ValueError) as error:
        y.sum().backward()
    assert str(error.value) == (
        "The activation 'softplus' has no derivative, so no gradient passes through it. Give it one: "
        "nc.fused_activation(softplus, derivative=...), a function of the activation's input, or "
        "derivative_from_output=..., one of its result."
    )
