"""Every way in which an algorithm could cut a pass into phases is exact, not only the one estimated cheapest."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import draw, integers, run
from random_problems import any_convolution, numpy_choice

from numbaconv import planner
from numbaconv.algorithms import depthwise, depthwise_gradient, direct, direct_gradient, short_sums
from numbaconv.algorithms.plan_parts import array_strides, lattice_variants
from numbaconv.spec import resolve_conv

pytestmark = pytest.mark.usefixtures("direct_only")

MOST_VARIANTS = 9
PLANS = (
    *(direct.product_plan, direct._product_launch, direct._product_phases),
    *(direct_gradient.gradient_plan, direct_gradient._gradient_choices),
    *(depthwise.product_plan, depthwise_gradient.gradient_plan),
)


def clear():
    planner.clear_plans()
    for plan in PLANS:
        plan.cache_clear()


@pytest.fixture
def force(monkeypatch):
    """Make plans from the variant of a given number; return how often each number was had."""
    original, number, seen = direct.lattice_variants, [0], {}

    def one_variant(*arguments, **options):
        variants = original(*arguments, **options)
        index = number[0] % len(variants)
        seen[index] = seen.get(index, 0) + 1
        return [variants[index]]

    def set_number(value):
        number[0] = value
        clear()
        return seen

    for algorithm in (direct, direct_gradient):
        monkeypatch.setattr(algorithm, "lattice_variants", one_variant)
    yield set_number
    clear()


def random_runs(count, rng):
    """Yield random problems with their specs, arrays and exact results."""
    choose = numpy_choice(rng)
    for _ in range(count):
        problem = any_convolution(choose, ndims=(1, 2, 2, 3))
        dtype = choose(["float32", "float64"])
        arrays = draw(problem, rng, dtype)
        names = ("conv", "conv_input_grad", "conv_kernel_grad")
        expected = {name: run(oracle, name, problem, arrays) for name in names}
        yield (
            problem,
            resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options),
            arrays,
            expected,
        )


def assert_exact(spec, arrays, expected, message):
    y = planner.forward(spec, arrays["x"], arrays["kernel"])
    assert_array_equal(y, expected["conv"], message)
    grad_x = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"])
    assert_array_equal(grad_x, expected["conv_input_grad"], message)
    grad_kernel = planner.kernel_grad(spec, arrays["x"], arrays["grad_y"])
    assert_array_equal(grad_kernel, expected["conv_kernel_grad"], message)


def test_every_variant_is_exact(force):
    for problem, spec, arrays, expected in random_runs(60, np.random.default_rng(0)):
        for variant in range(MOST_VARIANTS):
            seen = force(variant)
            assert_exact(spec, arrays, expected, f"{problem} variant {variant}")
    assert set(seen) >= set(range(6)), "the problems have too few variants to show anything"


@pytest.mark.parametrize("most", [0, 1 << 20], ids=["long sums alone", "short sums wherever they can be"])
def test_sums_of_either_kernel_are_exact(monkeypatch, most):
    monkeypatch.setattr(short_sums, "MAX_RUN", most)
    monkeypatch.setattr(short_sums, "MAX_DEPTH", most)
    clear()
    plans = []
    for problem, spec, arrays, expected in random_runs(60, np.random.default_rng(2)):
        assert_exact(spec, arrays, expected, str(problem))
        plans.append(direct.product_plan(spec, "forward", *array_strides(spec)))
    count = sum(plan.has_short_sums for plan in plans)
    assert count > 5 if most else count == 0
    clear()


def test_blocks_of_all_outputs_that_pack_the_kernel_are_exact(monkeypatch):
    """Otherwise only kernels larger than L2 are packed tap by tap."""
    monkeypatch.setattr(direct, "own_panel_count", lambda channels, depth, panels, dtype: min(panels, 3))
    clear()
    plans = []
    for problem, spec, arrays, expected in random_runs(60, np.random.default_rng(1)):
        assert_exact(spec, arrays, expected, str(problem))
        plans.append(direct.product_plan(spec, "forward", *array_strides(spec)))
    assert sum(plan.packed_size == 0 for plan in plans) > 10
    clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "options"),
    [
        ((1, 19, 40), (32, 8, 40), {"padding": ((16, 16),), "groups": 5}),
        ((2, 9, 12), (50, 3, 72), {"padding": ((40, 30),), "groups": 4}),
        ((1, 21, 64), (7, 16, 96), {"padding": ((18, 12),), "dilation_rate": 4, "groups": 4}),
        ((1, 6, 7, 40), (5, 15, 8, 80), {"padding": ((2, 2), (7, 7)), "groups": 5, "strides": (1, 2)}),
        ((1, 19, 40), (12, 8, 40), {"padding": ((6, 5),), "padding_mode": "circular", "groups": 5}),
    ],
)
def test_taps_of_long_kernels_leave_out_columns_in_padding(monkeypatch, x_shape, kernel_shape, options, dtype):
    """Whole, not cut into borders: each tap of a kernel that is packed tap by tap has columns of its own."""
    monkeypatch.setattr(direct, "own_panel_count", lambda channels, depth, panels, dtype: min(panels, 3))
    monkeypatch.setattr(direct, "lattice_variants", lambda *arguments: lattice_variants(*arguments)[:1])
    clear()
    spec = resolve_conv(x_shape, kernel_shape, dtype=dtype, **options)
    rng = np.random.default_rng(3)
    x = rng.integers(-3, 4, spec.x_shape).astype(dtype)
    kernel = rng.integers(-3, 4, spec.kernel_shape).astype(dtype)
    grad_y = rng.integers(-3, 4, spec.y_shape).astype(dtype)
    assert_array_equal(planner.forward(spec, x, kernel), oracle.conv(x, kernel, **options))
    if "padding_mode" not in options:
        expected = oracle.conv_input_grad(grad_y, kernel, x.shape, **options)
        assert_array_equal(planner.input_grad(spec, grad_y, kernel), expected)
    clear()


def test_columns_that_taps_meet():
    spec = resolve_conv((1, 5, 4), (8, 1, 4), padding=((4, 4),), groups=4)
    lattice = lattice_variants(spec, "forward", *array_strides(spec))[0][0]
    columns = np.reshape(direct._met_columns(lattice), (-1, 2))
    assert columns.tolist() == [[4, 6], [3, 6], [2, 6], [1, 6], [0, 5], [0, 4], [0, 3], [0, 2]]


def test_few_channels_are_widened_where_that_pays():
    """The input gradient of a first layer: three channels would leave most lanes empty."""
    spec = resolve_conv((4, 56, 56, 3), (3, 3, 3, 64), padding="same")
    strides = ((56 * 56 * 64, 56 * 64, 64, 1), (56 * 56 * 3, 56 * 3, 3, 1))
    plan = direct.product_plan(spec, "input_grad", *strides)
    assert max(part.repeats for part in plan.bias_parts) > 1
    assert [part.repeats for part in direct.product_plan(spec, "forward", *reversed(strides)).bias_parts] == [1]


def test_all_outputs_of_a_large_stride_are_joined():
    """A window moved by many positions at once: one product gives all the outputs between two of its places."""
    spec = resolve_conv((1, 512, 1), (128, 1, 8), strides=64)
    plan = direct.product_plan(spec, "input_grad", (7 * 8, 8, 1), (512, 1, 1))
    assert max(part.repeats for part in plan.bias_parts) == 64


def test_outputs_of_a_stride_are_joined_along_every_axis():
    """One output channel and a stride of two: the four outputs of a position fill half a register, not a quarter."""
    spec = resolve_conv((2, 60, 60, 1), (4, 4, 1, 64), strides=2, padding="same")
    plan = direct.product_plan(spec, "input_grad", (30 * 30 * 64, 30 * 64, 64, 1), (60 * 60, 60, 1, 1))
    assert max(part.repeats for part in plan.bias_parts) >= 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "options"),
    [
        ((1, 512, 1), (256, 1, 37), {"strides": 64}),
        ((1, 530, 1), (256, 1, 37), {"strides": 64, "padding": ((11, 7),)}),
        ((2, 480, 3), (48, 3, 70), {"strides": 48}),
        ((1, 32, 48, 3), (16, 16, 3, 40), {"strides": 16}),
        ((2, 32, 48, 4), (8, 16, 4, 19), {"strides": (8, 16), "padding": ((3, 5), (0, 0))}),
    ],
    ids=["even", "padded", "channels", "patches", "other axis padded"],
)
def test_outputs_of_a_stride_are_packed_evenly_or_not(x_shape, kernel_shape, options, dtype, rng):
    """Outputs side by side whose numbers lie evenly in the kernel are transposed in registers, others are copied."""
    spec = resolve_conv(x_shape, kernel_shape, dtype=dtype, **options)
    grad_y, kernel = integers(rng, spec.y_shape, dtype), integers(rng, spec.kernel_shape, dtype)
    expected = oracle.conv_input_grad(grad_y, kernel, spec.x_shape, **options)
    assert_array_equal(planner.input_grad(spec, grad_y, kernel, algorithm="direct"), expected)


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "strides"),
    [
        ((2, 5, 7, 1024), (1, 1, 1024, 40), 1),
        ((1, 9, 12, 512), (1, 1, 512, 20), 2),
        ((1, 4, 15, 1024), (2, 3, 1024, 8), 1),
    ],
    ids=["1x1", "stride", "3x2"],
)
def test_pixels_that_share_one_set_of_l1_are_exact(x_shape, kernel_shape, strides, rng):
    """Pixels 4 KB apart: tiles of more rows than a set has ways gather them a cache line further apart."""
    spec = resolve_conv(x_shape, kernel_shape, strides=strides)
    arrays = {
        "x": integers(rng, spec.x_shape, "float32"),
        "kernel": integers(rng, spec.kernel_shape, "float32"),
        "grad_y": integers(rng, spec.y_shape, "float32"),
    }
    y = planner.forward(spec, arrays["x"], arrays["kernel"])
    assert_array_equal(y, oracle.conv(arrays["x"], arrays["kernel"], None, strides=strides))
    grad_x = planner.input_grad(spec, arrays["grad_y"], arrays["kernel"])
    assert_array_equal(
        grad_x, oracle.conv_input_grad(arrays["grad_y"], arrays["kernel"], spec.x_shape, strides=strides)
    )


@pytest.mark.parametrize("direction", ["forward", "input_grad", "kernel_grad"])
def test_large_dilation_keeps_few_borders_apart(direction):
    """A dilation of a third of the image: most taps of most outputs meet nothing but padding."""
    spec = resolve_conv((1, 33, 33, 256), (3, 3, 256, 256), padding="same", dilation_rate=12)
    strides = ((33 * 33 * 256, 33 * 256, 256, 1),) * 2
    if direction == "kernel_grad":
        phases = direct_gradient._gradient_phases(spec, *strides)
    else:
        phases = direct._product_phases(spec, direction, *strides, True)
    products = sum(
        np.prod([axis.phase.count * len(axis.phase.taps) for axis in phase.lattice.axes]) for phase in phases
    )
    assert products == (3 * 33 - 2 * 12) ** 2
