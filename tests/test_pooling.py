"""Pooling of any number of axes, forward and backward, beside the oracle: exactly equal on small integers."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbaconv as nc
from numbaconv import jit
from numbaconv.algorithms import pooling
from numbaconv.spec import resolve_pool

# x's shape (channels last), pool_size, strides, padding.
PROBLEMS = {
    "1-D": ((2, 9, 5), 3, 2, "valid"),
    "1-D, one channel": ((3, 10, 1), 2, None, "same"),
    "1-D, gaps between windows": ((2, 20, 3), 2, 5, "valid"),
    "1-D, window of one": ((2, 7, 4), 1, 3, "valid"),
    "1-D, explicit padding": ((2, 9, 33), 4, 1, ((3, 2),)),
    "2-D": ((2, 8, 9, 17), 2, 2, "valid"),
    "2-D, overlapping, same": ((2, 11, 12, 64), 3, 2, "same"),
    "2-D, mixed": ((1, 12, 7, 20), (4, 3), (1, 2), ("same", "valid")),
    "2-D, explicit padding": ((2, 7, 5, 12), (3, 2), (2, 1), ((2, 1), (1, 0))),
    "2-D, many channels": ((1, 5, 6, 161), 2, 1, "same"),
    "2-D, long rows": ((2, 4, 3000, 3), (2, 3), (1, 2), "same"),
    "2-D, window longer than a line": ((1, 2, 5000, 2), (2, 4500), (1, 300), "valid"),
    "2-D, chunks": ((1, 3, 4, 65), 2, 1, "valid"),
    "2-D, window of everything": ((3, 6, 7, 10), (6, 7), None, "valid"),
    "2-D, rest left out": ((1, 7, 8, 9), 3, 3, "valid"),
    "3-D": ((1, 6, 7, 5, 19), (2, 3, 2), (2, 1, 3), "same"),
    "3-D, mixed": ((2, 5, 4, 6, 3), (3, 1, 2), (1, 2, 2), ("same", "valid", (1, 1))),
    "4-D": ((2, 4, 5, 4, 3, 9), 2, 1, ((1, 0),) * 4),
}
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
formats = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def integers(rng, shape, dtype="float32", spread=5):
    return rng.integers(-spread, spread + 1, shape).astype(dtype)


def in_format(x, data_format):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if data_format == "channels_first" else x


def setup(problem, dtype, data_format, rng):
    shape, pool_size, strides, padding = problem
    x = in_format(integers(rng, shape, dtype), data_format)
    options = {"strides": strides, "padding": padding, "data_format": data_format}
    spec = resolve_pool(x.shape, pool_size, **options, dtype=dtype)
    return x, pool_size, options, spec


@dtypes
@formats
@problems
def test_max_pool_is_exact(problem, data_format, dtype, rng):
    x, pool_size, options, _ = setup(problem, dtype, data_format, rng)
    y = nc.max_pool(x, pool_size, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, oracle.max_pool(x, pool_size, **options))


@dtypes
@formats
@problems
def test_average_pool_is_exact(problem, data_format, dtype, rng):
    x, pool_size, options, _ = setup(problem, dtype, data_format, rng)
    y = nc.average_pool(x, pool_size, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, oracle.average_pool(x, pool_size, **options).astype(dtype))


@dtypes
@formats
@problems
def test_max_pool_gradient_is_exact(problem, data_format, dtype, rng):
    x, pool_size, options, spec = setup(problem, dtype, data_format, rng)
    grad_y = integers(rng, spec.y_shape, dtype)
    grad_x = pooling.max_pool_grad(spec, x, pooling.max_pool(spec, x), grad_y)
    assert grad_x.dtype == dtype
    np.testing.assert_array_equal(grad_x, oracle.max_pool_grad(x, grad_y, pool_size, **options))


@dtypes
@formats
@problems
def test_average_pool_gradient(problem, data_format, dtype, rng):
    x, pool_size, options, spec = setup(problem, dtype, data_format, rng)
    grad_y = integers(rng, spec.y_shape, dtype)
    grad_x = pooling.average_pool_grad(spec, grad_y)
    assert grad_x.dtype == dtype
    expected = oracle.average_pool_grad(x.shape, grad_y, pool_size, **options)
    # Each of the terms of a sum, at most one per tap, is a quotient rounded once.
    bound = 5 * np.prod(spec.pool_size) * np.finfo(dtype).eps
    np.testing.assert_allclose(grad_x, expected, rtol=0, atol=bound)


@formats
@given(data=st.data())
def test_any_problem(data_format, data):
    ndim = data.draw(st.integers(1, 4))
    spatial = data.draw(st.tuples(*[st.integers(1, 7)] * ndim))
    pool_size = tuple(data.draw(st.integers(1, size)) for size in spatial)
    strides = data.draw(st.tuples(*[st.integers(1, 3)] * ndim))
    pads = tuple((data.draw(st.integers(0, k - 1)), data.draw(st.integers(0, k - 1))) for k in pool_size)
    padding = tuple(data.draw(st.sampled_from([pair, "same", "valid"])) for pair in pads)
    batch, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = in_format(integers(rng, (batch, *spatial, channels)), data_format)
    options = {"strides": strides, "padding": padding, "data_format": data_format}
    spec = resolve_pool(x.shape, pool_size, **options, dtype="float32")
    y = nc.max_pool(x, pool_size, **options)
    np.testing.assert_array_equal(y, oracle.max_pool(x, pool_size, **options))
    np.testing.assert_array_equal(
        nc.average_pool(x, pool_size, **options), oracle.average_pool(x, pool_size, **options).astype(np.float32)
    )
    grad_y = integers(rng, spec.y_shape)
    np.testing.assert_array_equal(
        pooling.max_pool_grad(spec, x, y, grad_y), oracle.max_pool_grad(x, grad_y, pool_size, **options)
    )
    expected = oracle.average_pool_grad(x.shape, grad_y, pool_size, **options)
    bound = 5 * np.prod(pool_size) * np.finfo(np.float32).eps
    np.testing.assert_allclose(pooling.average_pool_grad(spec, grad_y), expected, rtol=0, atol=bound)


# --- which element is the maximum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 8, 37])
def test_first_of_equal_maxima_gets_the_gradient(channels):
    x = np.zeros((1, 4, 4, channels), np.float32)
    x[0, 1, 1:3] = 2  # two equal maxima in one row of the window, then two more in the next row
    x[0, 2, 1:3] = 2
    spec = resolve_pool(x.shape, 4, dtype="float32")
    grad_x = pooling.max_pool_grad(spec, x, pooling.max_pool(spec, x), np.full(spec.y_shape, 3, np.float32))
    assert np.argwhere(grad_x[0, ..., 0]).tolist() == [[1, 1]]
    assert (grad_x[0, 1, 1] == 3).all()


@pytest.mark.parametrize("channels", [1, 8, 37])
def test_nan_is_the_maximum_of_its_window(channels, rng):
    x = rng.standard_normal((2, 6, 6, channels)).astype(np.float32)
    x[1, 2, 3] = np.nan
    spec = resolve_pool(x.shape, 2, dtype="float32")
    y = nc.max_pool(x, 2)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(oracle.max_pool(x, 2)))
    assert np.isnan(y[1, 1, 1]).all()
    grad_x = pooling.max_pool_grad(spec, x, y, np.ones_like(y))
    assert (grad_x[1, 2, 3] == 1).all()
    assert (grad_x[1, 2:4, 2:4].sum((0, 1)) == 1).all()


def test_infinities_are_ordinary_values():
    x = np.array([-np.inf, -np.inf, -np.inf, 1, np.inf, 2], np.float64).reshape(1, 6, 1)
    assert nc.max_pool(x, 2).ravel().tolist() == [-np.inf, 1, np.inf]
    spec = resolve_pool(x.shape, 2, dtype="float64")
    grad_x = pooling.max_pool_grad(spec, x, pooling.max_pool(spec, x), np.array([5.0, 6, 7]).reshape(1, 3, 1))
    assert grad_x.ravel().tolist() == [5, 0, 0, 6, 7, 0]


def test_gradients_that_are_not_finite_stay_where_they_belong():
    x = np.array([3, 1, 0, 2], np.float32).reshape(1, 4, 1)
    spec = resolve_pool(x.shape, 2, dtype="float32")
    grad_y = np.array([np.nan, np.inf], np.float32).reshape(1, 2, 1)
    grad_x = pooling.max_pool_grad(spec, x, pooling.max_pool(spec, x), grad_y).ravel()
    np.testing.assert_array_equal(grad_x, np.array([np.nan, 0, 0, np.inf], np.float32))


def test_padding_is_no_value():
    """Zeros would win over negative values, and would make means smaller."""
    x = np.full((1, 3, 3, 4), -2, np.float32)
    for padding in ("same", ((1, 1), (1, 1))):
        np.testing.assert_array_equal(np.unique(nc.max_pool(x, 3, strides=2, padding=padding)), [-2])
        np.testing.assert_array_equal(np.unique(nc.average_pool(x, 3, strides=2, padding=padding)), [-2])


# --- arrays ----------------------------------------------------------------------------------------------------------


@formats
def test_arrays_of_any_layout(data_format, rng):
    base = integers(rng, (4, 20, 22, 30))
    views = [base[::2, ::2, ::2, ::3], base[:, ::-1], base.transpose(0, 2, 1, 3), np.asfortranarray(base)]
    readonly = base.copy()
    readonly.setflags(write=False)
    for view in [*views, readonly]:
        kept = view.copy()
        np.testing.assert_array_equal(
            nc.max_pool(view, 3, strides=2, data_format=data_format),
            oracle.max_pool(view, 3, strides=2, data_format=data_format),
        )
        np.testing.assert_array_equal(view, kept)


@formats
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_empty_batch(name, data_format):
    x = np.zeros((0, 8, 8, 8), np.float32)
    y = getattr(nc, name)(x, 2, data_format=data_format)
    assert y.shape == ((0, 4, 4, 8) if data_format == "channels_last" else (0, 8, 4, 4))
    spec = resolve_pool(x.shape, 2, data_format=data_format, dtype="float32")
    assert pooling.max_pool_grad(spec, x, y, y).shape == x.shape
    assert pooling.average_pool_grad(spec, y).shape == x.shape


@formats
@pytest.mark.parametrize("shape", [(2, 9, 5), (3, 6, 7, 10), (1, 3, 4, 5, 33)])
def test_global_pools(shape, data_format, rng):
    x = integers(rng, shape)
    for name in ("global_max_pool", "global_average_pool"):
        expected = getattr(oracle, name)(x, data_format=data_format).astype(np.float32)
        np.testing.assert_array_equal(getattr(nc, name)(x, data_format=data_format), expected)


# --- threads, compilation --------------------------------------------------------------------------------------------


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("shape", [(1, 40, 40, 64), (7, 33, 31, 24), (1, 3000, 100), (1, 64, 64, 3), (1, 9000, 5)])
def test_results_do_not_depend_on_the_number_of_threads(shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    spec = resolve_pool(x.shape, 3, strides=2, padding="same", dtype="float32")
    grad_y = rng.standard_normal(spec.y_shape).astype(np.float32)

    def everything():
        y = pooling.max_pool(spec, x)
        results = y, pooling.average_pool(spec, x), pooling.max_pool_grad(spec, x, y, grad_y)
        return [result.tobytes() for result in (*results, pooling.average_pool_grad(spec, grad_y))]

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = everything()
    finally:
        numba.set_num_threads(before)
    assert everything() == alone


def test_no_shape_compiles_anything(rng):
    for name in ("max_pool", "average_pool", "max_pool_grad", "average_pool_grad"):
        jit.KERNELS[f"pooling.{name}"].compile("float32")
    before, names = jit.compiled_count(), []
    with jit.compiling(names.append):
        for ndim in (1, 2, 3, 4, 5):
            for channels in (1, 8, 33):
                x = integers(rng, (2, *[4] * ndim, channels))
                spec = resolve_pool(x.shape, 3, strides=2, padding="same", dtype="float32")
                y = pooling.max_pool(spec, x)
                pooling.max_pool_grad(spec, x, y, y)
                pooling.average_pool_grad(spec, pooling.average_pool(spec, x))
    # The drivers of launches may be loaded by the first of them.
    assert jit.compiled_count() <= before + 3
    assert not [name for name in names if name.startswith("pooling")]


# --- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "pool_size", "strides", "padding"),
    [((2, 5, 12), 3, 2, 1), ((2, 17, 9, 10), (3, 2), (2, 1), (1, 0)), ((1, 6, 7, 6, 5), 2, 2, 0)],
)
def test_agreement_with_pytorch(shape, pool_size, strides, padding, rng):
    torch = pytest.importorskip("torch")
    ndim = len(shape) - 2
    x = integers(rng, shape)  # ties: both give the gradient to the first
    pads = tuple((p, p) for p in ((padding,) * ndim if isinstance(padding, int) else padding))
    spec = resolve_pool(shape, pool_size, strides=strides, padding=pads, data_format="channels_first", dtype="float32")
    for name, options in (("max_pool", {}), ("avg_pool", {"count_include_pad": False})):
        tx = torch.from_numpy(x.copy()).requires_grad_()
        ty = getattr(torch.nn.functional, f"{name}{ndim}d")(tx, pool_size, strides, padding, **options)
        grad_y = integers(rng, spec.y_shape)
        ty.backward(torch.from_numpy(grad_y))
        if name == "max_pool":
            y = pooling.max_pool(spec, x)
            grad_x = pooling.max_pool_grad(spec, x, y, grad_y)
        else:
            y, grad_x = pooling.average_pool(spec, x), pooling.average_pool_grad(spec, grad_y)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(grad_x, tx.grad.numpy(), rtol=1e-6, atol=1e-6)
