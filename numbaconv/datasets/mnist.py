"""MNIST and Fashion-MNIST, 60,000 + 10,000 images of 28x28 each, from local IDX files or a checked download."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import platformdirs

from numbaconv.datasets.digits import Images, Split
from numbaconv.datasets.idx import read_idx

_PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_DEBIAN_FOLDER = Path("/usr/share/datasets")
_ENVIRONMENT = "NUMBACONV_DATA"
_IMAGE_SIZE = (28, 28)
_CLASSES = 10


@dataclass(frozen=True)
class _Collection:
    """One data set in MNIST's form: where its files may lie and how they are known."""

    title: str
    # Subfolders that may hold the files: this package's name, then torchvision's.
    folders: tuple[str, ...]
    debian_package: str | None
    mirrors: tuple[str, ...]
    # MD5 of the four published .gz files, in the order of _PARTS.
    checksums: tuple[str, ...]
    # MD5 of the 60,000 training labels, which tells the two data sets apart: their files have the same names.
    labels_md5: str


_MNIST = _Collection(
    title="MNIST",
    folders=("mnist", "MNIST/raw"),
    debian_package=None,
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    checksums=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    labels_md5="e86ee40d66677c011a9abda399ec8c4d",
)
_FASHION_MNIST = _Collection(
    title="Fashion-MNIST",
    folders=("fashion-mnist", "FashionMNIST/raw"),
    debian_package="dataset-fashion-mnist",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    checksums=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    labels_md5="3236f6424fc25388b2834cb19942cf7e",
)


def load_mnist(data: str | os.PathLike[str] | None = None, *, download: bool = True) -> Split:
    """Load MNIST, 60,000 training and 10,000 test images of handwritten digits.

    Looks for its four IDX files, compressed or not, in ``data`` alone if that is given, else in the folder that the
    environment variable ``NUMBACONV_DATA`` names, else in the user's cache, into which pooch downloads them and checks
    their MD5 sums.

    Parameters
    ----------
    data : str or path-like, optional
        Folder with the files, or with a subfolder ``mnist`` that holds them.
    download : bool, default True
        Whether to fetch the files (11 MB) where they are not found.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray
        Images ``(n, 28, 28)`` of uint8 from 0 to 255, labels ``(n,)`` of uint8 from 0 to 9.

    Raises
    ------
    FileNotFoundError
        If the files are neither found nor to be had; the message says what to do.
    ValueError
        If a file is damaged, or is not what its name says.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
       Proceedings of the IEEE 86 (1998), section III.A.
    """
    return _load(_MNIST, data, download)


def load_fashion_mnist(data: str | os.PathLike[str] | None = None, *, download: bool = True) -> Split:
    """Load Fashion-MNIST, 60,000 training and 10,000 test images of ten kinds of clothing.

    Looks for its four IDX files as `load_mnist` does, and before the user's cache also where Debian's package
    ``dataset-fashion-mnist`` installs them.

    Parameters
    ----------
    data : str or path-like, optional
        Folder with the files, or with a subfolder ``fashion-mnist`` that holds them.
    download : bool, default True
        Whether to fetch the files (30 MB) where they are not found.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray
        Images ``(n, 28, 28)`` of uint8 from 0 to 255, labels ``(n,)`` of uint8 from 0 to 9.

    Raises
    ------
    FileNotFoundError
        If the files are neither found nor to be had; the message says what to do.
    ValueError
        If a file is damaged, or is not what its name says.

    References
    ----------
    .. [1] H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
       algorithms", arXiv:1708.07747, section 2.
    """
    return _load(_FASHION_MNIST, data, download)


