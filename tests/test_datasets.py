"""Data sets: the digits of the package, the IDX format, and where MNIST's files are looked for."""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from numbaconv.datasets import load_digits, load_fashion_mnist, load_mnist, mnist, read_idx

PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
HOW_TO_GET_MNIST = (
    "Put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte "
    "(each with or without .gz) into a folder and give it as `--data DIR`, as the argument `data` or as the "
    "environment variable NUMBACONV_DATA; or let pooch download them where the internet can be reached "
    "(`pip install 'numbaconv[demo]'`)."
)


def idx_bytes(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_collection(folder, train=6, test=4, compress=False, separator="-"):
    """Write four small files in MNIST's form and return their arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    arrays = []
    for part, count in zip(PARTS, (train, train, test, test)):
        shape = (count, 28, 28) if "images" in part else (count,)
        array = rng.integers(0, 10, shape, dtype=np.uint8)
        content = idx_bytes(array)
        name = part.replace("-idx", f"{separator}idx")
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
        arrays.append(array)
    return arrays


def assert_split_equal(split, arrays):
    (x_train, y_train), (x_test, y_test) = split
    for loaded, array in zip((x_train, y_train, x_test, y_test), arrays):
        np.testing.assert_array_equal(loaded, array)
        assert loaded.dtype == np.uint8


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Leave no way to a data set but the one that a test prepares: no variable, no system folder, no pooch."""
    monkeypatch.delenv("NUMBACONV_DATA", raising=False)
    monkeypatch.setattr(mnist, "_DEBIAN_FOLDER", tmp_path / "system")
    monkeypatch.setitem(sys.modules, "pooch", None)


# digits


def test_digits_have_the_published_counts():
    (x_train, y_train), (x_test, y_test) = load_digits()
    assert x_train.shape == (1442, 8, 8) and x_test.shape == (355, 8, 8)
    assert x_train.dtype == y_train.dtype == np.uint8
    assert x_train.min() == 0 and x_train.max() == 16
    # Class counts of optdigits.tes, from the data set's own description.
    np.testing.assert_array_equal(
        np.bincount(y_train) + np.bincount(y_test), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )


def test_first_digit_is_the_published_one():
    (x_train, y_train), _ = load_digits()
    assert y_train[0] == 0
    np.testing.assert_array_equal(x_train[0][0], [0, 0, 5, 13, 9, 1, 0, 0])
    np.testing.assert_array_equal(x_train[0][7], [0, 0, 6, 13, 10, 0, 0, 0])


def test_digits_split_is_stratified_and_disjoint():
    (x_train, y_train), (x_test, y_test) = load_digits()
    share = np.bincount(y_test) / (np.bincount(y_train) + np.bincount(y_test))
    assert np.all((share > 0.19) & (share <= 0.2))
    train = {image.tobytes() for image in x_train}
    assert not any(image.tobytes() in train for image in x_test)


def test_digits_come_with_source_and_licence():
    text = resources.files("numbaconv.datasets").joinpath("DIGITS.md").read_text(encoding="utf-8")
    for phrase in ("E. Alpaydin, C. Kaynak", "CC BY 4.0", "The scikit-learn developers", "BSD 3-Clause"):
        assert phrase in text


# IDX


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("compress", [False, True])
def test_idx_types_arrive_in_native_order(tmp_path, code, dtype, compress):
    array = np.arange(-12, 12).reshape(2, 3, 4).astype(dtype)
    content = idx_bytes(array, code)
    file = tmp_path / "numbers"
    file.write_bytes(gzip.compress(content) if compress else content)
    loaded = read_idx(file)
    assert loaded.dtype == np.dtype(dtype).newbyteorder("=") and loaded.flags.writeable
    np.testing.assert_array_equal(loaded, array)


FOUR_BYTES = "but must be 00 00, a type (08, 09, 0b, 0c, 0d or 0e) and a rank of at least 1."
SHAPE = "but its header of uint8 numbers with shape (2, 3) makes it 18. Fetch it again."
SIX_NUMBERS = idx_bytes(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"is not an IDX file: its first four bytes are missing, {FOUR_BYTES}"),
        (b"PK\x03\x04 a zip", f"is not an IDX file: its first four bytes are 50 4b 03 04, {FOUR_BYTES}"),
        (b"\0\0\x08\0", f"is not an IDX file: its first four bytes are 00 00 08 00, {FOUR_BYTES}"),
        (b"\0\0\x08\x03\0\0", "is truncated: 6 bytes, but its header alone has 16. Fetch it again."),
        (SIX_NUMBERS[:-1], f"is truncated: 17 bytes, {SHAPE}"),
        (SIX_NUMBERS + b"!", f"is too long: 19 bytes, {SHAPE}"),
    ],
)
def test_wrong_idx_files_are_named(tmp_path, content, message):
    file = tmp_path / "numbers"
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(file)
    assert str(caught.value) == f"{file} {message}"


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-9], lambda content: content[:12] + b"\xff" + content[13:]]
)
def test_damaged_gzip_file_is_named(tmp_path, damage):
    file = tmp_path / "numbers.gz"
    file.write_bytes(damage(gzip.compress(idx_bytes(np.arange(99, dtype=np.uint8)))))
    with pytest.raises(ValueError, match=r"numbers\.gz is a damaged gzip file \(.*\)\. Fetch it again\.$"):
        read_idx(file)


