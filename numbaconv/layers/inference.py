"""Layers in a row where neither training nor gradients are wanted: a program in the place of their calls.

What the layers do with inputs of one shape is recorded once as launches in a row (`numbaconv.program`), which later
calls run without Python in between. A layer without a rule (`layers/recording.py`) is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv import planner
from numbaconv.autograd import Tensor, is_recording
from numbaconv.autograd.tensor import wrap
from numbaconv.layers.base import Layer
from numbaconv.layers.recording import Value, record_layer, rule_of
from numbaconv.layers.snapshots import Snapshot
from numbaconv.layers.tracing import TRACE, TRAINING
from numbaconv.program import Program, Recorder

MAX_STAGES = 32
"""Stages kept for one model; one more, and all of them go: whoever has so many shapes does not call one often."""


class Stage:
    """Some layers of a row as a program for one shape, as long as they stay what they are.

    A stage without a program is one layer that has none, and says so until the layer changes.

    Attributes
    ----------
    stop : int
        Number of the layer after the stage's last one.
    """

    def __init__(self, layers: Sequence[Layer], start: int, shape: tuple[int, ...], dtype: str) -> None:
        recorder = Recorder(math.prod(shape), dtype)
        value = Value(recorder.x, shape)
        stop = start
        while stop < len(layers) and value.activation is None:
            following = record_layer(layers[stop], recorder, value)
            if following is None:
                break
            value = following
            stop += 1
        program: Program | None = recorder.program(value.buffer, value.shape)
        self.program = program
        self.activation = value.activation
        self.stop = stop if program is not None else start + 1
        # The layer at which a stage ends is watched too: it may come to have a program.
        seen = layers[start : stop + 1]
        parameters = [p for layer in layers[start : self.stop] for p in layer._parameters().values()]
        self.snapshot = Snapshot([layer for layer in seen if rule_of(layer) is not None], start, parameters)


class Stages:
    """The stages of a model's layers, found by where they start and by their inputs."""

    def __init__(self) -> None:
        self._stages: dict[Any, Stage] = {}

    def __reduce__(self) -> Any:
        return Stages, ()

    def find(self, layers: Sequence[Layer], start: int, x: np.ndarray) -> Stage:
        """Return the stage that begins with layer ``start`` for inputs like ``x``."""
        key = start, x.shape, x.dtype, planner.generation
        stage = self._stages.get(key)
        if stage is None or not stage.snapshot.is_current(layers):
            if len(self._stages) >= MAX_STAGES:
                self._stages.clear()
            stage = self._stages[key] = Stage(layers, start, x.shape, x.dtype.name)
        return stage


def is_wanted() -> bool:
    """Whether calls on this thread are for their values alone."""
    return not is_recording() and not TRAINING.get() and TRACE.get() is None


def _is_readable(x: np.ndarray) -> bool:
    """Whether launches can read inputs where they lie."""
    return x.size > 0 and (x.flags.carray or (x.flags.c_contiguous and x.flags.aligned))


def infer(layers: Sequence[Layer], x: Any, stages: Stages) -> Any:
    """Return what the layers return one after the other."""
    position = 0
    while position < len(layers):
        stop = position + 1
        if type(x) is Tensor and _is_readable(x.data) and rule_of(layers[position]) is not None:
            stage = stages.find(layers, position, x.data)
            y = None if stage.program is None else stage.program(x.data)
            stop = stage.stop
            if y is not None:
                x = wrap(y) if stage.activation is None else stage.activation(wrap(y))
                position = stop
                continue
        for layer in layers[position:stop]:
            x = layer(x, training=False)
        position = stop
    return x
