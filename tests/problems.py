"""The convolutions that the engine is tested on: small ones chosen out of spite, and real layers scaled down.

Shapes are channels last. A problem's options are the keyword arguments of `numbaconv.conv` (or `conv_transpose`), so
that the same record runs the engine and the oracle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).parent.parent / "asv_bench" / "shapes.json"

# Around the lanes of every register width in both dtypes, and around two registers of them.
CHANNELS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33]


@dataclass(frozen=True)
class Problem:
    """One convolution: shapes and options."""

    name: str
    x_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        return len(self.x_shape) - 2

    @property
    def filters(self) -> int:
        return self.kernel_shape[-1]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TransposedProblem(Problem):
    """One transposed convolution; its kernel is `(*kernel_size, filters // groups, in_channels)`."""

    @property
    def filters(self) -> int:
        return self.kernel_shape[-2] * self.options.get("groups", 1)


def conv(spatial, channels, filters, kernel_size, *, batch=2, **options) -> Problem:
    """Name a convolution after what it is."""
    groups = options.get("groups", 1)
    name = f"b{batch}_{_join(spatial)}x{channels}to{filters}_k{_join(kernel_size)}{_suffix(options)}"
    return Problem(name, (batch, *spatial, channels), (*kernel_size, channels // groups, filters), options)


def transposed(spatial, channels, filters, kernel_size, *, batch=2, **options) -> TransposedProblem:
    """Name a transposed convolution after what it is."""
    groups = options.get("groups", 1)
    name = f"b{batch}_{_join(spatial)}x{channels}to{filters}_k{_join(kernel_size)}{_suffix(options)}"
    return TransposedProblem(name, (batch, *spatial, channels), (*kernel_size, filters // groups, channels), options)


def _join(sizes) -> str:
    return "x".join(map(str, sizes))


def _suffix(options) -> str:
    def text(value):
        return str(value).replace(" ", "").replace("'", "")

    return "".join(f"_{name[:1] if name != 'padding_mode' else 'm'}{text(value)}" for name, value in options.items())


# --- ordinary convolutions -------------------------------------------------------------------------------------------

CHANNEL_TAILS = [
    *[conv((5, 7), c, f, (3, 3), padding="same") for c, f in zip(CHANNELS, reversed(CHANNELS), strict=True)],
    *[conv((4, 5), c, c, (2, 3)) for c in CHANNELS],
    *[conv((3, 6), c, 17, (1, 1)) for c in (1, 4, 31, 33)],
    conv((3, 4), 512, 33, (3, 3), batch=1, padding="same"),
    conv((3, 4), 33, 512, (3, 3), batch=1, padding="same"),
    conv((3, 4), 512, 512, (1, 1), batch=1),
    conv((2, 3), 1030, 3, (2, 2), batch=1),
]

# Output widths around the pixels of every register tile (6, 7, 8, 14) and around two of them.
PIXEL_TAILS = [
    *[conv((3, w), 8, 16, (3, 3), padding="same") for w in (1, 2, 5, 6, 7, 8, 11, 12, 13, 14, 15, 27, 28, 29)],
    *[conv((2, w), 5, 9, (1, 1)) for w in (1, 6, 7, 13, 29)],
    *[conv((w,), 3, 8, (3,), padding="same") for w in (3, 31, 47, 64, 67)],
    conv((23, 1), 4, 6, (3, 1), padding="same"),
    conv((1, 1), 7, 9, (1, 1), batch=1),
    conv((97,), 1, 1, (5,), batch=1),
]

STRIDES_AND_DILATION = [
    *[
        conv((13, 17), 3, 8, (3, 4), strides=s, dilation_rate=d, padding=p)
        for s, d in [((2, 2), (2, 2)), ((2, 2), (4, 4)), ((3, 3), (2, 2)), ((4, 4), (6, 6)), ((2, 3), (3, 2))]
        for p in ("same", 3)
    ],
    conv((11, 13), 4, 8, (5, 5), strides=2, padding="same"),
    conv((11, 13), 4, 8, (5, 5), strides=(1, 3), padding=2),
    conv((11, 13), 4, 8, (2, 2), strides=3),
    conv((11, 13), 4, 8, (1, 1), strides=2),
    conv((12, 13), 5, 7, (1, 1), strides=(3, 2), padding="same"),
    conv((7, 5), 4, 8, (7, 5)),
    conv((7, 5), 4, 8, (7, 5), strides=4),
    conv((7, 5), 4, 8, (5, 7), padding=(0, 1)),
    conv((3, 3), 2, 3, (3, 3), padding=7),
    conv((5, 6), 2, 3, (2, 2), padding=((4, 0), (0, 5))),
    conv((9, 8), 3, 5, (3, 3), padding=((0, 2), (1, 0)), strides=(2, 1)),
    conv((9, 10), 6, 6, (3, 3), padding="causal", dilation_rate=(2, 1)),
    conv((6, 9, 8), 3, 5, (2, 3, 3), padding=("causal", "same", "same"), strides=(1, 2, 2)),
    conv((9, 8), 3, 5, (3, 3), padding=("valid", (2, 1))),
    conv((11,), 2, 3, (3,), dilation_rate=5),
    conv((4, 4), 3, 4, (4, 4), strides=2, padding=(1, 3), dilation_rate=(1, 2)),
    conv((8, 8), 1, 1, (3, 3), batch=1, strides=5, padding="same"),
    conv((300,), 1, 4, (64,), batch=1, strides=16),
    conv((101,), 2, 3, (17,), strides=8, padding="same"),
    conv((90,), 4, 6, (2,), dilation_rate=32, padding="causal"),
    conv((260,), 3, 5, (7,), batch=1, dilation_rate=16, padding="causal"),
    conv((150,), 15, 15, (51,), batch=1, dilation_rate=2),
]

GROUPED = [
    conv((6, 7), 4, 6, (3, 3), groups=2, padding="same"),
    conv((6, 7), 9, 6, (3, 3), groups=3, strides=2),
    conv((6, 7), 32, 64, (3, 3), groups=4, padding="same"),
    conv((6, 7), 34, 18, (2, 3), groups=2),
    conv((5, 5), 64, 64, (3, 3), groups=16, padding="same"),
    conv((5, 6), 6, 8, (1, 1), groups=2),
    conv((8,), 4, 4, (3,), groups=2, dilation_rate=2),
    conv((4, 5, 4), 6, 9, (2, 2, 3), groups=3, padding="same"),
    conv((7, 9), 8, 12, (3, 3), groups=4, strides=2, dilation_rate=2, padding=3),
]

DEPTHWISE = [
    *[
        conv((7, 9), c, c * m, (3, 3), groups=c, padding="same")
        for c, m in [(3, 1), (8, 1), (16, 1), (17, 1), (33, 1), (64, 1), (7, 2), (16, 2), (5, 3), (32, 3)]
    ],
    conv((9, 9), 12, 12, (5, 5), groups=12, strides=2, padding="same"),
    conv((9, 11), 9, 9, (3, 3), groups=9, dilation_rate=2, padding="same"),
    conv((9, 11), 9, 18, (3, 3), groups=9, strides=2, dilation_rate=2, padding=2),
    conv((30,), 24, 24, (4,), groups=24, padding="causal"),
    conv((30,), 6, 12, (7,), groups=6, strides=3),
    conv((5, 6, 7), 20, 20, (3, 3, 3), groups=20, padding="same"),
    conv((6, 7), 4, 4, (1, 1), groups=4),
    conv((6, 8), 10, 10, (7, 7), groups=10, padding=3),
]

DIMENSIONS = [
    conv((5, 6, 7), 3, 8, (3, 3, 3), padding="same"),
    conv((5, 6, 7), 2, 5, (2, 3, 1), strides=(2, 1, 2)),
    conv((7, 7, 7), 4, 4, (3, 3, 3), strides=2, padding=((2, 3), (1, 0), (0, 2))),
    conv((7, 6, 8), 3, 4, (2, 2, 2), dilation_rate=(3, 2, 1), strides=(1, 2, 3), padding="same"),
    conv((4, 3, 2), 5, 6, (1, 1, 1), strides=(2, 1, 1)),
    conv((4, 5, 3, 4), 3, 4, (2, 3, 2, 1), padding="same"),
    conv((5, 4, 5, 4), 2, 9, (3, 2, 2, 3), strides=(2, 1, 2, 1), dilation_rate=(1, 2, 1, 1)),
    conv((3, 4, 3, 5), 4, 4, (2, 2, 2, 2), groups=2, padding=("causal", "same", 1, (0, 2))),
    conv((3, 3, 3, 3), 1, 1, (3, 3, 3, 3), batch=1),
    conv((2, 2, 3, 2, 3), 2, 3, (2, 1, 2, 2, 2), batch=1, padding="same"),
]

PADDING_MODES = [
    *[
        conv((6, 7), 3, 8, (3, 3), padding=p, padding_mode=mode)
        for mode in ("reflect", "replicate", "circular")
        for p in (1, ((3, 1), (0, 5)))
    ],
    *[conv((9, 8), 4, 5, (3, 4), padding="same", strides=2, padding_mode=m) for m in ("reflect", "circular")],
    conv((8, 9), 4, 5, (3, 2), padding="same", dilation_rate=2, strides=3, padding_mode="replicate"),
    conv((6, 7), 3, 4, (3, 3), padding=2, padding_mode=("circular", "reflect")),
    conv((6, 7), 3, 4, (3, 3), padding=(2, (1, 3)), padding_mode=("zeros", "replicate")),
    conv((20,), 2, 5, (3,), padding="causal", dilation_rate=4, padding_mode="replicate"),
    conv((5,), 2, 3, (5,), padding=4, padding_mode="reflect"),
    conv((4,), 2, 3, (3,), padding=4, padding_mode="circular"),
    conv((3,), 2, 3, (2,), padding=9, padding_mode="replicate"),
    conv((4, 5, 6), 2, 3, (3, 3, 3), padding=1, padding_mode=("circular", "replicate", "reflect")),
    conv((3, 4, 3, 4), 2, 3, (2, 2, 2, 2), padding=((1, 0), 1, (0, 1), 1), padding_mode="circular"),
    conv((7, 8), 12, 12, (3, 3), groups=12, padding=1, padding_mode="reflect"),
    conv((7, 8), 6, 4, (3, 3), groups=2, padding=2, strides=2, padding_mode="circular"),
]

# --- transposed convolutions -----------------------------------------------------------------------------------------

TRANSPOSED = [
    *[
        transposed((5, 6), 4, 7, (k, k), strides=s, padding=p)
        for k, s in [(3, 1), (3, 2), (2, 3), (4, 2), (5, 3)]
        for p in ("valid", "same")
    ],
    *[transposed((5, 6), 8, 3, (4, 3), strides=2, padding=1, output_padding=q) for q in (0, 1, (1, 0))],
    *[transposed((5,), 3, 4, (3,), strides=3, padding="same", output_padding=q) for q in (0, 1, 2)],
    *[transposed((5,), 3, 4, (2,), strides=3, padding="valid", output_padding=q) for q in (0, 1, 2)],
    transposed((5, 4), 6, 4, (3, 3), strides=2, padding="same", dilation_rate=2),
    transposed((5, 4), 6, 4, (2, 3), strides=(2, 3), padding=((0, 2), (1, 0)), dilation_rate=(4, 2)),
    transposed((5, 4), 6, 9, (3, 3), strides=2, padding="same", groups=3),
    transposed((5, 4), 8, 8, (4, 4), strides=2, padding=1, groups=8),
    transposed((1, 1), 100, 33, (4, 4)),
    transposed((7, 9), 33, 1, (3, 3), strides=2, padding="same"),
    transposed((4, 3), 5, 17, (1, 1)),
    transposed((4, 3), 5, 3, (1, 1), strides=2),
    transposed((20,), 65, 1, (64,), strides=16),
    transposed((9,), 4, 6, (3,), strides=2, padding="causal"),
    transposed((4, 5, 3), 6, 4, (3, 3, 3), strides=2, padding=1, output_padding=1),
    transposed((3, 2, 3), 4, 3, (2, 3, 2), strides=(1, 2, 3), padding="same"),
    transposed((3, 2, 2, 3), 3, 2, (2, 3, 2, 2), strides=(2, 1, 2, 1), padding="valid"),
]

# --- real layers -----------------------------------------------------------------------------------------------------

# Output positions per axis that are kept of a real layer, by number of axes: enough for every kind of tile and edge.
KEPT = {1: (61,), 2: (7, 17), 3: (3, 4, 9)}


def _scaled(entry: dict[str, Any]) -> Problem:
    """Cut the batch and the size of one layer of `shapes.json`; channels, taps and padding stay."""
    ndim = entry["ndim"]
    axes = zip(entry["in_size"], entry["kernel"], entry["stride"], entry["dilation"], KEPT[ndim], strict=True)
    options = {
        "strides": tuple(entry["stride"]),
        "dilation_rate": tuple(entry["dilation"]),
        "padding": tuple((lo, hi) for lo, hi in entry["padding"]),
        "groups": entry["groups"],
    }
    batch, channels, filters = min(entry["batch"], 2), entry["in_channels"], entry["out_channels"]
    if entry["transposed"]:
        spatial = [min(n, kept) for n, _, _, _, kept in axes]
        extra = [
            out - ((n - 1) * s - lo - hi + d * (k - 1) + 1)
            for out, n, s, (lo, hi), d, k in zip(
                entry["out_size"],
                entry["in_size"],
                entry["stride"],
                entry["padding"],
                entry["dilation"],
                entry["kernel"],
                strict=True,
            )
        ]
        kernel = (*entry["kernel"], filters // entry["groups"], channels)
        options["output_padding"] = tuple(extra)
        return TransposedProblem(entry["name"], (batch, *spatial, channels), kernel, options)
    spatial = [min(n, d * (k - 1) + 1 + (kept - 1) * s) for n, k, s, d, kept in axes]
    kernel = (*entry["kernel"], channels // entry["groups"], filters)
    return Problem(entry["name"], (batch, *spatial, channels), kernel, options)


REAL = [_scaled(entry) for entry in json.loads(SHAPES.read_text())]

# --- lists for the tests ---------------------------------------------------------------------------------------------

SPITEFUL = [
    *CHANNEL_TAILS,
    *PIXEL_TAILS,
    *STRIDES_AND_DILATION,
    *GROUPED,
    *DEPTHWISE,
    *DIMENSIONS,
    *PADDING_MODES,
]
CONVOLUTIONS = [*SPITEFUL, *(p for p in REAL if not isinstance(p, TransposedProblem))]
TRANSPOSED_CONVOLUTIONS = [*TRANSPOSED, *(p for p in REAL if isinstance(p, TransposedProblem))]

# Enough work that the engine cuts it into many tasks, one problem or two for every mechanism.
LARGE = [
    conv((33, 47), 16, 24, (3, 3), batch=4, padding="same"),
    conv((30, 31), 32, 64, (1, 1), batch=5),
    conv((64, 65), 3, 32, (5, 5), batch=3, strides=2, padding="same"),
    conv((40, 41), 24, 3, (3, 3), batch=3, padding=1, padding_mode="reflect"),
    conv((29, 31), 20, 20, (3, 3), batch=3, strides=2, dilation_rate=2, padding=2),
    conv((21, 26), 40, 35, (5, 5), batch=2, padding="same"),
    conv((31, 30), 32, 48, (3, 3), batch=3, groups=4, padding="same"),
    conv((37, 41), 40, 40, (3, 3), batch=4, groups=40, padding="same"),
    conv((37, 41), 24, 48, (5, 5), batch=3, groups=24, strides=2, padding=2, padding_mode="circular"),
    conv((2000,), 25, 25, (7,), batch=4, dilation_rate=4, padding="causal"),
    conv((6000,), 64, 64, (1024,), batch=1, groups=64, strides=256),
    conv((9001,), 24, 40, (3,), batch=1, dilation_rate=64, padding="causal"),
    conv((9, 14, 15), 16, 20, (3, 3, 3), batch=3, padding=("causal", "same", "same")),
    conv((5, 6, 7, 8), 8, 12, (2, 3, 2, 3), batch=3, padding="same", strides=(1, 2, 1, 1)),
    conv((5, 5), 128, 256, (3, 3), batch=1, padding="same"),
    transposed((21, 22), 32, 24, (4, 4), batch=3, strides=2, padding=1),
    transposed((8, 9, 10), 16, 3, (3, 3, 3), batch=2, strides=2, padding="same"),
    transposed((224,), 130, 1, (256,), batch=2, strides=64),
]

# Every mechanism once, where a test costs more than a comparison.
_SAMPLE = """
    b2_5x7x7to16_k3x3_psame b2_4x5x17to17_k2x3 b1_3x4x512to33_k3x3_psame b2_3x14x8to16_k3x3_psame b2_3x6x31to17_k1x1
    b2_13x17x3to8_k3x4_s(2,2)_d(4,4)_p3 b2_13x17x3to8_k3x4_s(4,4)_d(6,6)_psame b2_12x13x5to7_k1x1_s(3,2)_psame
    b1_300x1to4_k64_s16 b2_6x7x9to6_k3x3_g3_s2 b2_6x7x34to18_k2x3_g2 b2_7x9x33to33_k3x3_g33_psame
    b2_7x9x7to14_k3x3_g7_psame b2_9x11x9to18_k3x3_g9_s2_d2_p2 b2_7x7x7x4to4_k3x3x3_s2_p((2,3),(1,0),(0,2))
    b2_3x4x3x5x4to4_k2x2x2x2_g2_p(causal,same,1,(0,2)) b2_6x7x3to8_k3x3_p((3,1),(0,5))_mreflect
    b2_6x7x3to4_k3x3_p2_m(circular,reflect) b2_7x8x12to12_k3x3_g12_p1_mreflect b2_5x6x4to7_k3x3_s2_psame
    b2_5x6x8to3_k4x3_s2_p1_o1 b2_3x2x3x4to3_k2x3x2_s(1,2,3)_psame
"""
_BY_NAME = {problem.name: problem for problem in [*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS]}
SAMPLE = [_BY_NAME[name] for name in _SAMPLE.split()]
