"""What is said about activations that cannot be compiled, before anything runs."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

import numbaconv as nc


def convolve(activation):
    return nc.conv(np.ones((1, 5, 1), np.float32), np.ones((2, 1, 1), np.float32), activation=activation)


@numba.njit
def two(x, y):
    return x + y


@numba.njit
def text(x):
    return "a"


@numba.njit
def complex_number(x):
    return x * 1j


@numba.njit
def careful(x):
    if x < 0:
        raise ValueError("negative")
    return x


@numba.njit
def calls_careful(x):
    return careful(x)


@numba.njit
def table(x):
    return np.zeros(3).sum() + x


@numba.njit
def of_arrays(x):
    return x.sum()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            text,
            "`activation` must return a real number. text(float32) returns Literal[str](a). Return one float on every "
            "path through the function.",
        ),
        (
            complex_number,
            "`activation` must return a real number. complex_number(float32) returns complex128. Return one float on "
            "every path through the function.",
        ),
    ],
)
def test_result_is_no_real_number(function, message):
    with pytest.raises(ValueError) as error:
        convolve(function)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (careful, "careful(float32): An activation cannot raise exceptions or assert: return NaN instead."),
        (calls_careful, "An activation cannot raise exceptions or assert: return NaN instead."),
        (table, "table(float32): Arrays, lists and strings cannot be used in an activation ("),
        (of_arrays, "of_arrays(float32): Unknown attribute 'sum' of type float32"),
    ],
)
def test_function_that_cannot_be_compiled(function, message):
    with pytest.raises(ValueError, match=r"^`activation` cannot be compiled\. Numba says of ") as error:
        convolve(function)
    assert message in str(error.value)


def test_wrong_number_of_arguments():
    with pytest.raises(TypeError) as error:
        convolve(two)
    assert str(error.value) == (
        "`activation` must take one number. Received two(x, y). Bind other arguments first: as defaults, or in a "
        "function that returns a function of x alone."
    )


@pytest.mark.parametrize("thing", [math.exp, np.exp, 3, "relu"], ids=repr)
def test_what_is_no_python_function(thing):
    with pytest.raises(TypeError) as error:
        nc.fused_activation(thing)
    assert str(error.value) == (
        f"`activation` must be a function of one number that Numba can compile. Received {thing!r} of type "
        f"{type(thing).__name__}. Write it as `def f(x): return ...` or with numba.njit."
    )


def test_derivatives_are_checked_alike():
    with pytest.raises(TypeError, match=r"^`derivative` must take one number"):
        nc.fused_activation(lambda x: x, derivative=two)
    activation = nc.fused_activation(lambda x: x, derivative_from_output=text)
    with pytest.raises(ValueError, match=r"^`derivative_from_output` must return a real number"):
        activation.gradient(np.ones(3), np.ones(3))


def test_one_derivative_is_enough():
    with pytest.raises(ValueError) as error:
        nc.fused_activation(lambda x: x, derivative=lambda x: 1, derivative_from_output=lambda y: 1)
    assert str(error.value) == (
        "`derivative` and `derivative_from_output` are two forms of one function: give one of them. "
        "`derivative_from_output` is the faster one where the derivative can be had from the result."
    )


def test_the_layer_says_it_too():
    with pytest.raises(TypeError, match=r"^`activation` must take one number"):
        nc.layers.Conv2D(4, 3, activation=two)
