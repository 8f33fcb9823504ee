"""Callbacks that change the learning rate between epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numbaconv.callbacks.base import Callback, Logs
from numbaconv.callbacks.monitoring import MonitorCallback


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
