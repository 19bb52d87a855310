"""SQLite files from elsewhere, opened so that they can neither compute, nor write, nor keep us for ever.

Free to change: the bounds. With care: the pragmas and limits; see sqlite.org/security.html, whose advice they follow.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ._refusal import Refusal

_STEPS = 1_000_000  # of SQLite's machine between two looks at the budget
_STEPS_PER_BYTE = 20  # of a file: a pass over the smallest rows takes about 2


@contextmanager
def open_sqlite(file: Path, fail: Refusal, *, max_value_bytes: int) -> Iterator[sqlite3.Connection]:
    """A connection that reads.

    Args:
        file: The database.
        fail: Makes the error for what SQLite finds wrong.
        max_value_bytes: Of a row that may be read.

    Raises:
        ValueError: By `fail`, for any error of SQLite in the block.
    """
    # A page that is its own ancestor makes a small file endless.
    budget = iter(range(100 + file.stat().st_size * _STEPS_PER_BYTE // _STEPS))
    try:
        # immutable: no lock and no journal is looked for, so that a read-only folder will do.
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_value_bytes)
            database.set_progress_handler(lambda: next(budget, None) is None, _STEPS)
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite quotes a damaged schema
        raise fail(f"a file that cannot be read: {error}") from error


def require_table(database: sqlite3.Connection, table: str, columns: set[str], fail: Refusal) -> None:
    """Raises by `fail` unless there is a table proper with these columns: a view, a virtual table or a generated column may compute."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ? AND rootpage > 0"
    (known,) = database.execute(query, (table,)).fetchone()
    # table_info leaves generated columns out.
    got = {row[1] for row in database.execute("SELECT * FROM pragma_table_info(?)", (table,))} if known else set()
    if not columns <= got:
        raise fail(f"no table {table} with the columns {sorted(columns)}")
