"""The compiled side of parallel launches: loops that hand the tasks of kernels to workers.

The functions here are plain Python; `numbaconv.parallel` compiles them to C functions and fills the block they read.
"""

from __future__ import annotations

from numba.extending import register_jitable

from numbaconv.simd.calls import (
    address_of,
    atomic_compare_exchange,
    atomic_fetch_add,
    call_kernel,
    call_parallel_for,
    copy_bytes,
    load_acquire,
    pause,
    pointer_at,
    store_release,
)
from numbaconv.simd.cores import SET_SIZE, allowed_threads, current_core, give_way, leave_core
from numbaconv.simd.pointers import advance, copy

# The plan: what launches of the same kernel on the same sizes share. Python writes it once, then the buffers of the
# kernel one by one from BUFFER_CODES on: a code >= 0 is the number of an operand, another one ~(bytes into the shared
# memory). GEOMETRY, INITIAL and COPIES are array objects. A row of COPIES is (operand, byte there, byte in the shared
# memory, bytes): what each launch copies after the shared memory's first INITIAL_SIZE int64 are those of INITIAL.
# SHARES, one more, holds a number of workers and, for that many, the first task of each share and the end of the last.
KERNEL, TASKS, GEOMETRY, BUFFERS, OPERANDS, INITIAL, INITIAL_SIZE, COPIES, COPY_COUNT, SHARED_BYTES, SHARES = range(11)
BUFFER_CODES = 11

# The program: launches in a row. Python writes it once: how many steps, the arguments of a run, the bytes of memory for
# what is passed from step to step; then each step: its plan and its operands as pairs (number of a base, bytes).
STEPS, ARGUMENTS, BETWEEN_BYTES, FIRST_STEP = range(4)
STEP_PLAN, STEP_OPERANDS = range(2)

