"""Optimizers with Keras's defaults and formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbaconv.lookup import find
from numbaconv.optimizers.adam import Adam, AdamW
from numbaconv.optimizers.base import Optimizer
from numbaconv.optimizers.rmsprop import RMSprop
from numbaconv.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

_TABLE: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer a name, a class or an object stands for.

    Parameters
    ----------
    identifier : str, type or Optimizer
        A name such as `"adam"`, an `Optimizer` class or object.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object is no optimizer.
    """
    return find("optimizer", identifier, _TABLE, Optimizer)
