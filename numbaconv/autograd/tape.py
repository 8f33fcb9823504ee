"""The tape: nodes that remember how a value was computed, and the walk that turns them into gradients.

A node is made after the nodes of its operands, so descending creation numbers are a topological order of any graph
and the walk needs no recursion.  Nodes hold arrays, never the tensors that carry them: there are no reference cycles,
and a graph disappears with the last tensor that leads to it.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from typing import Any

import numpy as np

from numbaconv.algorithms.channel_sums import MOST_CHANNELS, channel_sums
from numbaconv.autograd.recycling import compute

__all__ = ["Node", "Primitive", "is_recording", "no_grad", "recording", "sum_to_shape", "walk_backward"]

creation_numbers = itertools.count()


class RecordingState(threading.local):
    """How many ``no_grad`` blocks the current thread is inside."""

    paused = 0


state = RecordingState()


class no_grad(ContextDecorator):
    """Stop recording operations on the tape, in the current thread only.

    Works as a context manager and as a decorator (written with parentheses), and may be nested.  Results computed
    inside do not require gradients and keep no arrays alive.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import Tensor, no_grad
    >>> w = Tensor(np.ones(3), requires_grad=True)
    >>> with no_grad():
    ...     y = 2 * w
    >>> y.requires_grad
    False
    >>> @no_grad()
    ... def double(t):
    ...     return 2 * t
    >>> double(w).requires_grad
    False
    """

    def __enter__(self) -> None:
        state.paused += 1

    def __exit__(self, *exception: object) -> None:
        state.paused -= 1


@contextmanager
def recording() -> Iterator[None]:
    """Record operations of the current thread whatever `no_grad` blocks are open."""
    paused, state.paused = state.paused, 0
    try:
        yield
    finally:
        state.paused = paused


def is_recording() -> bool:
    """Tell whether operations of the current thread are recorded (no ``no_grad`` block is open)."""
    return state.paused == 0


class Primitive:
    """A row of the gradient table, prepared: operand names, and per rule its operands and the values it names.

    ``rules`` holds (rule, operand numbers, names of its parameters, joint).  A joint rule returns one gradient per
    operand of its key; ``"*arrays"`` stands for any number of operands.
    """

    def __init__(self, name: str, row: dict[Any, Callable[..., Any]]) -> None:
        self.name = name
        self.variadic = any(key[0] == "*" for key in row)
        self.operands: tuple[str, ...] = ()
        self.rules: list[tuple[Callable[..., Any], tuple[int, ...], tuple[str, ...], bool]] = []
        for key, rule in row.items():
            names = key if isinstance(key, tuple) else (key,)
            numbers = tuple(range(len(self.operands), len(self.operands) + len(names)))
            self.operands += names
            joint = isinstance(key, tuple) or self.variadic
            self.rules.append((rule, numbers, tuple(inspect.signature(rule).parameters), joint))
        named: tuple[str, ...] = () if self.variadic else self.operands
        self.numbers: dict[str, int] = {operand: i for i, operand in enumerate(named)}
        self.shape_numbers = {f"{name}_shape": i for name, i in self.numbers.items()}


class Node:
    """One recorded operation: whom to send gradients to, by which rules, and the values these rules name.

    ``targets[i]`` is the node or the leaf tensor of operand ``i``, or None where no gradient is wanted; ``layouts[i]``
    is the (shape, dtype) that its gradient gets.  ``saved`` is None once a walk has used it up.  ``is_fresh`` says that
    no gradient shares memory with that of the result.
    """

    is_fresh = False

    __slots__ = ("layouts", "name", "number", "rules", "saved", "targets")

    def __init__(
        self, primitive: Primitive, y: Any, operands: Sequence[Any], targets: Sequence[Any], context: dict[str, Any]
    ) -> None:
        self.name = primitive.name
        self.number = next(creation_numbers)
        self.targets = tuple(targets)
        self.layouts = [
            ((), None) if target is None else (operand.shape, operand.dtype)
            for operand, target in zip(operands, targets)
        ]
        everyone = tuple(range(len(operands)))
        self.rules = []
        self.saved: dict[str, Any] | None = {}
        for rule, numbers, names, joint in primitive.rules:
            numbers = everyone if primitive.variadic else numbers
            if all(targets[i] is None for i in numbers):
                continue
            self.rules.append((rule, numbers, names, joint))
            for name in names:
                if name in context:
                    self.saved[name] = context[name]
                elif name in primitive.numbers:
                    self.saved[name] = operands[primitive.numbers[name]]
                elif name in primitive.shape_numbers:
                    self.saved[name] = np.shape(operands[primitive.shape_numbers[name]])
                elif name == "y":
                    self.saved[name] = y
                elif name == "shapes":
                    self.saved[name] = [np.shape(operand) for operand in operands]
                elif name == "wanted":
                    self.saved[name] = [target is not None for target in targets]

    def values(self) -> dict[str, Any]:
        """Return the saved values, or raise RuntimeError where a walk has used them up."""
        if self.saved is None:
            raise RuntimeError(
                f"backward() has already run through this graph and freed its saved arrays (at the operation "
                f"'{self.name}'): compute the result again, or give the earlier backward() retain_graph=True."
            )
        return self.saved

    def gradients(self, g: np.ndarray) -> list[tuple[int, Any]]:
        """Apply the rules to the gradient ``g`` of the result: pairs (operand number, gradient)."""
        saved = self.values()
        results: list[tuple[int, Any]] = []
        for rule, numbers, names, joint in self.rules:
            gradient = rule(*[g if name == "g" else saved[name] for name in names])
            results += zip(numbers, gradient, strict=True) if joint else [(numbers[0], gradient)]
        return [(i, gradient) for i, gradient in results if self.targets[i] is not None]

    def free(self) -> None:
        """Let go of the saved arrays and of the rest of the graph."""
        self.saved = None
        self.targets = ()


def sum_to_shape(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the axes along which an operand of ``shape`` was broadcast."""
    if gradient.shape == shape:
        return gradient
    leading = gradient.ndim - len(shape)
    if leading and gradient.shape[leading:] == shape and gradient.flags.c_contiguous:
        channels = math.prod(shape)
        if 0 < channels <= MOST_CHANNELS:
            return channel_sums(gradient.reshape(math.prod(gradient.shape[:leading]), channels)).reshape(shape)
    stretched = tuple(i + leading for i, n in enumerate(shape) if n == 1 and gradient.shape[i + leading] != 1)
    return gradient.sum(axis=(*range(leading), *stretched), keepdims=True).reshape(shape)


