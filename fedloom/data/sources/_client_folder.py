"""What lies in a folder with a file or a folder per client: names and suffixes, nothing read.

Links are refused: one in a folder from elsewhere may lead to any file of the user's.
Free to change: what is left out as litter. With care: which name makes which client id, and the order of files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import ClassVar, Protocol

import numpy as np

Listing = dict[str | None, list[str]]
"""One client's files, sorted by name: {None: paths}, or label -> paths where they lie in a folder per label."""

_LITTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # what operating systems leave behind; names with a dot before are hidden anyway
_COUNTED = 100_000  # files that an error counts


class ClientFiles(Protocol):
    """A kind of files. On opening, `count` is called for every client; then `read`, any time, in any process."""

    suffixes: ClassVar[tuple[str, ...]]  # of its files, in small letters
    layout: ClassVar[str]  # for error messages
    takes_files: ClassVar[bool]  # a client may be a file
    takes_labels: ClassVar[bool]  # a client's folder may hold a folder per label

    @property
    def knows_columns(self) -> bool:
        """Whether a client without files can be read, after all were counted."""
        ...

    def count(self, client: str, listing: Listing) -> int:
        """The number of a client's examples."""
        ...

    def read(self, client: str, listing: Listing) -> dict[str, np.ndarray]:
        """The columns of a client."""
        ...


def client_names(root: str, ignore: Sequence[str]) -> dict[str, str]:
    """Client id -> the name of its file, or that of its folder with a slash behind; sorted by id.

    Raises:
        ValueError: Two have the same id, one is a link, or its name is no Unicode.
    """
    names: dict[str, str] = {}
    for entry in _entries(root, ignore):
        client = entry.name if entry.is_dir() else os.path.splitext(entry.name)[0]
        if client in names:
            raise ValueError(
                f"Client ids must be distinct, got {client!r} twice: {os.path.join(root, names[client])} and {entry.path}. Put all "
                "files of a client into its folder, or rename one."
            )
        names[client] = os.path.join(entry.name, "") if entry.is_dir() else entry.name
    return dict(sorted(names.items()))


def found_suffixes(root: str, names: Mapping[str, str], ignore: Sequence[str]) -> Iterator[str]:
    """The suffixes of all files, client by client, in small letters."""
    for name in names.values():
        path = os.path.join(root, name)
        yield from _suffixes(path, ignore) if _is_folder(name) else [_suffix(name)]


def list_client(root: str, name: str, kind: ClientFiles, ignore: Sequence[str]) -> Listing:
    """The files of a client.

    Raises:
        ValueError: Something is not as this kind has it; the message names it.
    """
    path = os.path.join(root, name)
    if not _is_folder(name):
        if not kind.takes_files or _suffix(name) not in kind.suffixes:
            raise _unexpected(path, root, kind, ignore)
        return {None: [path]}
    entries = _entries(path, ignore)
    if kind.takes_labels and entries and all(entry.is_dir() for entry in entries):
        return {entry.name: _files(entry.path, root, kind, ignore) for entry in entries}
    return {None: _files(path, root, kind, ignore)}


def summary(suffixes: Iterator[str]) -> str:
    """What was found, most frequent first."""
    counts = Counter(islice(suffixes, _COUNTED))
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in counts.most_common(8)) or "no file"


def _files(folder: str, root: str, kind: ClientFiles, ignore: Sequence[str]) -> list[str]:
    entries = _entries(folder, ignore)
    for entry in entries:
        if entry.is_dir() or _suffix(entry.name) not in kind.suffixes:
            raise _unexpected(entry.path, root, kind, ignore)
    return [entry.path for entry in entries]


def _suffixes(folder: str, ignore: Sequence[str], depth: int = 2) -> Iterator[str]:
    for entry in _entries(folder, ignore):
        if not entry.is_dir():
            yield _suffix(entry.name)
        elif depth > 1:
            yield from _suffixes(entry.path, ignore, depth - 1)


def _entries(folder: str, ignore: Sequence[str]) -> list[os.DirEntry[str]]:
    """Files and folders that count, sorted by name."""
    with os.scandir(folder) as found:
        entries = [entry for entry in found if not _left_out(entry.name, ignore)]
    for entry in entries:
        remedy = f"Remove it, or leave it out with ignore=[{entry.name!r}]."
        if entry.is_symlink():
            raise ValueError(f"{entry.path} must be a file or a folder, got a link, which could lead anywhere. Copy what it leads to here.")
        if not (entry.is_file() or entry.is_dir()):
            raise ValueError(f"{entry.path} must be a file or a folder, got neither, such as a pipe. {remedy}")
        if not entry.name.isascii():
            try:
                entry.name.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{entry.path!r} must have a name in UTF-8, got {os.fsencode(entry.name)!r}. Rename it.") from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_folder(name: str) -> bool:
    return name.endswith(os.sep)


def _left_out(name: str, ignore: Sequence[str]) -> bool:
    return name.startswith(".") or name in _LITTER or any(fnmatchcase(name, pattern) for pattern in ignore)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _unexpected(path: str, root: str, kind: ClientFiles, ignore: Sequence[str]) -> ValueError:
    got = "a folder" if os.path.isdir(path) else f"a file {_suffix(path) or 'without suffix'}"
    found = summary(found_suffixes(root, client_names(root, ignore), ignore))
    return ValueError(
        f"{path} must be what a folder of clients has, {kind.layout}, got {got}; there are {found} in {root}. Move it elsewhere, leave it "
        f"out with ignore=[{os.path.basename(path)!r}], or say with `kind=` what the clients' files are."
    )
