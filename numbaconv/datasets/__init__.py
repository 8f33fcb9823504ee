"""Data sets of small images: the digits that come with the package, MNIST and Fashion-MNIST from IDX files.

Each loader returns Keras's form, ``(x_train, y_train), (x_test, y_test)``: images ``(n, height, width)`` and labels
``(n,)``, both uint8.
"""

from __future__ import annotations

from numbaconv.datasets.digits import load_digits
from numbaconv.datasets.idx import read_idx
from numbaconv.datasets.mnist import load_fashion_mnist, load_mnist

__all__ = ["load_digits", "load_fashion_mnist", "load_mnist", "read_idx"]
