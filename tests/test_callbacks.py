"""Callbacks, driven by logs made up for the purpose and by real trainings."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.callbacks import (
    Callback,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)


class Scripted(Callback):
    """Replaces the logged values by given ones, so that what follows is known."""

    def __init__(self, **values):
        self.values = values

    def on_epoch_end(self, epoch, logs):
        logs.update({name: series[epoch] for name, series in self.values.items()})


def train(callbacks, epochs=10, learning_rate=0.5, **options):
    """Fit y = 0 with one weight that starts at 1, so that the weight tells the epoch."""
    model = nc.Sequential([nc.layers.Input((1,)), nc.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(nc.optimizers.SGD(learning_rate), "mse")
    x, y = np.ones((4, 1), np.float32), np.zeros((4, 1))
    return model, model.fit(x, y, epochs=epochs, verbose=0, callbacks=callbacks, **options)


def weight_after(epochs, learning_rate=0.125):
    """Each step of gradient 2 w multiplies the weight by 1 - 2 * rate."""
    return (1 - 2 * learning_rate) ** epochs


def test_moments_and_their_order():
    class Recorder(Callback):
        def __init__(self):
            self.seen = []

        def on_train_begin(self, logs):
            self.seen.append("train begin")

        def on_train_end(self, logs):
            self.seen.append(f"train end {sorted(logs)}")

        def on_epoch_begin(self, epoch, logs):
            self.seen.append(f"epoch begin {epoch}")

        def on_epoch_end(self, epoch, logs):
            self.seen.append(f"epoch end {epoch} {sorted(logs)}")

        def on_train_batch_begin(self, batch, logs):
            self.seen.append(f"batch begin {batch}")

        def on_train_batch_end(self, batch, logs):
            self.seen.append(f"batch end {batch} {sorted(logs)}")

    recorder = Recorder()
    train([recorder], epochs=3, initial_epoch=2, batch_size=2, validation_split=0.25)
    assert recorder.seen == [
        "train begin",
        "epoch begin 2",
        "batch begin 0",
        "batch end 0 ['loss']",
        "batch begin 1",
        "batch end 1 ['loss']",
        "epoch end 2 ['loss', 'val_loss']",
        "train end ['loss', 'val_loss']",
    ]


def test_history_holds_what_callbacks_log():
    _, history = train([Scripted(extra=[1.0, 2.0])], epochs=2)
    assert isinstance(history, History)
    assert history.history["extra"] == [1.0, 2.0]
    assert history.epoch == [0, 1]
    assert len(history.samples_per_second) == 2


LOSSES = [5.0, 4.0, 4.5, 4.2, 3.9, 6.0, 6.0, 6.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"patience": 0}, 3),
        ({"patience": 1}, 3),
        ({"patience": 2}, 4),
        ({"patience": 3}, 8),
        ({"patience": 3, "min_delta": 0.5}, 5),
        ({"patience": 2, "start_from_epoch": 2}, 7),
        ({"patience": 2, "baseline": 4.3}, 4),
        ({"patience": 2, "baseline": 1.0}, 3),
        ({"patience": 2, "mode": "max"}, 3),
    ],
    ids=str,
)
def test_early_stopping(options, epochs):
    _, history = train([Scripted(val_loss=LOSSES), EarlyStopping(**options)])
    assert len(history.epoch) == epochs


def test_early_stopping_restores_the_best_weights(capsys):
    stopping = EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model, history = train([Scripted(val_loss=LOSSES), stopping], learning_rate=0.125)
    assert len(history.epoch) == 4
    assert model.weights[0].data.item() == pytest.approx(weight_after(2))
    assert capsys.readouterr().out == (
        "Epoch 4: early stopping\nRestoring model weights from the end of the best epoch: 2.\n"
    )


def test_early_stopping_can_be_used_again():
    stopping = EarlyStopping(monitor="loss", patience=1)
    for _ in range(2):
        _, history = train([Scripted(loss=LOSSES), stopping])
        assert len(history.epoch) == 3


def test_learning_rate_scheduler():
    _, history = train([LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)], epochs=4)
    assert history.history["learning_rate"] == [0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"patience": 2}, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"patience": 2, "cooldown": 1, "factor": 0.5}, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 2, "cooldown": 3, "factor": 0.5}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ({"patience": 1, "min_lr": 0.2, "factor": 0.5}, [1, 1, 1, 0.5, 0.25, 0.2, 0.2, 0.2]),
    ],
    ids=str,
)
def test_reduce_on_plateau(options, rates):
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    callbacks = [Scripted(val_loss=losses), ReduceLROnPlateau(**options)]
    _, history = train(callbacks, epochs=8, learning_rate=1.0)
    assert history.history["learning_rate"] == pytest.approx(rates)


def test_checkpoint_of_every_epoch(tmp_path):
    train([ModelCheckpoint(tmp_path / "run" / "{epoch:02d}-{loss:.2f}.safetensors")], epochs=2, learning_rate=0.125)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["01-1.00.safetensors", "02-0.56.safetensors"]


def test_checkpoint_of_the_best_epoch(tmp_path, capsys):
    path = tmp_path / "best.safetensors"
    callbacks = [Scripted(val_loss=LOSSES), ModelCheckpoint(path, save_best_only=True, verbose=1)]
    model, _ = train(callbacks, epochs=4, learning_rate=0.125)
    assert model.weights[0].data.item() == pytest.approx(weight_after(4))
    model.load_weights(path)
    assert model.weights[0].data.item() == pytest.approx(weight_after(2))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: val_loss improved from inf to 5.00000",
        f"Epoch 1: saved model weights to {path}",
        "Epoch 2: val_loss improved from 5.00000 to 4.00000",
        f"Epoch 2: saved model weights to {path}",
        "Epoch 3: val_loss did not improve from 4.00000",
        "Epoch 4: val_loss did not improve from 4.00000",
    ]


def test_checkpoint_below_a_threshold(tmp_path):
    path = tmp_path / "best.safetensors"
    checkpoint = ModelCheckpoint(path, save_best_only=True, initial_value_threshold=1.0)
    train([Scripted(val_loss=LOSSES), checkpoint], epochs=3)
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: EarlyStopping(monitor="val_f1"),
            ValueError,
            "EarlyStopping callback received monitor=val_f1, but its name does not tell whether it should be maximized "
            "or minimized. Pass `mode='max'` for the highest metric value, or `mode='min'` for the lowest.",
        ),
        (
            lambda: EarlyStopping(mode="up"),
            ValueError,
            "EarlyStopping mode 'up' is unknown. Pass 'auto', 'min' or 'max'.",
        ),
        (
            lambda: train([EarlyStopping()]),
            ValueError,
            "EarlyStopping conditioned on metric `val_loss` which is not available. Available metrics are: loss. Pass "
            "`validation_data` or `validation_split` to fit.",
        ),
        (
            lambda: train([ReduceLROnPlateau(monitor="acc")]),
            ValueError,
            "ReduceLROnPlateau conditioned on metric `acc` which is not available. Available metrics are: "
            "loss,learning_rate.",
        ),
        (
            lambda: ReduceLROnPlateau(factor=1.0),
            ValueError,
            "ReduceLROnPlateau does not support a factor >= 1.0. Received factor=1.0. Pass for example 0.1.",
        ),
        (
            lambda: ModelCheckpoint("best.h5"),
            ValueError,
            "The filepath provided must end in `.safetensors`. Received: filepath=best.h5. Pass for example "
            "'best.safetensors'.",
        ),
        (
            lambda: ModelCheckpoint("a.safetensors", save_weights_only=False),
            ValueError,
            "ModelCheckpoint saves weights. Received: save_weights_only=False. Leave it out, and load the file with "
            "`model.load_weights` into a model made by the same code.",
        ),
        (
            lambda: train([ModelCheckpoint("{val_acc}.safetensors")]),
            ValueError,
            "Failed to format this callback filepath: \"{val_acc}.safetensors\". Reason: 'val_acc' is not logged. "
            "Names that work: epoch, loss.",
        ),
        (
            lambda: train([LearningRateScheduler(lambda epoch, rate: "fast")]),
            TypeError,
            "The output of the \"schedule\" function should be float. Got: 'fast'",
        ),
        (
            lambda: train([print]),
            TypeError,
            "`callbacks` must be Callback objects. Received: <built-in function print> of type "
            "builtin_function_or_method. Pass for example [numbaconv.callbacks.EarlyStopping()].",
        ),
    ],
)
def test_error_text(make, kind, text):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
