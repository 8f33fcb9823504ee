"""Kernels of a step of training: gradients of relu, biases and maxima, and updates of weights, against NumPy."""

import copy
import math
import pickle

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import Tensor, grad_check, no_grad
from numbaconv.algorithms import batch_norm, pooling
from numbaconv.algorithms.adjacent_pooling import average_pool_grad, max_pool_grad, record_relu_gradient, takes_relu
from numbaconv.algorithms.channel_sums import channel_sums, relu_gradient_sums
from numbaconv.algorithms.cross_entropy import label_cross_entropy
from numbaconv.algorithms.updates import UpdateTable
from numbaconv.autograd import ops
from numbaconv.autograd.dense import dense
from numbaconv.kernels import updates
from numbaconv.program import Recorder
from numbaconv.spec import resolve_pool

DTYPES = ("float32", "float64")
# One number, less than a row, rows with an end, several tasks with an end, more channels than a row or a task holds.
SHAPES = [(1, 1), (3, 7), (100, 6), (2, 3, 5, 64), (5000, 10), (1000, 33), (3, 700), (4, 20000), (0, 5)]


def integers(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_per_channel(shape, dtype):
    g, y = integers(shape, dtype), np.maximum(integers(shape, dtype, 1), 0)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_array_equal(channel_sums(g), g.sum(axis=axes))
    kept, sums = relu_gradient_sums(g, y)
    expected = np.where(y > 0, g, 0)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(sums, expected.sum(axis=axes))
    assert kept.dtype == sums.dtype == dtype


def test_a_masked_gradient_is_zero_whatever_it_was():
    g, y = np.array([[np.inf, np.nan, np.nan, 2.0]]), np.array([[0.0, 0.0, 1.0, np.nan]])
    kept, sums = relu_gradient_sums(g, y)
    np.testing.assert_array_equal(kept, [[0.0, 0.0, np.nan, 0.0]])
    np.testing.assert_array_equal(sums, kept[0])


def test_sums_do_not_depend_on_threads(rng):
    numba = pytest.importorskip("numba")
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    g, y = rng.standard_normal((9000, 40)).astype(np.float32), rng.standard_normal((9000, 40)).astype(np.float32)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        sums = [channel_sums(g), batch_norm.centred_squares(g, y[0]), *batch_norm.centred_products(g, y, y[0])]
        losses = label_cross_entropy(g, np.arange(9000) % 40)
        results.append([*sums, *relu_gradient_sums(g, y), *losses])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("classes", [2, 64, 65, 300])
def test_cross_entropy_of_few_and_of_many_classes(classes, rng):
    labels = np.array([classes - 1, 0, 1])
    grad_check(lambda x: ops.softmax_cross_entropy(x, labels), rng.standard_normal((3, classes)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1), (5, 64), (5, 65), (2, 3000, 7), (10,), (0, 4), (4, 0, 3)], ids=str)
def test_softmax(shape, dtype, rng):
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    powers = np.exp(x.astype(np.float64))
    y = ops.softmax(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, powers / powers.sum(axis=-1, keepdims=True), rtol=64 * np.finfo(dtype).eps)
    backwards = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(ops.softmax(backwards), y, rtol=64 * np.finfo(dtype).eps)


def test_softmax_of_large_numbers_and_of_none():
    x = np.array([[1e4, 1e4, -np.inf], [np.nan, 0, 1], [np.inf, 0, 0], [1, 2, np.nan]], np.float32)
    nan = [np.nan] * 3
    np.testing.assert_array_equal(ops.softmax(x), [[0.5, 0.5, 0], nan, nan, nan])


POOLS = [
    ((2, 5, 6, 3), 2, "valid"),
    ((2, 7, 9, 8), (2, 3), "same"),
    ((3, 11, 1), 3, "same"),
    ((2, 5, 6, 7, 11), 2, "same"),
    ((2, 4, 4, 9), 2, 1),
    ((1, 4, 5, 20), 3, "valid"),
    ((2, 9, 17), 4, "valid"),
    ((1, 40, 40, 16), 2, "valid"),
    ((2, 6, 6, 2), 6, "valid"),
    ((2, 3, 9000, 1), (1, 2), "same"),
    ((2, 4, 3000, 6), 3, "same"),
    ((3, 4, 11, 7), 2, "valid"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "pool", "padding"), POOLS, ids=str)
