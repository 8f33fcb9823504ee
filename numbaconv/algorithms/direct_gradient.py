"""Kernel gradients by direct sums over pixels (see `numbaconv.kernels.kernel_gradient`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from numbaconv import parallel
from numbaconv.algorithms.blocking import Extent, panel_count, panel_vectors
from numbaconv.algorithms.cache_sets import pixel_pitch
from numbaconv.algorithms.geometry import (
    Record,
    ahead_step,
    assemble,
    block_count,
    describe_reads,
    gathered_size,
    has_merged_run,
    is_in_place,
    packed_offsets,
    round_up,
    task_counts,
    tile_list,
    with_taps,
)
from numbaconv.algorithms.gradient_blocking import (
    GRADIENT_TASKS,
    UNEVEN_PIXELS,
    WAITS,
    WRITTEN_BLOCKS,
    GradientBlock,
    added_cycles,
    choose_gradient_block,
    panel_parts,
    pixel_chunks,
    reads_grad_in_place,
)
from numbaconv.algorithms.lattice import Lattice, orientations
from numbaconv.algorithms.plan_parts import (
    GradientPlan,
    array_strides,
    gradient_sizes,
    is_small,
    lattice_extent,
    lattice_variants,
    launch_gradient,
)
from numbaconv.kernels import layout as at
from numbaconv.kernels.gradient_rows import PACKED_REGISTERS, PACKS_ROWS, ROW_FETCHES
from numbaconv.kernels.kernel_gradient import direct_kernel_gradient
from numbaconv.kernels.tile_sizes import GRADIENT_TILES, HALVES, split_pieces, split_rows
from numbaconv.shapes import Strides
from numbaconv.spec import ConvSpec
from numbaconv.target import TARGET


@lru_cache(maxsize=512)
def gradient_plan(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> GradientPlan:
    """Plan a kernel gradient; strides, in elements, of (batch, *spatial, channels)."""
    return _assembled_gradient(spec, _gradient_phases(spec, x_strides, y_strides), x_strides)


@dataclass(frozen=True, slots=True)
class _GradientPhase:
    """A phase in the form that was chosen, with its block and, where they are not those of single runs, its tiles."""

    lattice: Lattice
    in_place: bool
    block: GradientBlock
    grad_in_place: bool
    pieces: tuple[int, ...] = ()
    exchanged: int = 0  # numbers of a run where they are the columns of tiles, output channels the rows
    packs_rows: bool = False
    together: int = 1  # groups of a task
    chunks: int = 1  # private sums where blocks are no more


LONG_RUN, LONG_PIECES_COST = (10, 1.15) if TARGET.is_intel and TARGET.has_two_wide_units else (28, 1.02)
"""Runs longer than a tile's rows cost about as much both ways; tiles of single runs were up to 1.05 times as fast.

