"""Writes fedloom's own form on disk, which is described in `_layout.py`.

Free to change: how many rows make a record batch. With care: nothing may lie at the target before all of it is written.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..._files import explaining_full_disk
from .._arrow_types import rows_without_value, to_type
from .._clients import ClientTable, id_strings
from .._columns import stored_field, to_arrow, to_field
from .._federated import Examples, num_examples
from ._layout import CLIENT_FIELDS, CLIENTS, EXAMPLES, FORMAT, MANIFEST, VERSION

# More only for a single client. Small, since who reads one client has its whole record batch read from the disk.
_ROWS_PER_BATCH = 1 << 11
_BYTES_PER_BATCH = 1 << 18
_CLIENTS_AT_ONCE = 1 << 16


class StoreWriter:
    """Writes a data set in fedloom's own form, client by client; nothing is at `path` until the block ends without an error.

    Memory: the clients of one record batch, and about 40 bytes per client written.

    Args:
        path: The folder to make. It must not exist, unless it is empty.
        name: What error messages will call the data set; None takes the folder's name.
        sort: Whether clients are put in the order of their ids; otherwise they stay in the order in which they come.

    Raises:
        FileExistsError: There is something at `path`.
        ValueError: A client's columns differ from those of the clients before it, or an id comes twice.
        OSError: The disk is full.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "pets"
        >>> with StoreWriter(folder) as writer:
        ...     writer.add("ada", {"x": np.arange(3)})
        >>> from fedloom.data import load
        >>> load(folder)["ada"]["x"]
        array([0, 1, 2])
    """

    def __init__(self, path: str | os.PathLike[str], *, name: str | None = None, sort: bool = False):
        self.path, self._name, self._sort = Path(path).expanduser().absolute(), name, sort
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise FileExistsError(f"{self.path} must not exist yet, got something that does. Remove it, or name another folder.")
        self._folder = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.unfinished")
        self._schema: pa.Schema | None = None
        self._blank: Mapping[str, np.ndarray] | None = None  # the columns of a client without examples, in case all are
        self._sink: Any = None  # of examples, opened with the first of them
        self._file: Any = None  # what is written to it
        self._waiting: list[Mapping[str, np.ndarray]] = []
        self._rows = self._bytes = self._batches = 0
        self._ids: list[str] = []
        self._sizes: list[int] = []
        self._starts: list[int] = []
        self._index: list[tuple[pa.Array, np.ndarray, np.ndarray, np.ndarray]] = []  # ids, sizes, batches, starts

    def __enter__(self) -> StoreWriter:
        self._folder.mkdir(parents=True)
        return self

    def add(self, client_id: str, columns: Examples) -> None:
        """Adds a whole client.

        Raises:
            ValueError: Its columns are not equally long, cannot be stored, or differ from those of the clients before it.
            TypeError: The id is not a string.
        """
        if not isinstance(client_id, str):
            raise TypeError(f"client_id must be a string, got {client_id!r} of type {type(client_id).__name__}. Use str(id).")
        # Copies: what waits here must not change when the caller fills its arrays anew.
        arrays = {name: np.array(column) for name, column in columns.items()}
        size = num_examples(arrays, client=client_id)
        if size:
            self._check(client_id, arrays)
            self._waiting.append(arrays)
        elif self._blank is None:
            self._blank = arrays
        self._ids.append(client_id)
        self._sizes.append(size)
        self._starts.append(self._rows)
        self._rows += size
        self._bytes += sum(column.nbytes for column in arrays.values())
        if self._rows >= _ROWS_PER_BATCH or self._bytes >= _BYTES_PER_BATCH or len(self._ids) >= _CLIENTS_AT_ONCE:
            self._flush()

    def add_table(self, table: pa.Table, ids: Sequence[str] | pa.Array, sizes: np.ndarray) -> None:
        """Adds many whole clients at once: the first `sizes[0]` rows are those of `ids[0]`, and so on.

        Raises:
            ValueError: The sizes do not add up to the rows, or the columns differ from those before.
        """
        self._flush()
        sizes = np.asarray(sizes, np.int64)
        if len(ids) != len(sizes) or (sizes < 0).any() or int(sizes.sum()) != table.num_rows:
            raise ValueError(
                f"sizes must give each of the {len(ids)} ids its share of the {table.num_rows} rows, got {sizes.sum()} in all."
            )
        ids = id_strings(ids)
        table = self._cast(table, ids)
        ends = np.cumsum(sizes)
        most = max(1, min(_ROWS_PER_BATCH, _BYTES_PER_BATCH * table.num_rows // max(1, table.nbytes)))
        first = row = 0
        while first < len(ids):
            last = max(first + 1, int(np.searchsorted(ends, row + most, "right")))  # whole clients, at least one
            end = int(ends[last - 1])
            starts = ends[first:last] - sizes[first:last] - row
            self._write(table.slice(row, end - row), ids[first:last], sizes[first:last], starts)
            first, row = last, end

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                with explaining_full_disk(self.path):
                    self._finish()
        finally:
            for opened in (self._file, self._sink):
                with suppress(pa.ArrowException, OSError, AttributeError):  # the error that led here is the one to show
                    opened.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, client_id: str, arrays: Mapping[str, np.ndarray]) -> None:
        if self._schema is None:
            self._schema = pa.schema([to_field(name, column, client=client_id) for name, column in arrays.items()])
            return
        if arrays.keys() != set(self._schema.names):
            raise ValueError(
                f"Client {client_id!r} has columns {sorted(arrays)}, those before it {sorted(self._schema.names)}; all must have the same. "
                "Make them with `dataset.map`."
            )
        for name, column in arrays.items():
            got, want = to_field(name, column, client=client_id), self._schema.field(name)
            if not got.equals(want, check_metadata=True):
                raise ValueError(
                    f"Column {name!r} of client {client_id!r} is {column.dtype} of shape {column.shape} ({got.type}), those before it "
                    f"{want.type}; all must have the same type and shape of an example. Convert it with `dataset.map`."
                )

    def _cast(self, table: pa.Table, ids: pa.Array) -> pa.Table:
        """The table with the types of the store."""
        client = ids[0].as_py() if len(ids) else ""
        if self._schema is None:
            self._schema = pa.schema([stored_field(field) for field in table.schema])
        schema: Any = self._schema
        try:
            columns = [
                pa.chunked_array([to_type(part, field.type) for part in table.column(field.name).chunks], field.type) for field in schema
            ]
            if len(schema) != table.num_columns:
                raise KeyError(f"{table.num_columns} columns instead of {len(schema)}")
            cast = pa.Table.from_arrays(columns, schema=schema)
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise ValueError(
                f"The rows of client {client!r} and those after it have the columns {table.schema.names} of {table.schema.types}, which do "
                f"not fit those before, {schema.names} of {schema.types}: {error}. Convert them first."
            ) from error
        for name in cast.column_names:
            if missing := sum(int(rows_without_value(part).sum()) for part in cast.column(name).chunks):
                raise ValueError(f"Column {name!r} must have a value in every row, got {missing} rows without. Fill them.")
        return cast

    def _flush(self) -> None:
        """Writes the clients that wait, as one record batch."""
        if not self._ids:
            return
        columns: list[pa.Array] = []
        if self._waiting:
            assert self._schema is not None
            for field in self._schema:
                parts = [arrays[field.name] for arrays in self._waiting]
                columns.append(to_arrow(np.concatenate(parts) if len(parts) > 1 else parts[0], field, client=self._ids[-1]))
        table = pa.table(columns, schema=self._schema) if columns else None
        self._write(table, id_strings(self._ids), np.array(self._sizes, np.int64), np.array(self._starts, np.int64))
        self._waiting, self._ids, self._sizes, self._starts = [], [], [], []
        self._rows = self._bytes = 0

    def _write(self, table: pa.Table | None, ids: pa.Array, sizes: np.ndarray, starts: np.ndarray) -> None:
        self._index.append((ids, sizes, np.full(len(ids), self._batches), starts))
        if table is None or not table.num_rows:
            return
        with explaining_full_disk(self.path):
            self._open()
            self._file.write_batch(table.combine_chunks().to_batches()[0])
        self._batches += 1

    def _open(self) -> None:
        if self._file is None:
            # A file of our own making: if writing its end fails, Arrow would hold it open, and with it the disk.
            self._sink = pa.OSFile(str(self._folder / EXAMPLES), "wb")
            self._file = pa.ipc.new_file(self._sink, self._schema)

    def _finish(self) -> None:
        self._flush()
        if not self._index:
            raise ValueError(f"A data set must have at least one client to be saved, got none for {self.path}.")
        if self._schema is None:  # nobody has any examples
            self._schema = pa.schema([to_field(name, column, client="") for name, column in (self._blank or {}).items()])
        self._open()
        self._file.close()
        self._sink.close()
        num_clients, num_rows = self._write_index()
        sizes = {name: (self._folder / name).stat().st_size for name in (CLIENTS, EXAMPLES)}
        counts = {"num_clients": num_clients, "num_examples": num_rows}
        manifest = {"format": FORMAT, "version": VERSION, "name": self._name or self.path.name, **counts, "bytes": sizes}
        (self._folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for name in (MANIFEST, CLIENTS, EXAMPLES):
            _to_disk(self._folder / name)
        if self.path.exists():  # empty, as at the beginning; a folder that is not is an error here
            self.path.rmdir()
        os.replace(self._folder, self.path)

    def _write_index(self) -> tuple[int, int]:
        ids = pa.concat_arrays([part[0] for part in self._index])
        sizes, batches, starts = (np.concatenate([part[i] for part in self._index]) for i in (1, 2, 3))
        clients = ClientTable.from_arrays(ids, sizes)
        by_id = np.arange(len(ids)) if clients.by_id is None else clients.by_id
        if self._sort and clients.by_id is not None:
            ids = ids.take(pa.array(by_id))
            sizes, batches, starts = sizes[by_id], batches[by_id], starts[by_id]
            by_id = np.arange(len(ids))
        schema = pa.schema(CLIENT_FIELDS.items())
        columns = [pa.array(column, schema.field(i).type) for i, column in enumerate((ids, sizes, batches, starts, by_id))]
        with pa.ipc.new_file(str(self._folder / CLIENTS), schema) as file:
            file.write_batch(pa.record_batch(columns, schema=schema))
        return len(ids), int(sizes.sum())


def _to_disk(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
