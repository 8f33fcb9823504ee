"""Callbacks: what happens between the epochs and batches of a training."""

from __future__ import annotations

from numbaconv.callbacks.base import Callback, CallbackList, History
from numbaconv.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from numbaconv.callbacks.monitoring import EarlyStopping, ModelCheckpoint, MonitorCallback

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "MonitorCallback",
    "ReduceLROnPlateau",
]
