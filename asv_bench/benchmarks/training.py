"""Whole networks and what training adds to their convolutions: optimizers, normalisation, losses."""

from __future__ import annotations

import numpy as np

from asv_bench.networks import TRAINED, OurWay


class Network:
    """A step of training on 64 images of 28x28 and one image without gradients, of the networks of `networks.py`."""

    params = TRAINED
    param_names = ("network",)
    timeout = 300

    def setup(self, name):
        self.way = OurWay(name)
        self.way.train()
        self.way.infer()

    def time_training_step(self, name):
        self.way.train()

    def time_one_image(self, name):
        self.way.infer()

    def peakmem_training_step(self, name):
        self.way.train()

    time_training_step.version = time_one_image.version = peakmem_training_step.version = "2"


class FrozenImage:
    """One image without gradients whose network's weights are constant."""

    params = (*TRAINED, "mobilenet")
    param_names = ("network",)
    timeout = 300

    def setup(self, name):
        self.way = OurWay(name)
        if not hasattr(self.way.model, "freeze"):
            raise NotImplementedError  # commits before there was such a thing
        self.way.model.freeze()
        self.way.infer()

    def time_one_image(self, name):
        self.way.infer()

    time_one_image.version = "1"


class Optimizer:
    """An update of 1.2 million weights in eight arrays."""

    params = ("sgd", "momentum", "adam", "rmsprop")
    param_names = ("optimizer",)

    def setup(self, name):
        import numbaconv as nc

        optimizers = nc.optimizers
        self.optimizer = optimizers.SGD(momentum=0.9) if name == "momentum" else optimizers.get(name)
        rng = np.random.default_rng(0)
        shapes = [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (9216, 128), (128,), (128, 10), (10,)]
        self.weights = [nc.Tensor(rng.random(shape, dtype=np.float32), requires_grad=True) for shape in shapes]
        for weight in self.weights:
            weight.grad = rng.random(weight.shape, dtype=np.float32)
        self.time_update(name)

    def time_update(self, name):
        self.optimizer.apply(self.weights)

    time_update.version = "1"


class ForwardAndBackward:
    """One operation of a network on a batch, there and back."""

    params = (
        "batch_normalization", "layer_normalization", "relu", "max_pool", "max_pool_after_relu", "dense", "large_dense",
        "cross_entropy",
    )  # fmt: skip
    param_names = ("operation",)

    def setup(self, name):
        import numbaconv as nc
        from numbaconv.autograd import ops

        layers = nc.layers
        rng = np.random.default_rng(0)
        shapes = {"dense": (64, 1024), "large_dense": (64, 9216), "cross_entropy": (64, 1000)}
        shape = shapes.get(name, (64, 28, 28, 32))
        self.x = nc.Tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True)
        labels = rng.integers(0, shape[-1], shape[0])
        operations = {
            "batch_normalization": layers.BatchNormalization(),
            "layer_normalization": layers.LayerNormalization(),
            "relu": ops.relu,
            "max_pool": layers.MaxPooling2D(2),
            "max_pool_after_relu": nc.Sequential([layers.ReLU(), layers.MaxPooling2D(2)]),
            "dense": layers.Dense(256, activation="relu"),
            "large_dense": layers.Dense(128, activation="relu"),
            "cross_entropy": lambda x: ops.softmax_cross_entropy(x, labels),
        }
        self.operation = operations[name]
        self.keywords = {"training": True} if isinstance(self.operation, layers.Layer) else {}
        self.gradient = np.ones(self.operation(self.x, **self.keywords).shape, np.float32)
        self.time_forward_and_backward(name)

    def time_forward_and_backward(self, name):
        self.operation(self.x, **self.keywords).backward(self.gradient)
        self.x.zero_grad()

    time_forward_and_backward.version = "1"
