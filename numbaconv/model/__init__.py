"""Models: layers that are trained, evaluated and saved together."""

from __future__ import annotations

from numbaconv.model.base import Model
from numbaconv.model.sequential import Sequential

__all__ = ["Model", "Sequential"]
