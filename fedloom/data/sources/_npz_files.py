"""A client's `.npz` files: a column per array. Nothing is unpickled, and memory is asked for only as the file's size allows.

Format: an `.npz` is a zip of `.npy` files, each a header (a Python dict as text) and the array's bytes; `numpy.lib.format` describes it.
Free to change: the bound. With care: which dtypes are let in; an array of objects is a pickle, which may run any code.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, ClassVar, NamedTuple

import numpy as np

from ._client_folder import Listing
from ._refusal import refused

_MAX_INFLATED_BYTES = 1 << 31  # of a client's compressed arrays; others cannot be larger than their files
_MAX_DEFLATE_RATIO = 1032  # no stream of deflate holds more (RFC 1951: 258 bytes in 2 bits)
_BLOCK = 1 << 24
_VALUE = r"""'[^']*'|"[^"]*"|True|False|\([\d,\s]*\)"""
_ENTRY = rf"['\"](\w+)['\"]\s*:\s*({_VALUE})\s*"
_HEADER = re.compile(rf"\{{\s*{_ENTRY},\s*{_ENTRY},\s*{_ENTRY}(?:,\s*)?\}}")  # one way to match: no spaces make it slow
_REMEDY = "Columns may be numbers, bool, dates, text or bytes, not records or objects: those are a pickle, which could run anything."
_DTYPE = re.compile(r"[<>|=](?:[biufc]\d{1,2}|[SU][1-9]\d{0,8}|[mM]8\[\w{1,12}\])")


Refuse = Callable[..., ValueError]  # what was got, what to do


class _Array(NamedTuple):
    """What a header says of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool

    @property
    def kind(self) -> str | np.dtype:
        """What all files of a folder must agree in; neither how long texts are nor in which order bytes come."""
        return {"U": "str", "S": "bytes"}.get(self.dtype.kind) or self.dtype.newbyteorder("=")

    @property
    def read_as(self) -> np.dtype:
        """The dtype of the column: text as objects."""
        return np.dtype(object) if self.dtype.kind in "US" else self.dtype.newbyteorder("=")

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class NpzFiles:
    """The arrays of a client's files by name; several files one after the other, in the order of their names."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    layout: ClassVar[str] = "CLIENT.npz or CLIENT/*.npz"
    takes_files: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = False

    # Whose columns the others must have, with its arrays' headers; learned on opening.
    first: tuple[str, dict[str, _Array]] | None = field(default=None, init=False)

    def count(self, client: str, listing: Listing) -> int:
        """Its number of examples, from the headers of all its arrays."""
        found = _headers(listing.get(None, []))
        for path, arrays in found.items():
            if self.first is None:
                self.first = path, arrays
            _check_like(path, arrays, *self.first)
        return sum(next(iter(arrays.values())).shape[0] for arrays in found.values())

    def read(self, client: str, listing: Listing) -> dict[str, np.ndarray]:
        """Its columns."""
        found = _headers(listing.get(None, []))
        if not found:
            return {name: np.empty((0, *array.shape[1:]), array.read_as) for name, array in (self.first or ("", {}))[1].items()}
        parts = [_read(path) for path in found]
        return {name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]}

    @property
    def knows_columns(self) -> bool:
        """Whether there was a file."""
        return self.first is not None


def _headers(paths: list[str]) -> dict[str, dict[str, _Array]]:
    """The headers by file and column, all files with the same columns and shapes of an example, and small enough."""
    found, inflated = {}, 0
    for path in paths:
        with _opened(path) as (_, members, refuse):
            found[path] = {name: array for name, (_, array) in members.items()}
            inflated += sum(info.file_size for info, _ in members.values() if info.compress_type == zipfile.ZIP_DEFLATED)
            if inflated > _MAX_INFLATED_BYTES:
                raise refuse(
                    f"arrays of {inflated} bytes under compression, over the bound of {_MAX_INFLATED_BYTES} for a client",
                    "Write them with numpy.savez, which does not compress and has no bound.",
                )
            first = found[paths[0]]
            _check_like(path, found[path], paths[0], first)
            for name, array in found[path].items():
                if array.shape[1:] != first[name].shape[1:]:
                    raise refuse(
                        f"examples of shape {array.shape[1:]} in {name!r} where {paths[0]} has {first[name].shape[1:]}",
                        "Give all files of a client the same shapes.",
                    )
    return found


def _check_like(path: str, arrays: dict[str, _Array], other: str, expected: dict[str, _Array]) -> None:
    same = arrays.keys() == expected.keys() and all(array.kind == expected[name].kind for name, array in arrays.items())
    if not same:
        got, want = ({name: str(array.kind) for name, array in columns.items()} for columns in (arrays, expected))
        raise refused(
            path, f"a file with the columns that {other} has, {want}", f"{got}", "Write all files with the same names and dtypes."
        )


