"""Parts of the tests that need a process of their own: another CPU, another number of threads, guarded memory.

Each part is a function without arguments that raises or dies where the engine is wrong; `run_isolated` calls one in a
fresh interpreter. The name of the problem in hand is printed before it runs, so that a crash can be placed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import itertools
import mmap
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def run_isolated(part: str, **environment: str) -> str:
    """Run one function of this module in a fresh interpreter; return what it printed last, or fail with it."""
    import numbaconv

    paths = [str(Path(numbaconv.__file__).parent.parent), str(Path(__file__).parent)]
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import isolated; isolated.{part}()"],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, f"{part}, exit code {process.returncode}\n" + "\n".join(
        process.stdout.splitlines()[-3:] + process.stderr.splitlines()[-25:]
    )
    return process.stdout.splitlines()[-1]


def _seeded(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# --- another CPU -----------------------------------------------------------------------------------------------------


def exactness() -> None:
    """Compare every pass of the spiteful problems with the oracle, then Winograd's algorithm by its error."""
    import oracle
    from passes import cases, draw, run
    from problems import LARGE, SAMPLE, SPITEFUL, TRANSPOSED

    import numbaconv as nc

    wanted = os.environ.get("EXPECTED_VECTOR_BYTES")
    if wanted is not None:
        from numbaconv.target import TARGET

        assert TARGET.vector_bytes == int(wanted), TARGET
    nc.config.winograd = False
    for dtype, problems in [("float32", [*SPITEFUL, *TRANSPOSED, *LARGE]), ("float64", SAMPLE)]:
        for problem, name in cases(problems):
            print(problem.name, name, dtype, flush=True)
            arrays = draw(problem, _seeded(problem.name), dtype)
            result = run(nc, name, problem, arrays)
            np.testing.assert_array_equal(result, run(oracle, name, problem, arrays))
    check_winograd(lambda array, at_end: array)


def exactness_of_other_registers() -> None:
    """Compile for the vector registers of another CPU; LLVM makes them of those that this CPU has."""
    from numbaconv import target

    vector_bytes, registers = map(int, os.environ["REGISTERS"].split("x"))
    # The features are part of the cache's key, so that the code is not taken for this CPU's own.
    target.TARGET = dataclasses.replace(
        target.TARGET,
        vector_bytes=vector_bytes,
        registers=registers,
        features=f"{target.TARGET.features},registers={os.environ['REGISTERS']}",
    )
    exactness()


# --- threads ---------------------------------------------------------------------------------------------------------


def thread_counts() -> None:
    """Compare the bytes of every pass between numbers of threads; print a digest of all of them."""
    import numba
    from passes import cases, draw, normal, run
    from problems import LARGE, SAMPLE

    import numbaconv as nc
    from numbaconv import parallel

    most = numba.config.NUMBA_NUM_THREADS
    digest = hashlib.sha256()
    for dtype in ("float32", "float64"):
        for problem, name in cases([*LARGE, *SAMPLE]):
            arrays = draw(problem, _seeded(problem.name), dtype, normal)
            results = []
            for threads in (*range(1, most + 1), most):
                print(problem.name, name, dtype, f"{threads} threads", flush=True)
                numba.set_num_threads(threads)
                assert parallel.thread_count() == threads
                results.append(run(nc, name, problem, arrays).tobytes())
            assert len(set(results)) == 1, f"{problem.name} {name} {dtype} depends on the number of threads"
            digest.update(results[0])
    print(digest.hexdigest())


# --- nothing compiles after warmup -----------------------------------------------------------------------------------


