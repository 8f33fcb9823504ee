"""The table that `Model.summary` prints."""

from __future__ import annotations

from typing import Any

from numbaconv.layers.base import Layer, Shape

_HEADINGS = ("Layer (type)", "Output Shape", "Param #", "MACs")


def text(model: Layer, calls: list[tuple[str, Layer, Any, Any]]) -> str:
    """Return the table of a model from (name, layer, input shape, output shape) of its layers' calls."""
    rows = layer_rows(calls)
    trainable = sum(weight.size for weight in model.trainable_weights)
    total = sum(weight.size for weight in model.weights)
    macs = [row[3] for row in rows]
    totals = [
        ("Total params", f"{total:,}"),
        ("Trainable params", f"{trainable:,}"),
        ("Non-trainable params", f"{total - trainable:,}"),
        ("MACs per sample", "?" if "?" in macs else f"{sum(int(entry.replace(',', '')) for entry in macs):,}"),
    ]
    return table(f"Model: {model.name}", rows, totals)


def layer_rows(
    calls: list[tuple[str, Layer, Any, Any]],
) -> list[tuple[str, str, str, str]]:
    """Return one row per layer from (name, layer, input shape, output shape); shapes may be None.

    A layer called several times has one row, with the sum of its multiply-accumulates.
    """
    rows: dict[int, tuple[str, str, str, int | None]] = {}
    for name, layer, input_shape, output_shape in calls:
        macs = None if input_shape is None or not _is_known(input_shape) else layer.macs(input_shape)
        title = f"{name} ({type(layer).__name__})"
        if id(layer) in rows:
            first = rows[id(layer)]
            rows[id(layer)] = (*first[:3], None if macs is None or first[3] is None else first[3] + macs)
            continue
        parameters = f"{layer.count_params():,}" if layer.built else "?"
        rows[id(layer)] = (title, "?" if output_shape is None else _shape(output_shape), parameters, macs)
    return [(a, b, c, "?" if macs is None else f"{macs:,}") for a, b, c, macs in rows.values()]


def table(title: str, rows: list[tuple[str, str, str, str]], totals: list[tuple[str, str]]) -> str:
    """Return rows under headings, in aligned columns: text to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (_HEADINGS, *rows)) for column in range(len(_HEADINGS))]

    def line(row: tuple[str, ...]) -> str:
        left = [row[column].ljust(widths[column]) for column in (0, 1)]
        right = [row[column].rjust(widths[column]) for column in (2, 3)]
        return "  ".join((*left, *right)).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    label = max(len(name) for name, _ in totals)
    number = max(len(value) for _, value in totals)
    return "\n".join(
        (
            title,
            rule,
            line(_HEADINGS),
            rule,
            *(line(row) for row in rows),
            rule,
            *(f"{name.ljust(label)}  {value.rjust(number)}" for name, value in totals),
        )
    )


def _shape(shape: Any) -> str:
    return "(" + ", ".join(str(size) for size in (None, *shape[1:])) + ("," if len(shape) == 1 else "") + ")"


def _is_known(input_shape: Any) -> bool:
    """Return whether all sizes but the batch are known."""
    shapes: list[Shape] = input_shape if isinstance(input_shape[0], (tuple, list)) else [input_shape]
    return all(size is not None for shape in shapes for size in shape[1:])
