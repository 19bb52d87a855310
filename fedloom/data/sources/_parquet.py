"""Parquet by a client column, which may be in the files or in the names of their folders.

Free to change: how much is read at once. With care: values in names of folders are text, so that `client=007` stays "007".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from .._federated import FederatedDataset
from ._row_pieces import Piece, Types, Wanted, rows_that_fit, wanted
from ._source_files import naming_damage, source_files, source_name
from ._tables import in_memory

ENDINGS = (".parquet", ".pq")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive and pyarrow write for null
_PROBE = 256  # rows that say how large rows are


def from_parquet(
    path: str | os.PathLike[str], *, client: str, columns: Sequence[str] | None = None, types: Types | None = None, name: str | None = None
) -> FederatedDataset:
    """Parquet files with a column that says whose a row is, read into memory; for more than that there is `convert`.

    Clients are sorted by id; the examples of each keep the order of the rows, files being sorted by path. What becomes of types is said at
    `from_table`.

    Args:
        path: A file; a folder of files ending in .parquet or .pq; or one partitioned as Hive does it, with folders such as `client=007`.
        client: The column of client ids, which may be one of partition: then ids are text as it stands there, `%2F` being a slash.
        columns: Those that make an example; None takes all others. Columns of partition are integers if all are written so, else
            text; where the files have them too, those of the files count.
        types: Column -> Arrow type, or its name such as "float64" or "string", to which it is converted.
        name: What error messages call the data set; None takes the name of the file or folder.

    Raises:
        FileNotFoundError: There is no such file, or none in the folder.
        ValueError: A file is no Parquet or damaged, a column is not there, differs in type between files, or has a type that NumPy has not,
            an id is missing, or a value other than a floating-point number is; the message names file and column.
    """
    want = wanted(client, columns, types)
    return in_memory(parquet_pieces(path, want), want, name=name or source_name(path))


def parquet_pieces(path: str | os.PathLike[str], want: Wanted) -> Iterator[Piece]:
    """The rows of Parquet files in order, some at a time; see `from_parquet`."""
    import pyarrow.parquet as parquet

    files = [(file, _partition(file, folders)) for file, folders in source_files(path, ENDINGS)]
    kinds = _partition_types([keys for _, keys in files], want.client)
    for file, keys in files:
        with naming_damage(file, "Parquet"), parquet.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True) as source:
            known = source.schema_arrow.names
            keys = {key: value for key, value in keys.items() if key not in known}  # polars writes them into the files as well
            chosen = want.of([*known, *keys], str(file))
            row = 0
            # A column at least, for what a file says of its number of rows may be anything.
            for batch in _batches(source, [column for column in chosen if column not in keys] or known[:1]):
                constants = {key: _constant(keys[key], kinds[key], batch.num_rows) for key in keys if key in chosen}
                arrays = [constants[column] if column in constants else batch.column(column) for column in chosen]
                yield Piece(pa.RecordBatch.from_arrays(arrays, names=chosen), str(file), row)
                row += batch.num_rows


def _batches(source: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """A file's rows in batches of moderate size, as far as the rows before tell."""
    fit = rows = _PROBE
    for group in range(source.metadata.num_row_groups):
        size = source.metadata.row_group(group).num_rows
        if group == 0 and size > _PROBE:
            probe = next(source.iter_batches(_PROBE, row_groups=[group], columns=columns, use_threads=False), None)
            rows = rows_that_fit(probe) if probe else rows
        for batch in source.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
            batch.validate(full=True)  # text that is not UTF-8, for one, would come up much later
            yield batch
            fit = rows_that_fit(batch)
        rows = fit


def _partition(file: Path, folders: Sequence[str]) -> dict[str, str | None]:
    """The columns that the names of folders give, such as `client=007`."""
    keys: dict[str, str | None] = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if not equals:
            continue
        try:
            key, value = unquote(key, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise ValueError(f"The folder {folder!r} of {file} must be UTF-8 where it has % signs, got other bytes. Rename it.") from error
        if key in keys:
            raise ValueError(f"The folders of {file} must give each column once, got {key!r} twice. Rename one.")
        keys[key] = None if value == _NO_VALUE else value
    return keys


def _partition_types(partitions: Sequence[Mapping[str, str | None]], client: str) -> dict[str, pa.DataType]:
    values: dict[str, set[str | None]] = {}
    for keys in partitions:
        for key, value in keys.items():
            values.setdefault(key, set()).add(value)
    return {key: pa.int64() if key != client and all(map(_is_int64, found)) else pa.large_string() for key, found in values.items()}


def _is_int64(text: str | None) -> bool:
    """Whether a text is how Python writes a whole number: "7" but not "007"."""
    if text is None or not text.isascii() or len(text) > 20:
        return False
    try:
        return str(int(text)) == text and -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


def _constant(value: str | None, kind: pa.DataType, count: int) -> pa.Array:
    if value is None:
        return pa.nulls(count, kind)
    return pa.repeat(pa.scalar(int(value) if pa.types.is_integer(kind) else value, kind), count)
