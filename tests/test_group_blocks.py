"""Blocks of grouped layers whose groups are gathered one by one: whole rows, no more than all groups find in L2."""

from __future__ import annotations

import dataclasses

import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, run
from problems import conv

import numbaconv as nc
from numbaconv.algorithms.blocking import Extent, choose_block, gathered
from numbaconv.target import TARGET

EXTENT = Extent(4, 9, 28, 28, 2, 3, 2, 3, 3, 3, 1, 24, 9 * 24, 24, False, "float32", False, 9)
"""Three times three taps at stride 2, nine groups of 24 channels on 56x56 pixels."""


def test_blocks_of_groups_are_whole_rows_that_all_groups_find_in_l2():
    block = choose_block(EXTENT)
    assert block.columns == EXTENT.columns
    assert gathered(EXTENT, block.rows, block.columns) * EXTENT.groups * 4 <= 0.75 * TARGET.l2_bytes


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
