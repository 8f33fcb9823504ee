"""The product, sum and relu of a dense layer as one recorded step."""

from __future__ import annotations

from typing import Any

from numbaconv.autograd import dense_rules
from numbaconv.autograd.tensor import Tensor, record, to_arrays


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None, is_relu: bool) -> Any:
    """Compute ``x @ kernel + bias`` on the last axis of x, with ``is_relu`` the greater of that and 0."""
    operands = (x, kernel, bias)
    arrays = to_arrays("dense", operands)
    y = dense_rules.dense(arrays[0], arrays[1], arrays[2], is_relu)
    # What no gradient needs is not kept: x for a frozen kernel, y without relu.
    context: dict[str, Any] = {} if kernel.requires_grad else {"x": None}
    return record("dense", y, operands, arrays, rectified=y if is_relu else None, **context)
