"""Softmax, and cross-entropy of labels from logits with what its gradient needs; a chunk of samples per task."""

from __future__ import annotations

from math import exp, log

from numbaconv.jit import inline, task_kernel
from numbaconv.simd.pointers import advance, as_counters

# Geometry: samples, classes, samples of a task.
WORKSPACE, SAMPLES, CLASSES, CHUNK = range(4)


@inline
def _greatest(x, count):
    """Return the greatest of numbers, NaN where one is NaN."""
    top = x[0]
    for i in range(1, count):
        # A NaN in x[i] or in `top` stays.
        if not x[i] <= top and top == top:
            top = x[i]
    return top


@inline
def _softmax(x, y, classes):
    """Set y to exp(x - greatest x) / sum of that; return the greatest x and the sum."""
    top, total = _greatest(x, classes), x[0] * 0
    for c in range(classes):
        e = exp(x[c] - top)
        y[c] = e
        total += e
    for c in range(classes):
        y[c] /= total
    return top, total


@task_kernel
def softmax(worker, task, geometry, buffers):
    """Set y (buffer 2) to the softmax of each sample of x (1)."""
    classes, first = geometry[CLASSES], task * geometry[CHUNK]
    for i in range(first, min(first + geometry[CHUNK], geometry[SAMPLES])):
        _softmax(advance(buffers[1], i * classes), advance(buffers[2], i * classes), classes)


@inline
def _label_loss(x, label, slope, classes):
    """Set slopes to p, less 1 at the label, p = softmax of x; return -log p[label]."""
    top, total = _softmax(x, slope, classes)
    slope[label] -= 1
    return log(total) - (x[label] - top)


@task_kernel
def label_cross_entropy(worker, task, geometry, buffers):
    """Set losses (buffer 3) to -log p[label], p = softmax of logits (1), and slopes (4) to p, less 1 at the label.

    Labels (2) are int64 numbers in [0, classes).
    """
    classes, first = geometry[CLASSES], task * geometry[CHUNK]
    labels, losses = as_counters(buffers[2]), buffers[3]
    for i in range(first, min(first + geometry[CHUNK], geometry[SAMPLES])):
        x, slope, label = advance(buffers[1], i * classes), advance(buffers[4], i * classes), labels[i]
        losses[i] = _label_loss(x, label, slope, classes)


@task_kernel
def mean_label_cross_entropy(worker, task, geometry, buffers):
    """Do the same with the slopes of the mean of all losses, which are `share` (buffer 5) of those of each.

    Labels may be any numbers: where one is no class, the status word (6) is set.
    """
    classes, first, share = geometry[CLASSES], task * geometry[CHUNK], buffers[5][0]
    labels, losses = as_counters(buffers[2]), buffers[3]
    for i in range(first, min(first + geometry[CHUNK], geometry[SAMPLES])):
        x, slope, label = advance(buffers[1], i * classes), advance(buffers[4], i * classes), labels[i]
        if label < 0 or label >= classes:
            as_counters(buffers[6])[0] = 1
            label = 0
        losses[i] = _label_loss(x, label, slope, classes)
        for c in range(classes):
            slope[c] *= share
