"""Federated EMNIST: a client is a writer, an example is a character in their hand.

Made by LEAF (arXiv:1812.01097) from EMNIST (Cohen et al. 2017, arXiv:1702.05373), which comes from NIST Special Database 19.
"""

from __future__ import annotations

import os
from functools import partial

from .._federated import FederatedDataset
from ._info import DatasetInfo, Split
from ._official import Layout, read_official

_FEATURES = {"label": ("int32", ()), "pixels": ("float32", (28, 28))}
_DIGITS = {
    "train": Layout("digits_only_train", "fed_emnist_digitsonly_train.h5"),
    "test": Layout("digits_only_test", "fed_emnist_digitsonly_test.h5"),
}
_ALL = {"train": Layout("all_train", "fed_emnist_train.h5"), "test": Layout("all_test", "fed_emnist_test.h5")}


def emnist(
    only_digits: bool = True,
    *,
    path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Train and test data of `tff.simulation.datasets.emnist`, in TFF's split: the same clients in both, sorted by id.

    Every client has the columns `label`, int32 of shape (n,), and `pixels`, float32 of shape (n, 28, 28) in [0, 1], where 1
    is the background: the other way round than MNIST has it, and neither centred nor scaled as there. Labels 0 to 9 are
    digits, 10 to 35 the letters from A to Z and 36 to 61 those from a to z.

    Args:
        only_digits: 3,383 writers and 10 classes; else 3,400 writers and 62 classes.
        path: `emnist_all.sqlite`, the same with `.lzma`, or a folder with TFF's older HDF5 files (`fed_emnist_train.h5` and
            `_test.h5`, for digits `fed_emnist_digitsonly_train.h5` and `_test.h5`). `None` downloads TFF's file (about 170 MB) once
            and unpacks it (4.7 GB).
        cache_dir: Where both are kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: A file is not what it should be.
        FileNotFoundError: `path`, or a file in it, does not exist.
        ConnectionError: The download fails, or breaks off; the next call goes on from there.

    Example:
        >>> train, test = emnist()  # doctest: +SKIP
        >>> train["f0000_14"]["pixels"].shape[1:]  # doctest: +SKIP
        (28, 28)
    """
    info, layouts = (DIGITS, _DIGITS) if only_digits else (ALL, _ALL)
    train, test = read_official(info, layouts, _FEATURES, path, cache_dir, max_bytes=8 << 30)
    return train, test


def _info(name: str, *, only_digits: bool, summary: str, classes: int, splits: dict[str, Split]) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        summary=summary,
        columns={"pixels": "float32 (28, 28), from 0 (ink) to 1 (background)", "label": f"int32, 0 to {classes - 1}"},
        splits=splits,
        url="https://storage.googleapis.com/tff-datasets-public/emnist_all.sqlite.lzma",
        size=None,
        sha256=None,
        licence="none stated by TFF; from NIST Special Database 19",
        citation="Caldas et al. 2018, arXiv:1812.01097; Cohen et al. 2017, arXiv:1702.05373",
        load=partial(emnist, only_digits),
    )


DIGITS = _info(
    "emnist",
    only_digits=True,
    summary="Handwritten digits; a client is a writer.",
    classes=10,
    splits={"train": Split(3383, 341_873), "test": Split(3383, 40_832)},
)
ALL = _info(
    "emnist_all",
    only_digits=False,
    summary="Handwritten digits and letters; a client is a writer.",
    classes=62,
    splits={"train": Split(3400, 671_585), "test": Split(3400, 77_483)},
)
