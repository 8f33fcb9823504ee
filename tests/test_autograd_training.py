"""Networks written as plain Python functions of tensors learn."""

import numpy as np

import numbaconv as nc
from numbaconv.autograd import Tensor, grad_check, no_grad, ops


def residual_network(x, p, training=True):
    """Two convolutions with batch normalisation around a shortcut, pooling and a dense layer."""

    def normalize(t, i):
        if training:
            return ops.batch_normalization_training(t, p[f"offset{i}"], p[f"scale{i}"])[0]
        return t * p[f"scale{i}"] + p[f"offset{i}"]

    t = nc.conv(x, p["stem"], padding="same", activation="relu")
    shortcut = nc.conv(t, p["shortcut"], strides=2)
    t = ops.relu(normalize(nc.conv(t, p["kernel1"], strides=2, padding="same"), 1))
    t = normalize(nc.conv(t, p["kernel2"], padding="same"), 2)
    t = nc.global_average_pool(ops.relu(t + shortcut))
    return t @ p["dense"] + p["bias"]


def parameters(rng, dtype):
    shapes = {
        "stem": (3, 3, 1, 4),
        "shortcut": (1, 1, 4, 6),
        "kernel1": (3, 3, 4, 6),
        "kernel2": (3, 3, 6, 6),
        "dense": (6, 3),
    }
    p = {name: rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(dtype) for name, shape in shapes.items()}
    p |= {f"scale{i}": np.ones(6, dtype) for i in (1, 2)} | {f"offset{i}": np.zeros(6, dtype) for i in (1, 2)}
    p["bias"] = np.zeros(3, dtype)
    return p


def test_gradients_of_a_residual_network():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((3, 5, 5, 1)), np.array([0, 2, 1])
    p = parameters(rng, "float64")

    def loss(*tensors):
        return ops.softmax_cross_entropy(residual_network(x, dict(zip(p, tensors, strict=True))), target).mean()

    grad_check(loss, *p.values(), rtol=1e-5, atol=1e-7)


def test_a_residual_network_learns_where_the_bright_corner_is():
    rng = np.random.default_rng(1)
    target = rng.integers(0, 3, 48)
    x = rng.normal(0, 0.3, (48, 6, 6, 1)).astype(np.float32)
    for image, label in zip(x, target, strict=True):
        image[(slice(3), slice(3, 6), slice(3))[label], (slice(3), slice(3), slice(3, 6))[label]] += 1
    p = {name: Tensor(value, requires_grad=True) for name, value in parameters(rng, "float32").items()}
    losses = []
    for _ in range(60):
        loss = ops.softmax_cross_entropy(residual_network(x, p), target).mean()
        loss.backward()
        losses.append(loss.item())
        for parameter in p.values():
            parameter.data -= np.float32(0.3) * parameter.grad
            parameter.zero_grad()
    with no_grad():
        accuracy = (residual_network(x, p).numpy().argmax(axis=1) == target).mean()
    assert losses[-1] < 0.3 * losses[0]
    assert accuracy >= 0.95
    assert {parameter.dtype for parameter in p.values()} == {np.dtype(np.float32)}
