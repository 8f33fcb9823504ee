"""Training of layers in a row by programs: the gradients of the layers' own steps, and no layer of a user left out."""

from __future__ import annotations

import copy
import threading

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numbaconv as nc
from numbaconv.layers import training_stages
from numbaconv.program import Launches

layers = nc.layers

pytestmark = pytest.mark.usefixtures("direct_only")


def lenet(dtype="float32"):
    return [
        layers.Conv2D(6, 5, padding="same", activation="relu", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 3, activation="relu", dtype=dtype),
        layers.MaxPooling2D(3, strides=2, padding="same"),
        layers.Flatten(),
        layers.Dense(12, activation="relu", dtype=dtype),
        layers.Dense(5, dtype=dtype),
    ]


def wide(dtype="float32"):
    return [
        layers.Conv2D(33, 3, strides=2, padding="same", use_bias=False, dtype=dtype),
        layers.AveragePooling2D(2),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", dtype=dtype),
        layers.Conv2D(18, 1, groups=6, dtype=dtype),
        layers.Conv2DTranspose(7, 3, strides=2, activation="relu", dtype=dtype),
        layers.Dense(9, activation="relu", dtype=dtype),
        layers.MaxPooling2D(2),
        layers.GlobalMaxPooling2D(),
        layers.Dense(3, dtype=dtype),
    ]


def mixed(dtype="float32"):
    """Rows that end at layers which have no launches, or end with Python."""
    return [
        layers.Conv2D(8, 3, padding="same", activation="leaky_relu", dtype=dtype),
        layers.Conv2D(8, 3, padding="same", activation="relu", dtype=dtype),
        layers.BatchNormalization(dtype=dtype),
        layers.ReLU(),
        layers.Conv2D(4, 3, padding="same", padding_mode="reflect", activation="relu", dtype=dtype),
        layers.Conv2D(6, 3, activation=nc.fused_activation(double, derivative=two), dtype=dtype),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4, activation="relu", dtype=dtype),
        layers.Dense(3, activation="softmax", dtype=dtype),
    ]


def double(x):
    return 2 * x


def two(x):
    return 2.0


def sequential(x, row, **options):
    """Return a built model whose weights are small integers."""
    model = nc.Sequential(row, **options)
    model.build(x.shape)
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(rng.integers(-2, 3, weight.shape).astype(weight.dtype))
    return model


def images(rng, batch=4, dtype="float32"):
    return rng.integers(-3, 4, (batch, 16, 14, 3)).astype(dtype)


def gradients(apply, model, x, wants_input=True):
    """Return outputs, gradients of all weights and that of the inputs."""
    inputs = nc.Tensor(x, requires_grad=wants_input)
    outputs = apply(inputs)
    g = np.random.default_rng(2).integers(-2, 3, outputs.shape).astype(outputs.dtype)
    outputs.backward(g)
    found = [outputs.data, *(w.grad for w in model.weights), inputs.grad]
    for weight in model.weights:
        weight.zero_grad()
    return found


def step_by_step(model, training=True):
    def apply(x):
        for layer in model.layers:
            x = layer(x, training=training)
        return x

    return apply


def assert_same(model, x, wants_input=True, check=assert_array_equal):
    expected = gradients(step_by_step(model), model, x, wants_input)
    for _ in range(2):
        found = gradients(lambda inputs: model(inputs, training=True), model, x, wants_input)
        for a, b in zip(found, expected, strict=True):
            if b is None:
                assert a is None
            else:
                check(a, b)
                assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.fixture
def runs(monkeypatch):
    """Count runs of programs, and those whose results were void."""
    counts = {"valid": 0, "void": 0}
    run = Launches.run

    def counted(self, *arrays):
        is_valid = run(self, *arrays)
        counts["valid" if is_valid else "void"] += 1
        return is_valid

    monkeypatch.setattr(Launches, "run", counted)
    return counts


@pytest.mark.parametrize("wants_input", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 4, 11])
@pytest.mark.parametrize("row", [lenet, wide])
def test_gradients_are_those_of_the_layers(row, batch, dtype, wants_input, rng, runs):
    x = images(rng, batch, dtype)
    assert_same(sequential(x, row(dtype)), x, wants_input)
    assert runs == {"valid": 2 * 2, "void": 0}


