"""TFF's official files: downloaded once, or read from a path where there is no network.

TFF has published every data set twice: until 2021 as HDF5 files, a file per split; since then as one SQLite database under
LZMA, which is what is downloaded here (tensorflow_federated/python/simulation/datasets in its source).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .._cache_folder import cache_folder
from .._federated import FederatedDataset
from ..sources._features import Features
from ..sources._lzma import decompress
from ..sources._tff_hdf5 import from_tff_hdf5
from ..sources._tff_sqlite import from_tff_sqlite
from ._download import fetch, known_sha256
from ._info import DatasetInfo


class Layout(NamedTuple):
    """Where a split lies in TFF's files."""

    sqlite: str  # its split_name in the database
    hdf5: str  # its file


def read_official(
    info: DatasetInfo,
    layouts: Mapping[str, Layout],
    features: Features,
    path: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    *,
    max_bytes: int,
) -> tuple[FederatedDataset, ...]:
    """The splits of a data set in the order of `info.splits`; clients sorted by id, examples in the order of the file.

    Args:
        info: What is read.
        layouts: Where each split lies.
        features: What each column holds.
        path: A folder with the HDF5 files, or a `.sqlite` or `.sqlite.lzma` file; `None` downloads the latter once.
        cache_dir: The cache folder, as `fetch` takes it; what is decompressed lies there too.
        max_bytes: That a database may have when decompressed.

    Raises:
        FileNotFoundError: `path`, or a file in it, does not exist.
        ValueError: A file is not what it should be; the message names it.
        ConnectionError: There is no `path` and the download fails.
    """
    file = _downloaded(info, cache_dir) if path is None else Path(path).expanduser()
    names = {split: f"{info.name} {split}" for split in info.splits}
    if file.is_dir():
        return tuple(from_tff_hdf5(file / layouts[split].hdf5, features=features, name=names[split]) for split in info.splits)
    if not file.is_file():
        files = ", ".join(layout.hdf5 for layout in layouts.values())
        raise FileNotFoundError(
            f"path must be a folder with {files}, or a .sqlite or .sqlite.lzma file; there is nothing at {file}. "
            "Give the right path, or none to download it."
        )
    if file.suffix == ".lzma":
        file = decompress(file, cache_dir=cache_dir, max_bytes=max_bytes)
    return tuple(from_tff_sqlite(file, layouts[split].sqlite, features=features, name=names[split]) for split in info.splits)


def _downloaded(info: DatasetInfo, cache_dir: str | os.PathLike[str] | None) -> Path:
    """The database if it has been unpacked before, for then the archive need not be there any more; else the archive."""
    digest = known_sha256(info.url, info.sha256, cache_dir=cache_dir)
    unpacked = cache_folder(cache_dir) / f"{digest}.sqlite"  # where `decompress` puts it
    return unpacked if unpacked.is_file() else fetch(info.url, sha256=info.sha256, size=info.size, cache_dir=cache_dir)
