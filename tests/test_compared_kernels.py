"""Transformed kernels that last from run to run of a program: only as long as the weights are what they were."""

from __future__ import annotations

import threading

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv import program
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.algorithms.winograd_blocks import KernelPlace, deal
from numbaconv.kernels.winograd import winograd_kernel
from numbaconv.runs import CALLS
from numbaconv.simd.driver import KERNEL
from numbaconv.spec import resolve_conv

layers = nc.layers

SHAPE = (40, 40, 32)


@pytest.fixture(autouse=True)
def _without_gradients():
    with nc.no_grad():
        yield


def make_model(seed=0, filters=(64,)):
    model = nc.Sequential([layers.Input(SHAPE), *(layers.Conv2D(count, 3, activation="relu") for count in filters)])
    rng = np.random.default_rng(seed)
    model.set_weights([rng.integers(-3, 4, weight.shape).astype(np.float32) for weight in model.weights])
    return model


def image(seed=0):
    return np.random.default_rng(seed).integers(-3, 4, (1, *SHAPE)).astype(np.float32)


def result_of_a_new_model(model, x):
    new = nc.Sequential(
        [layers.Input(SHAPE), *(layers.Conv2D(layer.filters, 3, activation="relu") for layer in model.layers)]
    )
    new.set_weights(model.get_weights())
    return new(x).numpy()


def kept_by(model, x):
    """Return how many buffers last in the program for inputs like x."""
    return sum(len(launch.kept) for launch, _ in steps_of(model, x))


def steps_of(model, x):
    model(x)
    return model._stages.find_whole(model._layers, x, model.check_input_shape)._program._launches._steps


def _is_kept():
    spec = resolve_conv((1, *SHAPE), (3, 3, 32, 64), dtype="float32")
    return deal(spec, "forward", *array_strides(spec)).place is KernelPlace.KEPT


needs_kept_kernels = pytest.mark.skipif(not _is_kept(), reason="workers share the transformed kernel")


@needs_kept_kernels
def test_a_program_keeps_what_it_makes_of_a_kernel():
    x, model = image(), make_model()
    assert kept_by(model, x) == 2
    first = model(x).numpy().copy()
    for _ in range(20):
        assert_array_equal(model(x).numpy(), first)
    assert_array_equal(first, result_of_a_new_model(model, x))


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 1, 17, 21), (2, 2, 31, 63)], ids=["first", "middle", "last"])
def test_one_number_that_is_written_in_place_is_noticed(place):
    x, model = image(), make_model()
    for value in (5.0, -1.0, 0.0, 2.0):
        for _ in range(3):
            model(x)
        model.weights[0].data[place] = value
        assert_array_equal(model(x).numpy(), result_of_a_new_model(model, x))
        assert_array_equal(model(x).numpy(), result_of_a_new_model(model, x))


def test_new_arrays_of_weights_are_noticed():
    x, model, other = image(), make_model(), make_model(1)
    for weights in (other.get_weights(), model.get_weights(), other.get_weights()):
        for _ in range(3):
            model(x)
        model.set_weights(weights)
        assert_array_equal(model(x).numpy(), result_of_a_new_model(model, x))


def test_a_kernel_that_is_not_finite_comes_and_goes():
    x, model = image() + 4, make_model()
    expected = model(x).numpy().copy()
    for value in (np.nan, np.inf):
        before = float(model.weights[0].data[1, 1, 2, 3])
        model.weights[0].data[1, 1, 2, 3] = value
        for _ in range(3):
            assert not np.isfinite(model(x).numpy()[..., 3]).any()
        model.weights[0].data[1, 1, 2, 3] = before
        for _ in range(3):
            assert_array_equal(model(x).numpy(), expected)


def test_programs_and_launches_in_turn_do_not_find_what_others_kept(rng):
    x, models = image(), [make_model(seed, (64, 32)) for seed in range(3)]
    expected = [result_of_a_new_model(model, x) for model in models]
    wide = rng.standard_normal((1, 40, 40, 64), np.float32), rng.standard_normal((3, 3, 64, 64), np.float32)
    for step in range(40):
        number = step * step % 7 % len(models)
        assert_array_equal(models[number](x).numpy(), expected[number])
        if step % 3 == 0:
            nc.conv(*wide)
        if step % 5 == 0:
            model = models[number]
            model.weights[2].data[...] = -model.weights[2].data
            expected[number] = result_of_a_new_model(model, x)


@needs_kept_kernels
def test_a_kernel_that_others_have_written_over_is_made_anew():
    x, model = image(), make_model()
    expected = model(x).numpy().copy()
    ((*_, kept, _),) = (operands for launch, operands in steps_of(model, x) if launch.kept)
    call = CALLS.idle[-1]  # the one that ran last runs next
    call.workspace[kept.offset :][:4096] = 255
    call.ready = None
    assert_array_equal(model(x).numpy(), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_changed_number_of_threads_finds_its_kernels(threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one thread")
    x, model = image(), make_model()
    expected, before = model(x).numpy().copy(), numba.get_num_threads()
    try:
        for count in (threads, before, threads, before):
            numba.set_num_threads(count)
            for _ in range(3):
                assert_array_equal(model(x).numpy(), expected)
    finally:
        numba.set_num_threads(before)


def test_threads_of_python_keep_their_own():
    x, model, failures = image(), make_model(), []
    together = threading.Barrier(3)

    def work():
        try:
            for _ in range(6):
                together.wait(60)
                for _ in range(5):
                    with nc.no_grad():
                        assert_array_equal(model(x).numpy(), expected[0])
                together.wait(60)
        except BaseException as error:
            failures.append(error)
            together.abort()

    workers = [threading.Thread(target=work) for _ in range(2)]
    expected = [result_of_a_new_model(model, x)]
    for worker in workers:
        worker.start()
    for number in range(6):
        together.wait(60)
        together.wait(60)
        model.weights[0].data[0, number % 3] += 1
        expected[0] = result_of_a_new_model(model, x)
    for worker in workers:
        worker.join()
    assert not failures


def test_what_would_take_much_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(program, "MAX_LASTING_BYTES", 1000)
    x, model = image(), make_model()
    assert kept_by(model, x) == 0
    assert_array_equal(model(x).numpy(), result_of_a_new_model(model, x))


def test_frozen_kernels_are_not_compared():
    x, model = image(), make_model()
    expected = model(x).numpy().copy()
    model.freeze()
    assert kept_by(model, x) == 0
    assert all(launch._plan[KERNEL] != winograd_kernel.address("float32") for launch, _ in steps_of(model, x))
    assert_array_equal(model(x).numpy(), expected)