Tiles of one register load each number for a single product, and with prefetches and registers that cross cache lines
two loads a cycle of Intel's cores do not suffice: tiles of runs were 1.06 to 1.26 times as fast, and 0.72 with runs of
nine numbers, which pass over grad_y three times.
"""

PACKED_COST = 1.01
"""What tiles with packed rows are taken to cost beside others: from memory they take longer than estimated."""

EXCHANGED_COST = 1.05
"""Where columns of both kinds are equally full, tiles of whole panels of output channels were 1.05 times as fast."""


@lru_cache(maxsize=64)
def _gradient_choices(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> list[list[_GradientPhase]]:
    """Return the phases of all variants in the forms that are worth comparing."""
    choices = []
    panels = _all_panels(spec)
    for variant in lattice_variants(spec, "forward", x_strides, y_strides):
        phases = with_taps(variant)
        # Blocks of several phases differ too much for three panels to gain by more tasks.
        has_panels = panels not in WAITS or (panels > 1 and len(phases) > 1)
        for chunks, together in itertools.product(_chunks(spec, has_panels), _groups_together(spec)):
            choices.append(
                [_gradient_phase(spec, each, x_strides, len(phases) == 1, chunks, together) for each in phases]
            )
        for chunks in _chunks(spec, False):
            forms = [_exchanged_forms(spec, lattice, x_strides, chunks) for lattice in phases]
            best = [min(each, key=lambda phase: phase.block.balanced) for each in forms if each]
            if len(best) == len(phases) and len({phase.exchanged for phase in best}) == 1:
                choices.append(best)
    return choices


def _gradient_phases(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> list[_GradientPhase]:
    """Return the phases of the cheapest variant, each in its cheapest form."""
    added = added_cycles(spec.taps * spec.in_channels_per_group, spec.out_channels, spec.dtype)
    choices = _gradient_choices(spec, x_strides, y_strides)
    return min(choices, key=lambda phases: _balanced(phases) + (phases[0].chunks - 1) * added)


def _all_panels(spec: ConvSpec) -> int:
    return panel_count(spec.out_channels_per_group, spec.dtype) * spec.groups


def _pixel_chunks(spec: ConvSpec, packs_rows: bool = False) -> int:
    return pixel_chunks(*gradient_sizes(spec), _all_panels(spec), packs_rows)


def _chunks(spec: ConvSpec, has_panels: bool) -> list[int]:
    """Return how many private sums the pixels may be dealt to where blocks are no more.

    Of few pixels one or two, unless panels of output channels are an even number of tasks.
    """
    chunks, (pixels, _) = _pixel_chunks(spec), gradient_sizes(spec)
    has_two = chunks == 1 and not has_panels and pixels >= 2 * UNEVEN_PIXELS and not is_small(spec)
    return [1, 2] if has_two else [chunks]


def _groups_together(spec: ConvSpec) -> list[int]:
    """Return how many groups a task may take: one, or all where pixels alone are enough tasks."""
    is_many = spec.groups > 1 and _pixel_chunks(spec) >= GRADIENT_TASKS
    return [1, spec.groups] if is_many else [1]


def _balanced(phases: list[_GradientPhase]) -> float:
    """Return what the phases are taken to cost; exchanged tiles are not chosen for less than a twentieth."""
    return sum(phase.block.balanced for phase in phases) * (EXCHANGED_COST if phases[0].exchanged else 1.0)


def gradient_cycles(spec: ConvSpec) -> float:
    """Return about how many cycles a kernel gradient of contiguous arrays takes on one thread."""
    choices = _gradient_choices(spec, *array_strides(spec))
    return min(sum(phase.block.cycles for phase in phases) for phases in choices)


def _visits(spec: ConvSpec) -> int:
    """Return how many tiles pass over a panel of grad_y where the taps of a kernel row are one run."""
    row = spec.kernel_size[-1]
    return spec.taps // row * len(split_rows(row * spec.in_channels_per_group, 2, True))


def _runs(spec: ConvSpec, lattice: Lattice, merged: bool) -> tuple[int, list[int]]:
    """Return the numbers of a run of taps and the rows of the gradient where the runs begin."""
    columns, channels = len(lattice.columns.phase.taps) if merged else 1, spec.in_channels_per_group
    return columns * channels, packed_offsets(lattice, merged, channels)


def _tilings(spec: ConvSpec, lattice: Lattice, merged: bool) -> list[tuple[int, ...]]:
    """Return tiles that cover the runs of all taps, no tiles where each run has its own.

    Tiles take pieces of several runs where the sums of these follow one another, and read registers full of grad_y
    where they lie.
    """
    run, rows = _runs(spec, lattice, merged)
    follow = all(after == row + run for row, after in itertools.pairwise(rows))
    is_filled = spec.out_channels_per_group % TARGET.lanes(spec.dtype) == 0
    if len(rows) == 1 or not follow or (spec.groups > 1 and not is_filled):
        return [()]
    pieces = split_pieces(run, len(rows))
    return [(), pieces] if pieces else [()]


def _inputs(spec: ConvSpec, lattice: Lattice, x_strides: Strides) -> Iterator[tuple[Lattice, bool, int, bool, Extent]]:
    """Return the forms of a phase: in place or gathered, the pixels' distance, whether a kernel row is one run."""
    of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
    for form in orientations(lattice):
        for in_place in (False, True) if is_in_place(form, x_strides[-1], spec.groups) else (False,):
            pitch = form.columns.position_step if in_place else pixel_pitch(of_input, spec.dtype)
            extent = lattice_extent(form, of_input, of_output, spec.groups, in_place, spec.dtype)
            yield form, in_place, pitch, has_merged_run(form, of_input, in_place, pitch), extent


