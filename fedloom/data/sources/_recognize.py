"""What a file or a folder is, by its content where that can be told, else by its name.

Free to change: what is recognized. With care: the order of the rules for folders, for several may hold.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import _arrow, _csv, _parquet
from ._refusal import refusal
from ._sqlite import open_sqlite

_MAGIC: dict[bytes, str] = {  # the first bytes of a file, for names lie
    b"SQLite format 3\x00": "sqlite",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xfd7zXZ\x00": "lzma",
}
_ENDINGS: dict[str, str] = {
    **dict.fromkeys(_parquet.ENDINGS, "parquet"),
    **dict.fromkeys(_arrow.ENDINGS, "arrow"),
    **dict.fromkeys((*_csv.ENDINGS, ".txt", ".txt.gz"), "csv"),
    ".json": "leaf",
    ".lzma": "lzma",
}
_MAX_SCHEMA_BYTES = 1 << 20  # of a table's definition
_ENTRIES_LOOKED_AT = 10_000  # of a folder, in which there may be millions


def file_kind(path: Path) -> str:
    """What a file is: "arrow", "csv", "fedjax", "hdf5", "leaf", "lzma", "parquet", "sqlite" or "tff_sqlite".

    Raises:
        ValueError: It is nothing that is known, or an SQLite file that cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    kind = kind or next((kind for ending, kind in _ENDINGS.items() if path.name.endswith(ending)), None)
    if kind is None:
        raise ValueError(
            f"{path} must be a file of a known kind: CSV, Parquet, Arrow IPC, SQLite or HDF5 of TFF, SQLite of FedJAX, json of LEAF; this "
            f"one starts with {start!r}. Rename it if it is; else read it yourself, and hand over a table or a dict."
        )
    return _sqlite_kind(path) if kind == "sqlite" else kind


def folder_kind(path: Path) -> str:
    """What the files in a folder are: "arrow", "csv", "hdf5", "leaf", "parquet", or "folder" for a file or folder per client.

    Of a folder with very many files only the first ones are looked at.

    Raises:
        ValueError: There are tables of several forms in it.
    """
    if any(path.glob("*_*.h5")):
        return "hdf5"
    forms: dict[str, tuple[str, ...]] = {"parquet": _parquet.ENDINGS, "arrow": _arrow.ENDINGS, "csv": _csv.ENDINGS}
    found = [form for form, endings in forms.items() if _holds(path, endings)]
    if len(found) > 1:
        raise ValueError(f"{path} must hold tables of one form, got {' and '.join(found)} files. Put them into folders of their own.")
    if found:
        return found[0]
    return "leaf" if any(path.glob("*.json")) or any(path.glob("*/*.json")) else "folder"


def _sqlite_kind(path: Path) -> str:
    with open_sqlite(path, refusal(path, "an SQLite file"), max_value_bytes=_MAX_SCHEMA_BYTES) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1000")}
    if {"examples", "client_metadata"} <= tables:
        return "tff_sqlite"
    return "fedjax" if "federated_data" in tables else "sqlite"


def _holds(folder: Path, endings: tuple[str, ...]) -> bool:
    seen = 0
    for _, folders, files in os.walk(folder):
        if any(file.endswith(endings) for file in files):
            return True
        seen += len(files) + len(folders)
        if seen > _ENTRIES_LOOKED_AT:
            return False
    return False
