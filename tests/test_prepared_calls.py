"""Calls found by their layouts: what they return and refuse is what the first call of their kind did."""

from __future__ import annotations

import os
import threading

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv import planner
from numbaconv.functional import calls


@pytest.fixture(autouse=True)
def no_calls():
    calls._calls.clear()
    planner.clear_plans()


def draw(rng, *shape, dtype="float32"):
    return rng.integers(-8, 8, shape).astype(dtype)


def passes(x, kernel, bias, grad_y):
    """Run each function once; channels of x, of the kernel's rows and of grad_y are 4."""
    return {
        "conv": nc.conv(x, kernel, padding="same"),
        "bias": nc.conv(x, kernel, bias, padding="same", activation="relu"),
        "tanh": nc.conv(x, kernel, bias, padding="same", activation=np.tanh),
        "grouped": nc.conv(x, kernel[:, :, :2], bias, padding="same", groups=2),
        "transpose": nc.conv_transpose(x, kernel, bias, strides=2, activation="relu"),
        "depthwise": nc.depthwise_conv(x, kernel, padding="same"),
        "input": nc.conv_input_grad(grad_y, kernel, x.shape, padding="same"),
        "reflect": nc.conv_input_grad(grad_y, kernel, x.shape, padding="same", padding_mode="reflect"),
        "kernel": nc.conv_kernel_grad(x, grad_y, kernel.shape, padding="same"),
        "max": nc.max_pool(x, 2),
    }


def arrays(rng, dtype="float32"):
    shapes = (2, 9, 8, 4), (3, 3, 4, 4), (4,), (2, 9, 8, 4)
    return [draw(rng, *shape, dtype=dtype) for shape in shapes]


def same(first, second):
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_found_call_has_the_bits_of_the_first(dtype, rng):
    given = arrays(rng, dtype)
    first = passes(*given)
    kept = len(calls._calls)
    assert kept > 0
    assert same(first, passes(*given))
    assert len(calls._calls) == kept
    assert_array_equal(first["conv"], oracle.conv(*given[:2], padding="same"))


def test_values_are_read_anew(rng):
    given, others = arrays(rng), arrays(rng)
    first = passes(*given)
    for array, other in zip(given, others):
        array[...] = other
    second = passes(*given)
    assert not same(first, second)
    calls._calls.clear()
    assert same(second, passes(*others))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_strides_and_dtypes_of_one_shape_are_told_apart(data_format, rng):
    wide = draw(rng, 4, 12, 10, 12)
    kernel = draw(rng, 3, 3, 12, 4)
    views = [wide, wide[::-1], wide[:, ::-1, :, ::-1], np.asfortranarray(wide), wide.astype("float64")]
    views.append(np.repeat(wide, 2, axis=2)[:, :, ::2])
    if data_format == "channels_first":
        views = [np.moveaxis(view, -1, 1) for view in views]
    kernels = kernel, kernel[::-1], np.asfortranarray(kernel)
    bias = draw(rng, 8)[::2]
    for _ in range(2):
        for x in views:
            for weights in kernels:
                weights = weights.astype(x.dtype, copy=False)
                y = nc.conv(x, weights, bias.astype(x.dtype, copy=False), data_format=data_format)
                expected = oracle.conv(x, weights, bias, data_format=data_format)
                assert y.dtype == x.dtype
                assert_array_equal(y, expected)


