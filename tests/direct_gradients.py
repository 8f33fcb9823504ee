"""Direct kernel gradients whose plans a test changes: forgotten before and after, exact on any number of threads."""

from __future__ import annotations

import numba
import oracle
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem

from numbaconv import planner
from numbaconv.algorithms import direct_gradient
from numbaconv.algorithms.plan_parts import GradientPlan, array_strides
from numbaconv.spec import ConvSpec, resolve_conv


def forget_plans() -> None:
    """Let the next call be planned anew."""
    planner.clear_plans()
    direct_gradient.gradient_plan.cache_clear()
    direct_gradient._gradient_choices.cache_clear()


def spec_of(problem: Problem, dtype="float32") -> ConvSpec:
    """Resolve a problem's options."""
    return resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)


def plan_of(problem: Problem, dtype="float32") -> GradientPlan:
    """Plan a problem's kernel gradient of contiguous arrays."""
    spec = spec_of(problem, dtype)
    return direct_gradient.gradient_plan(spec, *array_strides(spec))


def assert_exact(problem: Problem, dtype, rng) -> None:
    """Compare the kernel gradient by the direct algorithm with the oracle's, on one thread and on all."""
    spec, arrays = spec_of(problem, dtype), draw(problem, rng, dtype)
    expected = run(oracle, "conv_kernel_grad", problem, arrays)
    most = numba.get_num_threads()
    try:
        for threads in {1, most}:
            numba.set_num_threads(threads)
            result = planner.kernel_grad(spec, arrays["x"], arrays["grad_y"], algorithm="direct")
            assert_array_equal(result, expected)
    finally:
        numba.set_num_threads(most)
