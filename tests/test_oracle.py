"""The oracle itself: worked examples, then SciPy and PyTorch where they are installed."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal


def integers(rng, *shape):
    return rng.integers(-4, 5, size=shape).astype(np.float64)


def line(*values):
    """One batch and one channel of 1-D samples."""
    return np.array(values, dtype=np.float64).reshape(1, -1, 1)


def taps(*values):
    """A 1-D kernel from one channel to one channel."""
    return np.array(values, dtype=np.float64).reshape(-1, 1, 1)


# --- worked examples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1 + 20 + 300, 2 + 30 + 400, 3 + 40 + 500]),
        ({"strides": 2}, [321, 543]),
        ({"dilation_rate": 2}, [1 + 30 + 500]),
        ({"padding": "same"}, [210, 321, 432, 543, 54]),
        ({"padding": "same", "strides": 2}, [210, 432, 54]),
        ({"padding": "causal"}, [100, 210, 321, 432, 543]),
        ({"padding": "causal", "dilation_rate": 2}, [100, 200, 310, 420, 531]),
        ({"padding": ((2, 0),), "strides": 2}, [100, 321, 543]),
        ({"padding": 1, "padding_mode": "reflect"}, [212, 321, 432, 543, 454]),
        ({"padding": ((2, 0),), "padding_mode": "reflect"}, [123, 212, 321, 432, 543]),
        ({"padding": 1, "padding_mode": "replicate"}, [211, 321, 432, 543, 554]),
        ({"padding": 1, "padding_mode": "circular"}, [215, 321, 432, 543, 154]),
    ],
)
def test_forward_of_one_line_by_hand(options, expected):
    y = oracle.conv(line(1, 2, 3, 4, 5), taps(1, 10, 100), **options)
    assert_array_equal(y.ravel(), expected)


def test_same_padding_puts_the_odd_unit_at_the_end():
    # Four samples, stride 2, three taps: out = 2, total padding 1, all of it behind.
    y = oracle.conv(line(1, 2, 3, 4), taps(1, 10, 100), padding="same", strides=2)
    assert_array_equal(y.ravel(), [321, 43])


def test_forward_of_a_plane_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1, 10], [100, 1000]], dtype=np.float64).reshape(2, 2, 1, 1)
    assert_array_equal(oracle.conv(x, kernel)[0, :, :, 0], [[4310, 5421], [7643, 8754]])


def test_bias_comes_before_the_activation():
    y = oracle.conv(line(1, -1), taps(1), [-0.5], activation="relu")
    assert_array_equal(y.ravel(), [0.5, 0.0])


def test_groups_by_hand():
    x = np.array([1, 2, 3, 4], dtype=np.float64).reshape(1, 1, 4)
    kernel = np.array([[1, 2], [10, 20]], dtype=np.float64).reshape(1, 2, 2)
    assert_array_equal(oracle.conv(x, kernel, groups=2).ravel(), [1 + 20, 2 * 3 + 20 * 4])


def test_input_gradient_by_hand():
    grad = oracle.conv_input_grad(line(1, 2), taps(1, 10, 100), (1, 5, 1), strides=2)
    assert_array_equal(grad.ravel(), [1, 10, 100 + 2, 20, 200])


def test_input_gradient_through_padding_by_hand():
    # Three taps of one on three samples padded by one at both ends: each sample is read three times in all.
    for mode, expected in [("zeros", [2, 3, 2]), ("replicate", [3, 3, 3]), ("circular", [3, 3, 3]),
                           ("reflect", [2, 5, 2])]:  # fmt: skip
        grad = oracle.conv_input_grad(line(1, 1, 1), taps(1, 1, 1), (1, 3, 1), padding=1, padding_mode=mode)
        assert_array_equal(grad.ravel(), expected)


def test_kernel_gradient_by_hand():
    grad = oracle.conv_kernel_grad(line(1, 2, 3, 4, 5), line(1, 10), (3, 1, 1), strides=2)
    assert_array_equal(grad.ravel(), [1 + 30, 2 + 40, 3 + 50])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 10 + 2, 100 + 20, 200]),
        ({"strides": 2}, [1, 10, 100 + 2, 20, 200]),
        # "valid" with a stride wider than the kernel: (n - 1) * s + max(k, s) samples.
        ({"strides": 4}, [1, 10, 100, 0, 2, 20, 200, 0]),
        # "same": n * s samples; with three taps and stride 2 the sample beyond the end is cut.
        ({"strides": 2, "padding": "same"}, [1, 10, 102, 20]),
        ({"strides": 1, "padding": "same"}, [12, 120]),
        # "same" with output_padding: (n - 1) * s + k % 2 + output_padding samples, cut as TensorFlow's SAME pads an
        # input of that size: 3 samples need one zero at both ends, 4 samples one zero at the end only.
        ({"strides": 2, "padding": "same", "output_padding": 0}, [10, 102, 20]),
        ({"strides": 2, "padding": "same", "output_padding": 1}, [1, 10, 102, 20]),
        ({"strides": 2, "padding": "valid", "output_padding": 1}, [1, 10, 102, 20, 200, 0]),
        ({"strides": 2, "padding": ((1, 0),)}, [10, 102, 20, 200]),
        ({"strides": 2, "padding": 1, "output_padding": 1}, [10, 102, 20, 200]),
        ({"dilation_rate": 2}, [1, 2, 10, 20, 100, 200]),
        ({"strides": 2, "padding": "causal"}, [1, 10, 102, 20]),
        ({"strides": 2, "padding": "causal", "output_padding": 0}, [1, 10, 102]),
    ],
)
def test_transposed_convolution_of_one_line_by_hand(options, expected):
    y = oracle.conv_transpose(line(1, 2), taps(1, 10, 100), **options)
    assert_array_equal(y.ravel(), expected)


def test_transposed_groups_by_hand():
    x = np.array([1, 2], dtype=np.float64).reshape(1, 1, 2)
    kernel = np.array([[3, 30], [5, 50]], dtype=np.float64).reshape(1, 2, 2)  # (1, filters / groups, in_channels)
    assert_array_equal(oracle.conv_transpose(x, kernel, groups=2).ravel(), [3, 5, 60, 100])


def test_depthwise_output_channels_are_channel_times_multiplier_plus_m():
    x = np.array([1, 2], dtype=np.float64).reshape(1, 1, 2)
    kernel = np.array([[3, 5], [7, 11]], dtype=np.float64).reshape(1, 2, 2)
    assert_array_equal(oracle.depthwise_conv(x, kernel).ravel(), [3, 5, 14, 22])


def test_pooling_by_hand():
    x = line(3, 1, -2, -5, 4)
    assert_array_equal(oracle.max_pool(x, 2).ravel(), [3, -2])
    assert_array_equal(oracle.max_pool(x, 2, padding="same").ravel(), [3, -2, 4])
    assert_array_equal(oracle.max_pool(x, 3, strides=1).ravel(), [3, 1, 4])
    assert_array_equal(oracle.average_pool(x, 2).ravel(), [2, -3.5])
    assert_array_equal(oracle.average_pool(x, 2, padding="same").ravel(), [2, -3.5, 4])
    assert_array_equal(oracle.average_pool(x, 3, strides=2, padding=1).ravel(), [2, -2, -0.5])
    assert_array_equal(oracle.global_max_pool(x), [[4]])
    assert_allclose(oracle.global_average_pool(x), [[0.2]])


def test_pooling_gradients_by_hand():
    x = line(1, 3, 3, -1, 0)
    assert_array_equal(oracle.max_pool_grad(x, line(1, 10, 100), 3, strides=1).ravel(), [0, 11, 100, 0, 0])
    # Windows (3, 3, -1), padded at the end with one zero that must not win over the negative sample.
    assert_array_equal(oracle.max_pool_grad(line(-1, -2, -3), line(1, 10), 2, padding="same").ravel(), [1, 0, 10])
    assert_array_equal(oracle.average_pool_grad((1, 3, 1), line(6, 10), 2, padding="same").ravel(), [3, 3, 10])


def test_channels_first_is_the_same_sum_in_another_layout(rng):
    x, kernel = integers(rng, 2, 5, 6, 4), integers(rng, 3, 2, 4, 3)
    first = oracle.conv(np.moveaxis(x, -1, 1), kernel, padding="same", strides=2, data_format="channels_first")
    assert_array_equal(np.moveaxis(first, 1, -1), oracle.conv(x, kernel, padding="same", strides=2))


# --- one function against another ------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"strides": 2},
    {"dilation_rate": 2},
    {"strides": 3, "dilation_rate": 2, "padding": "same"},
    {"strides": 2, "padding": "causal", "groups": 2},
    {"padding": 2, "padding_mode": "reflect", "strides": 2},
    {"padding": 3, "padding_mode": "circular"},
    {"padding": 4, "padding_mode": "replicate", "dilation_rate": 3},
]


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_adjoint_to_the_forward_pass(ndim, options, rng):
    x = integers(rng, 2, *[8, 7, 9, 7][:ndim], 4)
    kernel = integers(rng, *[3, 2, 3, 2][:ndim], 4 // options.get("groups", 1), 6)
    y = oracle.conv(x, kernel, **options)
    g = integers(rng, *y.shape)
    product = np.vdot(y, g)
    assert np.vdot(x, oracle.conv_input_grad(g, kernel, x.shape, **options)) == product
    assert np.vdot(kernel, oracle.conv_kernel_grad(x, g, kernel.shape, **options)) == product


@pytest.mark.parametrize("output_padding", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_the_input_gradient(output_padding, groups, rng):
    x, kernel = integers(rng, 2, 5, 6, 4), integers(rng, 3, 4, 3, 4)
    options = {"strides": 2, "padding": 1, "groups": groups}
    y = oracle.conv_transpose(x, kernel, output_padding=output_padding, **options)
    assert_array_equal(y, oracle.conv_input_grad(x, kernel, y.shape, **options))


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_same_is_the_adjoint_of_same(size, kernel, stride, rng):
    x, w = integers(rng, 1, size, 1), integers(rng, kernel, 1, 1)
    y = oracle.conv_transpose(x, w, strides=stride, padding="same")
    assert_array_equal(y, oracle.conv_input_grad(x, w, (1, size * stride, 1), strides=stride, padding="same"))


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_depthwise_is_one_group_per_channel(multiplier, rng):
    x, kernel = integers(rng, 2, 7, 6, 5), integers(rng, 3, 3, 5, multiplier)
    grouped = oracle.conv(x, kernel.reshape(3, 3, 1, 5 * multiplier), groups=5, strides=2, padding="same")
    assert_array_equal(oracle.depthwise_conv(x, kernel, strides=2, padding="same"), grouped)


def test_separable_is_one_convolution_with_the_product_kernel(rng):
    x, depthwise, pointwise = integers(rng, 2, 6, 7, 3), integers(rng, 2, 3, 3, 2), integers(rng, 1, 1, 6, 4)
    product = np.einsum("hwcm,cmo->hwco", depthwise, pointwise.reshape(3, 2, 4))
    assert_array_equal(oracle.separable_conv(x, depthwise, pointwise, padding="same"),
                       oracle.conv(x, product, padding="same"))  # fmt: skip


def test_pooling_gradients_are_adjoint(rng):
    # Distinct samples: the maximum is then differentiable, and linear in x for a fixed choice of winners.
    x = rng.permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3).astype(np.float64)
    options = {"strides": (2, 1), "padding": "same"}
    for pool, grad in [
        (oracle.max_pool, lambda g: oracle.max_pool_grad(x, g, 3, **options)),
        (oracle.average_pool, lambda g: oracle.average_pool_grad(x.shape, g, 3, **options)),
    ]:
        y = pool(x, 3, **options)
        g = integers(rng, *y.shape)
        assert_allclose(np.vdot(x, grad(g)), np.vdot(y, g), rtol=1e-12)


# --- SciPy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["valid", "same"])
def test_against_scipy_correlate(ndim, mode, rng):
    signal = pytest.importorskip("scipy.signal")
    x, kernel = integers(rng, *[7, 6, 5, 4][:ndim]), integers(rng, *[3, 3, 1, 3][:ndim])
    expected = signal.correlate(x, kernel, mode=mode, method="direct")
    y = oracle.conv(x[np.newaxis, ..., np.newaxis], kernel[..., np.newaxis, np.newaxis], padding=mode)
    assert_array_equal(y[0, ..., 0], expected)


@pytest.mark.parametrize(("mode", "boundary"), [("circular", "wrap"), ("zeros", "fill")])
def test_padding_modes_against_scipy(mode, boundary, rng):
    signal = pytest.importorskip("scipy.signal")
    x, kernel = integers(rng, 6, 7), integers(rng, 3, 3)
    expected = signal.correlate2d(x, kernel, mode="same", boundary=boundary)
    y = oracle.conv(x[np.newaxis, ..., np.newaxis], kernel[..., np.newaxis, np.newaxis], padding=1, padding_mode=mode)
    assert_array_equal(y[0, ..., 0], expected)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def first(x):
    return np.moveaxis(x, -1, 1)


def torch_kernel(kernel):
    """(*k, a, b) to (b, a, *k), which is PyTorch's layout for ordinary and transposed kernels alike."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 2, 2)])
