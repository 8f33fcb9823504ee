"""Large results, which are stored past the caches: the same numbers, nothing around them written, when they are."""

from __future__ import annotations

import numpy as np
import pytest
from passes import normal

from numbaconv import planner
from numbaconv.algorithms import direct, plan_parts, winograd
from numbaconv.kernels import layout as at
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

FILLS_LINES = 2 * TARGET.vector_bytes % 64 == 0
"""Whether the panels of a direct product are whole cache lines."""


def clear_plans():
    direct.product_plan.cache_clear()
    direct._product_launch.cache_clear()
    winograd.product_plan.cache_clear()
    planner.clear_plans()


@pytest.fixture
def past_caches(monkeypatch):
    """Return a function after whose call results of any size are stored past the caches."""

    def turn_on():
        monkeypatch.setattr(plan_parts, "CACHED_RESULT", 0)
        clear_plans()

    yield turn_on
    monkeypatch.undo()
    clear_plans()


CASES = {
    "1x1": ((2, 9, 11, 64), (1, 1, 64, 32), {}),
    "3x3": ((2, 14, 13, 32), (3, 3, 32, 48), {"padding": "same"}),
    "4x4": ((2, 11, 13, 32), (4, 4, 32, 64), {"padding": "same"}),
    "5x5": ((2, 11, 12, 32), (5, 5, 32, 32), {"padding": "same"}),
    "stride": ((2, 15, 16, 32), (4, 3, 32, 32), {"padding": "same", "strides": 2}),
    "dilated": ((1, 17, 14, 32), (3, 3, 32, 16), {"padding": "same", "dilation_rate": (2, 3)}),
    "groups": ((2, 10, 10, 96), (3, 3, 32, 96), {"padding": "same", "groups": 3}),
    "many tiles": ((9, 20, 20, 32), (3, 3, 32, 32), {"padding": "same"}),
    "first layer": ((2, 17, 18, 3), (7, 7, 3, 64), {"padding": "same", "strides": 2}),
    "few channels": ((3, 12, 13, 16), (3, 3, 16, 96), {"padding": "same"}),
    "1-D": ((3, 40, 32), (3, 32, 32), {"padding": "causal"}),
    "1x7": ((2, 6, 17, 32), (1, 7, 32, 32), {"padding": "same"}),
    "7x7": ((1, 13, 14, 32), (7, 7, 32, 32), {"padding": "same"}),
    "3-D": ((1, 6, 9, 10, 16), (3, 3, 3, 16, 32), {"padding": "same"}),
}


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "between cache lines"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize(
    ("algorithm", "dtype"), [("direct", "float32"), ("direct", "float64"), ("winograd", "float32")], ids="-".join
)
def test_results_stored_past_the_caches_are_the_same(algorithm, dtype, case, direction, shift, past_caches, rng):
    x_shape, kernel_shape, options = CASES[case]
    spec = resolve_conv(x_shape, kernel_shape, dtype=dtype, **options)
    if algorithm == "winograd" and winograd.refuses(spec, direction) is not None:
        pytest.skip("not an algorithm for this pass")
    first = normal(rng, spec.x_shape if direction == "forward" else spec.y_shape, dtype)
    kernel = normal(rng, spec.kernel_shape, dtype)
    run = getattr(planner, direction)
    result = run(spec, first, kernel, algorithm=algorithm)
    past_caches()
    channels = result.shape[-1] // spec.groups
    fills_lines = FILLS_LINES and channels * result.itemsize % 64 == 0
    assert plan_parts.leaves_caches(spec, direction) == fills_lines
    around = 64 // result.itemsize
    memory = np.full(result.size + 2 * around, np.nan, dtype)
    start = -memory.ctypes.data % 64 // result.itemsize + shift
    out = memory[start : start + result.size].reshape(result.shape)
    assert run(spec, first, kernel, algorithm=algorithm, out=out) is out
    np.testing.assert_array_equal(out, result)
    assert np.isnan(memory).sum() == 2 * around


def test_only_large_results_of_whole_cache_lines_are_stored_past_the_caches():
    def leaves(batch, outs):
        spec = resolve_conv((batch, 32, 32, 16), (1, 1, 16, outs))
        x, y = plan_parts.array_strides(spec)
        geometry = direct.product_plan(spec, "forward", x, y).geometry
        waits = plan_parts.waits_for_memory(spec, "forward")
        assert geometry[at.PAST_CACHES] == (plan_parts.leaves_caches(spec, "forward") and not waits)
        return plan_parts.leaves_caches(spec, "forward")

    assert leaves(256, 64) == FILLS_LINES
    assert not leaves(1, 64)
    assert not leaves(256, 56)


@pytest.mark.parametrize(
    ("kernel_shape", "is_short_and_crowded"),
    [((3, 3, 3, 256), True), ((3, 3, 3, 512), True), ((3, 3, 3, 192), False), ((3, 3, 64, 256), False)],
)
def test_short_sums_of_crowded_pixels_stay_in_the_caches_of_narrow_registers(kernel_shape, is_short_and_crowded):
    spec = resolve_conv((32, 64, 64, kernel_shape[2]), kernel_shape, strides=2)
    plan = direct.product_plan(spec, "forward", *plan_parts.array_strides(spec))
    assert plan.has_short_sums == (kernel_shape[2] == 3)
    stays = (is_short_and_crowded and TARGET.vector_bytes < 64) or plan_parts.waits_for_memory(spec, "forward")
    assert plan.geometry[at.PAST_CACHES] == (FILLS_LINES and not stays)


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_short_sums_stay_in_l3_where_memory_takes_them_slower_than_they_are_made(threads, monkeypatch):
    fits, numbers = TARGET.l3_bytes // 2, 16 * TARGET.vector_bytes // 4
    rows = fits // (64 * numbers)

    def waits(channels, rows):
        spec = resolve_conv((1, rows, 16, channels), (1, 1, channels, numbers))
        return plan_parts.waits_for_memory(spec, "forward")

    monkeypatch.setattr(type(TARGET), "threads", threads)
    shortest = int(threads * TARGET.fma_per_cycle * TARGET.vector_bytes / plan_parts.BYTES_PAST_CACHES)
    assert waits(shortest, rows)
    assert not waits(shortest + 1, rows)
    assert not waits(shortest, 2 * rows)
