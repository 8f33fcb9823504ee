"""The loops behind `Model.fit`, `evaluate` and `predict`: batches, averages, progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from numbaconv import metrics as metrics_module
from numbaconv import seeding
from numbaconv.autograd import Tensor, no_grad
from numbaconv.callbacks import Callback, CallbackList, History
from numbaconv.metrics import Mean, Metric
from numbaconv.padding import index_or_none

if TYPE_CHECKING:
    from numbaconv.model import Model


@dataclass(frozen=True)
class Data:
    """Arrays of samples, gone through in batches.

    `inputs` holds one array, or several where `several`, for a model that takes a list.
    """

    inputs: tuple[Any, ...]
    several: bool
    targets: Any
    batch_size: int

    @classmethod
    def of(cls, x: Any, y: Any, batch_size: int | None) -> Data:
        """Check arrays and their lengths."""
        size = 32 if batch_size is None else index_or_none(batch_size)
        if size is None or size < 1:
            raise ValueError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}. Pass 32.")
        several = isinstance(x, (list, tuple))
        inputs = tuple(_array("x", item) for item in (x if several else (x,)))
        targets = None if y is None else _array("y", y)
        lengths = {len(array) for array in (*inputs, *(() if targets is None else (targets,)))}
        if len(lengths) != 1:
            raise ValueError(
                "Data cardinality is ambiguous. Make sure all arrays contain the same number of samples. "
                f"'x' sizes: {', '.join(str(len(array)) for array in inputs) or 'none'}"
                + ("" if targets is None else f", 'y' sizes: {len(targets)}")
                + "."
            )
        return cls(inputs, several, targets, size)

    def __len__(self) -> int:
        return len(self.inputs[0])

    def part(self, start: int, stop: int) -> Data:
        """Return the samples from `start` to `stop`, as views."""
        targets = None if self.targets is None else self.targets[start:stop]
        return Data(tuple(array[start:stop] for array in self.inputs), self.several, targets, self.batch_size)

    def batches(self, order: np.ndarray | None = None) -> Iterator[tuple[Any, Any, int]]:
        """Yield inputs, targets and number of samples of each batch: views, or copies in a given order."""
        for start in range(0, len(self), self.batch_size):
            stop = min(start + self.batch_size, len(self))
            index: Any = slice(start, stop) if order is None else order[start:stop]
            inputs = [array[index] for array in self.inputs]
            targets = None if self.targets is None else self.targets[index]
            yield (inputs if self.several else inputs[0]), targets, stop - start


class Averages:
    """Averages over an epoch of the loss and of the metrics that `compile` was given."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._loss = Mean("loss")
        self._metrics: list[Metric] | None = None

    def add(self, loss: float, targets: Any, outputs: np.ndarray, count: int) -> None:
        """Add a batch of `count` samples."""
        if self._metrics is None:
            self._metrics = self._model.metrics_for(np.asarray(targets), outputs)
            for metric in self._metrics:
                metric.reset_state()
        self._loss.update_state(loss, count)
        for metric in self._metrics:
            metric.update_state(targets, outputs)

    def logs(self, prefix: str = "") -> dict[str, float]:
        """Return the averages by name."""
        return {f"{prefix}{item.name}": item.result() for item in (self._loss, *(self._metrics or ()))}


class Progress:
    """What the user sees of a loop: a bar per epoch (verbose 1), a line per epoch (2), nothing (0)."""

    def __init__(self, verbose: int | str, title: str, samples: int) -> None:
        self.verbose = 1 if verbose == "auto" else index_or_none(verbose)
        if self.verbose not in (0, 1, 2):
            raise ValueError(
                "`verbose` must be 0 (silent), 1 (a progress bar) or 2 (a line per epoch). "
                f"Received: verbose={verbose!r}."
            )
        self.title = title
        self._bar: Any = None
        if self.verbose == 1:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=samples, desc=title, unit=" samples", dynamic_ncols=True, mininterval=0.2)

    def advance(self, samples: int, logs: dict[str, float]) -> None:
        """Show that `samples` more are done."""
        if self._bar is not None:
            self._bar.set_postfix_str(format_logs(logs), refresh=False)
            self._bar.update(samples)

    def finish(self, logs: dict[str, float], samples_per_second: float) -> None:
        """Show the final averages."""
        if self._bar is not None:
            self._bar.set_postfix_str(format_logs(logs), refresh=True)
        elif self.verbose == 2:
            print(f"{self.title}: {samples_per_second:.0f} samples/s, {format_logs(logs)}")
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def format_logs(logs: dict[str, float]) -> str:
    """Return logs as `name=value`, four digits after the point or four significant ones where smaller."""
    return ", ".join(
        f"{name}={value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{name}={value:.3e}"
        for name, value in logs.items()
    )


def fit(
    model: Model,
    data: Data,
    validation: Data | None,
    *,
    epochs: int,
    initial_epoch: int,
    verbose: int | str,
    callbacks: Sequence[Callback],
    shuffle: bool,
) -> History:
    """Train a compiled model and return its history."""
    history = History()
    # The history comes last, so that it holds what the other callbacks log.
    every = CallbackList([*callbacks, history], model)
    model.stop_training = False
    every.on_train_begin({})
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        logs = {}
        every.on_epoch_begin(epoch, logs)
        progress = Progress(verbose, f"Epoch {epoch + 1}/{epochs}", len(data))
        try:
            averages = Averages(model)
            order = seeding.generator().permutation(len(data)) if shuffle else None
            start = perf_counter()
            for number, (inputs, targets, count) in enumerate(data.batches(order)):
                every.on_train_batch_begin(number, {})
                loss, outputs = model.train_step(inputs, targets)
                averages.add(loss, targets, outputs, count)
                logs = averages.logs()
                progress.advance(count, logs)
                every.on_train_batch_end(number, logs)
            speed = len(data) / max(perf_counter() - start, 1e-9)
            if validation is not None:
                logs.update(evaluate(model, validation, verbose=0, prefix="val_"))
            progress.finish(logs, speed)
        finally:
            progress.close()
        history.samples_per_second.append(speed)
        every.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    every.on_train_end(logs)
    return history


