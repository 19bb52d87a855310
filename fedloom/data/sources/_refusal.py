"""What readers say of a file that is missing, or is not what it should be. Standard library only.

Free to change: the wording. With care: that every message names the file and ends with what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Refusal = Callable[[str], ValueError]
"""From what was found to the error that says so."""

AGAIN = "Get the file again: it may be another, or damaged."


def refused(file: str | os.PathLike[str], expected: str, got: str, remedy: str = AGAIN) -> ValueError:
    """The error about a file that is not what it should be."""
    return ValueError(f"{os.fspath(file)} must be {expected}, got {got}. {remedy}")


def refusal(file: str | os.PathLike[str], expected: str) -> Refusal:
    """The errors about one file, which must be what `expected` says."""
    return lambda got: refused(file, expected, got)


def existing_file(path: str | os.PathLike[str], expected: str) -> Path:
    """The path of a file that is there.

    Raises:
        FileNotFoundError: It is not, or is a folder.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        got = "a folder" if file.is_dir() else "nothing"
        raise FileNotFoundError(f"path must be {expected}, got {got} at {file}. Give the path of the file.")
    return file
