"""Files that are whole at any moment, and where those are kept that could be made again.

Of the standard library only, so that every layer may import it.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def user_cache() -> Path:
    """Where caches lie: `$FEDLOOM_CACHE`, else `fedloom` in `$XDG_CACHE_HOME` or `~/.cache`. It need not be there."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path("~/.cache")  # its specification says to ignore a relative path
    return Path(os.environ.get("FEDLOOM_CACHE") or base / "fedloom").expanduser()


@contextmanager
def explaining_full_disk(target: Path) -> Iterator[None]:
    """Says what could not be written where the disk is full; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"The disk is full: {target} could not be written. Free some space, or choose another place"
            ) from error
        raise


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target`, with its suffix: what is written there gets the target's name in the end, or is removed on an error."""
    # A name of its own for every writer: two processes may write the same file at once.
    unfinished = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        with explaining_full_disk(target):
            yield unfinished
            os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Makes what was written to a file, or renamed in a folder, outlast a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(descriptor)


def write_text(target: Path, text: str) -> None:
    """Writes a text file, in UTF-8, so that readers, and a crash, meet either the old content or the new."""
    with replacing(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
