"""The demonstration: it learns the digits, repeats itself bit for bit, and says what it compiles."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import replace

import numba
import numpy as np
import pytest
from test_datasets import write_collection

from numbaconv import datasets, demo, jit
from numbaconv.target import TARGET


@pytest.fixture
def few_digits(monkeypatch):
    """Leave the demonstration 100 training and 50 test digits."""
    (x_train, y_train), (x_test, y_test) = datasets.load_digits()
    few = (x_train[:100], y_train[:100]), (x_test[:50], y_test[:50])
    monkeypatch.setitem(demo.RECIPES, "digits", replace(demo.RECIPES["digits"], load=lambda data: few))


def test_digits_are_learned(capsys, tmp_path):
    result = demo.Demo(output=tmp_path / "digits.png").run()
    assert result.test_accuracy >= 0.97
    assert result.samples_per_second > 0 and result.latency > 0
    assert result.picture == tmp_path / "digits.png" and result.picture.stat().st_size > 50_000
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "UCI digits: 1442 training and 355 test images of 8x8"
    assert lines[-3] == f"test accuracy {result.test_accuracy:.4f}"


def trained_weights(monkeypatch, **options):
    """Return what a demonstration's network has learned."""
    trained = []
    train = demo.Demo._train

    def keep(self, model, *arguments):
        history = train(self, model, *arguments)
        trained.extend([*model.get_weights(), *history.history.values()])
        return history

    monkeypatch.setattr(demo.Demo, "_train", keep)
    demo.Demo(output=None, **options).run()
    monkeypatch.setattr(demo.Demo, "_train", train)
    return trained


def test_seed_decides_every_bit(few_digits, monkeypatch):
    options = {"epochs": 2, "batch_size": 32}
    first = trained_weights(monkeypatch, seed=5, **options)
    again = trained_weights(monkeypatch, seed=5, threads=1, **options)
    other = trained_weights(monkeypatch, seed=6, **options)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_threads_are_those_of_before_after_the_run(few_digits, monkeypatch):
    used = []
    monkeypatch.setattr(demo.Demo, "_compile", lambda self, x: used.append(numba.get_num_threads()))
    before = numba.get_num_threads()
    demo.Demo(output=None, epochs=1, threads=1).run()
    assert used == [1] and numba.get_num_threads() == before


@pytest.mark.skipif(TARGET.threads == 1, reason="Numba has one thread here")
@pytest.mark.parametrize("slow", [1, 2])
def test_trial_decides_on_the_threads(few_digits, monkeypatch, capsys, slow):
    clock = [0.0]
    used = []
    monkeypatch.setattr(demo.Demo, "_compile", lambda self, x: None)
    monkeypatch.setattr(demo.time, "perf_counter", lambda: clock[0])
    fit = demo.nc.Sequential.fit

    def timed_fit(self, *arguments, **options):
        used.append(numba.get_num_threads())
        clock[0] += 0.4 if numba.get_num_threads() == slow else 0.2
        return fit(self, *arguments, **options)

    monkeypatch.setattr(demo.nc.Sequential, "fit", timed_fit)
    monkeypatch.setattr(demo, "_latency", lambda model, x: 1.0)
    numba.set_num_threads(2)
    try:
        demo.Demo(output=None, epochs=1).run()
    finally:
        numba.set_num_threads(TARGET.threads)
    assert used == [1, 2] * 5 + [3 - slow]
    chosen = {1: "2 threads", 2: "1 thread"}[slow]
    assert f"training on {chosen}, the faster of 1 and 2 in a trial\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_larger_images_go_through_the_same_path(name, tmp_path, capsys):
    write_collection(tmp_path, train=20, test=12)
    result = demo.Demo(name, data=tmp_path, epochs=1, batch_size=8, output=tmp_path / f"{name}.png").run()
    assert 0 <= result.test_accuracy <= 1 and result.picture.exists()
    assert "20 training and 12 test images of 28x28" in capsys.readouterr().out


def test_nothing_is_left_to_compile_for_the_training(few_digits, monkeypatch):
    compiled = []
    train = demo.Demo._train

    def listen(self, *arguments):
        with jit.compiling(compiled.append):
            return train(self, *arguments)

    monkeypatch.setattr(demo.Demo, "_train", listen)
    demo.Demo(output=None, epochs=1, batch_size=32).run()
    assert compiled == []


def test_progress_names_what_is_compiled(capsys, monkeypatch):
    @contextlib.contextmanager
    def compiling(listener):
        for name in ("forward.direct-float32", "pooling.max_pool-float32"):
            listener(name)
        yield

    monkeypatch.setattr(jit, "compiling", compiling)
    with demo._compilation_progress():
        pass
    output = capsys.readouterr()
    assert output.out == "first use on this machine: compiling the kernels that this network needs\n"
    assert "forward.direct-float32" in output.err and "1 done" in output.err
    assert "pooling.max_pool-float32" in output.err and "2 done" in output.err


def test_no_progress_where_everything_is_cached(capsys):
    with demo._compilation_progress():
        pass
    assert capsys.readouterr() == ("", "")


def test_learning_rate_rises_then_falls_along_a_cosine():
    schedule = demo.WarmupCosine(peak=0.5, steps=50)
    rates = [schedule.rate(step) for step in range(50)]
    assert rates[0] == pytest.approx(0.05) and rates[9] == rates[10] == 0.5
    assert np.all(np.diff(rates[:10]) > 0) and np.all(np.diff(rates[10:]) < 0)
    assert rates[30] == pytest.approx(0.25) and 0 < rates[49] < 1e-3
    assert all(math.isfinite(demo.WarmupCosine(1.0, steps).rate(0)) for steps in (1, 2))


def test_unknown_data_set_is_refused():
    with pytest.raises(ValueError) as caught:
        demo.Demo("cifar")
    assert str(caught.value) == ("`dataset` must be one of digits, mnist, fashion-mnist. Received: dataset='cifar'")


def test_too_many_threads_are_refused():
    with pytest.raises(ValueError, match=re.escape(f"`threads` must be from 1 to {TARGET.threads}, ")):
        demo.Demo(threads=TARGET.threads + 1)


def test_feature_maps_follow_the_network(few_digits):
    network = demo.Demo(output=None)
    model = network._model()
    image = network.x_test[:1, ..., None].astype(np.float32)
    maps = demo.demo_figure.feature_maps(model, image)
    assert [name for name, _ in maps] == ["conv 3×3", "conv 3×3", "max pool 2×2", "conv 3×3", "max pool 2×2"]
    assert [array.shape for _, array in maps] == [(8, 8, 16), (8, 8, 32), (4, 4, 32), (4, 4, 64), (2, 2, 64)]
    np.testing.assert_array_equal(maps[0][1], np.asarray(model.layers[0](image).numpy())[0])
    np.testing.assert_array_equal(maps[2][1], maps[1][1].reshape(4, 2, 4, 2, 32).max((1, 3)))
