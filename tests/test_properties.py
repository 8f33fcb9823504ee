"""What must hold of any convolution, whatever its numbers: checked on integers, where the sums are exact."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from passes import cases, draw, integers, run
from random_problems import convolutions, transposed_convolutions

import numbaconv as nc

pytestmark = pytest.mark.usefixtures("direct_only")

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["float32", "float64"])


def inner(a, b):
    """Scalar product in float64."""
    return np.vdot(a.astype(np.float64), b.astype(np.float64))


@given(convolutions(), dtypes, seeds)
def test_all_passes_agree_with_the_oracle(problem, dtype, seed):
    arrays = draw(problem, np.random.default_rng(seed), dtype)
    for _, name in cases([problem]):
        assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays), err_msg=name)


@given(transposed_convolutions(), dtypes, seeds)
def test_transposed_convolutions_agree_with_the_oracle(problem, dtype, seed):
    arrays = draw(problem, np.random.default_rng(seed), dtype)
    expected = run(oracle, "conv_transpose", problem, arrays, bias=True)
    assert_array_equal(run(nc, "conv_transpose", problem, arrays, bias=True), expected)


@given(convolutions(), seeds)
def test_gradients_are_adjoint(problem, seed):
    """<conv(x, w), g> = <x, input gradient> = <w, kernel gradient>."""
    arrays = draw(problem, np.random.default_rng(seed), "float64")
    product = inner(run(nc, "conv", problem, arrays), arrays["grad_y"])
    assert inner(arrays["x"], run(nc, "conv_input_grad", problem, arrays)) == product
    assert inner(arrays["kernel"], run(nc, "conv_kernel_grad", problem, arrays)) == product


@given(st.data(), seeds)
def test_transposed_convolution_is_adjoint_to_convolution(data, seed):
    """<conv_transpose(g, w), x> = <g, conv(x, w)> for the same kernel, strides and explicit padding."""
    problem = data.draw(convolutions())
    rng = np.random.default_rng(seed)
    strides, dilation = problem.options["strides"], problem.options["dilation_rate"]
    kernel_size = problem.kernel_shape[:-2]
    padding = tuple(
        (data.draw(st.integers(0, d * (k - 1))), data.draw(st.integers(0, d * (k - 1))))
        for k, d in zip(kernel_size, dilation, strict=True)
    )
    options = {"strides": strides, "dilation_rate": dilation, "padding": padding, "groups": problem.options["groups"]}
    x, kernel = integers(rng, problem.x_shape, "float64"), integers(rng, problem.kernel_shape, "float64")
    y = nc.conv(x, kernel, **options)
    # Samples at the end that no window reaches come back through output_padding.
    extra = tuple(
        (n + sum(p) - ((k - 1) * d + 1)) % s
        for n, p, k, d, s in zip(x.shape[1:-1], padding, kernel_size, dilation, strides, strict=True)
    )
    g = integers(rng, y.shape, "float64")
    assert inner(nc.conv_transpose(g, kernel, output_padding=extra, **options), x) == inner(g, y)


@given(convolutions(), dtypes, seeds)
def test_convolution_is_linear_in_input_and_kernel(problem, dtype, seed):
    rng = np.random.default_rng(seed)
    one, two = draw(problem, rng, dtype), draw(problem, rng, dtype)
    y = run(nc, "conv", problem, one)
    mixed = dict(one, x=2 * one["x"] - 3 * two["x"])
    assert_array_equal(run(nc, "conv", problem, mixed), 2 * y - 3 * run(nc, "conv", problem, dict(one, x=two["x"])))
    mixed = dict(one, kernel=2 * one["kernel"] - 3 * two["kernel"])
    other = run(nc, "conv", problem, dict(one, kernel=two["kernel"]))
    assert_array_equal(run(nc, "conv", problem, mixed), 2 * y - 3 * other)


@given(convolutions(), seeds)
def test_a_stride_keeps_every_nth_output(problem, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    strides = problem.options["strides"]
    # "same" depends on the stride, so padding is given as the numbers that the strides lead to.
    axes = zip(
        problem.options["padding"],
        problem.x_shape[1:-1],
        problem.kernel_shape[:-2],
        strides,
        problem.options["dilation_rate"],
        strict=True,
    )
    options = dict(problem.options, padding=tuple(oracle.padding_amounts(*axis) for axis in axes))
    strided = nc.conv(arrays["x"], arrays["kernel"], **options)
    dense = nc.conv(arrays["x"], arrays["kernel"], **dict(options, strides=1))
    assert_array_equal(strided, dense[(slice(None), *(slice(None, None, s) for s in strides))])


@given(convolutions(), seeds)
def test_a_dilation_is_a_kernel_with_zeros_between_its_taps(problem, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    dilation = problem.options["dilation_rate"]
    extents = [(k - 1) * d + 1 for k, d in zip(problem.kernel_shape[:-2], dilation, strict=True)]
    stuffed = np.zeros((*extents, *problem.kernel_shape[-2:]), "float32")
    stuffed[tuple(slice(None, None, d) for d in dilation)] = arrays["kernel"]
    expected = nc.conv(arrays["x"], stuffed, **dict(problem.options, dilation_rate=1))
    assert_array_equal(run(nc, "conv", problem, arrays), expected)


@given(convolutions(), seeds)
def test_groups_are_convolutions_side_by_side(problem, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    groups = problem.options["groups"]
    options = dict(problem.options, groups=1)
    parts = [
        nc.conv(x, kernel, **options)
        for x, kernel in zip(
            np.split(arrays["x"], groups, axis=-1), np.split(arrays["kernel"], groups, axis=-1), strict=True
        )
    ]
    assert_array_equal(run(nc, "conv", problem, arrays), np.concatenate(parts, axis=-1))


@given(convolutions(), seeds)
def test_samples_of_a_batch_do_not_meet(problem, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    whole = run(nc, "conv", problem, arrays)
    for n in range(problem.x_shape[0]):
        assert_array_equal(whole[n : n + 1], run(nc, "conv", problem, dict(arrays, x=arrays["x"][n : n + 1])))


@given(convolutions(), st.integers(0, 3), seeds)
def test_causal_outputs_never_see_the_future(problem, axis, seed):
    rng = np.random.default_rng(seed)
    axis %= problem.ndim
    modes = list(problem.options["padding_mode"])
    padding = list(problem.options["padding"])
    padding[axis], modes[axis] = "causal", "zeros"
    options = dict(problem.options, padding=tuple(padding), padding_mode=tuple(modes))
    arrays = draw(problem, rng, "float32")
    x, kernel = arrays["x"], arrays["kernel"]
    now = int(rng.integers(x.shape[1 + axis]))
    changed = x.copy()
    future = (slice(None),) * (1 + axis) + (slice(now, None),)
    changed[future] = rng.integers(50, 90, size=changed[future].shape)
    # Output p reads inputs up to p * stride: those with p * stride < now stay.
    past = (slice(None),) * (1 + axis) + (slice(0, -(-now // options["strides"][axis])),)
    assert_array_equal(nc.conv(x, kernel, **options)[past], nc.conv(changed, kernel, **options)[past])


@given(convolutions(), st.integers(-9, 9), seeds)
def test_circular_convolution_commutes_with_rotation(problem, shift, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    options = dict(problem.options, padding="same", padding_mode="circular", strides=1)
    axes = tuple(range(1, 1 + problem.ndim))
    rotated = nc.conv(np.roll(arrays["x"], shift, axes), arrays["kernel"], **options)
    assert_array_equal(rotated, np.roll(nc.conv(arrays["x"], arrays["kernel"], **options), shift, axes))


@given(convolutions(), seeds)
def test_padding_may_be_done_beforehand(problem, seed):
    arrays = draw(problem, np.random.default_rng(seed), "float32")
    x, options = arrays["x"], problem.options
    axes = zip(x.shape[1:-1], problem.kernel_shape[:-2], options["strides"], options["dilation_rate"], strict=True)
    numpy_modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    padded = x
    for axis, (form, sizes, mode) in enumerate(
        zip(options["padding"], axes, options["padding_mode"], strict=True), start=1
    ):
        amounts = [(0, 0)] * x.ndim
        amounts[axis] = oracle.padding_amounts(form, *sizes)
        padded = np.pad(padded, amounts, mode=numpy_modes[mode])
    beforehand = dict(options, padding="valid", padding_mode="zeros")
    assert_array_equal(run(nc, "conv", problem, arrays), nc.conv(padded, arrays["kernel"], **beforehand))


@given(convolutions(), seeds)
def test_channels_may_be_permuted(problem, seed):
    rng = np.random.default_rng(seed)
    arrays = draw(problem, rng, "float32")
    order = rng.permutation(problem.filters // problem.options["groups"])
    groups = problem.options["groups"]
    whole = np.concatenate([g * len(order) + order for g in range(groups)])
    permuted = run(nc, "conv", problem, dict(arrays, kernel=arrays["kernel"][..., whole]))
    assert_array_equal(permuted, run(nc, "conv", problem, arrays)[..., whole])


# --- pooling ---------------------------------------------------------------------------------------------------------


@st.composite
def poolings(draw):
    """Draw the shape of an input and the options of a pooling."""
    ndim = draw(st.integers(1, 4))
    pool_size = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    spatial = [k + draw(st.integers(0, {1: 20, 2: 8, 3: 3, 4: 2}[ndim])) for k in pool_size]
    shape = (draw(st.integers(1, 2)), *spatial, draw(st.sampled_from([1, 3, 8, 17])))
    padding = draw(st.sampled_from(["valid", "same", "explicit"]))
    if padding == "explicit":
        padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in pool_size)
    strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * ndim))
    return shape, {"pool_size": pool_size, "strides": strides, "padding": padding}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(poolings(), seeds)
def test_pooling_agrees_with_the_oracle(dtype, pooling, seed):
    shape, options = pooling
    x = integers(np.random.default_rng(seed), shape, dtype)
    assert_array_equal(nc.max_pool(x, **options), oracle.max_pool(x, **options))
    np.testing.assert_allclose(
        nc.average_pool(x, **options), oracle.average_pool(x, **options), rtol=0, atol=8 * np.finfo(dtype).eps
    )
    first = np.moveaxis(x, -1, 1)
    assert_array_equal(
        nc.max_pool(first, **options, data_format="channels_first"), np.moveaxis(nc.max_pool(x, **options), -1, 1)
    )
