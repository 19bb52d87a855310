"""Files fetched once: checked by SHA-256, kept in a cache, continued where a broken transfer left off.

Until it is whole and checked, NAME is called NAME.part, with NAME.part.json saying what it is a part of, so that a later
call asks for the rest only (RFC 9110, sections 13.1.5 and 14.2). A file without a known checksum is trusted on first use:
NAME.sha256 keeps the checksum that it had then, and the file is held to it ever after.
Free to change: the block size, the timeout. With care: that nothing gets its name unchecked.
"""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..._files import write_text
from .._cache_folder import cache_folder, check_digest, sha256_of
from ._lock import alone
from ._progress import Progress, terminal_bar

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


def fetch(
    url: str,
    *,
    sha256: str | None,
    size: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    filename: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The file behind a URL, downloaded only if the cache does not hold it with this checksum.

    A call that breaks off (connection, disk, Ctrl-C, kill) leaves what it got, and the next one goes on from there, or
    starts anew where the server cannot, or where its file has changed meanwhile. Of several processes that want the same
    file, one fetches it and the others wait.

    Args:
        url: An http or https address; it may redirect to another such address only, and not from https to http.
        sha256: The checksum that the file must have, in hexadecimal. `None` where none is published: then the one found at
            the first download is kept in `NAME.sha256`, and must be found ever after.
        size: Its number of bytes where known; no more than that is read.
        cache_dir: Where to keep it; `None` is the folder that `cache_folder` names.
        filename: Its name there; `None` is the last part of the URL.
        progress: Told of every block; `None` shows a bar on stderr if that is a terminal.

    Returns:
        The path of the checked file.

    Raises:
        ValueError: An argument is malformed, or what came has another size or checksum.
        ConnectionError: The file is not in the cache and cannot be downloaded, or not to its end.
        OSError: It cannot be written, for example because the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url must start with http:// or https://, got {url!r}. Pass a local file by its path instead.")
    target = _target(url, cache_dir, filename)
    wanted = _Wanted(url, target, size, _expected(target, sha256))
    if _is_there(wanted):
        return target
    with alone(target.with_name(f"{target.name}.lock")):
        if not _is_there(wanted):  # unless the process that was waited for has fetched it
            with terminal_bar(target.name) if progress is None else nullcontext(progress) as show:
                part = _receive(wanted, show)
            _check(wanted, part)
            os.replace(part, target)
            _meta_path(part).unlink(missing_ok=True)
    return target


def known_sha256(url: str, sha256: str | None, *, cache_dir: str | os.PathLike[str] | None = None) -> str | None:
    """The checksum that `fetch` would hold this file to: the one given, else that of the first download, if there was one.

    Raises:
        ValueError: As `fetch` does, for a malformed argument or record.
    """
    return _expected(_target(url, cache_dir, None), sha256)


def _target(url: str, cache_dir: str | os.PathLike[str] | None, filename: str | None) -> Path:
    return cache_folder(cache_dir) / _plain_name(filename or unquote(PurePosixPath(urlsplit(url).path).name))


@dataclass(frozen=True)
class _Wanted:
    url: str
    target: Path
    size: int | None
    sha256: str | None

    @property
    def by_hand(self) -> str:
        return f"Or download it by other means and pass its path, or put it at {self.target}."


@dataclass(frozen=True)
class _Meta:
    """What the bytes of a part belong to."""

    url: str
    sha256: str | None
    total: int | None  # bytes of the whole file, as the server said
    validator: str | None  # its strong ETag or else its date: goes into If-Range


def _receive(wanted: _Wanted, progress: Progress, *, anew: bool = False) -> Path:
    """The part with all bytes in it, still unchecked."""
    part = wanted.target.with_name(f"{wanted.target.name}.part")
    meta = None if anew else _left_over(part, wanted)
    start = part.stat().st_size if meta else 0
    total = (wanted.size if meta.total is None else meta.total) if meta else None
    if start and start == total:
        return part
    try:
        response = _open(wanted.url, start, meta.validator if meta else None)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
            if error.code == 416 and start:
                return _receive(wanted, progress, anew=True)
        raise ConnectionError(f"Could not download {wanted.url}: {error}. {wanted.by_hand}") from error
    with response:
        first, total = _extent(response)
        if first != 0 and first != start:
            if not start:
                raise ConnectionError(
                    f"Could not download {wanted.url}: its server sends another part than the beginning. {wanted.by_hand}"
                )
            return _receive(wanted, progress, anew=True)
        if wanted.size is not None and total is not None and total != wanted.size:
            _remove(part)
            raise ValueError(f"{wanted.url} must be {wanted.size} bytes long, but its server has {total}. {wanted.by_hand}")
        if wanted.size is total is wanted.sha256 is None and not response.chunked:
            raise ValueError(f"{wanted.url} comes without its length: a whole file could not be told from half of it. {wanted.by_hand}")
        _prepare(part, first, _Meta(wanted.url, wanted.sha256, total, _validator(response)))
        _copy(response, part, wanted, total, progress)
    return part


def _copy(response: HTTPResponse, part: Path, wanted: _Wanted, total: int | None, progress: Progress) -> None:
    whole = wanted.size if total is None else total
    with part.open("ab", buffering=0) as file:  # unbuffered: what an error leaves is a beginning of the file, without a gap
        received = file.tell()
        progress(received, whole)
        try:
            while block := _read(response):
                if whole is not None and received + len(block) > whole:
                    raise ValueError(f"{wanted.url} must be {whole} bytes long, got more. {wanted.by_hand}")
                _write(file, block)
                received += len(block)
                progress(received, whole)
            if whole is not None and received < whole:
                raise _BrokenOff("the connection was closed")
        except _BrokenOff as error:
            raise ConnectionError(
                f"The download of {wanted.url} broke off after {received} bytes{'' if whole is None else f' of {whole}'}: {error}. "
                f"Try again: it goes on from there. {wanted.by_hand}"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            missing = "" if whole is None else f" {whole - received} bytes are missing."
            raise OSError(
                error.errno, f"The disk is full: {part} has no room to grow.{missing} Free some space and try again: it goes on from there"
            ) from error
        except ValueError:
            _remove(part)
            raise


class _BrokenOff(Exception):
    """The other side, or the way to it, failed: no fault of the file here."""


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)  # what is there: a longer read would lose it when the connection is reset
    except (OSError, HTTPException) as error:
        raise _BrokenOff(f"{error or type(error).__name__}") from error


def _write(file: IO[bytes], block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _check(wanted: _Wanted, part: Path) -> None:
    digest = sha256_of(part)
    if wanted.sha256 is None:
        _record(wanted.target, digest)
    elif digest != wanted.sha256:
        received = part.stat().st_size
        _remove(part)
        record = _record_path(wanted.target)
        trusted = f" (see {record}; delete that to trust the new one)" if record.is_file() else ""
        raise ValueError(
            f"{wanted.url} must have SHA-256 {wanted.sha256}, got {digest} ({received} bytes, which were deleted). "
            f"The transfer broke: try again. Or the file is no longer the one it was{trusted}. {wanted.by_hand}"
        )


def _expected(target: Path, sha256: str | None) -> str | None:
    if sha256 is not None:
        check_digest(sha256)
        return sha256.lower()
    record = _record_path(target)
    if not record.is_file():
        return None
    found = re.match("[0-9a-f]{64}(?= )", record.read_text("utf-8", errors="replace"))
    if not found:
        raise ValueError(f"{record} must hold a SHA-256 and a file name, got other text. Delete it to trust {target.name} anew.")
    return found[0]


def _is_there(wanted: _Wanted) -> bool:
    if not wanted.target.is_file():
        return False
    expected = wanted.sha256 or _expected(wanted.target, None)  # which another process may have recorded by now
    if expected is None and wanted.size not in (None, wanted.target.stat().st_size):
        return False
    digest = sha256_of(wanted.target)
    if expected is None:  # put there by hand
        _record(wanted.target, digest)
    return expected in (None, digest)


def _left_over(part: Path, wanted: _Wanted) -> _Meta | None:
    """What an earlier call left, if the rest can be asked for and the whole can be trusted."""
    try:
        meta = _Meta(**json.loads(_meta_path(part).read_text("utf-8")))
        too_long = meta.total is not None and part.stat().st_size > meta.total
    except (OSError, ValueError, TypeError):
        return None
    fits = not too_long and (meta.url, meta.sha256) == (wanted.url, wanted.sha256)
    return meta if fits and (meta.validator or meta.sha256) else None


def _prepare(part: Path, start: int, meta: _Meta) -> None:
    # In this order: a part must never lie beside the description of another.
    if not start:
        part.write_bytes(b"")
    write_text(_meta_path(part), json.dumps(asdict(meta)))


def _open(url: str, start: int, validator: str | None) -> HTTPResponse:
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator  # the server sends the whole file if it is another one by now
    return build_opener(_HttpOnly).open(Request(url, headers=headers), timeout=_TIMEOUT)


class _HttpOnly(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https") > (new == "https"):
            fp.close()
            raise URLError(f"it redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """Where in the file the body starts (-1: nowhere known), and how long the file is."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", "").strip())
        return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else (-1, None)
    return 0, response.length


def _validator(response: HTTPResponse) -> str | None:
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")  # If-Range takes no weak tag


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _meta_path(part).unlink(missing_ok=True)


def _meta_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _record(target: Path, digest: str) -> None:
    write_text(_record_path(target), f"{digest}  {target.name}\n")  # as sha256sum writes and checks it


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or re.search(r'[\\/:*?"<>|\x00-\x1f]', name):
        raise ValueError(f"filename must be a plain file name, got {name!r}. Pass `filename=`, without any folder.")
    return name
