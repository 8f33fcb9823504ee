"""Machine code of users' functions on disk: found again, and never that of another function."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numba
import numpy as np
import pytest
from processes import run

from numbaconv import code_cache
from numbaconv.fingerprints import fingerprint

MODULE = """
import math
import numba
import settings

SLOPE = 0.5
TABLE = (1.0, 2.0)

@numba.njit
def helper(x):
    return SLOPE * x

def make(offset):
    @numba.njit
    def function(x):
        return helper(x) + offset + TABLE[0]
    return function

function = make(4)

@numba.njit
def configured(x):
    return settings.FACTOR * x
"""

SCRIPT = """
import json
import numpy as np
from numbaconv import code_cache, fused_activation, jit
import users
compiled = []
with jit.compiling(compiled.append):
    y = fused_activation(users.{function})(np.array([2, 4], np.float32)).tolist()
of_function = [name for name in compiled if "elementwise" in name]
print(json.dumps(dict(y=y, compiled=len(of_function), files=code_cache.cache_info().files)))
"""


@pytest.fixture
def users(tmp_path, package):
    """Return a function that runs one of the module's functions in a new process, after edits of the source."""

    def process(*edits, function="function", factor="3.0"):
        source = MODULE
        for old, new in edits:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "users.py").write_text(source, encoding="utf-8")
        (tmp_path / "settings.py").write_text(f"FACTOR = {factor}\n", encoding="utf-8")
        path = os.pathsep.join([str(package.parent), str(tmp_path)])
        return run(SCRIPT.format(function=function), tmp_path / "cache", package=package, PYTHONPATH=path)

    return process


def test_second_process_compiles_nothing(users):
    first = users()
    assert (first["y"], first["compiled"]) == ([6, 7], 1)
    assert users() == {**first, "compiled": 0}
    assert users(("\nSLOPE", "\n# A comment and a moved line.\nSLOPE")) == {**first, "compiled": 0}


@pytest.mark.parametrize(
    ("old", "new", "y"),
    [
        ("SLOPE = 0.5", "SLOPE = 1.5", [8, 11]),
        ("make(4)", "make(5)", [7, 8]),
        ("SLOPE * x", "SLOPE / x", [5.25, 5.125]),
        ("(1.0, 2.0)", "(9.0, 2.0)", [14, 15]),
        ("+ offset", "- offset", [-2, -1]),
    ],
    ids=["global of a called function", "closure", "body of a called function", "tuple", "body"],
)
def test_what_the_function_depends_on_is_compiled_anew(users, old, new, y):
    users()
    changed = users((old, new))
    assert (changed["y"], changed["compiled"]) == (y, 1)


def test_what_cannot_be_known_is_not_kept(users):
    first = users(function="configured")
    assert (first["y"], first["compiled"]) == ([6, 12], 1)
    second = users(function="configured", factor="5.0")
    assert (second["y"], second["compiled"], second["files"]) == ([10, 20], 1, first["files"])


def test_functions_of_one_process_stay_apart():
    from numbaconv import fused_activation

    def make(factor):
        return fused_activation(lambda x: factor * x)

    x = np.ones(3)
    assert [make(factor)(x)[0] for factor in (2, 3, 2.5, np.float32(4), True)] == [2, 3, 2.5, 4, 1]


def names_of(values):
    def make(value):
        return lambda x: x + value

    return [fingerprint(make(value)) for value in values]


def test_fingerprints_tell_values_apart():
    values = [
        0.0,
        -0.0,
        0,
        False,
        np.float32(0),
        np.float64(0),
        1.0,
        (0,),
        (0.0,),
        ((0.0,),),
        math.nan,
        np.zeros(1),
    ]
    names = names_of(values)
    assert None not in names
    assert len(set(names)) == len(values)
    assert names_of(values) == names


def test_fingerprints_of_jitted_functions_know_their_options():
    def function(x):
        return x * x + x

    assert fingerprint(numba.njit(function)) != fingerprint(numba.njit(fastmath=True)(function))


def test_fingerprints_of_the_unknown():
    assert names_of([object(), [1.0], {"a": 1}, pytest, Path]) == [None] * 5


def test_recursion_has_a_fingerprint():
    @numba.njit
    def down(x):
        return x if x < 1 else down(x - 1)

    assert fingerprint(down) is not None


def test_old_code_of_functions_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache, "_sources_unchanged", lambda: True)
    monkeypatch.setattr(code_cache, "write_folder", lambda: tmp_path)
    code_cache.save("forward.direct_forward-float32", b"package")
    names = [f"forward.direct_forward-{i:024x}-float32" for i in range(code_cache.KEPT_FUNCTIONS + 5)]
    for i, name in enumerate(names):
        assert code_cache.save(name, b"code")
        os.utime(tmp_path / f"{name}.code", (1e9 + i, 1e9 + i))
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == {"forward.direct_forward-float32", *names[-code_cache.KEPT_FUNCTIONS :]}
