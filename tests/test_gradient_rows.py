"""Kernel gradients whose tiles have packed rows: exact, wherever their sums lie, and chosen by cost."""

from __future__ import annotations

import pytest
from direct_gradients import assert_exact, forget_plans, plan_of
from problems import Problem

from numbaconv.algorithms import direct_gradient
from numbaconv.algorithms.geometry import with_taps
from numbaconv.algorithms.gradient_blocking import WRITTEN_BLOCKS, panel_parts
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

pytestmark = pytest.mark.skipif(not direct_gradient.PACKS_ROWS, reason="packed rows need AVX2 or AVX-512")

PROBLEMS = {
    "1x1, whole panels": Problem("1x1", (2, 9, 23, 30), (1, 1, 30, 64), {}),
    "1x1, a narrow last panel": Problem("1x1", (2, 9, 23, 47), (1, 1, 47, 104), {}),
    "1x1, a last panel not full": Problem("1x1", (1, 9, 23, 14), (1, 1, 14, 94), {}),
    "1x1, many pixels": Problem("1x1", (3, 29, 31, 40), (1, 1, 40, 160), {}),
    "1x1, parts of the channels": Problem("1x1", (1, 12, 13, 256), (1, 1, 256, 64), {}),
    "1x1 at stride 2": Problem("1x1", (2, 11, 30, 33), (1, 1, 33, 96), {"strides": 2}),
    "3x3, phases": Problem("3x3", (2, 14, 17, 36), (3, 3, 36, 80), {"strides": 2, "padding": "same"}),
    "3 taps": Problem("1-D", (2, 71, 21), (3, 21, 72), {"strides": 2}),
    "3 taps, dilated": Problem("1-D", (1, 71, 33), (3, 33, 64), {"dilation_rate": 4, "padding": "causal"}),
    "many taps of one channel": Problem("1-D", (2, 171, 1), (40, 1, 70), {"strides": 3}),
    "taps in padding": Problem("1-D", (1, 3, 30), (9, 30, 64), {"padding": "same"}),
    "one pixel an image": Problem("4x4", (20, 4, 4, 61), (4, 4, 61, 100), {}),
    "2x2x2": Problem("3-D", (1, 6, 7, 12, 17), (2, 2, 2, 17, 64), {"strides": 2}),
}


GATHERED = {
    "3x3 at stride 2": Problem("3x3", (1, 14, 14, 64), (3, 3, 64, 128), {"strides": 2, "padding": "same"}),
    "3x3, images": Problem("3x3", (3, 5, 6, 37), (3, 3, 37, 94), {"padding": "same"}),
    "3x3, dilated": Problem("3x3", (1, 13, 12, 30), (3, 3, 30, 64), {"dilation_rate": 3, "padding": "same"}),
    "3x3, reflected": Problem("3x3", (2, 7, 7, 20), (3, 3, 20, 104), {"padding": 1, "padding_mode": "reflect"}),
    "3x3x3": Problem("3-D", (2, 4, 5, 6, 16), (3, 3, 3, 16, 70), {"padding": "same"}),
    "several blocks": Problem("5x5", (1, 26, 27, 33), (5, 5, 33, 64), {"padding": "same"}),
}
"""Problems of one phase where padding is gathered."""


VARIANTS = direct_gradient.lattice_variants


@pytest.fixture(autouse=True)
def packed(monkeypatch):
    """Pack rows, and grad_y, wherever that is possible: with padded borders as phases of their own."""
    monkeypatch.setattr(direct_gradient, "lattice_variants", lambda *arguments: VARIANTS(*arguments)[-1:])
    monkeypatch.setattr(direct_gradient, "PACKED_COST", 0.0)
    monkeypatch.setattr(direct_gradient, "reads_grad_in_place", lambda *_: False)
    monkeypatch.setattr(direct_gradient, "_exchanged_forms", lambda *_: [])
    forget_plans()
    yield monkeypatch
    monkeypatch.undo()
    forget_plans()


def packs(plan):
    """Return which phases of a plan pack rows."""
    records = plan.geometry[plan.geometry[at.RECORDS] :]
    return [bool(records[n * at.RECORD_SIZE + at.ROWS_PACKED]) for n in range(plan.geometry[at.PHASES])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_exact_with_packed_rows(name, dtype, rng):
    assert any(packs(plan_of(PROBLEMS[name], dtype)))
    assert_exact(PROBLEMS[name], dtype, rng)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GATHERED)
def test_rows_are_packed_from_gathered_blocks_of_several_rows_and_images(name, dtype, packed, rng):
    packed.setattr(
        direct_gradient, "lattice_variants",
        lambda *arguments: [variant for variant in VARIANTS(*arguments) if len(with_taps(variant)) == 1],
    )  # fmt: skip
    forget_plans()
    plan = plan_of(GATHERED[name], dtype)
    record = plan.geometry[plan.geometry[at.RECORDS] :]
    assert record[at.ROWS_PACKED]
    assert not record[at.IN_PLACE]
    assert plan.geometry[at.SUMS_WRITTEN] or TARGET.l2_bytes < 1 << 20
    assert plan.geometry[at.SUMS_WRITTEN] == (plan.geometry[at.BLOCKS] <= WRITTEN_BLOCKS)
    assert_exact(GATHERED[name], dtype, rng)


def test_sums_lie_in_the_gradient_where_a_few_blocks_are_all_pixels():
    plans = [plan_of(problem) for problem in PROBLEMS.values()]
    heads = [plan.geometry[: at.HEADER_SIZE] for plan in plans]
    assert {(head[at.FIRST_STORED], head[at.SUMS_WRITTEN]) for head in heads} == {(0, 0), (1, 0), (1, 1)}
    for plan, head in zip(plans, heads, strict=True):
        assert not head[at.FIRST_STORED] or packs(plan) == [True]
        assert not head[at.SUMS_WRITTEN] or (head[at.CHUNKS] == 1 and head[at.BLOCKS] <= WRITTEN_BLOCKS)
    assert any(head[at.CHUNKS] > 1 and head[at.FIRST_STORED] for head in heads)


def test_wide_products_over_long_rows_are_taken_to_be_faster_with_packed_rows(packed):
    packed.undo()
    forget_plans()
    wide = Problem("1x1", (4, 7, 7, 512), (1, 1, 512, 2048), {})
    narrow = Problem("1x1", (4, 56, 56, 64), (1, 1, 64, 64), {})
    small = Problem("3x3", (1, 14, 14, 256), (3, 3, 256, 512), {"strides": 2, "padding": "same"})
    assert packs(plan_of(wide)) == packs(plan_of(small)) == [True]
    assert packs(plan_of(narrow)) == [False]
    assert packs(plan_of(Problem("grouped", (2, 9, 23, 64), (1, 1, 32, 256), {"groups": 2}))) == [False]


def test_panels_are_dealt_out_evenly(monkeypatch):
    monkeypatch.setattr(type(TARGET), "threads", 2, raising=False)
    assert panel_parts(4, 33) == 1
    assert panel_parts(1, 33) in (4, 6, 8)
    assert panel_parts(1, 3) == 3
