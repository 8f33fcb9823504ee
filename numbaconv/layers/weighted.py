"""`Weighted`: what has weights finds them, and those of layers inside, by walking its attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from numbaconv.autograd import Tensor
from numbaconv.constants import is_constant
from numbaconv.layers.changes import Watched
from numbaconv.layers.options import snake_case
from numbaconv.layers.parameter import Parameter

if TYPE_CHECKING:
    from numbaconv.layers.base import Layer

# Types that most attributes have and that hold neither weights nor layers.
_PLAIN = frozenset((bool, int, float, str, type(None), FunctionType, BuiltinFunctionType, np.ndarray, np.ufunc))
# These, and classes of the package's own whose objects hold neither.
_inert: set[Any] = set(_PLAIN)


class Weighted(Watched):
    """The weights of a `Layer`."""

    # Class-wide defaults let a layer work whose constructor never calls that of `Layer`.
    built: bool = False
    _name: str | None = None
    _trainable: bool = True

    @property
    def name(self) -> str:
        """Name in summaries, messages and weight files."""
        return self._name or snake_case(type(self).__name__)

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer; setting it sets all layers inside too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for parameter in self._parameters().values():
            parameter.requires_grad = self._trainable and parameter.trainable
        for _, child in self._children():
            child.trainable = value

    def freeze(self) -> None:
        """Make all weights constant: for inference, which then packs and transforms kernels once, not in every call.

        The weights are copied to arrays that nobody can write to, and are not trained (`trainable` is False). Launches
        that `Sequential` records read kernels in the form that they need, made when they are recorded: packed, or
        transformed by Winograd's algorithm, with 3x3 taps four times as large as the kernel. Batch normalisation is
        scaled into the kernel before it. Of one sample dense layers read no weights that meet a zero, as relu makes
        them, if all weights are finite. So results may differ from those before by rounding.

        Raises
        ------
        ValueError
            When the layer has not been built and so has no weights yet.

        Notes
        -----
        Copies and pickles of a frozen layer are not trainable, but not constant.

        Examples
        --------
        >>> import numpy as np
        >>> import numbaconv as nc
        >>> model = nc.Sequential([nc.layers.Input((8, 8, 1)), nc.layers.Conv2D(4, 3, activation="relu")])
        >>> model.freeze()
        >>> with nc.no_grad():
        ...     model(np.ones((1, 8, 8, 1), np.float32)).shape
        (1, 6, 6, 4)
        >>> model.trainable_weights
        []
        """
        if not self.built:
            raise ValueError(
                f"Layer '{self.name}' cannot be frozen: it isn't built and has no weights yet. "
                "Call it on data, or put Input(shape) first."
            )
        for weight in self.weights:
            weight.freeze()
        self.trainable = False

    def unfreeze(self) -> None:
        """Make all weights writeable and trainable again."""
        for weight in self.weights:
            weight.unfreeze()
        self.trainable = True

    def _parameters(self) -> dict[str, Parameter]:
        """Return the layer's own weights by attribute, without those of layers inside."""
        return {
            path: item
            for attribute, value in vars(self).items()
            for path, item in _items(attribute, value)
            if isinstance(item, Parameter)
        }

    def _children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers inside with their paths."""
        for attribute, value in vars(self).items():
            for path, item in _items(attribute, value):
                if isinstance(item, Weighted):
                    yield path, cast("Layer", item)

    def _walk(self, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all layers inside, each once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield path, cast("Layer", self)
        for name, child in self._children():
            yield from child._walk(f"{path}/{name}" if path else name, seen)

    def named_weights(self) -> dict[str, Parameter]:
        """Return every weight by its path, such as `"blocks/0/conv/kernel"`, in the order of definition."""
        named: dict[str, Parameter] = {}
        known: set[int] = set()
        for path, layer in self._walk():
            for name, parameter in layer._parameters().items():
                if id(parameter) not in known:
                    known.add(id(parameter))
                    named[f"{path}/{name}" if path else name] = parameter
        return named

    @property
    def weights(self) -> list[Parameter]:
        """All weights, those of layers inside included, in the order of `named_weights`."""
        found: dict[int, Parameter] = {}
        self._gather(found, set())
        return list(found.values())

    def _gather(self, found: dict[int, Parameter], seen: set[int]) -> None:
        """Collect weights as `named_weights` does but without names, which a training step has no use for."""
        seen.add(id(self))
        inside: list[Weighted] = []
        for value in vars(self).values():
            kind = type(value)
            if kind not in _inert and not (kind is tuple and _PLAIN.issuperset(map(type, value))):
                _collect(value, found, inside)
        for layer in inside:
            if id(layer) not in seen:
                layer._gather(found, seen)

    @property
    def trainable_weights(self) -> list[Parameter]:
        """Weights that training updates."""
        return [weight for weight in self.weights if weight.requires_grad]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """Weights that training leaves to themselves: moving averages and frozen weights."""
        return [weight for weight in self.weights if not weight.requires_grad]

    @property
    def losses(self) -> list[Tensor]:
        """Penalties of the regularizers of trainable weights."""
        return [weight.regularizer(weight) for weight in self.trainable_weights if weight.regularizer is not None]

    def count_params(self) -> int:
        """Return the number of values in all weights.

        Raises
        ------
        ValueError
            When the layer has not been built and so has no weights yet.
        """
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on layer '{self.name}', but the layer isn't built. "
                "You can build it manually via: `layer.build(input_shape)`, or call it on data first."
            )
        return sum(weight.size for weight in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weights in the order of `weights`."""
        return [weight.data.copy() for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite all weights, in the order of `weights`.

        Parameters
        ----------
        weights : sequence of array_like
            One array per weight, of its shape.

        Raises
        ------
        ValueError
            When their number or a shape differs, or a weight is frozen; nothing is changed then.
        """
        targets = self.named_weights()
        refuse_frozen(targets)
        arrays = [np.asarray(weight) for weight in weights]
        if len(arrays) != len(targets):
            raise ValueError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of length {len(arrays)}, "
                f"but the layer was expecting {len(targets)} weights"
                + (": " + ", ".join(f"{path} {p.shape}" for path, p in targets.items()) if targets else "")
                + ("." if self.built else ". Call the layer on data or build it first.")
            )
        for (path, parameter), array in zip(targets.items(), arrays, strict=True):
            if array.shape != parameter.shape:
                raise ValueError(
                    f"Layer '{self.name}' weight shape {parameter.shape} is not compatible with provided weight shape "
                    f"{array.shape}. Pass an array of shape {parameter.shape} for '{path}'."
                )
        for parameter, array in zip(targets.values(), arrays, strict=True):
            parameter.assign(array)


def refuse_frozen(weights: dict[str, Parameter]) -> None:
    """Raise ValueError when one of some weights, by path, is constant."""
    frozen = [path for path, weight in weights.items() if is_constant(weight.data)]
    if frozen:
        raise ValueError(
            f"Weights cannot be overwritten: {', '.join(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen. "
            "Call `unfreeze()` on the layer or model first."
        )


def _collect(value: Any, found: dict[int, Parameter], inside: list[Weighted]) -> None:
    """Add the weights and layers in an attribute to `found` and `inside`."""
    if type(value) in _PLAIN:
        return
    if isinstance(value, Parameter):
        found.setdefault(id(value), value)
    elif isinstance(value, Weighted):
        inside.append(value)
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _collect(item, found, inside)
    elif type(value).__module__.startswith("numbaconv."):
        _inert.add(type(value))


def _items(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield layers and weights in an attribute with their paths: its name, then index or key in a container."""
    if isinstance(value, (Weighted, Parameter)):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _items(f"{path}/{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _items(f"{path}/{key}", item)
