"""Kernel gradients by direct sums over pixels (see `numbaconv.kernels.kernel_gradient`)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from numbaconv import parallel
from numbaconv.algorithms.blocking import (
    GradientBlock,
    choose_gradient_block,
    gradient_chunks,
    panel_vectors,
    pixel_chunks,
    reads_grad_in_place,
)
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
from numbaconv.algorithms.lattice import Lattice, orientations
from numbaconv.algorithms.plan_parts import (
    GradientPlan,
    array_strides,
    gradient_sizes,
    lattice_extent,
    lattice_variants,
    launch_gradient,
)
from numbaconv.kernels import layout as at
from numbaconv.kernels.kernel_gradient import direct_kernel_gradient
from numbaconv.kernels.tile_sizes import split_pieces, split_rows
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
    pieces: tuple[int, ...]


@lru_cache(maxsize=64)
def _gradient_phases(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> list[_GradientPhase]:
    """Return the phases of the cheapest variant, each in its cheapest form."""
    choices = []
    for variant in lattice_variants(spec, "forward", x_strides, y_strides):
        choices.append([_gradient_phase(spec, lattice, x_strides) for lattice in with_taps(variant)])
    return min(choices, key=lambda phases: sum(phase.block.cycles for phase in phases))


def gradient_cycles(spec: ConvSpec) -> float:
    """Return about how many cycles a kernel gradient of contiguous arrays takes on one thread."""
    return sum(phase.block.cycles for phase in _gradient_phases(spec, *array_strides(spec)))


def _visits(spec: ConvSpec) -> int:
    """Return how many tiles pass over a panel of grad_y where the taps of a kernel row are one run."""
    row = spec.kernel_size[-1]
    return spec.taps // row * len(split_rows(row * spec.in_channels_per_group, 2, True))


def _tilings(spec: ConvSpec, lattice: Lattice, merged: bool) -> list[tuple[int, ...]]:
    """Return tiles that cover the runs of all taps, no tiles where each run has its own.

    Tiles take pieces of several runs where the sums of these follow one another, and read registers full of grad_y
    where they lie.
    """
    columns = len(lattice.columns.phase.taps) if merged else 1
    run, rows = columns * spec.in_channels_per_group, packed_offsets(lattice, merged, spec.in_channels_per_group)
    follow = all(after == row + run for row, after in itertools.pairwise(rows))
    if len(rows) == 1 or not follow or spec.out_channels_per_group % TARGET.lanes(spec.dtype):
        return [()]
    pieces = split_pieces(run, len(rows))
    return [(), pieces] if pieces else [()]


def _gradient_phase(spec: ConvSpec, lattice: Lattice, x_strides: Strides) -> _GradientPhase:
    """Return the cheapest form of a phase."""
    of_input, of_output = spec.in_channels_per_group, spec.out_channels_per_group
    sums = pixel_chunks(*gradient_sizes(spec)) * spec.groups
    grad_in_place = reads_grad_in_place(of_output, spec.groups * of_output, _visits(spec), spec.dtype)
    forms = []
    for form in orientations(lattice):
        for in_place in (False, True) if is_in_place(form, x_strides[-1], spec.groups) else (False,):
            pitch = form.columns.position_step if in_place else pixel_pitch(of_input, spec.dtype)
            merged = has_merged_run(form, of_input, in_place, pitch)
            taps = len(form.columns.phase.taps) if merged else 1
            extent = lattice_extent(form, of_input, of_output, spec.groups, in_place, spec.dtype)
            for pieces in _tilings(spec, form, merged):
                unpacked = grad_in_place or bool(pieces)
                block = choose_gradient_block(extent, taps, pitch, sums, unpacked, spec.groups > 1, pieces)
                forms.append(_GradientPhase(form, in_place, block, unpacked, pieces))
    return min(forms, key=lambda phase: phase.block.cycles)


def _assembled_gradient(spec: ConvSpec, phases: list[_GradientPhase], x_strides: Strides) -> GradientPlan:
    """Write the geometry of the chosen phases; all of them deal the input channels as the largest one does."""
    largest = max(phases, key=lambda phase: phase.block.cycles).block
    of_input, of_output, groups = spec.in_channels_per_group, spec.out_channels_per_group, spec.groups
    channels, lanes = largest.channels, TARGET.lanes(spec.dtype)
    parts = of_input // channels
    vectors = panel_vectors(of_output, spec.dtype)
    panels = len(vectors)
    records: list[Record] = []
    blocks = gathered = pixels = 0
    for phase in phases:
        lattice, block = phase.lattice, phase.block
        record = Record(task_counts(lattice, block.rows, block.columns))
        pitch = pixel_pitch(channels, spec.dtype)
        merged = parts == 1 and has_merged_run(lattice, of_input, phase.in_place, pitch)
        describe_reads(
            record, lattice, block.rows, block.columns, channels, phase.in_place, merged, block.images, pitch
        )
        run, offsets = record.fields[at.RUN], record.tables[at.TAP_OFFSETS]
        pieces = phase.pieces if parts == 1 else ()
        numbers = pieces[0] % 16 if pieces else run
        record.fields |= {
            at.FIRST_TASK: blocks, at.GROUPS: groups, at.PANELS: panels, at.X_GROUP: of_input * x_strides[-1],
            at.X_CHANNEL: x_strides[-1], at.Y_GROUP: of_output, at.OUT_CHANNELS: of_output,
            at.CHANNEL_CHUNKS: parts, at.KERNEL_TAP_COUNT: spec.taps, at.GRADIENT_CHANNELS: of_input,
            at.PANELS_TOGETHER: block.panels,
            at.GRAD_IN_PLACE: int(phase.grad_in_place),
        }  # fmt: skip
        record.tables |= {
            at.PACKED_TAPS: packed_offsets(lattice, merged, channels),
            at.WIDE_FULL: tile_list(run, 2),
            at.NARROW_FULL: tile_list(run, vectors[-1], of_gradient=True),
            at.PIECE_TILES: [len(pieces), *pieces],
            at.PIECE_OFFSETS: [offset + i for offset in offsets for i in range(0, run, numbers)],
        }
        records.append(record)
        blocks += block_count(record)
        gathered = max(gathered, gathered_size(record))
        if not phase.grad_in_place:
            pixels = max(pixels, block.images * block.rows * block.columns * block.panels)
    all_pixels, gradient_bytes = gradient_sizes(spec)
    chunks, panel_chunks = gradient_chunks(all_pixels, blocks, gradient_bytes, parts * groups, panels)
    chunk = -(-panels // panel_chunks)
    for record in records:
        record.fields |= {
            at.PANEL_CHUNKS: -(-panels // chunk), at.PANELS_PER_CHUNK: chunk,
            at.AHEAD_STEP: ahead_step(record, chunk, min(2 * chunk, math.ceil(of_output / lanes)), groups),
        }  # fmt: skip
    packed = round_up(gathered, 16)
    sums = packed + round_up(pixels * 2 * lanes, 16)
    width = int(vectors[0] * lanes)
    size = round_up(chunk * spec.taps * channels * width, 16)
    workspace = sums if chunks > 1 else sums + size
    header = {
        at.WORKSPACE: workspace, at.SUMS: sums, at.SECOND: packed, at.CHUNKS: chunks, at.BLOCKS: blocks,
        at.GRADIENT_SIZE: size,
    }  # fmt: skip
    counters = records[0].fields[at.PANEL_CHUNKS] * parts * groups
    partial = size * counters * chunks if chunks > 1 else 0
    geometry = assemble(header, records)
    return GradientPlan(geometry, counters * chunks, workspace, partial, counters)


def gradient_launch(spec: ConvSpec, x_strides: Strides, y_strides: Strides) -> parallel.Launch:
    """Return a launch on (x, grad_y, grad_kernel)."""
    plan = gradient_plan(spec, x_strides, y_strides)
    return launch_gradient(direct_kernel_gradient, spec, plan)
