"""Operations of which one function computes all gradients at once: more than a row of the table of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from numbaconv.autograd.tape import Node, creation_numbers, is_recording
from numbaconv.autograd.tensor import Tensor, wrap

Gradients: TypeAlias = "list[tuple[int, np.ndarray]]"
"""Pairs (number of an operand, its gradient)."""


class JointNode(Node):
    """A recorded operation whose gradients are ``compute(g)``; ``saved`` holds that function until it is used up.

    The gradients are arrays of their own.
    """

    __slots__ = ()
    is_fresh = True

    def __init__(self, name: str, operands: Sequence[Tensor], compute: Callable[[np.ndarray], Gradients]) -> None:
        self.name = name
        self.number = next(creation_numbers)
        self.targets = tuple(None if not t.requires_grad else t if t.node is None else t.node for t in operands)
        self.layouts = [(t.data.shape, t.data.dtype) for t in operands]
        self.rules = []
        self.saved = {"compute": compute}

    def gradients(self, g: np.ndarray) -> Gradients:
        """Return the gradients of the operands that want one."""
        compute = self.values()["compute"]
        return [(i, gradient) for i, gradient in compute(g) if self.targets[i] is not None]


def record_joint(
    name: str, y: np.ndarray, operands: Sequence[Tensor], compute: Callable[[np.ndarray], Gradients]
) -> Tensor:
    """Wrap the result of an operation on tensors, of which ``compute(g)`` returns the gradients."""
    result = wrap(y)
    if is_recording() and any(operand.requires_grad for operand in operands):
        result.requires_grad = True
        result.node = JointNode(name, operands, compute)
    return result
