"""`Model`: layers that are trained, evaluated and saved together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv import losses as losses_module
from numbaconv import metrics as metrics_module
from numbaconv import optimizers, seeding, summary, training, weights
from numbaconv.autograd import Tensor
from numbaconv.callbacks import Callback, History
from numbaconv.layers import Layer
from numbaconv.layers.base import Shape
from numbaconv.layers.tracing import trace_shapes, without_batch
from numbaconv.metrics import Metric
from numbaconv.optimizers import Optimizer


class Model(Layer):
    """Layers with a training loop. A subclass makes layers in its constructor and applies them in `call`.

    Parameters
    ----------
    name : str, optional
        Name in summaries and messages.
    dtype : {"float32", "float64"}
        Type to which floating-point data are cast.
    trainable : bool
        False keeps training from changing the weights.
    seed : int, optional
        Seed of the model's own random stream: weights, dropout and shuffling are then the same, bit for bit, in every
        run. None draws from the stream of `numbaconv.set_seed`.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> class Residual(nc.Model):
    ...     def __init__(self):
    ...         super().__init__(seed=0)
    ...         self.blocks = [nc.layers.Dense(4, activation="tanh") for _ in range(3)]
    ...         self.head = nc.layers.Dense(1)
    ...     def call(self, x):
    ...         for block in self.blocks:
    ...             x = x + block(x)
    ...         return self.head(x)
    >>> model = Residual()
    >>> model.compile("sgd", "mse")
    >>> x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    >>> history = model.fit(x, x.sum(axis=1), epochs=3, verbose=0)
    >>> history.history["loss"][-1] < history.history["loss"][0]
    True
    >>> model.predict(x).shape
    (8, 1)
    """

    stop_training: bool = False
    _generator: np.random.Generator | None = None
    _optimizer: Any = None
    _loss: Any = None
    _metrics: tuple[Any, ...] = ()
    _input_shape: Any = None

    def __init__(
        self, *, name: str | None = None, dtype: str = "float32", trainable: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        if seed is not None:
            self._generator = seeding.make_generator(seed)

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the model's outputs; see `Layer.__call__`."""
        with seeding.use_generator(self._generator):
            return super().__call__(inputs, training=training)

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of `input_shape` by applying the model to an empty batch.

        Parameters
        ----------
        input_shape : tuple of int or None, or list of tuples
            Shape with the batch axis first, which may be None.
        """
        trace_shapes(self, input_shape)

    def build_once(self, input_shape: Any) -> None:
        """Build the model unless it is built, and note the inputs' shape."""
        if self.built:
            return
        self._note_input(input_shape)
        if type(self).build is Model.build:
            # The layers inside are built as `call` reaches them.
            self.built = True
            return
        with seeding.use_generator(self._generator):
            super().build_once(input_shape)

    def _note_input(self, input_shape: Any) -> None:
        """Keep the inputs' shape for summaries, and freeze the layers of a frozen model."""
        self._input_shape = without_batch(input_shape)
        if not self._trainable:
            self.trainable = False

    # Structure

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, without those inside them."""
        return [layer for _, layer in self._children()]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by name or position.

        Parameters
        ----------
        name : str, optional
            Its name in the summary.
        index : int, optional
            Its position.

        Raises
        ------
        ValueError
            When there is no such layer.
        """
        children = list(self._children())
        if (name is None) == (index is None):
            raise ValueError(f"Provide either a layer name or layer index. Received: name={name!r}, index={index!r}")
        if index is not None:
            if not -len(children) <= index < len(children):
                raise ValueError(
                    f"Was asked to retrieve layer at index {index} but model only has {len(children)} layers."
                )
            return children[index][1]
        for path, layer in children:
            if name in (path, layer._name):
                return layer
        raise ValueError(
            f"No such layer: {name}. Existing layers are: {', '.join(path for path, _ in children) or 'none'}."
        )

    # Training

    def compile(
        self,
        optimizer: str | Optimizer = "rmsprop",
        loss: Any = None,
        metrics: Sequence[str | Metric] | None = None,
    ) -> None:
        """Choose optimizer, loss and metrics for `fit` and `evaluate`.

        Parameters
        ----------
        optimizer : str or Optimizer
            Name or object (`numbaconv.optimizers`).
        loss : str, Loss or callable
            Name, object or function of `(y_true, y_pred)` (`numbaconv.losses`).
        metrics : sequence of str or Metric, optional
            Names or objects (`numbaconv.metrics`); `"accuracy"` takes the form that fits targets and predictions.

        Raises
        ------
        ValueError, TypeError
            When a name is unknown, or the loss is missing.
        """
        if isinstance(metrics, str):
            raise TypeError(f"`metrics` must be a list. Received: metrics={metrics!r}. Pass [{metrics!r}].")
        if loss is None:
            raise ValueError("`loss` is missing. Pass for example loss='sparse_categorical_crossentropy' or 'mse'.")
        chosen = optimizers.get(optimizer)
        chosen_loss = losses_module.get(loss)
        for metric in metrics or ():
            metrics_module.get(metric)
        self._optimizer, self._loss, self._metrics = chosen, chosen_loss, tuple(metrics or ())

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that `compile` was given."""
        self._check_compiled("training")
        return self._optimizer

    @property
    def loss(self) -> Callable[[Any, Tensor], Tensor]:
        """The loss that `compile` was given."""
        self._check_compiled("computing the loss")
        return self._loss

    def metrics_for(self, targets: np.ndarray, outputs: np.ndarray) -> list[Metric]:
        """Return the metrics that `compile` was given, in the form that fits targets and outputs."""
        from_logits = bool(getattr(self._loss, "from_logits", False))
        return training.resolve_metrics(self._metrics, targets, outputs, from_logits)

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        *,
        seed: int | None = None,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array_like or list of array_like
            Inputs, floating point, samples first; a list for a model that takes a list.
        y : array_like
            Targets, samples first.
        batch_size : int, optional
            Samples per step; 32 by default.
        epochs : int
            Number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            0 is silent, 1 (and `"auto"`) shows a progress bar per epoch with loss, metrics and samples per second, 2
            prints a line per epoch.
        callbacks : sequence of Callback, optional
            See `numbaconv.callbacks`.
        validation_split : float
            Fraction of the samples, the last ones, kept from training and evaluated after every epoch.
        validation_data : (array_like, array_like), optional
            Inputs and targets evaluated after every epoch.
        shuffle : bool
            Whether the samples come in a new order every epoch.
        initial_epoch : int
            Number of the first epoch, from 0.
        validation_batch_size : int, optional
            Samples per step of evaluation; `batch_size` by default.
        seed : int, optional
            Seed from which the model's random stream restarts: two runs from the same weights (or unbuilt models) with
            the same seed agree bit for bit.

        Returns
        -------
        History
            `history.history` maps `"loss"`, metric names and `"val_..."` to a list with a value per epoch.

        Raises
        ------
        ValueError, TypeError
            When the model is not compiled, an argument is out of range, or the data do not fit each other or the model.
        """
        self._check_compiled("calling `fit()`")
        data = training.Data.of(x, y, batch_size)
        if not len(data):
            raise ValueError("`fit` needs at least one sample. Received: x with 0 samples.")
        data, validation = training.with_validation(
            data, validation_data, validation_split, validation_batch_size or batch_size
        )
        if seed is not None:
            self._generator = seeding.make_generator(seed)
        with seeding.use_generator(self._generator):
            return training.fit(
                self,
                data,
                validation,
                epochs=epochs,
                initial_epoch=initial_epoch,
                verbose=verbose,
                callbacks=callbacks or (),
                shuffle=shuffle,
            )

    def train_step(self, inputs: Any, targets: Any) -> tuple[float, np.ndarray]:
        """Run one step of training and return loss and outputs; a subclass may override it."""
        return training.train_step(self, inputs, targets)

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """Return loss and metrics over all samples.

        Parameters
        ----------
        x : array_like or list of array_like
            Inputs, as in `fit`.
        y : array_like
            Targets.
        batch_size : int, optional
            Samples per step; 32 by default.
        verbose : {0, 1, 2}
            As in `fit`.
        return_dict : bool
            Whether to return the values by name.

        Returns
        -------
        float, list of float or dict
            The loss; with metrics, the list of the loss and them.

        Raises
        ------
        ValueError, TypeError
            As `fit`.
        """
        self._check_compiled("calling `evaluate()`")
        data = training.Data.of(x, y, batch_size)
        if not len(data):
            raise ValueError("`evaluate` needs at least one sample. Received: x with 0 samples.")
        logs = training.evaluate(self, data, verbose)
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = 0) -> np.ndarray:
        """Return the outputs for all samples, computed in batches.

        Parameters
        ----------
        x : array_like or list of array_like
            Inputs, as in `fit`.
        batch_size : int, optional
            Samples per step; 32 by default.
        verbose : {0, 1, 2}
            As in `fit`.

        Returns
        -------
        numpy.ndarray
            Outputs, samples first.

        Raises
        ------
        ValueError, TypeError
            When the data do not fit the model.
        """
        return training.predict(self, training.Data.of(x, None, batch_size), verbose)

    # Information

    def summary(self, input_shape: Shape | None = None, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers: output shapes, parameters, multiply-accumulates per sample.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Shape of the inputs with the batch axis; by default that of the data the model was built for.
        print_fn : callable
            What to print with.

        Raises
        ------
        ValueError
            When the model is not built and `input_shape` is missing.
        """
        shape = input_shape if input_shape is not None else self._input_shape
        if shape is None:
            raise ValueError(
                f"'{self.name}' isn't built, so its shapes are unknown. Call it on data first, put Input(shape) first, "
                "or pass summary(input_shape=(None, ...))."
            )
        self.build_once(shape)
        print_fn(summary.text(self, self._calls(shape)))

    def _calls(self, input_shape: Any) -> list[tuple[str, Layer, Any, Any]]:
        """Return (name, layer, input shape, output shape) of every call of the model's own layers."""
        names = {id(layer): path for path, layer in self._children()}
        calls = trace_shapes(self, input_shape)
        found = [(names[id(layer)], layer, given, made) for layer, given, made in calls if id(layer) in names]
        called = {id(layer) for _, layer, _, _ in found}
        unused: list[tuple[str, Layer, Any, Any]] = [
            (path, layer, None, None) for path, layer in self._children() if id(layer) not in called
        ]
        return found + unused

    # Files

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write all weights to a safetensors file, completely or not at all; see `numbaconv.weights.save_weights`."""
        weights.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Read all weights from a safetensors file, or change nothing; see `numbaconv.weights.load_weights`."""
        weights.load_weights(self, filepath)

    def _check_compiled(self, what: str) -> None:
        if self._optimizer is None:
            raise ValueError(
                f"You must call `compile()` before {what}. "
                "For example model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])."
            )
