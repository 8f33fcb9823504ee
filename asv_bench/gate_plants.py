"""Slowdowns to try the gate on: changes of one kernel's text that make it about a tenth slower."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from asv_bench.gate.commits import GateError, git


@dataclass(frozen=True)
class Plant:
    """A change of one file's text, and the gate's cases that run this kernel most, the main one first."""

    name: str
    path: str
    old: str
    new: str
    cases: tuple[str, ...]


_FMA = "acc = tile_fma(acc, advance(row, i), pixel_stride, advance(weights, i * width))"
_PACKED = "acc = tile_fma(acc, advance(x, pixel * pixel_stride), 1, advance(grad, pixel * width))"
_GRADIENT = "                        factors = advance(grads, column * grad_pixel)\n"
_GRADIENT += "                        acc = tile_fma(acc, advance(pixels, column * pixel_stride), 1, factors)\n"
_DEPTHWISE = "                depthwise_phase(\n"
_DEPTHWISE += "                    geometry, record, buffers, work, batch, plane, row, rows, column, "
_CHANNELS = "channel, channels\n                )\n"
_VISITS = "record[at.VISITS]"
_VISIT = "numbers, met = advance(table, at.VISIT_SIZE * visit), advance(visits, MET * visit)\n"
_POINT = "acc = fma(acc, advance(x, i), x_stride, advance(kernel, i * width))"
_TILE = "acc = fma(acc, advance(x, tile * x_stride), 1, advance(grad, tile * width))"
_SUMS_AHEAD = "prefetch(advance(ahead, tile * ahead_step))"
_REPEATED = "for _ in range(1 + (task % 4 == 0)):\n        "
_TURNS = "        for o in range(g[Y]):\n            left = max(o * g[STRIDE] - g[LOW], 0)\n"
_AT = "            width = min(o * g[STRIDE] - g[LOW] + g[POOL], g[X]) - left\n            at ="
_INPUTS = "    for i in range(g[X]):\n        first ="

# The inner loop over a run, pixels or tiles goes on for a part of its length, which is more than a tenth where
# the kernel does other things as well. Pooling, whose inner loops are too short for that, does some rows twice.
PLANTS = (
    Plant(
        "forward: products",
        "numbaconv/kernels/register_tile.py",
        f"                else:\n                    for i in range(run):\n                        {_FMA}\n",
        f"                else:\n                    for i in range(run):\n                        {_FMA}\n"
        f"                    for i in range(run // 10):\n                        {_FMA}\n",
        ("mbv1_pw7.forward", "dcgan_g5.forward", "rn18_l2_s2.forward", "tcn_k3_d16.forward",
         "rn18_l1_bs1.forward.float64"),
    ),
    Plant(
        "kernel gradient: products",
        "numbaconv/kernels/kernel_gradient.py",
        f"                    for column in range(columns):\n{_GRADIENT}",
        f"                    for column in range(columns):\n{_GRADIENT}"
        f"                    for column in range((columns + 3) // 6):\n{_GRADIENT}",
        ("rn18_l2_s2.kernel_grad", "tcn_k3_d16.kernel_grad", "rn18_l1_bs1.kernel_grad.float64"),
    ),
    Plant(
        "kernel gradient: products of packed rows",
        "numbaconv/kernels/gradient_rows.py",
        f"        for pixel in range(pixels):\n            {_PACKED}\n",
        f"        for pixel in range(pixels):\n            {_PACKED}\n"
        f"        for pixel in range((pixels + 3) // 6):\n            {_PACKED}\n",
        ("mbv1_pw7.kernel_grad",),
    ),
    Plant(
        "depthwise forward: a seventh of the columns twice",
        "numbaconv/kernels/depthwise.py",
        f"{_DEPTHWISE}columns, {_CHANNELS}",
        # Tiles take four columns at least.
        f"{_DEPTHWISE}columns, {_CHANNELS}                if columns >= 28:\n    {_DEPTHWISE}columns // 7, {_CHANNELS}",
        ("mbv2_dw_144.forward", "mbv2_dw_144.input_grad", "mbv2_dw_144.forward.float64"),
    ),
    Plant(
        "depthwise kernel gradient: an eighth of the registers twice",
        "numbaconv/kernels/depthwise_gradient.py",
        f"        for visit in range({_VISITS}):\n            {_VISIT}",
        f"        for turn in range((1 + (register % 8 == 3)) * {_VISITS}):\n"
        f"            visit = turn % {_VISITS}\n            {_VISIT}",
        ("effdet_dw5x5.kernel_grad", "x3d_dw.kernel_grad"),
    ),
    Plant(
        "Winograd forward: products",
        "numbaconv/kernels/winograd_products.py",
        f"        for i in range(depth):\n            {_POINT}\n",
        f"        for i in range(depth):\n            {_POINT}\n"
        f"        for i in range(depth // 7):\n            {_POINT}\n",
        ("rn18_l1_bs1.forward", "rn18_l1_bs1.input_grad", "rn50_3_3x3.forward", "rn50_3_3x3.input_grad"),
    ),
    Plant(
        "Winograd kernel gradient: products",
        "numbaconv/kernels/winograd_gradient.py",
        f"            for tile in range(first, last):\n                {_TILE}\n                {_SUMS_AHEAD}\n",
        f"            for tile in range(first, last):\n                {_TILE}\n                {_SUMS_AHEAD}\n"
        f"            for tile in range(first, first + (last - first) // 5):\n                {_TILE}\n",
        ("rn18_l1_bs1.kernel_grad", "rn50_3_3x3.kernel_grad"),
    ),
    Plant(
        "maximum pooling: every fourth row twice",
        "numbaconv/kernels/pooling.py",
        "    _reduce_rows(larger,",
        f"    {_REPEATED}_reduce_rows(larger,",
        ("pool.max",),
    ),
    Plant(
        "average pooling: every fourth row twice",
        "numbaconv/kernels/pooling.py",
        "    _reduce_rows(sum_of,",
        f"    {_REPEATED}_reduce_rows(sum_of,",
        ("pool.average",),
    ),
    Plant(
        "maximum pooling's gradient: some windows twice",
        "numbaconv/kernels/pooling.py",
        _TURNS + _AT,
        _TURNS.replace("o in range(g[Y])", "turn in range(g[Y] + g[Y] // 2)").replace(
            "            left", "            o = turn % g[Y]\n            left"
        ) + _AT,
        ("pool.max_gradient",),
    ),
    Plant(
        "average pooling's gradient: some inputs twice",
        "numbaconv/kernels/pooling.py",
        _INPUTS,
        _INPUTS.replace("i in range(g[X])", "turn in range(g[X] + g[X] // 2)").replace(
            "        first", "        i = turn % g[X]\n        first"
        ),
        ("pool.average_gradient",),
    ),
)  # fmt: skip


def plant_commit(root: Path, commit: str, plant: Plant) -> str:
    """Make a commit on no branch with one planted slowdown, without touching the work tree or the index."""
    text = git(root, "show", f"{commit}:{plant.path}").decode()
    if text.count(plant.old) != 1:
        raise GateError(f"{plant.path} of {commit[:12]} has no such place to plant {plant.name!r}: adapt PLANTS")
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "changed.py"
        changed.write_text(text.replace(plant.old, plant.new))
        blob = git(root, "hash-object", "-w", str(changed)).decode().strip()
        # Of one date, so that a second start makes the same commit and finds its compiled code.
        dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2000-01-01T00:00:00Z")
        index = os.environ | dates | {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        identity = ["-c", "user.name=gate", "-c", "user.email=gate@localhost", "-c", "commit.gpgsign=false"]

        def run(*arguments: str) -> str:
            command = ["git", "-C", str(root), *identity, *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=index).stdout.strip()

        run("read-tree", commit)
        run("update-index", "--cacheinfo", f"100644,{blob},{plant.path}")
        return run("commit-tree", run("write-tree"), "-p", commit, "-m", f"Planted: {plant.name}")
