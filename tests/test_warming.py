"""`warmup`: all kernels compiled at once, by other processes where the cache can bring their code together."""

from __future__ import annotations

import pytest

from numbaconv import code_cache, jit, warming
from numbaconv.inlining import code_size
from numbaconv.jit import CompiledFunction

SMALL = ("updates.sgd-float32", "updates.sgd-float64", "fold.fold_axis-float32")


def test_other_dtypes_and_no_processes_are_refused():
    with pytest.raises(ValueError) as error:
        warming.warmup(dtypes=("float32", "float16"))
    assert str(error.value) == (
        "dtypes=('float32', 'float16'): 'float16' has no kernels; use 'float32', 'float64' or both"
    )
    with pytest.raises(ValueError, match="processes=0: at least one must compile"):
        warming.warmup(processes=0)


def test_nothing_is_left_to_compile(capsys):
    summary = warming.warmup(progress=False)
    assert summary.functions == jit.compiled_count() >= sum(len(kernel.dtypes) for kernel in jit.KERNELS.values())
    again = warming.warmup(progress=True)
    assert (again.functions, again.compiled) == (summary.functions, 0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "compiling kernels: 100%" in captured.err
    assert str(again).startswith(f"{summary.functions} functions ready, 0 compiled now, ")


@pytest.fixture
def small_functions(monkeypatch, tmp_path):
    """Some small functions as if never compiled, and an empty cache; the package consists of no others."""
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(code_cache, "_write_folder_known", False)
    registered = {function.name: function for function in jit.package_functions()}
    fresh = [CompiledFunction(f.function, f.signature, f.name, is_cached=True) for f in map(registered.get, SMALL)]
    monkeypatch.setattr(warming, "package_functions", lambda: fresh)
    yield fresh
    monkeypatch.setattr(code_cache, "_write_folder_known", False)


@pytest.mark.parametrize("lost", [None, "raise SystemExit", "print('other')"], ids=["sound", "dead", "talks"])
def test_other_processes_compile_and_what_they_miss_is_compiled_here(small_functions, monkeypatch, lost):
    if lost:
        monkeypatch.setattr(warming, "_WORKER", lost)
    summary = warming.warmup(progress=False, processes=2)
    assert (summary.functions, summary.compiled) == (3, 3)
    assert all(function.is_loaded for function in small_functions)
    assert code_cache.cache_info().files == 3
    here = [function.name for function in small_functions if function.compile_seconds is not None]
    assert here == (list(SMALL) if lost else [])
    assert warming.warmup(progress=False, processes=2).compiled == 0


def test_one_process_compiles_here(small_functions):
    assert warming.warmup(dtypes="float32", progress=False, processes=1).compiled == 2
    assert [function.is_loaded for function in small_functions] == [True, False, True]


def test_large_functions_come_first(small_functions):
    sizes = {function.name: code_size(function.function) for function in jit.package_functions()}
    assert sizes["forward.direct_forward-float32"] > 5 * sizes["updates.sgd-float32"] > 0
    order = [sizes[function.name] for function in warming._missing(small_functions)]
    assert len(order) == len(SMALL)
    assert order == sorted(order, reverse=True)
