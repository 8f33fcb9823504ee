"""The cache of machine code: never stale, never in the way, whatever happens to its files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time

import pytest
from llvmlite import binding
from processes import EXPECTED, FUNCTIONS, MEANS, copy_package, features_without, finish, run, start

from numbaconv import code_cache


@pytest.fixture(scope="module")
def first_use(package, tmp_path_factory):
    """The folder that a first process has filled, and what that process said."""
    cache = tmp_path_factory.mktemp("first") / "cache"
    return cache, run(MEANS, cache, package=package)


@pytest.fixture
def filled(first_use, cache):
    """A cache folder that a process of `package` has filled."""
    shutil.copytree(first_use[0], cache)
    return cache


# --- finding and keeping code ----------------------------------------------------------------------------------------


def test_second_process_compiles_nothing(package, first_use):
    cache, first = first_use
    assert sorted(first["compiled"]) == FUNCTIONS
    assert first["y"] == EXPECTED
    assert (first["files"], first["loaded"], first["state"]) == (2, 2, "ready")
    assert run(MEANS, cache, package=package) == {**first, "compiled": []}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("kernels/pooling.py", "return divide(vector, count)", "return divide(vector, count + count)", 0.5),
        ("simd/lanewise.py", "b.fdiv(", "b.fmul(", 4.0),
        ("spec.py", "from __future__", "# A comment.\nfrom __future__", 1.0),
    ],
    ids=["the kernel", "what the kernel calls", "another file"],
)
def test_edited_source_is_compiled_anew(tmp_path, package, filled, first_use, file, old, new, expected):
    copy = copy_package(tmp_path, package)
    source = (copy / file).read_text(encoding="utf-8")
    assert old in source
    status = (copy / file).stat()
    (copy / file).write_text(source.replace(old, new), encoding="utf-8")
    # As after a checkout or an unpacked archive: the time says nothing about the content.
    os.utime(copy / file, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = run(MEANS, filled, package=copy)
    assert sorted(result["compiled"]) == FUNCTIONS
    assert code_cache.Path(result["folder"]).name != code_cache.Path(first_use[1]["folder"]).name
    assert result["y"] == [value * expected for value in EXPECTED]


def test_copy_of_the_same_sources_shares_the_code(tmp_path, package, filled):
    assert run(MEANS, filled, package=copy_package(tmp_path, package))["compiled"] == []


def test_other_version_is_compiled_anew(tmp_path, package, filled):
    copy = copy_package(tmp_path, package)
    source = (copy / "__init__.py").read_text(encoding="utf-8")
    changed = re.sub(r'__version__ = ".*"', '__version__ = "999.0"', source)
    (copy / "__init__.py").write_text(changed, encoding="utf-8")
    assert sorted(run(MEANS, filled, package=copy)["compiled"]) == FUNCTIONS


def test_version_alone_changes_the_key(monkeypatch):
    before = code_cache._key("same sources")
    monkeypatch.setattr("numbaconv.__version__", "999.0")
    assert code_cache._key("same sources") != before


@pytest.mark.parametrize("name", ["NUMBA_OPT", "NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO", "NUMBA_SLP_VECTORIZE"])
def test_settings_of_numba_change_the_key(monkeypatch, name):
    before = code_cache._key("same sources")
    monkeypatch.setenv(name, "1")
    assert code_cache._key("same sources") != before


@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CACHE_DIR"])
def test_settings_that_leave_code_alone_do_not(monkeypatch, name):
    before = code_cache._key("same sources")
    monkeypatch.setenv(name, "1")
    assert code_cache._key("same sources") == before


def test_fewer_cpu_features_use_other_code(package, filled, first_use):
    """Code for wide vectors must not run where they are switched off, nor be replaced there."""
    vector_bytes = first_use[1]["vector_bytes"] if binding.get_host_cpu_features().get("avx2") else 16
    narrow = {64: ("avx512", "avx10"), 32: ("avx512", "avx10", "avx2", "fma"), 16: ("sse4a",)}[vector_bytes]
    reduced = run(MEANS, filled, package=package, NUMBA_CPU_FEATURES=features_without(*narrow))
    assert sorted(reduced["compiled"]) == FUNCTIONS
    assert reduced["vector_bytes"] == {64: 32, 32: 16, 16: 16}[vector_bytes]
    assert reduced["y"] == EXPECTED
    assert run(MEANS, filled, package=package)["compiled"] == []


def test_sources_edited_under_a_running_process_are_not_mixed(tmp_path, package, cache):
    """A process that imported the old sources must neither load the new ones' code nor leave its own in their place."""
    copy = copy_package(tmp_path, package)
    edit = f"""
from pathlib import Path
import numbaconv.kernels.pooling
file = Path({str(copy / "kernels/pooling.py")!r})
file.write_text(file.read_text().replace("divide(vector, count)", "divide(vector, count + count)"))
"""
    running = run(edit + MEANS, cache, package=copy)
    assert running["y"] == EXPECTED
    assert running["files"] == 0
    later = run(MEANS, cache, package=copy)
    assert later["y"] == [value / 2 for value in EXPECTED]


# --- files that are damaged, missing or cannot be written ------------------------------------------------------------


