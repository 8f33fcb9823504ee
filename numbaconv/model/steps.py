"""Steps of training by programs: of layers in a row, a loss of labels, and an optimizer that is a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv import planner
from numbaconv.arrays import DTYPES
from numbaconv.layers import Layer
from numbaconv.layers.stages import MAX_STAGES
from numbaconv.layers.training_program import TrainingProgram
from numbaconv.layers.training_stages import are_stages_wanted
from numbaconv.losses import SparseCategoricalCrossentropy
from numbaconv.optimizers.base import takes_gradients


class TrainingSteps:
    """The training programs of a model by the shapes of their inputs."""

    def __init__(self) -> None:
        self._programs: dict[Any, TrainingProgram] = {}

    def __reduce__(self) -> Any:
        return TrainingSteps, ()

    def _find(self, model: Layer, layers: Sequence[Layer], x: np.ndarray) -> TrainingProgram:
        """Return the program for inputs like ``x``; raise ValueError where the model does not take such."""
        key = x.shape, x.dtype.char, planner.generation
        program = self._programs.get(key)
        if program is None or not program.is_current(layers):
            if len(self._programs) >= MAX_STAGES:
                self._programs.clear()
            model.check_input_shape(x.shape)
            program = self._programs[key] = TrainingProgram(layers, x.shape, x.dtype.name)
        return program

    def run(
        self, model: Layer, layers: Sequence[Layer], loss: Any, optimizer: Any, inputs: Any, targets: Any
    ) -> tuple[float, np.ndarray] | None:
        """Run one step and return loss and outputs, or None where nothing was done, as a program cannot do it."""
        if not (_are_labels_of(inputs, targets) and _is_mean_of_logits(loss) and takes_gradients(optimizer)):
            return None
        if not are_stages_wanted():
            return None
        program = self._find(model, layers, inputs)
        parameters = program.parameters
        # A gradient that a weight has already is a part of the step.
        if not parameters or any([p.grad is not None or p.regularizer is not None for p in parameters]):
            return None
        results = program.run(inputs, np.ascontiguousarray(targets, np.int64))
        if results is None:
            return None
        losses, outputs = results
        optimizer.update_all(parameters, program.gradients)
        return float(np.add.reduce(losses) / losses.dtype.type(losses.size)), outputs


def _are_labels_of(x: Any, targets: Any) -> bool:
    """Whether inputs lie as launches read them, and targets are an integer for each sample."""
    if type(x) is not np.ndarray or type(targets) is not np.ndarray or targets.dtype.kind not in "iu":
        return False
    is_readable = x.size > 0 and x.ndim > 1 and x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative
    return is_readable and x.dtype.char in DTYPES and targets.shape in ((len(x),), (len(x), 1))


def _is_mean_of_logits(loss: Any) -> bool:
    return type(loss) is SparseCategoricalCrossentropy and loss.from_logits and loss.axis in (-1, 1)
