"""Activations that users write, compiled into the kernels whose results they end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numba.core.dispatcher import Dispatcher

from numbaconv import memory, parallel
from numbaconv.arrays import as_array, dtype_name
from numbaconv.dispatch import tensor_function
from numbaconv.inlining import replaced
from numbaconv.jit import CompiledFunction, TaskKernel, task_signature
from numbaconv.kernels.elementwise import COUNT, ELEMENTS_PER_TASK, gradient_kernel, mapping_kernel
from numbaconv.kernels.epilogue import epilogue_of
from numbaconv.scalars import ScalarFunction
from numbaconv.target import TARGET

__all__ = ["FusedActivation", "fused_activation"]

_numbers = itertools.count()
_kernels: dict[str, FusedKernel] = {}


class _Program(CompiledFunction):
    """A kernel with a user's function in it for one dtype; the function is checked before the kernel is made."""

    def __init__(self, kernel: FusedKernel, dtype: str) -> None:
        name, is_cached = f"{kernel.name}-{dtype}", kernel.scalar.digest is not None
        super().__init__(kernel.function, task_signature(dtype), name, is_cached)
        self.kernel = kernel
        self.dtype = dtype

    def source(self) -> Callable[..., Any]:
        """Return the kernel's function."""
        self.kernel.scalar.check(self.dtype)
        return self.kernel.make()


class FusedKernel(TaskKernel):
    """A kernel that a user's function is a part of; ``make`` returns it as a function when it has to be compiled."""

    def __init__(self, name: str, scalar: ScalarFunction, make: Callable[[], Any]) -> None:
        self.scalar = scalar
        self.make = make
        self.function = make
        self.name = f"{name}-{scalar.digest or next(_numbers)}"
        self._programs: dict[str, CompiledFunction] = {}

    def address(self, dtype: str) -> int:
        """Return the address of the kernel's code for ``"float32"`` or ``"float64"``."""
        if dtype not in self._programs:
            self._programs[dtype] = _Program(self, dtype)
        return self._programs[dtype].address


def _shared(kernel: FusedKernel) -> FusedKernel:
    """Return the kernel that has the same code, where there is one already."""
    return _kernels.setdefault(kernel.name, kernel) if kernel.scalar.digest else kernel


