"""What the arrays of a call may be: any strides, read-only, mapped from a file, empty, not finite."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from passes import case_id, cases, draw, output_shape, run
from problems import CONVOLUTIONS, SAMPLE, TRANSPOSED, TransposedProblem, conv

import numbaconv as nc
from numbaconv.algorithms import direct
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.spec import resolve_conv

pytestmark = pytest.mark.usefixtures("direct_only")


def every_other(a):
    """Give the same values with a gap after each along every axis."""
    wide = np.full([2 * n for n in a.shape], 77, a.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def backwards(a):
    """Give the same values with negative strides."""
    turn = tuple(slice(None, None, -1) for _ in a.shape)
    return a[turn].copy()[turn]


def off_the_grid(a):
    """Give the same values at an address that is no multiple of the item size."""
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = memory.view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a):
    a.flags.writeable = False
    return a


LAYOUTS = [np.asfortranarray, every_other, backwards, off_the_grid, read_only]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("problem", "name"), cases(SAMPLE), ids=case_id)
def test_any_strides_give_the_same_result(problem, name, layout, rng):
    arrays = draw(problem, rng, "float32")
    views = {key: layout(a.copy()) for key, a in arrays.items()}
    expected = run(oracle, name, problem, arrays)
    assert_array_equal(run(nc, name, problem, views), expected)
    for key in arrays:
        assert_array_equal(views[key], arrays[key], err_msg=f"{key} was modified")


@pytest.mark.parametrize(("problem", "name"), cases(SAMPLE), ids=case_id)
def test_broadcast_inputs(problem, name, rng):
    arrays = draw(problem, rng, "float32")
    shapes = {key: a.shape for key, a in arrays.items()}
    for key in ("x", "grad_y"):
        arrays[key] = np.broadcast_to(arrays[key][..., :1], shapes[key])
    assert_array_equal(run(nc, name, problem, arrays), run(oracle, name, problem, arrays))


@pytest.mark.parametrize("layout", [every_other, backwards, np.asfortranarray], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("problem", "name"), [c for c in cases(SAMPLE) if c[1] in ("conv", "conv_transpose")], ids=case_id
)
def test_out_of_any_strides(problem, name, layout, rng):
    arrays = draw(problem, rng, "float32")
    out = layout(np.full(output_shape(problem), np.nan, "float32"))
    assert run(nc, name, problem, arrays, out=out) is out
    assert_array_equal(out, run(oracle, name, problem, arrays))


@pytest.mark.parametrize(
    ("problem", "name"), [c for c in cases(SAMPLE) if c[1] in ("conv", "conv_transpose")], ids=case_id
)
def test_out_channels_first(problem, name, rng):
    arrays = draw(problem, rng, "float32")
    arrays["x"] = np.moveaxis(arrays["x"], -1, 1)
    shape = output_shape(problem)
    out = np.full((shape[0], shape[-1], *shape[1:-1]), np.nan, "float32")
    assert run(nc, name, problem, arrays, bias=True, data_format="channels_first", out=out) is out
    assert_array_equal(out, run(oracle, name, problem, arrays, bias=True, data_format="channels_first"))


@pytest.mark.parametrize(("problem", "name"), cases(SAMPLE), ids=case_id)
def test_results_are_fresh(problem, name, rng):
    arrays = draw(problem, rng, "float32")
    first = run(nc, name, problem, arrays)
    kept = first.copy()
    others = draw(problem, rng, "float32")
    second = run(nc, name, problem, others)
    assert not np.shares_memory(first, second)
    assert_array_equal(first, kept)


def test_memory_mapped_input(tmp_path, rng):
    problem = SAMPLE[0]
    arrays = draw(problem, rng, "float32")
    np.save(tmp_path / "x.npy", arrays["x"])
    mapped = dict(arrays, x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    for _, name in cases([problem]):
        assert_array_equal(run(nc, name, problem, mapped), run(oracle, name, problem, arrays))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("problem", SAMPLE, ids=case_id)
def test_batch_of_zero(problem, data_format, rng):
    empty = type(problem)(problem.name, (0, *problem.x_shape[1:]), problem.kernel_shape, problem.options)
    arrays = draw(empty, rng, "float32")
    if data_format == "channels_first":
        for key in ("x", "grad_y"):
            arrays[key] = np.moveaxis(arrays[key], -1, 1)
    for _, name in cases([empty]):
        result = run(nc, name, empty, arrays, data_format=data_format)
        expected = run(oracle, name, empty, arrays, data_format=data_format)
        assert result.shape == expected.shape
        assert result.dtype == np.float32
        assert_array_equal(result, expected)  # a kernel gradient over no samples is zero


# --- values that are not finite --------------------------------------------------------------------------------------

UNPADDED = [
    conv((7, 9), 5, 9, (3, 3)),
    conv((9, 9), 4, 17, (2, 2), strides=3),
    conv((11, 9), 3, 8, (3, 2), strides=(2, 1), dilation_rate=2),
    conv((8, 8), 12, 12, (3, 3), groups=12),
    conv((8, 8), 6, 4, (3, 3), groups=2, strides=2),
    conv((5, 6), 7, 9, (1, 1), strides=2),
    conv((31,), 4, 5, (4,), strides=3),
    conv((5, 5, 5), 3, 4, (2, 3, 2)),
]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("problem", [*SAMPLE, *UNPADDED], ids=case_id)
def test_one_sample_that_is_not_finite(problem, value, rng):
    """It reaches the outputs that read it and no other: not its neighbours in a vector, nor unread samples."""
    name = cases([problem])[0][1]
    arrays = draw(problem, rng, "float32")
    for _ in range(4):
        x = arrays["x"].copy()
        x.flat[rng.integers(x.size)] = value
        with np.errstate(invalid="ignore"):
            expected = run(oracle, name, problem, dict(arrays, x=x), bias=True)
        assert_array_equal(run(nc, name, problem, dict(arrays, x=x), bias=True), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "problem", [p for p in [*SAMPLE, *UNPADDED] if not isinstance(p, TransposedProblem)], ids=case_id
)
def test_one_gradient_that_is_not_finite(problem, value, rng):
    arrays = draw(problem, rng, "float32")
    # Where padding meets it, the kernel gradient is 0 * inf or nothing, both of which are right.
    names = ["conv_input_grad", "conv_kernel_grad"] if problem in UNPADDED else ["conv_input_grad"]
    for _ in range(4):
        g = arrays["grad_y"].copy()
        g.flat[rng.integers(g.size)] = value
        for name in names:
            with np.errstate(invalid="ignore"):
                expected = run(oracle, name, problem, dict(arrays, grad_y=g))
            assert_array_equal(run(nc, name, problem, dict(arrays, grad_y=g)), expected, err_msg=name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("problem", UNPADDED, ids=case_id)
def test_one_weight_that_is_not_finite(problem, value, rng):
    arrays = draw(problem, rng, "float32")
    kernel = arrays["kernel"].copy()
    kernel.flat[rng.integers(kernel.size)] = value
    with np.errstate(invalid="ignore"):
        expected = run(oracle, "conv", problem, dict(arrays, kernel=kernel))
    assert_array_equal(run(nc, "conv", problem, dict(arrays, kernel=kernel)), expected)


@pytest.mark.parametrize("problem", [CONVOLUTIONS[0], TRANSPOSED[0]], ids=case_id)
def test_relu_keeps_nan(problem, rng):
    name = cases([problem])[0][1]
    arrays = draw(problem, rng, "float32")
    arrays["x"][0] = np.nan
    result = run(nc, name, problem, arrays, bias=True, activation="relu")
    assert_array_equal(result, run(oracle, name, problem, arrays, bias=True, activation="relu"))


# Neighbouring outputs share products with absent taps there; the smaller of inputs and outputs is looked at before or
# after, by a product on this thread or by a launch.
SHARED_PRODUCTS = [conv((30, 30), 1, 4, (3, 3)), conv((60, 72), 1, 3, (3, 3)), conv((60, 70), 6, 2, (3, 3))]


def test_neighbours_share_products():
    for problem in SHARED_PRODUCTS:
        arrays = draw(problem, np.random.default_rng(0), "float32")
        spec = resolve_conv(arrays["x"].shape, arrays["kernel"].shape)
        assert direct.product_plan(spec, "forward", *array_strides(spec)).is_widened


@pytest.mark.parametrize("layout", [np.ascontiguousarray, every_other], ids=["contiguous", "strided"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("part", ["x", "kernel"])
@pytest.mark.parametrize("problem", SHARED_PRODUCTS, ids=case_id)
def test_values_that_meet_absent_taps(problem, part, value, layout, rng):
    arrays = draw(problem, rng, "float32")
    # Numbers whose squares are no float32 count as not finite, and the result is the same either way.
    arrays[part].flat[rng.integers(arrays[part].size)] = value
    with np.errstate(invalid="ignore"):
        expected = run(oracle, "conv", problem, arrays)
    result = run(nc, "conv", problem, {key: layout(a) for key, a in arrays.items()}, algorithm="direct")
    assert_allclose(result, expected, rtol=1e-6)
