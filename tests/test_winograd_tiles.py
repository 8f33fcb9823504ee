"""The last tiles along an axis: fewer points where few outputs are left to them, fewer products, the same values."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from passes import normal

from numbaconv import planner
from numbaconv.algorithms import winograd, winograd_blocks, winograd_gradient
from numbaconv.algorithms.plan_parts import array_strides
from numbaconv.algorithms.winograd_blocks import KernelPlace
from numbaconv.algorithms.winograd_tiles import TilePhase, covers, tile_kinds, tile_phases
from numbaconv.spec import resolve_conv
from numbaconv.target import TARGET

RELATIVE_ERROR = 4e-6


def only_phase(spec) -> TilePhase:
    (phase,) = tile_phases(spec, "forward", *array_strides(spec))
    return phase


def relative_error(result, reference):
    return float(np.sqrt(np.mean((result - reference) ** 2) / np.mean(reference**2)))


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("taps", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("outputs", range(2, 10))
def test_values_whatever_is_left_to_the_last_tiles(outputs, taps, padding, channels, rng):
    height = outputs if padding == "same" else outputs + taps - 1
    width = height + 1
    spec = resolve_conv((3, height, width, channels), (taps, taps, channels, 24), padding=padding)
    x, kernel = normal(rng, spec.x_shape, "float32"), normal(rng, spec.kernel_shape, "float32")
    grad_y = normal(rng, spec.y_shape, "float32")
    wide_x, wide_kernel, wide_grad = x.astype(np.float64), kernel.astype(np.float64), grad_y.astype(np.float64)
    results = (
        (planner.forward(spec, x, kernel, algorithm="winograd"), oracle.conv(wide_x, wide_kernel, padding=padding)),
        (
            planner.kernel_grad(spec, x, grad_y, algorithm="winograd"),
            oracle.conv_kernel_grad(wide_x, wide_grad, kernel.shape, padding=padding),
        ),
    )
    if winograd.refuses(spec, "input_grad") is None:
        results += (
            (
                planner.input_grad(spec, grad_y, kernel, algorithm="winograd"),
                oracle.conv_input_grad(wide_grad, wide_kernel, x.shape, padding=padding),
            ),
        )
    for result, reference in results:
        assert relative_error(result, reference) < RELATIVE_ERROR


def test_values_along_one_axis(rng):
    for steps in range(2, 12):
        spec = resolve_conv((2, steps, 16), (3, 16, 16), padding="causal")
        x, kernel = normal(rng, spec.x_shape, "float32"), normal(rng, spec.kernel_shape, "float32")
        result = planner.forward(spec, x, kernel, algorithm="winograd")
        reference = oracle.conv(x.astype(np.float64), kernel.astype(np.float64), padding="causal")
        assert relative_error(result, reference) < RELATIVE_ERROR


@pytest.mark.parametrize(
    ("size", "row_points", "share"),
    [(16, 6, 1.0), (14, 4, (22 / 24) ** 2), (7, 5, (11 / 12) ** 2), (13, 3, (21 / 24) ** 2), (3, 5, (5 / 6) ** 2)],
)
def test_few_outputs_take_few_products(size, row_points, share):
    spec = resolve_conv((4, size, size, 16), (3, 3, 16, 16), padding="same")
    kinds = tile_kinds(only_phase(spec))
    assert kinds.last_row_points == kinds.last_column_points == row_points
    assert kinds.share == pytest.approx(share)


@pytest.mark.parametrize("size", [(14, 13), (7, 16), (16, 7), (3, 2), (16, 16)])
@pytest.mark.parametrize("block", [1, 5, 8, 14, 70])
def test_every_block_finds_the_register_tiles_of_its_points(size, block):
    kinds = tile_kinds(only_phase(resolve_conv((5, *size, 16), (3, 3, 16, 16), padding="same")))
    tiles = kinds.ends[-1]
    table = covers(kinds, min(block, tiles), 2)
    for first in range(0, tiles, block):
        last = min(first + block, tiles)
        for begin, end in kinds.ranges:
            count = max(min(end, last) - max(begin, first), 0)
            length = table[table[count]]
            assert sum(table[table[count] + 1 : table[count] + 1 + length]) == count


def test_transformed_input_of_a_block_stays_in_l3():
    spec = resolve_conv((1, 32, 56, 56, 192), (3, 3, 3, 192, 64), padding="same")
    dealt = winograd.deal(spec, "forward", *array_strides(spec))
    ((phase,),), (block,) = dealt.phases, dealt.blocks
    assert phase.points * block.tiles * phase.summed_taps * 192 * 4 <= max(TARGET.l3_bytes // 2, 8 << 20)


def clear_plans():
    planner.clear_plans()
    for cached in (winograd.product_plan, winograd_blocks.deal, winograd_gradient.gradient_plan):
        cached.cache_clear()


@pytest.fixture
def joined_always(monkeypatch):
    """Return a function that has phases of a dilation always joined, or never."""

    def choose(always):
        monkeypatch.setattr(winograd_blocks, "MIN_JOINED_BYTES", 0 if always else 1 << 60)
        monkeypatch.setattr(winograd_gradient, "MIN_JOINED_SUMS", 0 if always else 1 << 60)
        clear_plans()

    yield choose
    monkeypatch.undo()
    clear_plans()


@pytest.mark.parametrize(("size", "dilation"), [((19, 23), 3), ((7, 30), 2), ((13, 12), 4), ((13, 9), 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_phases_of_a_dilation_are_one_block(size, dilation, groups, joined_always, rng):
    kernel_shape = (3, 3, 16, 48)
    spec = resolve_conv((1, *size, 16 * groups), kernel_shape, padding="same", dilation_rate=dilation, groups=groups)
    x, kernel, grad_y = (normal(rng, shape, "float32") for shape in (spec.x_shape, kernel_shape, spec.y_shape))
    results = []
    for always in (False, True):
        joined_always(always)
        results.append(
            [
                planner.forward(spec, x, kernel, algorithm="winograd"),
                planner.input_grad(spec, grad_y, kernel, algorithm="winograd"),
                planner.kernel_grad(spec, x, grad_y, algorithm="winograd"),
            ]
        )
        sets = winograd_blocks.deal(spec, "forward", *array_strides(spec)).phases
        assert (max(map(len, sets)) > 1) == always
        phases = tile_phases(spec, "kernel_grad", *array_strides(spec))
        assert (winograd_gradient.split_gradient(spec, phases).joined > 1) == always
    for apart, together in zip(*results, strict=True):
        np.testing.assert_array_equal(apart, together)


@pytest.mark.parametrize(
    ("size", "dilation", "mode", "planes"),
    [
        ((12, 12), 4, "zeros", [16]),
        ((13, 12), 4, "zeros", [4, 12]),
        ((19, 23), 3, "zeros", [2, 1, 4, 2]),
        ((12, 12), (1, 3), "zeros", [3]),
        ((33, 33), 12, "zeros", [81, 27, 27, 9]),
        ((12, 12), 3, "circular", [9]),
        ((9, 9), 3, "replicate", [1] * 9),
    ],
)
def test_phases_that_are_alike_are_planes_of_one(size, dilation, mode, planes, rng):
    spec = resolve_conv(
        (2, *size, 16), (3, 3, 16, 24), padding="same", dilation_rate=dilation, padding_mode=mode, dtype="float32"
    )
    phases = tile_phases(spec, "forward", *array_strides(spec))
    assert sorted(phase.planes for phase in phases) == sorted(planes)
    outputs = sum(
        2 * phase.planes * phase.lattice.rows.phase.count * phase.lattice.columns.phase.count for phase in phases
    )
    assert outputs == 2 * size[0] * size[1]
    x, kernel, grad_y = (normal(rng, shape, "float32") for shape in (spec.x_shape, spec.kernel_shape, spec.y_shape))
    for run, arrays in (
        (planner.forward, (x, kernel)), (planner.kernel_grad, (x, grad_y)),
        *(((planner.input_grad, (grad_y, kernel)),) if mode == "zeros" else ()),
    ):  # fmt: skip
        tiles, direct = (run(spec, *arrays, algorithm=name) for name in ("winograd", "direct"))
        np.testing.assert_allclose(tiles, direct, atol=2e-5 * np.abs(direct).max())


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "options"),
    [
        ((2, 21, 19, 40), (3, 3, 40, 72), {"padding": "same"}),
        ((1, 24, 25, 32), (5, 5, 32, 48), {"padding": "same"}),
        ((2, 90, 16), (3, 16, 40), {"padding": "causal", "dilation_rate": 4}),
        ((2, 14, 13, 64), (3, 3, 32, 96), {"padding": "same", "groups": 2}),
        ((2, 31, 28, 32), (4, 3, 32, 48), {"padding": "same", "strides": 2}),
    ],
)
def test_the_kernel_is_the_same_wherever_it_lies(x_shape, kernel_shape, options, direction, monkeypatch, rng):
    spec = resolve_conv(x_shape, kernel_shape, **options)
    first = normal(rng, spec.x_shape if direction == "forward" else spec.y_shape, "float32")
    kernel = normal(rng, spec.kernel_shape, "float32")
    results = []
    if winograd.refuses(spec, direction) is not None:
        return
    for place in KernelPlace:
        monkeypatch.setattr(winograd_blocks, "PLACES", (place,))
        clear_plans()
        x_strides, y_strides = array_strides(spec)
        strides = (x_strides, y_strides) if direction == "forward" else (y_strides, x_strides)
        assert winograd.deal(spec, direction, *strides).place is place
        results.append(getattr(planner, direction)(spec, first, kernel, algorithm="winograd"))
    monkeypatch.undo()
    clear_plans()
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_workers_keep_small_kernels_and_share_large_ones():
    def place(channels):
        spec = resolve_conv((8, 28, 28, channels), (3, 3, channels, channels), padding="same")
        return winograd.deal(spec, "forward", *array_strides(spec)).place

    assert TARGET.threads == 1 or place(64) is KernelPlace.KEPT
    assert place(512) is KernelPlace.SHARED