def damaged(sound):
    """Return ways in which a file may have been spoilt."""
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    return [b"", sound[:20], sound[:49], sound[: len(sound) // 2], bytes(flipped), sound + b"x", b"not code\n"]


def test_damaged_file_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache, "_sources_unchanged", lambda: True)
    monkeypatch.setattr(code_cache, "read_folders", lambda: [tmp_path])
    monkeypatch.setattr(code_cache, "write_folder", lambda: tmp_path)
    assert code_cache.load("f") is None
    assert code_cache.save("f", b"machine code")
    assert code_cache.load("f") == b"machine code"
    path = tmp_path / "f.code"
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        assert code_cache.load("f") is None
    assert code_cache.save("f", b"other code")
    assert code_cache.load("f") == b"other code"


def test_damaged_file_is_replaced(package, filled):
    (path,) = filled.rglob("narrow_pooling.narrow_average_pool-float32.code")
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    result, stderr = finish(start(MEANS, filled, package=package))
    assert result["compiled"] == ["narrow_pooling.narrow_average_pool-float32"]
    assert result["y"] == EXPECTED
    assert stderr == ""
    assert len(path.read_bytes()) > len(sound) // 2
    assert run(MEANS, filled, package=package)["compiled"] == []


def test_code_of_another_function_is_not_run(package, filled):
    (path,) = filled.rglob("narrow_pooling.narrow_average_pool-float32.code")
    path.write_bytes((path.parent / "parallel.serial.code").read_bytes())
    result = run(MEANS, filled, package=package)
    assert result["compiled"] == ["narrow_pooling.narrow_average_pool-float32"]
    assert result["y"] == EXPECTED


def test_folder_that_cannot_be_made_falls_back_to_a_temporary_one(package, tmp_path):
    """As in a container without a home: the package's own folder is never written to, another one is."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "temporary").mkdir()
    before = sorted(package.rglob("*"))
    cache = tmp_path / "file" / "cache"
    options = {"package": package, "TMPDIR": str(tmp_path / "temporary"), "NUMBACONV_CACHE_DIR": str(cache)}
    first, second = (run(MEANS, tmp_path / "unused", **options) for _ in range(2))
    assert first["state"] == "temporary"
    assert first["folder"].startswith(str(tmp_path / "temporary"))
    assert second["compiled"] == []
    assert first["y"] == second["y"] == EXPECTED
    assert sorted(package.rglob("*")) == before


def test_temporary_folder_that_others_can_write_to_is_not_trusted(package, tmp_path):
    (tmp_path / "file").write_text("in the way")
    user = os.getuid() if hasattr(os, "getuid") else 0
    shared = tmp_path / f"numbaconv-{user}"
    shared.mkdir()
    shared.chmod(0o777)
    options = {"package": package, "TMPDIR": str(tmp_path), "NUMBACONV_CACHE_DIR": str(tmp_path / "file" / "cache")}
    result = run(MEANS, tmp_path / "unused", **options)
    assert (result["state"], result["folder"], result["y"]) == ("off", None, EXPECTED)
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="permissions do not bind the root user")
def test_read_only_cache_is_read(package, filled, first_use):
    folder = filled / code_cache.Path(first_use[1]["folder"]).name
    folder.chmod(0o555)
    filled.chmod(0o555)
    try:
        assert run(MEANS, filled, package=package)["compiled"] == []
    finally:
        filled.chmod(0o755)
        folder.chmod(0o755)


def test_two_processes_fill_one_cache(package, cache):
    results = [finish(process)[0] for process in [start(MEANS, cache, package=package) for _ in range(2)]]
    for result in results:
        assert result["y"] == EXPECTED
    after = run(MEANS, cache, package=package)
    assert after["compiled"] == []
    assert after["files"] == 2
    assert [path.name for path in cache.rglob("*.tmp")] == []


def test_files_carry_the_digest_of_their_content(filled):
    contents = [path.read_bytes() for path in filled.rglob("*.code")]
    assert len(contents) == 2
    for content in contents:
        assert hashlib.sha256(content[49:]).digest() == content[17:49]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A cache root in which the next `save` makes a new folder."""
    monkeypatch.setattr(code_cache, "_sources_unchanged", lambda: True)
    monkeypatch.setattr(code_cache, "write_folder", lambda: tmp_path / "root" / NEW)
    return tmp_path / "root"


NEW = "cp311-ffffffffffffffffffffffff"


def test_old_folders_are_pruned(root):
    hour = 3600
    names = [f"cp311-{i:024x}" for i in range(20)]
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / "f.code").write_bytes(b"x")
        age = 60 if i >= 18 else (30 - i) * hour
        os.utime(root / name, (time.time() - age,) * 2)
    (root / "somebody's").mkdir()
    (root / "note.txt").write_text("kept")
    assert code_cache.save("f", b"code")
    left = {path.name for path in root.iterdir()}
    assert {"somebody's", "note.txt", NEW, *names[18:]} <= left
    assert len([name for name in left if name.startswith("cp311-")]) == 8


def test_recent_folders_are_never_pruned(root):
    for i in range(20):
        (root / f"cp311-{i:024x}").mkdir(parents=True)
    assert code_cache.save("f", b"code")
    assert len(list(root.iterdir())) == 21


def test_loaded_code_never_starts_numbas_type_system(package, filled):
    """What makes the first call of a process quick: a hit links object code, and that is all."""
    script = (
        MEANS
        + """
import sys
from numba.core.registry import cpu_target
templates = cpu_target.typing_context._functions
print(json.dumps({"compiled": compiled, "templates": len(templates), "tqdm": "tqdm" in sys.modules}))
"""
    )
    assert run(script, filled, package=package) == {"compiled": [], "templates": 0, "tqdm": False}
