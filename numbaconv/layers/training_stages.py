"""Layers in a row where gradients are wanted: one program forward, one back, and one step on the tape.

Beside small layers the tape costs more than the kernels: a node, a rule and a launch of its own for each. What the
layers do with inputs of one shape is recorded once (`training_rules`). A layer without a rule is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv import memory
from numbaconv.autograd import Tensor, is_recording
from numbaconv.autograd.joint import Gradients, record_joint
from numbaconv.autograd.tape import Node, recording, walk_backward
from numbaconv.layers.base import Layer
from numbaconv.layers.recording import Value
from numbaconv.layers.snapshots import Snapshot
from numbaconv.layers.stages import Stage
from numbaconv.layers.tracing import TRACE
from numbaconv.layers.training_rules import (
    GRAD_X,
    GRAD_Y,
    Back,
    Forward,
    NotRecordable,
    Step,
    Y,
    has_rule,
    record_gradients,
    record_row,
)
from numbaconv.program import Launches, Recorder


class TrainingStage(Stage):
    """Some layers of a row as programs for one shape, as long as they stay what they are.

    A stage without programs is one layer that has none, and says so until the layer changes.

    Attributes
    ----------
    stop : int
        Number of the layer after the stage's last one.
    """

    def __init__(self, layers: Sequence[Layer], start: int, x: Tensor) -> None:
        shape, dtype = x.shape, x.dtype.name
        forward = Forward(shape, dtype)
        value, steps, self.parameters, stop = record_row(layers, start, forward, shape)
        self.activation = value.activation
        self._shape = value.shape
        self._dtype = dtype
        self._forward, self._back = self._programs(forward, steps, value, x.requires_grad)
        self.stop = stop if self._forward is not None else start + 1
        self.layers = list(layers[start : self.stop])
        # The layer at which a stage ends is watched too: it may come to have a rule.
        watched = [layer for layer in layers[start : stop + 1] if has_rule(layer)]
        self._snapshot = Snapshot(watched, start, self.parameters)
        self._wanted = [p.requires_grad for p in self.parameters]

    def _programs(
        self, forward: Forward, steps: list[Step], value: Value, wants_input: bool
    ) -> tuple[Launches | None, Launches | None]:
        """Return the program on (x, kept, y), and the one back on (x, kept, y, grad_y, gradients, grad_x)."""
        back = Back(Recorder(forward.x.size, forward.dtype), self.parameters)
        if not steps or value.buffer is not steps[-1].y or not (back.places or wants_input):
            return None, None
        # The last outputs are the user's, not kept with the others.
        forward.hand_over(value.buffer, Y)
        try:
            recorder = back.recorder
            grad_x = recorder.argument(GRAD_X, recorder.x.size) if wants_input else None
            record_gradients(back, steps, recorder.argument(GRAD_Y, steps[-1].y.size), grad_x)
        except NotRecordable:
            return None, None
        shapes = [(i, back.places[p], p.shape) for i, p in enumerate(self.parameters, 1) if p in back.places]
        self._gradients = [(i, at, at + math.prod(shape), shape) for i, at, shape in shapes]
        self._allocate_kept = memory.allocator((forward.kept,), self._dtype)
        self._allocate_y = memory.allocator(self._shape, self._dtype)
        self._allocate_gradients = memory.allocator((back.size,), self._dtype)
        programs = forward.launches(Y + 1), back.recorder.launches(GRAD_X + 1)
        return (None, None) if None in programs else programs

    @staticmethod
    def has_rule(layer: Layer) -> bool:
        """Whether a layer can be a part of programs."""
        return has_rule(layer)

    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers, their weights and what gradients they want are what they were."""
        return self._snapshot.is_current(layers) and [p.requires_grad for p in self.parameters] == self._wanted

    def run(self, x: Tensor, training: bool) -> Tensor | None:
        """Return the outputs but for the activation, recorded as one step, or None where a program has none."""
        if self._forward is None:
            return None
        kept, y = self._allocate_kept(), self._allocate_y()
        if not self._forward.run(x.data, kept, y):
            return None

        def compute(g: np.ndarray) -> Gradients:
            return self._gradients_of(x, kept, y, g, training)

        return record_joint("layers", y, (x, *self.parameters), compute)

    def _gradients_of(self, x: Tensor, kept: np.ndarray, y: np.ndarray, g: np.ndarray, training: bool) -> Gradients:
        gradients = self._allocate_gradients()
        grad_x = memory.empty(x.shape, self._dtype) if x.requires_grad else gradients
        assert self._back is not None
        if not self._back.run(x.data, kept, y, np.ascontiguousarray(g), gradients, grad_x):
            return self._gradients_step_by_step(x, g, training)
        results = [(i, gradients[first:last].reshape(shape)) for i, first, last, shape in self._gradients]
        return [(0, grad_x), *results] if x.requires_grad else results

    def _gradients_step_by_step(self, x: Tensor, g: np.ndarray, training: bool) -> Gradients:
        """Compute the gradients by the layers' own steps."""
        inputs = Tensor(x.data, requires_grad=x.requires_grad)
        with recording():
            outputs: Any = inputs
            for layer in self.layers:
                outputs = layer(outputs, training=training)
        node = outputs.node
        assert isinstance(node, Node)
        places = {id(operand): i for i, operand in enumerate((inputs, *self.parameters))}
        return [(places[id(leaf)], gradient) for leaf, gradient in walk_backward(node, g, False)]


def are_stages_wanted() -> bool:
    """Whether calls on this thread are recorded, and not for their shapes alone."""
    return is_recording() and TRACE.get() is None
