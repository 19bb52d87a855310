"""CSV by a client column.

Types are inferred from the beginning of the first file, once: a later value that does not fit is an error, so that neither the size of a
file nor the way it is cut into blocks changes what comes out. Client ids are text always: "007" stays "007".
Free to change: nothing much. With care: `_BLOCK`, the beginning from which types are inferred.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from .._federated import FederatedDataset
from ._row_pieces import Piece, Types, Wanted, wanted
from ._source_files import naming_damage, source_files, source_name
from ._tables import in_memory

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_BLOCK = 1 << 20  # bytes; a row must fit. Arrow reads up to 32 of them ahead, which `convert` has to have room for


def from_csv(
    path: str | os.PathLike[str],
    *,
    client: str,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    types: Types | None = None,
    name: str | None = None,
) -> FederatedDataset:
    """CSV files with a column that says whose a row is, read into memory; for more than that there is `convert`.

    Files are UTF-8, with a line of column names; values may be quoted, and hold line breaks then. Clients are sorted by id; the examples of
    each keep the order of the rows, files being sorted by path.

    Args:
        path: A file, plain or gzipped, or a folder of files ending in .csv, .csv.gz, .tsv or .tsv.gz.
        client: The column of client ids, always read as text. It is not among the examples' columns.
        columns: Those that make an example; None takes all others.
        delimiter: One character; None takes a tab where the name says .tsv, else a comma.
        types: Column -> Arrow type, or its name such as "float64" or "string", where the type found in the first rows is not the right one.
        name: What error messages call the data set; None takes the name of the file or folder.

    Raises:
        FileNotFoundError: There is no such file, or none in the folder.
        ValueError: A file is no CSV or cut off, a column is not there, a value does not fit the type of its column, an id is missing, or a
            value other than a floating-point number is; the message names file and column.
    """
    want = wanted(client, columns, types)
    return in_memory(csv_pieces(path, want, delimiter=delimiter), want, name=name or source_name(path))


def csv_pieces(path: str | os.PathLike[str], want: Wanted, *, delimiter: str | None = None) -> Iterator[Piece]:
    """The rows of CSV files in order, block by block; see `from_csv`."""
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii()):
        raise ValueError(f"delimiter must be one ASCII character other than a quote or line break, got {delimiter!r}.")
    types: dict[str, pa.DataType] = {}
    for file, _ in source_files(path, ENDINGS):
        between = delimiter or ("\t" if ".tsv" in file.suffixes else ",")
        # Opened twice: names must be known before the wanted columns can be asked for.
        with _explaining(file):
            names = _open(file, between).schema.names
        chosen = want.of(names, str(file))
        with _explaining(file, names):
            reader = _open(file, between, chosen, types={**types, **want.types, want.client: pa.large_string()})
        row = 0
        for batch in _batches(reader, file, names):
            if not types and batch.num_rows:
                _check_text(batch.schema, want, file)
                types = {field.name: field.type for field in batch.schema}
            yield Piece(batch, str(file), row)
            row += batch.num_rows


def _open(file: Path, delimiter: str, columns: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None) -> pa.RecordBatchReader:
    import pyarrow.csv as csv

    with file.open("rb") as handle:
        gzipped = handle.read(2) == b"\x1f\x8b"
    return csv.open_csv(
        pa.input_stream(str(file), compression="gzip" if gzipped else None),
        read_options=csv.ReadOptions(block_size=_BLOCK, use_threads=False),  # with threads errors do not say in which row
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(include_columns=list(columns), column_types=dict(types or {})),
    )


def _batches(reader: pa.RecordBatchReader, file: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    while True:
        with _explaining(file, names):
            batch = next(reader, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _explaining(file: Path, names: Sequence[str] = ()) -> Iterator[None]:
    """Names the file in what Arrow says, the column where there is one, and what to do."""
    with naming_damage(file, "CSV in UTF-8"):
        try:
            yield
        except pa.ArrowInvalid as error:
            raise _explained(error, file, names) from error


def _explained(error: pa.ArrowInvalid, file: Path, names: Sequence[str]) -> Exception:
    match = re.match(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (\S+): (.*)", str(error), re.DOTALL)
    if match:
        column, row, kind, detail = names[int(match[1])], match[2], match[3], match[4]
        where = f"row {int(row) - 2}" if row else "a later row"  # Arrow counts from 1, and the line of names
        return ValueError(
            f"Column {column!r} of {file} must be {kind}, as in the first rows or as asked for, got something else in {where}: {detail}. "
            f'Correct it, or give the type: `types={{{column!r}: "string"}}`, or "float64".'
        )
    if "straddling" in str(error):
        return ValueError(
            f"{file} must be CSV with rows of less than {_BLOCK >> 20} MiB, got a longer one. Look for a quote that is not closed, or "
            "convert the file to Parquet."
        )
    return error


def _check_text(schema: pa.Schema, want: Wanted, file: Path) -> None:
    for field in schema:
        if pa.types.is_binary(field.type) and field.name not in want.types:
            raise ValueError(
                f"Column {field.name!r} of {file} must be UTF-8, got other bytes in the first rows. Convert the file, or read the bytes as "
                f'they are: `types={{{field.name!r}: "binary"}}`.'
            )
