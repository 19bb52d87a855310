"""Federated CIFAR-100: images of 100 classes, dealt to made-up clients by Pachinko allocation.

Images: Krizhevsky 2009, Learning multiple layers of features from tiny images. Clients: Reddi et al. 2021
(arXiv:2003.00295): each draws its 20 coarse labels from a Dirichlet distribution of concentration 0.1, and the
labels within each from one of concentration 10, without replacement (Li and McCallum 2006).
"""

from __future__ import annotations

import os

from .._federated import FederatedDataset
from ._info import DatasetInfo, Split
from ._official import Layout, read_official

_FEATURES = {"coarse_label": ("int64", ()), "image": ("uint8", (32, 32, 3)), "label": ("int64", ())}
_LAYOUTS = {"train": Layout("train", "fed_cifar100_train.h5"), "test": Layout("test", "fed_cifar100_test.h5")}


def cifar100(
    *, path: str | os.PathLike[str] | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[FederatedDataset, FederatedDataset]:
    """Train and test data of `tff.simulation.datasets.cifar100`: 500 and 100 clients of 100 images each, sorted by id.

    Every client has the columns `image`, uint8 of shape (n, 32, 32, 3) (red, green, blue), `label` in [0, 100) and
    `coarse_label` in [0, 20), both int64 of shape (n,). The clients of the two parts have nothing to do with one another,
    although "0" to "99" are clients of both.

    Args:
        path: `cifar100.sqlite`, the same with `.lzma`, or a folder with TFF's older HDF5 files `fed_cifar100_train.h5` and
            `fed_cifar100_test.h5`. `None` downloads TFF's file (153 MB) once and unpacks it.
        cache_dir: Where both are kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: A file is not what it should be.
        FileNotFoundError: `path`, or a file in it, does not exist.
        ConnectionError: The download fails, or breaks off; the next call goes on from there.

    Example:
        >>> train, test = cifar100()  # doctest: +SKIP
        >>> train["0"]["image"].shape  # doctest: +SKIP
        (100, 32, 32, 3)
    """
    train, test = read_official(INFO, _LAYOUTS, _FEATURES, path, cache_dir, max_bytes=4 << 30)
    return train, test


INFO = DatasetInfo(
    name="cifar100",
    summary="Small photographs of 100 classes; clients are made up, with few of 20 coarse classes each.",
    columns={"image": "uint8 (32, 32, 3)", "label": "int64, 0 to 99", "coarse_label": "int64, 0 to 19"},
    splits={"train": Split(500, 50_000), "test": Split(100, 10_000)},
    url="https://storage.googleapis.com/tff-datasets-public/cifar100.sqlite.lzma",
    size=153_019_920,
    sha256="23d3916c9caa33395737ee560cc7cb77bbd05fc7b73647ee7be3a7e764172939",
    checksum_source="FedJAX, fedjax/datasets/cifar100.py",
    licence="none stated",
    citation="Krizhevsky 2009, Learning multiple layers of features from tiny images; Reddi et al. 2021, arXiv:2003.00295",
    load=cifar100,
)
