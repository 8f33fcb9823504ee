"""Arrays that functions refuse, and the check that they are refused in full sentences before the engine is reached."""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv import planner
from numbaconv.algorithms import pooling


def z(*shape):
    return np.zeros(shape, np.float32)


def read_only(array):
    array.flags.writeable = False
    return array


def repeated(*shape):
    return np.lib.stride_tricks.as_strided(z(shape[-1]), shape, (0,) * (len(shape) - 1) + (4,))


def misaligned(*shape):
    size = int(np.prod(shape)) * 4
    return np.zeros(size + 1, np.uint8)[1:].view(np.float32).reshape(shape)


def assert_refused(monkeypatch, call, error, message):
    """Check the exact type and text of the error, with an engine that must not be called."""

    def reached(*args, **options):
        raise AssertionError("the engine was called with bad arguments")

    for name in ("forward", "input_grad", "kernel_grad", "choose", "reasons"):
        monkeypatch.setattr(planner, name, reached)
    for name in ("max_pool", "average_pool"):
        monkeypatch.setattr(pooling, name, reached)
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
    assert caught.type is error
