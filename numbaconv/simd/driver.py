"""The compiled side of a parallel launch: loops that hand the tasks of one kernel to workers.

The functions here are plain Python; `numbaconv.parallel` compiles them to C functions and fills the block they read.
"""

from __future__ import annotations

from numba.extending import register_jitable

from numbaconv.simd.calls import address_of, atomic_fetch_add, call_kernel, call_parallel_for, copy_bytes, pointer_at
from numbaconv.simd.pointers import advance, copy

# The plan: what launches of the same kernel on the same sizes share. Python writes it once, then the buffers of the
# kernel one by one from BUFFER_CODES on: a code >= 0 is the number of an argument, another one ~(bytes into the shared
# memory). GEOMETRY, INITIAL and COPIES are array objects. A row of COPIES is (argument, byte there, byte in the shared
# memory, bytes): what each launch copies after the shared memory's first INITIAL_SIZE int64 are those of INITIAL.
KERNEL, TASKS, GEOMETRY, BUFFERS, ARGUMENTS, INITIAL, INITIAL_SIZE, COPIES, COPY_COUNT, SHARED_BYTES = range(10)
BUFFER_CODES = 10

# The block: what Python writes for one launch (the address of the plan; that of the shared memory, which the workers'
# workspaces follow; the arguments as array objects), what compiled code passes to the layer, the counter on a cache
# line of its own, the table of buffers, room for a plan used once, and the workers' numbers.
MAX_ARRAYS = 40
PLAN, MEMORY, THREADS, PARALLEL_FOR, WORKER_BODY, FIRST_ARGUMENT = range(6)
DIMENSION = FIRST_ARGUMENT + MAX_ARRAYS
STEP, ARGUMENT = DIMENSION + 1, DIMENSION + 2
COUNTER = 56
TABLE = 64
OWN_PLAN = TABLE + 1 + MAX_ARRAYS
WORKERS = OWN_PLAN + BUFFER_CODES + MAX_ARRAYS

# An ndarray's first field after the object header is the address of its data (PyArrayObject_fields in NumPy's C API).
DATA_FIELD = object.__basicsize__


@register_jitable
def _data(array):
    """Return the address of an array object's data."""
    return pointer_at(array + DATA_FIELD)[0]


@register_jitable
def _bind(block):
    """Fill the table of buffers and the shared memory from the plan and the arguments; return the plan."""
    plan, shared = pointer_at(block[PLAN]), block[MEMORY]
    copy(pointer_at(shared), pointer_at(_data(plan[INITIAL])), plan[INITIAL_SIZE])
    for i in range(plan[ARGUMENTS]):
        block[FIRST_ARGUMENT + i] = _data(block[FIRST_ARGUMENT + i])
    copies = pointer_at(_data(plan[COPIES]))
    for i in range(plan[COPY_COUNT]):
        row = advance(copies, 4 * i)
        copy_bytes(shared + row[2], block[FIRST_ARGUMENT + row[0]] + row[1], row[3])
    block[TABLE] = shared + plan[SHARED_BYTES]
    for i in range(plan[BUFFERS]):
        code = plan[BUFFER_CODES + i]
        block[TABLE + 1 + i] = block[FIRST_ARGUMENT + code] if code >= 0 else shared + ~code
    return plan


def run_serial(block):
    """Run all tasks as worker 0."""
    plan = _bind(block)
    geometry, buffers = _data(plan[GEOMETRY]), address_of(advance(block, TABLE))
    for task in range(plan[TASKS]):
        call_kernel(plan[KERNEL], 0, task, geometry, buffers)


def run_worker(arguments, dimensions, steps, block):
    """Run tasks until none are left; the layer calls this for one or more worker numbers, ``dimensions[0]`` of them."""
    plan = pointer_at(block[PLAN])
    geometry, buffers = _data(plan[GEOMETRY]), address_of(advance(block, TABLE))
    for i in range(dimensions[0]):
        worker = arguments[0][i]
        task = atomic_fetch_add(advance(block, COUNTER), 1)
        while task < plan[TASKS]:
            call_kernel(plan[KERNEL], worker, task, geometry, buffers)
            task = atomic_fetch_add(advance(block, COUNTER), 1)


def run_parallel(block):
    """Enter the layer once: its dimension is the number of workers, its one argument the table of their numbers."""
    _bind(block)
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