def _exchanged_forms(spec: ConvSpec, lattice: Lattice, x_strides: Strides, chunks: int) -> list[_GradientPhase]:
    """Return the forms of a phase with output channels as rows: a task takes all of them and every number of all taps.

    Registers of runs that do not fill them read what follows, which is no memory of the input's behind its end.
    """
    numbers, forms = spec.taps * spec.in_channels_per_group, []
    if spec.out_channels_per_group * HALVES % TARGET.lanes(spec.dtype) == 0:
        return []
    for form, in_place, pitch, merged, extent in _inputs(spec, lattice, x_strides):
        run, rows = _runs(spec, form, merged)
        if rows == list(range(0, numbers, run)) and not (in_place and run * HALVES % TARGET.lanes(spec.dtype)):
            taps = len(form.columns.phase.taps) if merged else 1
            block = choose_gradient_block(extent, taps, pitch, chunks * spec.groups, True, 1, exchanged=True)
            forms.append(_GradientPhase(form, in_place, block, True, exchanged=run, chunks=chunks))
    return forms


def _phase_cycles(phase: _GradientPhase) -> float:
    """Return what a form of a phase is taken to cost; none but the simplest is chosen for next to nothing."""
    run = len(phase.lattice.columns.phase.taps) * phase.block.channels
    if phase.packs_rows:
        return phase.block.balanced * PACKED_COST
    return phase.block.balanced * (LONG_PIECES_COST if phase.pieces and run > LONG_RUN else 1.0)


