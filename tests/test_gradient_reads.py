"""Direct kernel gradients, whether grad_y is read where it lies or from packed panels: exact, and chosen by a rule."""

from __future__ import annotations

import pytest
from direct_gradients import assert_exact, forget_plans, plan_of
from problems import Problem

from numbaconv.algorithms import direct_gradient
from numbaconv.algorithms.gradient_blocking import reads_grad_in_place
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

PROBLEMS = {
    "1x1 to 96": Problem("1x1", (2, 9, 23, 16), (1, 1, 16, 96), {}),
    "1x1 to 256": Problem("1x1", (1, 9, 23, 14), (1, 1, 14, 256), {}),
    "1x1 to 64": Problem("1x1", (3, 20, 17, 30), (1, 1, 30, 64), {}),
    "1x1 to 80": Problem("1x1", (2, 9, 23, 16), (1, 1, 16, 80), {"strides": 2}),
    "5x5 to 64": Problem("5x5", (2, 20, 31, 1), (5, 5, 1, 64), {"strides": 2, "padding": 1}),
    "3x3 to 64": Problem("3x3", (2, 11, 40, 3), (3, 3, 3, 64), {"padding": "same"}),
    "3x3 to 256": Problem("3x3", (1, 8, 9, 16), (3, 3, 16, 256), {"padding": "same"}),
    "3 taps to 48": Problem("1-D", (4, 70, 4), (3, 4, 48), {"padding": "causal", "dilation_rate": 3}),
}


@pytest.fixture(params=["where it lies", "packed", "by the rule"])
def way(request, monkeypatch):
    """Say how grad_y is read."""
    if request.param != "by the rule":
        monkeypatch.setattr(
            direct_gradient, "reads_grad_in_place",
            lambda channels, *_: request.param == "where it lies" and channels % TARGET.lanes("float64") == 0,
        )  # fmt: skip
        # Tiles of several runs' pieces read it where it lies, whatever the rule says.
        monkeypatch.setattr(direct_gradient, "split_pieces", lambda *_: ())
    forget_plans()
    yield request.param
    monkeypatch.undo()
    forget_plans()


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_exact_however_grad_y_is_read(name, way, rng):
    problem = PROBLEMS[name]
    dtype = "float64" if way == "where it lies" else "float32"
    plan = plan_of(problem, dtype)
    if way != "by the rule":
        record = plan.geometry[plan.geometry[at.RECORDS] :]
        assert record[at.GRAD_IN_PLACE] == (way == "where it lies")
    assert_exact(problem, dtype, rng)


def test_pixels_may_lie_further_apart_where_few_tiles_read_them():
    lanes = TARGET.lanes("float32")
    assert reads_grad_in_place(96, 96, 2, "float32") == (96 % lanes == 0)
    assert not reads_grad_in_place(96, 96, 20, "float32")
    assert not reads_grad_in_place(128, 128, 5, "float32")
    assert reads_grad_in_place(512, 512, 3, "float32")
    assert not reads_grad_in_place(90, 90, 2, "float32")
