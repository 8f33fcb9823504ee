"""`Layer`: weights with names, built from the first input's shape, found again by walking attributes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import wraps
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

import numpy as np

from numbaconv import initializers, regularizers
from numbaconv.arrays import CHARS
from numbaconv.autograd import Tensor
from numbaconv.layers.changes import Watched
from numbaconv.layers.options import as_tensor, check_dtype, snake_case, unknown_options
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.tracing import TRACE, TRAINING, trace_shapes

#: A shape with its batch axis; None stands for a size that is not known yet.
Shape: TypeAlias = "tuple[int | None, ...]"


# Types that most attributes have and that hold neither weights nor layers.
_PLAIN = frozenset((bool, int, float, str, type(None), FunctionType, BuiltinFunctionType, np.ndarray, np.ufunc))
# These, and classes of the package's own whose objects hold neither.
_inert: set[Any] = set(_PLAIN)


class Layer(Watched):
    """A function with weights.

    A subclass defines `call(inputs)` or `call(inputs, training)` and, if it has weights, `build(input_shape)`, which
    runs once, before the first call, and makes them with `add_weight`. Layers kept in attributes, or in lists, tuples
    and dicts in attributes, belong to the layer: their weights are its weights.

    Parameters
    ----------
    name : str, optional
        Name in summaries, messages and weight files. By default the class's name in snake case.
    dtype : {"float32", "float64"}
        Type of the weights. A layer with weights casts floating-point inputs to it, as in Keras.
    trainable : bool
        False freezes the weights.
    **unknown
        Nothing else is taken.

    Raises
    ------
    TypeError
        When another keyword is passed.
    ValueError
        When `name` or `dtype` is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> class Scale(nc.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")
    ...     def call(self, inputs):
    ...         return inputs * self.factor
    >>> Scale()(np.ones((2, 3), np.float32)).shape
    (2, 3)
    """

    # Class-wide defaults let a subclass work whose constructor never calls this one.
    built: bool = False
    dtype: str = "float32"
    _name: str | None = None
    _trainable: bool = True
    _takes_training: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whether `call` takes `training`, and let `build` mark the layer as built, so that users may call it."""
        super().__init_subclass__(**options)
        parameters = inspect.signature(cls.call).parameters.values()
        cls._takes_training = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
        build = cls.__dict__.get("build")
        if build is not None:

            @wraps(build)
            def build_and_mark(self: Layer, input_shape: Any) -> None:
                build(self, input_shape)
                self.built = True

            cls.build = build_and_mark  # type: ignore[method-assign]

    def __init__(self, *, name: Any = None, dtype: str = "float32", trainable: bool = True, **unknown: Any) -> None:
        if unknown:
            raise TypeError(unknown_options(type(self), unknown))
        if name is not None:
            if not isinstance(name, str) or not name or "/" in name:
                raise ValueError(
                    f"Argument `name` must be a string and cannot contain character `/`. Received: name={name!r} "
                    f"(of type {type(name).__name__}). Pass for example name='{snake_case(type(self).__name__)}'."
                )
            self._name = name
        self.dtype = check_dtype(dtype)
        if not trainable:
            self._trainable = False

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

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of `input_shape` (a list of shapes where the layer takes a list of inputs)."""

    def call(self, inputs: Any) -> Any:
        """Compute the outputs; every layer defines it."""
        raise TypeError(
            f"Layer {type(self).__name__} does not have a `call()` method implemented. "
            "Define `call(self, inputs)` or `call(self, inputs, training)` in it."
        )

    def add_weight(
        self,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        *,
        name: str = "weight",
        trainable: bool = True,
        regularizer: Any = None,
    ) -> Parameter:
        """Make a weight; assign it to an attribute to make it part of the layer.

        Parameters
        ----------
        shape : tuple of int
            Its shape.
        initializer : str or callable
            Where its first values come from (`numbaconv.initializers`).
        name : str
            Name in messages; in weight files it is the attribute that counts.
        trainable : bool
            Whether the optimizer updates it.
        regularizer : str or callable, optional
            Penalty added to the training loss (`numbaconv.regularizers`).
        """
        shape = tuple(shape)
        values = np.asarray(initializers.get(initializer)(shape, dtype=self.dtype), self.dtype)
        if values.shape != shape:
            raise ValueError(
                f"The initializer of '{name}' in layer '{self.name}' returned shape {values.shape}; expected {shape}."
            )
        parameter = Parameter(values, name, trainable, regularizers.get(regularizer))
        parameter.requires_grad = self._trainable and trainable
        return parameter

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the layer's outputs for an array or a Tensor (or a list of them), building the layer on first use.

        Parameters
        ----------
        inputs : array_like, Tensor or list of them
            Inputs with the batch axis first, floating point.
        training : bool, optional
            True for training behaviour (dropout, batch statistics). Inside another layer's `call` it is by default what
            that layer was called with, elsewhere False.

        Returns
        -------
        Tensor
            Recorded on the tape while gradients are wanted.

        Raises
        ------
        TypeError
            When an input is not an array of floating-point numbers.
        ValueError
            When the layer cannot take inputs of that shape.
        """
        inputs = self._prepare(inputs)
        shapes = [x.shape for x in inputs] if isinstance(inputs, list) else inputs.shape
        if not self.built:
            self.build_once(shapes)
        self.check_input_shape(shapes)
        if not isinstance(inputs, list) and inputs.data.dtype.char != CHARS[self.dtype] and self._parameters():
            inputs = inputs.astype(self.dtype)
        changes = training is not None and training is not TRAINING.get()
        token = TRAINING.set(bool(training)) if changes else None
        try:
            options = {"training": TRAINING.get()} if self._takes_training else {}
            outputs = self.call(inputs, **options)
        finally:
            if token is not None:
                TRAINING.reset(token)
        trace = TRACE.get()
        if trace is not None:
            trace.append((self, shapes, getattr(outputs, "shape", None)))
        return outputs

    def build_once(self, input_shape: Any) -> None:
        """Build the layer unless it is built."""
        if not self.built:
            self.build(input_shape)
            self.built = True

    def check_input_shape(self, input_shape: Any) -> None:
        """Raise ValueError when the built layer cannot take `input_shape`."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the outputs for inputs of `input_shape`, computing nothing.

        Parameters
        ----------
        input_shape : tuple of int or None, or list of tuples
            Shape with the batch axis; None for an unknown batch size.

        Notes
        -----
        Layers with a rule of their own state it. Others, such as subclassed models, run on an empty batch.
        """
        trace = trace_shapes(self, input_shape)
        return (None, *trace[-1][2][1:])

    def macs(self, input_shape: Any) -> int:
        """Return the multiply-accumulates of one sample of `input_shape` (its batch axis is ignored)."""
        if not any(True for _ in self._children()):
            return 0
        calls = trace_shapes(self, input_shape)
        return sum(layer.macs(shape) for layer, shape, _ in calls if not any(True for _ in layer._children()))

    # Weights, found by walking the attributes

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
                if isinstance(item, Layer):
                    yield path, item

    def _walk(self, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all layers inside, each once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield path, self
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
        inside: list[Layer] = []
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
            When their number or a shape differs; nothing is changed then.
        """
        targets = self.named_weights()
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

    def _prepare(self, inputs: Any) -> Any:
        """Return inputs as a Tensor or a list of Tensors of floating-point numbers."""
        if isinstance(inputs, (list, tuple)):
            return [as_tensor(x, index, self.name) for index, x in enumerate(inputs)]
        return as_tensor(inputs, 0, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}, built={self.built}>"


def _collect(value: Any, found: dict[int, Parameter], inside: list[Layer]) -> None:
    """Add the weights and layers in an attribute to `found` and `inside`."""
    if type(value) in _PLAIN:
        return
    if isinstance(value, Parameter):
        found.setdefault(id(value), value)
    elif isinstance(value, Layer):
        inside.append(value)
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _collect(item, found, inside)
    elif type(value).__module__.startswith("numbaconv."):
        _inert.add(type(value))


def _items(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield layers and weights in an attribute with their paths: its name, then index or key in a container."""
    if isinstance(value, (Layer, Parameter)):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _items(f"{path}/{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _items(f"{path}/{key}", item)