def no_compilation_after_warmup() -> None:
    """Run 200 random problems after `warmup`; Numba's compiler must not run a pass, nor a function be loaded."""
    from numba.core.event import install_recorder
    from passes import cases, draw, normal, run
    from random_problems import any_convolution, any_transposed, numpy_choice

    import numbaconv as nc
    from numbaconv.jit import compiled_count

    nc.warmup(progress=False)
    before = compiled_count()
    assert before > 0
    rng = _seeded("no compilation")
    choose = numpy_choice(rng)
    with install_recorder("numba:run_pass") as compiler_passes:
        for number in range(200):
            problem = any_transposed(choose) if number % 4 == 3 else any_convolution(choose)
            dtype, data_format = choose(["float32", "float64"]), choose(["channels_last", "channels_first"])
            arrays = draw(problem, rng, dtype, normal)
            if data_format == "channels_first":
                arrays = {k: np.moveaxis(a, -1, 1) if k in ("x", "grad_y") else a for k, a in arrays.items()}
            for _, name in cases([problem]):
                print(problem, name, dtype, data_format, flush=True)
                extra = {"bias": True, "activation": choose([None, "relu"])} if "grad" not in name else {}
                run(nc, name, problem, arrays, data_format=data_format, **extra)
            x = arrays["x"]
            for pool in (nc.max_pool, nc.average_pool):
                pool(x, 2, strides=choose([1, 2, 3]), padding="same", data_format=data_format)
            nc.global_average_pool(x, data_format=data_format)
            nc.global_max_pool(x, data_format=data_format)
            assert compiled_count() == before, f"problem {number} compiled {compiled_count() - before} functions"
            assert not compiler_passes.buffer, f"problem {number}: {compiler_passes.buffer[0]}"


# --- memory that must not be touched ---------------------------------------------------------------------------------


