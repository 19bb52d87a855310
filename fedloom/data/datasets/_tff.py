"""TFF's official federated Shakespeare files: HDF5, SQLite and SQLite under LZMA, read one client at a time.

Made by LEAF (arXiv:1812.01097) from Project Gutenberg's Complete Works of 1994; 715 clients, 16,068 and 2,356 snippets.
Files are taken for hostile: nothing outside the file is followed, and sizes are checked before anything is allocated.
Free to change: the bounds. With care: the order of clients (sorted) and of snippets (the file's), which results need.
"""

from __future__ import annotations

import lzma
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._federated import Examples, FederatedDataset
from ._download import atomic_write, cache_folder, fetch, sha256_of

URL = "https://storage.googleapis.com/tff-datasets-public/shakespeare.sqlite.lzma"
SHA256 = "d3d11fceb9e105439ac6f4d52af6efafed5a2a1e1eb24c5bd2dd54ced242f5c4"  # as FedJAX's tests have it too
SIZE = 1_329_828

_FEATURE = "snippets"
_SPLITS = ("train", "test")
_TABLES = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"client_id", "split_name", "num_examples"},
}
_MAX_CLIENT_BYTES = 1 << 28  # of one client's snippets, padding included
_MAX_EXAMPLES = 1 << 32  # of one client
_MAX_EXAMPLE_BYTES = 1 << 24  # of one serialized example
_MAX_DATABASE_BYTES = 1 << 30  # of a decompressed database
_BLOCK = 1 << 20