def test_rows_of_other_layers_are_cut_there(rng, runs):
    x = images(rng).astype("float64")
    close = lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-9)  # noqa: E731
    assert_same(sequential(x, mixed("float64")), x, check=close)
    assert runs["valid"] >= 2 * 4


@pytest.mark.parametrize("frozen", [(0,), (2,), (0, 2, 5), (5, 6), (0, 2, 5, 6)])
def test_frozen_layers(frozen, rng):
    x = images(rng)
    model = sequential(x, lenet())
    assert_same(model, x)
    for i in frozen:
        model.layers[i].trainable = False
    assert_same(model, x)
    if len(frozen) < 4:
        assert_same(model, x, wants_input=False)
    model.trainable = True
    assert_same(model, x, wants_input=False)


def test_inputs_of_any_layout(rng):
    x = images(rng)
    model = sequential(x, lenet())
    assert_same(model, np.asfortranarray(x))
    assert_same(model, images(rng, 8)[::2])
    assert_same(model, images(rng, 0))


def test_a_gradient_of_any_layout(rng):
    x = images(rng)
    model = sequential(x, lenet())
    g = rng.integers(-2, 3, (5, 4)).astype("float32").T
    for apply in (step_by_step(model), model):
        apply(x).backward(g)
    sums = [w.grad for w in model.weights]
    model(x).backward(np.ascontiguousarray(2 * g))
    for total, weight in zip(sums, model.weights, strict=True):
        assert_array_equal(weight.grad, 2 * total)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "weight", "g"])
def test_numbers_that_are_not_finite(where, value, rng):
    x = rng.integers(-3, 4, (4, 28, 28, 1)).astype("float32")
    model = sequential(x, [layers.Conv2D(6, 5, padding="same"), layers.Conv2D(6, 5), layers.Conv2D(1, 5)])
    g = np.ones((4, 20, 20, 1), "float32")
    if where == "x":
        x[1, 3, 4, 0] = value
    elif where == "weight":
        model.layers[1].kernel.data[0, 1, 2, 3] = value
    else:
        g[2, 3, 4] = value
    found = []
    for apply in (step_by_step(model), model):
        with np.errstate(all="ignore"), nc.autograd.tape.recording():
            inputs = nc.Tensor(x, requires_grad=True)
            outputs = apply(inputs)
        with nc.no_grad(), np.errstate(all="ignore"):
            outputs.backward(g)
        found.append([inputs.grad, *(w.grad.copy() for w in model.weights)])
        for weight in model.weights:
            weight.zero_grad()
    for a, b in zip(*found, strict=True):
        assert_array_equal(a, b)
    assert not all(np.isfinite(a).all() for a in found[1])


@pytest.mark.parametrize("void", [(3,), (6,), (3, 6)], ids=["forward", "back", "both"])
def test_void_programs(void, rng, monkeypatch):
    """Where a program has no result, the layers run themselves."""
    x = images(rng)
    model = sequential(x, lenet())
    assert_same(model, x)
    run = Launches.run
    monkeypatch.setattr(Launches, "run", lambda self, *arrays: run(self, *arrays) and len(arrays) not in void)
    assert_same(model, x)
    for layer in model.layers[:3]:
        layer.trainable = False
    assert_same(model, x, wants_input=False)


def test_two_batches_before_their_gradients(rng):
    model = sequential(images(rng), lenet())
    pairs = [(images(rng), rng.integers(-2, 3, (4, 5)).astype("float32")) for _ in range(2)]
    for apply in (step_by_step(model), model):
        outputs = [apply(x) for x, _ in pairs]
        for y, (_, g) in zip(outputs, pairs, strict=True):
            y.backward(g)
        sums = [w.grad for w in model.weights]
        for weight in model.weights:
            weight.zero_grad()
        if apply is not model:
            expected = sums
    for a, b in zip(sums, expected, strict=True):
        assert_array_equal(a, b)


