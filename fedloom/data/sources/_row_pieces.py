"""Rows as a source hands them over, piece by piece; and the client ids and the examples in them.

Free to change: the wording. With care: types are decided once, by the first rows, and never differ between pieces.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from .._arrow_types import is_text, numpy_type, rows_without_value, to_type
from ._client_ids import text_ids

Types = Mapping[str, "pa.DataType | str"]
"""Column -> the Arrow type that it is to have, or its name, such as "float64" or "string"."""


_PIECE_BYTES = 4 << 20
_MOST_ROWS = 1 << 16


class Piece(NamedTuple):
    """Some rows of a source."""

    rows: pa.RecordBatch  # the client column and those that make an example
    source: str  # what error messages call it: a file, or the name of a table
    first_row: int  # the number in `source` of the first of these rows, from 0


class Split(NamedTuple):
    """Some rows, with client ids and examples apart."""

    ids: pa.Array  # large strings (n,), none missing
    examples: pa.RecordBatch  # n rows; its schema is the same in all pieces


class Wanted(NamedTuple):
    """What is to be read of a source; made by `wanted`, which checks it."""

    client: str  # the column that says whose a row is
    columns: tuple[str, ...] | None  # those that make an example; None: all others
    types: Mapping[str, pa.DataType]  # of columns that are to be converted

    def of(self, known: Sequence[str], source: str) -> list[str]:
        """The columns to read from a source that has the columns `known`: the client column, then those that make an example.

        Raises:
            ValueError: One is not there, or there are two of a name; the message lists what there is.
        """
        listed = ", ".join(map(repr, known)) or "none"
        asked = {"client": [self.client], "columns": self.columns or (), "types": self.types}
        for argument, names in asked.items():
            for name in names:
                if name not in known:
                    near = difflib.get_close_matches(str(name), known, n=3)
                    hint = f" Is it {' or '.join(map(repr, near))}?" if near else ""
                    raise ValueError(f"{argument} must name a column of {source}, got {name!r}.{hint} There are {listed}.")
        chosen = [self.client, *([name for name in known if name != self.client] if self.columns is None else self.columns)]
        for name in chosen:
            if known.count(name) > 1:
                raise ValueError(f"Columns must have distinct names, got {name!r} twice in {source}. Rename one.")
        if len(chosen) == 1:
            raise ValueError(f"{source} must have a column besides the client column {self.client!r}, or there are no examples. Add one.")
        return chosen


def wanted(client: str, columns: Sequence[str] | None, types: Types | None = None) -> Wanted:
    """The arguments of a reader, checked as far as they can be without the source.

    Raises:
        ValueError: The client column is among `columns` or `types`, a column is named twice, or a type is unknown.
        TypeError: `columns` is a single string.
    """
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names, got the string {columns!r}. Write [{columns!r}].")
    if columns is not None and (not columns or len(set(columns)) < len(columns)):
        raise ValueError(f"columns must name one column or more, each once, got {list(columns)}.")
    if client in (columns or ()):
        raise ValueError(f"columns must not hold the client column {client!r}, whose values become the client ids. Leave it out.")
    if client in (types or {}):
        raise ValueError(f"types must not give a type to the client column {client!r}, which is read as text. Leave it out.")
    found = {}
    for name, kind in (types or {}).items():
        try:
            found[name] = pa.type_for_alias(kind) if isinstance(kind, str) else kind
        except ValueError:
            found[name] = None
        if not isinstance(found[name], pa.DataType):
            raise ValueError(f'types must give an Arrow type such as "float64" or "string" to column {name!r}, got {kind!r}.')
        if columns is not None and name not in columns:
            raise ValueError(f"types must be of columns that are read, got {name!r}, which is not among {list(columns)}. Leave it out.")
    return Wanted(client, None if columns is None else tuple(columns), found)


def numbered(batches: Iterable[pa.RecordBatch], source: str) -> Iterator[Piece]:
    """The batches of one source as pieces."""
    row = 0
    for batch in batches:
        yield Piece(batch, source, row)
        row += batch.num_rows


def rows_that_fit(batch: pa.RecordBatch) -> int:
    """How many rows a piece may have to stay at a moderate size, if they are like those of `batch`, which has some."""
    return max(1, min(_MOST_ROWS, _PIECE_BYTES * batch.num_rows // max(1, batch.nbytes)))


def split_pieces(pieces: Iterable[Piece], want: Wanted, name: str) -> Iterator[Split]:
    """Takes ids and examples apart, and brings the examples into types that a data set keeps.

    Args:
        pieces: As `want` asks for; one without rows says nothing about types.
        want: Names the client column, and gives types.
        name: Of the whole, for error messages.

    Raises:
        ValueError: An id or a value is missing, or a type is none of NumPy's or not that of the first rows, or there is no row.
    """
    first: Piece | None = None
    fixed: dict[str, pa.DataType] = {}
    for piece in pieces:
        if not piece.rows.num_rows:
            continue
        first = first or piece
        _check_names(piece, first)
        ids = text_ids(_client_column(piece, first, want.client), column=want.client, source=piece.source, first_row=piece.first_row)
        names = [name for name in first.rows.schema.names if name != want.client]
        columns = []
        for name in names:
            column = _converted(name, piece, want.types.get(name), fixed.get(name))
            fixed[name] = column.type
            _check_complete(name, column, ids, piece)
            columns.append(column)
        yield Split(ids, pa.RecordBatch.from_arrays(columns, names=names))
    if first is None:
        raise ValueError(f"There must be a row at least to make a client from, got none in {name}. Look at what it holds.")


def _client_column(piece: Piece, first: Piece, client: str) -> pa.Array:
    column, before = piece.rows.column(client), first.rows.column(client).type
    if not kinds.is_null(column.type) and _is_text(column.type) != _is_text(before):
        raise ValueError(
            f"Client ids must all be text, or all be whole numbers, got {column.type} in the client column {client!r} of {piece.source} "
            f"from row {piece.first_row} on, and {before} in {first.source}. Convert the column to text."
        )
    return column


def _converted(name: str, piece: Piece, asked: pa.DataType | None, fixed: pa.DataType | None) -> pa.Array:
    """A column in the type that was asked for, or that it had before, or else that keeps its values."""
    column = piece.rows.column(name)
    kind = asked or (fixed if fixed is not None and kinds.is_null(column.type) else column.type)
    target = numpy_type(kind)
    remedy = f'say with `types={{{name!r}: "float64"}}` or "string"'
    if target is None:
        got = "no value at all" if kinds.is_null(kind) else f"the Arrow type {kind}"
        raise ValueError(
            f"Column {name!r} of {piece.source} must hold numbers, times, text, bytes or lists of these, got {got} in its first rows. "
            f"Convert it, {remedy}, or leave it out with `columns=`."
        )
    if fixed is not None and target != fixed:
        raise ValueError(
            f"Column {name!r} of {piece.source} must be {fixed}, as in the rows before, got {kind} from row {piece.first_row} on. "
            f"Give all rows one type, {remedy}."
        )
    try:
        return to_type(column if asked is None else to_type(column, asked), target)
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(
            f"Column {name!r} of {piece.source} must be {kind}, got something else in the rows {_span(piece)}: {error}. Correct it, or "
            f"give another type, {remedy}."
        ) from error


def _check_complete(name: str, column: pa.Array, ids: pa.Array, piece: Piece) -> None:
    missing = rows_without_value(column)
    if missing.any():
        row = int(np.argmax(missing))
        nan = f', let them be NaN with `types={{{name!r}: "float64"}}`' if kinds.is_integer(column.type) else ""
        raise ValueError(
            f"Column {name!r} of {piece.source} must have a value in every row, got {missing.sum()} without in the rows {_span(piece)}, "
            f"first row {piece.first_row + row}, of client {ids[row].as_py()!r}. Fill them in, drop these rows{nan}, or leave the column "
            "out with `columns=`."
        )


def _check_names(piece: Piece, first: Piece) -> None:
    got, want = set(piece.rows.schema.names), set(first.rows.schema.names)
    if got != want:
        raise ValueError(
            f"{piece.source} must have the columns of {first.source}, got {sorted(got - want) or 'none'} besides and "
            f"{sorted(want - got) or 'none'} missing. Name those that all have with `columns=`."
        )


def _is_text(kind: pa.DataType) -> bool:
    return is_text(kind.value_type if kinds.is_dictionary(kind) else kind)


def _span(piece: Piece) -> str:
    return f"{piece.first_row} to {piece.first_row + piece.rows.num_rows - 1}"