@no_grad()
def evaluate(model: Model, data: Data, verbose: int | str = 0, prefix: str = "") -> dict[str, float]:
    """Return loss and metrics over all samples."""
    averages = Averages(model)
    penalty: float | None = None
    progress = Progress(verbose, "Evaluating", len(data))
    try:
        start = perf_counter()
        for inputs, targets, count in data.batches():
            outputs = _single(model(inputs, training=False))
            if penalty is None:
                penalty = sum(item.item() for item in model.losses)
            loss = model.loss(targets, outputs).item() + penalty
            averages.add(loss, targets, outputs.data, count)
            progress.advance(count, averages.logs(prefix))
        progress.finish(averages.logs(prefix), len(data) / max(perf_counter() - start, 1e-9))
    finally:
        progress.close()
    return averages.logs(prefix)


@no_grad()
def predict(model: Model, data: Data, verbose: int | str = 0) -> np.ndarray:
    """Return the outputs for all samples."""
    result: np.ndarray | None = None
    progress = Progress(verbose, "Predicting", len(data))
    try:
        start = perf_counter()
        done = 0
        # An empty array is still one batch: its outputs have the right shape.
        batches = data.batches() if len(data) else iter([(_whole(data), None, 0)])
        for inputs, _, count in batches:
            outputs = _single(model(inputs, training=False)).data
            if result is None:
                if count == len(data):
                    result = outputs.copy() if any(np.may_share_memory(outputs, x) for x in data.inputs) else outputs
                    break
                result = np.empty((len(data), *outputs.shape[1:]), outputs.dtype)
            result[done : done + count] = outputs
            done += count
            progress.advance(count, {})
        progress.finish({}, len(data) / max(perf_counter() - start, 1e-9))
    finally:
        progress.close()
    assert result is not None
    return result


def train_step(model: Model, inputs: Any, targets: Any) -> tuple[float, np.ndarray]:
    """Run one step of training: outputs, loss, gradients, new weights. Return loss and outputs."""
    outputs = _single(model(inputs, training=True))
    loss = model.loss(targets, outputs)
    trainable = model.trainable_weights
    if not trainable:
        raise ValueError(
            f"'{model.name}' has no trainable weights, so there is nothing to fit. "
            f"Set `trainable = True` on some layers, or call `evaluate`."
        )
    for weight in trainable:
        if weight.regularizer is not None:
            loss = loss + weight.regularizer(weight)
    loss.backward()
    model.optimizer.apply(trainable)
    for weight in trainable:
        weight.zero_grad()
    return loss.item(), outputs.data


def with_validation(data: Data, given: Any, fraction: float, batch_size: int | None) -> tuple[Data, Data | None]:
    """Return training and validation data: the pair that was given, or the last `fraction` of the samples."""
    if given is not None:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(
                f"Data is expected to be in format `(x, y)`. Received: validation_data of type {type(given).__name__}. "
                "Pass validation_data=(x_val, y_val)."
            )
        return data, Data.of(given[0], given[1], batch_size)
    if fraction == 0.0:
        return data, None
    if not 0.0 < fraction < 1.0:
        raise ValueError(
            f"`validation_split` must be in [0, 1). Received: validation_split={fraction}. Pass for example 0.1."
        )
    at = int(len(data) * (1.0 - fraction))
    if at in (0, len(data)):
        raise ValueError(
            f"Training data contains {len(data)} samples, which is not sufficient to split it into a validation and "
            f"training set as specified by `validation_split={fraction}`. Either provide more data, or a different "
            "value for the `validation_split` argument."
        )
    training, validation = data.part(0, at), data.part(at, len(data))
    return training, validation if batch_size is None else replace(validation, batch_size=batch_size)


def resolve_metrics(
    given: Sequence[str | Metric], targets: np.ndarray, outputs: np.ndarray, from_logits: bool
) -> list[Metric]:
    """Return the metrics of `compile`, with `"accuracy"` resolved for these targets and outputs."""
    resolved = []
    for item in given:
        chosen = metrics_module.accuracy_for(item, targets, outputs, from_logits) if isinstance(item, str) else None
        resolved.append(chosen or metrics_module.get(item))
    return resolved


def _array(name: str, value: Any) -> Any:
    """Return an array as it is, memory-mapped ones included, or raise TypeError."""
    if isinstance(value, Tensor):
        value = value.data
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__") and not isinstance(value, (list, tuple)):
            raise TypeError(
                f"`{name}` must be an array of samples. Received: {type(value).__name__}. Pass a NumPy array."
            )
        value = np.asarray(value)
    if value.ndim == 0:
        raise ValueError(f"`{name}` must have a batch axis. Received one number: {value!r}. Pass an array of samples.")
    return value


def _single(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"A model in fit, evaluate or predict must return one Tensor. Received: {type(outputs).__name__}. "
            "Join several outputs with Concatenate, or write the loop with `model(x)` and `backward`."
        )
    return outputs


def _whole(data: Data) -> Any:
    return list(data.inputs) if data.several else data.inputs[0]