def test_adjacent_windows_agree_with_the_general_kernel(shape, pool, padding, dtype):
    # Few values, so that windows have several maxima.
    x = np.random.default_rng(0).integers(-1, 2, shape).astype(dtype)
    spec = resolve_pool(shape, pool, strides=None, padding=padding, data_format="channels_last", dtype=dtype)
    y = pooling.max_pool(spec, x)
    g = integers(y.shape, dtype) + 10
    gradient = max_pool_grad(spec, x, y, g)
    np.testing.assert_array_equal(gradient, pooling.max_pool_grad(spec, x, y, g))
    assert gradient.sum() == g.sum()
    shares, expected = average_pool_grad(spec, g), pooling.average_pool_grad(spec, g)
    np.testing.assert_allclose(shares, expected, rtol=4 * np.finfo(dtype).eps)


SPECS = [
    resolve_pool(shape, pool, strides=None, padding=padding, data_format="channels_last", dtype=dtype)
    for shape, pool, padding in POOLS
    for dtype in DTYPES
]


@pytest.mark.parametrize("spec", [spec for spec in SPECS if takes_relu(spec)], ids=str)
def test_maxima_of_what_relu_gave(spec):
    shape, dtype = spec.x_shape, spec.dtype
    x = np.maximum(integers(shape, dtype), 0)
    y = pooling.max_pool(spec, x)
    y[..., 0] = np.nan  # a maximum that is none gets no gradient
    g = integers(y.shape, dtype, 1)
    kept, sums = relu_gradient_sums(g, y)
    recorder = Recorder(x.size, dtype)
    arguments = [recorder.x, *(recorder.argument(i, n) for i, n in enumerate((y.size, g.size, x.size, shape[-1]), 1))]
    record_relu_gradient(recorder, spec, *arguments)
    grad_x, grad_bias = np.full_like(x, np.nan), np.full_like(sums, np.nan)
    assert recorder.launches(5).run(x, y, g, grad_x, grad_bias)
    np.testing.assert_array_equal(grad_x, pooling.max_pool_grad(spec, x, y, kept))
    np.testing.assert_array_equal(grad_bias, sums)
    assert grad_bias[0] == 0


