"""What JAX has compiled is kept on disk, so that a program that was run before compiles nothing again.

JAX does the work. Here it is told where, unless the user has told it already, and the folder is kept small and sound.
Of the standard library only, and quick: it runs on `import fedloom`, since what Keras and JAX compile while a model is built is worth
keeping too. JAX reads its settings from the environment when it is imported; once it is there, its configuration is changed instead.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._files import user_cache

MAX_BYTES = 256 * 2**20  # in all; what one model and algorithm compile takes about half a megabyte
MIN_FREE_BYTES = 256 * 2**20  # with less on the disk, nothing more is written
_OLDEST_SOUND_JAXLIB = (0, 10, 2)  # on CPUs, older ones print errors about the machine with every program that they load
_SWEPT = "swept"  # a file as old as the last sweep


def turn_on() -> Path | None:
    """Tells JAX to keep what it compiles in `jax`, in the folder of caches, a folder in it for each kind of processor.

    Nothing happens with FEDLOOM_COMPILATION_CACHE=off in the environment, where the user has configured JAX's cache, where the folder
    cannot be made or others may write to it (what lies in it is run), or with a jaxlib that cannot be trusted with one. Where the folder
    can be read but not written, or the disk is nearly full, what is there is used and nothing is added.

    Returns:
        The folder; None if nothing happened.
    """
    if os.environ.get("FEDLOOM_COMPILATION_CACHE", "").lower() in ("off", "0", "false", "no") or _is_configured() or not _is_sound():
        return None
    try:
        base = user_cache().absolute() / "jax"
        folder = base / processor()
        for made in (base, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(made) or not os.access(made, os.R_OK | os.X_OK):
                return None
        writes = os.access(folder, os.W_OK) and _free_bytes(folder) >= MIN_FREE_BYTES
        if writes:
            sweep(base, MAX_BYTES)
    except (OSError, RuntimeError):  # there may be no home folder
        return None
    # Programs that compile in a few milliseconds are worth it too: a first round has dozens of them.
    _configure("jax_persistent_cache_min_compile_time_secs", 0.0 if writes else 1e9, default=1.0)
    _configure("jax_persistent_cache_min_entry_size_bytes", -1, default=0)
    _configure("jax_compilation_cache_dir", str(folder), default=None)
    return folder


def sweep(base: Path, max_bytes: int) -> None:
    """Removes what a full disk or a crash cut off since the last sweep, and then what was used longest ago, down to `max_bytes`.

    Other processes may use the folder meanwhile: a program that goes missing is compiled again.
    """
    stamp = base / _SWEPT
    last = stamp.stat().st_mtime if stamp.exists() else 0.0
    now = time.time()
    entries = []
    for file in base.rglob("*"):
        try:
            status = file.stat()
            if not file.is_file() or file == stamp:
                continue
            # JAX never replaces an entry, so one that cannot be read would be in the way for ever.
            if status.st_mtime >= last - 1 and file.name.endswith("-cache") and not _is_whole(file.read_bytes()):
                file.unlink()
            else:
                entries.append((max(status.st_atime, status.st_mtime), status.st_size, file))
        except OSError:  # another process has removed it
            continue
    size = sum(entry[1] for entry in entries)
    for _, freed, file in sorted(entries):
        if size <= max_bytes:
            break
        file.unlink(missing_ok=True)
        size -= freed
    stamp.touch()
    os.utime(stamp, (now, now))


def processor() -> str:
    """A short name for what the processor can do: programs compiled for one kind may crash another, and home folders are shared."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(16384).split(b"\n\n")[0]  # all are alike
        lines = [
            line for line in first.splitlines() if line.partition(b":")[0].strip() in (b"vendor_id", b"model name", b"flags", b"Features")
        ]
    except OSError:
        lines = [os.environ.get("PROCESSOR_IDENTIFIER", "").encode()]
    machine = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return f"{sys.platform}-{machine}-{zlib.crc32(b' '.join(lines)):08x}".lower()


def _is_whole(entry: bytes) -> bool:
    """Whether a program is there to its end, as far as can be told: JAX packs with zlib, or with zstandard if that is installed."""
    if not entry.startswith(b"\x78"):
        return bool(entry)
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(entry)
    except zlib.error:
        return False
    return unpacker.eof


def _is_configured() -> bool:
    """Whether the user has decided about JAX's cache."""
    jax = sys.modules.get("jax")
    if jax is not None:
        return jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache
    return "JAX_COMPILATION_CACHE_DIR" in os.environ or "JAX_ENABLE_COMPILATION_CACHE" in os.environ


def _configure(name: str, value: Any, default: Any) -> None:
    """Sets what the user has not set."""
    jax = sys.modules.get("jax")
    if jax is None:
        os.environ.setdefault(name.upper(), str(value))
    elif getattr(jax.config, name) == default and name.upper() not in os.environ:
        jax.config.update(name, value)


def _is_sound() -> bool:
    try:
        from jaxlib.version import __version__ as version  # loads nothing else of it
    except ImportError:
        return False
    numbers = [int(part) for part in version.split(".")[:3] if part.isdecimal()]
    return tuple(numbers) >= _OLDEST_SOUND_JAXLIB


def _is_private(folder: Path) -> bool:
    if not hasattr(os, "getuid"):  # Windows, where what lies in a home folder is its owner's
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _free_bytes(folder: Path) -> int:
    statvfs: Callable[..., Any] | None = getattr(os, "statvfs", None)
    if statvfs is None:
        import shutil

        return shutil.disk_usage(folder).free
    status = statvfs(folder)
    return status.f_bavail * status.f_frsize
