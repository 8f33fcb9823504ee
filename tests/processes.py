"""Fresh interpreters with a package tree, a cache folder and an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from llvmlite import binding

import numbaconv

PACKAGE = Path(numbaconv.__file__).parent


def copy_package(folder: Path, package: Path = PACKAGE) -> Path:
    """Copy a package's sources below `folder`; return the copy, whose parent is the path to import from."""
    copy = folder / "numbaconv"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    return copy


def start(script: str, cache: Path, *, package: Path = PACKAGE, **environment: str) -> subprocess.Popen[str]:
    """Start a script that imports `package` and keeps machine code in `cache`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NUMBA", "OMP_", "PYTEST", "COV_")) or name == "NUMBA_CACHE_DIR"
    }
    settings = {
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBACONV_CACHE_DIR": str(cache),
        "NUMBA_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        env={**inherited, **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cache.parent,
    )


def finish(process: subprocess.Popen[str]) -> tuple[Any, str]:
    """Wait for a script; return what its last line of output says in JSON, and its standard error stream."""
    out, err = process.communicate()
    assert process.returncode == 0, f"exit code {process.returncode}\n{out[-2000:]}\n{err[-4000:]}"
    return json.loads(out.splitlines()[-1]), err


def run(script: str, cache: Path, **options: Any) -> Any:
    """Run a script and return what its last line of output says in JSON."""
    return finish(start(script, cache, **options))[0]


def features_without(*prefixes: str) -> str:
    """List the features of this CPU for LLVM, those that start with a prefix turned off."""
    return ",".join(
        f"{'+' if enabled and not name.startswith(prefixes) else '-'}{name}"
        for name, enabled in sorted(binding.get_host_cpu_features().items())
    )


def features_with(*names: str) -> str:
    """List the features of this CPU for LLVM, those named turned on."""
    enabled = {name for name, is_enabled in binding.get_host_cpu_features().items() if is_enabled} | set(names)
    return ",".join(f"{'+' if name in enabled else '-'}{name}" for name in sorted(binding.get_host_cpu_features()))


# Means of two neighbours: right only where the kernel, its helpers and its drivers are those of the sources.
MEANS = """
import json
import numpy as np
from numbaconv import code_cache, jit
from numbaconv.functional import average_pool
from numbaconv.target import TARGET

compiled = []
with jit.compiling(compiled.append):
    y = average_pool(np.arange(40, dtype=np.float32).reshape(1, 10, 4), 2)
info = code_cache.cache_info()
print(json.dumps({
    "y": y.ravel().tolist(), "compiled": compiled, "folder": info.folder, "files": info.files, "state": info.state,
    "vector_bytes": TARGET.vector_bytes, "loaded": jit.compiled_count(),
}))
"""
EXPECTED = [8.0 * i + c + 2 for i in range(5) for c in range(4)]
FUNCTIONS = ["narrow_pooling.narrow_average_pool-float32", "parallel.serial"]