def test_three_passes_against_torch(ndim, groups, stride, padding, dilation, rng):
    torch = pytest.importorskip("torch")
    x, kernel = integers(rng, 2, *[9, 8, 7][:ndim], 4), integers(rng, *[3, 2, 3][:ndim], 4 // groups, 6)
    tx = torch.tensor(first(x), requires_grad=True)
    tw = torch.tensor(np.ascontiguousarray(torch_kernel(kernel)), requires_grad=True)
    convolve = getattr(torch.nn.functional, f"conv{ndim}d")
    ty = convolve(tx, tw, stride=stride, padding=padding, dilation=dilation, groups=groups)
    options = {"strides": stride, "padding": padding, "dilation_rate": dilation, "groups": groups}
    y = oracle.conv(x, kernel, **options)
    assert_array_equal(first(y), ty.detach().numpy())
    g = integers(rng, *y.shape)
    ty.backward(torch.tensor(np.ascontiguousarray(first(g))))
    assert_array_equal(first(oracle.conv_input_grad(g, kernel, x.shape, **options)), tx.grad.numpy())
    assert_array_equal(torch_kernel(oracle.conv_kernel_grad(x, g, kernel.shape, **options)), tw.grad.numpy())


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("output_padding", [0, 1])
def test_transposed_against_torch(ndim, groups, output_padding, rng):
    torch = pytest.importorskip("torch")
    x, kernel = integers(rng, 2, *[5, 4, 3][:ndim], 4), integers(rng, *[3, 4, 2][:ndim], 6 // groups, 4)
    transpose = getattr(torch.nn.functional, f"conv_transpose{ndim}d")
    expected = transpose(
        torch.tensor(first(x)),
        torch.tensor(np.ascontiguousarray(torch_kernel(kernel))),
        stride=2,
        padding=1,
        dilation=2,
        groups=groups,
        output_padding=output_padding,
    )
    y = oracle.conv_transpose(
        x, kernel, strides=2, padding=1, dilation_rate=2, groups=groups, output_padding=output_padding
    )
    assert_array_equal(first(y), expected.numpy())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_against_torch(mode, rng):
    torch = pytest.importorskip("torch")
    x, kernel = integers(rng, 2, 6, 7, 3), integers(rng, 3, 3, 3, 2)
    padded = torch.nn.functional.pad(torch.tensor(first(x)), (3, 1, 2, 0), mode=mode)
    expected = torch.nn.functional.conv2d(padded, torch.tensor(np.ascontiguousarray(torch_kernel(kernel))))
    y = oracle.conv(x, kernel, padding=((2, 0), (3, 1)), padding_mode=mode)
    assert_array_equal(first(y), expected.numpy())


@pytest.mark.parametrize(("stride", "padding"), [(2, 0), (1, 1), (3, 1)])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_against_torch(kind, stride, padding, rng):
    torch = pytest.importorskip("torch")
    x = integers(rng, 2, 8, 7, 3)
    options = {"strides": stride, "padding": padding}
    tx = torch.tensor(first(x), requires_grad=True)
    if kind == "max":
        ty = torch.nn.functional.max_pool2d(tx, 3, stride=stride, padding=padding)
        y = oracle.max_pool(x, 3, **options)
    else:
        ty = torch.nn.functional.avg_pool2d(tx, 3, stride=stride, padding=padding, count_include_pad=False)
        y = oracle.average_pool(x, 3, **options)
    assert_allclose(first(y), ty.detach().numpy(), rtol=1e-14)
    g = integers(rng, *y.shape)
    ty.backward(torch.tensor(np.ascontiguousarray(first(g))))
    if kind == "max":
        grad = oracle.max_pool_grad(x, g, 3, **options)
    else:
        grad = oracle.average_pool_grad(x.shape, g, 3, **options)
    assert_allclose(first(grad), tx.grad.numpy(), rtol=1e-12, atol=1e-14)
