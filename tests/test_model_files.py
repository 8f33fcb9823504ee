"""Weight files: what is in them, that they appear whole, and that nothing is loaded unless all of it fits."""

from __future__ import annotations

import os

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers, weights

safetensors = pytest.importorskip("safetensors.numpy")


def network(seed, filters=4):
    return nc.Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.Conv2D(filters, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ],
        seed=seed,
    )


class Residual(nc.Model):
    def __init__(self, seed):
        super().__init__(seed=seed)
        self.blocks = [layers.Dense(4), layers.Dense(4)]
        self.head = nc.Sequential([layers.Dense(2)])

    def call(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def test_round_trip(tmp_path, rng):
    saved, other = network(0), network(1)
    saved(rng.normal(size=(4, 8, 8, 2)).astype(np.float32), training=True)
    path = tmp_path / "net.safetensors"
    saved.save_weights(path)
    assert not equal(saved, other)
    arrays = [weight.data for weight in other.weights]
    other.load_weights(str(path))
    assert equal(saved, other)
    assert all(weight.data is array for weight, array in zip(other.weights, arrays, strict=True))
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_the_file_is_plain_safetensors_with_paths_as_names(tmp_path):
    net = network(0)
    net.save_weights(tmp_path / "net.safetensors")
    found = safetensors.load_file(tmp_path / "net.safetensors")
    assert sorted(found) == sorted(
        [
            "conv2d/kernel",
            "conv2d/bias",
            *(f"batch_normalization/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
            "dense/kernel",
            "dense/bias",
        ]
    )
    np.testing.assert_array_equal(found["conv2d/kernel"], net.layers[0].kernel.data)


def test_subclassed_models(tmp_path):
    first, second = Residual(0), Residual(1)
    x = np.ones((2, 4), np.float32)
    first(x), second(x)
    first.save_weights(tmp_path / "a.safetensors")
    second.load_weights(tmp_path / "a.safetensors")
    assert equal(first, second)
    assert list(first.named_weights())[::2] == ["blocks/0/kernel", "blocks/1/kernel", "head/dense/kernel"]


def test_single_layers_can_be_saved(tmp_path):
    first, second = layers.Dense(2), layers.Dense(2)
    first.build((None, 3))
    second.build((None, 3))
    weights.save_weights(first, tmp_path / "a.safetensors")
    weights.load_weights(second, tmp_path / "a.safetensors")
    assert equal(first, second)


def test_values_are_cast_to_the_models_dtype(tmp_path):
    single, double = layers.Dense(2), layers.Dense(2, dtype="float64")
    single.build((None, 3))
    double.build((None, 3))
    weights.save_weights(double, tmp_path / "a.safetensors")
    weights.load_weights(single, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(single.kernel.data, double.kernel.data.astype(np.float32))


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    network(0).save_weights(path)
    before = path.read_bytes()

    def break_off(arrays, name):
        name.write_bytes(b"half a fi")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", break_off)
    with pytest.raises(OSError, match="disk full"):
        network(1).save_weights(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_saving_through_a_link_keeps_the_link(tmp_path):
    real, link = tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    network(0).save_weights(real)
    link.symlink_to(real)
    net = network(1)
    net.save_weights(link)
    assert link.is_symlink()
    other = network(2)
    other.load_weights(real)
    assert equal(net, other)


def refuse(make, kind):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_nothing_is_loaded_from_a_file_that_does_not_fit(tmp_path):
    path = tmp_path / "net.safetensors"
    arrays = {name: weight.data for name, weight in network(0, filters=5).named_weights().items()}
    arrays["extra"] = arrays.pop("dense/bias")
    safetensors.save_file(arrays, path)
    net = network(1)
    before = net.get_weights()
    text = refuse(lambda: net.load_weights(path), ValueError)
    mismatches = [
        "conv2d/kernel is (3, 3, 2, 5) in the file and (3, 3, 2, 4) in the model",
        "conv2d/bias is (5,) in the file and (4,) in the model",
        *(
            f"batch_normalization/{name} is (5,) in the file and (4,) in the model"
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        ),
        "dense/kernel is (180, 3) in the file and (144, 3) in the model",
    ]
    assert text == (
        f"{path} does not fit 'sequential'; nothing was loaded. Missing in the file: dense/bias. Unknown to the model: "
        f"extra. Shapes that differ: {', '.join(mismatches)}. Build the model with the layers and names it was "
        "saved with."
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", b"no weights at all, whatever the name says"])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    text = refuse(lambda: network(0).load_weights(path), ValueError)
    assert text.startswith(f"{path} is not a readable safetensors file: ")
    assert text.endswith("Save the weights again.")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    net = network(0)
    net.save_weights(path)
    path.write_bytes(path.read_bytes()[:-5])
    before = net.get_weights()
    assert "is not a readable safetensors file" in refuse(lambda: net.load_weights(path), ValueError)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_error_texts(tmp_path):
    net = network(0)
    path = tmp_path / "net.safetensors"
    assert refuse(lambda: net.save_weights("net.h5"), ValueError) == (
        "The filename must end in `.safetensors`. Received: filepath=net.h5. Pass for example 'net.safetensors'."
    )
    assert refuse(lambda: nc.Sequential([layers.Dense(2)]).save_weights(path), ValueError) == (
        "'sequential' has no weights to save: it isn't built. Call it on data, or put Input(shape) first."
    )
    assert refuse(lambda: nc.Sequential([layers.Dense(2)]).load_weights(path), ValueError) == (
        "'sequential' has no weights to load into: it isn't built. Call it on data, or put Input(shape) first."
    )
    assert refuse(lambda: net.load_weights(path), FileNotFoundError) == f"No weight file at {path}."
    net.save_weights(path)
    assert refuse(lambda: net.save_weights(path, overwrite=False), FileExistsError) == (
        f"{path} exists. Pass overwrite=True to replace it."
    )
