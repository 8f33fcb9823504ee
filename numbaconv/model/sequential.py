"""`Sequential`: layers in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from numbaconv import seeding
from numbaconv.layers import Input, Layer
from numbaconv.layers.inference import InferenceStage, is_wanted
from numbaconv.layers.stages import Stages, run_stages
from numbaconv.layers.training_stages import TrainingStage, are_stages_wanted
from numbaconv.model.base import Model
from numbaconv.model.steps import TrainingSteps


class Sequential(Model):
    """Layers applied one after the other.

    Parameters
    ----------
    layers : sequence of Layer, optional
        The layers. With `Input` first, the model is built at once.
    name : str, optional
        Name in summaries and messages.
    seed : int, optional
        Seed of the model's own random stream; see `Model`.
    **options
        `dtype` and `trainable` of `Layer`.

    Raises
    ------
    TypeError
        When an item is not a Layer.
    ValueError
        When two layers have the same given name, or `Input` is not first.

    Examples
    --------
    >>> import numbaconv as nc
    >>> model = nc.Sequential([nc.layers.Input((4,)), nc.layers.Dense(3, "relu"), nc.layers.Dense(2)])
    >>> model.summary()
    Model: sequential
    --------------------------------------------
    Layer (type)     Output Shape  Param #  MACs
    --------------------------------------------
    dense (Dense)    (None, 3)          15    12
    dense_1 (Dense)  (None, 2)           8     6
    --------------------------------------------
    Total params          23
    Trainable params      23
    Non-trainable params   0
    MACs per sample       18
    """

    def __init__(
        self,
        layers: Sequence[Layer] | None = None,
        *,
        name: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name, seed=seed, **options)
        self._input: Input | None = None
        self._layers: list[Layer] = []
        self._stages = Stages(InferenceStage)
        self._training_stages = Stages(TrainingStage)
        self._training_steps = TrainingSteps()
        for layer in layers or ():
            self._append(layer)
        self._build_from_input()

    def add(self, layer: Layer) -> None:
        """Append a layer.

        Parameters
        ----------
        layer : Layer
            The layer.

        Raises
        ------
        TypeError, ValueError
            As the constructor.
        """
        self._append(layer)
        self.built = False
        self._build_from_input()

    def pop(self) -> Layer:
        """Remove and return the last layer.

        Raises
        ------
        ValueError
            When there is none.
        """
        if not self._layers:
            raise ValueError("There are no layers in the model to remove.")
        return self._layers.pop()

    def _append(self, layer: Any) -> None:
        if isinstance(layer, type) or not isinstance(layer, Layer):
            hint = f" Pass an object: {layer.__name__}(...)." if isinstance(layer, type) else ""
            raise TypeError(
                "Only instances of `Layer` can be added to a Sequential model. "
                f"Received: {layer!r} (of type {type(layer).__name__}).{hint}"
            )
        if isinstance(layer, Input):
            if self._layers or self._input is not None:
                raise ValueError(
                    f"`Input` must come first in a Sequential model. Received: {layer!r} at position "
                    f"{len(self._layers) + (self._input is not None)}."
                )
            self._input = layer
            return
        if layer._name is not None and any(layer._name == other._name for other in self._layers if other is not layer):
            raise ValueError(
                f"All layers added to a Sequential model should have unique names. Name '{layer._name}' is already the "
                f"name of a layer in this model. Pass another `name`."
            )
        self._layers.append(layer)

    def _build_from_input(self) -> None:
        if self._input is not None and self._layers:
            self.build_once(self._input.batch_shape)

    def _children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers with their names, made unique by counting: `dense`, `dense_1`."""
        given = {layer._name for layer in self._layers}
        counts: dict[str, int] = {}
        known: dict[int, str] = {}
        for layer in self._layers:
            name = known.get(id(layer)) or layer._name
            while name is None or (name in given and layer._name is None and id(layer) not in known):
                number = counts.get(layer.name, 0)
                counts[layer.name] = number + 1
                name = f"{layer.name}_{number}" if number else layer.name
            known[id(layer)] = name
            yield name, layer

    def build(self, input_shape: Any) -> None:
        """Build every layer for the outputs of the one before."""
        if not self._layers:
            raise ValueError(f"Sequential model '{self.name}' has no layers. Pass some, or call `add`.")
        self._note_input(input_shape)
        for name, layer in self._children():
            try:
                layer.build_once(input_shape)
                layer.check_input_shape(input_shape)
                input_shape = layer.compute_output_shape(input_shape)
            except (TypeError, ValueError) as error:
                error.add_note(f"Raised by layer '{name}' of model '{self.name}' for inputs of shape {input_shape}.")
                raise

    def check_input_shape(self, input_shape: Any) -> None:
        """Raise ValueError when the inputs do not have the shape that `Input` states."""
        if self._input is not None:
            self._input.check_input_shape(input_shape)

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the model's outputs; see `Layer.__call__`.

        For their values alone, an array that all layers have one program for is handed to it at once.
        """
        if type(inputs) is np.ndarray and not training and type(self).call is Sequential.call and is_wanted():
            stage = self._stages.find_whole(self._layers, inputs, self.check_input_shape)
            if stage is not None:
                y = stage.run_array(inputs)
                if y is not None:
                    return y if stage.activation is None else stage.activation(y)
                with seeding.use_generator(self._generator):
                    return self._call_layers(inputs, False)
        return super().__call__(inputs, training=training)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Apply the layers one after the other."""
        if not training and is_wanted():
            return run_stages(self._layers, inputs, self._stages, training)
        if are_stages_wanted():
            return run_stages(self._layers, inputs, self._training_stages, training)
        return self._call_layers(inputs, training)

    def _call_layers(self, inputs: Any, training: bool) -> Any:
        for layer in self._layers:
            inputs = layer(inputs, training=training)
        return inputs

    def train_step(self, inputs: Any, targets: Any) -> tuple[float, np.ndarray]:
        """Run one step of training and return loss and outputs; a subclass may override it."""
        kind, done = type(self), None
        if kind.call is Sequential.call and kind.__call__ is Sequential.__call__ and self.built:
            done = self._training_steps.run(self, self._layers, self._loss, self._optimizer, inputs, targets)
        return super().train_step(inputs, targets) if done is None else done

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the last layer's outputs."""
        for layer in self._layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def macs(self, input_shape: Any) -> int:
        """Return the multiply-accumulates of one sample of `input_shape`."""
        return sum(layer.macs(given) for _, layer, given, _ in self._calls(input_shape))

    def _calls(self, input_shape: Any) -> list[tuple[str, Layer, Any, Any]]:
        calls: list[tuple[str, Layer, Any, Any]] = []
        for name, layer in self._children():
            output_shape = layer.compute_output_shape(input_shape)
            calls.append((name, layer, input_shape, output_shape))
            input_shape = output_shape
        return calls
