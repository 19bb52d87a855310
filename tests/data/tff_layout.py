"""Writes files in the layouts of TFF 0.87: `tf.train.Example` by hand, SQLite and HDF5.

write_sqlite(path, {"train": {"ada": [{"pixels": np.zeros(784, np.float32), "label": 3}]}, "test": {...}})
write_hdf5(path, {"ada": {"snippets": [b"one", b"two"]}})
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np

SCHEMA = """
    CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, serialized_example_proto BLOB NOT NULL);
    CREATE INDEX idx_examples_client_id ON examples (client_id);
    CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id);
    CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, num_examples INTEGER NOT NULL);
    CREATE INDEX idx_metadata_client_id ON client_metadata (client_id);
"""

Example = Mapping[str, object] | bytes
"""What an example has: name -> bytes, str, int, float, or several of a kind (a list or an array); or the serialized message."""


def write_sqlite(path: Path, splits: Mapping[str, Mapping[str, Iterable[Example]]]) -> Path:
    """A database in TFF's layout from split -> client -> examples; a client without examples has a row in client_metadata all the same."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)
        for split, clients in splits.items():
            for client, examples in clients.items():
                rows = [(split, client, one if isinstance(one, bytes) else serialized(one)) for one in examples]
                database.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)
                database.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (client, split, len(rows)))
        database.commit()
    return path


def write_hdf5(path: Path, clients: Mapping[str, Mapping[str, object]]) -> Path:
    """A file in TFF's layout from client -> columns. An HDF5 name has no slash: in a client's id it becomes an underscore."""
    with h5py.File(path, "w") as root:
        for client, columns in clients.items():
            for name, values in columns.items():
                text = isinstance(values, list) and all(isinstance(value, bytes) for value in values)
                root[f"examples/{client.replace('/', '_')}/{name}"] = np.array(values, "S") if text else values
    return path


def serialized(features: Mapping[str, object], *, packed: bool = True) -> bytes:
    """A serialized `tf.train.Example`: Example.features = 1, Features.feature = 1, a map entry with key = 1 and value = 2."""
    entries = (field(1, field(1, name.encode()) + field(2, feature(value, packed=packed))) for name, value in features.items())
    return field(1, b"".join(entries))


def feature(value: object, *, packed: bool = True) -> bytes:
    """A `tf.train.Feature`: bytes_list = 1, float_list = 2 or int64_list = 3, each with its values in field 1."""
    values = value if isinstance(value, list) else [value] if isinstance(value, bytes | str) else np.asarray(value).reshape(-1)
    if isinstance(values, list) and all(isinstance(item, bytes | str) for item in values):
        return field(1, b"".join(field(1, item.encode() if isinstance(item, str) else item) for item in values))
    numbers = np.asarray(values)
    if numbers.dtype.kind == "f":
        raw = [number.tobytes() for number in numbers.astype("<f4")]
        return field(2, field(1, b"".join(raw)) if packed else b"".join(varint(1 << 3 | 5) + item for item in raw))
    # A negative number is the varint of its two's complement in 64 bits.
    raw = [varint(int(number) % 2**64) for number in numbers]
    return field(3, field(1, b"".join(raw)) if packed else b"".join(varint(1 << 3) + item for item in raw))


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number in [0, 2^64), seven bits to a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
