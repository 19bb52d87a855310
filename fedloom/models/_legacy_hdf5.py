"""A safe reader of Keras 2 whole-model HDF5 files.

Keras' own loader of this format has run code from files and trusted their sizes. This one reads the architecture
(`_legacy_config`) and the weights, nothing else, and takes both as written by an adversary: it follows no link out of
the file, and allocates no array before the architecture needs exactly its shape and the file holds its bytes.
Known limit: a text attribute that lies about its length makes HDF5 touch up to 4 GiB for a moment, before it refuses.
Free to change: messages. With care: the order of the checks in `_dataset`, each of which guards the next.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import h5py.h5l as h5l
import jax
import keras
import numpy as np

from ._legacy_config import model_from_config

MAX_ATTRIBUTE_BYTES = 16 * 2**20
MAX_TEXTS = 100_000
HEAP = b"GCOL\x01"

Shapes = Mapping[str, list[tuple[int, ...]]]  # layer name -> the shapes of its weights, in Keras' order


def load_legacy_hdf5(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a whole model that Keras 2 saved as HDF5; its suffix does not matter.

    What the file says about training (loss, optimizer) is ignored: the model is not compiled.

    Args:
        path: The file. It may come from an untrusted source.

    Returns:
        The same model in Keras 3, with the weights of the file; recurrent state is zero.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds no whole model, or holds something that is not on the allow-list.
    """
    path = Path(path)
    _check_kind(path)
    try:
        with h5py.File(path, "r") as file:
            config = _config(file)
            datasets = _weights(file, _shapes(config), path.stat().st_size)
            return _filled(model_from_config(config), datasets)
    except Exception as error:  # damaged content makes h5py and Keras raise a dozen types, of which a caller needs one
        detail = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} cannot be loaded as a Keras 2 model: {detail}") from error


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Check the path of the Keras 2 model.")
    if not path.is_file():
        raise ValueError(f"{path} is not a file. Expected a Keras 2 model in HDF5 format; save the model as one.")
    with path.open("rb") as file:
        start = file.read(16)
        if start.startswith(b"PK\x03\x04"):
            raise ValueError(f"{path} is a zip archive, as Keras 3 writes. Load it as a .keras file.")
        if not start.startswith(b"\x89HDF\r\n\x1a\n"):
            raise ValueError(f"{path} is not an HDF5 file, or is damaged. Expected a Keras 2 model in HDF5.")
        widths = start[13:15] if start[8:9] < b"\x02" else start[9:11]  # of addresses and of lengths, in bytes
        if widths != b"\x08\x08" or not _heaps_are_sound(file):
            raise ValueError(f"{path} is damaged: HDF5 could not read its text attributes. Get another copy.")