def test_gradients_are_freed_as_on_the_tape(rng):
    model = sequential(images(rng), lenet())
    y = model(images(rng))
    y.backward(np.ones(y.shape), retain_graph=True)
    once = model.weights[0].grad.copy()
    y.backward(np.ones(y.shape))
    assert_array_equal(model.weights[0].grad, 2 * once)
    with pytest.raises(RuntimeError, match=r"backward\(\) has already run through this graph"):
        y.backward(np.ones(y.shape))


def test_gradients_are_arrays_of_their_own(rng):
    model = sequential(images(rng), lenet())
    y = model(images(rng))
    y.backward(np.ones(y.shape))
    grads = [w.grad for w in model.weights]
    for i, a in enumerate(grads):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in (*grads[:i], y.data, *(w.data for w in model.weights)))


def change_kernel(model):
    model.layers[2].kernel.data = model.layers[2].kernel.data + 1


def change_activation(model):
    model.layers[0].activation = nc.autograd.ops.tanh


def change_layout(model):
    model.layers[2].kernel.data = np.asfortranarray(model.layers[2].kernel.data)


@pytest.mark.parametrize("change", [change_kernel, change_activation, change_layout])
def test_changes_are_seen(change, rng):
    x = images(rng)
    model = sequential(x, lenet())
    assert_same(model, x)
    change(model)
    assert_same(model, x, check=lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-3))


def test_a_layer_that_comes_twice(rng):
    x = rng.integers(-2, 3, (3, 6)).astype("float32")
    shared = layers.Dense(6, activation="relu")
    assert_same(sequential(x, [shared, layers.Dense(6), shared, layers.Dense(2)]), x)


def test_layers_with_a_call_of_their_own_are_called(rng):
    class Doubled(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    x = rng.integers(-2, 3, (3, 6)).astype("float32")
    model = sequential(x, [layers.Dense(4, "relu"), Doubled(5), layers.Dense(2)])
    assert_same(model, x)


def test_errors_are_those_of_the_layers(rng):
    model = sequential(images(rng), lenet())
    wrong = np.zeros((2, 16, 14, 4), "float32")
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3") as by_layers:
        step_by_step(model)(wrong)
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3") as by_model:
        model(wrong, training=True)
    assert str(by_layers.value) == str(by_model.value)


def test_training_is_the_same_as_by_the_layers(rng, monkeypatch):
    x, y = rng.random((32, 16, 14, 3), np.float32), rng.integers(0, 5, 32)
    weights = []
    for are_wanted in (training_stages.are_stages_wanted, lambda: False):
        monkeypatch.setattr("numbaconv.model.sequential.are_stages_wanted", are_wanted)
        row = lenet()
        row[2].kernel_regularizer = nc.regularizers.get("l2")
        model = nc.Sequential(row, seed=3)
        loss = nc.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(nc.optimizers.SGD(0.05, momentum=0.9), loss)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_copies_of_models_have_programs_of_their_own(rng):
    x = images(rng)
    model = sequential(x, lenet())
    assert_same(model, x)
    other = copy.deepcopy(model)
    for weight in other.weights:
        weight.data += 1
    assert_same(other, x)
    assert_same(model, x)


def test_threads_may_train_with_one_model(rng):
    model = sequential(images(rng), lenet())
    x = images(rng)
    expected = gradients(step_by_step(model), model, x)[-1]
    wrong = []

    def work():
        for _ in range(5):
            inputs = nc.Tensor(x, requires_grad=True)
            outputs = model(inputs)
            outputs.backward(np.random.default_rng(2).integers(-2, 3, outputs.shape).astype("float32"))
            if not np.array_equal(inputs.grad, expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_results_do_not_depend_on_the_number_of_threads(rng):
    x = rng.standard_normal((9, 24, 26, 3)).astype("float32")
    model = nc.Sequential(lenet(), seed=0)
    model(x)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = gradients(model, model, x)
    finally:
        numba.set_num_threads(before)
    for a, b in zip(gradients(model, model, x), alone, strict=True):
        assert_array_equal(a, b)
