"""`Layer`: a function with weights, built from the first input's shape."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from numbaconv import initializers, regularizers
from numbaconv.arrays import CHARS
from numbaconv.layers.options import as_tensor, check_dtype, snake_case, unknown_options
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.tracing import TRACE, TRAINING, trace_shapes
from numbaconv.layers.weighted import Weighted

#: A shape with its batch axis; None stands for a size that is not known yet.
Shape: TypeAlias = "tuple[int | None, ...]"


class Layer(Weighted):
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
        False keeps training from changing the weights.
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
    dtype: str = "float32"
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

    def _prepare(self, inputs: Any) -> Any:
        """Return inputs as a Tensor or a list of Tensors of floating-point numbers."""
        if isinstance(inputs, (list, tuple)):
            return [as_tensor(x, index, self.name) for index, x in enumerate(inputs)]
        return as_tensor(inputs, 0, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}, built={self.built}>"