class FusedActivation:
    """A function of one number that convolutions apply to their results before these leave the registers' reach.

    Made by `fused_activation`, which says what the arguments are. Instances are compared and hashed by identity.
    """

    def __init__(self, function: Any, derivative: Any = None, derivative_from_output: Any = None) -> None:
        if derivative is not None and derivative_from_output is not None:
            raise ValueError(
                "`derivative` and `derivative_from_output` are two forms of one function: give one of them. "
                "`derivative_from_output` is the faster one where the derivative can be had from the result."
            )
        self.function = ScalarFunction(function, "activation")
        self.derivative = derivative
        self.derivative_from_output = derivative_from_output
        self.slope: ScalarFunction | None = None
        if derivative is not None:
            self.slope = ScalarFunction(derivative, "derivative")
        elif derivative_from_output is not None:
            self.slope = ScalarFunction(derivative_from_output, "derivative_from_output")
        self.__name__ = self.function.name
        self.__doc__ = getattr(function, "__doc__", None)
        self._ending: dict[str, FusedKernel] = {}

    def __repr__(self) -> str:
        return f"<FusedActivation {self.__name__}>"

    def __reduce__(self) -> Any:
        return FusedActivation, (self.function.function, self.derivative, self.derivative_from_output)

    @property
    def keeps_input(self) -> bool:
        """Whether its gradient needs the numbers that it was applied to, not only its results."""
        return self.derivative is not None

    def __call__(self, x: Any) -> Any:
        """Return the function of every element of an array or a Tensor."""
        return apply_activation(x, self)

    def kernel(self, base: TaskKernel) -> TaskKernel:
        """Return ``base`` with this function in the place of relu."""
        found = self._ending.get(base.name)
        if found is None:
            compiled = self.function.compiled
            made = FusedKernel(base.name, self.function, lambda: replaced(base.function, epilogue_of(compiled)))
            found = self._ending[base.name] = _shared(made)
        return found

    def gradient(self, g: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return ``g`` times the derivative ``at`` the inputs, or at the results for `derivative_from_output`."""
        slope = self.slope
        if slope is None:
            raise ValueError(
                f"The activation {self.__name__!r} has no derivative, so no gradient passes through it. Give it one: "
                f"nc.fused_activation({self.__name__}, derivative=...), a function of the activation's input, or "
                f"derivative_from_output=..., one of its result."
            )
        kernel = _shared(FusedKernel("elementwise.gradient", slope, lambda: gradient_kernel(slope.compiled)))
        return _run_elementwise(kernel, (np.ascontiguousarray(at), np.ascontiguousarray(g, at.dtype)))


def _run_elementwise(kernel: TaskKernel, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the result of an element-wise kernel on contiguous arrays of one shape."""
    x = arrays[0]
    y = memory.empty(x.shape, x.dtype)
    dtype = dtype_name(x)
    geometry = np.zeros(2, np.int64)
    workspace = geometry[0] = 4 * TARGET.lanes(dtype)
    geometry[COUNT] = x.size
    tasks = -(-x.size // ELEMENTS_PER_TASK)
    parallel.launch(kernel, dtype, tasks, geometry, (*arrays, y), int(workspace), serial=tasks < 4)
    return y


@tensor_function
def apply_activation(x: Any, function: FusedActivation) -> np.ndarray:
    """Return `function` of every element of `x`, by one pass over the array."""
    x = as_array(x, "x")
    scalar = function.function
    kernel = _shared(FusedKernel("elementwise.mapping", scalar, lambda: mapping_kernel(scalar.compiled)))
    return _run_elementwise(kernel, (np.ascontiguousarray(x),))


def is_jitted(activation: Any) -> bool:
    """Whether an activation is a bare `numba.njit` function."""
    return isinstance(activation, Dispatcher)


@lru_cache(maxsize=256)
def of_jitted(function: Any) -> FusedActivation:
    """Return the activation that a bare `numba.njit` function stands for: one object for each function."""
    return FusedActivation(function)


Ending: TypeAlias = FusedActivation | str | None
"""What a kernel may apply to its results: a user's function, "relu" or nothing."""


def ending(kernel: TaskKernel, activation: Ending) -> TaskKernel:
    """Return the form of a kernel that applies a user's function, or the kernel itself, which has relu."""
    return activation.kernel(kernel) if isinstance(activation, FusedActivation) else kernel


def fused_activation(function: Any = None, *, derivative: Any = None, derivative_from_output: Any = None) -> Any:
    """Make an activation of a function of one number, to be compiled into the convolutions that it follows.

    y = f(x) element by element, at the end of the convolution's own kernel: the result is written once and never read
    again. The first use with a new function compiles the kernel anew, which takes seconds, and keeps it on disk.

    Parameters
    ----------
    function : callable
        f, of one number to one number: a `numba.njit` function or a plain one. Branches, `min`, `max`, `abs`, powers,
        `math` and NumPy functions of numbers, constants, and calls of other `numba.njit` functions all work. Constants
        are taken in the precision of the arrays. It must not raise.
    derivative : callable, optional
        f'(x), for training. The convolution then keeps its result before the activation, which becomes a pass of its
        own, as long as gradients are recorded.
    derivative_from_output : callable, optional
        f'(x) as a function of f(x), such as ``lambda y: 1 - y * y`` for tanh. Training stays fused.

    Returns
    -------
    FusedActivation
        For `activation=` of convolutions and layers; it may also be called with an array or a Tensor. Without
        `function`, a decorator that returns it.

    Raises
    ------
    TypeError
        If a function is none, or cannot be called with one number.
    ValueError
        If both derivatives are given; at the first use, if a function cannot be compiled or returns no real number;
        in the backward pass, if there is no derivative.

    Notes
    -----
    As everywhere in Numba, values of globals and closure variables are those of the first use. A bare `numba.njit`
    function as `activation=` is the same as `fused_activation` of it. Other callables are applied to the whole result.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> @nc.fused_activation(derivative=lambda x: 1 if x > 0 else 0.1)
    ... def leaky(x):
    ...     return x if x > 0 else 0.1 * x
    >>> x, kernel = np.array([-1, 2], np.float32).reshape(1, 2, 1), np.full((1, 1, 1), 5, np.float32)
    >>> nc.conv(x, kernel, activation=leaky).ravel().tolist()
    [-0.5, 10.0]
    """
    if function is None:
        return lambda function: FusedActivation(function, derivative, derivative_from_output)
    return FusedActivation(function, derivative, derivative_from_output)
