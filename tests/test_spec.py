"""Resolving user forms to specs: sizes, padding, names, hashing."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaconv.spec import ConvSpec, PoolSpec, resolve_conv, resolve_conv_transpose, resolve_depthwise, resolve_pool


def one_axis(n, k, **options):
    return resolve_conv((1, n, 1), (k, 1, 1), **options)


def windows(n, lo, hi, k, s, d):
    """Count by trying each position."""
    return sum(1 for start in range(0, n + lo + hi, s) if start + (k - 1) * d < n + lo + hi)


@pytest.mark.parametrize("n, k, s, d", list(itertools.product([1, 4, 7, 8], [1, 2, 3, 5], [1, 2, 3], [1, 2])))
def test_output_size_is_the_number_of_window_positions(n, k, s, d):
    for padding in ["valid", "same", "causal", 0, 1, (2, 0), (0, 3)]:
        try:
            spec = one_axis(n, k, strides=s, dilation_rate=d, padding=padding)
        except ValueError:
            lo, hi = {"valid": (0, 0), 0: (0, 0), 1: (1, 1)}.get(padding, padding)
            assert windows(n, lo, hi, k, s, d) == 0
            continue
        ((lo, hi),) = spec.padding
        assert spec.out_spatial == (windows(n, lo, hi, k, s, d),)
        if padding in ("same", "causal"):
            assert spec.out_spatial == (-(-n // s),)


@pytest.mark.parametrize(
    "n, k, s, d, expected",
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 2, 1, 1, (0, 1)),
        (6, 3, 2, 1, (0, 1)),
        (224, 7, 2, 1, (2, 3)),
        (5, 1, 2, 1, (0, 0)),
        (8, 3, 1, 2, (2, 2)),
        (7, 4, 3, 1, (1, 2)),
        (4, 2, 3, 1, (0, 1)),
    ],
)
def test_same_is_tensorflows(n, k, s, d, expected):
    assert one_axis(n, k, strides=s, dilation_rate=d, padding="same").padding == (expected,)


def test_causal_pads_before_on_any_axis():
    spec = resolve_conv((1, 9, 9, 9, 2), (2, 3, 4, 2, 5), dilation_rate=(1, 2, 3), padding="causal")
    assert spec.padding == ((1, 0), (4, 0), (9, 0))
    assert spec.out_spatial == (9, 9, 9)


@pytest.mark.parametrize(
    "padding, expected",
    [
        ("valid", ((0, 0), (0, 0))),
        ("VALID", ((0, 0), (0, 0))),
        ("same", ((2, 2), (1, 1))),
        ("causal", ((4, 0), (2, 0))),
        (1, ((1, 1), (1, 1))),
        (np.int8(1), ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (np.array([1, 2]), ((1, 1), (2, 2))),
        (((1, 2), (0, 3)), ((1, 2), (0, 3))),
        (np.array([[1, 2], [0, 3]]), ((1, 2), (0, 3))),
        (("causal", "same"), ((4, 0), (1, 1))),
        (("same", 2), ((2, 2), (2, 2))),
        (((3, 0), "valid"), ((3, 0), (0, 0))),
    ],
)
def test_padding_forms_on_two_axes(padding, expected):
    assert resolve_conv((1, 9, 9, 1), (5, 3, 1, 1), padding=padding).padding == expected


@pytest.mark.parametrize(
    "padding, expected",
    [(2, (2, 2)), ((2,), (2, 2)), ((1, 2), (1, 2)), (((1, 2),), (1, 2)), (("causal",), (2, 0)), ([0, 3], (0, 3))],
)
def test_padding_forms_on_one_axis(padding, expected):
    assert one_axis(9, 3, padding=padding).padding == (expected,)


def test_sizes_may_be_numpy_integers_and_lists():
    plain = resolve_conv((2, 9, 8, 4), (3, 2, 2, 6), strides=(2, 1), dilation_rate=2, groups=2)
    same = resolve_conv(
        [2, np.int64(9), 8, 4],
        np.array([3, 2, 2, 6]),
        strides=np.array([2, 1]),
        dilation_rate=np.int32(2),
        groups=np.int64(2),
    )
    assert plain == same
    assert all(type(size) is int for size in (*same.x_shape, *same.kernel_shape, *same.strides, same.groups))


def test_properties():
    spec = resolve_conv(
        (2, 10, 12, 6), (3, 2, 3, 8), strides=(2, 1), dilation_rate=(2, 3), groups=2, padding=(1, (0, 2))
    )
    assert (spec.batch, spec.in_channels, spec.out_channels, spec.groups, spec.ndim) == (2, 6, 8, 2, 2)
    assert (spec.in_channels_per_group, spec.out_channels_per_group) == (3, 4)
    assert spec.dilated_kernel_size == (5, 4)
    assert spec.padded_spatial == (12, 14)
    assert spec.out_spatial == (4, 11)
    assert (spec.x_shape, spec.kernel_shape, spec.y_shape) == ((2, 10, 12, 6), (3, 2, 3, 8), (2, 4, 11, 8))
    assert spec.macs == 2 * 4 * 11 * 8 * 3 * 3 * 2
    assert not spec.is_pointwise
    assert not spec.is_depthwise
    assert spec.padding_mode == ("zeros", "zeros")


def test_channels_first_moves_only_the_channels():
    last = resolve_conv((2, 9, 8, 4), (3, 2, 4, 6))
    first = resolve_conv((2, 4, 9, 8), (3, 2, 4, 6), data_format="channels_first")
    assert (first.in_spatial, first.out_spatial, first.kernel_shape) == (
        last.in_spatial,
        last.out_spatial,
        (3, 2, 4, 6),
    )
    assert (first.x_shape, first.y_shape) == ((2, 4, 9, 8), (2, 6, 7, 7))


def test_depthwise_is_a_grouped_convolution():
    spec = resolve_depthwise((1, 8, 8, 3), (3, 3, 3, 2), padding="same")
    assert spec == resolve_conv((1, 8, 8, 3), (3, 3, 1, 6), groups=3, padding="same")
    assert spec.is_depthwise
    assert spec.depth_multiplier == 2


@pytest.mark.parametrize("taps, expected", [((1, 1), True), ((1, 3), False)])
def test_pointwise(taps, expected):
    assert resolve_conv((1, 8, 8, 3), (*taps, 3, 2)).is_pointwise is expected


def test_only_the_batch_may_be_empty():
    assert resolve_conv((0, 8, 3), (3, 3, 5)).y_shape == (0, 6, 5)
    assert resolve_conv_transpose((0, 8, 3), (3, 5, 3)).x_shape == (0, 10, 5)
    assert resolve_pool((0, 8, 3), 2).y_shape == (0, 4, 3)


# --- transposed ------------------------------------------------------------------------------------------------------


def keras_transposed_size(n, k, s, d, padding, op):
    """Keras's `_get_output_shape_given_tf_padding`."""
    extent = (k - 1) * d + 1
    if padding == "valid":
        op = max(extent, s) - extent if op is None else op
        return (n - 1) * s + extent + op
    return n * s if op is None else (n - 1) * s + extent % 2 + op


