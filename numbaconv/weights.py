"""Weight files in safetensors format, written atomically and checked as a whole before anything is loaded."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from numbaconv.layers.weighted import refuse_frozen

if TYPE_CHECKING:
    from numbaconv.layers import Layer


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("Weight files need the package safetensors: pip install safetensors") from error
    return safetensors


def _check_path(filepath: str | os.PathLike[str]) -> Path:
    path = Path(filepath)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"The filename must end in `.safetensors`. Received: filepath={os.fspath(filepath)}. "
            f"Pass for example '{path.stem or 'model'}.safetensors'."
        )
    return path


def save_weights(layer: Layer, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write all weights of a layer or model, named by their paths, to a safetensors file.

    The file appears complete or not at all: it is written beside its place and then moved there.

    Parameters
    ----------
    layer : Layer
        Built layer or model.
    filepath : str or path
        Name of the file, ending in `.safetensors`.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    ValueError
        When the ending is another or the model has no weights yet.
    FileExistsError
        When the file exists and `overwrite` is False.
    ImportError
        When safetensors is not installed.
    """
    path = _check_path(filepath)
    named = layer.named_weights()
    if not named:
        raise ValueError(
            f"'{layer.name}' has no weights to save: it isn't built. Call it on data, or put Input(shape) first."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Pass overwrite=True to replace it.")
    library = _safetensors()
    # A link stays a link: the file it leads to is replaced.
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        arrays = {name: np.asarray(weight.data, order="C") for name, weight in named.items()}
        library.numpy.save_file(arrays, temporary)
        # The contents must be on disk before the name is, or a crash could leave an empty file under it.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(layer: Layer, filepath: str | os.PathLike[str]) -> None:
    """Read all weights of a layer or model from a safetensors file.

    Names and shapes are compared first; nothing is changed unless all of them fit. Values are cast to the weights'
    dtype.

    Parameters
    ----------
    layer : Layer
        Built layer or model with the same structure as the one saved.
    filepath : str or path
        Name of the file, ending in `.safetensors`.

    Raises
    ------
    ValueError
        When the file is damaged, or names or shapes differ, or the model is not built or frozen.
    FileNotFoundError
        When there is no such file.
    ImportError
        When safetensors is not installed.
    """
    path = _check_path(filepath)
    named = layer.named_weights()
    if not named:
        raise ValueError(
            f"'{layer.name}' has no weights to load into: it isn't built. Call it on data, or put Input(shape) first."
        )
    refuse_frozen(named)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file at {path}.")
    library = _safetensors()
    try:
        with library.safe_open(path, framework="numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            problems = _differences(shapes, {name: weight.shape for name, weight in named.items()})
            arrays = {} if problems else {name: file.get_tensor(name) for name in named}
    except library.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}. Save the weights again.") from error
    if problems:
        raise ValueError(
            f"{path} does not fit '{layer.name}'; nothing was loaded. {problems} "
            "Build the model with the layers and names it was saved with."
        )
    for name, weight in named.items():
        weight.assign(arrays[name])


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    """Return sentences on missing, unknown and mismatched weights; empty where all fit."""
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    mismatched = [
        f"{name} is {found[name]} in the file and {shape} in the model"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    return " ".join(
        f"{title}: {', '.join(items)}."
        for title, items in (
            ("Missing in the file", missing),
            ("Unknown to the model", unknown),
            ("Shapes that differ", mismatched),
        )
        if items
    )
