"""The stages of a row of layers: parts that run as programs, found by where they start and by their inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from numbaconv import planner
from numbaconv.autograd import Tensor
from numbaconv.layers.base import Layer
from numbaconv.layers.changes import LAST

MAX_STAGES = 32
"""Stages kept for one model; one more, and all of them go: whoever has so many shapes does not call one often."""


class Stage(ABC):
    """Some layers of a row as programs for inputs of one shape, or one layer that has none.

    Attributes
    ----------
    stop : int
        Number of the layer after the stage's last one.
    activation : callable or None
        What is left to do to the outputs in Python.
    """

    stop: int
    activation: Callable[[Any], Any] | None

    @abstractmethod
    def __init__(self, layers: Sequence[Layer], start: int, x: Tensor) -> None: ...

    @staticmethod
    @abstractmethod
    def has_rule(layer: Layer) -> bool:
        """Whether a stage may begin with a layer."""

    @abstractmethod
    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers are what they were when they were recorded."""

    @abstractmethod
    def run(self, x: Tensor, training: bool) -> Tensor | None:
        """Return the outputs but for the activation, or None where the layers must be called."""


_S = TypeVar("_S", bound=Stage)


class Stages(Generic[_S]):
    """The stages of a model's layers, all of one kind."""

    def __init__(self, kind: type[_S]) -> None:
        self.kind = kind
        self._stages: dict[Any, _S] = {}
        # What `find_whole` found last, and all that it found it by.
        self._last: tuple[Any, ...] = (None,)

    def __reduce__(self) -> Any:
        return Stages, (self.kind,)

    def find(self, layers: Sequence[Layer], start: int, x: Tensor) -> _S:
        """Return the stage that begins with layer ``start`` for inputs like ``x``."""
        key = start, x.data.shape, x.data.dtype, x.requires_grad, planner.generation
        stage = self._stages.get(key)
        if stage is None or not stage.is_current(layers):
            if len(self._stages) >= MAX_STAGES:
                self._stages.clear()
                self._last = (None,)
            stage = self._stages[key] = self.kind(layers, start, x)
        return stage

    def find_whole(self, layers: list[Layer], x: np.ndarray, check_shape: Callable[[Any], None]) -> _S | None:
        """Return the stage that all layers were for arrays like ``x`` and still are, if launches can read ``x``.

        Its shape has passed ``check_shape``.
        """
        change, last = LAST[0], self._last
        if change is last[0] and x.shape == last[1] and x.dtype == last[2] and planner.generation == last[3]:
            return last[5] if layers == last[4] and (x.flags.carray or _is_readable(x)) else None
        stage = self._stages.get((0, x.shape, x.dtype, False, planner.generation))
        if stage is None or stage.stop < len(layers) or not _is_readable(x) or not stage.is_current(layers):
            return None
        check_shape(x.shape)
        self._last = change, x.shape, x.dtype, planner.generation, layers.copy(), stage
        return stage


def _is_readable(x: np.ndarray) -> bool:
    """Whether launches can read inputs where they lie."""
    return x.size > 0 and (x.flags.carray or (x.flags.c_contiguous and x.flags.aligned))


def run_stages(layers: Sequence[Layer], x: Any, stages: Stages[Any], training: bool) -> Any:
    """Return what the layers return one after the other."""
    position = 0
    while position < len(layers):
        stop = position + 1
        if type(x) is Tensor and _is_readable(x.data) and stages.kind.has_rule(layers[position]):
            stage = stages.find(layers, position, x)
            y = stage.run(x, training)
            stop = stage.stop
            if y is not None:
                x = y if stage.activation is None else stage.activation(y)
                position = stop
                continue
        for layer in layers[position:stop]:
            x = layer(x, training=training)
        position = stop
    return x
