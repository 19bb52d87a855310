"""LEAF's json: {"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y": [...]}}}, in one file or many.

Caldas et al. 2018, arXiv:1812.01097; the layout is described in its repository, TalwalkarLab/leaf, in data/sent140/README.md.
Opening parses every file once, a client at a time, and notes where each client lies; a look-up parses that client alone.
Free to change: the bound. With care: the dtype of a column, which all clients decide together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .._federated import Examples, FederatedDataset
from ._leaf_columns import Content, column, content, merged
from ._leaf_json import LeafFile, parse, walk
from ._refusal import refusal

_MAX_FILE_BYTES = 1 << 32


class _File(NamedTuple):
    path: Path
    stamp: tuple[int, int]  # size and time of change when it was opened

    @classmethod
    def at(cls, path: Path) -> _File:
        stat = path.stat()
        return cls(path, (stat.st_size, stat.st_mtime_ns))


class _Place(NamedTuple):
    file: int
    start: int
    stop: int


def from_leaf(path: str | os.PathLike[str], *, split: str | None = None, name: str | None = None) -> FederatedDataset:
    """A data set in LEAF's json; clients sorted by id, examples in the order of the file.

    The columns are those of the file, mostly `x` and `y`. Text is `str`, in object arrays; numbers are int64 where all of the column's are
    whole in all clients, else float64; lists that are equally long in all clients become further dimensions, and other lists 1-d arrays
    in an object array.

    Args:
        path: A file; a folder with `.json` files, whose clients are put together; or a folder with such folders, `train` and `test`.
        split: Which of those; None where there is one only, or none.
        name: What error messages call the data set; None takes the names of the path and the split.

    Raises:
        FileNotFoundError: There is nothing at `path`, or no `.json` file in it.
        ValueError: A file is not what it should be, a user is in two of them, or there is no such split; the message names file, client
            and column. On reading a client: its file has changed since.
    """
    place = Path(path).expanduser()
    sizes: dict[str, int] = {}
    places: dict[str, _Place] = {}
    contents: dict[str, Content] = {}
    files: list[_File] = []
    for file in _files(place, split):
        files.append(_File.at(file))
        seen = _Clients(contents)
        try:
            found = walk(_read_all(files[-1]), seen.add)
            found_sizes = _checked_sizes(found, seen.lengths)
        except ValueError as error:
            raise _refused(file, str(error)) from error
        if twice := next((client for client in found.places if client in places), None):
            raise ValueError(
                f"User {twice!r} must be in one file, but is in {files[places[twice].file].path} and in {file}. Are these splits of the "
                "same data? Then put them into folders and pass `split=`."
            )
        places |= {client: _Place(len(files) - 1, *span) for client, span in found.places.items()}
        sizes |= found_sizes
        contents = seen.contents
    if not sizes:
        raise _refused(place, "no user")
    read = partial(_read_client, files, places, contents)
    return FederatedDataset(dict(sorted(sizes.items())), read, name=name or place.stem + (f" {split}" if split else ""))


class _Clients:
    """Gathers how many examples clients have, and what is in the columns of all of them."""

    def __init__(self, contents: dict[str, Content]):
        self.contents = contents
        self.lengths: dict[str, int] = {}

    def add(self, client: str, columns: Any) -> None:
        """Takes a client in."""
        _check_id(client)
        if not isinstance(columns, dict) or not columns or not all(isinstance(values, list) for values in columns.values()):
            raise ValueError("something else than an object of lists, such as {'x': [...], 'y': [...]}")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length, {lengths}")
        if self.contents and columns.keys() != self.contents.keys():
            raise ValueError(f"the columns {sorted(columns)} where clients before it have {sorted(self.contents)}")
        found = {}
        for name, values in columns.items():
            try:
                found[name] = merged(self.contents.get(name, Content()), content(values))
            except ValueError as error:
                raise ValueError(f"{error}, in column {name!r}") from error
        self.contents = found
        self.lengths[client] = next(iter(lengths.values()))


def _check_id(client: str) -> None:
    try:
        client.encode()
    except UnicodeEncodeError:
        raise ValueError("an id that is no text in Unicode: it has half of a surrogate pair") from None


def _checked_sizes(found: LeafFile, lengths: dict[str, int]) -> dict[str, int]:
    """The sizes that the file states, known to be those that its data has."""
    users, counts = found.others.get("users"), found.others.get("num_samples")
    if not isinstance(users, list) or not isinstance(counts, list) or len(users) != len(counts):
        raise ValueError("no lists 'users' and 'num_samples' of the same length")
    stated: dict[str, int] = {}
    for user, count in zip(users, counts, strict=True):
        if not isinstance(user, str) or user not in lengths:
            raise ValueError(f"the user {user!r} in 'users' but not in 'user_data'")
        if user in stated:
            raise ValueError(f"the user {user!r} twice in 'users'")
        if type(count) is not int or count != lengths[user]:
            raise ValueError(f"{count!r} in 'num_samples' where the user {user!r} has {lengths[user]} examples")
        stated[user] = count
    if extra := next((user for user in lengths if user not in stated), None):
        raise ValueError(f"the user {extra!r} in 'user_data' but not in 'users'")
    return stated


def _files(place: Path, split: str | None) -> list[Path]:
    if place.is_file():
        if split is not None:
            raise ValueError(f"split must be None for a single file, got {split!r}. Pass the folder with the splits, or leave it out.")
        return [place]
    if not place.is_dir():
        raise FileNotFoundError(f"path must be a .json file or a folder of them, got nothing at {place}. Give the right path.")
    own = sorted(place.glob("*.json"))
    splits = {folder.name: files for folder in sorted(place.iterdir()) if folder.is_dir() and (files := sorted(folder.glob("*.json")))}
    if split is None and own:
        return own
    if not own and not splits:
        raise FileNotFoundError(f"path must be a .json file or a folder of them, got {place} without any. Give the right path.")
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split not in splits:
        raise ValueError(f"split must be one of the folders {sorted(splits)} in {place}, got {split!r}. Pass one of these.")
    return splits[split]


def _read_all(file: _File) -> bytes:
    if file.stamp[0] > _MAX_FILE_BYTES:
        raise ValueError(f"{file.stamp[0]} bytes, over the bound of {_MAX_FILE_BYTES}; split it into several files")
    return file.path.read_bytes()


def _read_client(files: Sequence[_File], places: dict[str, _Place], contents: dict[str, Content], client: str) -> Examples:
    place = places[client]
    file = files[place.file]
    try:
        unchanged = _File.at(file.path) == file
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise _changed(file.path)
    with file.path.open("rb") as opened:
        opened.seek(place.start)
        span = opened.read(place.stop - place.start)
    try:
        columns = parse(span)
        return {name: column(columns[name], wanted) for name, wanted in contents.items()}
    except (KeyError, TypeError, ValueError) as error:  # all of it was checked when the data set was opened
        raise _changed(file.path) from error


def _changed(path: Path) -> ValueError:
    return ValueError(f"{path} must stay as it was when it was opened, but has changed since. Open the data set again.")


def _refused(path: Path, got: str) -> ValueError:
    return refusal(path, "LEAF's json with users, num_samples and user_data")(got)
