"""A residual network trained for some steps beside PyTorch: same start, same batches, same losses and weights."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import layers

torch = pytest.importorskip("torch")

BATCHES = 4


class Residual(nc.Model):
    def __init__(self):
        super().__init__(seed=0)
        options = {"padding": 1, "dtype": "float64"}
        self.stem = layers.Conv2D(6, 3, strides=2, activation="relu", **options)
        self.norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float64")
        self.first = layers.Conv2D(6, 3, activation="relu", **options)
        self.second = layers.Conv2D(6, 3, groups=2, use_bias=False, **options)
        self.add = layers.Add()
        self.pool = layers.MaxPooling2D()
        self.up = layers.Conv2DTranspose(4, 2, strides=2, dtype="float64")
        self.average = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(3, dtype="float64")

    def call(self, x):
        x = self.norm(self.stem(x))
        x = self.add([x, self.second(self.first(x))])
        return self.head(self.average(self.up(self.pool(x))))


class TorchResidual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(6)
        self.first = torch.nn.Conv2d(6, 6, 3, padding=1)
        self.second = torch.nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False)
        self.up = torch.nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.head = torch.nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        x = self.norm(torch.relu(self.stem(x)))
        x = x + self.second(torch.relu(self.first(x)))
        x = self.up(torch.nn.functional.max_pool2d(x, 2))
        return self.head(x.mean(dim=(2, 3)))


def torch_layout(path, array):
    """Give a weight PyTorch's layout: (out, in, *k), transposed (in, out, *k), dense (out, in)."""
    if path.endswith("kernel"):
        axes = (1, 0) if array.ndim == 2 else (3, 2, 0, 1)
        return np.ascontiguousarray(array.transpose(axes))
    return array


NAMES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}


def torch_weights(model):
    return {
        f"{path.rpartition('/')[0]}.{NAMES[path.rpartition('/')[2]]}": torch_layout(path, weight.data)
        for path, weight in model.named_weights().items()
        if not path.endswith("moving_variance")  # PyTorch's running variance is the unbiased one
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nc.optimizers.SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        # PyTorch adds epsilon after the bias correction and Keras before it: they agree without one.
        (lambda: nc.optimizers.Adam(0.01, epsilon=0.0), lambda p: torch.optim.Adam(p, 0.01, eps=0.0)),
    ],
    ids=["sgd", "adam"],
)
def test_training_agrees_with_pytorch(ours, theirs, rng):
    x = rng.normal(size=(8 * BATCHES, 8, 8, 2))
    y = rng.integers(0, 3, 8 * BATCHES)
    model, peer = Residual(), TorchResidual()
    model.build((None, 8, 8, 2))
    peer.load_state_dict({name: torch.tensor(array) for name, array in torch_weights(model).items()}, strict=False)
    optimizer = theirs(peer.parameters())
    losses = []
    for start in range(0, len(x), 8):
        optimizer.zero_grad()
        batch = torch.tensor(x[start : start + 8]).permute(0, 3, 1, 2)
        loss = torch.nn.functional.cross_entropy(peer(batch), torch.tensor(y[start : start + 8]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    model.compile(ours(), nc.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert history.history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-9)
    state = peer.state_dict()
    for name, array in torch_weights(model).items():
        np.testing.assert_allclose(array, state[name].numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
