"""The rows of an SQLite table, in the order in which they lie.

SQLite checks no types, so a column's type is what it was declared as, or what its first values are; a later value that does not fit is an
error. Names are checked against the schema and quoted, never pasted.
Free to change: how much is read at once. With care: the order, and that no view or virtual table is read, for those compute.
"""

from __future__ import annotations

import difflib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from .._arrow_types import is_text
from ._client_ids import ids_from_objects
from ._refusal import existing_file, refusal
from ._row_pieces import Piece, Wanted, rows_that_fit
from ._sqlite import open_sqlite

_FIRST_ROWS = 256  # that say how large rows are, and what types undeclared columns have
_MAX_ROW_BYTES = 1 << 28


def sql_pieces(path: str | os.PathLike[str], table: str | None, want: Wanted) -> Iterator[Piece]:
    """The rows of a table, some at a time.

    Args:
        path: An SQLite database that nobody writes to.
        table: Its name; None, or one that is not there, is an error that lists those that are.
        want: The client column, and those that make an example.

    Raises:
        ValueError: The file is damaged or still being written, there is no such table or column, or values of a column differ in type.
    """
    file = existing_file(path, "an SQLite database")
    _check_settled(file)
    fail = refusal(file, "an SQLite database with text in UTF-8")
    with open_sqlite(file, fail, max_value_bytes=_MAX_ROW_BYTES) as database:
        if table is None or not _is_there(database, table):
            raise _no_table(database, table, file)
        source = f"table {table!r} of {file}"
        declared = dict(database.execute("SELECT name, type FROM pragma_table_info(?)", (table,)))
        chosen = want.of(list(declared), source)
        # As text where text is asked for: columns may mix what SQLite never checked.
        selected = [f"CAST({_quoted(name)} AS TEXT)" if is_text(want.types.get(name, pa.null())) else _quoted(name) for name in chosen]
        # Not indexed, for an index that has all columns would be read in its own order.
        query = f"SELECT {', '.join(selected)} FROM {_quoted(table)} NOT INDEXED{_order(database, table, list(declared))}"
        cursor = database.execute(query)
        kinds = {name: None if name in want.types else _declared_type(declared[name]) for name in chosen}
        count, row = _FIRST_ROWS, 0
        while rows := cursor.fetchmany(count):
            arrays = [_array(name, values, kinds, want, source, row) for name, values in zip(chosen, zip(*rows, strict=True), strict=True)]
            batch = pa.RecordBatch.from_arrays(arrays, names=chosen)
            yield Piece(batch, source, row)
            row += len(rows)
            count = rows_that_fit(batch)


def _array(name: str, values: tuple, kinds: dict[str, pa.DataType | None], want: Wanted, source: str, row: int) -> pa.Array:
    """One column of some rows; the type that undeclared values have is noted in `kinds`."""
    if name == want.client:
        found = set(map(type, values))
        # Whole numbers stay numbers, so that text in later rows is noticed.
        return pa.array(values) if found == {int} else ids_from_objects(values, column=name, source=source, first_row=row)
    kind = kinds[name]
    try:
        made = pa.array(values)  # without the type: given it, Arrow would cut 0.5 to 0
        if kind is None or pa.types.is_null(made.type):
            kinds[name] = None if name in want.types or pa.types.is_null(made.type) else made.type
            return made
        if made.type != kind and not (pa.types.is_integer(made.type) and pa.types.is_floating(kind)):
            raise ValueError(f"a value of type {made.type}")
        return made.cast(kind)
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(
            f"Column {name!r} of {source} must be {kind or 'of one type'}, as declared or as in its first rows, got something else in the "
            f'rows {row} to {row + len(values) - 1}: {error}. Correct it, or give a type: `types={{{name!r}: "string"}}` or "float64".'
        ) from error


def _declared_type(declared: str) -> pa.DataType | None:
    """By SQLite's rules of affinity (sqlite.org/datatype3.html, 3.1), in their order; None where values may be of any type."""
    kind = declared.upper()
    rules = [
        (("INT",), pa.int64()),
        (("CHAR", "CLOB", "TEXT"), pa.string()),
        (("BLOB",), pa.binary()),
        (("REAL", "FLOA", "DOUB"), pa.float64()),
    ]
    return next((arrow for words, arrow in rules if any(word in kind for word in words)), None)


def _check_settled(file: Path) -> None:
    """The database is read as if nothing else were there, so nothing else may hold a part of it."""
    for ending in ("-wal", "-journal"):
        other = file.with_name(file.name + ending)
        if other.is_file():
            with other.open("rb") as handle:
                if any(handle.read(8)):  # zeros: a journal that is done with
                    raise ValueError(
                        f"{file} must not be in use, got changes that are still in {other.name}. End the program that writes it, or open "
                        'it once with SQLite and run "PRAGMA wal_checkpoint(TRUNCATE)".'
                    )


def _is_there(database: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = ?"  # a view or a virtual table may compute
    return database.execute(query, (table,)).fetchone() is not None


def _no_table(database: sqlite3.Connection, table: Any, file: Path) -> ValueError:
    known = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 100")]
    near = difflib.get_close_matches(str(table), known, n=3)
    hint = f" Is it {' or '.join(map(repr, near))}?" if near else ""
    return ValueError(f"table must name a table of {file}, got {table!r}.{hint} There are {', '.join(map(repr, known)) or 'none'}.")


def _order(database: sqlite3.Connection, table: str, columns: list[str]) -> str:
    """The order of a table without row numbers is that of its primary key; a table with them is read in their order anyway."""
    taken = {column.lower() for column in columns}
    number = next((name for name in ("rowid", "oid", "_rowid_") if name not in taken), None)
    try:
        if number:
            database.execute(f"SELECT {number} FROM {_quoted(table)} LIMIT 0")
        return ""
    except sqlite3.OperationalError:  # no such column
        keys = database.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,)).fetchall()
        return f" ORDER BY {', '.join(_quoted(key) for (key,) in keys)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