class Accumulator:
    """The sum of the gradients that reach one node or leaf.

    The first one is kept as it came, although it may share memory with the gradient of another operand (``a + b``
    sends one array both ways); only a sum made here is added to in place.
    """

    __slots__ = ("own", "value")

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self.own = False

    def add(self, value: np.ndarray) -> None:
        if self.own:
            np.add(self.value, value, out=self.value)
        else:
            self.value = compute(np.add, self.value, value)
            self.own = True


def walk_backward(root: Node, gradient: np.ndarray, retain_graph: bool) -> list[tuple[Any, np.ndarray]]:
    """Send ``gradient`` from ``root`` through the graph: pairs (leaf, gradient), each an array of its own.

    Frees every node it has passed unless ``retain_graph``.
    """
    nodes = [(-root.number, root)]
    pending = {root: Accumulator(gradient)}
    leaves: dict[int, tuple[Any, Accumulator]] = {}
    while nodes:
        node = heapq.heappop(nodes)[1]
        g = pending.pop(node).value
        for i, value in node.gradients(g):
            shape, dtype = node.layouts[i]
            if type(value) is not np.ndarray or value.shape != shape or value.dtype != dtype:
                value = sum_to_shape(np.asarray(value), shape).astype(dtype, copy=False)
            target = node.targets[i]
            if isinstance(target, Node):
                if target in pending:
                    pending[target].add(value)
                else:
                    pending[target] = Accumulator(value)
                    heapq.heappush(nodes, (-target.number, target))
            elif id(target) in leaves:
                leaves[id(target)][1].add(value)
            else:
                leaves[id(target)] = (target, Accumulator(value))
                leaves[id(target)][1].own = node.is_fresh or not np.may_share_memory(value, g)
        if not retain_graph:
            node.free()
    return [(leaf, sum_.value if sum_.own else sum_.value.copy()) for leaf, sum_ in leaves.values()]