def read_tff(
    path: str | os.PathLike[str] | None = None, *, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[FederatedDataset, FederatedDataset]:
    """Train and test data from TFF's files; clients sorted by id, snippets in the order of the file.

    Args:
        path: A folder that holds `shakespeare_train.h5` and `shakespeare_test.h5`, or a `.sqlite` or `.sqlite.lzma`
            file. `None` downloads TFF's `shakespeare.sqlite.lzma` once, with its checksum.
        cache_dir: The cache folder, as `fetch` takes it; what is decompressed lies there too.

    Raises:
        FileNotFoundError: `path`, or one of its two files, does not exist.
        ValueError: A file is not what it should be; the message names it.
        ConnectionError: There is no `path` and the download fails.
    """
    file = fetch(URL, sha256=SHA256, size=SIZE, cache_dir=cache_dir) if path is None else Path(path).expanduser()
    if file.is_dir():
        return read_hdf5(file / "shakespeare_train.h5"), read_hdf5(file / "shakespeare_test.h5")
    _must_exist(file)
    if file.suffix == ".lzma":
        file = decompress(file, cache_dir=cache_dir)
    return read_sqlite(file, "train"), read_sqlite(file, "test")


def read_hdf5(path: str | os.PathLike[str]) -> FederatedDataset:
    """One split as TFF's HDF5 release has it: `/examples/<CLIENT_ID>/snippets`, byte strings of shape `[n]`."""
    file = _must_exist(Path(path))
    with _open_hdf5(file) as root:
        clients = _hard(root, "examples", _hdf5_error(file))
        # Shapes only: no snippet is read.
        sizes = {client: _snippets(clients, client, file).shape[0] for client in sorted(clients)}
    return _dataset(sizes, partial(_read_hdf5_client, file), file)


def read_sqlite(path: str | os.PathLike[str], split: str) -> FederatedDataset:
    """One split, "train" or "test", as TFF's SQLite release has it.

    Tables `examples(split_name, client_id, serialized_example_proto)`, each blob a `tf.train.Example` with one byte
    string `snippets`, and `client_metadata(client_id, split_name, num_examples)`.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}, got {split!r}. Pass one of these.")
    file = _must_exist(Path(path))
    sizes: dict[str, int] = {}
    with _open_sqlite(file) as database:
        _check_tables(database, file)
        query = "SELECT client_id, num_examples FROM client_metadata WHERE split_name = ?"
        for client, size in database.execute(query, (split,)):
            if not isinstance(client, str) or client in sizes or not isinstance(size, int) or not 0 <= size <= _MAX_EXAMPLES:
                raise _sqlite_error(file)(f"client_metadata with the row {(client, size)}")
            sizes[client] = size
    return _dataset(dict(sorted(sizes.items())), partial(_read_sqlite_client, file, split, sizes), file, split)


def decompress(path: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The database inside an `.lzma` file, in the cache under the checksum of that file.

    Raises:
        ValueError: The file is damaged, or larger inside than any data set this reads.
    """
    target = cache_folder(cache_dir) / f"{sha256_of(path)}.sqlite"
    if target.is_file():
        return target
    fail = _error(Path(path), "a database under LZMA or XZ")
    decoder = lzma.LZMADecompressor(memlimit=1 << 28)
    written = 0
    with open(path, "rb") as source, atomic_write(target) as sink:
        try:
            while not decoder.eof:
                compressed = source.read(_BLOCK) if decoder.needs_input else b""
                if decoder.needs_input and not compressed:
                    raise fail("a file that ends early")
                block = decoder.decompress(compressed, max_length=_BLOCK)
                written += len(block)
                if written > _MAX_DATABASE_BYTES:
                    raise fail(f"more than {_MAX_DATABASE_BYTES} bytes inside")
                sink.write(block)
        except lzma.LZMAError as error:
            raise fail(f"{error}") from error
        if decoder.unused_data or source.read(1):
            raise fail("more bytes after its end")
    return target


def example_bytes(serialized: bytes, feature: str) -> list[bytes]:
    """The byte strings that a serialized `tf.train.Example` has under `feature`.

    The wire format of protocol buffers, as far as it goes: Example.features = 1, Features.feature = 1 (a map entry:
    key = 1, value = 2), Feature.bytes_list = 1, BytesList.value = 1. Other fields are skipped; the last entry of a key
    counts.

    Raises:
        ValueError: The bytes are no such message, or it has no byte strings of that name.
    """
    found = None
    for features in _messages(serialized, 1):
        for entry in _messages(features, 1):
            keys = _messages(entry, 1)
            if keys and keys[-1] == feature.encode():
                lists = [item for value in _messages(entry, 2) for item in _messages(value, 1)]
                found = [item for values in lists for item in _messages(values, 1)] if lists else None
    if found is None:
        raise ValueError(f"no byte strings named {feature!r}")
    return found


def _messages(message: bytes, wanted: int) -> list[bytes]:
    """The length-delimited fields of this number, in order; all others are checked and skipped."""
    found, at = [], 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29:
            raise ValueError(f"field number {number} before byte {at}")
        if wire == 0:
            _, at = _varint(message, at)
        elif wire in (1, 2, 5):
            size, start = _varint(message, at) if wire == 2 else (8 if wire == 1 else 4, at)
            at = start + size
            if at > len(message):
                raise ValueError(f"a field of {size} bytes at byte {start} of {len(message)}")
            if wire == 2 and number == wanted:
                found.append(message[start:at])
        else:
            raise ValueError(f"wire type {wire} before byte {at}")
        if number == wanted and wire != 2:
            raise ValueError(f"field {number} with wire type {wire} instead of 2")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + shift // 7 + 1
    raise ValueError(f"no varint at byte {at} of {len(message)}")


def _dataset(sizes: dict[str, int], read: Callable[[str], Examples], file: Path, split: str = "") -> FederatedDataset:
    if not sizes:
        raise ValueError(f"{file} must hold at least one client{split and f' in split {split!r}'}, got none. {_REMEDY}")
    return FederatedDataset(sizes, read, name=file.stem + (split and f" {split}"))


def _column(snippets: Sequence[bytes]) -> Examples:
    column = np.empty(len(snippets), object)
    column[:] = [snippet.decode("utf-8", errors="replace") for snippet in snippets]
    return {_FEATURE: column}


def _read_hdf5_client(file: Path, client: str) -> Examples:
    # Opened anew each time: an open file could be neither pickled nor handed to a forked worker.
    with _open_hdf5(file) as root:
        return _column(list(_snippets(_hard(root, "examples", _hdf5_error(file)), client, file)[()]))


def _snippets(clients: Any, client: str, file: Path) -> Any:
    """The h5py dataset of a client, known to be small, in this file and of the right type."""
    import h5py

    fail = _hdf5_error(file)
    data = _hard(_hard(clients, client, fail), _FEATURE, fail)
    if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind != "S":
        raise fail(f"{data!r} for client {client!r}")
    if data.external or data.is_virtual:
        raise fail(f"snippets of client {client!r} that lie in another file")
    if data.nbytes > _MAX_CLIENT_BYTES:
        raise fail(f"{data.nbytes} bytes for client {client!r}, over the bound of {_MAX_CLIENT_BYTES}")
    return data


def _hard(group: Any, name: str, fail: Callable[[str], ValueError]) -> Any:
    """A member of an HDF5 group, never through a link: that could lead into any file of the user's."""
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise fail(f"no such thing as {name!r} in {getattr(group, 'name', '/')}, or a link in its place")
    return group[name]


@contextmanager
def _open_hdf5(file: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(file, "r") as root:
            yield root
    except (OSError, KeyError, RuntimeError, TypeError, MemoryError) as error:  # what h5py raises for damaged files
        raise _hdf5_error(file)(f"a file that cannot be read: {error}") from error


def _read_sqlite_client(file: Path, split: str, sizes: dict[str, int], client: str) -> Examples:
    fail = _sqlite_error(file)
    # No ORDER BY: this is TFF's query, and so this is TFF's order. One row too many is enough to see that there are.
    query = "SELECT serialized_example_proto FROM examples WHERE client_id = ? AND split_name = ? LIMIT ?"
    snippets, total = [], 0
    with _open_sqlite(file) as database:
        for (blob,) in database.execute(query, (client, split, sizes[client] + 1)):
            if not isinstance(blob, bytes):
                raise fail(f"a {type(blob).__name__} for an example of client {client!r}")
            try:
                (snippet,) = example_bytes(blob, _FEATURE)
            except ValueError as error:
                raise fail(f"an example of client {client!r} that is no tf.train.Example with one snippet: {error}") from error
            snippets.append(snippet)
            total += len(snippet)
            if total > _MAX_CLIENT_BYTES:
                raise fail(f"more than {_MAX_CLIENT_BYTES} bytes for client {client!r}")
    if len(snippets) != sizes[client]:
        raise fail(f"{len(snippets)} or more examples of client {client!r} where client_metadata says {sizes[client]}")
    return _column(snippets)


@contextmanager
def _open_sqlite(file: Path) -> Iterator[sqlite3.Connection]:
    # immutable: no lock and no journal is looked for, so that a read-only folder will do.
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_EXAMPLE_BYTES)
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite quotes a damaged schema
        raise _sqlite_error(file)(f"a file that cannot be read: {error}") from error


def _check_tables(database: sqlite3.Connection, file: Path) -> None:
    for table, columns in _TABLES.items():
        # A table proper: a view may compute for ever.
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
        (known,) = database.execute(query, (table,)).fetchone()
        got = {row[1] for row in database.execute(f"PRAGMA table_info({table})")} if known else set()
        if not columns <= got:
            raise _sqlite_error(file)(f"no {table} with the columns {sorted(columns)}")


_REMEDY = "Get the file again: it may be another one, or damaged."


def _error(file: Path, expected: str) -> Callable[[str], ValueError]:
    return lambda got: ValueError(f"{file} must be {expected}, got {got}. {_REMEDY}")


def _hdf5_error(file: Path) -> Callable[[str], ValueError]:
    return _error(file, "TFF's HDF5 file with byte strings at /examples/<CLIENT_ID>/snippets")


def _sqlite_error(file: Path) -> Callable[[str], ValueError]:
    return _error(file, "TFF's SQLite file with the tables examples and client_metadata")


def _must_exist(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            "path must be a folder with shakespeare_train.h5 and shakespeare_test.h5, or a .sqlite or .sqlite.lzma "
            f"file; there is no file {file}. Give the right path, or none to download it."
        )
    return file
