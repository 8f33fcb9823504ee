"""Shares of a launch's tasks that cost about the same, where tasks differ and are few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaconv.algorithms.geometry import Record, block_count
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

# With more tasks than this for each thread, whoever is done first takes enough of the others' to make up for it.
MOST_TASKS = 16


INSIDE = 0.75
"""The part of a large task, at least, that must fit a thread's share: a thread that is done early takes small ones."""


def are_many(tasks: int, threads: int) -> bool:
    """Whether shares of so many tasks need not weigh what they cost."""
    return tasks > MOST_TASKS * threads


def parts(total: int, size: int, count: int) -> list[int]:
    """Return how much of ``total`` each of ``count`` pieces of ``size`` has: the last one what is left."""
    return [min(size, total - size * i) for i in range(count)]


def task_count(record: Record) -> int:
    """Return the number of tasks of a phase of products."""
    fields = record.fields
    return block_count(record) * fields[at.GROUPS] // fields[at.GROUPS_TOGETHER] * fields[at.PANEL_CHUNKS]


def task_costs(record: Record) -> list[int]:
    """Return the products of a pixel block with panels that each task of a phase of products makes, in order."""
    fields = record.fields
    images = parts(fields[at.BATCH], fields[at.IMAGES], fields[at.BATCH_BLOCKS])
    rows = parts(fields[at.OUT_ROWS], fields[at.BLOCK_ROWS], fields[at.ROW_BLOCKS])
    columns = parts(fields[at.OUT_COLUMNS], fields[at.BLOCK_COLUMNS], fields[at.COLUMN_BLOCKS])
    panels = parts(fields[at.PANELS], fields[at.PANELS_PER_CHUNK], fields[at.PANEL_CHUNKS])
    together = fields[at.GROUPS_TOGETHER]
    planes, groups = [1] * fields[at.PLANES], [together] * (fields[at.GROUPS] // together)
    costs = [max(1, fields[at.KERNEL_TAP_COUNT])]
    for factors in (images, planes, rows, columns, groups, panels):
        costs = [cost * factor for cost in costs for factor in factors]
    return costs


def shares(costs: NDArray[np.int64], threads: int = TARGET.threads) -> NDArray[np.int64] | None:
    """Return the table of `parallel.Launch` that gives each of ``threads`` neighbours of about the same total cost.

    None where the tasks are as many for each thread as makes no difference, or cost the same.
    """
    if are_many(costs.size, threads) or (costs == costs[:1]).all():
        return None
    wanted = np.cumsum(costs) - (1 - INSIDE) * costs
    bounds = np.searchsorted(wanted, np.arange(1, threads) * (costs.sum() / threads))
    return np.array([threads, 0, *bounds, costs.size], np.int64)


def deal(records: list[Record]) -> tuple[list[Record], NDArray[np.int64] | None]:
    """Return the phases of products in the order of their tasks, and the threads' `shares` of these.

    Of few tasks the larger ones come first: those that are taken last even out the ends. Of many, phases that write
    side by side stay together.
    """
    if are_many(sum(map(task_count, records)), TARGET.threads):
        return records, None
    dealt = sorted(((record, task_costs(record)) for record in records), key=lambda pair: -max(pair[1]))
    return [record for record, _ in dealt], shares(np.array([cost for _, costs in dealt for cost in costs]))
