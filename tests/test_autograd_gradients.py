"""Every row of the gradient table by central differences, values beside PyTorch, ties, stability and float32."""

import math

import numpy as np
import pytest

from numbaconv.autograd import Tensor, grad_check, ops
from numbaconv.autograd.dense import dense
from numbaconv.autograd.gradients import GRADIENTS

BY_THE_ENGINE = {
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "bias_relu",
    "bias_relu_max_pool",
    "max_pool",
    "average_pool",
    "global_max_pool",
    "global_average_pool",
    "adaptive_max_pool",
    "adaptive_average_pool",
}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def away_from_zero(*shape):
    x = normal(*shape)
    return x + np.copysign(0.1, x)


def positive(*shape):
    return np.abs(normal(*shape)) + 0.5


CONDITION = normal(2, 3) > 0
FANCY = np.array([[0, 2, 2], [1, 0, 2]])
MASK = normal(3, 4) > 0
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(4), size=3)

# name of the row -> checks: (function, point)
CHECKS = {
    "add": [(lambda a, b: a + b, (normal(2, 3), normal(3)))],
    "subtract": [(lambda a, b: a - b, (normal(2, 1), normal(4, 1, 3))), (lambda a: 2 - a, (normal(3),))],
    "multiply": [(lambda a, b: a * b, (normal(2, 3, 1), normal(3, 4))), (lambda a: a * a, (normal(3),))],
    "divide": [(lambda a, b: a / b, (normal(2, 3), away_from_zero(3))), (lambda a: 2 / a, (away_from_zero(3),))],
    "power": [
        (lambda a, b: a**b, (positive(2, 3), normal(3))),
        (lambda a: a**3, (normal(4),)),
        (lambda a: a**-2.0, (away_from_zero(4),)),
        (lambda a: a**0, (normal(4),)),
        (lambda a: 2**a, (normal(4),)),
        (lambda a: a ** np.array([0.0, 1.0, 2.0, 3.0]), (normal(4),)),
    ],
    "dense": [
        (lambda x, k, b: dense(x, k, b, True), (normal(4, 3), normal(3, 5), normal(5))),
        (lambda x, k: dense(x, k, None, True), (normal(1, 3), normal(3, 5))),
        (lambda x, k, b: dense(x, k, b, False), (normal(2, 4, 3), normal(3, 5), normal(5))),
    ],
    "matmul": [
        (lambda a, b: a @ b, (normal(2, 3), normal(3, 4))),
        (lambda a, b: a @ b, (normal(3), normal(3, 4))),
        (lambda a, b: a @ b, (normal(2, 3), normal(3))),
        (lambda a, b: a @ b, (normal(3), normal(3, seed=1))),
        (lambda a, b: a @ b, (normal(2, 2, 3), normal(3, 4))),
        (lambda a, b: a @ b, (normal(2, 2, 3), normal(3))),
        (lambda a, b: a @ b, (normal(3), normal(2, 3, 4))),
        (lambda a, b: a @ b, (normal(2, 3), normal(5, 3, 4))),
        (lambda a, b: a @ b, (normal(5, 1, 2, 3), normal(2, 3, 4))),
    ],
    "maximum": [(ops.maximum, (normal(2, 3), normal(3))), (lambda a: ops.maximum(0.3, a), (normal(5),))],
    "minimum": [(ops.minimum, (normal(2, 3), normal(3)))],
    "where": [
        (lambda a, b: ops.where(CONDITION, a, b), (normal(2, 3), normal(3))),
        (lambda a: ops.where(CONDITION, a, 0.0), (normal(2, 1),)),
    ],
    "negative": [(lambda x: -x, (normal(3),))],
    "exp": [(ops.exp, (normal(3),))],
    "log": [(ops.log, (positive(3),))],
    "sqrt": [(ops.sqrt, (positive(3),))],
    "square": [(ops.square, (normal(3),))],
    "abs": [(abs, (away_from_zero(5),))],
    "clip": [
        (lambda x: ops.clip(x, -0.5, 0.5), (normal(9),)),
        (lambda x: ops.clip(x, None, 0.5), (normal(9),)),
        (lambda x: ops.clip(x, 0.1), (normal(9),)),
    ],
    "sum": [
        (lambda x: x.sum(), (normal(2, 3),)),
        (lambda x: x.sum(axis=1), (normal(2, 3, 2),)),
        (lambda x: x.sum(axis=(0, -1), keepdims=True), (normal(2, 3, 2),)),
    ],
    "mean": [(lambda x: x.mean(axis=(0, 2)), (normal(2, 3, 2),)), (lambda x: x.mean(), (normal(2, 3),))],
    "max": [
        (lambda x: x.max(axis=-1), (normal(2, 5),)),
        (lambda x: x.max(axis=(0, 1), keepdims=True), (normal(2, 3, 2),)),
        (lambda x: x.max(), (normal(7),)),
    ],
    "min": [(lambda x: x.min(axis=0), (normal(4, 3),))],
    "var": [(lambda x: x.var(axis=(0, 1)), (normal(2, 4, 3),)), (lambda x: x.var(keepdims=True), (normal(5),))],
    "reshape": [
        (lambda x: x.reshape(3, -1) * normal(3, 4), (normal(2, 6),)),
        (lambda x: ops.flatten(x), (normal(2, 3, 2),)),
        (lambda x: ops.expand_dims(x, -1), (normal(2, 3),)),
        (lambda x: ops.squeeze(x), (normal(2, 1, 3, 1),)),
    ],
    "transpose": [
        (lambda x: x.T, (normal(2, 3),)),
        (lambda x: x.transpose(2, 0, 1), (normal(2, 3, 4),)),
        (lambda x: ops.transpose(x, (-1, 0, 1)), (normal(2, 3, 4),)),
    ],
    "broadcast_to": [(lambda x: ops.broadcast_to(x, (4, 2, 3)), (normal(2, 1),))],
    "getitem": [
        (lambda x: x[1], (normal(3, 4),)),
        (lambda x: x[1, 2], (normal(3, 4),)),
        (lambda x: x[::2, None, ..., -1], (normal(3, 4),)),
        (lambda x: x[::-1], (normal(3),)),
        (lambda x: x[FANCY], (normal(3, 4),)),
        (lambda x: x[[0, 0, 1], 1:], (normal(3, 4),)),
        (lambda x: x[FANCY, FANCY], (normal(3, 3),)),
        (lambda x: x[MASK], (normal(3, 4),)),
    ],
    "concatenate": [
        (lambda a, b, c: ops.concatenate([a, b, c], axis=-1), (normal(2, 3), normal(2, 1), normal(2, 2))),
        (lambda a: ops.concatenate([a, normal(2, 3), a]), (normal(1, 3),)),
    ],
    "stack": [(lambda a, b: ops.stack([a, b], axis=1), (normal(2, 3), normal(2, 3, seed=1)))],
    "pad": [(lambda x: ops.pad(x, ((1, 0), (2, 3))), (normal(2, 3),))],
    "repeat": [
        (lambda x: ops.repeat(x, 3, axis=1), (normal(2, 3, 2),)),
        (lambda x: ops.repeat(x, 2, -1), (normal(3),)),
    ],
    "astype": [(lambda x: ops.astype(x, "float64"), (normal(3),))],
    "relu": [(ops.relu, (away_from_zero(3, 4),))],
    "leaky_relu": [(ops.leaky_relu, (away_from_zero(7),)), (lambda x: ops.leaky_relu(x, -0.5), (away_from_zero(7),))],
    "elu": [(ops.elu, (away_from_zero(7),)), (lambda x: ops.elu(x, 1.7), (away_from_zero(7),))],
    "sigmoid": [(ops.sigmoid, (normal(7),))],
    "tanh": [(ops.tanh, (normal(7),))],
    "silu": [(ops.silu, (normal(7),))],
    "softplus": [(ops.softplus, (normal(7),))],
    "gelu": [(ops.gelu, (3 * normal(20),)), (lambda x: ops.gelu(x, approximate=True), (3 * normal(20),))],
    "softmax": [(ops.softmax, (normal(3, 4),)), (lambda x: ops.softmax(x, axis=1), (normal(2, 3, 2),))],
    "log_softmax": [(ops.log_softmax, (normal(3, 4),)), (lambda x: ops.log_softmax(x, axis=0), (normal(3, 2),))],
    "label_cross_entropy": [
        (lambda x: ops.softmax_cross_entropy(x, np.array([3, 0, 1])), (normal(3, 4),)),
        (lambda x: ops.softmax_cross_entropy(x, np.array([[3, 0], [1, 2]]), axis=1), (normal(2, 4, 2),)),
    ],
    "softmax_cross_entropy": [
        (lambda x: ops.softmax_cross_entropy(x, PROBABILITIES), (normal(3, 4),)),
        (lambda x: ops.softmax_cross_entropy(x, 2 * PROBABILITIES), (normal(3, 4),)),
    ],
    "sigmoid_cross_entropy": [
        (lambda x: ops.sigmoid_cross_entropy(x, PROBABILITIES), (normal(3, 4),)),
        (lambda x: ops.sigmoid_cross_entropy(x, np.array([1, 0, 1])), (normal(2, 3),)),
    ],
    "dropout": [
        (lambda x: ops.dropout(x, 0.4, np.random.default_rng(5)), (normal(4, 5),)),
        (lambda x: ops.dropout(x, 0.4, np.random.default_rng(5), noise_shape=(4, 1)), (normal(4, 5),)),
    ],
    "batch_standardize": [
        (lambda x, o, s: ops.batch_normalization_training(x, o, s)[0], (normal(3, 2, 4), normal(4), positive(4))),
        (lambda x, s: ops.batch_normalization_training(x, None, s, axis=1)[0], (normal(3, 2, 4), normal(2))),
        (lambda x: ops.batch_normalization_training(x)[0], (normal(5, 3),)),
    ],
    "layer_standardize": [
        (ops.layer_normalization, (normal(3, 2, 4), normal(4), normal(4, seed=1))),
        (lambda x, s: ops.layer_normalization(x, None, s, axis=(1, -1)), (normal(3, 2, 4), normal(2, 4))),
        (lambda x: ops.layer_normalization(x, axis=0), (normal(5, 3),)),
    ],
    "normalize": [
        (ops.batch_normalization, (normal(3, 2, 4), normal(4), positive(4), normal(4, seed=1), normal(4, seed=2))),
        (lambda x, m, v: ops.batch_normalization(x, m, v, axis=1), (normal(3, 2, 4), normal(2), positive(2))),
        (lambda x, s: ops.batch_normalization(x, normal(4), positive(4), scale=s), (normal(3, 4), normal(4))),
    ],
}


