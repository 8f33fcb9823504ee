"""Kernels as compiled functions, and what is said about compiling them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from processes import FUNCTIONS, finish, run, start

from numbaconv import code_cache, jit, parallel, warming
from numbaconv.jit import inline, task_kernel

# --- what is printed -------------------------------------------------------------------------------------------------

PLAIN = """
import numpy as np
from numbaconv.functional import average_pool
average_pool(np.ones((1, 10, 4), np.float32), 2)
print("{}")
"""


def test_first_use_is_announced_once(package, cache):
    _, first = finish(start(PLAIN, cache, package=package))
    _, second = finish(start(PLAIN, cache, package=package))
    folder = next(cache.iterdir())
    assert first in {
        f"numbaconv: compiling {name} ... (first use on this machine, cached in {folder})\n" for name in FUNCTIONS
    }
    assert second == ""


def test_announcement_can_be_silenced(package, cache):
    assert finish(start(PLAIN, cache, package=package, NUMBACONV_QUIET="1"))[1] == ""


# --- kernels ---------------------------------------------------------------------------------------------------------


@inline
def _collatz_length(n):
    length = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        length += 1
    return length


@inline
def _sum_of_lengths(n, step):
    # A range with a step from memory can raise: the entry point must do without Numba's error path.
    total = 0
    for i in range(1, n, step):
        total += _collatz_length(i)
    return total


@task_kernel
def lengths(worker, task, geometry, buffers):
    """Write sums of lengths of Collatz sequences."""
    buffers[1][task] = _sum_of_lengths(geometry[1 + task], geometry[0])


@task_kernel
def scale(worker, task, geometry, buffers):
    """Multiply by three."""
    buffers[2][task] = 3 * buffers[1][task]


def test_kernel_with_helpers_that_may_raise_is_linked():
    limits = np.array([2, 1, 10, 28, 100], np.int64)
    y = np.zeros(4)
    parallel.launch(lengths, "float64", 4, limits, (y,))

    def length(n):
        return 0 if n == 1 else 1 + length(n // 2 if n % 2 == 0 else 3 * n + 1)

    assert y.tolist() == [sum(length(i) for i in range(1, n, 2)) for n in limits[1:].tolist()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel_is_compiled_per_dtype_on_first_use(dtype):
    @task_kernel
    def thrice(worker, task, geometry, buffers):
        buffers[2][task] = 3 * buffers[1][task]

    assert not thrice.is_compiled(dtype)
    x, y = np.arange(5, dtype=dtype), np.zeros(5, dtype)
    parallel.launch(thrice, dtype, 5, np.zeros(1, np.int64), (x, y))
    assert thrice.is_compiled(dtype)
    assert not thrice.is_compiled({"float32": "float64", "float64": "float32"}[dtype])
    assert thrice.address(dtype) == thrice.address(dtype) != 0
    np.testing.assert_array_equal(y, 3 * x)


def test_code_from_elsewhere_is_neither_registered_nor_kept():
    before, files = jit.compiled_count(), code_cache.cache_info().files
    scale.compile("float32")
    assert jit.compiled_count() == before
    assert code_cache.cache_info().files == files
    assert scale.name not in jit.KERNELS


def test_kernels_of_one_name_stay_apart():
    """Same module, same name, same types: only the constant differs, which Numba's own cache would not see."""

    def make(factor):
        @task_kernel
        def same(worker, task, geometry, buffers):
            buffers[1][task] = factor

        return same

    y = np.zeros(2)
    for factor in (3.0, 7.0, 11.0):
        parallel.launch(make(factor), "float64", 2, np.zeros(1, np.int64), (y,))
        assert y.tolist() == [factor, factor]


def test_cache_is_small():
    functions = warming.warmup(progress=False).functions
    # Kernels with an epilogue of their own, which other tests leave, have its digest as a second part of the name.
    sizes = [file.stat().st_size for file in Path(code_cache.cache_info().folder).iterdir() if file.name.count("-") < 2]
    assert len(sizes) == functions
    assert sum(sizes) < 50e6 / 8


def test_show_config_describes_machine_and_cache(capsys):
    from numbaconv.target import TARGET

    jit.show_config()
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["CPU", "vectors", "caches", "threads", "kernels", "cache", "versions"]
    assert TARGET.cpu_name in lines["CPU"]
    assert f"{TARGET.lanes('float32')} float32" in lines["vectors"]
    assert str(code_cache.cache_info().folder) in lines["cache"]


def test_disabled_jit_is_refused_in_words(package, cache):
    script = """
import json
import numpy as np
from numbaconv.functional import average_pool
try:
    average_pool(np.ones((1, 4, 4), np.float32), 2)
except RuntimeError as error:
    print(json.dumps(str(error)))
"""
    message = run(script, cache, package=package, NUMBA_DISABLE_JIT="1")
    assert message == "kernels exist only as compiled code: unset NUMBA_DISABLE_JIT"
