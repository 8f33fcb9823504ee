"""Figures without noise, and speeds as ratios to a yardstick measured in the same process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from asv_bench import yardsticks
from asv_bench.gate.cases import all_cases
from asv_bench.gate.tracks import ACCURACY_LAYERS, WORKSPACE_LAYERS
from asv_bench.problems import PASSES, load_layers, make_arrays, make_pass

HARNESS = str(Path(__file__).resolve().parents[2])
# Finds the package as this process does and the harness behind it; prints all figures as JSON.
COLLECT = """
import json, sys
sys.path.append(sys.argv[1])
from asv_bench.gate.tracks import collect
with open(sys.argv[2], "w") as file:
    json.dump(collect(), file)
"""
HOT_KERNELS = (
    "forward.direct_forward-float32",
    "forward.direct_forward-float64",
    "kernel_gradient.direct_kernel_gradient-float32",
    "depthwise.depthwise_forward-float32",
    "depthwise_gradient.depthwise_kernel_gradient-float32",
    "pooling.max_pool-float32",
)
FIGURES = ("fma_share", "loop_spills", "spills", "instructions", "bytes")


class Commit:
    """What the gate compares exactly, collected once per commit in a process with an empty cache."""

    def setup_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMBACONV_CACHE_DIR": folder, "NUMBACONV_QUIET": "1", "NUMBA_NUM_THREADS": "1"}
            output = Path(folder) / "tracks.json"
            command = [sys.executable, "-c", COLLECT, HARNESS, str(output)]
            subprocess.run(command, check=True, env=environment, cwd=folder)
            return json.loads(output.read_text())

    setup_cache.timeout = 900


class Code(Commit):
    """The emitted code of the hot kernels."""

    params = (HOT_KERNELS, FIGURES)
    param_names = ("kernel", "figure")
    timeout = 300

    def setup(self, figures, kernel, figure):
        if figure not in figures["kernels"].get(kernel, {}):
            raise NotImplementedError

    def track_emitted_code(self, figures, kernel, figure):
        return figures["kernels"][kernel][figure]

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
    """A pass beside what the same core can do in the same moment: the machine's speed cancels."""

    params = (("rn18_l1_bs1", "mbv1_pw7", "mbv2_dw_144", "resnext101_g32", "rn20_cifar_16"), PASSES)
    param_names = ("layer", "pass")
    timeout = 300

    def setup(self, name, direction):
        import numba

        numba.set_num_threads(1)
        (self.layer,) = load_layers(only=[name])
        self.layer = self.layer.scaled(0.3)
        self.call = make_pass(self.layer, direction, make_arrays(self.layer, direction))
        self.call()
        yardsticks.fma_gflops()

    def _alternate(self, yardstick):
        """Return the best of the pass and of the yardstick, measured in turn."""
        rounds = [(yardsticks._best_seconds(self.call, 3), yardstick()) for _ in range(9)]
        return min(seconds for seconds, _ in rounds), rounds

    def track_share_of_fma_peak(self, name, direction):
        seconds, rounds = self._alternate(lambda: yardsticks.fma_gflops(repeats=1))
        return self.layer.gflop / seconds / max(peak for _, peak in rounds)

    def track_share_of_copy_bandwidth(self, name, direction):
        from asv_bench.roofline import least_bytes

        seconds, rounds = self._alternate(lambda: yardsticks.copy_gbytes(repeats=1))
        return least_bytes(self.layer) * 1e-9 / seconds / max(bandwidth for _, bandwidth in rounds)

    def track_ratio_to_matmul(self, name, direction):
        seconds, rounds = self._alternate(lambda: yardsticks.matmul_seconds(repeats=1))
        matmul_gflops = 2e-9 * yardsticks.MATRIX**3 / min(other for _, other in rounds)
        return self.layer.gflop / seconds / matmul_gflops

    track_share_of_fma_peak.version = track_share_of_copy_bandwidth.version = track_ratio_to_matmul.version = "1"


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