def _load(collection: _Collection, data: str | os.PathLike[str] | None, download: bool) -> Split:
    searched = list(_folders(collection, data))
    for folder in searched:
        files = [_find(folder, part) for part in _PARTS]
        if all(files):
            return _read(collection, [file for file in files if file is not None])
    places = " or ".join(str(folder) for folder in searched)
    fault = f"{collection.title} was not found" + (f" in {places}" if places else "")
    if data is None and download:
        fetched = _download(collection)
        if not isinstance(fetched, str):
            return _read(collection, fetched)
        fault += f", and {fetched}"
    raise FileNotFoundError(f"{fault}. {_advice(collection)}")


def _folders(collection: _Collection, data: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folders to search, the likeliest first."""
    given = data if data is not None else os.environ.get(_ENVIRONMENT)
    if given:
        yield from (Path(given, folder) for folder in collection.folders if Path(given, folder).is_dir())
        yield Path(given)
    if data is None and collection.debian_package is not None:
        yield _DEBIAN_FOLDER / collection.folders[0]


def _find(folder: Path, part: str) -> Path | None:
    """Return the file that holds a part: with a dash or a dot before ``idx``, compressed or not."""
    for name in (part, part.replace("-idx", ".idx")):
        for file in (folder / f"{name}.gz", folder / name):
            if file.is_file():
                return file
    return None


def _download(collection: _Collection) -> list[Path] | str:
    """Fetch the files into the user's cache; return them, or the reason why they cannot be had."""
    try:
        import pooch
    except ImportError:
        return "pooch, which would download it, is not installed"
    cache = platformdirs.user_cache_path("numbaconv") / "datasets" / collection.folders[0]
    reason = ""
    for mirror in collection.mirrors:
        try:
            return [
                Path(pooch.retrieve(f"{mirror}{part}.gz", f"md5:{checksum}", f"{part}.gz", cache, progressbar=True))
                for part, checksum in zip(_PARTS, collection.checksums)
            ]
        # A failed connection is an OSError, a wrong checksum a ValueError: either way the next mirror may do better.
        except (OSError, ValueError) as error:
            reason = f"downloading it from {urlsplit(mirror).hostname} failed ({type(error).__name__})"
    return reason


def _advice(collection: _Collection) -> str:
    """Say how to come by a data set."""
    package = collection.debian_package
    return (
        (f"Install Debian's package with `apt-get install {package}`; or put " if package else "Put ")
        + f"{', '.join(_PARTS)} (each with or without .gz) into a folder and give it as `--data DIR`, as the argument "
        + f"`data` or as the environment variable {_ENVIRONMENT}; or let pooch download them where the internet can be "
        + "reached (`pip install 'numbaconv[demo]'`)."
    )


def _read(collection: _Collection, files: list[Path]) -> Split:
    x_train, y_train, x_test, y_test = (read_idx(file) for file in files)
    _check_pair(x_train, y_train, files[0], files[1])
    _check_pair(x_test, y_test, files[2], files[3])
    digest = hashlib.md5(y_train.tobytes(), usedforsecurity=False).hexdigest()
    for other in (_MNIST, _FASHION_MNIST):
        if other is not collection and digest == other.labels_md5:
            raise ValueError(
                f"{files[1]} holds the labels of {other.title}, not of {collection.title}. "
                f"Give the folder with the files of {collection.title}."
            )
    return (x_train, y_train), (x_test, y_test)


def _check_pair(images: Images, labels: Images, images_file: Path, labels_file: Path) -> None:
    """Check that images and labels are what they should be and belong together."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != _IMAGE_SIZE or not len(images):
        raise ValueError(
            f"{images_file} holds numbers of type {images.dtype} and shape {images.shape}, "
            "but images have type uint8 and shape (n, 28, 28) with n >= 1."
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(
            f"{labels_file} holds numbers of type {labels.dtype} and shape {labels.shape}, "
            "but labels have type uint8 and shape (n,)."
        )
    if labels.size and labels.max() >= _CLASSES:
        raise ValueError(f"{labels_file} holds the label {labels.max()}, but labels run from 0 to {_CLASSES - 1}.")
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images, but {labels_file} holds {len(labels)} labels: "
            "take both files from one source."
        )