def _heaps_are_sound(file: BinaryIO) -> bool:
    """Whether HDF5 can walk through all heaps of texts in a file; in a damaged one its C code may go round for ever.

    Source: HDF5 File Format Specification, III.E "Global Heap": a signature, the heap's size, then texts with theirs.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        texts = 0
        start = content.find(HEAP)
        while start >= 0:
            end = start + int.from_bytes(content[start + 8 : start + 16], "little")
            following = content.find(HEAP, start + 1)
            if not start + 16 <= end <= len(content) or 0 <= following < end:
                return False
            here = start + 16
            while end - here >= 16:
                number = int.from_bytes(content[here : here + 2], "little")
                size = int.from_bytes(content[here + 8 : here + 16], "little")
                here += size if number == 0 else 16 + -(-size // 8) * 8  # number 0 is free space, its size the whole
                texts += 1
                if here > end or (number == 0 and size == 0) or texts > MAX_TEXTS:
                    return False
            start = following
    return True


def _config(file: h5py.File) -> Any:
    if "model_config" not in file.attrs:
        raise ValueError(
            "it has no attribute model_config, so it holds at most weights. Save the whole model (`model.save`), "
            "or build the model in code and load the weights into it."
        )
    version = _text(file, "keras_version") if "keras_version" in file.attrs else "2"
    if not version.startswith("2"):
        raise ValueError(f"it was written by Keras {version:.20}, expected 2. Save the model as .keras there.")
    return json.loads(_text(file, "model_config"))


def _shapes(config: Any) -> Shapes:
    """The shapes of all weights that the architecture implies, found without allocating any: it may ask for 10^12."""
    shapes = {}

    def build() -> None:
        for layer in model_from_config(config).layers:
            shapes[layer.name] = [tuple(weight.shape) for weight in layer.weights]

    jax.eval_shape(build)
    return shapes


def _weights(file: h5py.File, shapes: Shapes, file_bytes: int) -> dict[str, list[h5py.Dataset]]:
    """The datasets for every layer, still unread, but checked to hold what reading them will allocate."""
    datasets = {}
    for layer, expected in shapes.items():
        if not expected:
            continue
        group = _descend(file, f"model_weights/{layer}")
        if not isinstance(group, h5py.Group):
            raise ValueError(f"model_weights/{layer} must be a group.")
        names = _names(group, "weight_names")
        if len(names) != len(expected):
            raise ValueError(f"layer {layer!r} needs {len(expected)} weights, the file has {names!r:.200}.")
        datasets[layer] = [_dataset(group, name, shape) for name, shape in zip(names, expected, strict=True)]
    total = sum(_bytes(dataset) for layer in datasets.values() for dataset in layer)
    if total > file_bytes:
        raise ValueError(f"its weights claim {total} bytes, but the file has {file_bytes}.")
    return datasets


def _dataset(group: h5py.Group, name: str, expected: tuple[int, ...]) -> h5py.Dataset:
    weight = f"weight {group.name}/{name}"
    dataset = _descend(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{weight} must be a dataset.")
    if dataset.shape != expected:
        raise ValueError(f"{weight} has shape {dataset.shape}, but the architecture needs {expected}.")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{weight} has dtype {dataset.dtype}, expected float16, float32 or float64.")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{weight} refers to other files, which are never read. Save the model into one file.")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{weight} is compressed or filtered, as Keras never writes. Undo it with `h5repack -f NONE`.")
    if (stored := dataset.id.get_storage_size()) < _bytes(dataset):
        raise ValueError(f"{weight} declares {_bytes(dataset)} bytes, but the file holds {stored} for it.")
    return dataset


def _bytes(dataset: h5py.Dataset) -> int:
    return math.prod(dataset.shape) * dataset.dtype.itemsize


def _filled(model: keras.Model, datasets: Mapping[str, list[h5py.Dataset]]) -> keras.Model:
    for layer in model.layers:
        for weight, dataset in zip(layer.weights, datasets.get(layer.name, []), strict=True):
            with np.errstate(over="ignore"):  # what overflows is caught as inf
                values = dataset[()].astype(jax.numpy.dtype(weight.dtype))
            if not np.isfinite(values.astype(np.float32)).all():
                raise ValueError(f"weight {dataset.name} holds NaN or infinite numbers. Load an earlier save of the model.")
            weight.assign(values)
    return model


def _descend(group: h5py.Group, path: str) -> Any:
    """The object at `path`, reached over hard links only: others may leave the group, or open any file there is."""
    here: Any = group
    for part in path.split("/"):
        where = f"{here.name.rstrip('/')}/{part}"
        name = part.encode("utf-8", "surrogateescape")
        if part in ("", ".", "..") or not isinstance(here, h5py.Group) or not here.id.links.exists(name):
            raise ValueError(f"{where} is missing.")
        # Not `part in here` or `here.get(part)`: both open what an external link points at.
        if here.id.links.get_info(name).type != h5l.TYPE_HARD:
            raise ValueError(f"{where} is a soft or external link, and none is followed. Save the model into one file.")
        here = here[part]
    return here


def _names(group: h5py.Group, name: str) -> list[str]:
    """A list of names; Keras splits a long one into `name0`, `name1`, ..., as HDF5 limits an attribute to 64 KiB."""
    if name in group.attrs:
        return _texts(group, name)
    names: list[str] = []
    for chunk in range(len(group.attrs)):
        if f"{name}{chunk}" not in group.attrs:
            break
        names += _texts(group, f"{name}{chunk}")
    return names


def _text(group: h5py.Group, name: str) -> str:
    texts = _texts(group, name)
    if len(texts) != 1:
        raise ValueError(f"attribute {name} must be one text, got {len(texts)}.")
    return texts[0]


def _texts(group: h5py.Group, name: str) -> list[str]:
    """An attribute that is a text or a vector of texts; its type and declared size are checked before it is read."""
    attribute = group.attrs.get_id(name)
    count = math.prod(attribute.shape or ())
    if count == 0:  # an empty list has no type of its own and is stored as floats
        return []
    if h5py.check_string_dtype(attribute.dtype) is None:  # HDF5 crashes on some other types of variable length
        raise ValueError(f"attribute {name} of {group.name} must be text, got dtype {attribute.dtype}.")
    if count * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"attribute {name} of {group.name} is larger than {MAX_ATTRIBUTE_BYTES} bytes.")
    values = np.ravel(np.asarray(group.attrs[name])).tolist()
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    if sum(map(len, texts)) > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"attribute {name} of {group.name} is longer than {MAX_ATTRIBUTE_BYTES} characters.")
    return texts
