"""The engine touches the arrays of a call and nothing beside them."""

from __future__ import annotations

import sys

import numpy as np
import oracle
import pytest
from isolated import run_isolated
from numpy.testing import assert_array_equal
from passes import case_id, cases, channels_first, draw, output_shape, run
from problems import CONVOLUTIONS, LARGE, TRANSPOSED_CONVOLUTIONS

import numbaconv as nc

pytestmark = pytest.mark.usefixtures("direct_only")

FORWARD = [
    case for case in cases([*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, *LARGE]) if case[1] in ("conv", "conv_transpose")
]
MARGIN = 129
CANARY = 12345.0


def with_margins(a, value):
    """Copy an array into the middle of a larger one filled with `value`; return both."""
    memory = np.full(a.size + 2 * MARGIN, value, a.dtype)
    inner = memory[MARGIN : MARGIN + a.size].reshape(a.shape)
    inner[...] = a
    return inner, memory


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("problem", "name"), FORWARD, ids=case_id)
def test_writes_stay_in_the_output(problem, name, data_format, rng):
    arrays = draw(problem, rng, "float32")
    shape = output_shape(problem)
    if data_format == "channels_first":
        arrays = channels_first(arrays)
        shape = (shape[0], shape[-1], *shape[1:-1])
    out, memory = with_margins(np.full(shape, CANARY, "float32"), CANARY)
    run(nc, name, problem, arrays, data_format=data_format, out=out)
    assert_array_equal(memory[:MARGIN], CANARY)
    assert_array_equal(memory[-MARGIN:], CANARY)


@pytest.mark.parametrize(("problem", "name"), FORWARD, ids=case_id)
def test_writes_skip_the_gaps_of_the_output(problem, name, rng):
    """An output that is every second element of a larger array leaves the elements between alone."""
    arrays = draw(problem, rng, "float32")
    shape = output_shape(problem)
    wide = np.full([2 * n for n in shape], CANARY, "float32")
    gaps = np.ones(wide.shape, bool)
    every_second = tuple(slice(None, None, 2) for _ in shape)
    gaps[every_second] = False
    run(nc, name, problem, arrays, out=wide[every_second])
    assert_array_equal(wide[gaps], CANARY)
    assert_array_equal(wide[every_second], run(oracle, name, problem, arrays))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("problem", "name"), cases([*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS]), ids=case_id)
def test_what_lies_beside_the_inputs_does_not_matter(problem, name, dtype, rng):
    arrays = draw(problem, rng, dtype)
    poisoned = {key: with_margins(a, np.nan)[0] for key, a in arrays.items()}
    assert_array_equal(run(nc, name, problem, poisoned), run(oracle, name, problem, arrays))


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_pages_beside_the_arrays_are_never_touched():
    run_isolated("guarded_memory")


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_pages_beside_the_arrays_are_never_touched_by_training():
    run_isolated("guarded_training")


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_pages_beside_the_arrays_are_never_touched_by_folded_planes():
    run_isolated("guarded_folded_planes")


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_pages_beside_the_arrays_are_never_touched_by_winograd():
    run_isolated("guarded_winograd")


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_products_of_a_few_rows_stay_inside_their_arrays():
    run_isolated("guarded_dense_rows")
