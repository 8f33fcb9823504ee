"""Kernel gradients by tiles that take pieces of several taps' runs: exact, each of their sizes, chosen by cost."""

from __future__ import annotations

import re

import pytest
from direct_gradients import assert_exact, forget_plans, plan_of
from problems import Problem
from test_emitted_code import assembly_loops, spills

from numbaconv.algorithms import direct_gradient
from numbaconv.kernels import layout as at
from numbaconv.kernels.kernel_gradient import direct_kernel_gradient
from numbaconv.kernels.tile_sizes import GRADIENT_PIECES, HALVES, PIECE_SIZES, piece_rows, split_pieces

pytestmark = pytest.mark.skipif(not GRADIENT_PIECES, reason="tiles of pieces need AVX-512")

PROBLEMS = {
    "3x3, 1 channel": Problem("3x3x1", (3, 14, 17, 1), (3, 3, 1, 32), {}),
    "3x3, 3 channels": Problem("3x3x3", (2, 11, 40, 3), (3, 3, 3, 64), {"padding": "same"}),
    "3x3, 2 channels": Problem("3x3x2", (2, 11, 20, 2), (3, 3, 2, 48), {"strides": 2, "padding": "same"}),
    "3x3, dilated": Problem("3x3 dilated", (2, 17, 20, 3), (3, 3, 3, 16), {"dilation_rate": 2, "padding": "same"}),
    "3x3, 2 groups": Problem("3x3 grouped", (2, 12, 13, 6), (3, 3, 3, 64), {"groups": 2, "padding": "same"}),
    "2x2, 3 channels": Problem("2x2x3", (2, 12, 13, 3), (2, 2, 3, 16), {"strides": 2}),
    "4x4, 1 channel": Problem("4x4x1", (3, 16, 19, 1), (4, 4, 1, 16), {"padding": "same"}),
    "4x4, 3 channels": Problem("4x4x3", (3, 16, 16, 3), (4, 4, 3, 32), {"strides": 2, "padding": 1}),
    "5x5, 1 channel": Problem("5x5x1", (2, 20, 31, 1), (5, 5, 1, 64), {"strides": 2, "padding": 1}),
    "5x5, 3 channels": Problem("5x5x3", (2, 14, 15, 3), (5, 5, 3, 16), {}),
    "7x7, 1 channel": Problem("7x7x1", (1, 23, 25, 1), (7, 7, 1, 16), {"padding": "same"}),
    "7x7, 3 channels": Problem("7x7x3", (2, 24, 25, 3), (7, 7, 3, 80), {"strides": 2, "padding": 3}),
    "10x4, 1 channel": Problem("10x4x1", (2, 25, 10, 1), (10, 4, 1, 64), {"strides": 2}),
    "3x3x3, 1 channel": Problem("3x3x3x1", (1, 9, 8, 21, 1), (3, 3, 3, 1, 64), {"strides": 2, "padding": "same"}),
    "3x3x3, 3 channels": Problem("3x3x3x3", (1, 7, 8, 11, 3), (3, 3, 3, 3, 32), {}),
    "taps apart": Problem("1-D", (4, 70, 4), (5, 4, 48), {"padding": "causal", "dilation_rate": 3}),
    "many channels": Problem("3x3x64", (1, 9, 10, 64), (3, 3, 64, 128), {"strides": 2, "padding": "same"}),
}


@pytest.fixture(autouse=True)
def pieces_alone(monkeypatch):
    """Choose tiles of pieces wherever there are any."""
    monkeypatch.setattr(direct_gradient, "_tilings", lambda *arguments: TILINGS(*arguments)[-1:])
    monkeypatch.setattr(direct_gradient, "PACKS_ROWS", False)
    forget_plans()
    yield
    monkeypatch.undo()
    forget_plans()


TILINGS = direct_gradient._tilings


def tiles_of(plan):
    """Return the sizes of all tiles of pieces in a plan."""
    sizes = set()
    for number in range(plan.geometry[at.PHASES]):
        record = plan.geometry[plan.geometry[at.RECORDS] + number * at.RECORD_SIZE :]
        table = record[record[at.PIECE_TILES] :]
        sizes |= set(table[1 : 1 + table[0]].tolist())
    return sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_exact_by_tiles_of_pieces(name, dtype, rng):
    problem = PROBLEMS[name]
    plan = plan_of(problem, dtype)
    assert tiles_of(plan)
    assert_exact(problem, dtype, rng)


def test_these_problems_take_tiles_of_every_size():
    assert set().union(*(tiles_of(plan_of(problem)) for problem in PROBLEMS.values())) == set(PIECE_SIZES)


def test_pieces_cover_all_runs_or_are_not_taken():
    for run_length in range(1, 40):
        for taps in range(2, 30):
            tiles = split_pieces(run_length, taps)
            assert set(tiles) <= set(PIECE_SIZES)
            assert not tiles or sum(map(piece_rows, tiles)) == run_length * taps
    assert split_pieces(9, 3) == (16 * 9 + 3,)
    assert split_pieces(2, 2) == ()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 5, 6, 8, 12, 15, 17, 24, 30, 33, 45])
def test_channels_that_do_not_fill_registers_are_read_as_far_as_they_go(channels, dtype, rng):
    problem = Problem("5x5", (2, 11, 20, 1), (5, 5, 1, channels), {"padding": "same"})
    assert tiles_of(plan_of(problem, dtype)) == {16 * 5 + 5}
    assert_exact(problem, dtype, rng)


def test_tiles_of_pieces_stay_in_registers():
    """Each row is one product with a number broadcast from memory, of a whole register or half of one."""
    blocks = assembly_loops(direct_kernel_gradient)
    for lanes in {16, 16 // HALVES}:
        products = [len(re.findall(rf"vfn?madd\d+ps\s.*\{{1to{lanes}\}}", block)) for block in blocks]
        assert set(map(piece_rows, PIECE_SIZES)) <= set(products)
        assert [spills(block) for block, count in zip(blocks, products, strict=True) if count and spills(block)] == []