# Checks that combine the tensor with an array of float64, which makes the result float64 as in NumPy.
FLOAT64_CONSTANTS = {("power", 5), ("reshape", 0), ("concatenate", 1)}


def test_every_row_of_the_table_is_checked():
    assert set(CHECKS) | BY_THE_ENGINE | {"activation", "activation_from_output"} == set(GRADIENTS)


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in CHECKS for i in range(len(CHECKS[name]))])
def test_gradient(name, number):
    f, point = CHECKS[name][number]
    assert f(*map(Tensor, point)).dtype == np.float64
    grad_check(f, *point, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name in CHECKS for i in range(len(CHECKS[name])) if name != "astype"]
)
def test_float32_stays_float32(name, number):
    f, point = CHECKS[name][number]
    tensors = [Tensor(a, requires_grad=True, dtype="float32") for a in point]
    y = f(*tensors)
    assert y.dtype == (np.float64 if (name, number) in FLOAT64_CONSTANTS else np.float32)
    y.sum().backward()
    assert {t.grad.dtype for t in tensors} == {np.dtype(np.float32)}


COMPOSITES = ["selu", "relu6", "hard_sigmoid", "hard_silu", "softsign"]


@pytest.mark.parametrize("name", COMPOSITES)
def test_composite_activations(name):
    grad_check(getattr(ops, name), 3 * away_from_zero(30))


ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "elu": "elu",
    "selu": "selu",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "tanh": "tanh",
    "silu": "silu",
    "softplus": "softplus",
    "softsign": "softsign",
    "gelu": "gelu",
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_agree_with_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-8, 8, 320), [-30.0, 15.0]]).astype(dtype)
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = getattr(ops, name)(ours), getattr(torch.nn.functional, ACTIVATIONS[name])(theirs)
    y.sum().backward()
    z.sum().backward()
    float32 = {"rtol": 2e-6, "atol": 1.2e-6 if name == "gelu" else 5e-7}  # PyTorch's gelu is 9e-7 off with AVX-512
    tolerance = {"float32": float32, "float64": {"rtol": 1e-12, "atol": 1e-14}}[dtype]
    np.testing.assert_allclose(y.data, z.detach().numpy(), **tolerance)
    if name == "hard_sigmoid":
        tolerance["rtol"] = 1e-7  # PyTorch's slope is the float32 nearest to 1/6 for float64 as well
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), **tolerance)


