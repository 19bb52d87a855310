"""The files of a source: one, or those in a folder.

Free to change: which names are left out. With care: the order, which is the order of a client's examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa


def source_files(path: str | os.PathLike[str], endings: tuple[str, ...]) -> list[tuple[Path, tuple[str, ...]]]:
    """The file at `path`, whatever its name, or the files in the folder at `path` and below with one of these endings, sorted by path.

    Names that begin with "." or "_" are left out, as pyarrow and Spark do, who note there what is not data.

    Returns:
        Each file and the names of the folders between `path` and it.

    Raises:
        FileNotFoundError: There is nothing at `path`, or no such file in it.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [(root, ())]
    if not root.is_dir():
        raise FileNotFoundError(f"path must be a file or a folder, got {root}, where there is nothing. Give the right path.")
    found = [file.relative_to(root) for ending in endings for file in root.rglob(f"*{ending}") if file.is_file()]
    found = [file for file in found if not any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in file.parts)]
    if not found:
        raise FileNotFoundError(f"path must be a file, or a folder with files ending in {' or '.join(endings)}, got {root} without any.")
    return [(root / file, file.parts[:-1]) for file in sorted(set(found), key=Path.as_posix)]


@contextmanager
def naming_damage(file: Path, form: str) -> Iterator[None]:
    """Turns what pyarrow raises on a damaged file into a ValueError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, such as a missing permission
            raise
        raise ValueError(
            f"{file} must be {form}, got a file that cannot be read: {str(error).strip() or type(error).__name__}. Get or write it "
            "again: it may be another one, or damaged."
        ) from error


def source_name(path: str | os.PathLike[str]) -> str:
    """A file's or folder's name, without what says its form."""
    return Path(path).expanduser().absolute().name.partition(".")[0] or str(path)
