"""What layers are at one time, so that what was recorded of them is used only as long as they stay so."""

from __future__ import annotations

from collections.abc import Sequence

from numbaconv.layers.base import Layer
from numbaconv.layers.changes import LAST
from numbaconv.layers.parameter import Parameter


class Snapshot:
    """Some layers of a row with their attributes, and the arrays of their weights.

    Parameters
    ----------
    watched : sequence of Layer
        The layers from number ``start`` of the row on whose attributes matter.
    start : int
        Number of the first of them.
    parameters : sequence of Parameter
        Weights whose arrays matter.
    """

    def __init__(self, watched: Sequence[Layer], start: int, parameters: Sequence[Parameter]) -> None:
        self._layers = list(watched)
        self._watched = slice(start, start + len(self._layers))
        # The last change after which attributes and arrays were found to be the same.
        self._seen: object = None
        self._states = [dict(vars(layer)) for layer in self._layers]
        self._parameters = parameters
        self._arrays = [p.data for p in parameters]
        self._places = [id(array) for array in self._arrays]

    def is_current(self, layers: Sequence[Layer]) -> bool:
        """Whether the layers of the row have the attributes, and their weights the arrays, that they had."""
        change = LAST[0]
        if change is not self._seen:
            try:
                if [layer.__dict__ for layer in self._layers] != self._states:
                    return False
            except ValueError:  # an array among the attributes has changed
                return False
            if [id(p.data) for p in self._parameters] != self._places:
                return False
            self._seen = change
        return layers[self._watched] == self._layers
