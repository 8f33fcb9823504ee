"""`import numbaconv` is light, and every public name is found where the package says it is."""

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import numbaconv as nc

HEAVY = {"matplotlib", "scipy", "torch", "safetensors", "tqdm", "pooch", "pandas", "tensorflow", "keras"}

FRESH = """
import json, sys
{statement}
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(statement):
    """Names of the modules in a new process after a statement."""
    command = [sys.executable, "-c", FRESH.format(statement=statement)]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def heavy(modules):
    return sorted(name for name in modules if name.partition(".")[0] in HEAVY)


@pytest.fixture(scope="module")
def with_numba():
    """What Numba loads by itself: SciPy's top package, where SciPy is installed."""
    return modules_after("import numba")


def test_import_loads_nothing_heavy():
    loaded = modules_after("import numbaconv")
    assert "numbaconv" in loaded
    assert heavy(loaded) == []
    assert not loaded & {"numba", "numpy"}


def test_every_public_name_loads_nothing_heavy(with_numba):
    loaded = modules_after("import numbaconv as nc\nfor name in nc.__all__: getattr(nc, name)")
    assert "numba" in loaded
    assert heavy(loaded - with_numba) == []


def test_first_convolution_loads_nothing_heavy(with_numba):
    # Compiling loads more, so the code has to be in the cache.
    nc.conv(np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32))
    loaded = modules_after(
        "import numpy as np, numbaconv as nc\n"
        "nc.conv(np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32))"
    )
    assert heavy(loaded - with_numba) == []


@pytest.mark.parametrize("name", nc.__all__)
def test_public_name_is_found(name):
    value = getattr(nc, name)
    assert name in dir(nc)
    assert getattr(nc, name) is value


def test_public_names_stay_after_every_module_is_imported():
    """A module with a public function's name would take the function's place once imported."""
    code = (
        "import importlib, pkgutil, types, numbaconv as nc\n"
        "for m in pkgutil.walk_packages(nc.__path__, 'numbaconv.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "for name, home in nc._HOMES.items():\n"
        "    module, _, attribute = home.partition(':')\n"
        "    module = importlib.import_module('numbaconv.' + module)\n"
        "    assert getattr(nc, name) is (getattr(module, attribute) if attribute else module), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'numbaconv' has no attribute 'convolve'$"):
        nc.convolve  # noqa: B018


def test_type_checkers_see_the_same_names():
    """The imports that only type checkers read are the table of homes."""
    seen = {}
    for node in ast.walk(ast.parse(Path(nc.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "numbaconv":
            module = node.module.partition(".")[2]
            for alias in node.names:
                seen[alias.asname or alias.name] = f"{module}:{alias.name}" if module else alias.name
    assert seen == nc._HOMES
    assert set(nc.__all__) == {*nc._HOMES, "__version__"}


def test_version_is_the_installed_one():
    try:
        installed = metadata.version("numbaconv")
    except metadata.PackageNotFoundError:
        pytest.skip("numbaconv is not installed, only on the path")
    assert installed == nc.__version__
