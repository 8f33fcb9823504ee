"""What `explain` says, as numbers and as text."""

from __future__ import annotations

import numbaconv as nc


def test_explain_numbers():
    page = nc.explain((8, 56, 55, 64), (3, 3, 32, 96), strides=(1, 2), dilation_rate=(2, 1), padding="same", groups=2)
    assert page.operation == "conv"
    assert page.output_shape == (8, 56, 28, 96)
    assert page.axes == (
        "floor((56 + 2 + 2 - 5) / 1) + 1 = 56, the kernel spanning 2 * (3 - 1) + 1 = 5",
        "floor((55 + 1 + 1 - 3) / 2) + 1 = 28",
    )
    assert page.macs == 8 * 56 * 28 * 96 * 32 * 9
    assert page.bytes_moved == 4 * (8 * 56 * 55 * 64 + 9 * 32 * 96 + 8 * 56 * 28 * 96)
    assert page.arithmetic_intensity == 2 * page.macs / page.bytes_moved
    assert list(page.algorithms) == ["forward", "input gradient", "kernel gradient"]
    for name, algorithm in page.algorithms.items():
        assert algorithm not in page.reasons[name]
        assert all(page.reasons[name].values())


def test_explain_text():
    page = nc.explain((1, 4, 16), (3, 16, 32), padding="causal", padding_mode="replicate", dtype="float64")
    lines = str(page).splitlines()
    assert lines[:6] == [
        "conv, float64, channels_last: mb1_ic16oc32_4_k3_p2:0_mreplicate_f64",
        "  x       (1, 4, 16)",
        "  kernel  (3, 16, 32)",
        "  output  (1, 4, 32)",
        "    axis 0: floor((4 + 2 + 0 - 3) / 1) + 1 = 4, padding by 'replicate'",
        "  6.14 k multiply-accumulates, 13.8 kB moved when each array is moved once, 0.889 FLOP per byte",
    ]
    expected = []
    for name, algorithm in page.algorithms.items():
        expected.append(f"  {name + ':':<17}{algorithm}")
        expected += [f"    not {other}: {reason}" for other, reason in page.reasons[name].items()]
    assert lines[6:] == expected


def test_explain_of_a_transposed_convolution():
    page = nc.explain((1, 5, 5, 8), (3, 4, 2, 8), operation="conv_transpose", strides=2, padding=("same", 1))
    assert page.input_shape == (1, 5, 5, 8)
    assert page.output_shape == (1, 10, 10, 2)
    assert page.axes == ("(5 - 1) * 2 + 3 - 0 - 1 + 0 = 10", "(5 - 1) * 2 + 4 - 1 - 1 + 0 = 10")
    assert page.macs == 25 * 8 * 2 * 12


def test_explain_of_a_depthwise_convolution_and_of_an_empty_batch():
    page = nc.explain((0, 9, 4), (3, 4, 2), operation="depthwise_conv")
    assert page.output_shape == (0, 7, 8)
    assert page.spec.is_depthwise
    assert page.algorithms == {}
    assert str(page).endswith("  the batch is empty: nothing runs")