def network(x, kernel, bias, data_format, step_by_step):
    options = {"data_format": data_format}
    if step_by_step:
        y = ops.relu(nc.conv(x, kernel, bias, **options) * 1.0)
    else:
        y = nc.conv(x, kernel, bias, activation="relu", **options)
    return nc.max_pool(y, 2, **options), y


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("uses", ["pool", "both", "relu"])
def test_relu_bias_and_maxima_in_one_step(data_format, with_bias, uses, rng):
    """The joint steps give what the single ones give, exactly, also where relu's result has a second reader."""
    x = rng.integers(-3, 4, (2, 7, 8, 3) if data_format == "channels_last" else (2, 3, 7, 8)).astype(np.float32)
    weights = [rng.integers(-2, 3, (3, 3, 3, 5)).astype(np.float32), rng.integers(-2, 3, 5).astype(np.float32)]
    gradients = []
    for step_by_step in (True, False):
        tensors = [Tensor(a.copy(), requires_grad=True) for a in (x, *weights)]
        bias = tensors[2] if with_bias else None
        pooled, rectified = network(tensors[0], tensors[1], bias, data_format, step_by_step)
        loss = 0.0
        if uses != "relu":
            loss = (pooled * integers(pooled.shape, np.float32)).sum()
        if uses != "pool":
            loss = loss + (rectified * integers(rectified.shape, np.float32, 1)).sum()
        loss.backward()
        gradients.append([t.grad for t in tensors if t.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) == 2 + with_bias
    for single, joint in zip(*gradients, strict=True):
        np.testing.assert_array_equal(joint, single)


def test_relu_and_maxima_by_central_differences(rng):
    x, kernel, bias = rng.standard_normal((1, 5, 6, 2)), rng.standard_normal((2, 2, 2, 3)), rng.standard_normal(3)
    grad_check(lambda *t: nc.max_pool(nc.conv(*t, activation="relu"), 2), x, kernel, bias, rtol=1e-6, atol=1e-8)


def test_maxima_of_a_graph_that_was_freed():
    kernel = Tensor(np.ones((2, 1, 1)), requires_grad=True)
    y = nc.conv(np.ones((1, 5, 1)), kernel, activation="relu")
    y.sum().backward()
    with pytest.raises(RuntimeError, match="already run through this graph"):
        nc.max_pool(y, 2).sum().backward()


def test_frozen_parts_of_a_convolution_get_no_gradient(rng):
    x, kernel = rng.standard_normal((1, 6, 6, 2)), rng.standard_normal((3, 3, 2, 4))
    bias = Tensor(np.zeros(4), requires_grad=True)
    nc.max_pool(nc.conv(x, kernel, bias, activation="relu"), 2).sum().backward()
    assert bias.grad.shape == (4,)


def test_a_dense_layer_keeps_only_the_arrays_it_needs(rng):
    x, kernel = Tensor(rng.standard_normal((4, 3)), requires_grad=True), Tensor(rng.standard_normal((3, 5)))
    kept = dense(x, kernel, None, False).node.saved
    assert kept["x"] is None and kept["rectified"] is None and kept["kernel"] is kernel.data


@pytest.mark.parametrize("rows", [1, 6])
def test_dense_is_exact_on_integers(rows):
    x, kernel, bias, g = (integers(shape, np.float32) for shape in ((rows, 9), (9, 7), 7, (rows, 7)))
    tensors = [Tensor(a, requires_grad=True) for a in (x, kernel, bias)]
    y = dense(*tensors, True)
    np.testing.assert_array_equal(y.data, np.maximum(x @ kernel + bias, 0))
    y.backward(g)
    g = np.where(y.data > 0, g, 0)
    for tensor, expected in zip(tensors, (g @ kernel.T, x.T @ g, g.sum(axis=0)), strict=True):
        np.testing.assert_array_equal(tensor.grad, expected)


def test_without_gradients_a_call_takes_the_array_path(rng):
    x, kernel = Tensor(rng.standard_normal((1, 6, 6, 2))), Tensor(rng.standard_normal((3, 3, 2, 4)), requires_grad=True)
    for activation in (None, "relu", "gelu", ops.tanh):
        recorded = nc.conv(x, kernel=kernel, activation=activation)
        with no_grad():
            result = nc.conv(x, kernel=kernel, activation=activation)
        assert isinstance(result, Tensor) and not result.requires_grad and recorded.requires_grad
        np.testing.assert_array_equal(result.data, recorded.data)


# ---- updates: the same operations in NumPy, rounded in the same order, must agree bit for bit ------------------------


def sgd(c, w, g):
    w[...] = w * c[0] - g * c[1]


def momentum(c, w, g, velocity):
    velocity[...] = velocity * c[2] - g * c[1]
    w[...] = w * c[0] + velocity


def nesterov(c, w, g, velocity):
    velocity[...] = velocity * c[2] - g * c[1]
    w[...] = w * c[0] - g * c[1] + velocity * c[2]


def adam(c, w, g, m, v):
    m += (g - m) * c[1]
    v += (g * g - v) * c[2]
    w[...] = w * c[0] - m / (np.sqrt(v) + c[3]) * c[4]


def amsgrad(c, w, g, m, v, greatest):
    m += (g - m) * c[1]
    v += (g * g - v) * c[2]
    np.maximum(greatest, v, out=greatest)
    w[...] = w * c[0] - m / (np.sqrt(greatest) + c[3]) * c[4]


def rmsprop(c, w, g, square):
    square[...] = square * c[1] + g * g * c[2]
    w[...] = w * c[0] - g / np.sqrt(square + c[3]) * c[4]


def rmsprop_momentum(c, w, g, square, velocity, mean):
    square[...] = square * c[1] + g * g * c[2]
    mean[...] = mean * c[1] + g * c[6]
    velocity[...] = velocity * c[5] + g / np.sqrt(square - mean * mean + c[3]) * c[4]
    w[...] = w * c[0] - velocity


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("formula", "slots"),
    [(sgd, 0), (momentum, 1), (nesterov, 1), (adam, 2), (amsgrad, 3), (rmsprop, 1), (rmsprop_momentum, 3)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_updates(formula, slots, dtype, rng):
    constants = [0.9, 0.3, 0.2, 0.01, 0.05, 0.7, 0.3]
    shapes = [(3, 4), (), (0,), (20011,), (7,), (2, 3, 3, 1000)]

    def arrays():
        return [[np.array(np.abs(rng.standard_normal(s)), dtype) for s in shapes] for _ in range(slots + 2)]

    weights, gradients, *kept = arrays()
    # The mean square is at least the squared mean, as in training.
    if formula is rmsprop_momentum:
        kept[2] = [np.zeros_like(array) for array in kept[2]]
    expected = [[a.copy() for a in row] for row in zip(weights, gradients, *kept, strict=True)]
    table = UpdateTable(weights, list(zip(*kept, strict=True)) or [()] * len(weights))
    for _ in range(2):
        table.apply(getattr(updates, formula.__name__), gradients, constants)
        for row in expected:
            formula(np.array(constants, dtype), *row)
    for found, row in zip(zip(weights, gradients, *kept, strict=True), expected, strict=True):
        for a, b in zip(found, row, strict=True):
            np.testing.assert_array_equal(a, b)


def test_optimizers_take_any_layout_and_mixed_types(rng):
    """Weights that are not contiguous, gradients that are not or have another dtype, two dtypes at once."""
    base = rng.standard_normal((6, 8))
    weights = [Tensor(base.T, requires_grad=True), Tensor(np.ones(5, np.float32), requires_grad=True)]
    gradients = [rng.standard_normal((6, 8)).T, rng.standard_normal(5)]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    expected = [base.T - 0.5 * gradients[0], np.float32(1) - np.float32(0.5) * gradients[1].astype(np.float32)]
    nc.optimizers.SGD(0.5).apply(weights)
    for weight, values in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.data, values, rtol=1e-15)


def test_numbers_and_read_only_weights():
    weight = Tensor(1.0, requires_grad=True)
    weight.data, weight.grad = np.float32(1.0), np.float32(2.0)
    nc.optimizers.SGD(0.25).apply([weight])
    assert weight.data == 0.5
    fixed = np.ones(3)
    fixed.setflags(write=False)
    weight = Tensor(fixed, requires_grad=True)
    weight.grad = np.ones(3)
    with pytest.raises(ValueError) as error:
        nc.optimizers.SGD(0.25).apply([weight])
    assert str(error.value) == (
        "A weight of shape (3,) is read-only, and optimizers change weights in place. Make it of a copy: "
        "Tensor(array.copy(), requires_grad=True)."
    )


def test_an_optimizer_with_a_rule_of_its_own_runs_it():
    class Signs(nc.optimizers.SGD):
        def update(self, weight, gradient, rate, **slots):
            weight -= rate * np.sign(gradient)

    weight = Tensor(np.zeros(3), requires_grad=True)
    weight.grad = np.array([3.0, -2.0, 0.0])
    Signs(0.5).apply([weight])
    assert weight.data.tolist() == [-0.5, 0.5, 0.0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_of_an_optimizer_updates_its_own_weights(copied, rng):
    optimizer, weight = nc.optimizers.Adam(0.1), Tensor(np.ones(5), requires_grad=True)
    weight.grad = rng.standard_normal(5)
    optimizer.apply([weight])
    optimizer_copy, weight_copy = copied((optimizer, weight))
    weight_copy.grad = weight.grad.copy()
    before = weight.data.copy()
    optimizer_copy.apply([weight_copy])
    np.testing.assert_array_equal(weight.data, before)
    optimizer.apply([weight])
    np.testing.assert_array_equal(weight.data, weight_copy.data)


def test_an_update_of_one_weight_by_hand(rng):
    optimizer, weight, gradient = nc.optimizers.Adam(0.1), np.ones(3), rng.standard_normal(3)
    optimizer.iterations = 1
    optimizer.update(weight, gradient, 0.1, momentum=np.zeros(3), velocity=np.zeros(3))
    np.testing.assert_allclose(weight, 1 - 0.1 * np.sign(gradient), rtol=1e-5)
    assert math.isfinite(weight.sum())
