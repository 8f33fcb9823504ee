"""Pictures of a trained network, drawn by matplotlib's Agg backend without touching pyplot or its settings.

Every function takes plain arrays, so that pictures of networks built otherwise can be drawn as well.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

INK = "#20242c"
MUTED = "#6b7280"
_TRAINING = "#2f6fb2"
_TEST = "#e07b39"
_RIGHT = "#2e8b57"
_WRONG = "#c8322b"
_SIGNED_MAP = "RdBu_r"
_ACTIVATION_MAP = "magma"
_IMAGE_MAP = "gray_r"
# Pixels per weight: the gaps between filters are finer than their weights.
_FILTER_ZOOM = 5
_FRAME = "#c4c9d1"
TITLE: dict[str, Any] = {"fontsize": 11, "color": INK, "loc": "left", "pad": 8}


def require_matplotlib() -> None:
    """Check that matplotlib can be imported.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed; the message says how to install it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError(
            "matplotlib, which draws the picture, is not installed. "
            "Install it with `pip install 'numbaconv[demo]'`, or go without the picture by --no-plot."
        ) from None


def check_output(path: str | os.PathLike[str]) -> None:
    """Check that a picture can be written to a path, before anything is computed for it.

    Parameters
    ----------
    path : str or path-like
        File to be written; its suffix tells the format.

    Raises
    ------
    ValueError
        If the suffix is none of ``.png``, ``.pdf`` and ``.svg``.
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the path is a folder.
    PermissionError
        If the folder cannot be written to.

    Examples
    --------
    >>> check_output("network.bmp")
    Traceback (most recent call last):
    ...
    ValueError: network.bmp ends in '.bmp'; a picture's name ends in .png, .pdf or .svg.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{path} ends in {path.suffix!r}; a picture's name ends in .png, .pdf or .svg.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.parent} does not exist.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path} cannot be written: no permission to write to the folder {path.parent}.")


def save_figure(figure: Any, path: str | os.PathLike[str], dpi: int = 110) -> None:
    """Write a figure to a file beside the target and rename it, so that the target is never half a picture.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to draw.
    path : str or path-like
        File to be written, ``.png``, ``.pdf`` or ``.svg``.
    dpi : int, default 110
        Dots per inch of a ``.png``.

    Raises
    ------
    ValueError, OSError
        As `check_output`.
    """
    path = Path(path)
    check_output(path)
    handle, aside = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        figure.savefig(aside, dpi=dpi, format=path.suffix[1:].lower())
        # mkstemp makes files private; a picture gets the permissions that any new file of the user has.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(aside, 0o666 & ~umask)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def mosaic(tiles: Array, columns: int | None = None, gap: int = 1) -> npt.NDArray[np.float64]:
    """Lay tiles out on a grid, row by row, with gaps of NaN between them.

    Parameters
    ----------
    tiles : ndarray, shape (n, height, width)
        Images or maps of one size.
    columns : int, optional
        Tiles in a row; by default as many as make the grid about square.
    gap : int, default 1
        Pixels between tiles.

    Returns
    -------
    ndarray, shape (rows * (height + gap) - gap, columns * (width + gap) - gap), float64
        The grid; NaN where no tile is.

    Examples
    --------
    >>> mosaic(np.ones((3, 1, 2)), columns=2)
    array([[ 1.,  1., nan,  1.,  1.],
           [nan, nan, nan, nan, nan],
           [ 1.,  1., nan, nan, nan]])
    """
    count, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        grid[top : top + height, left : left + width] = tile
    return grid


def draw_learning_curve(axes: Any, history: Mapping[str, Sequence[float]], name: str) -> None:
    """Draw one quantity over the epochs, on the training and the test images.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    history : mapping of str to sequence of float
        ``History.history``: ``name`` and, where there is one, ``"val_" + name``, one number an epoch.
    name : str
        ``"loss"`` or a metric's name.
    """
    epochs = np.arange(1, len(history[name]) + 1)
    style = {"linewidth": 1.8, "marker": "o", "markersize": 3.5}
    axes.plot(epochs, history[name], color=_TRAINING, label="training (with dropout)", **style)
    test = history.get(f"val_{name}")
    if test:
        axes.plot(epochs, test, color=_TEST, label=f"test, at last {test[-1]:.4f}", **style)
    axes.set_title(f"{name} per epoch", **TITLE)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.margins(y=0.06)
    room = max(0.02 * len(epochs), 0.1)
    axes.set_xlim(1 - room, len(epochs) + room)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.spines[:].set_visible(False)


def draw_filters(axes: Any, kernel: Array, title: str = "filters") -> None:
    """Draw a layer's filters for its first input channel, negative weights blue, positive ones red.

    The full colours stand for the 95th percentile of the weights' magnitudes and all beyond it.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    kernel : ndarray, shape (height, width, in_channels, filters)
        A `Conv2D` layer's kernel.
    title : str
        Written above.
    """
    filters = np.moveaxis(kernel[:, :, 0, :], -1, 0)
    columns = 2 ** math.ceil(math.log2(math.sqrt(len(filters))))
    # A few large weights would leave all others pale.
    limit = float(np.percentile(np.abs(filters), 95)) or 1.0
    pixels = np.repeat(np.repeat(filters, _FILTER_ZOOM, 1), _FILTER_ZOOM, 2)
    _draw_grid(axes, mosaic(pixels, columns, gap=3), _SIGNED_MAP, -limit, limit)
    axes.set_title(title, **TITLE)


def draw_activations(axes: Any, maps: Array, title: str, limit: int = 16) -> None:
    """Draw the feature maps that a layer makes of one image, bright where the layer responds.

    Each map is scaled to its own maximum; a map without a positive value is black.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    maps : ndarray, shape (height, width, channels)
        The layer's output for one image.
    title : str
        Written above.
    limit : int, default 16
        Maps shown at most: the first ones.
    """
    shown = np.moveaxis(maps, -1, 0)[:limit]
    height = shown.shape[1]
    largest = shown.max((1, 2), keepdims=True)
    scaled = shown / np.where(largest > 0, largest, 1)
    _draw_grid(axes, mosaic(scaled, gap=max(1, height // 8)), _ACTIVATION_MAP, 0, 1)
    count = f"{len(shown)} of {maps.shape[-1]} maps" if len(shown) < maps.shape[-1] else f"{len(shown)} maps"
    axes.set_title(title, **TITLE)
    axes.set_xlabel(f"{count} of {height}×{maps.shape[1]}", color=MUTED, fontsize=9)


def draw_probabilities(axes: Any, probabilities: Array, names: Sequence[str], label: int) -> None:
    """Draw the probability of each class as bars, the right class in green.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    probabilities : ndarray, shape (classes,)
        What the network gives for one image.
    names : sequence of str
        The classes.
    label : int
        The right class.
    """
    places = np.arange(len(names))
    colours = [_RIGHT if place == label else _WRONG for place in places]
    axes.barh(places, probabilities, color=colours, height=0.7)
    axes.yaxis.tick_right()
    axes.set_yticks(places, names, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.invert_yaxis()
    axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(_FRAME)
    axes.set_title("probability", **TITLE)


def draw_image(
    axes: Any, image: Array, caption: str = "", *, is_right: bool | None = None, caption_size: float = 10
) -> None:
    """Draw one image, ink on paper, with a caption below.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    image : ndarray, shape (height, width)
        Ink, from 0 to its maximum.
    caption : str
        Written below.
    is_right : bool, optional
        True for a green caption, False for a red one in a red frame.
    caption_size : float, default 10
        Size of the caption in points.
    """
    _draw_grid(axes, image, _IMAGE_MAP, 0, float(image.max()) or 1.0)
    is_wrong = is_right is False
    colour = {None: INK, True: _RIGHT, False: _WRONG}[is_right]
    axes.spines[:].set(visible=True, color=_WRONG if is_wrong else _FRAME, linewidth=2.5 if is_wrong else 0.8)
    axes.set_xlabel(caption, color=colour, fontsize=caption_size, labelpad=3, linespacing=0.95,
                    fontweight="bold" if is_wrong else "normal")  # fmt: skip


def _draw_grid(axes: Any, grid: Array, colours: str, low: float, high: float) -> None:
    axes.imshow(grid, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
