"""Every pass of every problem against the oracle, on small integers, where float sums are exact."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import case_id, cases, channels_first, draw, output_shape, run
from problems import (
    CONVOLUTIONS,
    DEPTHWISE,
    DIMENSIONS,
    GROUPED,
    LARGE,
    PADDING_MODES,
    SAMPLE,
    STRIDES_AND_DILATION,
    TRANSPOSED,
    TRANSPOSED_CONVOLUTIONS,
)

import numbaconv as nc

pytestmark = pytest.mark.usefixtures("direct_only")

EVERY = [*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, *LARGE]
FORWARD = [case for case in cases(EVERY) if case[1] in ("conv", "conv_transpose")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("problem", "name"), cases(EVERY), ids=case_id)
def test_every_pass_is_exact(problem, name, dtype, rng):
    arrays = draw(problem, rng, dtype)
    result = run(nc, name, problem, arrays)
    assert result.dtype == dtype
    assert_array_equal(result, run(oracle, name, problem, arrays))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("problem", "name"), FORWARD, ids=case_id)
def test_bias_relu_and_out_are_exact(problem, name, dtype, rng):
    arrays = draw(problem, rng, dtype)
    out = np.full(output_shape(problem), np.nan, dtype)
    result = run(nc, name, problem, arrays, bias=True, activation="relu", out=out)
    assert result is out
    assert_array_equal(out, run(oracle, name, problem, arrays, bias=True, activation="relu"))


@pytest.mark.parametrize(
    ("problem", "name"),
    cases([*SAMPLE, *STRIDES_AND_DILATION, *GROUPED, *DEPTHWISE, *DIMENSIONS, *PADDING_MODES, *TRANSPOSED, *LARGE[:5]]),
    ids=case_id,
)
def test_channels_first_is_exact(problem, name, rng):
    arrays = channels_first(draw(problem, rng, "float32"))
    result = run(nc, name, problem, arrays, data_format="channels_first")
    assert_array_equal(result, run(oracle, name, problem, arrays, data_format="channels_first"))


@pytest.mark.parametrize("problem", [p for p in SAMPLE if "output_padding" not in p.options], ids=case_id)
def test_bias_and_relu_come_alone_too(problem, rng):
    arrays = draw(problem, rng, "float32")
    name = cases([problem])[0][1]
    for extra in ({"bias": True}, {"activation": "relu"}):
        assert_array_equal(run(nc, name, problem, arrays, **extra), run(oracle, name, problem, arrays, **extra))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": "same", "strides": 2}, {"padding": 2, "dilation_rate": 2, "padding_mode": "reflect"}],
    ids=str,
)
@pytest.mark.parametrize(("spatial", "kernel_size"), [((29,), (4,)), ((9, 8), (3, 3)), ((5, 6, 5), (3, 2, 3))])
def test_depthwise_and_separable_are_exact(spatial, kernel_size, options, multiplier, data_format, rng):
    x = rng.integers(-3, 4, size=(2, *spatial, 9)).astype("float32")
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    depthwise = rng.integers(-3, 4, size=(*kernel_size, 9, multiplier)).astype("float32")
    pointwise = rng.integers(-3, 4, size=(*(1,) * len(spatial), 9 * multiplier, 5)).astype("float32")
    bias = rng.integers(-3, 4, size=9 * multiplier).astype("float32")
    extra = {"data_format": data_format, "activation": "relu"}
    assert_array_equal(
        nc.depthwise_conv(x, depthwise, bias, **options, **extra),
        oracle.depthwise_conv(x, depthwise, bias, **options, **extra),
    )
    assert_array_equal(
        nc.separable_conv(x, depthwise, pointwise, bias[:5], **options, **extra),
        oracle.separable_conv(x, depthwise, pointwise, bias[:5], **options, **extra),
    )
