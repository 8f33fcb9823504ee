"""Direct kernel gradients whose tiles have output channels as rows: exact, chosen where these fill no columns."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from direct_gradients import assert_exact, forget_plans, spec_of
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem

from numbaconv import planner
from numbaconv.algorithms import direct_gradient
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

SAME = {"padding": "same"}
PROBLEMS = {
    "1x1 to 2": Problem("1x1 to 2", (2, 33, 35, 64), (1, 1, 64, 2), {}),
    "1x1 to 10, 31 channels": Problem("1x1 to 10", (2, 33, 35, 31), (1, 1, 31, 10), {}),
    "1x1 to 21, apart": Problem("1x1 to 21", (2, 65, 70, 40), (1, 1, 40, 21), {"strides": 2}),
    "3x3 to 3": Problem("3x3 to 3", (1, 47, 45, 20), (3, 3, 20, 3), SAME),
    "3x3 to 19, strides": Problem("3x3 to 19", (2, 71, 69, 12), (3, 3, 12, 19), {"strides": 2, "padding": 1}),
    "3x3 to 6, dilated": Problem("3x3 to 6", (1, 50, 52, 9), (3, 3, 9, 6), {"dilation_rate": 3, "padding": 2}),
    "5x5 to 1": Problem("5x5 to 1", (1, 50, 52, 8), (5, 5, 8, 1), {}),
    "3 groups of 12 to 5": Problem("3 groups", (1, 48, 49, 36), (3, 3, 12, 15), {"groups": 3, "padding": 1}),
    "7 taps to 25": Problem("7 taps", (8, 300, 25), (7, 25, 25), {"padding": "causal"}),
    "9 dilated taps to 15": Problem("9 taps", (2, 1100, 15), (9, 15, 15), {"dilation_rate": 8, "padding": "causal"}),
    "3x3x3 to 3": Problem("3x3x3 to 3", (1, 14, 15, 16, 5), (3, 3, 3, 5, 3), SAME),
}


@pytest.fixture(autouse=True)
def plans_of_its_own():
    forget_plans()
    yield
    forget_plans()


def is_exchanged(spec):
    plan = direct_gradient.gradient_plan(spec, *array_strides(spec))
    return plan.geometry[plan.geometry[at.RECORDS] + at.EXCHANGED] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_exact_with_rows_of_output_channels(name, dtype, rng, monkeypatch):
    monkeypatch.setattr(direct_gradient, "EXCHANGED_COST", 0.0)
    problem = PROBLEMS[name]
    spec = spec_of(problem, dtype)
    if spec.out_channels_per_group % TARGET.lanes(dtype) == 0:
        pytest.skip("the output channels fill registers of this width")
    assert is_exchanged(spec)
    assert_exact(problem, dtype, rng)


def test_numbers_behind_a_run_do_not_reach_the_gradient(rng, monkeypatch):
    """The last panel of a run reads the next pixel, which is not finite."""
    monkeypatch.setattr(direct_gradient, "EXCHANGED_COST", 0.0)
    problem = Problem("3 taps", (1, 10000, 5), (3, 5, 3), {"strides": 4})
    spec, arrays = spec_of(problem), draw(problem, rng, "float32")
    assert is_exchanged(spec)
    expected = run(oracle, "conv_kernel_grad", problem, arrays)
    arrays["x"][:, 3::4] = np.nan
    assert_array_equal(planner.kernel_grad(spec, arrays["x"], arrays["grad_y"], algorithm="direct"), expected)


def test_channels_are_rows_where_they_fill_no_columns():
    for channels, exchanged in ((2, True), (10, True), (25, True), (16, False), (32, False), (64, False)):
        assert is_exchanged(spec_of(Problem("1x1", (4, 40, 40, 64), (1, 1, 64, channels), {}))) == exchanged


def test_panels_that_are_no_even_number_of_tasks_have_an_even_number_of_sums(rng):
    lanes = TARGET.lanes("float32")
    few, fewer = Problem("few pixels", (1, 14, 14, 90), (3, 3, 90, 10), {}), Problem("1", (1, 9, 9, 90), (3, 3, 90, 10))
    three, two = (Problem(f"{n} panels", (1, 14, 14, 64), (3, 3, 64, 2 * n * lanes), {}) for n in (3, 2))
    many = Problem("three chunks", (2, 30, 30, 40), (3, 3, 40, 2 * lanes), {})
    for problem, chunks in ((few, 2), (fewer, 1), (two, 1), (many, 4)):
        plan = direct_gradient.gradient_plan(spec_of(problem), *array_strides(spec_of(problem)))
        assert plan.geometry[at.CHUNKS] == chunks
        assert plan.tasks % 2 == 0 or chunks == 1
        assert_exact(problem, "float32", rng)
    plan = direct_gradient.gradient_plan(spec_of(three), *array_strides(spec_of(three)))
    assert plan.tasks % 2 == 0
    assert_exact(three, "float32", rng)
