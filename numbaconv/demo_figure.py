"""The demonstration's picture: how a network learned, what its layers see, and where it errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

import numbaconv as nc
from numbaconv import plotting
from numbaconv.layers import Conv2D, MaxPooling2D

Array = npt.NDArray[Any]

_GALLERY_ROWS, _GALLERY_COLUMNS = 3, 16


@dataclass(frozen=True)
class Picture:
    """What the demonstration draws.

    Attributes
    ----------
    title, subtitle : str
        Headline and one line of results.
    class_names : sequence of str
        Names of the classes.
    history : mapping of str to sequence of float
        ``loss``, ``accuracy`` and their ``val_`` twins, one number an epoch.
    kernel : ndarray, shape (height, width, 1, filters)
        The first layer's kernel.
    sample : ndarray, shape (height, width)
        The image that is followed through the network.
    sample_label : int
        Its class.
    maps : sequence of (str, ndarray of shape (height, width, channels))
        Name and output of each layer for the sample.
    probabilities : ndarray, shape (classes,)
        What the network says of the sample.
    images : ndarray, shape (n, height, width)
        The test images.
    labels, predictions : ndarray, shape (n,)
        Their classes, and what the network takes them for.
    """

    title: str
    subtitle: str
    class_names: Sequence[str]
    history: Mapping[str, Sequence[float]]
    kernel: Array
    sample: Array
    sample_label: int
    maps: Sequence[tuple[str, Array]]
    probabilities: Array
    images: Array
    labels: Array
    predictions: Array


def feature_maps(model: Any, x: Array) -> list[tuple[str, Array]]:
    """Run one image through a network and keep what its convolutions and poolings make of it.

    Parameters
    ----------
    model : Sequential
        The network.
    x : ndarray, shape (1, height, width, channels)
        The image.

    Returns
    -------
    list of (str, ndarray of shape (height, width, channels))
        Name and output of each such layer, as `Picture.maps`.
    """
    maps = []
    features: Any = x
    with nc.no_grad():
        for layer in model.layers:
            features = layer(features)
            if isinstance(layer, Conv2D):
                maps.append(("conv {}×{}".format(*layer.kernel_size), features.numpy()[0]))
            elif isinstance(layer, MaxPooling2D):
                maps.append(("max pool {}×{}".format(*layer.pool_size), features.numpy()[0]))
    return maps


def draw(picture: Picture) -> Any:
    """Draw the demonstration's picture.

    Parameters
    ----------
    picture : Picture
        Its contents.

    Returns
    -------
    matplotlib.figure.Figure
        The picture, for `plotting.save_figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 11.2), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.03, 0.965, picture.title, fontsize=21, fontweight="bold", color=plotting.INK, va="center")
    figure.text(0.03, 0.933, picture.subtitle, fontsize=12.5, color=plotting.MUTED, va="center")
    _draw_training(figure, picture)
    _draw_layers(figure, picture)
    _draw_gallery(figure, picture)
    return figure


def _heading(figure: Any, y: float, text: str, note: str = "") -> None:
    figure.text(0.03, y, text, fontsize=13.5, fontweight="bold", color=plotting.INK, va="center")
    figure.text(0.97, y, note, fontsize=10.5, color=plotting.MUTED, va="center", ha="right")


def _has_short_names(picture: Picture) -> bool:
    return max(map(len, picture.class_names)) <= 2


def _draw_training(figure: Any, picture: Picture) -> None:
    grid = figure.add_gridspec(1, 3, left=0.052, right=0.965, top=0.845, bottom=0.65, width_ratios=[1.4, 1.4, 0.7])
    _heading(figure, 0.892, "Learning")
    for column, name in enumerate(("loss", "accuracy")):
        plotting.draw_learning_curve(figure.add_subplot(grid[column]), picture.history, name)
    axes = figure.add_subplot(grid[2], anchor="NW")
    height, width, _, filters = picture.kernel.shape
    plotting.draw_filters(axes, picture.kernel, f"{filters} of {height}×{width}, red > 0 > blue")
    left = grid[2].get_position(figure).x0
    figure.text(left, 0.892, "First layer's filters", fontsize=13.5, fontweight="bold", color=plotting.INK, va="center")


def _draw_layers(figure: Any, picture: Picture) -> None:
    name = picture.class_names[picture.sample_label]
    _heading(figure, 0.598, "One test image on its way through the network", f"label: {name}")
    columns = len(picture.maps) + 2
    # The classes' names stand right of the last column.
    room = 0.04 if _has_short_names(picture) else 0.075
    grid = figure.add_gridspec(1, columns, left=0.03, right=1 - room, top=0.56, bottom=0.395, wspace=0.24)
    axes = figure.add_subplot(grid[0])
    plotting.draw_image(axes, picture.sample)
    axes.set_title("input", **plotting.TITLE)
    for column, (title, maps) in enumerate(picture.maps, start=1):
        plotting.draw_activations(figure.add_subplot(grid[column]), maps, title)
    axes = figure.add_subplot(grid[columns - 1], box_aspect=1)
    plotting.draw_probabilities(axes, picture.probabilities, picture.class_names, picture.sample_label)
    cells = [grid[column].get_position(figure) for column in range(columns)]
    for cell, following in pairwise(cells):
        figure.text((cell.x1 + following.x0) / 2, (cell.y0 + cell.y1) / 2, "→", fontsize=17, color=plotting.MUTED,
                    ha="center", va="center")  # fmt: skip


def _gallery(is_right: Array) -> tuple[Array, Array]:
    """Choose test images: wrong ones, a row of them at most, then right ones, spread over the test set."""
    wrong = np.flatnonzero(~is_right)[:_GALLERY_COLUMNS]
    right = np.flatnonzero(is_right)
    room = min(_GALLERY_ROWS * _GALLERY_COLUMNS - len(wrong), len(right))
    return wrong, right[np.arange(room) * len(right) // max(room, 1)]


def _draw_gallery(figure: Any, picture: Picture) -> None:
    is_right = picture.predictions == picture.labels
    wrong, right = _gallery(is_right)
    errors = int(np.count_nonzero(~is_right))
    shown = f"all {errors}" if len(wrong) == errors else f"{len(wrong)} of the {errors:,}"
    note = f"{shown} wrong ones in red (predicted, then the label), {len(right)} of the {is_right.sum():,} right ones"
    _heading(figure, 0.347, "Test images with predicted labels", note)
    grid = figure.add_gridspec(
        _GALLERY_ROWS, _GALLERY_COLUMNS, left=0.03, right=0.97, top=0.32, bottom=0.035, hspace=0.42, wspace=0.2
    )
    for place, index in enumerate([*wrong, *right]):
        axes = figure.add_subplot(grid[place // _GALLERY_COLUMNS, place % _GALLERY_COLUMNS])
        caption = picture.class_names[picture.predictions[index]]
        if not is_right[index]:
            caption += f"\n(is {picture.class_names[picture.labels[index]]})"
        size = 10.5 if _has_short_names(picture) else 7.5
        plotting.draw_image(axes, picture.images[index], caption, is_right=bool(is_right[index]), caption_size=size)