TRANSPOSED = [
    (n, k, s, d, padding, op)
    for n, k, s, d in itertools.product([1, 2, 5], [1, 2, 3, 4, 7], [1, 2, 3, 5], [1, 2])
    for padding in ["valid", "same", "causal", (0, 0), (1, 0), (1, 2)]
    for op in [None, *range(s)]
]


def test_transposed_sizes_are_kerass_and_pytorchs():
    checked = 0
    for n, k, s, d, padding, op in TRANSPOSED:
        extent = (k - 1) * d + 1
        if padding == "causal":
            expected = n * s if op is None else (n - 1) * s + 1 + op
        elif isinstance(padding, str):
            expected = keras_transposed_size(n, k, s, d, padding, op)
        else:
            expected = (n - 1) * s - sum(padding) + extent + (op or 0)
        try:
            spec = resolve_conv_transpose(
                (1, n, 2), (k, 3, 2), strides=s, dilation_rate=d, padding=padding, output_padding=op
            )
        except ValueError:
            assert expected < 1
            continue
        assert spec.in_spatial == (expected,)
        assert spec.x_shape == (1, expected, 3)
        checked += 1
    assert checked > 1500


def test_the_mirrored_convolution_gives_back_the_input_size_with_padding_of_zero_or_more():
    for n, k, s, d, padding, op in TRANSPOSED:
        try:
            spec = resolve_conv_transpose(
                (1, n, 2), (k, 3, 2), strides=s, dilation_rate=d, padding=padding, output_padding=op
            )
        except ValueError:
            continue
        assert spec.out_spatial == (n,), (n, k, s, d, padding, op)
        assert spec.y_shape == (1, n, 2)
        assert min(spec.padding[0]) >= 0
        if padding == "same" and -(-spec.in_spatial[0] // s) == n:
            mirrored = one_axis(spec.in_spatial[0], k, strides=s, dilation_rate=d, padding="same")
            assert spec.padding[0][0] == mirrored.padding[0][0]


def test_transposed_groups_and_kernel_layout():
    spec = resolve_conv_transpose((1, 5, 6), (3, 4, 6), groups=2, strides=2)
    assert (spec.in_channels, spec.out_channels, spec.groups) == (8, 6, 2)
    assert spec.kernel_shape == (3, 4, 6)


# --- names, hashing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, name",
    [
        ({}, "mb2_ic4oc8_9x8_k3x2"),
        ({"strides": (2, 1)}, "mb2_ic4oc8_9x8_k3x2_s2x1"),
        ({"dilation_rate": 2, "padding": "same"}, "mb2_ic4oc8_9x8_k3x2_d2x2_p2:2x1:1"),
        ({"padding": "causal", "padding_mode": ("circular", "zeros")}, "mb2_ic4oc8_9x8_k3x2_p2:0x1:0_mcircular:zeros"),
        ({"dtype": "float64"}, "mb2_ic4oc8_9x8_k3x2_f64"),
    ],
)
def test_names(options, name):
    spec = resolve_conv((2, 9, 8, 4), (3, 2, 4, 8), **options)
    assert str(spec) == name
    assert ConvSpec.parse(name) == spec


