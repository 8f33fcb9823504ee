"""Figures without noise: what is compiled, the emitted code, memory, imports, accuracy of one commit.

`python -m asv_bench.gate` runs `main` of this file in a process of its own on each commit, with an empty cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asv_bench.gate.assembly import count
from asv_bench.problems import PASSES, load_layers, make_arrays, make_pass

WORKSPACE_LAYERS = ("rn18_l1_bs1", "rn18_l2_s2", "mbv1_pw7", "mbv2_dw_144", "dcgan_g5", "tcn_k3_d16", "lenet5_c1_bs1")
# Where the forward pass may be computed by transforms, whose rounding errors are larger than those of plain sums.
ACCURACY_LAYERS = ("rn18_l1_bs1", "rn20_cifar_16", "rn50_3_3x3", "vgg_1_2", "tcn_k3_d16")
FIRST_CALL = """
import numpy as np, numbaconv as nc
nc.conv(np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32))
"""
WHOLE_REGISTER = {16: "xmm", 32: "ymm", 64: "zmm"}


def imported_modules(statement: str) -> list[str]:
    """Return the modules that a fresh process holds after a statement and did not hold before."""
    marked = f"import sys; before = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before))"
    return _fresh(marked).split()


def _fresh(program: str) -> str:
    """Run a program in a process of its own that finds what this one finds, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, stdout=subprocess.PIPE, text=True, env=environment,
        cwd=tempfile.gettempdir(),
    )  # fmt: skip
    return run.stdout


def compile_all() -> dict[str, dict[str, Any]]:
    """Compile every function of the package and return, by its name, the bytes and counts of its code.

    Numba's library is asked for its assembly when the package takes the object code from it. A package that takes it
    another way has no counts, which the gate says.
    """
    from numba.core.codegen import CPUCodeLibrary

    from numbaconv import jit
    from numbaconv.target import TARGET

    found: dict[str, dict[str, Any]] = {}
    current = ""
    original = CPUCodeLibrary._get_compiled_object
    register = WHOLE_REGISTER.get(TARGET.vector_bytes, "") if TARGET.architecture == "x86_64" else ""

    def get_compiled_object(library: Any) -> Any:
        code = original(library)
        if current and current not in found:
            found[current] = count(library.get_asm_str(), TARGET.architecture, register) | {"bytes": len(code)}
        return code

    CPUCodeLibrary._get_compiled_object = get_compiled_object
    try:
        jit._import_kernels()
        for function in jit._functions:
            current = function.name
            function.address  # noqa: B018 - reading it compiles
    finally:
        CPUCodeLibrary._get_compiled_object = original
    return found


def workspaces() -> dict[str, int]:
    """Return the peak memory of each pass of some layers beyond operands, in kibibytes, results included."""
    from numbaconv import memory, parallel

    sizes = {}
    for layer in load_layers(only=WORKSPACE_LAYERS):
        layer = layer.scaled(0.1)
        for direction in PASSES:
            call = make_pass(layer, direction, make_arrays(layer, direction))
            call()
            memory.POOL.clear()
            calls = getattr(parallel, "CALLS", None) or getattr(parallel, "_calls", None)  # by its name before
            if calls is not None:
                calls.idle.clear()  # the workspace that the thread keeps counts as well
            tracemalloc.start()
            try:
                result = call()
                sizes[f"{layer.name}.{direction}"] = tracemalloc.get_traced_memory()[1] >> 10
                del result
            finally:
                tracemalloc.stop()
    return sizes


def accuracy() -> dict[str, float]:
    """Return the root mean square error of the forward pass in float32, relative to the result's own.

    The reference is the same pass in float64, which sums directly.
    """
    errors = {}
    for layer in load_layers(only=ACCURACY_LAYERS):
        layer = layer.scaled(0.3)
        arrays = make_arrays(layer, "forward")
        single = make_pass(layer, "forward", arrays)()
        arrays.x, arrays.kernel = arrays.x.astype(np.float64), arrays.kernel.astype(np.float64)
        double = make_pass(layer, "forward", arrays)()
        errors[layer.name] = float(np.sqrt(np.mean((single - double) ** 2) / np.mean(double**2)))
    return errors


def new_signatures() -> int:
    """Return how many functions are compiled or loaded for shapes not seen before, where all kernels have run once.

    Which algorithm runs a shape is the planner's choice, and whether threads do, so that all have run before.
    """
    import numbaconv as nc
    from numbaconv import jit, planner
    from numbaconv.spec import resolve_conv

    def run(size: int, channels: int, all_algorithms: bool) -> None:
        rng = np.random.default_rng(0)
        for ndim in (1, 2, 3):
            x = rng.standard_normal((2, *(size,) * ndim, channels), dtype=np.float32)
            kernel = rng.standard_normal((*(3,) * ndim, channels, channels + 1), dtype=np.float32)
            spec = resolve_conv(x.shape, kernel.shape, padding="same")
            y = nc.conv(x, kernel, padding="same")
            passes: dict[str, Callable[..., Any]] = {
                "forward": partial(nc.conv, x, kernel),
                "input_grad": partial(nc.conv_input_grad, y, kernel, x.shape),
                "kernel_grad": partial(nc.conv_kernel_grad, x, y, kernel.shape),
            }
            for direction, call in passes.items():
                call(padding="same")
                for algorithm in planner.ALGORITHMS[direction] if all_algorithms else ():
                    if algorithm.refuses(spec, direction) is None:
                        call(padding="same", algorithm=algorithm.NAME)
            nc.max_pool(x, 2)

    run(12, 8, True)
    before = jit.compiled_count()
    run(11, 7, False)
    return jit.compiled_count() - before


def collect() -> dict[str, Any]:
    """Return all figures of the package that this process imports."""
    kernels = compile_all()
    from numbaconv.code_cache import cache_info

    info = cache_info()
    return {
        "functions": info.files,
        "cache_bytes": info.bytes,
        "new_signatures": int(_fresh("from asv_bench.gate.tracks import new_signatures; print(new_signatures())")),
        "import_modules": imported_modules("import numbaconv"),
        "first_call_modules": imported_modules(FIRST_CALL),
        "kernels": kernels,
        "workspace_kib": workspaces(),
        "accuracy": accuracy(),
    }


def main() -> None:
    """Print the figures as one line of JSON behind whatever else is printed."""
    tracks = collect()
    Path(sys.argv[3]).write_text(json.dumps(tracks))
