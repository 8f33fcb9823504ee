"""Winograd's algorithm: values near the oracle's, the promised error, when it runs and how it is turned off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numba
import numpy as np
import oracle
import pytest
from passes import normal

import numbaconv as nc
from numbaconv import planner
from numbaconv.algorithms import winograd
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

SHAPES = json.loads((Path(__file__).parents[1] / "asv_bench" / "shapes.json").read_text())
DIRECTIONS = [direction for direction in planner.DIRECTIONS if "winograd" in dict(planner.reasons(
    resolve_conv((1, 8, 8, 8), (3, 3, 8, 8)), direction))]  # fmt: skip

# Root mean square of the difference to the oracle, over that of the result: float32 rounds to 6e-8, the transforms
# enlarge that up to about six times, and sums over channels some more.
RELATIVE_ERROR = 4e-6
MAX_ERROR_RATIO = {"forward": 2.5, "input_grad": 2.5, "kernel_grad": 4.0}
"""The direct kernel gradient adds short sums block by block and is closer to the truth than most."""


@pytest.fixture
def winograd_setting():
    """Restore the global switch."""
    value = nc.config.winograd
    yield
    nc.config.winograd = value


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def operands(spec, rng):
    return {
        "x": normal(rng, spec.x_shape, spec.dtype),
        "kernel": normal(rng, spec.kernel_shape, spec.dtype),
        "grad_y": normal(rng, spec.y_shape, spec.dtype),
    }


def engine(spec, direction, arrays, algorithm, **extra):
    first, second = {"forward": ("x", "kernel"), "input_grad": ("grad_y", "kernel"), "kernel_grad": ("x", "grad_y")}[
        direction
    ]
    return getattr(planner, direction)(spec, arrays[first], arrays[second], algorithm=algorithm, **extra)


def expected(spec, direction, arrays, options, dtype=np.float64):
    x, kernel, grad_y = (arrays[name].astype(dtype) for name in ("x", "kernel", "grad_y"))
    if direction == "forward":
        return oracle.conv(x, kernel, None, **options)
    if direction == "input_grad":
        return oracle.conv_input_grad(grad_y, kernel, x.shape, **options)
    return oracle.conv_kernel_grad(x, grad_y, kernel.shape, **options)


CASES = {
    "3x3": ((2, 14, 13, 16), (3, 3, 16, 24), {"padding": "same"}),
    "5x5": ((2, 11, 12, 8), (5, 5, 8, 16), {"padding": "same"}),
    "2x4": ((1, 9, 15, 8), (2, 4, 8, 8), {}),
    "1x3": ((2, 7, 12, 16), (1, 3, 16, 16), {"padding": "same"}),
    "3x1": ((2, 12, 7, 16), (3, 1, 16, 16), {"padding": "same"}),
    "1-D": ((3, 40, 8), (3, 8, 16), {"padding": "causal"}),
    "dilated 1-D": ((2, 50, 8), (3, 8, 16), {"padding": "causal", "dilation_rate": 4}),
    "dilated": ((1, 17, 14, 8), (3, 3, 8, 16), {"padding": "same", "dilation_rate": (2, 3)}),
    "3-D": ((1, 6, 9, 10, 8), (3, 3, 3, 8, 16), {"padding": "same"}),
    "3x1x1": ((1, 9, 5, 6, 8), (3, 1, 1, 8, 16), {}),
    "4-D": ((1, 4, 5, 5, 6, 8), (2, 2, 3, 3, 8, 8), {}),
    "4x4": ((2, 11, 13, 8), (4, 4, 8, 32), {"padding": "same"}),
    "groups": ((2, 10, 10, 24), (3, 3, 8, 48), {"padding": "same", "groups": 3}),
    "tails": ((2, 10, 11, 5), (3, 3, 5, 21), {"padding": "same"}),
    "one channel": ((2, 10, 11, 1), (3, 3, 1, 1), {"padding": "same"}),
    "padded by two": ((1, 9, 9, 8), (3, 3, 8, 8), {"padding": ((2, 0), (1, 3))}),
    "reflect": ((1, 9, 9, 8), (3, 3, 8, 8), {"padding": "same", "padding_mode": "reflect"}),
    "circular": ((1, 9, 9, 8), (3, 3, 8, 8), {"padding": "same", "padding_mode": "circular"}),
    "replicate": ((1, 9, 9, 8), (3, 3, 8, 8), {"padding": "same", "padding_mode": "replicate"}),
    "stride": ((2, 15, 16, 8), (4, 3, 8, 16), {"padding": "same", "strides": 2}),
    "one output": ((2, 3, 4, 8), (3, 3, 8, 16), {}),
    "7 taps": ((2, 40, 8), (7, 8, 16), {"padding": "causal"}),
    "9 taps, dilated": ((2, 70, 8), (9, 8, 16), {"padding": "same", "dilation_rate": 2}),
    "1x7": ((2, 6, 17, 16), (1, 7, 16, 16), {"padding": "same"}),
    "11x1": ((2, 19, 6, 5), (11, 1, 5, 21), {}),
    "7x7": ((1, 13, 14, 8), (7, 7, 8, 16), {"padding": "same"}),
    "6x3": ((1, 13, 14, 16), (6, 3, 16, 16), {"padding": "same", "padding_mode": "reflect"}),
    "3-D with 7x6": ((1, 5, 9, 12, 8), (2, 7, 6, 8, 16), {"padding": "same"}),
    "7 taps, groups": ((2, 40, 16), (7, 8, 32), {"padding": "same", "groups": 2}),
    "many tiles": ((9, 20, 20, 8), (3, 3, 8, 40), {"padding": "same"}),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_values(case, direction, rng):
    x_shape, kernel_shape, options = CASES[case]
    spec = resolve_conv(x_shape, kernel_shape, **options)
    if winograd.refuses(spec, direction) is not None:
        assert case in ("stride", "one output")
        return
    arrays = operands(spec, rng)
    result = engine(spec, direction, arrays, "winograd")
    reference = expected(spec, direction, arrays, options)
    assert result.shape == reference.shape
    assert rms(result - reference) < RELATIVE_ERROR * rms(reference)


@pytest.fixture(params=["3x3", "tails", "1x3", "one channel"])
def ended(request, rng):
    """Return a function that runs a forward pass with a bias and an activation, and the sums before the activation."""
    x_shape, kernel_shape, options = CASES[request.param]
    spec = resolve_conv(x_shape, kernel_shape, **options)
    arrays = operands(spec, rng)
    bias = normal(rng, (spec.out_channels,), "float32")
    sums = expected(spec, "forward", arrays, options) + bias
    return partial(engine, spec, "forward", arrays, "winograd", bias=bias), sums


def test_bias_and_activation(ended):
    run, sums = ended
    result, reference = run(activation="relu"), np.maximum(sums, 0)
    assert (result >= 0).all()
    assert (result == 0).any()
    assert rms(result - reference) < RELATIVE_ERROR * rms(reference)


@numba.njit
def hard_swish(x):
    """Return x * relu6(x + 3) / 6."""
    return x * min(max(x + 3, 0), 6) / 6


def test_a_function_of_the_user_ends_it(ended):
    run, sums = ended
    result, reference = run(activation=nc.fused_activation(hard_swish)), sums * np.clip(sums + 3, 0, 6) / 6
    assert rms(result - reference) < RELATIVE_ERROR * rms(reference)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_channels_first_and_strided_operands(direction, rng):
    spec = resolve_conv((2, 8, 12, 13), (3, 3, 8, 16), padding="same", data_format="channels_first")
    last = resolve_conv((2, 12, 13, 8), (3, 3, 8, 16), padding="same")
    arrays = operands(last, rng)
    views = {name: np.moveaxis(a, -1, 1) if name != "kernel" else a for name, a in arrays.items()}
    copies = {name: np.ascontiguousarray(a) for name, a in views.items()}
    wide = {name: np.repeat(a, 2, axis=-1)[..., ::2] for name, a in arrays.items()}
    result = engine(last, direction, arrays, "winograd")
    first = result if direction == "kernel_grad" else np.moveaxis(result, -1, 1)
    np.testing.assert_array_equal(engine(spec, direction, views, "winograd"), first)
    np.testing.assert_array_equal(engine(spec, direction, copies, "winograd"), first)
    np.testing.assert_array_equal(engine(last, direction, wide, "winograd"), result)


def chosen_layers():
    """List the 3x3 layers, with direction, that run by Winograd's algorithm."""
    layers = []
    for shape in SHAPES:
        if shape["kernel"][-2:] == [3, 3] and not shape["transposed"]:
            spec = resolve_conv(
                (shape["batch"], *shape["in_size"], shape["in_channels"]),
                (*shape["kernel"], shape["in_channels"] // shape["groups"], shape["out_channels"]),
                strides=tuple(shape["stride"]),
                dilation_rate=tuple(shape["dilation"]),
                padding=tuple(map(tuple, shape["padding"])),
                groups=shape["groups"],
            )
            layers += [(shape, d) for d in DIRECTIONS if planner.choose(spec, d) == "winograd"]
    return layers


def test_most_wide_layers_run_by_it():
    names = {shape["name"] for shape, _ in chosen_layers()}
    assert {"rn50_3_3x3", "rn50_4_3x3", "vgg_1_2", "i3d_conv2c", "mnist_3x3_c2"} <= names


@pytest.mark.parametrize(("shape", "direction"), chosen_layers(), ids=lambda v: v if isinstance(v, str) else v["name"])
def test_error_beside_the_direct_algorithm(shape, direction, rng):
    """The bound that the documentation promises, on real layers cut to few pixels; float64 is the truth."""
    size = [min(extent, 16 if len(shape["kernel"]) < 3 else 7) for extent in shape["in_size"]]
    spec, wide = (
        resolve_conv(
            (2, *size, shape["in_channels"]),
            (*shape["kernel"], shape["in_channels"] // shape["groups"], shape["out_channels"]),
            padding="same",
            groups=shape["groups"],
            dtype=dtype,
        )
        for dtype in ("float32", "float64")
    )
    arrays = operands(spec, rng)
    truth = engine(wide, direction, {name: a.astype("float64") for name, a in arrays.items()}, "direct")
    errors = {name: rms(engine(spec, direction, arrays, name) - truth) for name in ("winograd", "direct")}
    assert errors["winograd"] < MAX_ERROR_RATIO[direction] * errors["direct"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_wide_layers_take_it_and_the_switch_turns_it_off(direction, rng, winograd_setting):
    spec = resolve_conv((4, 28, 28, 64), (3, 3, 64, 64), padding="same")
    arrays = operands(spec, rng)
    assert planner.choose(spec, direction) == "winograd"
    np.testing.assert_array_equal(engine(spec, direction, arrays, None), engine(spec, direction, arrays, "winograd"))
    nc.config.winograd = False
    assert planner.choose(spec, direction) == "direct"
    assert dict(planner.reasons(spec, direction))["winograd"] == "numbaconv.config.winograd is False"
    np.testing.assert_array_equal(engine(spec, direction, arrays, None), engine(spec, direction, arrays, "direct"))
    assert rms(engine(spec, direction, arrays, "winograd") - engine(spec, direction, arrays, "direct")) > 0


def test_the_switch_takes_booleans_only():
    with pytest.raises(TypeError, match=r"^config\.winograd=1: must be True or False$"):
        nc.config.winograd = 1
    assert repr(nc.config) == "Config(winograd=True)"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_short_sums_are_not_transformed(direction):
    spec = resolve_conv((1, 8, 8, 8), (3, 3, 8, 8), padding="same")
    summed = 4 if direction == "kernel_grad" else 8
    reason = f"sums over {summed} numbers, fewer than 12, lose too much accuracy"
    assert dict(planner.reasons(spec, direction))["winograd"] == reason
    is_folded = direction == "input_grad" and TARGET.vector_bytes == 64
    assert planner.choose(spec, direction) == ("folded_planes" if is_folded else "direct")


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
def test_large_kernels_on_few_pixels_stay_direct(direction):
    spec = resolve_conv((1, 5, 5, 512), (3, 3, 512, 512), padding="same")
    assert dict(planner.reasons(spec, direction))["winograd"].startswith("it is estimated to take ")
    assert planner.choose(spec, direction) == "direct"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "options", "reason"),
    [
        ((1, 9, 9, 8), (3, 3, 8, 8), {"dtype": "float64"}, "float64 asks for more accuracy than the transforms have"),
        ((1, 9, 9, 8), (1, 1, 8, 8), {}, "no axis has 2 to 64 neighbouring taps at stride 1 and outputs side by side"),
        ((1, 99, 8), (65, 8, 8), {}, "no axis has 2 to 64 neighbouring taps at stride 1 and outputs side by side"),
        ((1, 9, 9, 8192), (3, 3, 8192, 8192), {}, "its transformed kernel would take 9216 MiB, more than 256"),
        ((0, 9, 9, 8), (3, 3, 8, 8), {}, "the batch is empty"),
    ],
)  # fmt: skip
def test_a_forced_run_that_is_refused_raises_with_the_reason(x_shape, kernel_shape, options, reason, direction):
    spec = resolve_conv(x_shape, kernel_shape, **options)
    # The reason comes before any operand is read.
    with pytest.raises(ValueError, match=f"The algorithm 'winograd' cannot run .*: {reason}") as error:
        planner._algorithm(spec, direction, "winograd", planner.generation)
    assert "Pass `algorithm=None`" in str(error.value)
    assert planner.choose(spec, direction) != "winograd"


THREADS = """
import sys
from functools import partial
import numpy as np
import numba
from numbaconv import planner
from numbaconv.algorithms import winograd
from numbaconv.spec import resolve_conv
numba.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
spec = resolve_conv((3, 30, 30, 24), (3, 3, 24, 40), padding="same")
x, w, g = (rng.standard_normal(s, dtype=np.float32) for s in (spec.x_shape, spec.kernel_shape, spec.y_shape))
results = [planner.forward(spec, x, w, algorithm="winograd"), planner.input_grad(spec, g, w, algorithm="winograd")]
if "winograd" in dict(planner.reasons(spec, "kernel_grad")):
    results.append(planner.kernel_grad(spec, x, g, algorithm="winograd"))
sys.stdout.buffer.write(b"".join(r.tobytes() for r in results))
"""


def test_results_do_not_depend_on_threads():
    """Processes that may use one, two and four threads write the same bytes."""
    outputs = set()
    for threads in ("1", "2", "4"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", THREADS, threads], capture_output=True, env=environment, check=True)
        outputs.add(run.stdout)
    assert len(outputs) == 1


def test_the_algorithm_of_a_call_and_of_its_gradients(rng):
    spec = resolve_conv((4, 28, 28, 64), (3, 3, 64, 64), padding="same")
    arrays = operands(spec, rng)
    x, kernel, grad_y = arrays["x"], arrays["kernel"], arrays["grad_y"]
    for algorithm in ("direct", "winograd"):
        y = nc.conv(x, kernel, padding="same", algorithm=algorithm)
        np.testing.assert_array_equal(y, engine(spec, "forward", arrays, algorithm))
        tensors = nc.Tensor(x, requires_grad=True), nc.Tensor(kernel, requires_grad=True)
        result = nc.conv(*tensors, padding="same", algorithm=algorithm)
        np.testing.assert_array_equal(result.data, y)
        result.backward(grad_y)
        options = {"padding": "same", "algorithm": algorithm}
        np.testing.assert_array_equal(tensors[0].grad, nc.conv_input_grad(grad_y, kernel, x.shape, **options))
        np.testing.assert_array_equal(tensors[0].grad, engine(spec, "input_grad", arrays, algorithm))
        np.testing.assert_array_equal(tensors[1].grad, nc.conv_kernel_grad(x, grad_y, kernel.shape, **options))
        np.testing.assert_array_equal(tensors[1].grad, engine(spec, "kernel_grad", arrays, algorithm))
    with pytest.raises(ValueError, match=r"'winograd' cannot run the pass 'forward' .* float64 asks for more accuracy"):
        nc.conv(x.astype("float64"), kernel.astype("float64"), algorithm="winograd")
    with pytest.raises(ValueError, match=r"^Unknown value for argument `algorithm`: 'fft'"):
        nc.conv(x, kernel, algorithm="fft")