@pytest.mark.parametrize("labels", [True, False])
def test_cross_entropy_agrees_with_pytorch(labels):
    torch = pytest.importorskip("torch")
    x = 5 * normal(6, 4)
    target = np.arange(6) % 4 if labels else np.random.default_rng(1).dirichlet(np.ones(4), size=6)
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss = ops.softmax_cross_entropy(ours, target)
    reference = torch.nn.functional.cross_entropy(theirs, torch.tensor(target), reduction="none")
    np.testing.assert_allclose(loss.data, reference.detach().numpy(), rtol=1e-12)
    loss.mean().backward()
    reference.mean().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_normalization_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    x, offset, scale, g = normal(4, 3, 5), normal(3), normal(3, seed=1), normal(4, 3, 5, seed=1)
    ours = [Tensor(a, requires_grad=True) for a in (x, offset, scale)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, offset, scale)]
    y, mean, variance = ops.batch_normalization_training(*ours, epsilon=1e-3, axis=1)
    z = torch.nn.functional.batch_norm(theirs[0], None, None, theirs[2], theirs[1], training=True, eps=1e-3)
    y.backward(g)
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mean, x.mean((0, 2)), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(variance, x.var((0, 2)), rtol=1e-13)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(64, 32, 24), (3, 4111, 5), (4, 4, 2048)])
@pytest.mark.parametrize("first", [False, True])
def test_large_batches_are_normalised_like_small_ones(shape, first):
    """Large arrays take long rows and sums by BLAS; channels first and odd sizes do not."""
    x, g = normal(*shape), normal(*shape, seed=1)
    axis, axes = (1, (0, 2)) if first else (2, (0, 1))
    channels = shape[axis]
    scale, offset = normal(channels), normal(channels, seed=1)
    tensors = [Tensor(a, requires_grad=True) for a in (x, offset, scale)]
    y, mean, variance = ops.batch_normalization_training(*tensors, epsilon=1e-3, axis=axis)
    y.backward(g)
    column = (channels, 1) if first else (channels,)
    deviation = np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    x_hat = (x - x.mean(axes, keepdims=True)) / deviation
    h = g * scale.reshape(column)
    expected = (h - h.mean(axes, keepdims=True) - x_hat * (h * x_hat).mean(axes, keepdims=True)) / deviation
    np.testing.assert_allclose(mean, x.mean(axes), atol=1e-13)
    np.testing.assert_allclose(variance, x.var(axes), rtol=1e-12)
    np.testing.assert_allclose(y.data, x_hat * scale.reshape(column) + offset.reshape(column), atol=1e-11)
    np.testing.assert_allclose(tensors[0].grad, expected, atol=1e-11)
    np.testing.assert_allclose(tensors[1].grad, g.sum(axes), rtol=1e-10)
    np.testing.assert_allclose(tensors[2].grad, (g * x_hat).sum(axes), rtol=1e-10, atol=1e-10)


