"""Opens what a StoreWriter wrote: the form on disk is described in `_layout.py`.

Free to change: what is kept between look-ups. With care: that nothing of a file is believed before it is checked.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from .._clients import ClientTable
from .._columns import examples_of
from .._federated import Examples, FederatedDataset
from ._layout import CLIENT_FIELDS, CLIENTS, EXAMPLES, FORMAT, MANIFEST, VERSION


def is_store(path: Path) -> bool:
    """Whether a folder is in this form, or was meant to be."""
    return (path / MANIFEST).is_file()


def open_store(path: str | os.PathLike[str], *, name: str | None = None) -> FederatedDataset:
    """The data set that `dataset.save(path)` wrote; nothing is read but its index, and that only where it is asked.

    Raises:
        FileNotFoundError: There is no such folder, or a file of it is missing.
        ValueError: It is in another form, of a later version, or damaged.
    """
    store = _Store(Path(path))
    return FederatedDataset(store.clients, store, name=name or store.manifest.get("name") or store.path.name)


class _Store:
    """Reads a client at a time. Pickles as its path: another process maps the files itself."""

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.manifest = _manifest(self.path)
        self._last: tuple[int, pa.RecordBatch] | None = None
        self.clients  # what is damaged shows when a store is opened  # noqa: B018

    def __getstate__(self):
        return {"path": self.path, "manifest": self.manifest, "_last": None}

    def __call__(self, client_id: str) -> Examples:
        position = self.clients.position(client_id)
        assert position is not None, client_id  # a data set asks for its own clients only
        rows = self._rows(client_id, *(int(self._index[name][position]) for name in ("size", "batch", "start")))
        return examples_of(rows, client=client_id)

    def _rows(self, client_id: str, size: int, number: int, start: int) -> pa.RecordBatch:
        schema = self._examples.schema
        if size == 0:
            return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
        try:
            batch = self._batch(number)
            if start + size > batch.num_rows:
                raise self._damaged(f"rows {start} to {start + size} for client {client_id!r} in a record batch of {batch.num_rows}")
            rows = batch.slice(start, size)
            rows.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"examples of client {client_id!r} that cannot be read: {error}") from error
        return rows

    def _batch(self, number: int) -> pa.RecordBatch:
        # Whoever goes over all clients in order finds hundreds of them in one batch. One assignment: threads may do this at once.
        last = self._last
        if last is None or last[0] != number:
            self._last = last = number, self._examples.get_batch(number)
        return last[1]

    @cached_property
    def clients(self) -> ClientTable:
        """Ids and sizes."""
        return ClientTable(self._id_array, self._index["size"], self._index["by_id"])

    @cached_property
    def _index(self) -> dict[str, np.ndarray]:
        """The columns of numbers of `clients.arrow`, within their bounds."""
        table, count = self._client_rows, self.manifest["num_clients"]
        columns = {name: table.column(name).to_numpy() for name in CLIENT_FIELDS if name != "id"}
        bounds = {"size": None, "start": None, "batch": self._examples.num_record_batches + 1, "by_id": count}
        for name, bound in bounds.items():
            if columns[name].min() < 0 or (bound is not None and columns[name].max() >= bound):
                raise self._damaged(f"a {name} out of range in {CLIENTS}")
        return columns

    @cached_property
    def _id_array(self) -> pa.Array:
        return self._client_rows.column("id")

    @cached_property
    def _client_rows(self) -> pa.RecordBatch:
        file = self._open(CLIENTS)
        try:
            rows = file.get_batch(0)
            rows.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"{CLIENTS} that cannot be read: {error}") from error
        found = {field.name: field.type for field in rows.schema}
        nulls = any(column.null_count for column in rows.columns)
        if found != CLIENT_FIELDS or not 0 < rows.num_rows == self.manifest["num_clients"] or nulls:
            raise self._damaged(f"{CLIENTS} with {rows.num_rows} rows of {rows.schema.names}")
        return rows

    @cached_property
    def _examples(self) -> pa.RecordBatchFileReader:
        return self._open(EXAMPLES)

    def _open(self, name: str) -> pa.RecordBatchFileReader:
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(f"{self.path} must hold {name}, which is missing. Copy the whole folder, or save the data set anew.")
        if file.stat().st_size != self.manifest["bytes"][name]:
            raise self._damaged(f"{name} of {file.stat().st_size} bytes instead of {self.manifest['bytes'][name]}")
        try:
            return pa.ipc.open_file(pa.memory_map(str(file)))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"{name} that cannot be read: {error}") from error

    def _damaged(self, got: str) -> ValueError:
        return _not_a_store(self.path, got)


def _manifest(path: Path) -> dict:
    if not path.is_dir():
        raise FileNotFoundError(f"path must be a folder that `dataset.save` wrote; there is no folder {path}.")
    if not is_store(path):
        raise FileNotFoundError(f"path must be a folder that `dataset.save` wrote, got {path} without {MANIFEST}.")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise _not_a_store(path, f"{MANIFEST} of another kind")
        if manifest["version"] != VERSION:
            raise _not_a_store(path, f"version {manifest['version']} where this fedloom reads {VERSION}; a newer one may be needed")
        if not isinstance(manifest["num_clients"], int) or any(
            not isinstance(manifest["bytes"][name], int) for name in (CLIENTS, EXAMPLES)
        ):
            raise _not_a_store(path, f"{MANIFEST} with other entries")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
        raise _not_a_store(path, f"{MANIFEST} that cannot be read: {error!r}") from error
    return manifest


def _not_a_store(path: Path, got: str) -> ValueError:
    return ValueError(f"{path} must be a data set as `dataset.save` writes it, got {got}. Save it anew, or get a whole copy.")
