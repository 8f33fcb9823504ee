"""Kinds of arrays that functions take, where they write results, and empty batches."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from exact import assert_same, integers

import numbaconv as nc

DTYPES = [np.float32, np.float64]


# --- kinds of arrays -------------------------------------------------------------------------------------------------


class OnlyArrayProtocol:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnlyDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class RefusesDLPack(OnlyArrayProtocol):
    """An exporter like those that hand out no read-only memory."""

    def __dlpack__(self, **options):
        raise BufferError("read-only")

    def __dlpack_device__(self):
        return (1, 0)


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def misaligned(array):
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    result = buffer[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert not result.flags.aligned
    return result


def every_other(array):
    wide = np.full((*array.shape[:-1], array.shape[-1] * 2), 9, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


KINDS = [
    OnlyArrayProtocol,
    OnlyDLPack,
    RefusesDLPack,
    read_only,
    misaligned,
    every_other,
    np.asfortranarray,
    lambda array: array.astype(array.dtype.newbyteorder()),
    lambda array: array[::-1].copy()[::-1],
    lambda array: array.view(type("Subclass", (np.ndarray,), {})),
]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_arrays(rng, kind):
    x, kernel, bias = integers(rng, 2, 6, 5, 3), integers(rng, 3, 3, 3, 4), integers(rng, 4)
    expected = oracle.conv(x, kernel, bias)
    assert_same(nc.conv(kind(x), kind(kernel), kind(bias)), expected)
    grad_y = integers(rng, *expected.shape)
    assert_same(
        nc.conv_input_grad(kind(grad_y), kind(kernel), x.shape), oracle.conv_input_grad(grad_y, kernel, x.shape)
    )
    grad_kernel = oracle.conv_kernel_grad(x, grad_y, kernel.shape)
    assert_same(nc.conv_kernel_grad(kind(x), kind(grad_y), kernel.shape), grad_kernel)
    assert_same(nc.max_pool(kind(x), 2), oracle.max_pool(x, 2))


def test_repeated_and_reversed_memory(rng):
    row, kernel = integers(rng, 1, 1, 5, 3), integers(rng, 2, 2, 3, 4)
    x = np.broadcast_to(row, (2, 4, 5, 3))
    assert_same(nc.conv(x, kernel), oracle.conv(x, kernel))
    assert_same(nc.conv(x[:, :, ::-1], kernel[::-1]), oracle.conv(x[:, :, ::-1], kernel[::-1]))


def test_memory_mapped_input(rng, tmp_path):
    x, kernel = integers(rng, 2, 6, 3), integers(rng, 3, 3, 4)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same(nc.conv(mapped, kernel), oracle.conv(x, kernel))


def test_nested_lists_are_double_precision():
    assert_same(nc.conv([[[1.0], [2.0], [3.0]]], [[[1.0]], [[10.0]]]), [[[21.0], [32.0]]], np.float64)


def test_pytorch_tensors(rng):
    torch = pytest.importorskip("torch")
    x, kernel = integers(rng, 2, 6, 3), integers(rng, 3, 3, 4)
    assert_same(nc.conv(torch.from_numpy(x), torch.from_numpy(kernel)), oracle.conv(x, kernel))
    with pytest.raises(TypeError, match=r"`x` of type Tensor could not be read as an array: .*detach"):
        nc.conv(torch.from_numpy(x).requires_grad_(), kernel)


def test_inputs_are_not_modified(rng):
    x, kernel, bias = integers(rng, 2, 6, 3), integers(rng, 3, 3, 4), integers(rng, 4)
    copies = x.copy(), kernel.copy(), bias.copy()
    y = nc.conv(x, kernel, bias, padding="same", padding_mode="circular", activation="relu")
    nc.conv_input_grad(y, kernel, x.shape, padding="same")
    nc.conv_kernel_grad(x, y, kernel.shape, padding="same")
    for array, copy in zip((x, kernel, bias), copies):
        np.testing.assert_array_equal(array, copy)


# --- out, empty batches, activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", [None, "relu", "silu", np.square])
def test_out_is_written_and_returned(rng, data_format, activation):
    x, kernel, bias = integers(rng, 2, 4, 4, 4), integers(rng, 3, 3, 4, 4), integers(rng, 4)
    options = dict(padding="same", data_format=data_format, activation=activation)
    calls = [
        (nc.conv, (x, kernel, bias)),
        (nc.conv_transpose, (x, kernel, bias)),
        (nc.depthwise_conv, (x, kernel[..., :1], bias)),
        (nc.separable_conv, (x, kernel[..., :1], kernel[:1, :1], bias)),
    ]
    for function, arguments in calls:
        expected = function(*arguments, **options)
        wide = np.full((2, 4, 4, 8), np.nan, np.float32)
        for out in (np.full(expected.shape, np.nan, np.float32), wide[..., ::2]):
            assert function(*arguments, out=out, **options) is out
            np.testing.assert_array_equal(out, expected)
        assert np.isnan(wide[..., 1::2]).all()


def test_out_of_gradients_and_pooling(rng):
    x, kernel = integers(rng, 2, 5, 3), integers(rng, 3, 3, 4)
    grad_y, out = integers(rng, 2, 3, 4), np.full((2, 5, 3), np.nan, np.float32)
    assert nc.conv_input_grad(grad_y, kernel, x.shape, out=out) is out
    np.testing.assert_array_equal(out, oracle.conv_input_grad(grad_y, kernel, x.shape))
    out = np.full((2, 2, 3), np.nan, np.float32)
    assert nc.max_pool(x, 2, out=out) is out
    np.testing.assert_array_equal(out, oracle.max_pool(x, 2))


def test_out_may_lie_between_an_inputs_values(rng):
    x, kernel = integers(rng, 1, 5, 4), integers(rng, 1, 4, 4)
    buffer = np.zeros((1, 5, 8), np.float32)
    buffer[..., :4] = x
    nc.conv(buffer[..., :4], kernel, out=buffer[..., 4:])
    np.testing.assert_array_equal(buffer[..., :4], x)
    np.testing.assert_array_equal(buffer[..., 4:], oracle.conv(x, kernel))


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batches(dtype):
    x, kernel = np.zeros((0, 6, 5, 3), dtype), np.ones((3, 3, 3, 4), dtype)
    assert_same(nc.conv(x, kernel, np.ones(4, dtype), activation="tanh"), np.zeros((0, 4, 3, 4)), dtype)
    assert_same(nc.conv_input_grad(np.zeros((0, 4, 3, 4), dtype), kernel, x.shape), x, dtype)
    grad_kernel = nc.conv_kernel_grad(x, np.zeros((0, 4, 3, 4), dtype), kernel.shape)
    assert_same(grad_kernel, np.zeros((3, 3, 3, 4)), dtype)
    assert_same(nc.conv_transpose(x, kernel.swapaxes(2, 3), strides=2), np.zeros((0, 13, 11, 4)), dtype)
    assert_same(nc.depthwise_conv(x, kernel), np.zeros((0, 4, 3, 12)), dtype)
    assert_same(nc.separable_conv(x, kernel, np.ones((1, 1, 12, 2), dtype)), np.zeros((0, 4, 3, 2)), dtype)
    for pool in (nc.max_pool, nc.average_pool):
        assert_same(pool(x, 2), np.zeros((0, 3, 2, 3)), dtype)
    for pool in (nc.global_max_pool, nc.global_average_pool):
        assert_same(pool(x), np.zeros((0, 3)), dtype)
    for pool in (nc.adaptive_max_pool, nc.adaptive_average_pool):
        assert_same(pool(x, 4), np.zeros((0, 4, 4, 3)), dtype)
    out = np.zeros((0, 4, 3, 4), dtype)
    assert nc.conv(x, kernel, out=out) is out