class GuardedMemory:
    """Arrays that end, or begin, where memory ends: one byte further is a segmentation fault."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.maps: list[mmap.mmap] = []

    def copy(self, a: np.ndarray, at_end: bool) -> np.ndarray:
        """Copy an array so that its last (or first) byte is beside a page without access rights."""
        page = mmap.PAGESIZE
        inner = -(-max(a.nbytes, 1) // page) * page
        area = mmap.mmap(-1, inner + 2 * page, prot=READ_WRITE)
        self.maps.append(area)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for guard in (start, start + page + inner):
            if self.libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = page + (inner - a.nbytes if at_end else 0)
        view = np.frombuffer(area, a.dtype, a.size, offset).reshape(a.shape)
        view[...] = a
        return view


def guarded_memory() -> None:
    """Run every pass with all arrays beside pages that may not be touched."""
    import oracle
    from passes import cases, channels_first, draw, output_shape, run
    from problems import LARGE, REAL, SPITEFUL, TRANSPOSED

    import numbaconv as nc

    nc.config.winograd = False
    for problem, name in cases([*SPITEFUL, *TRANSPOSED, *REAL, *LARGE]):
        arrays = draw(problem, _seeded(problem.name), "float32")
        expected = run(oracle, name, problem, arrays)
        for at_end in (True, False):
            print(problem.name, name, "at the end" if at_end else "at the start", flush=True)
            memory = GuardedMemory()
            guarded = {key: memory.copy(a, at_end) for key, a in arrays.items()}
            np.testing.assert_array_equal(run(nc, name, problem, guarded), expected)
            if "grad" in name:
                continue
            out = memory.copy(np.zeros(output_shape(problem), np.float32), at_end)
            run(nc, name, problem, guarded, bias=True, out=out)
            np.testing.assert_array_equal(out, expected + arrays["bias"])
            first = {key: memory.copy(a, at_end) for key, a in channels_first(arrays).items()}
            result = run(nc, name, problem, first, data_format="channels_first")
            np.testing.assert_array_equal(np.moveaxis(result, 1, -1), expected)


def guarded_folded_planes() -> None:
    """Run input gradients of few channels with all arrays, the result too, beside pages that may not be touched."""
    import oracle

    from numbaconv import planner
    from numbaconv.algorithms import folded_planes
    from numbaconv.spec import resolve_conv

    memory, rng = GuardedMemory(), np.random.default_rng(0)
    for channels, of_output, columns in itertools.product((1, 2, 3, 6), (1, 2, 5, 16, 21), (1, 5, 17, 40)):
        for taps, stride, padding in ((2, 1, 0), (3, 1, 1), (4, 2, 1), (2, 3, 2)):
            options = {"strides": (stride, stride), "padding": max(padding, -(-(taps - columns) // 2), 0)}
            spec = resolve_conv((2, 6, columns, channels), (3, taps, channels, of_output), **options)
            if folded_planes.refuses(spec, "input_grad") is not None:
                continue
            grad_y = rng.integers(-3, 4, spec.y_shape).astype(np.float32)
            kernel = rng.integers(-3, 4, spec.kernel_shape).astype(np.float32)
            expected = oracle.conv_input_grad(grad_y, kernel, spec.x_shape, **options)
            for at_end in (True, False):
                print(spec, "at the end" if at_end else "at the start", flush=True)
                first, second = memory.copy(grad_y, at_end), memory.copy(kernel, at_end)
                out = memory.copy(np.zeros(spec.x_shape, np.float32), at_end)
                planner.input_grad(spec, first, second, out=out, algorithm="folded_planes")
                np.testing.assert_array_equal(out, expected)


def guarded_dense_rows() -> None:
    """Multiply a few rows by a matrix with all arrays, the result too, beside pages that may not be touched."""
    from numbaconv.algorithms import few_rows

    memory, rng = GuardedMemory(), np.random.default_rng(0)
    shapes = itertools.product((1, 3), (1, 2, 7, 40), (1, 3, 10, 16, 17, 33, 100, 128, 257, 300), (True, False))
    for rows, depth, units, at_end in shapes:
        x, matrix = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((rows, depth), (depth, units)))
        bias = rng.integers(-3, 4, units).astype(np.float32)
        print(x.shape, matrix.shape, "at the end" if at_end else "at the start", flush=True)
        for step in (1, 2):
            # With every second number zero, rows of the matrix are skipped.
            x[:, 1::step] *= step == 1
            out = memory.copy(np.zeros((rows, units), np.float32), at_end)
            operands = [memory.copy(a, at_end) for a in (x, matrix)] + [out, memory.copy(bias, at_end)]
            few_rows.launch(rows, depth, units, "float32", True, False, step == 2)(*operands)
            np.testing.assert_array_equal(out, x @ matrix + bias)


def guarded_training() -> None:
    """Run pooling forward and backward with all arrays, results too, beside pages that may not be touched."""
    import oracle

    from numbaconv import memory as outputs
    from numbaconv.algorithms import adjacent_pooling, pooling
    from numbaconv.spec import resolve_pool

    memory, rng = GuardedMemory(), np.random.default_rng(0)
    side = [True]
    outputs.allocator = lambda shape, dtype: lambda: memory.copy(np.zeros(shape, dtype), side[0])
    outputs.empty = lambda shape, dtype: memory.copy(np.zeros(shape, dtype), side[0])
    for channels, size, stride in itertools.product((1, 2, 3, 6, 8, 13, 20, 33, 70), (2, 3), (1, 2, 3)):
        for spatial, padding in (((7,), "same"), ((6, 7), "valid"), ((5, 9), "same")):
            x = rng.integers(-5, 6, (2, *spatial, channels)).astype(np.float32)
            options = {"strides": stride, "padding": padding}
            spec = resolve_pool(x.shape, size, **options, data_format="channels_last", dtype="float32")
            grad_y = rng.integers(-5, 6, spec.y_shape).astype(np.float32)
            y, mean = oracle.max_pool(x, size, **options), oracle.average_pool(x, size, **options)
            expected = oracle.max_pool_grad(x, grad_y, size, **options)
            shares = oracle.average_pool_grad(x.shape, grad_y, size, **options)
            for side[0] in (True, False):
                print(spec, "at the end" if side[0] else "at the start", flush=True)
                a, b, g = (memory.copy(array, side[0]) for array in (x, y.astype(np.float32), grad_y))
                np.testing.assert_array_equal(pooling.max_pool(spec, a), y)
                np.testing.assert_array_equal(pooling.average_pool(spec, a), mean.astype(np.float32))
                np.testing.assert_array_equal(adjacent_pooling.max_pool_grad(spec, a, b, g), expected)
                found = adjacent_pooling.average_pool_grad(spec, g)
                np.testing.assert_allclose(found, shares, rtol=0, atol=1e-5)
    for shape in ((1, 1), (5, 3), (3, 7, 10), (700, 64), (40, 700)):
        for side[0] in (True, False):
            print(shape, "at the end" if side[0] else "at the start", flush=True)
            check_rows(shape, rng, lambda array: memory.copy(array, side[0]))


def check_rows(shape: tuple[int, ...], rng: np.random.Generator, placed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Normalise a batch and take its cross-entropy, both with gradients, beside float64."""
    from numbaconv.algorithms import batch_norm
    from numbaconv.algorithms.cross_entropy import label_cross_entropy

    channels = shape[-1]
    x, g, vectors = (rng.standard_normal(size).astype(np.float32) for size in (shape, shape, (5, channels)))
    mean, scale, offset, slope, share = vectors
    variance = scale * scale
    a, b, *c = (placed(array) for array in (x, g, mean, scale, offset, slope, share, variance))
    rows, grads = (array.reshape(-1, channels).astype(np.float64) for array in (x, g))
    close = {"rtol": 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(batch_norm.centred_squares(a, c[0]), ((rows - mean) ** 2).sum(0), **close)
    sums, products = batch_norm.centred_products(b, a, c[0])
    np.testing.assert_allclose(sums, grads.sum(0), **close)
    np.testing.assert_allclose(products, (grads * (rows - mean)).sum(0), **close)
    y = batch_norm.normalize(a, c[0], c[5], c[1], c[2], 1e-3).reshape(rows.shape)
    np.testing.assert_allclose(y, (rows - mean) / np.sqrt(variance + 1e-3) * scale + offset, **close)
    gradient = batch_norm.batch_gradient(b, a, c[0], c[3], c[4], c[1]).reshape(rows.shape)
    np.testing.assert_allclose(gradient, (grads - (rows - mean) * slope - share) * scale, **close)
    labels = rng.integers(0, channels, len(rows))
    losses, slopes = label_cross_entropy(a.reshape(-1, channels), placed(labels))
    p = np.exp(rows - rows.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    at = np.arange(len(rows)), labels
    np.testing.assert_allclose(losses, -np.log(p[at]), **close)
    p[at] -= 1
    np.testing.assert_allclose(slopes, p, **close)


def guarded_winograd() -> None:
    """Run Winograd's algorithm with all arrays beside pages that may not be touched."""
    memory = GuardedMemory()
    check_winograd(memory.copy)


def check_winograd(placed: Callable[[np.ndarray, bool], np.ndarray]) -> None:
    """Run Winograd's algorithm wherever it can, on operands as ``placed`` at the end or the start of memory."""
    import oracle
    from passes import cases, draw, run
    from problems import LARGE, REAL, SPITEFUL, TransposedProblem

    from numbaconv import planner
    from numbaconv.algorithms import winograd
    from numbaconv.spec import resolve_conv

    direction = {"conv": "forward", "conv_input_grad": "input_grad", "conv_kernel_grad": "kernel_grad"}
    operands = {"forward": ("x", "kernel"), "input_grad": ("grad_y", "kernel"), "kernel_grad": ("x", "grad_y")}
    count = 0
    for problem, name in cases([*SPITEFUL, *REAL, *LARGE]):
        if isinstance(problem, TransposedProblem):
            continue
        spec = resolve_conv(problem.x_shape, problem.kernel_shape, **problem.options)
        if winograd.refuses(spec, direction[name]) is not None:
            continue
        count += 1
        arrays = draw(problem, _seeded(problem.name), "float32")
        expected = run(oracle, name, problem, arrays)
        engine, keys = getattr(planner, direction[name]), operands[direction[name]]
        for at_end in (True, False):
            print(problem.name, name, "at the end" if at_end else "at the start", flush=True)
            result = engine(spec, *(placed(arrays[key], at_end) for key in keys), algorithm="winograd")
            error = np.sqrt(np.mean((result - expected) ** 2))
            assert error <= 1e-5 * np.sqrt(np.mean(expected**2)), error
    assert count > 20, count