# MNIST's form


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_mnist_is_read_from_the_given_folder(tmp_path, offline, compress, separator):
    arrays = write_collection(tmp_path, compress=compress, separator=separator)
    assert_split_equal(load_mnist(tmp_path), arrays)


@pytest.mark.parametrize(
    ("load", "folder"),
    [
        (load_mnist, "mnist"),
        (load_mnist, "MNIST/raw"),
        (load_fashion_mnist, "fashion-mnist"),
        (load_fashion_mnist, "FashionMNIST/raw"),
    ],
)
def test_environment_variable_names_a_folder_of_folders(tmp_path, offline, monkeypatch, load, folder):
    arrays = write_collection(tmp_path / folder)
    monkeypatch.setenv("NUMBACONV_DATA", str(tmp_path))
    assert_split_equal(load(), arrays)


def test_given_folder_comes_before_the_environment_variable(tmp_path, offline, monkeypatch):
    write_collection(tmp_path / "variable", train=9)
    arrays = write_collection(tmp_path / "argument")
    monkeypatch.setenv("NUMBACONV_DATA", str(tmp_path / "variable"))
    assert_split_equal(load_mnist(tmp_path / "argument"), arrays)


def test_fashion_mnist_is_found_where_debian_installs_it(tmp_path, offline):
    arrays = write_collection(tmp_path / "system" / "fashion-mnist", compress=True)
    assert_split_equal(load_fashion_mnist(), arrays)


def test_missing_mnist_says_what_to_do(tmp_path, offline):
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(tmp_path / "nowhere")
    assert str(caught.value) == f"MNIST was not found in {tmp_path / 'nowhere'}. {HOW_TO_GET_MNIST}"
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    assert str(caught.value) == (
        f"MNIST was not found, and pooch, which would download it, is not installed. {HOW_TO_GET_MNIST}"
    )


def test_missing_fashion_mnist_names_the_debian_package(tmp_path, offline):
    with pytest.raises(FileNotFoundError) as caught:
        load_fashion_mnist(download=False)
    how = HOW_TO_GET_MNIST.replace(
        "Put ", "Install Debian's package with `apt-get install dataset-fashion-mnist`; or put "
    )
    assert str(caught.value) == f"Fashion-MNIST was not found in {tmp_path / 'system' / 'fashion-mnist'}. {how}"


def test_three_of_four_files_are_not_enough(tmp_path, offline):
    write_collection(tmp_path)
    (tmp_path / PARTS[3]).unlink()
    with pytest.raises(FileNotFoundError, match=r"^MNIST was not found in "):
        load_mnist(tmp_path)


class FakePooch:
    """Stands for pooch: serves the files of a folder from all mirrors but those that are down."""

    def __init__(self, folder, down=()):
        self.folder, self.down, self.calls = folder, down, []

    def retrieve(self, url, known_hash, fname, path, progressbar):
        self.calls.append((url, known_hash))
        for host, error in self.down:
            if host in url:
                raise error
        return str(self.folder / fname)


