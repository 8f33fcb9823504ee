"""Callbacks that watch a logged value: stopping early, saving the best weights."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from numbaconv.callbacks.base import Callback, Logs


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
                    f"{kind} callback received monitor={monitor}, but its name does not tell whether it should be "
                    "maximized or minimized. Pass `mode='max'` for the highest metric value, or `mode='min'` for the "
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
    save_weights_only : bool
        True: the file holds the weights, and the model's code makes the layers they are loaded into.
    mode : {"auto", "min", "max"}
        Whether less or more is better.
    initial_value_threshold : float, optional
        Value that the first epoch saved must improve on.

    Raises
    ------
    ValueError
        When `filepath` has another ending, `save_weights_only` is False or `mode` cannot be inferred; at an epoch's
        end, when the value is not logged.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = True,
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
        if not save_weights_only:
            raise ValueError(
                "ModelCheckpoint saves weights. Received: save_weights_only=False. Leave it out, and load the file "
                "with `model.load_weights` into a model made by the same code."
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
