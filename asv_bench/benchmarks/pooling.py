"""Pooling of few and of many channels, and its gradients."""

from __future__ import annotations

import numpy as np

from asv_bench.problems import placed


class Pooling:
    """Windows of 2x2 side by side and of 3x3 every second position, forward and back."""

    params = (["max", "average"], [2, 3], [3, 6, 20, 64])
    param_names = ("kind", "pool_size", "channels")

    def setup(self, kind, size, channels):
        import numbaconv as nc
        from numbaconv.algorithms import adjacent_pooling, pooling
        from numbaconv.spec import resolve_pool

        rng = np.random.default_rng(0)
        self.x = placed(rng.random((32, 28, 28, channels), dtype=np.float32))
        self.pool = nc.max_pool if kind == "max" else nc.average_pool
        self.spec = resolve_pool(self.x.shape, size, strides=2)
        self.y = pooling.max_pool(self.spec, self.x)
        self.gradient = placed(np.ones_like(self.y))
        operands = (self.x, self.y, self.gradient) if kind == "max" else (self.gradient,)
        back = adjacent_pooling.max_pool_grad if kind == "max" else adjacent_pooling.average_pool_grad
        self.back = lambda: back(self.spec, *operands)
        self.time_forward(kind, size, channels)
        self.time_gradient(kind, size, channels)

    def time_forward(self, kind, size, channels):
        self.pool(self.x, size, strides=2)

    def time_gradient(self, kind, size, channels):
        self.back()

    time_forward.version = time_gradient.version = "1"
