"""Updates of weights by an optimizer: one chunk of one weight per task, all weights in one launch.

The geometry holds a record for every weight: its first task, its length, and the addresses of its arrays. Constants
come in an array of the weights' type, so that every operation is rounded as NumPy rounds it. The loops are plain, one
number after the other without branches: LLVM makes vectors of them, and memory is what they wait for.
"""

from __future__ import annotations

from math import sqrt

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.addresses import data_of
from numbaconv.simd.pointers import advance

# Geometry; the records start at HEADER.
WORKSPACE, WEIGHTS, CHUNK = range(3)
HEADER = 4
# A record.
FIRST_TASK, LENGTH, WEIGHT, GRADIENT, SLOTS = range(5)
MOST_SLOTS = 3
RECORD_SIZE = SLOTS + MOST_SLOTS
# The first constant is the factor of weight decay, the others are the kernel's own.
DECAY = 0


@inline
def record_of(geometry, task):
    """Return the record of the weight that `task` belongs to: the last one whose first task is not behind it."""
    low, high = 0, geometry[WEIGHTS]
    while high - low > 1:
        middle = (low + high) // 2
        if geometry[HEADER + middle * RECORD_SIZE + FIRST_TASK] <= task:
            low = middle
        else:
            high = middle
    return advance(geometry, HEADER + low * RECORD_SIZE)


@inline
def chunk_start(geometry, record, task):
    """Return the number of a task's first element."""
    return (task - record[FIRST_TASK]) * geometry[CHUNK]


@inline
def chunk_of(record, field, constants, start):
    """Return a pointer into one of the arrays of a record."""
    return advance(data_of(constants, record[field]), start)


@task_kernel
def sgd(worker, task, geometry, buffers):
    """Set w -= rate g; constants (decay, rate)."""
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    decay, rate = c[DECAY], c[1]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        w[i] = w[i] * decay - g[i] * rate


@task_kernel
def momentum(worker, task, geometry, buffers):
    """Set v = momentum v - rate g, w += v; constants (decay, rate, momentum)."""
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    velocity = chunk_of(record, SLOTS, c, start)
    decay, rate, keep = c[DECAY], c[1], c[2]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        v = velocity[i] * keep - g[i] * rate
        velocity[i] = v
        w[i] = w[i] * decay + v


@task_kernel
def adam(worker, task, geometry, buffers):
    """Set m += (1 - beta_1) (g - m), v += (1 - beta_2) (g**2 - v), w -= rate m / (sqrt(v) + epsilon).

    Constants (decay, 1 - beta_1, 1 - beta_2, epsilon, rate with the correction of the bias of m and v).
    """
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    first, second = chunk_of(record, SLOTS, c, start), chunk_of(record, SLOTS + 1, c, start)
    decay, share_1, share_2, epsilon, rate = c[DECAY], c[1], c[2], c[3], c[4]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        m = first[i] + (g[i] - first[i]) * share_1
        v = second[i] + (g[i] * g[i] - second[i]) * share_2
        first[i] = m
        second[i] = v
        w[i] = w[i] * decay - m / (sqrt(v) + epsilon) * rate


@task_kernel
def nesterov(worker, task, geometry, buffers):
    """Set v = momentum v - rate g, w += momentum v - rate g; constants (decay, rate, momentum)."""
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    velocity = chunk_of(record, SLOTS, c, start)
    decay, rate, keep = c[DECAY], c[1], c[2]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        step = g[i] * rate
        v = velocity[i] * keep - step
        velocity[i] = v
        w[i] = w[i] * decay - step + v * keep


@task_kernel
def amsgrad(worker, task, geometry, buffers):
    """Do as `adam` does, with the greatest v so far, the third slot, under the root."""
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    first, second = chunk_of(record, SLOTS, c, start), chunk_of(record, SLOTS + 1, c, start)
    greatest = chunk_of(record, SLOTS + 2, c, start)
    decay, share_1, share_2, epsilon, rate = c[DECAY], c[1], c[2], c[3], c[4]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        m = first[i] + (g[i] - first[i]) * share_1
        v = second[i] + (g[i] * g[i] - second[i]) * share_2
        first[i] = m
        second[i] = v
        # Not max: a NaN in v stays.
        top = greatest[i] if greatest[i] > v else v
        greatest[i] = top
        w[i] = w[i] * decay - m / (sqrt(top) + epsilon) * rate


@task_kernel
def rmsprop(worker, task, geometry, buffers):
    """Set v = rho v + (1 - rho) g**2, w -= rate g / sqrt(v + epsilon).

    Constants (decay, rho, 1 - rho, epsilon, rate).
    """
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    squares = chunk_of(record, SLOTS, c, start)
    decay, rho, share, epsilon, rate = c[DECAY], c[1], c[2], c[3], c[4]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        square = squares[i] * rho + g[i] * g[i] * share
        squares[i] = square
        w[i] = w[i] * decay - g[i] / sqrt(square + epsilon) * rate


@task_kernel
def rmsprop_momentum(worker, task, geometry, buffers):
    """Do as `rmsprop` does, with steps gathered in a velocity, and less the squared mean of g where it is centred.

    Slots are mean square, velocity and mean. Constants behind those of `rmsprop` are the momentum, and 1 - rho or,
    where it is not centred and the mean stays 0, 0.
    """
    c, record = buffers[1], record_of(geometry, task)
    start = chunk_start(geometry, record, task)
    w, g = chunk_of(record, WEIGHT, c, start), chunk_of(record, GRADIENT, c, start)
    squares, velocity = chunk_of(record, SLOTS, c, start), chunk_of(record, SLOTS + 1, c, start)
    means = chunk_of(record, SLOTS + 2, c, start)
    decay, rho, share, epsilon, rate, keep, mean_share = c[DECAY], c[1], c[2], c[3], c[4], c[5], c[6]
    for i in range(min(geometry[CHUNK], record[LENGTH] - start)):
        square = squares[i] * rho + g[i] * g[i] * share
        mean = means[i] * rho + g[i] * mean_share
        v = velocity[i] * keep + g[i] / sqrt(square - mean * mean + epsilon) * rate
        squares[i] = square
        means[i] = mean
        velocity[i] = v
        w[i] = w[i] * decay - v