# The block: what Python writes for one run (the address of the program; that of its memory, behind which are the shared
# memory of a launch and the workspaces of so many workers at most; the arguments as array objects), a word that kernels
# set, the bases that operands are counted from (0, the memory, the status word, the arguments), the operands of the
# current step, what is passed to the layer, the number of workers, the table of buffers, the tasks of the current step
# that are done and its number, on cache lines of their own, room for a launch used once, and the workers' lines. With
# the step's number go how many workers have come and the core that the caller was on.
MAX_ARRAYS = 40
PROGRAM, MEMORY, MOST_THREADS, PARALLEL_FOR, WORKER_BODY, SYSTEM, STATUS, FIRST_ARGUMENT = range(8)
BASES = FIRST_ARGUMENT + MAX_ARRAYS
ABSOLUTE, BETWEEN, STATUS_WORD, FIRST_ARGUMENT_BASE = range(4)
OPERAND = BASES + FIRST_ARGUMENT_BASE + MAX_ARRAYS
DIMENSION = OPERAND + MAX_ARRAYS
STEP_SIZE, NUMBERS, THREADS = DIMENSION + 1, DIMENSION + 2, DIMENSION + 3
TABLE = DIMENSION + 4
_LINE = 8
DONE = -(-(TABLE + 1 + MAX_ARRAYS) // _LINE) * _LINE
CURRENT = DONE + _LINE
COME, CALLERS_CORE = CURRENT + 1, CURRENT + 2
OWN_PLAN = CURRENT + _LINE
OWN_PROGRAM = OWN_PLAN + BUFFER_CODES + MAX_ARRAYS
WORKERS = -(-(OWN_PROGRAM + FIRST_STEP + STEP_OPERANDS + 2 * MAX_ARRAYS) // _LINE) * _LINE

# A worker's cache lines: its number, its share of the current step's tasks, a counter of what is taken of it, and room
# for a set of cores. Counters of step n begin at n * SPAN: whoever still looks at an earlier step finds nothing left.
TAKEN, FIRST, END = range(1, 4)
CORES = _LINE
WORKER_SIZE = CORES + SET_SIZE
SPAN = 1 << 32

# An ndarray's first field after the object header is the address of its data (PyArrayObject_fields in NumPy's C API).
DATA_FIELD = object.__basicsize__

# A worker that waits for another one's task gives its core away after that many looks, some tens of microseconds.
LOOKS = 1000


@register_jitable
def _data(array):
    """Return the address of an array object's data."""
    return pointer_at(array + DATA_FIELD)[0]


@register_jitable
def _first_step(program):
    return advance(program, FIRST_STEP)


@register_jitable
def _next_step(step):
    return advance(step, STEP_OPERANDS + 2 * pointer_at(step[STEP_PLAN])[OPERANDS])


@register_jitable
def _begin(block):
    """Find out the bases of operands; return the program."""
    program = pointer_at(block[PROGRAM])
    block[STATUS] = 0
    block[BASES + ABSOLUTE] = 0
    block[BASES + BETWEEN] = block[MEMORY]
    block[BASES + STATUS_WORD] = address_of(advance(block, STATUS))
    for i in range(program[ARGUMENTS]):
        block[BASES + FIRST_ARGUMENT_BASE + i] = _data(block[FIRST_ARGUMENT + i])
    return program


@register_jitable
def _bind(block, program, step):
    """Fill the table of buffers and the shared memory for a step."""
    plan, shared = pointer_at(step[STEP_PLAN]), block[MEMORY] + program[BETWEEN_BYTES]
    operands, table = advance(block, OPERAND), advance(block, TABLE)
    for i in range(plan[OPERANDS]):
        pair = advance(step, STEP_OPERANDS + 2 * i)
        operands[i] = block[BASES + pair[0]] + pair[1]
    copy(pointer_at(shared), pointer_at(_data(plan[INITIAL])), plan[INITIAL_SIZE])
    copies = pointer_at(_data(plan[COPIES]))
    for i in range(plan[COPY_COUNT]):
        row = advance(copies, 4 * i)
        copy_bytes(shared + row[2], operands[row[0]] + row[1], row[3])
    table[0] = shared + plan[SHARED_BYTES]
    for i in range(plan[BUFFERS]):
        code = plan[BUFFER_CODES + i]
        table[1 + i] = operands[code] if code >= 0 else shared + ~code


def run_serial(block):
    """Run the steps of a program one after the other, as worker 0."""
    program = _begin(block)
    step = _first_step(program)
    for _ in range(program[STEPS]):
        _bind(block, program, step)
        plan = pointer_at(step[STEP_PLAN])
        geometry, buffers = _data(plan[GEOMETRY]), address_of(advance(block, TABLE))
        for task in range(plan[TASKS]):
            call_kernel(plan[KERNEL], 0, task, geometry, buffers)
        step = _next_step(step)


@register_jitable
def _wait_for(block, number):
    """Return when step ``number`` is the current one: another worker is at the last tasks of the step before it."""
    looks = 0
    while load_acquire(advance(block, CURRENT)) < number:
        looks += 1
        pause()
        if looks > LOOKS:
            give_way(block[SYSTEM])


@register_jitable
def _come(block, numbers, count):
    """Note that a thread has come, to be ``count`` workers, elsewhere than where the caller computes."""
    if numbers[0] > 0:
        leave_core(block[SYSTEM], block[CALLERS_CORE], advance(numbers, CORES))
    atomic_fetch_add(advance(block, COME), count)


@register_jitable
def _worker(block, number):
    return advance(block, WORKERS + number * WORKER_SIZE)


@register_jitable
def _deal(block, step, number):
    """Give each worker its share of the tasks of a step, which is step ``number``.

    A worker that still looks at the step before has read a counter before the share, and takes no task of a counter
    that has changed since; so counters are changed first.
    """
    plan = pointer_at(step[STEP_PLAN])
    workers, tasks, shares = block[THREADS], plan[TASKS], pointer_at(_data(plan[SHARES]))
    for i in range(workers):
        store_release(number * SPAN, advance(_worker(block, i), TAKEN))
    for i in range(workers):
        first, end = i * tasks // workers, (i + 1) * tasks // workers
        if shares[0] == workers:
            first, end = shares[1 + i], shares[2 + i]
        store_release(first, advance(_worker(block, i), FIRST))
        store_release(end, advance(_worker(block, i), END))


@register_jitable
def _take(block, worker, number):
    """Return a task of step ``number`` that nobody has taken, of the worker's own share first; -1 if there is none."""
    workers = block[THREADS]
    for i in range(workers):
        owner = _worker(block, worker + i if worker + i < workers else worker + i - workers)
        counter = advance(owner, TAKEN)
        taken, begin = load_acquire(counter), number * SPAN
        first, count = owner[FIRST], owner[END] - owner[FIRST]
        while taken < begin + count:
            seen = atomic_compare_exchange(counter, taken, taken + 1)
            if seen == taken:
                return first + taken - begin
            taken = seen
    return -1


def run_worker(numbers, dimensions, sizes, block):
    """Run tasks until none are left; the layer calls this for one or more worker numbers, ``dimensions[0]`` of them.

    Each worker has a share of a step's tasks, neighbours of each other, so that what it reads is often what it wrote
    in the step before, or read in the call before, and still in its core's caches. Then it takes tasks of others: no
    worker has to be there for the others to get on. Whoever counts a step's last tasks binds the next step. Where
    threads are moved, worker 0 is the caller; after its first task it lets those come that wait for its core.
    """
    program = pointer_at(block[PROGRAM])
    _come(block, numbers[0], dimensions[0])
    for i in range(dimensions[0]):
        worker, step = numbers[0][i * WORKER_SIZE], _first_step(program)
        lets_others_come = worker == 0
        for number in range(program[STEPS]):
            _wait_for(block, number)
            plan = pointer_at(step[STEP_PLAN])
            tasks, geometry, buffers = plan[TASKS], _data(plan[GEOMETRY]), address_of(advance(block, TABLE))
            taken, task = 0, _take(block, worker, number)
            while task >= 0:
                call_kernel(plan[KERNEL], worker, task, geometry, buffers)
                if lets_others_come and load_acquire(advance(block, COME)) < block[THREADS]:
                    give_way(block[SYSTEM])
                lets_others_come = False
                taken, task = taken + 1, _take(block, worker, number)
            # Once for all tasks: the counter's cache line comes from another core each time.
            has_next = number + 1 < program[STEPS]
            if has_next and taken > 0 and atomic_fetch_add(advance(block, DONE), taken) + taken == tasks:
                block[DONE] = 0
                _bind(block, program, _next_step(step))
                _deal(block, _next_step(step), number + 1)
                store_release(number + 1, advance(block, CURRENT))
            step = _next_step(step)


def run_parallel(block):
    """Enter the layer once: its dimension is the number of workers, its one argument the table of their numbers."""
    program = _begin(block)
    block[THREADS] = min(block[MOST_THREADS], allowed_threads(block[SYSTEM]))
    _bind(block, program, _first_step(program))
    _deal(block, _first_step(program), 0)
    block[DONE] = block[CURRENT] = block[COME] = 0
    block[CALLERS_CORE] = current_core(block[SYSTEM])
    block[DIMENSION] = block[THREADS]
    block[STEP_SIZE] = 8 * WORKER_SIZE
    block[NUMBERS] = address_of(advance(block, WORKERS))
    for worker in range(block[THREADS]):
        _worker(block, worker)[0] = worker
    call_parallel_for(
        block[PARALLEL_FOR],
        block[WORKER_BODY],
        address_of(advance(block, NUMBERS)),
        address_of(advance(block, DIMENSION)),
        address_of(advance(block, STEP_SIZE)),
        address_of(block),
        block[THREADS],
    )