def _read(path: str) -> dict[str, np.ndarray]:
    with _opened(path) as (archive, members, refuse):
        columns = {}
        for name, (info, array) in members.items():
            with archive.open(info) as file:
                _header(file, info, name, refuse)
                columns[name] = _values(file, array, name, refuse)
        return columns


def _values(file: IO[bytes], array: _Array, name: str, refuse: Refuse) -> np.ndarray:
    content = np.empty(array.num_bytes, np.uint8)
    view, filled = content.data, 0
    while filled < len(view):
        block = file.read(min(_BLOCK, len(view) - filled))
        if not block:
            raise refuse(f"an array {name!r} that ends early")
        view[filled : filled + len(block)] = block
        filled += len(block)
    if file.read(1):  # at its end, the checksum is looked at
        raise refuse(f"more bytes than its header says in {name!r}")
    if array.dtype.kind == "U" and content.view(f"{array.dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
        raise refuse(f"text in {name!r} with numbers that are no characters")
    return content.view(array.dtype).reshape(array.shape, order="F" if array.fortran_order else "C").astype(array.read_as, copy=False)


@contextmanager
def _opened(path: str) -> Iterator[tuple[zipfile.ZipFile, dict[str, tuple[zipfile.ZipInfo, _Array]], Refuse]]:
    """The archive, what it has under which column, and the errors about it."""
    refuse = partial(refused, path, "an .npz file, with an array per column")
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive, _members(archive, os.fstat(file.fileno()).st_size, refuse), refuse
        # What zipfile raises for damaged files and for those that it cannot read.
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            RuntimeError,
            OverflowError,
            LookupError,
            UnicodeError,
        ) as error:
            raise refuse(f"one that cannot be read: {error}") from error


def _members(archive: zipfile.ZipFile, file_size: int, refuse: Refuse) -> dict[str, tuple[zipfile.ZipInfo, _Array]]:
    infos = archive.infolist()
    if sum(info.compress_size for info in infos) > file_size:
        raise refuse(f"arrays that take more than all its {file_size} bytes")
    members: dict[str, tuple[zipfile.ZipInfo, _Array]] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members:
            raise refuse(f"a file {info.filename!r} in it that is no array, or comes twice")
        most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _MAX_DEFLATE_RATIO}.get(info.compress_type)
        if most is None or info.flag_bits & 1:
            raise refuse(f"an array {name!r} under encryption or another compression than deflate", "Write it with numpy.savez.")
        if info.file_size > most * info.compress_size:
            raise refuse(f"an array {name!r} of {info.file_size} bytes in {info.compress_size}, which no compression makes")
        with archive.open(info) as file:
            members[name] = info, _header(file, info, name, refuse)
    lengths = {name: array.shape[0] for name, (_, array) in members.items()}
    if len(set(lengths.values())) != 1:
        raise refuse(f"columns that are not equally long, {lengths}" if lengths else "no array", "Give every array one row per example.")
    return members


def _header(file: IO[bytes], info: zipfile.ZipInfo, name: str, refuse: Refuse) -> _Array:
    """What stands before the bytes of an array; its size must be that of the bytes."""
    start = file.read(8)
    versions = {b"\x93NUMPY\x01\x00": "<H", b"\x93NUMPY\x02\x00": "<I"}
    if start not in versions:
        raise refuse(f"{start!r} at the beginning of {name!r} where an array has '\\x93NUMPY' and its version")
    length_form = versions[start]
    (length,) = struct.unpack(length_form, file.read(struct.calcsize(length_form)))
    if length > 1 << 16:
        raise refuse(f"a header of {length} bytes in {name!r}")
    text = file.read(length).decode("latin-1").strip()
    groups = match.groups() if (match := _HEADER.fullmatch(text)) else ()
    entries = dict(zip(groups[::2], groups[1::2], strict=True))
    if entries.keys() != {"descr", "fortran_order", "shape"} or entries["fortran_order"] not in ("True", "False"):
        raise refuse(f"a header {text[:200]!r} in {name!r}", _REMEDY)
    array = _Array(
        _dtype(entries["descr"][1:-1], name, refuse),
        tuple(int(size) for size in re.findall(r"\d+", entries["shape"])),
        entries["fortran_order"] == "True",
    )
    if not array.shape or 0 in array.shape[1:]:
        raise refuse(f"an array {name!r} of shape {array.shape}", "A column needs a row per example, and a value in each.")
    held = info.file_size - len(start) - struct.calcsize(length_form) - length
    if array.num_bytes != held:
        raise refuse(f"a header of {name!r} that says {array.dtype} {array.shape}, {array.num_bytes} bytes, before {held} bytes")
    return array


def _dtype(text: str, name: str, refuse: Refuse) -> np.dtype:
    try:
        if _DTYPE.fullmatch(text):
            return np.dtype(text)
    except (TypeError, ValueError):
        pass
    raise refuse(f"dtype {text!r} in {name!r}", _REMEDY)
