"""load: a shipped model by name, or a model file by what is in it rather than by its suffix."""

from __future__ import annotations

import json
import tempfile
import zipfile
from importlib import resources
from pathlib import Path

import keras
import numpy as np

from ._char_model import char_gru
from ._legacy_hdf5 import load_legacy_hdf5

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


def load(source: str | Path) -> keras.Model:
    """A Keras model, not compiled.

    Args:
        source: The name of a shipped model ("dickens"), or the path of a `.keras` file or a Keras 2 whole-model HDF5 file of any suffix.

    Raises:
        FileNotFoundError: It is neither.
        ValueError: The file is of another kind, damaged, or holds what cannot be loaded safely, such as a Lambda layer.

    Example:
        >>> load("dickens").output_shape
        (None, None, 86)
    """
    if str(source) in shipped():
        return _load_shipped(str(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}, and no shipped model of that name; shipped are {shipped()}.")
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == _HDF5:
        return load_legacy_hdf5(path)
    if magic.startswith(_ZIP):
        return _load_keras_zip(path)
    raise ValueError(f"{path} must be a .keras file or a Keras 2 HDF5 file, but it starts with the bytes {magic!r}.")


def shipped() -> list[str]:
    """The names of the models that come with fedloom."""
    return sorted(file.name.removesuffix(".npz") for file in _pretrained().iterdir() if file.name.endswith(".npz"))


def _pretrained():
    return resources.files("fedloom.models") / "pretrained"


def _load_shipped(name: str) -> keras.Model:
    with resources.as_file(_pretrained() / f"{name}.npz") as file, np.load(file, allow_pickle=False) as arrays:
        weights = [arrays[key].astype(np.float32) for key in arrays.files]
    (vocabulary_size, embedding), units = weights[0].shape, weights[2].shape[0]
    model = char_gru(vocabulary_size, embedding=embedding, units=units)
    model.set_weights(weights)
    return model


def _load_keras_zip(path: Path) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive:
            json.loads(archive.read("config.json"))
        if path.suffix == ".keras":
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        # Keras chooses its reader by suffix.
        with tempfile.TemporaryDirectory() as folder:
            renamed = Path(folder) / "model.keras"
            renamed.write_bytes(path.read_bytes())
            return keras.saving.load_model(renamed, compile=False, safe_mode=True)
    except (zipfile.BadZipFile, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a model that can be loaded: {error}") from error
