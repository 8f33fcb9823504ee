"""Convolutions and pooling on the tape: gradients by central differences, and what is computed and kept."""

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.autograd import Tensor, grad_check, no_grad, ops

pytestmark = pytest.mark.usefixtures("direct_only")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# Every function here is linear in each of its arrays, so that a step of 1 has no truncation error.
LINEAR = {"eps": 1.0, "rtol": 1e-11, "atol": 1e-11}

CONVOLUTIONS = {
    "plain 1-D": ((2, 7, 3), (3, 3, 4), {}),
    "plain 2-D": ((2, 5, 6, 3), (3, 2, 3, 2), {}),
    "plain 3-D": ((1, 4, 3, 4, 2), (2, 2, 3, 2, 2), {}),
    "plain 4-D": ((1, 3, 3, 2, 3, 1), (2, 2, 1, 2, 1, 2), {}),
    "same, strides": ((1, 6, 7, 2), (3, 3, 2, 3), {"strides": (2, 3), "padding": "same"}),
    "strides and dilation": ((1, 9, 8, 2), (2, 3, 2, 2), {"strides": 2, "dilation_rate": (3, 2)}),
    "causal, dilation": ((2, 8, 2), (3, 2, 3), {"padding": "causal", "dilation_rate": 2}),
    "groups": ((2, 5, 5, 4), (3, 3, 2, 6), {"groups": 2, "padding": "same"}),
    "asymmetric padding": ((1, 4, 5, 2), (3, 3, 2, 2), {"padding": ((2, 1), (0, 3))}),
    "mixed padding": ((1, 5, 4, 2), (3, 2, 2, 2), {"padding": ("causal", "same")}),
    "reflect": ((1, 5, 6, 2), (3, 3, 2, 2), {"padding": 2, "padding_mode": "reflect"}),
    "replicate": ((1, 4, 5, 2), (3, 3, 2, 2), {"padding": (1, 3), "padding_mode": "replicate", "strides": 2}),
    "circular": ((1, 5, 4, 2), (3, 3, 2, 2), {"padding": "same", "padding_mode": "circular"}),
    "modes per axis": ((1, 5, 4, 2), (3, 3, 2, 2), {"padding": 1, "padding_mode": ("circular", "reflect")}),
    "channels first": ((2, 3, 5, 4), (3, 3, 3, 2), {"data_format": "channels_first", "padding": "same"}),
    "pointwise": ((2, 3, 4, 5), (1, 1, 5, 3), {}),
    "unread end": ((1, 8, 2), (2, 2, 3), {"strides": 3}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case, rng):
    x_shape, kernel_shape, options = CONVOLUTIONS[case]
    arrays = [rng.standard_normal(shape) for shape in (x_shape, kernel_shape, kernel_shape[-1:])]
    grad_check(lambda x, kernel, bias: nc.conv(x, kernel, bias, **options), *arrays, **LINEAR)


TRANSPOSED = {
    "valid": ((2, 4, 3), (3, 2, 3), {}),
    "strides": ((1, 3, 4, 2), (3, 2, 3, 2), {"strides": (2, 3)}),
    "same": ((1, 3, 4, 2), (3, 3, 2, 2), {"strides": 2, "padding": "same"}),
    "output padding": ((1, 3, 3, 2), (3, 3, 2, 2), {"strides": 2, "padding": 1, "output_padding": (1, 0)}),
    "dilation": ((1, 4, 3, 2), (2, 3, 2, 2), {"strides": 2, "dilation_rate": (3, 2)}),
    "groups": ((2, 4, 4), (3, 3, 4), {"groups": 2, "strides": 2}),
    "causal": ((1, 5, 2), (3, 2, 2), {"padding": "causal", "strides": 2}),
    "3-D": ((1, 2, 3, 2, 2), (2, 2, 2, 2, 2), {"strides": (1, 2, 2)}),
    "channels first": ((1, 2, 3, 4), (3, 3, 3, 2), {"strides": 2, "data_format": "channels_first"}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case, rng):
    x_shape, kernel_shape, options = TRANSPOSED[case]
    filters = kernel_shape[-2] * options.get("groups", 1)
    arrays = [rng.standard_normal(shape) for shape in (x_shape, kernel_shape, (filters,))]
    grad_check(lambda x, kernel, bias: nc.conv_transpose(x, kernel, bias, **options), *arrays, **LINEAR)


DEPTHWISE = {
    "2-D": ((2, 5, 4, 3), (3, 3, 3, 2), {"padding": "same"}),
    "strides and dilation": ((1, 9, 3), (3, 3, 1), {"strides": 2, "dilation_rate": 2}),
    "channels first, reflect": (
        (1, 3, 5, 4),
        (3, 3, 3, 1),
        {"data_format": "channels_first", "padding": 1, "padding_mode": "reflect"},
    ),
}


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_conv(case, rng):
    x_shape, kernel_shape, options = DEPTHWISE[case]
    filters = kernel_shape[-2] * kernel_shape[-1]
    arrays = [rng.standard_normal(shape) for shape in (x_shape, kernel_shape, (filters,))]
    grad_check(lambda x, kernel, bias: nc.depthwise_conv(x, kernel, bias, **options), *arrays, **LINEAR)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_separable_conv(data_format, rng):
    x_shape = (1, 5, 6, 3) if data_format == "channels_last" else (1, 3, 5, 6)
    arrays = [rng.standard_normal(shape) for shape in (x_shape, (3, 3, 3, 2), (1, 1, 6, 4), (4,))]
    options = {"strides": 2, "padding": "same", "data_format": data_format}
    grad_check(lambda x, d, p, bias: nc.separable_conv(x, d, p, bias, **options), *arrays, **LINEAR)


def test_separable_conv_checks_all_arguments_before_it_runs():
    x, depthwise = Tensor(np.ones((1, 5, 3)), requires_grad=True), np.ones((3, 3, 2))
    with pytest.raises(ValueError, match="`pointwise_kernel` must have one tap per spatial axis"):
        nc.separable_conv(x, depthwise, np.ones((1, 5, 4)))


@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": "same"}, {"dilation_rate": 2, "groups": 2}])
def test_gradients_of_the_gradient_functions(options, rng):
    x_shape, kernel_shape = (1, 6, 7, 4), (3, 2, 4 // options.get("groups", 1), 4)
    x, kernel = rng.standard_normal(x_shape), rng.standard_normal(kernel_shape)
    grad_y = rng.standard_normal(nc.conv(x, kernel, **options).shape)
    grad_check(lambda g, k: nc.conv_input_grad(g, k, x_shape, **options), grad_y, kernel, **LINEAR)
    grad_check(lambda a, g: nc.conv_kernel_grad(a, g, kernel_shape, **options), x, grad_y, **LINEAR)


POOLS = {
    "1-D": ((2, 7, 2), {"pool_size": 2}),
    "2-D, overlapping": ((2, 6, 5, 2), {"pool_size": 3, "strides": 2}),
    "same": ((1, 5, 6, 2), {"pool_size": (3, 2), "strides": 2, "padding": "same"}),
    "explicit padding": ((1, 5, 4, 1), {"pool_size": 3, "strides": 1, "padding": ((1, 2), (0, 1))}),
    "3-D": ((1, 4, 3, 4, 2), {"pool_size": 2}),
    "channels first": ((2, 2, 5, 4), {"pool_size": 2, "data_format": "channels_first"}),
}


def distinct(rng, shape):
    """Values at least 1 apart: no step of a central difference changes which is the largest."""
    return rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize("case", POOLS)
def test_pools(name, case, rng):
    shape, options = POOLS[case]
    grad_check(lambda x: getattr(nc, name)(x, **options), distinct(rng, shape), eps=0.25, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["global_max_pool", "global_average_pool"])
@pytest.mark.parametrize("options", [{}, {"keepdims": True}, {"data_format": "channels_first"}])
def test_global_pools(name, options, rng):
    x = distinct(rng, (2, 3, 4, 2))
    grad_check(lambda x: getattr(nc, name)(x, **options), x, eps=0.25, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["adaptive_max_pool", "adaptive_average_pool"])
@pytest.mark.parametrize("output_size", [2, (3, 2), (4, 5), 1, (3, 7)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_adaptive_pools(name, output_size, data_format, rng):
    x = distinct(rng, (2, 5, 7, 2) if data_format == "channels_last" else (2, 2, 5, 7))
    function = getattr(nc, name)
    grad_check(lambda x: function(x, output_size, data_format=data_format), x, eps=0.25, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["max_pool", "global_max_pool", "adaptive_max_pool"])
def test_the_first_of_equal_maxima_gets_the_gradient(name):
    x = Tensor(np.ones((1, 4, 1), np.float32), requires_grad=True)
    arguments = {"max_pool": (4,), "global_max_pool": (), "adaptive_max_pool": (1,)}[name]
    getattr(nc, name)(x, *arguments).sum().backward()
    assert x.grad.ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "depthwise_conv", "separable_conv"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "hard_silu", "elu"])
def test_activations_of_convolutions(name, activation, rng):
    kernels = {"separable_conv": [(2, 2, 1), (1, 2, 2)], "depthwise_conv": [(2, 2, 1)]}.get(name, [(2, 2, 2)])
    arrays = [rng.standard_normal(shape) for shape in ((2, 5, 2), *kernels, (2,))]
    function = getattr(nc, name)
    plain = function(*arrays, activation=activation)
    assert np.array_equal(function(*map(Tensor, arrays), activation=activation).numpy(), plain)
    grad_check(lambda *tensors: function(*tensors, activation=activation), *arrays)


@pytest.mark.parametrize("activation", [ops.relu, ops.softsign, np.tanh])
def test_activation_functions_of_convolutions(activation, rng):
    arrays = [rng.standard_normal(shape) for shape in ((1, 5, 2), (2, 2, 3))]
    grad_check(lambda x, kernel: nc.conv(x, kernel, activation=activation), *arrays)


def count_calls(monkeypatch, *names):
    calls = []
    for name in names:
        function = getattr(nc.functional, name)

        def counted(*args, name=name, array_function=function.array_function, **options):
            calls.append(name)
            return array_function(*args, **options)

        monkeypatch.setattr(function, "array_function", counted)
    return calls


@pytest.mark.parametrize("wanted", ["x", "kernel", "bias"])
def test_only_wanted_gradients_are_computed(wanted, monkeypatch, rng):
    tensors = {
        name: Tensor(rng.standard_normal(shape), requires_grad=name == wanted)
        for name, shape in {"x": (1, 5, 2), "kernel": (3, 2, 4), "bias": (4,)}.items()
    }
    y = nc.conv(**tensors)
    calls = count_calls(monkeypatch, "conv_input_grad", "conv_kernel_grad")
    y.sum().backward()
    assert calls == {"x": ["conv_input_grad"], "kernel": ["conv_kernel_grad"], "bias": []}[wanted]
    assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [wanted]


def test_a_convolution_keeps_no_result_and_only_the_arrays_it_needs(rng):
    x, kernel = Tensor(rng.standard_normal((1, 5, 2))), Tensor(rng.standard_normal((3, 2, 4)), requires_grad=True)
    kept = nc.conv(x, kernel).node.saved
    assert kept["x"] is x.data
    assert "y" not in kept and "kernel" not in kept
    fused = nc.conv(x, kernel, activation="relu")
    assert fused.node.name == "bias_relu"
    assert fused.node.saved["y"] is fused.data


def test_float32_stays_float32(rng):
    x = Tensor(rng.standard_normal((1, 6, 6, 2)).astype(np.float32), requires_grad=True)
    kernel = Tensor(rng.standard_normal((3, 3, 2, 4)).astype(np.float32), requires_grad=True)
    bias = Tensor(np.zeros(4, np.float32), requires_grad=True)
    y = nc.average_pool(nc.max_pool(nc.conv(x, kernel, bias, activation="gelu"), 2), 2)
    assert y.dtype == np.float32
    y.sum().backward()
    assert {t.grad.dtype for t in (x, kernel, bias)} == {np.dtype(np.float32)}


def test_an_empty_batch_has_empty_and_zero_gradients():
    x = Tensor(np.zeros((0, 5, 2)), requires_grad=True)
    kernel, bias = Tensor(np.ones((3, 2, 4)), requires_grad=True), Tensor(np.ones(4), requires_grad=True)
    nc.max_pool(nc.conv(x, kernel, bias, activation="relu"), 2).sum().backward()
    assert x.grad.shape == (0, 5, 2)
    assert not kernel.grad.any() and not bias.grad.any()


def test_arrays_beside_tensors_are_constants(rng):
    x, kernel = rng.standard_normal((1, 5, 2)), Tensor(rng.standard_normal((3, 2, 4)), requires_grad=True)
    y = nc.conv(x, kernel, np.ones(4))
    assert isinstance(y, Tensor)
    y.sum().backward()
    assert kernel.grad.shape == (3, 2, 4)


def test_the_checks_of_array_functions_hold_for_tensors():
    with pytest.raises(TypeError, match=r"`x` has dtype int64.*Write x.astype\(np.float32\)"):
        nc.conv(np.ones((1, 5, 2), np.int64), Tensor(np.ones((3, 2, 4), np.float32)))
    with pytest.raises(TypeError, match="both must have the same"):
        nc.conv(Tensor(np.ones((1, 5, 2))), Tensor(np.ones((3, 2, 4), np.float32)))


def test_calls_with_wrong_names_raise_as_python_does():
    x, kernel = Tensor(np.ones((1, 5, 2))), np.ones((3, 2, 4))
    with pytest.raises(TypeError, match=r"^got an unexpected keyword argument 'stride'$"):
        nc.conv(x, kernel, stride=2)
    with pytest.raises(TypeError, match=r"^missing a required argument: 'kernel'$"):
        nc.conv(x)
    with pytest.raises(TypeError, match=r"^multiple values for argument 'kernel'$"):
        nc.conv(x, kernel, kernel=kernel)
    with pytest.raises(TypeError, match=r"^too many positional arguments$"):
        nc.conv(x, kernel, None, 2)


def test_out_is_for_results_that_are_not_recorded():
    x, kernel = Tensor(np.ones((1, 5, 2))), Tensor(np.ones((3, 2, 4)), requires_grad=True)
    out = np.zeros((1, 3, 4))
    message = (
        "`out` cannot take a result that is recorded for its gradient, as the tape keeps that array. Leave it out, or "
        r"make the call inside no_grad\(\)\."
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        nc.conv(x, kernel, out=out)
    with no_grad():
        y = nc.conv(x, kernel, activation="relu", out=out)
    assert y.data is out
    assert (out == 6).all()
