"""Values beside PyTorch's on random floats, where PyTorch has the feature; rounding within bounds per dtype."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from passes import case_id, cases, draw, normal, run
from problems import LARGE, REAL, SPITEFUL, TRANSPOSED, TransposedProblem

import numbaconv as nc

# Units of rounding that a result may differ from the exact sum by, relative to the sum of the products' magnitudes.
# A sum of n terms has at most n of them; in the mean they grow with the square root of n, far below the sum itself.
ROUNDINGS = 4
DTYPES = ["float32", "float64"]


def assert_within_rounding(actual, exact, magnitudes):
    """Compare with an exact result; `magnitudes` is the same sum over absolute values."""
    bound = ROUNDINGS * np.finfo(actual.dtype).eps * magnitudes
    error = np.abs(actual.astype(np.float64) - exact)
    assert actual.shape == exact.shape
    assert np.all(error <= bound), f"{np.max(error / np.maximum(bound, 1e-300)):.2f} times the bound"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("problem", "name"), cases([*REAL, *LARGE]), ids=case_id)
def test_rounding_stays_in_bounds(problem, name, dtype, rng, direct_only):
    arrays = draw(problem, rng, dtype, normal)
    absolute = {key: np.abs(a) for key, a in arrays.items()}
    exact, magnitudes = run(oracle, name, problem, arrays), run(oracle, name, problem, absolute)
    if dtype == "float64":  # the oracle rounds too
        magnitudes = 2 * magnitudes
    assert_within_rounding(run(nc, name, problem, arrays), exact, magnitudes)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def first(torch, a):
    """Channels first, as a tensor."""
    return torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 1)))


def weights(torch, kernel):
    """(*k, a, b) to (b, a, *k): PyTorch's layout for ordinary and transposed kernels alike."""
    return torch.tensor(np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1))))


def last(tensor):
    """Channels last, as an array."""
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def assert_close(actual, tensor_result, dtype):
    """Compare two results that round differently, relative to the largest value."""
    scale = np.max(np.abs(tensor_result)) if tensor_result.size else 1.0
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, tensor_result, rtol=0, atol=64 * np.finfo(dtype).eps * scale)


def explicit_padding(problem):
    """Padding as PyTorch's `pad` takes it: the last axis first."""
    options = problem.options
    ndim = problem.ndim
    axes = zip(
        oracle.per_axis_padding(options.get("padding", "valid"), ndim),
        problem.x_shape[1:-1],
        problem.kernel_shape[:-2],
        oracle.per_axis(options.get("strides", 1), ndim),
        oracle.per_axis(options.get("dilation_rate", 1), ndim),
        strict=True,
    )
    return [n for axis in reversed([oracle.padding_amounts(*a) for a in axes]) for n in axis]


def is_torch_convolution(problem):
    """PyTorch has up to three axes and one padding mode for all of them."""
    one_mode = isinstance(problem.options.get("padding_mode", "zeros"), str)
    return problem.ndim <= 3 and one_mode and not isinstance(problem, TransposedProblem)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("problem", [p for p in [*SPITEFUL, *LARGE] if is_torch_convolution(p)], ids=case_id)
def test_three_passes_agree_with_torch(problem, dtype, rng, torch):
    arrays = draw(problem, rng, dtype, normal)
    options = problem.options
    mode = options.get("padding_mode", "zeros")
    x = first(torch, arrays["x"]).requires_grad_()
    kernel = weights(torch, arrays["kernel"]).requires_grad_()
    padded = torch.nn.functional.pad(x, explicit_padding(problem), mode="constant" if mode == "zeros" else mode)
    convolve = getattr(torch.nn.functional, f"conv{problem.ndim}d")
    y = convolve(
        padded,
        kernel,
        torch.tensor(arrays["bias"]),
        stride=options.get("strides", 1),
        dilation=options.get("dilation_rate", 1),
        groups=options.get("groups", 1),
    )
    y.backward(first(torch, arrays["grad_y"]))
    assert_close(run(nc, "conv", problem, arrays, bias=True), last(y), dtype)
    assert_close(run(nc, "conv_input_grad", problem, arrays), last(x.grad), dtype)
    kernel_grad = np.moveaxis(kernel.grad.numpy(), (0, 1), (-1, -2))
    assert_close(run(nc, "conv_kernel_grad", problem, arrays), kernel_grad, dtype)


def is_torch_transposed(problem):
    """PyTorch has up to three axes, and pads both ends of all of them alike."""
    padding = problem.options.get("padding", "valid")
    return problem.ndim <= 3 and isinstance(padding, int) and isinstance(problem, TransposedProblem)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("problem", [p for p in [*TRANSPOSED, *LARGE] if is_torch_transposed(p)], ids=case_id)
def test_transposed_convolution_agrees_with_torch(problem, dtype, rng, torch):
    arrays = draw(problem, rng, dtype, normal)
    options = problem.options
    transpose = getattr(torch.nn.functional, f"conv_transpose{problem.ndim}d")
    y = transpose(
        first(torch, arrays["x"]),
        weights(torch, arrays["kernel"]),
        torch.tensor(arrays["bias"]),
        stride=options.get("strides", 1),
        padding=options["padding"],
        output_padding=options.get("output_padding", 0),
        dilation=options.get("dilation_rate", 1),
        groups=options.get("groups", 1),
    )
    assert_close(run(nc, "conv_transpose", problem, arrays, bias=True), last(y), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("output_padding", [0, 1, 2])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_output_padding_agrees_with_torch(ndim, output_padding, groups, dtype, rng, torch):
    x = normal(rng, (2, *[7, 6, 5][:ndim], 6), dtype)
    kernel = normal(rng, (*[4, 3, 2][:ndim], 10 // groups, 6), dtype)
    transpose = getattr(torch.nn.functional, f"conv_transpose{ndim}d")
    options = {"output_padding": output_padding, "groups": groups}
    y = transpose(first(torch, x), weights(torch, kernel), stride=3, padding=1, dilation=2, **options)
    actual = nc.conv_transpose(x, kernel, strides=3, padding=1, dilation_rate=2, **options)
    assert_close(actual, last(y), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_agrees_with_torch(stride, multiplier, dtype, rng, torch):
    x, kernel = normal(rng, (2, 13, 14, 20), dtype), normal(rng, (3, 5, 20, multiplier), dtype)
    grouped = weights(torch, kernel.reshape(3, 5, 1, 20 * multiplier))
    y = torch.nn.functional.conv2d(first(torch, x), grouped, stride=stride, padding=(1, 2), groups=20)
    assert_close(nc.depthwise_conv(x, kernel, strides=stride, padding=(1, 2)), last(y), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 0), (5, 3, 2)])
def test_pooling_agrees_with_torch(size, stride, padding, ndim, dtype, rng, torch):
    x = normal(rng, (2, *[13, 12, 9][:ndim], 11), dtype)
    options = {"strides": stride, "padding": padding}
    largest = getattr(torch.nn.functional, f"max_pool{ndim}d")(first(torch, x), size, stride, padding)
    np.testing.assert_array_equal(nc.max_pool(x, size, **options), last(largest))
    average = getattr(torch.nn.functional, f"avg_pool{ndim}d")
    mean = average(first(torch, x), size, stride, padding, count_include_pad=False)
    assert_close(nc.average_pool(x, size, **options), last(mean), dtype)
    axes = tuple(range(2, 2 + ndim))
    assert_close(nc.global_average_pool(x), first(torch, x).mean(axes).numpy(), dtype)
    np.testing.assert_array_equal(nc.global_max_pool(x), first(torch, x).amax(axes).numpy())
