"""Callbacks: what happens between the epochs and batches of a training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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


class MonitorCallback(Callback):
    """Base of callbacks that watch one of the logged values.

    Parameters
    ----------
    monitor : str
        Name of the value in the logs, such as `"val_loss"`.
    mode : {"auto", "min", "max"}
        Whether less or more is better. `"auto"` takes less for losses and more for accuracies.
    min_delta : float
        Least change that counts as better.

    Raises
    ------
    ValueError
        When `mode` is unknown or cannot be inferred from `monitor`.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        kind = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{kind} mode {mode!r} is unknown. Pass 'auto', 'min' or 'max'.")
        if mode == "auto":
            if "loss" in monitor:
                mode = "min"
            elif "acc" in monitor:
                mode = "max"
            else:
                raise ValueError(
                    f"{kind} callback received monitor={monitor}, but the name does not tell whether that metric should "
                    "be maximized or minimized. Pass `mode='max'` for the highest metric value, or `mode='min'` for the "
                    "lowest."
                )
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)

    @property
    def worst(self) -> float:
        """The value that every other one improves on."""
        return math.inf if self.mode == "min" else -math.inf

    def improves(self, value: float, reference: float) -> bool:
        """Return whether `value` is better than `reference` by more than `min_delta`."""
        gain = reference - value if self.mode == "min" else value - reference
        return gain > self.min_delta

    def current(self, logs: Logs) -> float:
        """Return the watched value, or raise ValueError where it is not logged."""
        if self.monitor not in logs:
            hint = " Pass `validation_data` or `validation_split` to fit." if self.monitor.startswith("val_") else ""
            raise ValueError(
                f"{type(self).__name__} conditioned on metric `{self.monitor}` which is not available. "
                f"Available metrics are: {','.join(logs)}.{hint}"
            )
        return logs[self.monitor]


class EarlyStopping(MonitorCallback):
    """Stop training when a logged value has stopped improving.

    Parameters
    ----------
    monitor : str
        Name of the value in the logs.
    min_delta : float
        Least change that counts as better.
    patience : int
        Epochs without improvement after which training stops.
    verbose : int
        1 prints what is done.
    mode : {"auto", "min", "max"}
        Whether less or more is better.
    baseline : float, optional
        Value that must be improved on for the patience to start anew.
    restore_best_weights : bool
        Whether the weights of the best epoch are put back at the end.
    start_from_epoch : int
        Epochs before the value is watched.

    Raises
    ------
    ValueError
        When `mode` cannot be inferred; at an epoch's end, when the value is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = self.worst
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare the epoch with the best so far."""
        current = self.current(logs)
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        """Put the best weights back."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(MonitorCallback):
    """Save the weights after every epoch, or after the best ones.

    Parameters
    ----------
    filepath : str or path
        File ending in `.safetensors`; may hold `{epoch}` (counted from 1) and names from the logs, as in
        `"{epoch:02d}-{val_loss:.2f}.safetensors"`.
    monitor : str
        Name of the value in the logs that tells the best.
    verbose : int
        1 prints what is done.
    save_best_only : bool
        Whether only epochs better than all before are saved.
    mode : {"auto", "min", "max"}
        Whether less or more is better.
    initial_value_threshold : float, optional
        Value that the first epoch saved must improve on.

    Raises
    ------
    ValueError
        When `filepath` has another ending or `mode` cannot be inferred; at an epoch's end, when the value is not
        logged.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode if save_best_only or mode != "auto" else "min")
        self.filepath = os.fspath(filepath)
        if not self.filepath.endswith(".safetensors"):
            raise ValueError(
                "The filepath provided must end in `.safetensors`. "
                f"Received: filepath={self.filepath}. Pass for example 'best.safetensors'."
            )
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.best = self.worst if initial_value_threshold is None else initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save the weights if this epoch is wanted."""
        if self.save_best_only:
            current = self.current(logs)
            if not self.improves(current, self.best):
                if self.verbose:
                    print(f"Epoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
                return
            if self.verbose:
                print(f"Epoch {epoch + 1}: {self.monitor} improved from {self.best:.5f} to {current:.5f}")
            self.best = current
        try:
            path = Path(self.filepath.format(epoch=epoch + 1, **logs))
        except KeyError as error:
            raise ValueError(
                f'Failed to format this callback filepath: "{self.filepath}". Reason: {error} is not logged. '
                f"Names that work: epoch, {', '.join(logs)}."
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        self.model.save_weights(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved model weights to {path}")


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        Function of the epoch, counted from 0, and the current learning rate, to the new one.
    verbose : int
        1 prints the new rate.
    """

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Set the learning rate."""
        rate = self.schedule(epoch, self.model.optimizer.learning_rate)
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.floating, np.integer)):
            raise TypeError(f'The output of the "schedule" function should be float. Got: {rate!r}')
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {float(rate)}.")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Log the learning rate."""
        logs["learning_rate"] = self.model.optimizer.learning_rate


class ReduceLROnPlateau(MonitorCallback):
    """Reduce the learning rate when a logged value has stopped improving.

    Parameters
    ----------
    monitor : str
        Name of the value in the logs.
    factor : float
        Factor of the learning rate, below 1.
    patience : int
        Epochs without improvement after which it is reduced.
    verbose : int
        1 prints what is done.
    mode : {"auto", "min", "max"}
        Whether less or more is better.
    min_delta : float
        Least change that counts as better.
    cooldown : int
        Epochs after a reduction during which nothing is counted.
    min_lr : float
        Least learning rate.

    Raises
    ------
    ValueError
        When `factor` is not below 1 or `mode` cannot be inferred; at an epoch's end, when the value is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(
                f"ReduceLROnPlateau does not support a factor >= 1.0. Received factor={factor}. Pass for example 0.1."
            )
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.best = self.worst
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare the epoch with the best so far."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = optimizer.learning_rate
        current = self.current(logs)
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.cooldown_counter = self.cooldown
                self.wait = 0
                if self.verbose:
                    print(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {optimizer.learning_rate}.")
