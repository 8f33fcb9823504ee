"""What models print: summaries, progress bars, lines per epoch."""

from __future__ import annotations

import re

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers
from numbaconv.training import format_logs

X = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype(np.float32)
Y = (X.mean(axis=(1, 2, 3)) > 0).astype(int)


def network(**options):
    net = nc.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1000),
            layers.Dense(2),
        ],
        seed=0,
        **options,
    )
    net.compile("sgd", nc.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    return net


def test_summary_is_an_aligned_table(capsys):
    network(name="net").summary()
    rule = "-" * 82
    assert capsys.readouterr().out.splitlines() == [
        "Model: net",
        rule,
        "Layer (type)                                       Output Shape     Param #   MACs",
        rule,
        "conv2d (Conv2D)                                    (None, 6, 6, 8)       80  2,592",
        "batch_normalization (BatchNormalization)           (None, 6, 6, 8)       32      0",
        "global_average_pooling2d (GlobalAveragePooling2D)  (None, 8)              0      0",
        "dense (Dense)                                      (None, 1000)       9,000  8,000",
        "dense_1 (Dense)                                    (None, 2)          2,002  2,000",
        rule,
        "Total params          11,114",
        "Trainable params      11,098",
        "Non-trainable params      16",
        "MACs per sample       12,592",
    ]


class Branches(nc.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(4, 3, padding="same")
        self.twice = layers.Conv2D(4, 1)
        self.add = layers.Add()
        self.unused = layers.Dense(7)
        self.heads = {"main": layers.Dense(2)}

    def call(self, x):
        x = self.stem(x)
        x = self.add([x, self.twice(self.twice(x))])
        return self.heads["main"](x)


def test_summary_of_a_subclass_shows_each_layer_once(capsys):
    model = Branches()
    model.summary((None, 8, 8, 1))
    lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"\s{2,}", line) for line in lines[4:9]]
    assert rows == [
        ["stem (Conv2D)", "(None, 8, 8, 4)", "40", "2,304"],
        ["twice (Conv2D)", "(None, 8, 8, 4)", "20", "2,048"],
        ["add (Add)", "(None, 8, 8, 4)", "0", "0"],
        ["heads/main (Dense)", "(None, 8, 8, 2)", "10", "512"],
        ["unused (Dense)", "?", "?", "?"],
    ]
    assert lines[-1].split() == ["MACs", "per", "sample", "?"]
    assert model.built


def test_summary_leaves_unknown_sizes_open(capsys):
    nc.Sequential([layers.Input((None, None, 3)), layers.Conv2D(4, 3)]).summary()
    row = capsys.readouterr().out.splitlines()[4]
    assert row.split()[-1] == "?"
    assert "(None, None, None, 4)" in row


def test_summary_builds_where_the_shape_is_given(capsys):
    net = nc.Sequential([layers.Dense(3)])
    net.summary((None, 4))
    assert "dense (Dense)  (None, 3)" in capsys.readouterr().out
    assert net.count_params() == 15


def test_verbose_0_is_silent(capfd):
    net = network()
    net.fit(X, Y, verbose=0, validation_split=0.1)
    net.evaluate(X, Y)
    net.predict(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "loss" not in err


def test_verbose_2_prints_a_line_per_epoch(capsys):
    network().fit(X, Y, verbose=2, epochs=2, validation_split=0.1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        pattern = (
            rf"Epoch {number}/2: \d+ samples/s, loss=\d\.\d{{4}}, accuracy=\d\.\d{{4}}, val_loss=\d\.\d{{4}}, "
            r"val_accuracy=\d\.\d{4}"
        )
        assert re.fullmatch(pattern, line)


@pytest.mark.parametrize("verbose", [1, "auto"])
def test_verbose_1_shows_a_bar_per_epoch(verbose, capsys):
    network().fit(X, Y, verbose=verbose, epochs=2, validation_split=0.1)
    out, err = capsys.readouterr()
    assert out == ""
    for number in (1, 2):
        last = [part for part in err.split("\r") if part.startswith(f"Epoch {number}/2")][-1]
        assert re.search(r"100%\|.*\| 36/36 \[.* samples/s, loss=\d\.\d{4}, accuracy=\d\.\d{4}, val_loss", last)


def test_evaluation_and_prediction_can_show_bars(capsys):
    net = network()
    net.evaluate(X, Y, verbose=1)
    net.predict(X, batch_size=10, verbose=1)
    err = capsys.readouterr().err
    assert "Evaluating: 100%" in err
    assert "Predicting: 100%" in err


def test_the_bar_is_closed_when_training_breaks_off(capsys):
    class Broken(nc.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, verbose=1, callbacks=[Broken()])
    assert capsys.readouterr().err.endswith("\n")


def test_small_values_keep_their_digits():
    assert format_logs({"loss": 0.5, "tiny": 1.5e-5, "zero": 0.0}) == "loss=0.5000, tiny=1.500e-05, zero=0.0000"
