"""Tiles that follow one another along the planes: each plane is transformed once, the values have the same bits."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from passes import normal
from test_winograd_tiles import RELATIVE_ERROR, clear_plans, relative_error

from numbaconv import planner
from numbaconv.algorithms import winograd, winograd_blocks
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.algorithms.winograd_tiles import tile_phases
from numbaconv.spec import resolve_conv

PROBLEMS = {
    "padded planes": ((1, 20, 13, 17, 32), (3, 3, 3, 32, 48), {"padding": "same"}),
    "two images": ((2, 14, 18, 21, 16), (3, 3, 3, 16, 40), {}),
    "channels that fill no register": ((2, 12, 10, 11, 25), (3, 3, 3, 25, 40), {}),
    "four taps along the planes": ((1, 13, 17, 17, 40), (4, 3, 3, 40, 32), {}),
    "two taps along the planes": ((1, 11, 9, 9, 32), (2, 3, 3, 32, 32), {"padding": "same"}),
    "groups": ((1, 18, 12, 12, 64), (3, 3, 3, 16, 64), {"padding": "same", "groups": 4}),
    "parts of the rows' taps": ((1, 18, 20, 12, 32), (3, 7, 3, 32, 32), {"padding": "same"}),
    "dilated rows": ((1, 12, 14, 15, 32), (3, 3, 3, 32, 32), {"padding": "same", "dilation_rate": (1, 2, 2)}),
    "channels first": ((1, 24, 12, 11, 10), (3, 3, 3, 24, 24), {"padding": "same", "data_format": "channels_first"}),
    "few outputs left": ((1, 10, 9, 6, 16), (3, 3, 3, 16, 16), {"padding": "same"}),
}


def blocks(spec, direction):
    x_strides, y_strides = array_strides(spec)
    strides = (x_strides, y_strides) if direction == "forward" else (y_strides, x_strides)
    return winograd.deal(spec, direction, *strides).blocks


@pytest.fixture
def cut(monkeypatch):
    """Return a function after which all blocks are runs, where there may be any, or none is."""

    def cut(into_runs):
        monkeypatch.undo()
        if into_runs:
            monkeypatch.setattr(winograd_blocks, "BLOCK_UNITS", ())
            monkeypatch.setattr(winograd_blocks, "MAX_DEALT_UNITS", 0)
        else:
            monkeypatch.setattr(winograd_blocks, "run_sizes", lambda *_: [])
        clear_plans()

    yield cut
    monkeypatch.undo()
    clear_plans()


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_bits_are_those_of_tiles_along_the_columns(name, direction, cut, rng):
    x_shape, kernel_shape, options = PROBLEMS[name]
    spec = resolve_conv(x_shape, kernel_shape, **options)
    first = normal(rng, spec.x_shape if direction == "forward" else spec.y_shape, "float32")
    kernel = normal(rng, kernel_shape, "float32")
    results = []
    for into_runs in (True, False):
        cut(into_runs)
        assert any(block.is_run for block in blocks(spec, direction)) == into_runs
        results.append(getattr(planner, direction)(spec, first, kernel, algorithm="winograd"))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", ["padded planes", "groups", "channels that fill no register"])
def test_values_are_those_of_the_oracle(name, rng):
    x_shape, kernel_shape, options = PROBLEMS[name]
    spec = resolve_conv(x_shape, kernel_shape, **options)
    x, kernel = normal(rng, x_shape, "float32"), normal(rng, kernel_shape, "float32")
    expected = oracle.conv(x.astype(np.float64), kernel.astype(np.float64), **options)
    assert relative_error(planner.forward(spec, x, kernel, algorithm="winograd"), expected) < RELATIVE_ERROR


@pytest.mark.parametrize(
    ("size", "taps", "options", "planes"),
    [
        (12, 3, {"padding": "same"}, 12),
        (12, 3, {}, 10),
        (12, 3, {"padding": "same", "strides": (2, 1, 1)}, 0),
        (13, 3, {"padding": "same", "dilation_rate": (2, 1, 1)}, 7),
        (12, 1, {"padding": "same"}, 0),
    ],
)
def test_planes_that_read_what_the_next_ones_do(size, taps, options, planes):
    """Dilated taps are phases of neighbouring ones; with strides planes have half of what they read in common."""
    spec = resolve_conv((1, size, 16, 16, 32), (taps, 3, 3, 32, 32), **options)
    phases = tile_phases(spec, "forward", *array_strides(spec))
    assert phases[0].run_planes == planes


def test_blocks_are_even_parts_of_a_run():
    spec = resolve_conv((1, 50, 24, 24, 64), (3, 3, 3, 64, 64), padding="same")
    (phase,) = tile_phases(spec, "forward", *array_strides(spec))
    sizes = winograd_blocks.run_sizes(phase, 64)
    assert sizes == [2, 5, 10, 25, 50]
    (block,) = blocks(spec, "forward")
    assert block.is_run
    assert block.tiles in sizes
