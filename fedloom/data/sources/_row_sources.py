"""Any source with a row per example, recognized by what it is, as a stream of rows.

Free to change: what is recognized. With care: nothing is read before the first piece is asked for, and never more than a few pieces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from .._federated import FederatedDataset
from ._arrow import arrow_pieces
from ._csv import csv_pieces
from ._parquet import parquet_pieces
from ._recognize import file_kind, folder_kind
from ._row_pieces import Piece, Wanted, numbered
from ._source_files import source_name
from ._sql_rows import sql_pieces
from ._tables import is_table, table_batches, table_pieces


def row_source(source: Any, want: Wanted, *, table: str | None, delimiter: str | None) -> tuple[Iterator[Piece], str]:
    """The rows of a source, and its name.

    Args:
        source: A path of CSV, Parquet, Arrow IPC or SQLite; a table as `from_table` takes it; or an iterable of such tables.
        want: What is read of it.
        table: Of an SQLite database.
        delimiter: Of CSV.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: The file is none of these, or `table` or `delimiter` do not belong to it.
        TypeError: It is no such thing.
    """
    if isinstance(source, FederatedDataset):
        raise TypeError("source must have a row per example, got a FederatedDataset, which is by client already. Call its save(path).")
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        kind, name = _kind(path), source_name(path)
    else:
        path, kind, name = Path(), "table", "table"
    for argument, value, belongs in (("table", table, "sqlite"), ("delimiter", delimiter, "csv")):
        if value is not None and kind != belongs:
            raise ValueError(f"{argument} must be left out for a source of this kind ({kind}), got {value!r}.")
    if kind == "csv":
        return csv_pieces(path, want, delimiter=delimiter), name
    if kind == "parquet":
        return parquet_pieces(path, want), name
    if kind == "sqlite":
        return sql_pieces(path, table, want), f"{name} {table}"
    if kind == "arrow":
        return arrow_pieces(path, want), name
    is_stream = isinstance(source, Iterator) and not hasattr(source, "__arrow_c_stream__")  # such as pandas' reader of chunks
    if is_table(source) and not is_stream:
        return table_pieces(source, want, name), name
    if isinstance(source, Iterable) and not isinstance(source, Mapping):
        return numbered(_batches_of_many(source, want), "the tables"), name
    raise TypeError(
        "source must be a path, a table or an iterable of tables such as pyarrow record batches, got "
        f"{type(source).__name__}. For arrays there is fl.data.from_arrays."
    )


def _kind(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"source must be a file or a folder, got {path}, where there is nothing. Give the right path.")
    kind = folder_kind(path) if path.is_dir() else file_kind(path)
    if kind not in ("arrow", "csv", "parquet", "sqlite"):
        raise ValueError(
            f"{path} must be CSV, Parquet or Arrow files, or an SQLite database with a row per example, got another kind ({kind}). What is "
            "by client already opens with fl.data.load, and its `save` keeps it."
        )
    return kind


def _batches_of_many(tables: Iterable[Any], want: Wanted) -> Iterator[pa.RecordBatch]:
    for table in tables:
        yield from table_batches(table, want, "the tables")
