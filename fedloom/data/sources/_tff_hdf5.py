"""TFF's HDF5 layout: `/examples/<CLIENT_ID>/<COLUMN>`, an array per client and column, shape (n, ...).

That of TFF's releases until 2021 (`HDF5ClientData`). Nothing outside the file is followed: no links, no external or virtual storage.
Free to change: the bounds. With care: that a type which may lead elsewhere, or be of any size, is never read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._federated import Examples, FederatedDataset
from ._features import Feature, Features, checked, is_number, text_column, with_dtype
from ._refusal import Refusal, existing_file, refusal

_MAX_CLIENT_BYTES = 1 << 28  # of one client's columns, padding included


def from_tff_hdf5(path: str | os.PathLike[str], *, features: Features | None = None, name: str | None = None) -> FederatedDataset:
    """A data set in TFF's HDF5 layout; clients sorted by id, examples in the order of the file.

    Opening looks at the shapes of every client's columns and reads none of them: about 0.2 ms per client and column.

    Args:
        path: The file, which holds one split.
        features: Column -> (dtype, shape of one example), such as `{"pixels": ("float32", (28, 28)), "snippets": ("str", ())}`: what to
            read, the same for every client. "str" has U+FFFD for what is not UTF-8, "bytes" has all as it is. None takes all the columns of
            the first client as they are, byte strings as `str`. HDF5 drops zero bytes at the end of a byte string.
        name: What error messages call the data set; None takes the name of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not what it should be, or a client's columns are not what `features` or the first client says.
    """
    file = existing_file(path, "an HDF5 file in TFF's layout")
    columns = None if features is None else checked(features)
    fail = _refusal(file)
    sizes: dict[str, int] = {}
    with _open(file) as root:
        clients = _hard(root, "examples", fail)
        for client in sorted(clients):
            group = _hard(clients, client, fail)
            columns = columns or _found(group, client, fail)
            sizes[client] = len(next(iter(_columns(group, client, columns, file).values())))
    if not sizes or columns is None:
        raise fail("no client")
    return FederatedDataset(sizes, partial(_read_client, file, columns), name=name or file.stem)


def _read_client(file: Path, features: dict[str, Feature], client: str) -> Examples:
    # Opened anew each time: an open file could be neither pickled nor handed to a forked worker.
    with _open(file) as root:
        group = _hard(_hard(root, "examples", _refusal(file)), client, _refusal(file))
        found = {name: data[()] for name, data in _columns(group, client, features, file).items()}
    return {name: _converted(name, values, features[name], client, file) for name, values in found.items()}


def _converted(name: str, values: np.ndarray, feature: Feature, client: str, file: Path) -> np.ndarray:
    if feature.is_text:
        return text_column(values.tolist(), feature.dtype)
    try:
        return with_dtype(values, feature.dtype)
    except ValueError as error:
        raise _mismatch(file, name, client, f"{error} exactly") from error


def _found(group: Any, client: str, fail: Refusal) -> dict[str, Feature]:
    """What a client's columns hold."""
    features = {}
    for name in sorted(group):
        data = _dataset(group, name, client, fail)
        features[name] = Feature("str", ()) if data.dtype.kind == "S" else Feature(data.dtype.name, data.shape[1:])
    if not features:
        raise fail(f"no columns for client {client!r}")
    return features


def _columns(group: Any, client: str, features: dict[str, Feature], file: Path) -> dict[str, Any]:
    """The h5py datasets of a client: of the right type and small, equally long, in this file."""
    fail = _refusal(file)
    found = {name: _dataset(group, name, client, fail) for name in features}
    for name, data in found.items():
        feature = features[name]
        if feature.is_text != (data.dtype.kind == "S") or data.shape[1:] != feature.shape:
            raise _mismatch(file, name, client, f"{data.dtype} {data.shape[1:]} where {feature} is expected")
    if len({len(data) for data in found.values()}) > 1:
        raise fail(f"columns of unequal length for client {client!r}: { {name: len(data) for name, data in found.items()} }")
    size = sum(data.nbytes for data in found.values())
    if size > _MAX_CLIENT_BYTES:
        raise fail(f"{size} bytes for client {client!r}, over the bound of {_MAX_CLIENT_BYTES}")
    return found


def _dataset(group: Any, name: str, client: str, fail: Refusal) -> Any:
    import h5py

    data = _hard(group, name, fail)
    is_array = isinstance(data, h5py.Dataset) and data.ndim > 0
    if not is_array or not (is_number(data.dtype) or (data.dtype.kind == "S" and data.ndim == 1)):
        raise fail(f"{data!r} in column {name!r} of client {client!r}")
    if data.external or data.is_virtual:
        raise fail(f"column {name!r} of client {client!r}, which lies in another file")
    return data


def _hard(group: Any, name: str, fail: Refusal) -> Any:
    """A member of an HDF5 group, never through a link: that could lead into any file of the user's."""
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise fail(f"no such thing as {name!r} in {getattr(group, 'name', '/')}, or a link in its place")
    return group[name]


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(file, "r") as root:
            yield root
    except (OSError, KeyError, RuntimeError, TypeError, MemoryError) as error:  # what h5py raises for damaged files
        raise _refusal(file)(f"a file that cannot be read: {error}") from error


def _refusal(file: Path) -> Refusal:
    return refusal(file, "TFF's HDF5 file with numbers or byte strings at /examples/<CLIENT_ID>/<COLUMN>")


def _mismatch(file: Path, name: str, client: str, got: str) -> ValueError:
    return ValueError(
        f"{file} has, in column {name!r} of client {client!r}, {got}. Pass `features=` with what the columns to be read hold."
    )
