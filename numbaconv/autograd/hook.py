"""Calls of the package's array functions with tensors: run them on arrays and record them on the tape."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from numbaconv import activations as array_activations
from numbaconv import functional
from numbaconv.activations import find_activation
from numbaconv.arrays import as_array
from numbaconv.autograd.activations import RECORDED_ACTIVATIONS
from numbaconv.autograd.tape import Node, is_recording
from numbaconv.autograd.tensor import PRIMITIVES, Tensor, record, values, wrap
from numbaconv.fusing import FusedActivation

# The options that a convolution shares with its gradients; the rules know them as `options`.
SHARED = ("strides", "padding", "dilation_rate", "groups", "data_format", "padding_mode", "algorithm")


@cache
def parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any], frozenset[str]]:
    """Return a function's positional parameters, its defaults, and the names of all its parameters."""
    all_ = inspect.signature(function).parameters
    positional = tuple(name for name, parameter in all_.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)
    defaults = {name: parameter.default for name, parameter in all_.items() if parameter.default is not parameter.empty}
    return positional, defaults, frozenset(all_)


def bind(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name; a tenth of the time of `inspect.Signature.bind`."""
    positional, defaults, names = parameters(function)
    arguments = {**defaults, **dict(zip(positional, args)), **keywords}
    if (
        len(args) > len(positional)
        or arguments.keys() != names
        or not keywords.keys().isdisjoint(positional[: len(args)])
    ):
        inspect.signature(function).bind(*args, **keywords)  # raises Python's TypeError for such a call
    return arguments


def call_with_tensors(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Run ``function`` of `numbaconv.functional` on the tensors' arrays; record it as the primitive of its name."""
    if not is_recording():
        arrays = [argument.data if isinstance(argument, Tensor) else argument for argument in args]
        options = {key: a.data if isinstance(a, Tensor) else a for key, a in keywords.items()}
        if options.get("activation") is not None:
            options["activation"] = array_activation(options["activation"])
        return wrap(function.array_function(*arrays, **options))
    arguments = bind(function.array_function, args, keywords)
    name = function.__name__
    if name == "separable_conv":
        return separable_conv(arguments)
    if name == "apply_activation":
        return apply_activation(**arguments)
    operands = [arguments.pop(operand) for operand in PRIMITIVES[name].operands]
    arrays = [
        None if operand is None else as_array(values(operand), operand_name)
        for operand, operand_name in zip(operands, PRIMITIVES[name].operands, strict=True)
    ]
    out = arguments.get("out")
    if out is not None:
        if is_recording() and any(isinstance(o, Tensor) and o.requires_grad for o in operands):
            raise ValueError(
                "`out` cannot take a result that is recorded for its gradient, as the tape keeps that array. Leave it "
                "out, or make the call inside no_grad()."
            )
        return record(name, function.array_function(*arrays, **arguments), operands, arrays)
    activation = recorded_activation(arguments.pop("activation", None))
    options = {key: arguments[key] for key in SHARED if key in arguments}
    if activation is RECORDED_ACTIVATIONS["relu"]:
        # The engine adds the bias and applies relu in the same pass.  The tape has two steps, so that only the final
        # result is kept, and the gradients of relu and of the bias are one pass too.
        y = function.array_function(*arrays, activation="relu", **arguments)
        linear = record(name, y, (*operands[:2], None), (*arrays[:2], None), options=options, **arguments)
        data_format = arguments["data_format"]
        linear = linear if isinstance(linear, Tensor) else wrap(linear)
        return record("bias_relu", y, (linear, operands[2]), (y, arrays[2]), data_format=data_format)
    if name == "max_pool" and isinstance(operands[0], Tensor) and operands[0].node is not None:
        before = operands[0].node
        if before.name == "bias_relu" and before.saved and before.saved["data_format"] == arguments["data_format"]:
            return max_pool_of_relu(before, arrays[0], function.array_function(*arrays, **arguments), arguments)
    if isinstance(activation, FusedActivation):
        is_wanted = any(isinstance(o, Tensor) and o.requires_grad for o in operands)
        if not (is_wanted and activation.keeps_input):
            y = function.array_function(*arrays, activation=activation, **arguments)
            linear = record(name, y, operands, arrays, options=options, **arguments)
            return record("activation_from_output", y, (linear,), (y,), function=activation)
    y = function.array_function(*arrays, **arguments)
    result = record(name, y, operands, arrays, options=options, **arguments)
    return result if activation is None else activation(result)


def max_pool_of_relu(before: Node, x: np.ndarray, y: np.ndarray, arguments: dict[str, Any]) -> Tensor:
    """Record the maxima of x = relu(u + bias), which node ``before`` made, as one step from u and bias."""
    result = wrap(y)
    result.requires_grad = True
    result.node = Node(PRIMITIVES["bias_relu_max_pool"], y, (x, x), before.targets, arguments)
    result.node.layouts = before.layouts  # the bias is not at hand, nor needed
    return result


def array_activation(activation: Any) -> Any:
    """Return the name of an activation that is recorded, so that arrays get their own form; others as they are."""
    for name, function in RECORDED_ACTIVATIONS.items():
        if activation is function:
            return name
    return activation


def apply_activation(x: Tensor, function: FusedActivation) -> Any:
    """Apply a user's function and record what its gradient needs: its input, or its result alone."""
    array = as_array(values(x), "x")
    name = "activation" if function.keeps_input else "activation_from_output"
    return record(name, function(array), (x,), (array,), function=function)


def recorded_activation(activation: Any) -> Callable[[Any], Any] | None:
    """Return the function of tensors for an activation's name or array function; other callables as they are."""
    function = find_activation(activation)
    for name, array_function in array_activations.ACTIVATIONS.items():
        if function is array_function:
            return RECORDED_ACTIVATIONS[name]
    return function


def separable_conv(arguments: dict[str, Any]) -> Any:
    """Run the depthwise and the pointwise part as two recorded steps, once all arguments have been checked."""
    x, depthwise, pointwise = (arguments.pop(name) for name in ("x", "depthwise_kernel", "pointwise_kernel"))
    bias, activation, out = (arguments.pop(name) for name in ("bias", "activation", "out"))
    # A batch of zero samples runs every check and no arithmetic.
    array = as_array(values(x), "x")
    none = array[:0] if array.ndim else array
    functional.separable_conv.array_function(none, values(depthwise), values(pointwise), values(bias), **arguments)
    between = functional.depthwise_conv(x, depthwise, **arguments)
    data_format = arguments["data_format"]
    return functional.conv(between, pointwise, bias, data_format=data_format, activation=activation, out=out)