def test_misaligned_and_swapped_arrays_are_read_right(rng):
    x, kernel, _, _ = arrays(rng)
    expected = nc.conv(x, kernel)
    memory = np.zeros(x.nbytes + 1, np.uint8)
    shifted = memory[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    swapped = x.astype(x.dtype.newbyteorder())
    for other in (shifted, swapped, swapped, x.tolist()):
        given = other if isinstance(other, np.ndarray) else np.array(other, "float32")
        assert_array_equal(nc.conv(given, kernel), expected)


@pytest.mark.parametrize(
    ("option", "equal"),
    [("strides", 1.0), ("strides", (1.0, 1)), ("dilation_rate", 1.0), ("groups", 1.0), ("padding", 1.0)],
)
def test_what_equals_a_kept_option_is_refused_as_ever(option, equal, rng):
    x, kernel, _, _ = arrays(rng)
    options = {option: 1 if not isinstance(equal, tuple) else (1, 1)}
    nc.conv(x, kernel, **options)
    with pytest.raises(TypeError) as cached:
        nc.conv(x, kernel, **{option: equal})
    calls._calls.clear()
    with pytest.raises(TypeError) as uncached:
        nc.conv(x, kernel, **{option: equal})
    assert str(cached.value) == str(uncached.value)


def test_equal_integers_of_other_kinds_are_taken(rng):
    x, kernel, _, _ = arrays(rng)
    expected = nc.conv(x, kernel, strides=2, padding=1)
    for strides, padding in [(np.int64(2), 1), ([2, 2], [1, 1]), ((2, 2), True)]:
        assert_array_equal(nc.conv(x, kernel, strides=strides, padding=padding), expected)


def test_errors_stay_after_a_call_that_succeeded(rng):
    x, kernel, bias, _ = arrays(rng)
    nc.conv(x, kernel, bias)
    with pytest.raises(ValueError, match="one value per filter"):
        nc.conv(x, kernel, bias[:3])
    with pytest.raises(TypeError, match="same"):
        nc.conv(x, kernel, bias.astype("float64"))
    with pytest.raises(TypeError, match="float32"):
        nc.conv(x.astype(int), kernel, bias)
    with pytest.raises(ValueError, match="Unknown activation"):
        nc.conv(x, kernel, bias, activation="rely")
    with pytest.raises(ValueError, match="shares memory with `x`"):
        nc.conv(x, draw(rng, 1, 1, 4, 4), out=x)
    with pytest.raises(ValueError, match="read-only"):
        out = np.zeros((2, 7, 6, 4), "float32")
        out.flags.writeable = False
        nc.conv(x, kernel, bias, out=out)


def test_out_is_filled_by_a_known_call(rng):
    x, kernel, bias, _ = arrays(rng)
    expected = nc.conv(x, kernel, bias, activation="relu")
    out = np.zeros_like(expected)
    assert nc.conv(x, kernel, bias, activation="relu", out=out) is out
    assert_array_equal(out, expected)


def test_calls_kept_are_bounded(monkeypatch, rng):
    monkeypatch.setattr(calls, "MAX_CALLS", 5)
    kernel = draw(rng, 3, 1, 4)
    for _ in range(2):
        for size in range(3, 20):
            x = draw(rng, 1, size, 1)
            assert_array_equal(nc.conv(x, kernel), oracle.conv(x, kernel))
            assert len(calls._calls) <= 5


def test_activations_of_one_name_are_told_apart(rng):
    x, kernel, _, _ = arrays(rng)
    plain = nc.conv(x, kernel)
    for factor in (2, 3, 2):
        assert_array_equal(nc.conv(x, kernel, activation=lambda y, factor=factor: factor * y), factor * plain)

    class Unhashable:
        __hash__ = None

        def __call__(self, y):
            return -y

    assert_array_equal(nc.conv(x, kernel, activation=Unhashable()), -plain)


def test_cleared_plans_choose_anew(monkeypatch, rng):
    x, kernel, _, _ = arrays(rng)
    expected = nc.conv(x, kernel)

    class Negative:
        NAME = "negative"

        @staticmethod
        def refuses(spec, direction):
            return None

        @staticmethod
        def prepare(spec, direction, first, second, activation, has_bias):
            def run(x, kernel, y):
                y[...] = -oracle.conv(x, kernel)

            return run

    monkeypatch.setitem(planner.ALGORITHMS, "forward", (Negative, *planner.ALGORITHMS["forward"]))
    assert_array_equal(nc.conv(x, kernel), expected)
    planner.clear_plans()
    assert_array_equal(nc.conv(x, kernel), -expected)
    monkeypatch.undo()
    planner.clear_plans()
    assert_array_equal(nc.conv(x, kernel), expected)


def test_widened_results_that_are_not_finite_are_computed_again(rng):
    x, kernel = draw(rng, 2, 40, 40, 3), draw(rng, 3, 3, 3, 1)
    for _ in range(2):
        nc.conv(x, kernel, padding="same")
        x[0, 3, 4, 1], x[1, 20, 20, 0] = np.inf, np.nan
        with np.errstate(invalid="ignore"):
            assert_array_equal(nc.conv(x, kernel, padding="same"), oracle.conv(x, kernel, padding="same"))
        x[~np.isfinite(x)] = 1


def test_many_threads_call_at_once(rng):
    given = [arrays(rng) for _ in range(4)]
    expected = [passes(*each) for each in given]
    calls._calls.clear()
    failures = []

    def work(number):
        for i in range(60):
            if i % 20 == number:
                planner.clear_plans()
            index = (i + number) % len(given)
            if not same(passes(*given[index]), expected[index]):
                failures.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_finds_the_calls_of_its_parent(rng):
    given = arrays(rng)
    expected = passes(*given)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if same(passes(*given), expected) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