def test_download_checks_the_published_sums(tmp_path, offline, monkeypatch):
    arrays = write_collection(tmp_path, compress=True)
    fake = FakePooch(tmp_path)
    monkeypatch.setitem(sys.modules, "pooch", fake)
    assert_split_equal(load_mnist(), arrays)
    assert [known_hash for _, known_hash in fake.calls] == [
        "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "md5:9fb629c4189551a2d022fa330f9573f3",
        "md5:ec29112dd5afa0611ce80d1b7f02629c",
    ]
    assert [Path(url).name for url, _ in fake.calls] == [f"{part}.gz" for part in PARTS]


@pytest.mark.parametrize("error", [ConnectionError("unreachable"), ValueError("the hash does not match")])
def test_second_mirror_serves_when_the_first_fails(tmp_path, offline, monkeypatch, error):
    arrays = write_collection(tmp_path, compress=True)
    monkeypatch.setitem(sys.modules, "pooch", FakePooch(tmp_path, down=[("amazonaws", error)]))
    assert_split_equal(load_mnist(), arrays)


def test_failed_download_is_told(tmp_path, offline, monkeypatch):
    error = ConnectionError("unreachable")
    monkeypatch.setitem(sys.modules, "pooch", FakePooch(tmp_path, down=[("https://", error)]))
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    assert str(caught.value) == (
        "MNIST was not found, and downloading it from storage.googleapis.com failed (ConnectionError). "
        + HOW_TO_GET_MNIST
    )


def test_nothing_is_downloaded_beside_a_given_folder(tmp_path, offline, monkeypatch):
    fake = FakePooch(tmp_path)
    monkeypatch.setitem(sys.modules, "pooch", fake)
    with pytest.raises(FileNotFoundError):
        load_mnist(tmp_path / "empty")
    assert not fake.calls


IMAGES_RULE = "but images have type uint8 and shape (n, 28, 28) with n >= 1."
LABELS_RULE = "but labels have type uint8 and shape (n,)."


@pytest.mark.parametrize(
    ("part", "array", "code", "message"),
    [
        (0, np.zeros((6, 9, 28), np.uint8), 8, f"holds numbers of type uint8 and shape (6, 9, 28), {IMAGES_RULE}"),
        (0, np.zeros((6, 28, 28), ">f4"), 13, f"holds numbers of type float32 and shape (6, 28, 28), {IMAGES_RULE}"),
        (1, np.zeros((6, 1), np.uint8), 8, f"holds numbers of type uint8 and shape (6, 1), {LABELS_RULE}"),
        (3, np.full(4, 10, np.uint8), 8, "holds the label 10, but labels run from 0 to 9."),
    ],
)
def test_files_with_other_contents_are_named(tmp_path, offline, part, array, code, message):
    write_collection(tmp_path)
    file = tmp_path / PARTS[part]
    file.write_bytes(idx_bytes(array, code))
    with pytest.raises(ValueError) as caught:
        load_mnist(tmp_path)
    assert str(caught.value) == f"{file} {message}"


def test_images_and_labels_must_be_equally_many(tmp_path, offline):
    write_collection(tmp_path)
    (tmp_path / PARTS[1]).write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError) as caught:
        load_mnist(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / PARTS[0]} holds 6 images, but {tmp_path / PARTS[1]} holds 5 labels: "
        "take both files from one source."
    )


def test_files_of_the_other_data_set_are_recognised(tmp_path, offline, monkeypatch):
    _, labels, _, _ = write_collection(tmp_path)
    digest = hashlib.md5(labels.tobytes()).hexdigest()
    monkeypatch.setattr(mnist, "_FASHION_MNIST", replace(mnist._FASHION_MNIST, labels_md5=digest))
    with pytest.raises(ValueError) as caught:
        load_mnist(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / PARTS[1]} holds the labels of Fashion-MNIST, not of MNIST. "
        "Give the folder with the files of MNIST."
    )