def gradient(f, x):
    tensor = Tensor(x, requires_grad=True)
    f(tensor).sum().backward()
    return tensor.grad.tolist()


def test_ties_and_kinks():
    assert gradient(lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0]) == [0, 0.5, 1]
    assert gradient(lambda x: ops.minimum(x, 1.0), [0.0, 1.0, 2.0]) == [1, 0.5, 0]
    assert gradient(lambda x: ops.max(x), [3.0, 3.0, 1.0, 3.0, 3.0]) == [0.25, 0.25, 0, 0.25, 0.25]
    assert gradient(lambda x: ops.min(x, axis=1), [[1.0, 1.0], [2.0, 1.0]]) == [[0.5, 0.5], [0, 1]]
    assert gradient(ops.relu, [-1.0, 0.0, 1.0]) == [0, 0, 1]
    assert gradient(ops.abs, [-1.0, 0.0, 1.0]) == [-1, 0, 1]
    assert gradient(lambda x: ops.clip(x, 0.0, 1.0), [-1.0, 0.0, 1.0, 2.0]) == [0, 1, 1, 0]
    assert gradient(lambda x: ops.power(0.0, x), [2.0]) == [0]
    assert gradient(lambda x: x**0, [0.0]) == [0]
    assert gradient(lambda x: x**1, [0.0]) == [1]


