"""The compiled side of a parallel launch: loops that hand the tasks of one kernel to workers.

The functions here are plain Python; `numbaconv.parallel` compiles them to C functions and fills the block they read.
"""

from __future__ import annotations

from numba.extending import register_jitable

from numbaconv.simd.calls import address_of, atomic_fetch_add, call_kernel, call_parallel_for, pointer_at
from numbaconv.simd.pointers import advance

# The block: what Python writes (slots 0 to 7), what compiled code passes to the layer, the counter on a cache line of
# its own, the table of buffers, which arrives as array objects and becomes their addresses, and the workers' numbers.
KERNEL, TASKS, GEOMETRY, WORKSPACE, THREADS, PARALLEL_FOR, WORKER_BODY, ARRAYS = range(8)
DIMENSION, STEP, ARGUMENT = 8, 9, 10
COUNTER = 16
MAX_ARRAYS = 40
TABLE = 24
WORKERS = TABLE + 1 + MAX_ARRAYS

# An ndarray's first field after the object header is the address of its data (PyArrayObject_fields in NumPy's C API).
DATA_FIELD = object.__basicsize__


@register_jitable
def _resolve(block):
    """Turn the array objects of the block into the addresses of their data."""
    block[GEOMETRY] = pointer_at(block[GEOMETRY] + DATA_FIELD)[0]
    block[TABLE] = block[WORKSPACE]
    for i in range(1, block[ARRAYS] + 1):
        block[TABLE + i] = pointer_at(block[TABLE + i] + DATA_FIELD)[0]


def run_serial(block):
    """Run all tasks as worker 0."""
    _resolve(block)
    buffers = address_of(advance(block, TABLE))
    for task in range(block[TASKS]):
        call_kernel(block[KERNEL], 0, task, block[GEOMETRY], buffers)


def run_worker(arguments, dimensions, steps, block):
    """Run tasks until none are left; the layer calls this for one or more worker numbers, ``dimensions[0]`` of them."""
    buffers = address_of(advance(block, TABLE))
    for i in range(dimensions[0]):
        worker = arguments[0][i]
        task = atomic_fetch_add(advance(block, COUNTER), 1)
        while task < block[TASKS]:
            call_kernel(block[KERNEL], worker, task, block[GEOMETRY], buffers)
            task = atomic_fetch_add(advance(block, COUNTER), 1)


def run_parallel(block):
    """Enter the layer once: its dimension is the number of workers, its one argument the table of their numbers."""
    _resolve(block)
    block[COUNTER] = 0
    block[DIMENSION] = block[THREADS]
    block[STEP] = 8
    block[ARGUMENT] = address_of(advance(block, WORKERS))
    for worker in range(block[THREADS]):
        block[WORKERS + worker] = worker
    call_parallel_for(
        block[PARALLEL_FOR],
        block[WORKER_BODY],
        address_of(advance(block, ARGUMENT)),
        address_of(advance(block, DIMENSION)),
        address_of(advance(block, STEP)),
        address_of(block),
        block[THREADS],
    )
