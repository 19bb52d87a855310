"""FedJAX's SQLite layout: a row per client, its columns as msgpack under zlib.

    federated_data(client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL, num_examples INTEGER NOT NULL)

That of `fedjax.SQLiteFederatedData` and its builder (fedjax/core/sqlite_federated_data.py in FedJAX 0.0.17).
Free to change: the bounds. With care: how ids become text, for they are what a client is known by.
"""

from __future__ import annotations

import os
import zlib
from functools import partial
from pathlib import Path

from .._federated import Examples, FederatedDataset
from ._fedjax_msgpack import decode
from ._refusal import Refusal, existing_file, refusal
from ._sqlite import open_sqlite, require_table

_COLUMNS = {"client_id", "data", "num_examples"}
_MAX_CLIENT_BYTES = 1 << 28  # of one client's columns, with and without compression
_MAX_EXAMPLES = 1 << 32  # of one client
_HEX = "hex:"


def from_fedjax(path: str | os.PathLike[str], *, name: str | None = None) -> FederatedDataset:
    """A data set that FedJAX wrote; clients sorted by id, columns as they were, byte strings as `bytes`.

    FedJAX's client ids are bytes. Here an id is the text that its bytes are in UTF-8. One that is not UTF-8, and one that begins with
    "hex:", is "hex:" with its bytes in hexadecimal after it, so that no two clients get the same.

    Args:
        path: The file, as `fedjax.SQLiteFederatedDataBuilder` writes it and `fedjax.SQLiteFederatedData.new` opens it.
        name: What error messages call the data set; None takes the name of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not what it should be. On reading a client: its data is not, or has another number of examples than its row says.
    """
    file = existing_file(path, "a SQLite file written by FedJAX")
    fail = _refusal(file)
    with open_sqlite(file, fail, max_value_bytes=_MAX_CLIENT_BYTES) as database:
        require_table(database, "federated_data", _COLUMNS, fail)
        rows = database.execute("SELECT client_id, num_examples FROM federated_data").fetchall()
    if not rows:
        raise fail("no client")
    for client, size in rows:
        if not isinstance(client, bytes) or not isinstance(size, int) or not 0 <= size <= _MAX_EXAMPLES:
            raise fail(f"federated_data with the row {(client, size)}")
    sizes = dict(sorted((to_text(client), size) for client, size in rows))
    if len(sizes) != len(rows):
        raise fail("a client twice in federated_data")
    return FederatedDataset(sizes, partial(_read_client, file), name=name or file.stem)


def to_text(client: bytes) -> str:
    """The text for an id of FedJAX's."""
    try:
        text = client.decode()
    except UnicodeDecodeError:
        return _HEX + client.hex()
    return _HEX + client.hex() if text.startswith(_HEX) else text


def to_bytes(client: str) -> bytes:
    """The id of FedJAX's behind a text."""
    return bytes.fromhex(client.removeprefix(_HEX)) if client.startswith(_HEX) else client.encode()


def _read_client(file: Path, client: str) -> Examples:
    fail = _refusal(file)
    with open_sqlite(file, fail, max_value_bytes=_MAX_CLIENT_BYTES) as database:
        query = "SELECT data, num_examples FROM federated_data WHERE client_id = ?"
        found = database.execute(query, (to_bytes(client),)).fetchone()
    if found is None or not isinstance(found[0], bytes):
        raise fail(f"no data for client {client!r}")
    data, size = found
    try:
        columns = decode(_decompressed(data))
    except ValueError as error:
        raise fail(f"data of client {client!r} that cannot be read: {error}") from error
    for name, column in columns.items():
        if len(column) != size:
            raise fail(f"{len(column)} examples in column {name!r} of client {client!r} where its row says {size}")
    return columns


def _decompressed(data: bytes) -> bytes:
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(data, _MAX_CLIENT_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if decoder.unconsumed_tail:
        raise ValueError(f"more than {_MAX_CLIENT_BYTES} bytes inside")
    if not decoder.eof or decoder.unused_data:
        raise ValueError("zlib data that ends early, or has more bytes after its end")
    return content


def _refusal(file: Path) -> Refusal:
    return refusal(file, "FedJAX's SQLite file with the table federated_data")
