"""Blocks of grouped layers whose groups are gathered one by one: whole rows, no more than all groups find in L2."""

from __future__ import annotations

import dataclasses

import oracle
import pytest
from direct_gradients import assert_exact, forget_plans, plan_of, spec_of
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import Problem, conv

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import blocking, direct, direct_gradient
from numbaconv.algorithms.blocking import Extent, choose_block, gathered
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

EXTENT = Extent(4, 9, 28, 28, 2, 3, 2, 3, 3, 3, 1, 24, 9 * 24, 24, False, "float32", False, 9)
"""Three times three taps at stride 2, nine groups of 24 channels on 56x56 pixels."""


@pytest.mark.parametrize(("l2_bytes", "share"), [(1 << 19, 1.0), (1 << 20, 0.75)])
def test_blocks_of_groups_are_whole_rows_that_all_groups_find_in_l2(l2_bytes, share, monkeypatch):
    monkeypatch.setattr(blocking, "TARGET", dataclasses.replace(TARGET, l2_bytes=l2_bytes))
    block = choose_block.__wrapped__(EXTENT)
    assert block.columns == EXTENT.columns
    assert gathered(EXTENT, block.rows, block.columns) * EXTENT.groups * 4 <= share * l2_bytes


def test_a_single_group_pays_nothing_for_what_the_next_one_would():
    alone, among = (dataclasses.replace(EXTENT, groups=groups) for groups in (1, 9))
    assert choose_block(alone).cycles < choose_block(among).cycles


@pytest.mark.parametrize("size", [2, 12, 16, 24, 64, 72])
@pytest.mark.parametrize("name", ["conv", "conv_kernel_grad"])
def test_strided_groups_are_exact(size, name, rng):
    """Pixels that are fetched ahead may lie behind the input's memory."""
    problem = conv((11, 23), 3 * size, 3 * size, (3, 3), groups=3, strides=2, padding="same")
    arrays = draw(problem, rng, "float32")
    assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays))


def first_record(problem):
    """Return the first record of a kernel gradient's plan."""
    plan = plan_of(problem, "float32")
    return plan.geometry[plan.geometry[at.RECORDS] :]


def forget_products():
    """Let the next call be planned anew."""
    planner.clear_plans()
    direct.product_plan.cache_clear()
    direct._product_launch.cache_clear()


TOGETHER = {
    "3x3 of 24": Problem("3x3", (3, 29, 33, 72), (3, 3, 24, 72), {"groups": 3, "padding": "same"}),
    "3x3 of 16": Problem("3x3", (1, 48, 49, 64), (3, 3, 16, 64), {"groups": 4, "padding": "same"}),
    "3x3 at stride 2": Problem("3x3", (2, 67, 71, 100), (3, 3, 20, 80), {"groups": 5, "strides": 2, "padding": 1}),
    "1x1 of 48": Problem("1x1", (2, 33, 35, 96), (1, 1, 48, 144), {"groups": 2}),
    "1x1 of 10": Problem("1x1", (2, 33, 35, 30), (1, 1, 10, 48), {"groups": 3}),
    "3 taps dilated": Problem("1-D", (4, 600, 36), (3, 18, 50), {"groups": 2, "padding": "same", "dilation_rate": 3}),
}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("name", TOGETHER)
def test_gradients_of_one_group_or_all_in_a_task_are_exact(name, together, monkeypatch, rng):
    problem = TOGETHER[name]
    groups = problem.options["groups"]
    monkeypatch.setattr(type(TARGET), "threads", 2)
    monkeypatch.setattr(direct_gradient, "_groups_together", lambda spec: [groups if together else 1])
    # Tasks of exchanged tiles take one group. Which layers have these is a matter of the registers' size.
    monkeypatch.setattr(direct_gradient, "_exchanged_forms", lambda *_: [])
    forget_plans()
    record = first_record(problem)
    assert record[at.GROUPS_TOGETHER] == (groups if together else 1)
    assert (record[at.AHEAD_STEP] > 0) == together
    assert_exact(problem, "float32", rng)
    monkeypatch.undo()
    forget_plans()


def test_tasks_take_all_groups_where_pixels_are_enough_tasks(monkeypatch):
    allowed = direct_gradient._groups_together
    monkeypatch.setattr(direct_gradient, "_groups_together", lambda spec: allowed(spec)[-1:])
    forget_plans()
    # Of output channels that fill registers, so that input and grad_y are not exchanged.
    many = Problem("1x1", (8, 33, 35, 96), (1, 1, 48, 160), {"groups": 2})
    few = Problem("1-D", (1, 50, 96), (16, 48, 96), {"groups": 2, "padding": "same"})
    most = plan_of(many, "float32").geometry[at.CHUNKS] // 2
    assert most >= 1
    for threads, together in ((most, 2), (most + 1, 1)):
        direct_gradient.gradient_plan.cache_clear()
        monkeypatch.setattr(type(TARGET), "threads", int(threads))
        assert first_record(many)[at.GROUPS_TOGETHER] == together
        assert first_record(few)[at.GROUPS_TOGETHER] == 1
    monkeypatch.undo()
    forget_plans()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("name", TOGETHER)
def test_outputs_of_one_group_or_all_in_a_task_are_exact(name, together, monkeypatch, rng):
    problem = TOGETHER[name]
    monkeypatch.setattr(direct, "_groups_together", lambda spec, records: spec.groups if together else 1)
    forget_products()
    arrays = draw(problem, rng, "float32")
    for pass_name in ("conv", "conv_input_grad"):
        expected = run(oracle, pass_name, problem, arrays)
        assert_array_equal(run(nc, pass_name, problem, arrays, algorithm="direct"), expected)
    monkeypatch.undo()
    forget_products()


def test_tasks_gather_all_groups_where_l2_holds_them_and_blocks_are_enough_tasks(monkeypatch):
    def together(problem):
        direct.product_plan.cache_clear()
        spec = spec_of(problem)
        geometry = direct.product_plan(spec, "forward", *array_strides(spec)).geometry
        return geometry[geometry[at.RECORDS] + at.GROUPS_TOGETHER]

    monkeypatch.setattr(type(TARGET), "threads", 2)
    strided = {"groups": 9, "strides": 2, "padding": 1}
    assert together(Problem("3x3", (4, 56, 56, 216), (3, 3, 24, 216), strided)) == 9
    assert together(Problem("3x3", (1, 14, 14, 216), (3, 3, 24, 216), strided)) == 1
    assert together(Problem("1x1", (4, 56, 56, 96), (1, 1, 48, 96), {"groups": 2})) == 1
    monkeypatch.undo()
    forget_products()
