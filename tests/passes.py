"""The passes of a problem, run by name with the engine or with the oracle."""

from __future__ import annotations

import numpy as np
import oracle
from problems import Problem, TransposedProblem

PASSES = ["conv", "conv_input_grad", "conv_kernel_grad"]


def integers(rng, shape, dtype):
    """Small integers: every partial sum of the tests is below 2**24, so that float32 adds them exactly."""
    return rng.integers(-3, 4, size=shape).astype(dtype)


def passes_of(problem: Problem) -> list[str]:
    """Names of the functions a problem is run with."""
    return ["conv_transpose"] if isinstance(problem, TransposedProblem) else PASSES


def output_shape(problem: Problem) -> tuple[int, ...]:
    """Shape of the output by the oracle's own arithmetic; nothing is computed."""
    options = {k: v for k, v in problem.options.items() if k != "groups"}
    # One channel and no batch: the shape costs no arithmetic.
    x = np.zeros((0, *problem.x_shape[1:-1], 1))
    forward = oracle.conv_transpose if isinstance(problem, TransposedProblem) else oracle.conv
    y = forward(x, np.zeros((*problem.kernel_shape[:-2], 1, 1)), **options)
    return (problem.x_shape[0], *y.shape[1:-1], problem.filters)


def draw(problem: Problem, rng, dtype, values=integers) -> dict[str, np.ndarray]:
    """Arrays of a problem, channels last: x, kernel, bias, grad_y."""
    shapes = {
        "x": problem.x_shape,
        "kernel": problem.kernel_shape,
        "bias": (problem.filters,),
        "grad_y": output_shape(problem),
    }
    return {name: values(rng, shape, dtype) for name, shape in shapes.items()}


def normal(rng, shape, dtype):
    """Random floats."""
    return rng.standard_normal(shape).astype(dtype)


def run(module, name: str, problem: Problem, arrays: dict[str, np.ndarray], *, bias=False, **extra) -> np.ndarray:
    """Run one pass with the functions of `module`: numbaconv, or the oracle. Arrays are in `extra`'s data format."""
    if name == "conv_input_grad":
        arguments = (arrays["grad_y"], arrays["kernel"], arrays["x"].shape)
    elif name == "conv_kernel_grad":
        arguments = (arrays["x"], arrays["grad_y"], problem.kernel_shape)
    else:
        arguments = (arrays["x"], arrays["kernel"], arrays["bias"] if bias else None)
    return getattr(module, name)(*arguments, **problem.options, **extra)


def channels_first(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays with the channels before the spatial axes, contiguous."""
    return {
        name: np.ascontiguousarray(np.moveaxis(a, -1, 1)) if name in ("x", "grad_y") else a
        for name, a in arrays.items()
    }


def cases(problems: list[Problem]) -> list[tuple[Problem, str]]:
    """Every problem with every pass it has."""
    return [(problem, name) for problem in problems for name in passes_of(problem)]


def case_id(value) -> str:
    """Name a pytest parameter."""
    return value.name if isinstance(value, Problem) else str(value)
