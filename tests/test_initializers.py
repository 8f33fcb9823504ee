"""Initializers, regularizers and seeds."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import initializers, regularizers, seeding
from numbaconv.initializers import compute_fans

SHAPE = (3, 3, 40, 60)
FAN_IN, FAN_OUT = 360, 540
RANDOM = [
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "orthogonal",
]


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((5, 8), (5, 8)), ((3, 4, 8), (12, 24)), ((3, 3, 4, 8), (36, 72))],
)
def test_fans(shape, fans):
    assert compute_fans(shape) == fans


@pytest.mark.parametrize(
    ("name", "variance", "bound"),
    [
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT), (6 / (FAN_IN + FAN_OUT)) ** 0.5),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT), None),
        ("he_uniform", 2 / FAN_IN, (6 / FAN_IN) ** 0.5),
        ("he_normal", 2 / FAN_IN, None),
        ("lecun_uniform", 1 / FAN_IN, (3 / FAN_IN) ** 0.5),
        ("lecun_normal", 1 / FAN_IN, None),
        ("random_normal", 0.05**2, None),
        ("random_uniform", 0.1**2 / 12, 0.05),
        # A normal truncated at two standard deviations keeps 0.7737 of its variance.
        ("truncated_normal", 0.05**2 * 0.7737, 0.1),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variance_and_bounds(name, variance, bound, dtype):
    seeding.set_seed(5)
    values = initializers.get(name)(SHAPE, dtype=dtype)
    assert (values.shape, values.dtype) == (SHAPE, np.dtype(dtype))
    assert values.var() == pytest.approx(variance, rel=0.03)
    assert abs(values.mean()) < 4 * (variance / values.size) ** 0.5
    if bound is not None:
        assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


def test_normals_of_scaled_variance_are_truncated():
    limit = 2 * (2 / FAN_IN) ** 0.5 / 0.87962566103423978
    assert np.abs(initializers.HeNormal(1)(SHAPE)).max() <= limit


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (2, 2, 30), (8, 3), (3, 8)])
def test_orthogonal_rows_or_columns(shape):
    matrix = initializers.Orthogonal(gain=2.0, seed=0)(shape, dtype="float64").reshape(-1, shape[-1])
    small = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


@pytest.mark.parametrize("name", RANDOM)
def test_seeds(name):
    kind = type(initializers.get(name))
    np.testing.assert_array_equal(kind(seed=3)((4, 5)), kind(seed=3)((4, 5)))
    assert (kind(seed=3)((4, 5)) != kind(seed=4)((4, 5))).any()
    one = kind(seed=3)
    np.testing.assert_array_equal(one((4, 5)), one((4, 5)))
    seeding.set_seed(1)
    first, second = kind()((4, 5)), kind()((4, 5))
    assert (first != second).any()
    seeding.set_seed(1)
    np.testing.assert_array_equal(kind()((4, 5)), first)


def test_constants():
    assert (initializers.get("zeros")((2, 3)) == 0).all()
    assert (initializers.get("ones")((2, 3), dtype="float64") == np.ones((2, 3))).all()
    assert (initializers.Constant(2.5)((2, 3)) == 2.5).all()


def test_functions_are_initializers():
    layer = nc.layers.Dense(2, kernel_initializer=lambda shape, dtype: np.full(shape, 3, dtype))
    layer.build((None, 4))
    assert (layer.kernel.data == 3).all()
    with pytest.raises(ValueError) as error:
        nc.layers.Dense(2, kernel_initializer=lambda shape, dtype: np.zeros(3)).build((None, 4))
    assert str(error.value) == "The initializer of 'kernel' in layer 'dense' returned shape (3,); expected (4, 2)."


def test_a_generator_in_use_stays_with_its_thread():
    seen = []
    with seeding.use_generator(np.random.default_rng(0)):
        inner = seeding.generator()
        thread = threading.Thread(target=lambda: seen.append(seeding.generator()))
        thread.start()
        thread.join()
    assert seen[0] is not inner
    assert seeding.generator() is not inner


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("l1", 0.01 * 6),
        ("l2", 0.01 * 14),
        ("l1_l2", 0.01 * 6 + 0.01 * 14),
        ("l1l2", 0.01 * 6 + 0.01 * 14),
        (regularizers.L1L2(l1=0.5), 0.5 * 6),
        (regularizers.L1L2(), 0.0),
        (regularizers.L2(0.1), 1.4),
        (lambda w: w.sum(), -4.0),
    ],
)
def test_regularizers(name, penalty):
    weight = nc.Tensor(np.array([1.0, -2.0, -3.0]), requires_grad=True)
    function = regularizers.get(name)
    assert float(function(weight)) == pytest.approx(penalty)


def test_regularizers_have_gradients():
    nc.grad_check(regularizers.L1L2(0.3, 0.2), np.array([1.0, -2.0, 3.0]))
    assert regularizers.get(None) is None


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: regularizers.L2(-0.1),
            ValueError,
            "Invalid value for argument l2: expected a non-negative float. Received: l2=-0.1. Pass for example 0.01.",
        ),
        (
            lambda: regularizers.get("l3"),
            ValueError,
            "Unknown regularizer: 'l3'. Names that work: 'l1', 'l1_l2', 'l1l2', 'l2'.",
        ),
        (
            lambda: initializers.VarianceScaling(mode="fan"),
            ValueError,
            "Invalid `mode` argument: 'fan'. Expected one of 'fan_in', 'fan_out', 'fan_avg'.",
        ),
        (
            lambda: initializers.VarianceScaling(scale=0.0),
            ValueError,
            "Argument `scale` must be positive float. Received: scale=0.0",
        ),
        (
            lambda: initializers.Orthogonal()((3,)),
            ValueError,
            "The tensor to initialize must be at least two-dimensional. Received: shape=(3,) of rank 1.",
        ),
        (
            lambda: seeding.set_seed(-1),
            ValueError,
            "`seed` must be a non-negative integer. Received: seed=-1. Pass for example seed=0.",
        ),
        (
            lambda: initializers.HeNormal(seed=0.5),
            TypeError,
            "`seed` must be a non-negative integer. Received: seed=0.5. Pass for example seed=0.",
        ),
    ],
)
def test_error_text(make, kind, text):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
