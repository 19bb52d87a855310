"""Files fetched once: checked by SHA-256, kept in a cache, never half-written.

Free to change: the block size, the timeout. With care: where the cache lies, and that nothing gets its name unchecked.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from ..._files import replacing

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


def fetch(
    url: str,
    *,
    sha256: str,
    size: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    filename: str | None = None,
) -> Path:
    """The file behind a URL, downloaded only if the cache does not hold it with this checksum.

    Args:
        url: An http or https address.
        sha256: The checksum that the file must have, in hexadecimal.
        size: Its number of bytes where known; no more than that is read.
        cache_dir: Where to keep it; `None` is the folder that `cache_folder` names.
        filename: Its name there; `None` is the last part of the URL.

    Returns:
        The path of the checked file.

    Raises:
        ValueError: An argument is malformed, or what came has another size or checksum.
        ConnectionError: The file is not in the cache and cannot be downloaded.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url must start with http:// or https://, got {url!r}. Pass a local file by its path instead.")
    _check_digest(sha256)
    target = cache_folder(cache_dir) / _plain_name(filename or unquote(PurePosixPath(urlsplit(url).path).name))
    if target.is_file() and sha256_of(target) == sha256.lower():
        return target
    by_hand = f"Download it by other means and pass its path, or put it at {target}."
    with atomic_write(target) as file:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                digest, received = _copy(response, file, limit=size)
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError):
                error.close()  # it holds the connection
            raise ConnectionError(f"Could not download {url}: {error}. {by_hand}") from error
        if size is not None and received != size:
            got = f"{received} bytes" if received < size else "more"
            raise ValueError(f"{url} must be {size} bytes long, got {got}. Try again: transfers do break. {by_hand}")
        if digest != sha256.lower():
            raise ValueError(
                f"{url} must have SHA-256 {sha256}, got {digest} ({received} bytes). "
                f"The transfer broke, or the file is no longer the published one. {by_hand}"
            )
    return target


def verify_sha256(path: str | os.PathLike[str], expected: str) -> None:
    """Check a file's checksum.

    Raises:
        ValueError: The file has another checksum; the message says both.
    """
    _check_digest(expected)
    digest = sha256_of(path)
    if digest != expected.lower():
        raise ValueError(f"{os.fspath(path)} must have SHA-256 {expected}, got {digest}. Delete the file and fetch it again.")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """A file's checksum, in lower-case hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The cache: `cache_dir`, else `$FEDLOOM_CACHE`, else `fedloom` in `$XDG_CACHE_HOME` or `~/.cache`. It is made."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path("~/.cache")  # its specification says to ignore a relative path
    folder = Path(cache_dir or os.environ.get("FEDLOOM_CACHE") or base / "fedloom").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends, and is removed when the block raises."""
    with replacing(target) as unfinished, unfinished.open("xb") as file:
        yield file


def _copy(source: BinaryIO, target: BinaryIO, *, limit: int | None) -> tuple[str, int]:
    digest, received = hashlib.sha256(), 0
    # One byte past the limit is enough to know that there is too much.
    while block := source.read(_BLOCK if limit is None else min(_BLOCK, limit + 1 - received)):
        target.write(block)
        digest.update(block)
        received += len(block)
    return digest.hexdigest(), received


def _check_digest(sha256: str) -> None:
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}. `sha256sum FILE` prints them.")


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or re.search(r'[\\/:*?"<>|\x00-\x1f]', name):
        raise ValueError(f"filename must be a plain file name, got {name!r}. Pass `filename=`, without any folder.")
    return name
