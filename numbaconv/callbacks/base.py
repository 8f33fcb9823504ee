"""`Callback`, several callbacks as one, and the history of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numbaconv.model import Model

Logs = dict[str, float]


class Callback:
    """Base of callbacks; a subclass overrides the moments it needs.

    `logs` of an epoch's end holds the epoch's `loss`, metrics and, with validation data, the same prefixed with `val_`;
    what a callback adds there comes into the history. `self.model` is the model in training, whose `stop_training` ends
    it after the epoch.
    """

    model: Model

    def set_model(self, model: Model) -> None:
        """Note the model in training."""
        self.model = model

    def on_train_begin(self, logs: Logs) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Run before epoch `epoch`, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Run before a batch, counted from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Run after a batch, with the averages of the epoch so far."""


class CallbackList(Callback):
    """Several callbacks as one, run in order.

    Parameters
    ----------
    callbacks : sequence of Callback
        The callbacks.
    model : Model
        The model in training.

    Raises
    ------
    TypeError
        When one is not a Callback.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Model) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"`callbacks` must be Callback objects. Received: {callback!r} of type {type(callback).__name__}. "
                    f"Pass for example [numbaconv.callbacks.EarlyStopping()]."
                )
            callback.set_model(model)
        self.callbacks = list(callbacks)
        self.model = model

    def on_train_begin(self, logs: Logs) -> None:
        """Run before the first epoch."""
        for callback in self.callbacks:
            callback.on_train_begin(logs)

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch."""
        for callback in self.callbacks:
            callback.on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Run before an epoch."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Run before a batch."""
        for callback in self.callbacks:
            callback.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Run after a batch."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)


class History(Callback):
    """What a training logged, epoch by epoch; `fit` returns it.

    Attributes
    ----------
    epoch : list of int
        Numbers of the epochs, from 0.
    history : dict of str to list of float
        `loss`, metrics and validation results per epoch.
    samples_per_second : list of float
        Training samples per second of each epoch, validation not counted.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.samples_per_second: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Note an epoch's logs."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
