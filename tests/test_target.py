"""What the system tells of the caches, and which pixels share their sets."""

from __future__ import annotations

import dataclasses
import math

import pytest

from numbaconv import target
from numbaconv.algorithms import cache_sets
from numbaconv.target import TARGET

CACHES = (
    ("1", "Data", "48K", "12"),
    ("1", "Instruction", "32K", "8"),
    ("2", "Unified", "1024K", "16"),
    ("3", "Unified", "32M", "16"),
)


def write_caches(root, ways=True):
    for i, (level, kind, size, lines) in enumerate(CACHES):
        entry = root / f"index{i}"
        entry.mkdir()
        for name, text in {"level": level, "type": kind, "size": size, "ways_of_associativity": lines}.items():
            if ways or name != "ways_of_associativity":
                (entry / name).write_text(text + "\n")


def test_data_caches_are_read_from_the_system(tmp_path):
    write_caches(tmp_path)
    assert target._sysfs_caches(str(tmp_path)) == ({1: 48 << 10, 2: 1 << 20, 3: 32 << 20}, 12)


def test_a_system_may_not_tell_of_ways_or_caches(tmp_path, monkeypatch):
    write_caches(tmp_path, ways=False)
    assert target._sysfs_caches(str(tmp_path)) == ({1: 48 << 10, 2: 1 << 20, 3: 32 << 20}, 0)
    monkeypatch.setattr(target, "_sysctl_caches", dict)
    for told, l1_bytes, ways in (({}, 0), 32 << 10, 8), (({1: 48 << 10}, 0), 48 << 10, 12), (({}, 1024), 32 << 10, 8):
        monkeypatch.setattr(target, "_sysfs_caches", lambda told=told: told)
        assert target._caches() == (l1_bytes, 512 << 10, 8 << 20, ways)


@pytest.mark.parametrize(
    ("l1_bytes", "ways", "stride", "pixels"),
    [
        (32 << 10, 8, 1024, 8),
        (32 << 10, 8, 512, 16),
        (48 << 10, 12, 1024, 12),
        (48 << 10, 12, 512, 24),
        (48 << 10, 12, 1040, 12 * 64),
        (64 << 10, 4, 1024, 16),
        (48 << 10, 12, 1000, math.inf),
    ],
)
def test_pixels_share_as_many_sets_as_their_distance_leaves(l1_bytes, ways, stride, pixels, monkeypatch):
    monkeypatch.setattr(cache_sets, "TARGET", dataclasses.replace(TARGET, l1_bytes=l1_bytes, l1_ways=ways))
    assert cache_sets.pixels_in_l1(stride, "float32") == pixels
    assert cache_sets.is_crowded(stride, "float32") == (pixels < cache_sets.WIDE_SIZES[0])


def test_a_system_of_few_cores_counts_on_its_part_of_l3(monkeypatch):
    monkeypatch.setattr(target, "_sysfs_caches", lambda: ({3: 480 << 20}, 0))
    for cores, l3_bytes in ((2, 32 << 20), (None, 16 << 20), (64, 480 << 20)):
        monkeypatch.setattr(target.os, "cpu_count", lambda cores=cores: cores)
        assert target._caches()[2] == l3_bytes


@pytest.mark.parametrize(
    ("architecture", "features", "is_intel"),
    [("x86_64", "+avx512f,-sse4a", True), ("x86_64", "+avx512f,+sse4a", False), ("aarch64", "+neon", False)],
)
def test_sse4a_is_amds_alone(architecture, features, is_intel):
    assert dataclasses.replace(TARGET, architecture=architecture, features=features).is_intel == is_intel
