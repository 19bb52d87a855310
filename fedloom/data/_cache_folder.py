"""The folder where files are kept, and their checksums.

Free to change: nothing much. With care: where the cache lies, and that nothing gets its name unfinished.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .._files import replacing, user_cache


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The cache: `cache_dir`, else `user_cache()`. It is made."""
    folder = Path(cache_dir).expanduser() if cache_dir else user_cache()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256_of(path: str | os.PathLike[str]) -> str:
    """A file's checksum, in lower-case hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_sha256(path: str | os.PathLike[str], expected: str) -> None:
    """Check a file's checksum.

    Raises:
        ValueError: The file has another checksum; the message says both.
    """
    check_digest(expected)
    digest = sha256_of(path)
    if digest != expected.lower():
        raise ValueError(f"{os.fspath(path)} must have SHA-256 {expected}, got {digest}. Delete the file and fetch it again.")


def check_digest(sha256: str) -> None:
    """Raises ValueError for what is no SHA-256 in hexadecimal."""
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}. `sha256sum FILE` prints them.")


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends, and is removed when the block raises."""
    with replacing(target) as unfinished, unfinished.open("xb") as file:
        yield file
