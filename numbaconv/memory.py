"""Memory that is used again: output arrays whose block returns to a pool, and 64-byte aligned workspaces.

A fresh large array costs more than it looks: the system maps and clears each of its pages on first touch, at a few
GB/s. `empty` therefore hands out blocks of arrays that have died. The array's base is a lease on the block; when the
last view of the array is gone the lease ends and the block is free for the next array of that size.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def physical_bytes() -> int:
    """Return the machine's memory, 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 4 << 30


ALIGNMENT = 64
# Smaller arrays are quick to allocate; the allocator keeps their pages.
MIN_POOLED_BYTES = 64 << 10
# Free blocks together never exceed a sixteenth of the machine's memory, nor 1 GiB; the largest arrays cost the most.
MAX_POOLED_BYTES = min(1 << 30, physical_bytes() // 16)
_PAGE = 4096


def aligned_size(nbytes: int) -> int:
    """Return ``nbytes`` rounded up to a multiple of 64."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def aligned_bytes(count: int) -> NDArray[np.uint8]:
    """Return ``count`` fresh bytes whose address is a multiple of 64."""
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count]


class Block:
    """Memory and its address."""

    __slots__ = ("address", "memory", "size")

    def __init__(self, size: int) -> None:
        self.memory = aligned_bytes(size)
        self.address = self.memory.ctypes.data
        self.size = size


class _Lease:
    """Holds one block for one array and gives it back when the array and all its views are gone."""

    __slots__ = ("__array_interface__", "block", "pool")

    def __init__(self, block: Block, pool: BlockPool, shape: tuple[int, ...], typestr: str) -> None:
        self.block = block
        self.pool = pool
        # NumPy's array interface protocol, version 3: the array made of it has this lease as its base.
        self.__array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (block.address, False),
            "version": 3,
        }

    def __del__(self) -> None:
        self.pool.give_back(self.block)


class BlockPool:
    """Free blocks by size, the least recently used sizes dropped first when the bound is passed.

    Leases end wherever the interpreter collects them, possibly inside this pool's own code on the same thread. Ending
    one therefore only appends to a deque (atomic); the deque is emptied under the lock, by whoever gets it.
    """

    def __init__(self, max_bytes: int = MAX_POOLED_BYTES) -> None:
        self.max_bytes = max_bytes
        self._returned: deque[Block] = deque()
        self._free: OrderedDict[int, list[Block]] = OrderedDict()
        self._free_bytes = 0
        self._lock = threading.Lock()

    @property
    def free_bytes(self) -> int:
        """Bytes of blocks that wait for their next use."""
        self._settle()
        return self._free_bytes

    def take(self, nbytes: int) -> Block:
        """Return a block of ``nbytes`` rounded up to pages; its content is arbitrary."""
        size = -(-nbytes // _PAGE) * _PAGE
        if self._returned:
            self._settle()
        if self._lock.acquire(blocking=False):
            try:
                blocks = self._free.get(size)
                if blocks:
                    block = blocks.pop()
                    self._free_bytes -= size
                    if blocks:
                        self._free.move_to_end(size)
                    else:
                        del self._free[size]
                    return block
            finally:
                self._lock.release()
        return Block(size)

    def give_back(self, block: Block) -> None:
        """Make a block available again; called when its lease ends."""
        self._returned.append(block)
        self._settle()

    def _settle(self) -> None:
        """Sort returned blocks into the table, unless another caller does so already."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._lock.release()

    def _drain(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            size = block.size
            if size > self.max_bytes:
                continue
            self._free.setdefault(size, []).append(block)
            self._free.move_to_end(size)
            self._free_bytes += size
            while self._free_bytes > self.max_bytes:
                oldest, blocks = next(iter(self._free.items()))
                blocks.pop()
                self._free_bytes -= oldest
                if not blocks:
                    del self._free[oldest]

    def clear(self) -> None:
        """Drop all free blocks."""
        with self._lock:
            self._returned.clear()
            self._free.clear()
            self._free_bytes = 0

    def reset_lock(self) -> None:
        """Replace the lock in a forked child, where its holder may not exist."""
        self._lock = threading.Lock()


POOL = BlockPool()


def allocator(shape: tuple[int, ...], dtype: DTypeLike) -> Callable[[], NDArray[Any]]:
    """Return what makes `empty(shape, dtype)`, for many calls."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < MIN_POOLED_BYTES:
        return partial(np.empty, shape, dtype)
    return partial(_leased, nbytes, shape, dtype.str)


def _leased(nbytes: int, shape: tuple[int, ...], typestr: str) -> NDArray[Any]:
    return np.asarray(_Lease(POOL.take(nbytes), POOL, shape, typestr))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised C-contiguous array, 64-byte aligned and from recycled memory where it is large."""
    return allocator(shape, dtype)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset_lock)
