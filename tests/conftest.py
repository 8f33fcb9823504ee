"""What all tests share: reproducible hypothesis runs without deadlines, a random generator and folders per test."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

# The oracle multiplies many small matrices: threads of NumPy's own only get in the way of the engine's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from processes import copy_package

from numbaconv import planner
from numbaconv.algorithms import direct
from numbaconv.settings import config

# The first example of a property may compile a kernel, so neither deadlines nor "too slow" mean anything here.
settings.register_profile(
    "numbaconv", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("numbaconv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let processes that share the tests begin with those that take minutes, so that none is alone at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that nobody edits."""
    return copy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder."""
    return tmp_path / "cache"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone, so that a failure repeats."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def direct_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep forward passes to the direct algorithm, the one that joins outputs, whatever is faster on this processor."""
    monkeypatch.setitem(planner.ALGORITHMS, "forward", (direct,))
    planner.clear_plans()
    yield
    monkeypatch.undo()
    planner.clear_plans()


@pytest.fixture
def direct_only() -> Iterator[None]:
    """Keep to the algorithms that add integers exactly."""
    config.winograd = False
    yield
    config.winograd = True
