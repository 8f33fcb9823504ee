"""All weights of an optimizer's step in one launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from numbaconv import parallel
from numbaconv.jit import TaskKernel
from numbaconv.kernels import updates as kernels

# Numbers of a task: some ten microseconds of arithmetic.
_CHUNK = 1 << 14
# Less than this takes about as long as waking the threads does.
_SERIAL_NUMBERS = 1 << 15


class UpdateTable:
    """Weights of one dtype and the arrays kept for each, whose addresses a kernel reads from one geometry.

    Parameters
    ----------
    weights : sequence of ndarray
        In C order and writeable; updated in place.
    slots : sequence of sequence of ndarray
        For each weight up to three arrays of its shape.
    """

    def __init__(self, weights: Sequence[NDArray], slots: Sequence[Sequence[NDArray]]) -> None:
        self.weights = list(weights)
        self._slots = [list(arrays) for arrays in slots]
        self._dtype = self.weights[0].dtype.name
        self._size = sum(weight.size for weight in self.weights)
        records, self._tasks = [], 0
        for weight, arrays in zip(self.weights, self._slots, strict=True):
            # Slots that a kernel does not have are never read.
            addresses = [id(array) for array in (arrays + [weight] * kernels.MOST_SLOTS)[: kernels.MOST_SLOTS]]
            records.append([self._tasks, weight.size, id(weight), 0, *addresses])
            self._tasks += -(-weight.size // _CHUNK)
        header = [0, len(records), _CHUNK, 0]
        self._geometry = np.concatenate([header, *records]).astype(np.int64)
        self._launches: dict[TaskKernel, parallel.Launch] = {}
        self._gradients = self._geometry[kernels.HEADER :].reshape(-1, kernels.RECORD_SIZE)[:, kernels.GRADIENT]

    def apply(self, kernel: TaskKernel, gradients: Sequence[NDArray], constants: Sequence[float]) -> None:
        """Run an update with a gradient for each weight, in C order and of its size and dtype."""
        self._gradients[:] = [id(gradient) for gradient in gradients]
        launch = self._launches.get(kernel)
        if launch is None:
            small = self._size < _SERIAL_NUMBERS
            launch = parallel.Launch(kernel, self._dtype, self._tasks, self._geometry, (0,), 1, small=small)
            self._launches[kernel] = launch
        launch(np.array(constants, self._dtype))
