"""TFF's SQLite layout: a row per example, each a serialized `tf.train.Example`.

    examples(split_name TEXT, client_id TEXT, serialized_example_proto BLOB)
    client_metadata(client_id TEXT, split_name TEXT, num_examples INTEGER)

That of `tff.simulation.datasets` since 2021 (load_and_parse_sql_client_data in TFF 0.87).
Free to change: the bounds. With care: the order of clients (sorted) and of examples (the file's), which results need.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from .._federated import Examples, FederatedDataset
from ._features import Feature, Features, checked
from ._lzma import decompress
from ._refusal import Refusal, existing_file, refusal
from ._sqlite import open_sqlite, require_table
from ._tff_example import Values, column, infer, parse

_TABLES = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"client_id", "split_name", "num_examples"},
}
_MAX_EXAMPLE_BYTES = 1 << 24  # serialized
_MAX_CLIENT_BYTES = 1 << 28  # of one client's examples, serialized
_MAX_EXAMPLES = 1 << 32  # of one client
_COMPRESSED = (".lzma", ".xz")


def from_tff_sqlite(
    path: str | os.PathLike[str],
    split: str | None = None,
    *,
    features: Features | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> FederatedDataset:
    """One split of a data set in TFF's SQLite layout; clients sorted by id, examples in the order of the file.

    Opening reads who has how many examples, and one client; a client is read when it is looked up.

    Args:
        path: A `.sqlite` file, or one under LZMA or XZ (`.lzma`, `.xz`), which is decompressed into the cache once.
        split: Such as "train"; None takes the only one.
        features: Column -> (dtype, shape of one example), such as `{"pixels": ("float32", (28, 28)), "title": ("str", ())}`: what to read,
            each example's numbers in this shape. (None,) is ragged. "str" has U+FFFD for what is not UTF-8, "bytes" has all as it is.
            None finds out from the examples of the first client that has any: one number in each example is a scalar, several are a vector
            (ragged if their count varies), floats are float32, integers int64, byte strings `str` if all of them are UTF-8, else `bytes`.
        cache_dir: The cache; None is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.
        name: What error messages call the data set; None takes the names of the file and the split.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not what it should be, has no such split, or has several and `split` is None. On reading a client: its examples
            are not what `features` says, or not as many as client_metadata says.
    """
    file = existing_file(path, "a .sqlite file in TFF's layout, or one under LZMA")
    columns = None if features is None else checked(features)
    source = _Source(decompress(file, cache_dir=cache_dir) if file.suffix in _COMPRESSED else file, shown=file)
    with source.open() as database:
        for table, wanted in _TABLES.items():
            require_table(database, table, wanted, source.fail)
        split = _split(database, split, source.fail)
        sizes = _sizes(database, split, source.fail)
        if columns is None:
            first = next((client for client, size in sizes.items() if size), None)
            if first is None:
                raise ValueError(f"{file} has no example in split {split!r} to tell its columns from. Pass `features=`.")
            columns = _inferred(_parsed(database, split, first, source.fail), first, file)
    stem = file.name.removesuffix(file.suffix if file.suffix in _COMPRESSED else "").removesuffix(".sqlite")
    return FederatedDataset(sizes, partial(_read_client, source, split, columns), name=name or f"{stem} {split}")


class _Source:
    """A database, and what error messages call it."""

    def __init__(self, file: Path, *, shown: Path):
        self.file, self.shown = file, shown

    def fail(self, got: str) -> ValueError:
        return refusal(self.shown, "TFF's SQLite file with the tables examples and client_metadata")(got)

    def open(self) -> AbstractContextManager[sqlite3.Connection]:
        # Opened anew each time: a connection could be neither pickled nor handed to a forked worker.
        return open_sqlite(self.file, self.fail, max_value_bytes=_MAX_EXAMPLE_BYTES)


def _split(database: sqlite3.Connection, split: str | None, fail: Refusal) -> str:
    found = [row[0] for row in database.execute("SELECT DISTINCT split_name FROM client_metadata LIMIT 1000")]
    if not found or not all(isinstance(name, str) for name in found):
        raise fail(f"client_metadata with the splits {found}")
    if split is None and len(found) == 1:
        return found[0]
    if split is None or split not in found:
        raise ValueError(f"split must be one of {sorted(found)}, got {split!r}. Pass one of these.")
    return split


def _sizes(database: sqlite3.Connection, split: str, fail: Refusal) -> dict[str, int]:
    rows = database.execute("SELECT client_id, num_examples FROM client_metadata WHERE split_name = ?", (split,)).fetchall()
    sizes = dict(rows)
    # Over whole columns: there may be a million clients.
    good = len(sizes) == len(rows) and set(map(type, sizes)) == {str} and set(map(type, sizes.values())) == {int}
    if not good or min(sizes.values()) < 0 or max(sizes.values()) > _MAX_EXAMPLES:
        raise fail(f"client_metadata with the row {_first_bad(rows)}")
    return dict(sorted(rows))


def _first_bad(rows: Iterable[tuple[object, object]]) -> tuple[object, object]:
    seen = set()
    for client, size in rows:
        if client in seen or not isinstance(client, str) or not isinstance(size, int) or not 0 <= size <= _MAX_EXAMPLES:
            return client, size
        seen.add(client)
    raise AssertionError("called with good rows")


def _read_client(source: _Source, split: str, features: dict[str, Feature], client: str) -> Examples:
    with source.open() as database:
        rows = _parsed(database, split, client, source.fail)
    columns = {}
    for name, feature in features.items():
        try:
            columns[name] = column([row.get(name, Values()) for row in rows], feature)
        except ValueError as error:
            raise _mismatch(source.shown, name, client, error) from error
    return columns


def _parsed(database: sqlite3.Connection, split: str, client: str, fail: Refusal) -> list[dict[str, Values]]:
    query = "SELECT num_examples FROM client_metadata WHERE client_id = ? AND split_name = ?"
    (size,) = database.execute(query, (client, split)).fetchone() or (0,)
    # No ORDER BY: this is TFF's query, and so this is TFF's order. One row too many is enough to see that there are.
    query = "SELECT serialized_example_proto FROM examples WHERE client_id = ? AND split_name = ? LIMIT ?"
    rows, total = [], 0
    for (blob,) in database.execute(query, (client, split, size + 1)):
        if not isinstance(blob, bytes):
            raise fail(f"a {type(blob).__name__} for an example of client {client!r}")
        total += len(blob)
        if total > _MAX_CLIENT_BYTES:
            raise fail(f"more than {_MAX_CLIENT_BYTES} bytes for client {client!r}")
        try:
            rows.append(parse(blob))
        except ValueError as error:
            raise fail(f"an example {len(rows)} of client {client!r} that is no tf.train.Example: {error}") from error
    if len(rows) != size:
        raise fail(f"{len(rows)} or more examples of client {client!r} where client_metadata says {size}")
    return rows


def _inferred(rows: list[dict[str, Values]], client: str, file: Path) -> dict[str, Feature]:
    features = {}
    for name in sorted({name for row in rows for name in row}):
        try:
            features[name] = infer([row.get(name, Values()) for row in rows])
        except ValueError as error:
            raise _mismatch(file, name, client, error) from error
    if not features:
        raise ValueError(f"{file} must have columns, but the examples of its first client, {client!r}, have none. Pass `features=`.")
    return features


def _mismatch(file: Path, name: str, client: str, error: ValueError) -> ValueError:
    return ValueError(
        f"{file} has, in column {name!r} of client {client!r}, {error}. Pass `features=` with what the columns to be read hold."
    )