@st.composite
def specs(draw):
    ndim = draw(st.integers(1, 4))
    groups = draw(st.sampled_from([1, 2, 3]))
    small = st.integers(1, 3)
    taps = [draw(small) for _ in range(ndim)]
    spatial = [draw(st.integers(9, 12)) for _ in range(ndim)]
    channels, filters = groups * draw(small), groups * draw(small)
    data_format = draw(st.sampled_from(["channels_first", "channels_last"]))
    batch = draw(st.integers(0, 3))
    x = (batch, channels, *spatial) if data_format == "channels_first" else (batch, *spatial, channels)
    modes = st.sampled_from(["zeros", "reflect", "replicate", "circular"])
    ends = st.integers(0, 3)
    return resolve_conv(
        x,
        (*taps, channels // groups, filters),
        strides=tuple(draw(small) for _ in range(ndim)),
        dilation_rate=tuple(draw(small) for _ in range(ndim)),
        padding=tuple((draw(ends), draw(ends)) for _ in range(ndim)),
        groups=groups,
        data_format=data_format,
        padding_mode=tuple(draw(modes) for _ in range(ndim)),
        dtype=draw(st.sampled_from(["float32", "float64"])),
    )


@given(specs())
def test_a_name_reads_back_to_the_same_problem(spec):
    assert ConvSpec.parse(str(spec)) == spec
    assert hash(ConvSpec.parse(str(spec))) == hash(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec


@given(specs(), specs())
def test_different_problems_have_different_names(first, second):
    assert (str(first) == str(second)) == (first == second)


def test_a_pickled_spec_hashes_right_in_another_process():
    spec = resolve_conv((1, 9, 3), (3, 3, 4))
    program = (
        "import pickle, sys; from numbaconv.spec import resolve_conv; "
        "spec = pickle.loads(sys.stdin.buffer.read()); "
        "print(spec in {resolve_conv((1, 9, 3), (3, 3, 4))})"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(spec), capture_output=True, check=True)
    assert done.stdout.strip() == b"True"


def test_specs_are_frozen():
    with pytest.raises(AttributeError):
        resolve_conv((1, 9, 3), (3, 3, 4)).groups = 2


def test_repeated_resolving_returns_the_same_object_but_never_takes_a_float_for_an_int():
    assert resolve_conv((1, 9, 9, 3), (3, 3, 3, 4), strides=(2, 1)) is resolve_conv(
        (1, 9, 9, 3), (3, 3, 3, 4), strides=(2, 1)
    )
    with pytest.raises(TypeError, match=r"including element 2\.0 of type float"):
        resolve_conv((1, 9, 9, 3), (3, 3, 3, 4), strides=(2.0, 1))


# --- pooling ---------------------------------------------------------------------------------------------------------


def test_pool_strides_default_to_the_window():
    spec = resolve_pool((2, 9, 8, 3), (3, 2))
    assert spec.strides == (3, 2)
    assert spec.out_spatial == (3, 4)
    assert spec.y_shape == (2, 3, 4, 3)
    assert spec.ndim == 2


@pytest.mark.parametrize(
    "n, k, s, padding, pads, out",
    [
        (7, 2, 2, "valid", (0, 0), 3),
        (7, 2, 2, "same", (0, 1), 4),
        (7, 3, 2, "same", (1, 1), 4),
        (7, 3, 1, 1, (1, 1), 7),
        (7, 3, 2, (0, 2), (0, 2), 4),
        (7, 3, 2, "causal", (2, 0), 4),
    ],
)
def test_pool_sizes(n, k, s, padding, pads, out):
    spec = resolve_pool((1, n, 1), k, strides=s, padding=padding)
    assert (spec.padding, spec.out_spatial) == ((pads,), (out,))


def test_pool_channels_first():
    spec = resolve_pool((2, 3, 9, 8), 2, data_format="channels_first", dtype="float64")
    assert spec == PoolSpec(2, 3, (9, 8), (2, 2), (2, 2), ((0, 0), (0, 0)), "channels_first", "float64")
    assert (spec.x_shape, spec.y_shape) == ((2, 3, 9, 8), (2, 3, 4, 4))
