"""Layers in a row where neither training nor gradients are wanted: a program in the place of their calls.

What the layers do with inputs of one shape is recorded once as launches in a row (`numbaconv.program`), which later
calls run without Python in between. A layer without a rule (`layers/recording.py`) is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from numbaconv.autograd import Tensor
from numbaconv.autograd.tape import state
from numbaconv.autograd.tensor import wrap
from numbaconv.layers.base import Layer
from numbaconv.layers.joining import record_from
from numbaconv.layers.recording import Value, rule_of
from numbaconv.layers.snapshots import Snapshot
from numbaconv.layers.stages import Stage
from numbaconv.layers.tracing import TRACE, TRAINING
from numbaconv.program import Program, Recorder


class InferenceStage(Stage):
    """Some layers of a row as a program for one shape, as long as they stay what they are.

    A stage without a program is one layer that has none, and says so until the layer changes.

    Attributes
    ----------
    stop : int
        Number of the layer after the stage's last one.
    """

    def __init__(self, layers: Sequence[Layer], start: int, x: Tensor) -> None:
        recorder = Recorder(math.prod(x.shape), x.dtype.name)
        value = Value(recorder.x, x.shape)
        stop = start
        while stop < len(layers) and value.activation is None:
            following, behind = record_from(layers, stop, recorder, value)
            if following is None:
                break
            value, stop = following, behind
        program: Program | None = recorder.program(value.buffer, value.shape)
        self._program = program
        self.activation = value.activation
        self.stop = stop if program is not None else start + 1
        # The layer at which a stage ends is watched too: it may come to have a program.
        seen = layers[start : stop + 1]
        parameters = [p for layer in layers[start : self.stop] for p in layer._parameters().values()]
        self._snapshot = Snapshot([layer for layer in seen if rule_of(layer) is not None], start, parameters)

    @staticmethod
    def has_rule(layer: Layer) -> bool:
        """Whether a layer can be a part of programs."""
        return rule_of(layer) is not None

    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers and their weights are what they were."""
        return self._snapshot.is_current(layers)

    def run(self, x: Tensor, training: bool) -> Tensor | None:
        """Return the outputs but for the activation, or None where the program has none."""
        return self.run_array(x.data)

    def run_array(self, x: np.ndarray) -> Tensor | None:
        """Return the same for an array that launches can read."""
        y = None if self._program is None else self._program(x)
        return None if y is None else wrap(y)


def is_wanted() -> bool:
    """Whether calls on this thread are for their values alone."""
    # `is_recording` without its frame: this stands before each run of a program.
    return state.paused > 0 and not TRAINING.get() and TRACE.get() is None
