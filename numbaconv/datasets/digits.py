"""The UCI handwritten digits, which come with the package. Source and licence: ``DIGITS.md`` beside this file."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt

from numbaconv.datasets.idx import read_idx

# One image of each class in five is a test image.
_TEST_PERIOD = 5

Images = npt.NDArray[np.uint8]
Split = tuple[tuple[Images, Images], tuple[Images, Images]]


def _read(name: str) -> Images:
    with resources.as_file(resources.files("numbaconv.datasets").joinpath(name)) as path:
        return read_idx(path)


def load_digits() -> Split:
    """Load the 1,797 handwritten digits of the UCI repository, split into 1,442 for training and 355 for testing.

    The split is fixed and stratified: in the data's own order, every fifth image of each class is a test image. The 13
    writers therefore appear in both parts; on writers never seen before, a network is some percent less accurate.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray
        Images ``(n, 8, 8)`` of uint8 from 0 (paper) to 16 (ink), labels ``(n,)`` of uint8 from 0 to 9.

    References
    ----------
    .. [1] E. Alpaydin, C. Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
       https://doi.org/10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load_digits()
    >>> x_train.shape, x_test.shape, int(x_train.max())
    ((1442, 8, 8), (355, 8, 8), 16)
    """
    images = _read("digits-images-idx3-ubyte.gz")
    labels = _read("digits-labels-idx1-ubyte.gz")
    is_test = np.zeros(len(labels), bool)
    for digit in range(10):
        is_test[np.flatnonzero(labels == digit)[_TEST_PERIOD - 1 :: _TEST_PERIOD]] = True
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
