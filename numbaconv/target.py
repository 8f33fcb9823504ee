"""The CPU that kernels are compiled for: vector length, registers, cache sizes.

Decisions rest on the feature list that Numba hands to LLVM, never on the CPU's name: hypervisors report names that do
not match the features, and ``NUMBA_CPU_FEATURES`` or ``NUMBA_CPU_NAME`` may narrow the list for testing.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config as numba_config
from numba.core.codegen import get_host_cpu_features

# Numba sets the names in this module by its environment variables.
_config: Any = numba_config
_ITEM_BYTES = {"float32": 4, "float64": 8}

CACHE_LINE, PAGE = 64, 4096
"""Bytes of a cache line, and so the alignment of what is stored past the caches; of a page, within which processors
fetch ahead."""

L3_OF_CORE = 16 << 20
"""Bytes of L3 for each core that the system has, at most: of one that is larger other machines on the same processor
have the rest. Of 480 MB, two cores of a server found what they had written in the first 100."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the kernels may assume of the CPU.

    Attributes
    ----------
    architecture : str
        ``"x86_64"``, ``"aarch64"`` or whatever else the system reports.
    cpu_name, features : str
        What LLVM is told; the features as one comma-separated string of ``+name`` and ``-name``.
    vector_bytes : int
        Bytes of one vector register: 64 (AVX-512F), 32 (AVX2 with FMA) or 16 (any other, NEON among them).
    registers : int
        Vector registers that a function can name.
    has_fma : bool
        Whether a fused multiply-add is one instruction.
    fma_per_cycle : int
        Fused multiply-adds of whole registers that a core starts in a cycle.
    l1_bytes, l2_bytes, l3_bytes : int
        Data cache sizes: L1 and L2 of one core, and what the cores that the system has may count on of L3.
    l1_ways : int
        Lines that a set of L1 holds.
    """

    architecture: str
    cpu_name: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    fma_per_cycle: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    l1_ways: int

    @property
    def instruction_set(self) -> str:
        """Name of the vector instructions in use, for reports."""
        if self.architecture == "aarch64":
            return "NEON"
        names = {64: "AVX-512", 32: "AVX2"}
        return names.get(self.vector_bytes, "SSE2" if self.architecture == "x86_64" else "128-bit")

    @property
    def splits_registers(self) -> bool:
        """Whether half of a register takes half the time, as where its two halves are done one after the other."""
        return self.vector_bytes == 64 and self.fma_per_cycle == 1

    @property
    def has_two_wide_units(self) -> bool:
        """Whether a core starts two products of 64 bytes in a cycle."""
        return self.vector_bytes == 64 and self.fma_per_cycle == 2

    @property
    def is_intel(self) -> bool:
        """Whether the features are those of Intel's cores: SSE4a is AMD's alone, if no list was narrowed."""
        return self.architecture == "x86_64" and "+sse4a" not in self.features.split(",")

    @property
    def threads(self) -> int:
        """Threads that Numba starts at most."""
        return int(_config.NUMBA_NUM_THREADS)

    def lanes(self, dtype: str) -> int:
        """Return how many numbers of ``dtype`` one vector register holds."""
        return self.vector_bytes // _ITEM_BYTES[dtype]


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _cpu() -> tuple[str, str]:
    """Return CPU name and feature string as Numba will hand them to LLVM."""
    name = _config.CPU_NAME if _config.CPU_NAME is not None else llvm.get_host_cpu_name()
    if _config.CPU_FEATURES is not None:
        return name, _config.CPU_FEATURES
    # Sorted, because LLVM's order is that of a hash table and the string is part of the cache's key.
    return name, ",".join(sorted(get_host_cpu_features().split(",")))


def vector_registers(architecture: str, features: str) -> tuple[int, int, bool]:
    """Return (bytes per register, number of registers, fused multiply-add) for a feature string."""
    if architecture == "aarch64":
        return 16, 32, True
    enabled = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    if "avx512f" in enabled:
        return 64, 32, True
    if "avx2" in enabled and "fma" in enabled:
        return 32, 16, True
    return 16, 16, architecture == "x86_64" and "fma" in enabled


def fma_per_cycle(vector_bytes: int, features: str) -> int:
    """Return how many fused multiply-adds of whole registers a core starts in a cycle, as far as features tell.

    Zen 4 runs AVX-512's instructions in two halves. SSE4a is AMD's alone; Zen 5, whose units are as wide as its
    registers, has AVX-VNNI too (Software Optimization Guides for the AMD Zen4 and Zen5 microarchitectures).
    """
    enabled = set(features.split(","))
    return 1 if vector_bytes == 64 and "+sse4a" in enabled and "+avxvnni" not in enabled else 2


def _parse_size(text: str) -> int:
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    text = text.strip().upper()
    return int(text[:-1]) * scale[text[-1]] if text[-1:] in scale else int(text)


def _sysfs_caches(root: str = "/sys/devices/system/cpu/cpu0/cache") -> tuple[dict[int, int], int]:
    """Return the size of each level's data cache, and the ways of L1's: 0 where the system does not tell."""
    sizes: dict[int, int] = {}
    ways = 0
    for entry in sorted(Path(root).glob("index*")):
        try:
            if (entry / "type").read_text().strip() == "Instruction":
                continue
            level = int((entry / "level").read_text())
            sizes[level] = _parse_size((entry / "size").read_text())
            if level == 1:
                ways = int((entry / "ways_of_associativity").read_text())
        except (OSError, ValueError):
            continue
    return sizes, ways


def _sysctl_caches() -> dict[int, int]:
    sizes: dict[int, int] = {}
    for level, name in ((1, "hw.l1dcachesize"), (2, "hw.l2cachesize"), (3, "hw.l3cachesize")):
        try:
            text = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5).stdout
            sizes[level] = int(text)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
    return sizes


def _caches() -> tuple[int, int, int, int]:
    """Return bytes of L1 data, L2 and L3 cache, and L1's ways; usual numbers where the system does not tell."""
    sizes: dict[int, int] = {}
    ways = 0
    if os.path.isdir("/sys/devices/system/cpu"):
        sizes, ways = _sysfs_caches()
    elif platform.system() == "Darwin":
        sizes = _sysctl_caches()
    usual = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    l1, l2, l3 = (sizes.get(level) or usual[level] for level in (1, 2, 3))
    l3 = min(l3, L3_OF_CORE * (os.cpu_count() or 1))
    # Of lines a page of 4 KB apart L1 holds as many however its sets are cut, unless they reach over less than a page.
    return l1, l2, l3, ways if 0 < ways <= l1 // CACHE_LINE else max(1, l1 // PAGE)


def _detect() -> Target:
    architecture = _architecture()
    name, features = _cpu()
    registers = vector_registers(architecture, features)
    return Target(architecture, name, features, *registers, fma_per_cycle(registers[0], features), *_caches())


TARGET = _detect()


def lanes(dtype: str) -> int:
    """Return how many numbers of ``dtype`` one vector register of the target holds."""
    return TARGET.lanes(dtype)
