"""One process at a time, also where the others die."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process or thread is in such a block for this lock file, and keeps them out of this one."""
    if sys.platform == "win32":
        yield  # without locks: two at once share their luck, and the checksum tells
        return
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # the system gives it back when the process ends, however it ends
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if _is_at(file, path):
                try:
                    yield
                    return
                finally:
                    path.unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone, and makes another


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
