"""Input gradients of which half of the pixels or more have no tap: cleared beforehand, whatever the result held."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from passes import draw, run
from problems import conv

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import clearing, direct, plan_parts
from numbaconv.algorithms.clearing import Cleared
from numbaconv.shapes import contiguous_strides
from numbaconv.spec import resolve_conv

PROBLEMS = [
    conv((40, 41), 20, 24, (1, 1), strides=2),
    conv((30, 31), 20, 24, (1, 1), strides=3, groups=2),
    conv((50, 49), 3, 40, (2, 2), strides=3),
    conv((300,), 17, 33, (1,), strides=4),
    conv((12, 13, 14), 12, 20, (1, 1, 1), strides=2),
    conv((21, 20), 5, 9, (3, 1), strides=(1, 4), padding=((1, 1), (0, 0))),
    conv((22, 20), 20, 24, (1, 3), strides=2),
]


def spec_of(problem, dtype="float32"):
    return resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)


def prepared(spec, **options):
    return direct.prepare(spec, "input_grad", contiguous_strides(spec.y_shape), (), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_gradients_are_exact_in_memory_that_holds_other_numbers(problem, dtype, rng):
    arrays, spec = draw(problem, rng, dtype), spec_of(problem, dtype)
    assert isinstance(prepared(spec), Cleared)
    expected = run(oracle, "conv_input_grad", problem, arrays)
    out = np.full(problem.x_shape, np.nan, dtype)
    planner.input_grad(spec, arrays["grad_y"], arrays["kernel"], out, algorithm="direct")
    np.testing.assert_array_equal(out, expected)


def test_other_outputs_are_stored_once(monkeypatch):
    skipped, neighbours = spec_of(PROBLEMS[0]), spec_of(conv((40, 41), 20, 24, (3, 3), strides=2, padding=1))
    assert not isinstance(prepared(neighbours), Cleared)
    # With a bias pixels without a tap are not zero.
    assert not isinstance(prepared(skipped, has_bias=True), Cleared)
    assert not isinstance(prepared(skipped, activation="relu"), Cleared)
    whole = spec_of(conv((40, 41), 32, 24, (1, 1), strides=2))
    assert isinstance(prepared(whole), Cleared)
    # What is stored past the caches is stored once.
    monkeypatch.setattr(plan_parts, "CACHED_RESULT", 0)
    monkeypatch.setattr(clearing, "waits_for_memory", lambda spec, direction: True)
    assert isinstance(prepared(whole), Cleared)
    monkeypatch.setattr(clearing, "waits_for_memory", lambda spec, direction: False)
    assert isinstance(prepared(whole), Cleared) == (not plan_parts.leaves_caches(whole, "input_grad"))


def test_a_transposed_layer_has_its_bias_everywhere(rng):
    x = rng.integers(-3, 4, (2, 9, 8, 12)).astype(np.float32)
    kernel = rng.integers(-3, 4, (1, 1, 10, 12)).astype(np.float32)
    bias = np.arange(10, dtype=np.float32)
    expected = oracle.conv_transpose(x, kernel, bias, strides=3)
    np.testing.assert_array_equal(nc.conv_transpose(x, kernel, bias, strides=3), expected)
    np.testing.assert_array_equal(nc.conv_transpose(x, kernel, strides=3), expected - bias)


def test_programs_clear_in_every_run(rng):
    layers = [nc.layers.Conv2DTranspose(6, 1, strides=3, use_bias=False), nc.layers.Conv2D(4, 3)]
    model = nc.Sequential(layers)
    model.build((2, 7, 8, 5))
    for _ in range(3):
        x = rng.integers(-3, 4, (2, 7, 8, 5)).astype(np.float32)
        np.testing.assert_allclose(model.predict(x), layers[1](layers[0](x)).numpy(), rtol=1e-5, atol=1e-5)
