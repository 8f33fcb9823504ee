"""Inference of layers in a row: the same values as with gradients, the same errors, and no call of a user left out."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv import planner, program
from numbaconv.layers import stages

layers = nc.layers


def network(dtype="float32", **options):
    return nc.Sequential(
        [
            layers.Conv2D(6, 5, padding="same", activation="relu", dtype=dtype, **options),
            layers.MaxPooling2D(2, **options),
            layers.Conv2D(8, 3, activation="tanh", use_bias=False, padding_mode="reflect", dtype=dtype, **options),
            layers.AveragePooling2D(2, **options),
            layers.Flatten(**options),
            layers.Dense(20, activation="relu", dtype=dtype),
            layers.Dense(10, activation="softmax", dtype=dtype),
        ]
    )


def mobile(dtype="float32"):
    """A network of the other layers that have launches, and of some that have none."""
    return nc.Sequential(
        [
            layers.Conv2D(24, 3, strides=2, padding="same", activation=nc.fused_activation(cube), dtype=dtype),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(),
            layers.Conv2D(32, 3, padding="same", groups=2, dtype=dtype),
            layers.Dropout(0.5),
            layers.Conv2D(40, 3, padding="same", activation="relu", dtype=dtype),
            layers.SeparableConv2D(16, 3, dtype=dtype),
            layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="sigmoid", dtype=dtype),
            layers.Dense(5, activation="relu", dtype=dtype),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, dtype=dtype),
        ]
    )


def normalized(dtype="float32"):
    """Normalisation and relu as layers of their own, on few and many channels."""

    def block(filters, activation, **options):
        initializers = {f"{name}_initializer": "glorot_uniform" for name in ("beta", "gamma", "moving_mean")}
        norm = layers.BatchNormalization(
            moving_variance_initializer=nc.initializers.RandomUniform(0.1, 2), dtype=dtype, **initializers, **options
        )
        return [layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype), norm, activation]

    return nc.Sequential(
        [
            *block(3, layers.ReLU()),
            *block(70, layers.Activation("relu"), center=False),
            *block(600, layers.Activation("linear"), scale=False),
            layers.GlobalMaxPooling2D(),
            layers.BatchNormalization(axis=1, dtype=dtype),
            layers.Dense(3, dtype=dtype),
            layers.Activation("softmax"),
        ]
    )


def cube(x):
    return x * x * x


def eagerly(model, x):
    with nc.no_grad():
        for layer in model.layers:
            x = layer(x, training=False)
    return x.numpy()


def both_ways(model, x):
    with nc.no_grad():
        quick = [model(x).numpy() for _ in range(3)]
    recorded = model(x).numpy()
    assert_array_equal(eagerly(model, x), recorded)
    return recorded, quick


def assert_same(model, x):
    recorded, quick = both_ways(model, x)
    for y in quick:
        assert y.dtype == recorded.dtype
        assert_array_equal(y, recorded)


@pytest.fixture
def runs(monkeypatch):
    """Count runs of programs, and those whose results were void."""
    counts = {"valid": 0, "void": 0}
    call = program.Program.__call__

    def counted(self, x):
        y = call(self, x)
        counts["void" if y is None else "valid"] += 1
        return y

    monkeypatch.setattr(program.Program, "__call__", counted)
    return counts


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("batch", [1, 5, 0])
def test_values_are_those_of_a_recorded_call(batch, data_format, rng):
    model = network(data_format=data_format)
    shape = (batch, 12, 14, 3) if data_format == "channels_last" else (batch, 3, 12, 14)
    assert_same(model, rng.standard_normal(shape, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("make", "programs"), [(network, 2), (mobile, 2), (normalized, 1)])
@pytest.mark.parametrize("batch", [1, 9])
def test_programs_have_the_bits_of_the_layers(batch, make, programs, dtype, rng, runs):
    model = make(dtype)
    assert_same(model, rng.standard_normal((batch, 16, 18, 3)).astype(dtype))
    assert runs == {"valid": 3 * programs, "void": 0}


@pytest.mark.parametrize("last", [layers.Softmax(), layers.Activation("softmax"), layers.Softmax(axis=2)], ids=repr)
@pytest.mark.parametrize(("classes", "programs"), [(64, 1), (65, 2)])
def test_softmax_of_few_classes_is_a_part_of_programs(last, classes, programs, rng, runs):
    dense = [layers.Dense(n, activation="softmax") for n in (classes, 9)]
    model = nc.Sequential([*dense, last, layers.Dense(3)])
    assert_same(model, rng.standard_normal((4, 6, 20), np.float32))
    assert runs["valid"] == 3 * programs


def test_softmax_along_another_axis(rng, runs):
    model = nc.Sequential([layers.Dense(5, activation="relu"), layers.Softmax(axis=1), layers.Dense(3)])
    assert_same(model, rng.standard_normal((4, 6, 20), np.float32))
    assert runs["valid"] == 6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
def test_normalisation_and_relu_of_numbers_that_are_none(value, rng):
    model = nc.Sequential([layers.ReLU(), layers.BatchNormalization(), layers.ReLU()])
    x = rng.standard_normal((2, 5, 7), np.float32)
    x[0, 2, 3] = value
    with np.errstate(all="ignore"):
        recorded, quick = both_ways(model, x)
    for y in quick:
        assert y.tobytes() == recorded.tobytes()


@pytest.mark.parametrize("rank", [1, 3])
def test_any_number_of_axes(rank, rng, runs):
    conv, pool = (getattr(layers, f"{name}{rank}D") for name in ("Conv", "MaxPooling"))
    model = nc.Sequential([conv(8, 3, padding="causal", dilation_rate=2, activation="relu"), pool(2), conv(4, 2)])
    assert_same(model, rng.standard_normal((2, *(12, 9, 8)[:rank], 4), np.float32))
    assert runs["valid"] == 3


def test_a_usual_network_is_one_program(rng, runs):
    model = nc.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(10),
        ]
    )
    x = rng.standard_normal((1, 28, 28, 1), np.float32)
    with nc.no_grad():
        model(x)
    assert runs == {"valid": 1, "void": 0}
    assert_array_equal(model.predict(x), model(x).numpy())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("activation", ["relu", nc.fused_activation(cube)])
def test_joined_outputs_of_what_is_not_finite_are_computed_as_ever(value, activation, rng, runs, direct_alone):
    """A few channels in and out: neighbouring outputs share products, which NaN and infinity would leak through."""
    layer = layers.Conv2D(1, 5, padding="same", activation=activation)
    model = nc.Sequential([layer, layers.MaxPooling2D(2)])
    x = rng.standard_normal((1, 40, 40, 1), np.float32)
    assert_same(model, x)
    assert runs == {"valid": 3, "void": 0}
    x[0, 20, 20, 0] = value
    with np.errstate(all="ignore"):
        recorded, quick = both_ways(model, x)
    for y in quick:
        assert_array_equal(y, recorded)
    assert runs == {"valid": 3, "void": 3}
    assert np.isfinite(recorded).sum() >= recorded.size - 9


def test_new_weights_options_and_shapes_are_seen(rng):
    model = network()
    x = rng.standard_normal((2, 12, 14, 3), np.float32)
    assert_same(model, x)
    model.set_weights([rng.standard_normal(w.shape).astype(np.float32) for w in model.get_weights()])
    assert_same(model, x)
    model.layers[0].activation = nc.ops.tanh
    assert_same(model, x)
    assert_same(model, x[:1])
    with nc.no_grad(), pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        model(x[..., :2])


def test_arrays_and_layers_put_in_place_of_others_are_seen(rng):
    model = network()
    x = rng.standard_normal((2, 12, 14, 3), np.float32)
    assert_same(model, x)
    kernel = model.layers[5].kernel
    kernel.data = rng.standard_normal(kernel.shape).astype(np.float32)
    assert_same(model, x)
    kernel.data = np.asfortranarray(kernel.data * 2)
    assert_same(model, x)
    model.layers[0].kernel = layers.Parameter(np.ones((5, 5, 3, 6), np.float32), "kernel")
    assert_same(model, x)
    model.pop()
    model.add(layers.Dense(3))
    assert_same(model, x)
    model._layers[-1] = layers.Dense(4)
    assert_same(model, x)
    model.layers[5].mask = np.zeros(3)
    assert_same(model, x)
    model.layers[5].mask = np.zeros(3)
    assert_same(model, x)


def test_a_layer_that_can_be_recorded_in_part_is_called(rng, runs):
    model = nc.Sequential([layers.Conv2D(4, 3), layers.SeparableConv2D(6, 3)])
    x = rng.standard_normal((1, 9, 9, 3), np.float32)
    assert_same(model, x)
    assert runs["valid"] == 3
    pointwise = model.layers[1].pointwise_kernel
    pointwise.data = np.asfortranarray(pointwise.data)
    assert_same(model, x)
    assert [stage.stop for stage in model._stages._stages.values()] == [1, 2]


def test_training_is_seen(rng):
    model = nc.Sequential([layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(3)], seed=0)
    model.compile("adam", "mse")
    x, y = rng.standard_normal((4, 6, 6, 2), np.float32), rng.standard_normal((4, 3), np.float32)
    before = model.predict(x)
    model.train_step(x, y)
    assert not np.array_equal(model.predict(x), before)
    assert_same(model, x)


def test_results_are_arrays_of_their_own(rng):
    model = network()
    x = rng.standard_normal((1, 12, 14, 3), np.float32)
    with nc.no_grad():
        first = model(x).numpy()
        kept = first.copy()
        second = model(2 * x).numpy()
        assert not np.shares_memory(first, second)
        second[...] = 0
        assert_array_equal(first, kept)
        assert_array_equal(model(x).numpy(), kept)


def test_settings_are_seen(rng):
    model = nc.Sequential([layers.Conv2D(64, 3, padding="same"), layers.Conv2D(64, 3, padding="same")])
    x = rng.standard_normal((1, 40, 40, 64), np.float32)
    assert_same(model, x)
    with nc.no_grad():
        before = model(x).numpy()
    nc.config.winograd = False
    try:
        assert_same(model, x)
        with nc.no_grad():
            assert not np.array_equal(model(x).numpy(), before)
    finally:
        nc.config.winograd = True


@pytest.mark.parametrize("kind", ["read-only", "reversed", "Fortran", "float64"])
def test_inputs_of_other_kinds(kind, rng):
    model = network()
    x = rng.standard_normal((2, 12, 14, 3), np.float32)
    assert_same(model, x)
    given = {
        "read-only": x.copy(),
        "reversed": x[::-1],
        "Fortran": np.asfortranarray(x),
        "float64": x.astype("float64"),
    }
    if kind == "read-only":
        given[kind].setflags(write=False)
    assert_same(model, given[kind])


def test_float64_inputs_are_converted_each_time(rng):
    model = network()
    recorded, quick = both_ways(model, rng.standard_normal((2, 12, 14, 3)))
    for y in quick:
        assert y.dtype == np.float32
        assert_array_equal(y, recorded)


def test_large_networks_have_no_program(monkeypatch, rng, runs):
    monkeypatch.setattr(program, "MAX_BYTES_BETWEEN", 100)
    model = nc.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D(2), layers.Conv2D(4, 3)])
    assert_same(model, rng.standard_normal((2, 12, 14, 3), np.float32))
    assert runs["valid"] == 3  # the last layer passes nothing on


def test_stages_are_bounded(monkeypatch, rng):
    monkeypatch.setattr(stages, "MAX_STAGES", 3)
    model = nc.Sequential([layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Softmax(), layers.Dense(2)])
    for size in (*range(10, 20), 10):
        assert_same(model, rng.standard_normal((1, size, 12, 3), np.float32))
        assert len(model._stages._stages) <= 3


def test_copies_of_a_model_have_programs_of_their_own(rng):
    model = network()
    x = rng.standard_normal((1, 12, 14, 3), np.float32)
    recorded, _ = both_ways(model, x)
    other = copy.deepcopy(model)
    other.set_weights([0 * w for w in other.get_weights()])
    assert_same(other, x)
    assert_same(model, x)
    assert_array_equal(model(x).numpy(), recorded)


def test_threads_run_one_model(rng):
    model = network()
    inputs = [rng.standard_normal((1 + i % 2, 12, 14, 3), np.float32) for i in range(4)]
    wanted, failures = [eagerly(model, x) if model.built else model(x).numpy() for x in inputs], []

    def work(number):
        with nc.no_grad():
            for i in range(60):
                if i % 20 == number:
                    planner.clear_plans()
                index = (i + number) % len(inputs)
                if not np.array_equal(model(inputs[index]).numpy(), wanted[index]):
                    failures.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_calls_of_a_user_are_made():
    class Doubled(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    class Counted(layers.Flatten):
        count = 0

        def __call__(self, inputs, training=None):
            Counted.count += 1
            return super().__call__(inputs, training)

    model = nc.Sequential([Counted(), Doubled(3), layers.Dropout(0.5)])
    x = np.ones((2, 2, 2), np.float32)
    recorded, quick = both_ways(model, x)
    for y in quick:
        assert_array_equal(y, recorded)
    assert Counted.count == 5


def test_errors_are_those_of_the_layers():
    model = nc.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    x = np.ones((1, 8, 8, 1), np.float32)
    with nc.no_grad():
        model(x)
        for shape in [(1, 9, 8, 1), (1, 2, 8, 1), (1, 8, 8, 2), (8, 8, 1)]:
            with pytest.raises(ValueError) as quick:
                model(np.ones(shape, np.float32))
            with pytest.raises(ValueError) as eager:
                eagerly(model, np.ones(shape, np.float32))
            assert str(quick.value) == str(eager.value)


def test_training_inside_no_grad_trains():
    model = nc.Sequential([layers.Dense(50), layers.Dropout(0.5)])
    x = np.ones((4, 3), np.float32)
    with nc.no_grad():
        assert (model(x, training=True).numpy() == 0).any()
        assert not (model(x).numpy() == 0).any()
