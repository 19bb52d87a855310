"""convert: rows in any order -> fedloom's own form on disk, in bounded memory.

Rows are read once and scattered over files by a hash of their client's id, so that a client's rows lie in one file, in their order; then
every file is brought into the order of its clients and appended to the result. A file too large for that is scattered again.
Free to change: the shares of memory. With care: both the scattering and the grouping must be stable, and what lies at the target must be
whole, or nothing.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..._files import explaining_full_disk
from .._federated import FederatedDataset
from ..sources._grouping import group, grouped_rows
from ..sources._row_pieces import Piece, Types, Wanted, split_pieces, wanted
from ..sources._row_sources import row_source
from ._reader import open_store
from ._writer import StoreWriter

_LEAST_MEMORY = 1 << 20
_SHARE = 8  # of the memory is one load of rows; it is copied twice while it is sorted, and allocators keep some of what they had
_BITS = 7  # of a client's checksum that tell its file
_FILES = 1 << _BITS  # that are open at once
_LEVELS = 32 // _BITS  # of scattering again
_IDS_AT_ONCE = 1 << 16  # turned into Python strings
_IDS = "client id"  # its column is known by its place, the first


def convert(
    source: Any,
    path: str | os.PathLike[str],
    *,
    client: str,
    columns: Sequence[str] | None = None,
    types: Types | None = None,
    table: str | None = None,
    delimiter: str | None = None,
    memory: int = 256 << 20,
    name: str | None = None,
) -> FederatedDataset:
    """Rows that need not fit in memory, by a client column, as a data set on disk.

    Clients are sorted by id; the examples of each keep the order of the rows, whatever order the clients' rows are in. What is read equals
    what `from_csv`, `from_parquet` and `from_table` return. The rows lie in a temporary folder beside `path` meanwhile, so the disk needs
    room for them twice; a process that is killed may leave that folder, whose name begins with a dot.

    Args:
        source: A file or folder of CSV or Parquet, an Arrow IPC file, an SQLite database; a table as `from_table` takes it; or an iterable
            of such tables, for example a generator of pyarrow record batches or of pandas data frames.
        path: A folder that does not exist yet. It appears when all is written, never before.
        client: The column of client ids: text, or whole numbers, which become their `str`. It is not among the examples' columns.
        columns: Those that make an example; None takes all others.
        types: Column -> Arrow type, or its name such as "float64" or "string", where the type found in the first rows is not the right one.
        table: The table of an SQLite database.
        delimiter: Of CSV, one character; None takes a tab where the name says .tsv, else a comma.
        memory: In bytes, at least 1 MiB: what rows may take while they are sorted. Besides there are the blocks in which the source is
            read, and 40 bytes per client. A single client must fit.
        name: What error messages call the data set; None takes the source's name.

    Returns:
        The data set, opened from `path`.

    Raises:
        FileExistsError: There is something at `path`.
        FileNotFoundError: There is no such source.
        ValueError: The source is damaged, a column is not there, a value does not fit the type of its column, an id is missing, or a value
            other than a floating-point number is; the message names file, column, rows and client.
        TypeError: `source` is nothing of the kind.
        OSError: The disk is full.

    Example:
        >>> batches = (pa.record_batch({"user": ["bob", "ada"], "x": [i, 10 * i]}) for i in range(3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     convert(batches, Path(folder, "pets"), client="user")["ada"]["x"].tolist()
        [0, 10, 20]
    """
    if memory < _LEAST_MEMORY:
        raise ValueError(f"memory must be at least {_LEAST_MEMORY} bytes, got {memory}. 256 MiB are 256 * 2**20.")
    want = wanted(client, columns, types)
    pieces, found_name = row_source(source, want, table=table, delimiter=delimiter)
    regroup(pieces, want, Path(path), memory // _SHARE, name=name or found_name)
    return open_store(path)


def regroup(pieces: Iterable[Piece], want: Wanted, path: Path, load: int, *, name: str) -> None:
    """Writes the rows of a source to `path`, by client, holding about `load` bytes of them at a time, and their copies."""
    with (
        explaining_full_disk(path),
        StoreWriter(path, name=name, sort=True) as writer,
        tempfile.TemporaryDirectory(prefix=f".{writer.path.name}.", suffix=".rows", dir=writer.path.parent) as folder,
    ):
        _write(_with_ids(split_pieces(pieces, want, name)), writer, Path(folder), load, level=0)


def _with_ids(parts: Iterable[tuple[pa.Array, pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Ids and examples in one batch, the ids first."""
    for ids, examples in parts:
        yield pa.RecordBatch.from_arrays([ids, *examples.columns], names=[_IDS, *examples.schema.names])


def _write(batches: Iterable[pa.RecordBatch], writer: StoreWriter, folder: Path, load: int, level: int) -> None:
    """Writes all rows of these clients: at once if they are one load, else by files of fewer clients."""
    held: list[pa.RecordBatch] = []
    size = 0
    with _Scattered(folder, level) as scattered:
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size >= load and level < _LEVELS:
                scattered.add(held)
                held, size = [], 0
        if not scattered.files:
            _write_load(held, writer)
            return
        scattered.add(held)
        held = []
    for file in scattered.files.values():
        one = file.stat().st_size > load and _is_one_client(file)  # that cannot be divided
        _write(_read(file), writer, folder, load, _LEVELS if one else level + 1)
        file.unlink()


def _write_load(held: list[pa.RecordBatch], writer: StoreWriter) -> None:
    table = pa.Table.from_batches(held)
    groups = group(table.column(0))
    rows = grouped_rows(table.select(range(1, table.num_columns)), groups.order)
    writer.add_table(pa.Table.from_batches([rows]), groups.ids, groups.sizes)


class _Scattered:
    """Rows in files by a hash of the client id; a file holds whole clients, each one's rows in order."""

    def __init__(self, folder: Path, level: int):
        self._folder, self._level = folder, level
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._open = ExitStack()
        self.files: dict[int, Path] = {}  # complete when the block has ended

    def __enter__(self) -> _Scattered:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, batches: list[pa.RecordBatch]) -> None:
        """Adds rows that come after all those added before."""
        if not batches:
            return
        table = pa.Table.from_batches(batches)
        numbers = self._file_numbers(table.column(0))
        counts = np.bincount(numbers, minlength=_FILES)
        rows = grouped_rows(table, np.argsort(numbers, kind="stable"))
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts).tolist():
            self._writer(number, table.schema).write_batch(rows.slice(int(ends[number] - counts[number]), int(counts[number])))

    def _file_numbers(self, ids: pa.ChunkedArray) -> np.ndarray:
        encoded = ids.combine_chunks().dictionary_encode()
        clients = encoded.dictionary
        checksums = np.empty(len(clients), np.uint32)
        for start in range(0, len(clients), _IDS_AT_ONCE):
            part = clients[start : start + _IDS_AT_ONCE].to_pylist()
            checksums[start : start + len(part)] = [zlib.crc32(client.encode()) for client in part]
        # Other bits at each level. Whoever chooses ids with equal checksums makes this take more memory, not go wrong.
        numbers = (checksums >> (self._level * _BITS) & (_FILES - 1)).astype(np.uint8)
        return numbers[encoded.indices.to_numpy()]

    def _writer(self, number: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if number not in self.files:
            self.files[number] = self._folder / f"{self._level}-{number}.arrows"
            sink = self._open.enter_context(pa.OSFile(str(self.files[number]), "wb"))
            self._writers[number] = self._open.enter_context(pa.ipc.new_stream(sink, schema))
        return self._writers[number]


def _read(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as source:
        yield from pa.ipc.open_stream(source)


def _is_one_client(file: Path) -> bool:
    first = None
    for batch in _read(file):
        ids = batch.column(0)
        first = first or ids[0]
        if ids.unique().to_pylist() != [first.as_py()]:
            return False
    return True
