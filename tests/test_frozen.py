"""Frozen layers: weights that nobody can write to, kernels that are packed and transformed once, the same results."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numbaconv as nc
from numbaconv import parallel
from numbaconv.algorithms import few_rows
from numbaconv.constants import constant, is_constant, made_once
from numbaconv.kernels.winograd import winograd_kernel
from numbaconv.simd.driver import KERNEL

layers = nc.layers

LAYERS = {
    "3x3": ((14, 13, 40), lambda: layers.Conv2D(48, 3, padding="same", activation="relu")),
    "3x3 of few pixels": ((7, 7, 96), lambda: layers.Conv2D(80, 3, padding="same")),
    "5x5": ((17, 17, 32), lambda: layers.Conv2D(33, 5)),
    "1x1": ((9, 9, 72), lambda: layers.Conv2D(50, 1, activation="relu")),
    "strided": ((15, 15, 24), lambda: layers.Conv2D(40, 3, strides=2, padding="same")),
    "dilated": ((20, 20, 24), lambda: layers.Conv2D(24, 3, dilation_rate=2, padding="same")),
    "grouped": ((12, 12, 32), lambda: layers.Conv2D(64, 3, groups=4)),
    "few channels": ((30, 30, 3), lambda: layers.Conv2D(20, 7, strides=2, activation="relu")),
    "one filter": ((24, 24, 16), lambda: layers.Conv2D(1, 5, padding="same")),
    "depthwise": ((12, 12, 40), lambda: layers.DepthwiseConv2D(3, padding="same")),
    "separable": ((12, 12, 24), lambda: layers.SeparableConv2D(40, 3, padding="same", activation="relu")),
    "causal": ((50, 24), lambda: layers.Conv1D(32, 3, padding="causal", dilation_rate=4)),
    "volume": ((8, 9, 10, 16), lambda: layers.Conv3D(20, 3, padding="same")),
    "transposed": ((7, 7, 40), lambda: layers.Conv2DTranspose(24, 4, strides=2, padding="same")),
    "image output": ((12, 12, 24), lambda: layers.Conv2DTranspose(3, 4, strides=2, padding="same")),
    "borders of their own": ((6, 6, 64), lambda: layers.Conv2D(64, 3, padding="same", padding_mode="zeros")),
    "a user's activation": ((14, 14, 24), lambda: layers.Conv2D(16, 3, activation=nc.fused_activation(cube))),
    "dense": ((500,), lambda: layers.Dense(130, activation="relu")),
}


def cube(x):
    return x * x * x


def twins(shape, make, seed=0):
    """Return a model of one layer and another one with the same weights, which is frozen."""
    model, frozen = (nc.Sequential([layers.Input(shape), make()]) for _ in range(2))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.integers(-3, 4, weight.shape).astype(np.float32) for weight in model.weights])
    frozen.set_weights(model.get_weights())
    frozen.freeze()
    return model, frozen


def assert_same_results(model, frozen, x, **tolerance):
    with nc.no_grad():
        expected = model(x).numpy()
        for _ in range(3):
            assert_allclose(frozen(x).numpy(), expected, **tolerance)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_direct_results_are_exact(name, batch, rng, monkeypatch):
    shape, make = LAYERS[name]
    model, frozen = twins(shape, make)
    x = rng.integers(-3, 4, (batch, *shape)).astype(np.float32)
    monkeypatch.setattr(nc.config, "winograd", False)
    assert_same_results(model, frozen, x, rtol=0)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_results_are_those_of_layers_that_are_not_frozen(name, batch, rng):
    shape, make = LAYERS[name]
    model, frozen = twins(shape, make)
    x = rng.standard_normal((batch, *shape), np.float32)
    with nc.no_grad():
        scale = np.abs(model(x).numpy()).max()
    assert_same_results(model, frozen, x, rtol=0, atol=2e-6 * float(scale))


def test_float64(rng):
    model, frozen = (
        nc.Sequential([layers.Input((9, 9, 20)), layers.Conv2D(30, 3, dtype="float64")], seed=1) for _ in range(2)
    )
    frozen.freeze()
    assert_same_results(model, frozen, rng.standard_normal((2, 9, 9, 20)), rtol=1e-12)


def launches_of(model):
    return [launch for stage in model._stages._stages.values() for launch, _ in stage._program._launches._steps]


def test_kernels_are_transformed_once(rng):
    _, frozen = twins((28, 28, 64), lambda: layers.Conv2D(64, 3, padding="same"))
    x = rng.standard_normal((1, 28, 28, 64), np.float32)
    runs = []
    run = parallel.Launch.__call__

    def counted(self, *arrays):
        runs.append(self)
        run(self, *arrays)

    parallel.Launch.__call__ = counted
    try:
        with nc.no_grad():
            for _ in range(3):
                frozen(x)
            (product,) = launches_of(frozen)
            assert [launch._plan[KERNEL] for launch in runs] == [winograd_kernel.address("float32")]
    finally:
        parallel.Launch.__call__ = run
    assert product not in runs


def test_programs_of_several_shapes_share_what_is_transformed(rng):
    _, frozen = twins((None, None, 64), lambda: layers.Conv2D(64, 3, padding="same"))
    kernel = frozen.layers[-1].kernel.data
    with nc.no_grad():
        for size in (28, 32):
            frozen(rng.standard_normal((1, size, size, 64), np.float32))
    assert len(kernel.base.made) == 1


def test_what_is_made_of_a_kernel_goes_with_the_programs_that_use_it(rng):
    _, frozen = twins((10, 10, 24), lambda: layers.Conv2D(24, 3, strides=2))
    kernel = frozen.layers[-1].kernel.data
    with nc.no_grad():
        frozen(rng.standard_normal((1, 10, 10, 24), np.float32))
    assert len(kernel.base.made) == 1
    frozen.unfreeze()
    with nc.no_grad():
        frozen(rng.standard_normal((1, 10, 10, 24), np.float32))
    gc.collect()
    assert len(kernel.base.made) == 0


# --- weights ---------------------------------------------------------------------------------------------------------


def test_frozen_weights_cannot_be_written_to():
    model = nc.Sequential([layers.Input((5,)), layers.Dense(3)])
    before = model.get_weights()
    model.freeze()
    kernel = model.layers[-1].kernel
    assert kernel.data.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        kernel.data[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        kernel.data.flags.writeable = True
    with pytest.raises(ValueError, match=r"'kernel' is frozen\. Call `unfreeze\(\)`"):
        kernel.assign(np.zeros((5, 3)))
    for after, weight in zip(model.get_weights(), before, strict=True):
        assert_array_equal(after, weight)
        after[...] = 0  # a copy


def test_weights_of_frozen_layers_are_not_overwritten(tmp_path):
    model = nc.Sequential([layers.Input((5,)), layers.Dense(3), layers.Dense(2)])
    model.save_weights(tmp_path / "w.safetensors")
    model.layers[-1].freeze()
    before = model.get_weights()
    zeros = [np.zeros(weight.shape, np.float32) for weight in model.weights]
    for overwrite in (lambda: model.set_weights(zeros), lambda: model.load_weights(tmp_path / "w.safetensors")):
        with pytest.raises(ValueError, match=r"kernel, .*bias are frozen\. Call `unfreeze\(\)`"):
            overwrite()
    for after, weight in zip(model.get_weights(), before, strict=True):
        assert_array_equal(after, weight)


def test_a_layer_without_weights_yet_is_not_frozen():
    with pytest.raises(ValueError, match=r"'dense' cannot be frozen: it isn't built"):
        layers.Dense(3).freeze()


def test_unfrozen_weights_are_trained_and_seen(rng):
    model, frozen = twins((9, 9, 24), lambda: layers.Conv2D(24, 3))
    x = rng.standard_normal((1, 9, 9, 24), np.float32)
    assert_same_results(model, frozen, x, rtol=1e-4, atol=1e-4)
    frozen.unfreeze()
    assert frozen.trainable and len(frozen.trainable_weights) == 2
    for each in (model, frozen):
        each.layers[-1].kernel.data[...] *= 2
    assert_same_results(model, frozen, x, rtol=1e-4, atol=1e-4)
    frozen.freeze()
    assert_same_results(model, frozen, x, rtol=1e-4, atol=1e-4)
    frozen.freeze()  # once more changes nothing
    assert_same_results(model, frozen, x, rtol=1e-4, atol=1e-4)


def test_layers_behind_frozen_ones_are_trained(rng):
    convolutions = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(16, 3)]
    base = nc.Sequential([layers.Input((12, 12, 3)), *convolutions])
    base.freeze()
    before = base.get_weights()
    head = [layers.Flatten(), layers.Dense(5)]
    model = nc.Sequential([layers.Input((12, 12, 3)), *convolutions, *head])
    model.compile(optimizer=nc.optimizers.Adam(1e-2), loss=nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = rng.standard_normal((20, 12, 12, 3), np.float32), rng.integers(0, 5, 20)
    losses = [model.train_step(x, y)[0] for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]
    for after, weight in zip(base.get_weights(), before, strict=True):
        assert_array_equal(after, weight)


def test_gradients_pass_through_frozen_layers(rng):
    model, frozen = twins((10, 10, 24), lambda: layers.Conv2D(24, 3, padding="same"))
    gradients = []
    for each in (model, frozen):
        x = nc.Tensor(np.random.default_rng(0).standard_normal((2, 10, 10, 24), np.float32), requires_grad=True)
        each(x).sum().backward()
        gradients.append(x.grad)
    assert_allclose(np.asarray(gradients[1]), np.asarray(gradients[0]), rtol=1e-5, atol=1e-4)


def test_a_frozen_weight_is_not_handed_to_an_optimizer():
    weight = nc.layers.Parameter(np.ones(3, np.float32))
    weight.freeze()
    weight.grad = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"frozen and cannot be trained\. Call `unfreeze\(\)`"):
        nc.optimizers.SGD(0.1).apply([weight])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_can_be_written_to(duplicate, rng):
    model, frozen = twins((8, 8, 8), lambda: layers.Conv2D(24, 3))
    other = duplicate(frozen)
    x = rng.standard_normal((1, 8, 8, 8), np.float32)
    assert_same_results(model, other, x, rtol=1e-4, atol=1e-4)
    other.layers[-1].kernel.data[...] = 0
    other.layers[-1].bias.data[...] = 0
    with nc.no_grad():
        assert not other(x).numpy().any()
    assert_same_results(model, frozen, x, rtol=1e-4, atol=1e-4)


def test_threads_run_one_frozen_model(rng):
    model, frozen = twins((14, 14, 32), lambda: layers.Conv2D(64, 3, strides=2))
    x = rng.standard_normal((1, 14, 14, 32), np.float32)
    with nc.no_grad():
        expected = model(x).numpy()
    barrier = threading.Barrier(4)

    def run(number):
        barrier.wait()
        with nc.no_grad():
            return [np.allclose(frozen(x).numpy(), expected, rtol=1e-4, atol=1e-4) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert all(map(all, pool.map(run, range(4))))


# --- constants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)])
def test_constants(shape, rng):
    array = np.asarray(rng.standard_normal(shape[::-1])).T
    fixed = constant(array)
    assert_array_equal(fixed, array)
    assert is_constant(fixed) and not is_constant(array) and not is_constant(fixed[...])
    assert fixed.flags.c_contiguous and fixed.dtype == array.dtype


def test_what_is_made_of_a_constant_is_made_again_once_nobody_uses_it():
    fixed, made = constant(np.ones(3)), []

    def make():
        made.append(1)
        return np.zeros(2)

    first = made_once(fixed, "a", make)
    assert made_once(fixed, "a", make) is first
    assert made_once(fixed, "b", make) is not first
    assert len(made) == 2
    del first
    gc.collect()
    made_once(fixed, "a", make)
    assert len(made) == 3


# --- rows of a matrix that meet a zero -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_relu", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [0, 0.5, 0.97, 1])
@pytest.mark.parametrize(("depth", "units"), [(1, 1), (37, 5), (1000, 130), (5000, 64), (40, 70_000), (700, 300)])
def test_products_without_the_rows_that_meet_zeros_are_exact(depth, units, share, dtype, is_relu, rng):
    x = rng.integers(-3, 4, (1, depth)).astype(dtype)
    x[rng.random((1, depth)) < share] = 0
    matrix, bias = rng.integers(-3, 4, (depth, units)).astype(dtype), rng.integers(-3, 4, units).astype(dtype)
    expected = x @ matrix + bias
    y = np.empty((1, units), dtype)
    if share > 0:
        # With so many zeros nothing of these rows may be read: NaN would show.
        matrix[x[0] == 0] = np.nan
    few_rows.launch(1, depth, units, dtype, True, is_relu, True)(x, matrix, y, bias)
    assert_array_equal(y, np.maximum(expected, 0) if is_relu else expected)


def test_numbers_that_are_none_are_multiplied():
    x, matrix, y = np.array([[0, np.nan, 0]], np.float32), np.ones((3, 9), np.float32), np.empty((1, 9), np.float32)
    few_rows.launch(1, 3, 9, "float32", False, False, True)(x, matrix, y)
    assert np.isnan(y).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_meet_zeros(value):
    model = nc.Sequential([layers.Input((300,)), layers.Dense(40)])
    model.layers[-1].kernel.data[7, 3] = value
    model.freeze()
    with nc.no_grad():
        y = model(np.zeros((1, 300), np.float32)).numpy()
    assert np.isnan(y[0, 3]) and np.isfinite(np.delete(y, 3)).all()
