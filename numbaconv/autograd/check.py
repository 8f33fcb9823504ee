"""Gradient checks by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.autograd.tensor import Tensor

__all__ = ["grad_check"]


def grad_check(
    f: Callable[..., Any], *arrays: Any, eps: float = 1e-6, rtol: float = 1e-6, atol: float = 1e-6, seed: int = 0
) -> float:
    """Compare the gradients of ``f`` with central differences, in float64, one argument at a time.

    With a fixed random weight ``w`` of the shape of the result, ``s = sum(w * f(...))`` is differentiated with respect
    to each element ``t`` of each argument: ``ds/dt ~ (s(t + eps) - s(t - eps)) / (2 * eps)``.

    Parameters
    ----------
    f : callable
        Takes one `Tensor` per array and returns a `Tensor` of any shape.  It must be smooth at the given point and
        give the same result for the same arguments.
    *arrays : array_like
        The point; converted to float64 copies.
    eps : float, default 1e-6
        Step.  A function that is linear in each argument has no truncation error: ``eps=1`` then avoids cancellation.
    rtol, atol : float, default 1e-6
        An element passes if ``|gradient - difference| <= atol + rtol * |difference|``.
    seed : int, default 0
        Seed of the weights ``w``.

    Returns
    -------
    float
        The largest ``|gradient - difference| / max(|gradient|, |difference|, 1)`` of all elements.

    Raises
    ------
    AssertionError
        If an element does not pass, naming the worst one, or an argument gets no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import grad_check
    >>> grad_check(lambda a, b: a * b, np.ones((2, 3)), np.ones(3), eps=1.0) < 1e-12
    True
    """
    points = [np.array(array.data if isinstance(array, Tensor) else array, np.float64) for array in arrays]
    y = f(*[Tensor(point) for point in points])
    weight = np.random.default_rng(seed).standard_normal(y.shape)

    def weighted_sum() -> float:
        return float((np.asarray(f(*[Tensor(point) for point in points]).data) * weight).sum())

    worst = 0.0
    for number, point in enumerate(points):
        gradient = gradient_of(f, points, number, weight)
        difference = np.empty_like(point)
        for index in np.ndindex(*point.shape):
            value = point[index]
            point[index] = value + eps
            above = weighted_sum()
            point[index] = value - eps
            below = weighted_sum()
            point[index] = value
            difference[index] = (above - below) / (2 * eps)
        worst = max(worst, compare(number, gradient, difference, rtol, atol))
    return worst


def gradient_of(f: Callable[..., Any], points: list[np.ndarray], number: int, weight: np.ndarray) -> np.ndarray:
    """Return the gradient that the tape gives for one argument, the others being constants."""
    tensors = [Tensor(point, requires_grad=i == number) for i, point in enumerate(points)]
    y = f(*tensors)
    if not (isinstance(y, Tensor) and y.requires_grad):
        raise AssertionError(f"the result does not depend on argument {number} through recorded operations")
    y.backward(weight)
    gradient = tensors[number].grad
    if gradient is None:
        raise AssertionError(f"backward() gave no gradient for argument {number}")
    if gradient.shape != points[number].shape or gradient.dtype != np.float64:
        raise AssertionError(
            f"the gradient of argument {number} has shape {gradient.shape} and dtype {gradient.dtype}, "
            f"the argument {points[number].shape} and float64"
        )
    return gradient


def compare(number: int, gradient: np.ndarray, difference: np.ndarray, rtol: float, atol: float) -> float:
    """Return the largest relative error of one argument, or raise with its worst element."""
    if gradient.size == 0:
        return 0.0
    error = np.abs(gradient - difference)
    failed = ~(error <= atol + rtol * np.abs(difference))
    if failed.any():
        excess = np.where(np.isnan(error), np.inf, error / (atol + rtol * np.abs(difference)))
        index = tuple(int(i) for i in np.unravel_index(int(excess.argmax()), excess.shape))
        raise AssertionError(
            f"gradient of argument {number} is wrong at {int(failed.sum())} of {failed.size} elements; worst at index "
            f"{index}: backward() gives {gradient[index]:.10g}, the central difference is {difference[index]:.10g}"
        )
    return float((error / np.maximum(np.maximum(np.abs(gradient), np.abs(difference)), 1)).max())
