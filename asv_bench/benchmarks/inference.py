"""Layers without gradients: what a call costs beside its launches, and the first call on a shape."""

from __future__ import annotations

import itertools

import numpy as np

import numbaconv as nc


def blocks(count: int) -> nc.Sequential:
    """Return convolution, normalisation and relu, `count` times."""
    layers = nc.layers
    rows = [
        [layers.Conv2D(8, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
        for _ in range(count)
    ]
    return nc.Sequential([layers.Input((None, None, 8)), *itertools.chain(*rows)], seed=0)


class Blocks:
    """Blocks of three layers on an image so small that hardly any arithmetic is left."""

    params = (1, 4, 16)
    param_names = ("blocks",)

    def setup(self, count):
        self.model = blocks(count)
        self.x = np.ones((1, 4, 4, 8), np.float32)
        self.time_call(count)

    def time_call(self, count):
        with nc.no_grad():
            self.model(self.x)

    time_call.version = "1"


class NewShape:
    """The first call on a shape, whose launches are recorded."""

    number, repeat, rounds, warmup_time = 1, (5, 40, 5.0), 1, 0
    sizes = itertools.count(9)

    def setup(self):
        self.model = blocks(4)
        self.x = np.ones((1, 4, next(self.sizes), 8), np.float32)
        with nc.no_grad():
            self.model(np.ones((1, 4, 4, 8), np.float32))

    def time_first_call(self):
        with nc.no_grad():
            self.model(self.x)

    time_first_call.version = "1"


class Softmax:
    """Probabilities of ten classes."""

    params = (1, 64)
    param_names = ("rows",)

    def setup(self, rows):
        self.layer = nc.layers.Softmax()
        self.x = np.random.default_rng(0).standard_normal((rows, 10), dtype=np.float32)
        self.time_call(rows)

    def time_call(self, rows):
        with nc.no_grad():
            self.layer(self.x)

    time_call.version = "1"
