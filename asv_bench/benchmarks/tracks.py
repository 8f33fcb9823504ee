"""Figures without noise, and speeds as ratios to a yardstick measured in the same process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from asv_bench.gate.cases import all_cases
from asv_bench.gate.tracks import ACCURACY_LAYERS, WORKSPACE_LAYERS
from asv_bench.problems import PASSES

HARNESS = str(Path(__file__).resolve().parents[2])
# Each finds the package as this process does and the harness behind it, and writes its figures as JSON.
COLLECT = """
import json, sys
sys.path.append(sys.argv[1])
from asv_bench.gate.tracks import collect
with open(sys.argv[2], "w") as file:
    json.dump(collect(), file)
"""
YARDSTICKS = """
import json, sys
sys.path.append(sys.argv[1])
from asv_bench.problems import PASSES, load_layers
from asv_bench.roofline import times_of_yardsticks
layers = [layer.scaled(0.3) for layer in load_layers(only=sys.argv[3:])]
figures = {f"{layer.name}.{name}": times_of_yardsticks(layer, name) for layer in layers for name in PASSES}
with open(sys.argv[2], "w") as file:
    json.dump(figures, file)
"""
HOT_KERNELS = (
    "forward.direct_forward-float32",
    "forward.direct_forward-float64",
    "short_sums.short_forward-float32",
    "planar.planar_forward-float32",
    "folded.folded_forward-float32",
    "folded_planes.folded_planes_forward-float32",
    "kernel_gradient.direct_kernel_gradient-float32",
    "depthwise.depthwise_forward-float32",
    "depthwise_gradient.depthwise_kernel_gradient-float32",
    "winograd.winograd_product-float32",
    "winograd_gradient.winograd_gradient_sums-float32",
    "many_rows.many_rows_product-float32",
    "pooling.max_pool-float32",
    "adjacent_pooling.adjacent_max_pool_relu_grad-float32",
)
# Of all figures less is better, as of everything that asv compares: of the arithmetic the share that is not fused
# multiply-adds on whole registers is told.
FIGURES = ("non_fma_share", "loop_spills", "spills", "instructions", "bytes")


def run_collector(program, *arguments, is_cold=False):
    """Run a program that writes JSON, in a process with one thread and, if so wanted, an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = os.environ | threads | {"NUMBACONV_QUIET": "1"}
        if is_cold:
            environment["NUMBACONV_CACHE_DIR"] = folder
        output = Path(folder) / "figures.json"
        command = [sys.executable, "-c", program, HARNESS, str(output), *arguments]
        subprocess.run(command, check=True, env=environment, cwd=folder)
        return json.loads(output.read_text())


class Commit:
    """What the gate compares exactly, collected once per commit in a process with an empty cache."""

    def setup_cache(self):
        return run_collector(COLLECT, is_cold=True)

    setup_cache.timeout = 900


class Code(Commit):
    """The emitted code of the hot kernels."""

    params = (HOT_KERNELS, FIGURES)
    param_names = ("kernel", "figure")
    timeout = 300

    def setup(self, figures, kernel, figure):
        counted = figures["kernels"].get(kernel, {})
        if "fma_share" in counted:
            counted["non_fma_share"] = 1 - counted["fma_share"]
        if figure not in counted:
            raise NotImplementedError
        self.value = counted[figure]

    def track_emitted_code(self, figures, kernel, figure):
        return self.value

    track_emitted_code.version = "1"


class Memory(Commit):
    """Bytes at the peak of a call beyond its operands."""

    params = (WORKSPACE_LAYERS, PASSES)
    param_names = ("layer", "pass")
    timeout = 300

    def track_workspace(self, figures, layer, direction):
        return figures["workspace_kib"][f"{layer}.{direction}"] << 10

    track_workspace.unit = "bytes"
    track_workspace.version = "1"


class Accuracy(Commit):
    """The rounding error of the forward pass relative to the result, root mean square."""

    params = ACCURACY_LAYERS
    param_names = ("layer",)
    timeout = 300

    def track_error(self, figures, layer):
        return figures["accuracy"][layer]

    track_error.version = "1"


class Counts(Commit):
    """One number per commit each."""

    params = ("functions", "cache_bytes", "new_signatures", "import_modules", "first_call_modules")
    param_names = ("count",)
    timeout = 300

    def track_count(self, figures, name):
        value = figures[name]
        return len(value) if isinstance(value, list) else value

    track_count.version = "1"


class Yardsticks:
    """A pass beside what the same core can do in the same moment: the machine's speed cancels.

    One process measures all of them: each yardstick alone would take as long as all passes beside it.
    """

    layers = ("rn18_l1_bs1", "mbv1_pw7", "mbv2_dw_144", "resnext101_g32", "rn20_cifar_16")
    params = (layers, PASSES, ("fma_peak", "copy", "matmul"))
    param_names = ("layer", "pass", "yardstick")
    timeout = 300

    def setup_cache(self):
        return run_collector(YARDSTICKS, *self.layers)

    setup_cache.timeout = 900

    def track_time(self, figures, name, direction, yardstick):
        return figures[f"{name}.{direction}"][yardstick]

    track_time.unit = "times the yardstick's time"
    track_time.version = "1"


class Short:
    """The gate's other cases: pooling and its gradients, padding modes, float64."""

    params = [case.name for case in all_cases() if case.name.startswith(("pool.", "padding.")) or "64" in case.name]
    param_names = ("case",)
    timeout = 300

    def setup(self, name):
        (case,) = [case for case in all_cases() if case.name == name]
        self.call = case.build()
        self.call()

    def time_case(self, name):
        self.call()

    def peakmem_case(self, name):
        self.call()

    time_case.version = peakmem_case.version = "1"
