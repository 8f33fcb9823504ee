"""A step of training of layers in a row as one program: outputs, losses of labels, gradients of all weights.

Where only new weights are wanted of a step, no tensor is needed between the inputs and the gradients, and nothing can
ask for an intermediate result later: gradients are written over outputs that are not needed any more, and all of it
lies in memory that each step uses again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from numbaconv import memory
from numbaconv.algorithms.cross_entropy import FEW_CLASSES, record_mean_label_cross_entropy
from numbaconv.layers.base import Layer
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.snapshots import Snapshot
from numbaconv.layers.training_rules import Back, NotRecordable, has_rule, record_gradients, record_row
from numbaconv.program import Launches, Operand, Recorder

X, Y, LABELS, LOSSES = range(4)
"""The program's arguments."""


class _Whole(Recorder):
    """A step, being recorded."""

    wants_gradients = True


class _OwnGradients(Back):
    """The way back, to arrays that are the program's own."""

    is_last = True

    def __init__(self, recorder: Recorder, parameters: Sequence[Parameter]) -> None:
        super().__init__(recorder, parameters)
        room = memory.aligned_bytes(self.size * np.dtype(recorder.dtype).itemsize).view(recorder.dtype)
        self.arrays = {p: room[at : at + p.size].reshape(p.shape) for p, at in self.places.items()}

    def _place(self, parameter: Parameter) -> Operand:
        return self.arrays[parameter]


class TrainingProgram:
    """The step of some layers for inputs of one shape, as long as the layers stay what they are.

    Parameters
    ----------
    layers : sequence of Layer
        Built; the last one's outputs are logits of shape (samples, classes).
    shape, dtype : tuple of int and str
        Of the inputs.

    Attributes
    ----------
    parameters, gradients : list of Parameter and list of ndarray
        Weights that want a gradient, and where `run` leaves theirs. Both are empty where the layers have no program.
    """

    def __init__(self, layers: Sequence[Layer], shape: tuple[int, ...], dtype: str) -> None:
        recorder = _Whole(math.prod(shape), dtype)
        value, steps, every, stop = record_row(layers, 0, recorder, shape)
        self.parameters: list[Parameter] = []
        self.gradients: list[np.ndarray] = []
        self._launches: Launches | None = None
        # The layer at which the row ends is watched too: it may come to have a rule.
        self._snapshot = Snapshot([layer for layer in layers[: stop + 1] if has_rule(layer)], 0, every)
        self._count, self._every, self._wanted = len(layers), every, [p.requires_grad for p in every]
        if stop < len(layers) or value.activation is not None or len(value.shape) != 2:
            return
        samples, classes = value.shape
        if not steps or value.buffer is not steps[-1].y or classes > FEW_CLASSES:
            return
        back = _OwnGradients(recorder, every)
        recorder.hand_over(value.buffer, Y)
        slopes = recorder.buffer(value.buffer.size)
        labels, losses = recorder.argument(LABELS, samples), recorder.argument(LOSSES, samples)
        record_mean_label_cross_entropy(recorder, value.buffer, labels, losses, slopes, classes)
        try:
            record_gradients(back, steps, slopes, None)
        except NotRecordable:
            return
        self._launches = recorder.launches(LOSSES + 1)
        if self._launches is None or not back.places:
            return
        self.parameters, self.gradients = list(back.arrays), list(back.arrays.values())
        self._allocate_y = memory.allocator(value.shape, dtype)
        self._allocate_losses = memory.allocator((samples,), dtype)

    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers, their weights and what gradients they want are what they were."""
        return (
            len(layers) == self._count
            and self._snapshot.is_current(layers)
            and [p.requires_grad for p in self._every] == self._wanted
        )

    def run(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the losses of all samples and the outputs, and leave the gradients of the mean loss in `gradients`.

        Returns None where a label is not in [0, classes), or where the layers themselves must be called.

        Parameters
        ----------
        x : ndarray
            Inputs of the program's shape and dtype, in C order.
        labels : ndarray of int64
            One number per sample, in C order.
        """
        assert self._launches is not None
        y, losses = self._allocate_y(), self._allocate_losses()
        return (losses, y) if self._launches.run(x, y, labels, losses) else None