def test_masked_gradients_are_zero_whatever_they_are_multiplied_with():
    x = Tensor([-1.0, 2.0], requires_grad=True)
    ops.relu(x).backward([math.inf, math.nan])
    assert x.grad[0] == 0 and math.isnan(x.grad[1])


def test_repeated_indices_add_up():
    assert gradient(lambda x: x[[0, 0, 2, 0]], [1.0, 2.0, 3.0]) == [3, 0, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_values_neither_overflow_nor_lose_their_gradient(dtype):
    x = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], dtype)
    tail = pytest.approx(math.exp(-100), rel=1e-5)
    assert ops.sigmoid(x).tolist() == [0.0, tail, 0.5, 1.0, 1.0]
    assert ops.softplus(x).tolist() == [0.0, tail, pytest.approx(math.log(2)), 100, 1e4]
    assert ops.softmax(x).tolist() == [0, 0, 0, 0, 1]
    assert ops.log_softmax(x).tolist() == [-2e4, -1.01e4, -1e4, -9900, 0]
    assert gradient(lambda t: ops.softmax_cross_entropy(t, np.int64(0)), x) == [-1, 0, 0, 0, 1]
    assert gradient(lambda t: ops.sigmoid_cross_entropy(t, np.zeros(5, dtype)), x)[2:] == [0.5, 1, 1]
    assert ops.gelu(x).tolist() == [0, 0, 0, 100, 1e4]


def test_a_normalised_batch_far_from_zero_keeps_its_digits():
    x = (1e4 + normal(64, 2)).astype(np.float32)
    y, _, _ = ops.batch_normalization_training(x, epsilon=0.0)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(y, (exact - exact.mean(0)) / exact.std(0), atol=2e-3)


def test_dropout_keeps_the_mean_and_drops_the_rate():
    y = ops.dropout(np.ones((200, 500), np.float32), 0.3, np.random.default_rng(0))
    assert y.dtype == np.float32
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)
    rows = ops.dropout(np.ones((50, 4)), 0.5, np.random.default_rng(0), noise_shape=(50, 1))
    assert set(rows.sum(axis=1).tolist()) == {0.0, 8.0}
    assert (ops.dropout(np.ones(5), 0.0, np.random.default_rng(0)) == 1).all()


def test_errors_of_operations():
    with pytest.raises(ValueError, match=r"^rate must be at least 0 and below 1\. Received: rate=1$"):
        ops.dropout(np.ones(3), 1, np.random.default_rng(0))
    message = r"^target labels must be in \[0, 4\), the number of classes\. Received: -1$"
    with pytest.raises(ValueError, match=message):
        ops.softmax_cross_entropy(np.zeros((2, 4)), np.array([0, -1]))
    message = (
        r"^target must have shape \(2,\) for integer labels and logits of shape \(2, 4\)\. "
        r"Received: target\.shape=\(2, 1\), target\.dtype=int64$"
    )
    with pytest.raises(ValueError, match=message):
        ops.softmax_cross_entropy(np.zeros((2, 4)), np.array([[0], [1]]))
    message = (
        r"^pad_width must hold one pair of non-negative integers for each of the 2 axes of x\. "
        r"Received: pad_width=\[\(0, 1\)\]$"
    )
    with pytest.raises(ValueError, match=message):
        ops.pad(np.zeros((2, 4)), [(0, 1)])
    message = r"^squeeze removes only axes of length 1\. Received: axis=1 for shape \(2, 3\)$"
    with pytest.raises(ValueError, match=message):
        ops.squeeze(np.zeros((2, 3)), axis=1)


def test_grad_check_names_the_worst_element():
    def wrong(x):
        # The tape sees x times a constant that is 1, 2 and 1.5 times the true slope 1.
        return x * Tensor(np.array([1.0, 2.0, 1.0, 1.5])) - Tensor(x.data * np.array([0.0, 1.0, 0.0, 0.5]))

    message = (
        r"^gradient of argument 0 is wrong at 2 of 4 elements; worst at index \(1,\): backward\(\) gives "
        r"(\S+), the central difference is (\S+)$"
    )
    with pytest.raises(AssertionError, match=message):
        grad_check(wrong, np.ones(4), seed=0)
    with pytest.raises(AssertionError, match=r"^the result does not depend on argument 1 through recorded operations$"):
        grad_check(lambda a, b: a * Tensor(b.data), np.ones(2), np.ones(2))