def _gradient_phase(
    spec: ConvSpec, lattice: Lattice, x_strides: Strides, is_whole: bool, chunks: int, together: int
) -> _GradientPhase:
    """Return the cheapest form of a phase, which ``is_whole`` where there is no other one, by tasks of some groups.

    Pixels are dealt to ``chunks``, if rows are packed to others.
    """
    of_output = spec.out_channels_per_group
    sums, packed_sums = chunks * (spec.groups // together), _pixel_chunks(spec, packs_rows=True)
    packs = PACKS_ROWS and spec.groups == 1 and panel_count(of_output, spec.dtype) > 1
    grad_in_place = reads_grad_in_place(of_output, spec.groups * of_output, _visits(spec), spec.dtype)
    forms = []
    for form, in_place, pitch, merged, extent in _inputs(spec, lattice, x_strides):
        taps = len(form.columns.phase.taps) if merged else 1
        for pieces in _tilings(spec, form, merged):
            unpacked = grad_in_place or bool(pieces)
            block = choose_gradient_block(extent, taps, pitch, sums, unpacked, together, pieces)
            forms.append(_GradientPhase(form, in_place, block, unpacked, pieces, together=together, chunks=chunks))
        if packs and not grad_in_place and (in_place or (is_whole and packed_sums == 1)):
            block = choose_gradient_block(extent, taps, pitch, packed_sums, False, 1, (), False, True, is_whole)
            forms.append(_GradientPhase(form, in_place, block, False, packs_rows=True, chunks=packed_sums))
    return min(forms, key=_phase_cycles)


def _assembled_gradient(spec: ConvSpec, phases: list[_GradientPhase], x_strides: Strides) -> GradientPlan:
    """Write the geometry of the chosen phases; all of them deal the input channels as the largest one does."""
    largest = max(phases, key=lambda phase: phase.block.cycles).block
    of_input, of_output, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    channels, lanes = largest.channels, TARGET.lanes(spec.dtype)
    parts = of_input // channels
    exchanged = phases[0].exchanged
    vectors = panel_vectors(exchanged or of_output, spec.dtype)
    # Of a panel's sums; exchanged tiles have one panel for all output channels, whose runs have panels of columns.
    width = int((sum(vectors) if exchanged else vectors[0]) * lanes)
    sums_size = width * (spec.taps * of_input // exchanged * of_output if exchanged else spec.taps * channels)
    panels, of_panel = (1, len(vectors)) if exchanged else (len(vectors), 1)
    records: list[Record] = []
    visits: list[tuple[int, int]] = []  # of a panel by tiles of runs, of a register by tiles of pieces
    blocks = gathered = pixels = packed_rows = 0
    for phase in phases:
        lattice, block = phase.lattice, phase.block
        record = Record(task_counts(lattice, block.rows, block.columns))
        pitch = pixel_pitch(channels, spec.dtype)
        merged = parts == 1 and has_merged_run(lattice, of_input, phase.in_place, pitch)
        describe_reads(
            record, lattice, block.rows, block.columns, channels, phase.in_place, merged, block.images, pitch
        )
        run, offsets = record.fields[at.RUN], record.tables[at.TAP_OFFSETS]
        rows = of_output if exchanged else run
        pieces = phase.pieces if parts == 1 else ()
        numbers = pieces[0] % 16 if pieces else run
        record.fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.PANELS: panels, at.X_GROUP: of_input * x_strides[-1],
            at.X_CHANNEL: x_strides[-1], at.Y_GROUP: of_output, at.OUT_CHANNELS: of_output,
            at.CHANNEL_CHUNKS: parts, at.KERNEL_TAP_COUNT: spec.taps, at.GRADIENT_CHANNELS: of_input,
            at.PANELS_TOGETHER: block.panels, at.GRAD_IN_PLACE: int(phase.grad_in_place),
            at.EXCHANGED: int(exchanged > 0), at.SUMS_SIZE: sums_size,
            at.ROWS_PACKED: int(phase.packs_rows), at.ROWS_AHEAD: int(phase.packs_rows and phase.in_place),
        }  # fmt: skip
        record.tables |= {
            at.PACKED_TAPS: packed_offsets(lattice, merged, channels),
            at.WIDE_FULL: tile_list(rows, 2, of_gradient=True),
            at.NARROW_FULL: tile_list(rows, vectors[-1], of_gradient=True),
            at.PIECE_TILES: [len(pieces), *pieces],
            at.PIECE_OFFSETS: [offset + i for offset in offsets for i in range(0, run, numbers)],
        }
        visits.append((len(offsets) * len(split_rows(rows, 2)) * of_panel, len(pieces)))
        records.append(record)
        blocks += block_count(record)
        gathered = max(gathered, gathered_size(record))
        if not phase.grad_in_place:
            pixels = max(pixels, block.images * block.rows * block.columns * block.panels)
        if phase.packs_rows:
            block_pixels = block.images * block.rows * block.columns
            one_tile = block_pixels * round_up(GRADIENT_TILES[2][0], lanes)
            packed_rows = max(packed_rows, one_tile, PACKED_REGISTERS * lanes)
    packs_rows = all(phase.packs_rows for phase in phases)
    chunks = min(blocks, max(phase.chunks for phase in phases))
    # With more threads than that gives tasks, single groups do; sums are the same.
    together = phases[0].together if chunks >= 2 * TARGET.threads else 1
    group_tasks = groups // together
    panel_chunks = panel_parts(chunks * parts * group_tasks, panels)
    chunk = -(-panels // panel_chunks)
    registers = min(2 * chunk, math.ceil(of_output / lanes))
    for record, (by_runs, by_pieces) in zip(records, visits, strict=True):
        # The others fetch rows of the same block.
        fetching = chunk - min(ROW_FETCHES, chunk // 2) if record.fields[at.ROWS_AHEAD] else chunk
        visited = by_pieces * registers or by_runs * fetching
        record.fields |= {
            at.PANEL_CHUNKS: panel_chunks, at.GROUPS_TOGETHER: together,
            at.AHEAD_STEP: ahead_step(record, visited * together, group_tasks == 1),
        }  # fmt: skip
    # Columns of exchanged tiles read up to a panel behind a gathered block.
    packed = round_up(gathered + (2 * lanes if exchanged else 0), 16)
    third = packed + round_up(pixels * 2 * lanes, 16)
    sums = third + round_up(packed_rows, 16)
    size = round_up(chunk * sums_size, 16)
    workspace = sums if chunks > 1 else sums + size * together
    # Of several phases, or taps that meet only padding, the first block's products are not all rows of the sums.
    covered = records[0].fields[at.RUN] * len(records[0].tables[at.PACKED_TAPS])
    is_complete = len(records) == 1 and covered == spec.taps * channels
    header = {
        at.WORKSPACE: workspace, at.SUMS: sums, at.SECOND: packed, at.THIRD: third, at.CHUNKS: chunks,
        at.BLOCKS: blocks, at.GRADIENT_SIZE: size, at.FIRST_STORED: int(packs_rows and is_complete),
        at.SUMS_WRITTEN: int(packs_rows and is_complete and chunks == 1 and blocks <= WRITTEN_BLOCKS),
    }  # fmt: skip
    counters = panel_chunks * parts * groups
    partial = size * counters * chunks if chunks > 1 else 0
    geometry, tasks = assemble(header, records), panel_chunks * parts * group_tasks * chunks
    return GradientPlan(geometry, tasks, workspace, partial, counters)


def gradient_launch(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> parallel.Launch:
    """Return a launch on (x, grad_y, grad_kernel)."""
    plan = gradient_plan(spec, x_strides, y_strides)
    return launch_gradient(direct_kernel_gradient, spec, plan)
