"""Shares of a launch's tasks that cost about the same, where tasks differ and are few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaconv.algorithms.geometry import Record
from numbaconv.kernels import layout as at
from numbaconv.target import TARGET

# With more tasks than this for each thread, whoever is done first takes enough of the others' to make up for it.
MOST_TASKS = 16


def parts(total: int, size: int, count: int) -> NDArray[np.int64]:
    """Return how much of ``total`` each of ``count`` pieces of ``size`` has: the last one what is left."""
    return np.minimum(size, total - size * np.arange(count))


def task_costs(record: Record) -> NDArray[np.int64]:
    """Return the products of a pixel block with panels that each task of a phase of products makes, in order."""
    fields = record.fields
    images = parts(fields[at.BATCH], fields[at.IMAGES], fields[at.BATCH_BLOCKS])
    rows = parts(fields[at.OUT_ROWS], fields[at.BLOCK_ROWS], fields[at.ROW_BLOCKS])
    columns = parts(fields[at.OUT_COLUMNS], fields[at.BLOCK_COLUMNS], fields[at.COLUMN_BLOCKS])
    panels = parts(fields[at.PANELS], fields[at.PANELS_PER_CHUNK], fields[at.PANEL_CHUNKS])
    together = fields[at.GROUPS_TOGETHER]
    planes, groups = np.ones(fields[at.PLANES], np.int64), np.full(fields[at.GROUPS] // together, together)
    costs = np.ones(1, np.int64) * max(1, fields[at.KERNEL_TAP_COUNT])
    for factor in (images, planes, rows, columns, groups, panels):
        costs = np.multiply.outer(costs, factor)
    return costs.reshape(-1)


def shares(costs: NDArray[np.int64], threads: int = TARGET.threads) -> NDArray[np.int64] | None:
    """Return the table of `parallel.Launch` that gives each of ``threads`` neighbours of about the same total cost.

    None where the tasks are as many for each thread as makes no difference, or cost the same.
    """
    if costs.size > MOST_TASKS * threads or (costs == costs[:1]).all():
        return None
    middles = np.cumsum(costs) - costs / 2
    bounds = np.searchsorted(middles, np.arange(1, threads) * (costs.sum() / threads))
    return np.array([threads, 0, *bounds, costs.size], np.int64)


def in_order(records: list[Record]) -> tuple[list[Record], list[NDArray[np.int64]]]:
    """Return the phases of products in the order of their tasks, and what each task costs.

    Of few tasks the larger ones come first: those that are taken last even out the ends. Of many, phases that write
    side by side stay together.
    """
    costs = [task_costs(record) for record in records]
    order = list(range(len(records)))
    if sum(each.size for each in costs) <= MOST_TASKS * TARGET.threads:
        order.sort(key=lambda i: -int(costs[i].max()))
    return [records[i] for i in order], [costs[i] for i in order]
